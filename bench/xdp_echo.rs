//! Puts a program on an interface that answers NTP requests as cheaply as XDP can
//! (`echo`, of `echo.bpf.c`), throws all frames away (`sink`) or lets all pass (`pass`),
//! until it is killed: what `bench/compare` measures ptntp's XDP tier against.
//!
//! A veth takes frames from another's XDP program only if it has one too, hence `pass`.

use std::io;

use ptntp::linux::netlink::interfaces;
use ptntp::linux::xdp::{Mode, PASS, Program};

/// `return XDP_DROP;`
const SINK: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: xdp-echo echo|sink|pass INTERFACE");
    let mut args = std::env::args().skip(1);
    let (what, name) = (
        args.next().ok_or_else(usage)?,
        args.next().ok_or_else(usage)?,
    );
    let program = match what.as_str() {
        "echo" => Program::load("echo", include_bytes!("echo.bpf.o"), &[])?,
        "sink" => Program::assemble("sink", &SINK, "Dual MIT/GPL")?,
        "pass" => Program::assemble("pass", &PASS, "Dual MIT/GPL")?,
        _ => return Err(usage()),
    };
    let found = interfaces()?.into_iter().find(|one| one.name == name);
    let found = found.ok_or_else(|| io::Error::other(format!("there is no interface {name}")))?;
    let _link = program.attach(found.index, Mode::Native)?;
    println!("attached");
    loop {
        std::thread::park();
    }
}
