//! Classic BPF programs for sockets (the kernel's Documentation/networking/filter.rst):
//! their instructions, and how a socket gets one.

use std::io;
use std::os::fd::RawFd;

use crate::linux::socket::set;

/// BPF_A of linux/filter.h: return the accumulator.
const A: u32 = 0x10;
/// What a filter returns to let a packet in whole.
const WHOLE: u32 = u32::MAX;

/// One instruction.
pub(crate) type Op = libc::sock_filter;

/// An instruction that goes on to the next one. `code` is of the `BPF_` constants.
pub(crate) fn op(code: u32, k: u32) -> Op {
    jump_op(code, k, 0, 0)
}

/// Loads the 8, 16 or 32 bits (`BPF_B`, `BPF_H`, `BPF_W`) at `offset` of the packet.
pub(crate) fn load(width: u32, offset: u32) -> Op {
    op(libc::BPF_LD | width | libc::BPF_ABS, offset)
}

/// Compares the accumulator with `k` by `test` (`BPF_JEQ`, `BPF_JGT`, `BPF_JGE`), and
/// skips so many instructions `if_true` and `if_false`.
pub(crate) fn jump(test: u32, k: u32, if_true: u8, if_false: u8) -> Op {
    jump_op(libc::BPF_JMP | test | libc::BPF_K, k, if_true, if_false)
}

/// Ends a filter: the packet comes in.
pub(crate) fn accept() -> Op {
    op(libc::BPF_RET | libc::BPF_K, WHOLE)
}

/// Ends a filter: the packet is dropped.
pub(crate) fn refuse() -> Op {
    op(libc::BPF_RET | libc::BPF_K, 0)
}

/// Ends a program with what is in the accumulator.
pub(crate) fn give() -> Op {
    op(libc::BPF_RET | A, 0)
}

fn jump_op(code: u32, k: u32, jt: u8, jf: u8) -> Op {
    Op {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Attaches `program` to a socket, for the use that `option` (of SOL_SOCKET) names.
///
/// # Errors
/// EINVAL for a program that the kernel does not accept; ENOPROTOOPT for an option
/// that it does not know.
pub(crate) fn attach(fd: RawFd, option: libc::c_int, program: &[Op]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set(fd, libc::SOL_SOCKET, option, program)
}
