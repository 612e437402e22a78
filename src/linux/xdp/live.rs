//! A program that makes frames and sends them: BPF_PROG_TEST_RUN with live frames (the
//! kernel's Documentation/bpf/bpf_prog_run.rst). The kernel hands the program one empty
//! frame after another, from a pool of its own; what it answers with XDP_TX leaves by the
//! interface. Since Linux 5.18.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::linux::priority;
use crate::linux::signal;
use crate::linux::xdp::Program;
use crate::linux::xdp::call::{TestRunOrder, test_run};

/// BPF_F_TEST_XDP_LIVE_FRAMES.
const LIVE_FRAMES: u32 = 1 << 1;
/// Endless, as a core runs a program some ten million times a second: a run that has begun is
/// ended by a signal. (Many short runs instead would each wait for all cores, some
/// hundredths of a second, before and after.)
const ENDLESS: u32 = u32::MAX;

/// A program that sends, on one core.
#[derive(Debug)]
pub struct Sender<'p> {
    program: &'p Program,
    interface: u32,
    frame_len: usize,
    /// That runs it; 0 before and after.
    thread: AtomicI32,
}

impl<'p> Sender<'p> {
    /// By this interface, or by none if the program never says XDP_TX.
    ///
    /// # Errors
    /// None is expected.
    pub fn new(program: &'p Program, interface: Option<u32>, frame_len: usize) -> io::Result<Self> {
        signal::make_interruptible()?;
        Ok(Self {
            program,
            // Index 0 is nobody's: frames come from the loopback interface then.
            interface: interface.unwrap_or(0),
            frame_len,
            thread: AtomicI32::new(0),
        })
    }

    /// Runs the program in this thread, until [`interrupt`](Self::interrupt) ends it.
    ///
    /// # Errors
    /// EINVAL on a kernel before 5.18, and for an interface whose driver does not do XDP.
    pub fn run(&self) -> io::Result<()> {
        self.thread.store(signal::this_thread(), Ordering::SeqCst);
        let result = self.run_once();
        self.thread.store(0, Ordering::SeqCst);
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn run_once(&self) -> io::Result<()> {
        let frame = vec![0_u8; self.frame_len];
        let context = Context {
            data: 0,
            data_end: frame.len() as u32,
            data_meta: 0,
            ingress_ifindex: self.interface,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        test_run(&mut TestRunOrder {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: ENDLESS,
            ctx_size_in: size_of::<Context>() as u32,
            ctx_in: (&raw const context) as u64,
            flags: LIVE_FRAMES,
            ..TestRunOrder::default()
        })
    }

    /// Has a run go before ordinary threads, or no longer; before and after one nothing.
    ///
    /// # Errors
    /// As [`priority::realtime`].
    pub fn set_realtime(&self, is_realtime: bool) -> io::Result<()> {
        match self.thread.load(Ordering::SeqCst) {
            0 => Ok(()),
            thread => priority::set_realtime(thread, is_realtime),
        }
    }

    /// Ends a run, if the kernel has begun with it: to be called until it has ended.
    pub fn interrupt(&self) {
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            signal::interrupt(thread);
        }
    }
}

/// `struct xdp_md`: where the frame comes from.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}
