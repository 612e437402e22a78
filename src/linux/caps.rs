//! Capabilities: what we may do, and giving up what we don't need
//! (capabilities(7)).
//!
//! All of this is per thread, and new threads inherit it: call it before any
//! thread is started.

use std::fmt;
use std::io;

/// One capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Capability {
    /// Files whatever their permissions say.
    DacOverride = 1,
    /// Ports below 1024.
    NetBindService = 10,
    /// Hardware stamping set-up, XDP.
    NetAdmin = 12,
    /// AF_PACKET sockets.
    NetRaw = 13,
    /// Locking memory.
    IpcLock = 14,
    /// Real-time scheduling.
    SysNice = 23,
    /// Setting and steering the clock.
    SysTime = 25,
    /// BPF programs that compute with pointers.
    Perfmon = 38,
    /// Loading BPF programs.
    Bpf = 39,
}

impl Capability {
    /// Its name as the manual page has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysNice => "CAP_SYS_NICE",
            Self::SysTime => "CAP_SYS_TIME",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities, ones we have no name for included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities(u64);

impl Capabilities {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// These.
    pub fn of(capabilities: &[Capability]) -> Self {
        capabilities
            .iter()
            .fold(Self::NONE, |set, &capability| set.with(capability))
    }

    /// And this one.
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// Is it in the set?
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// Those in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Is the set empty?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What is left after [`keep_only`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Permitted and effective from now on.
    pub capabilities: Capabilities,
    /// The bounding set was cut too. Takes CAP_SETPCAP, which a process that has
    /// no privileges to begin with lacks, and doesn't need.
    pub bounded: bool,
}

/// The effective set of this thread.
///
/// # Errors
/// None on a kernel that has capabilities.
pub fn effective() -> io::Result<Capabilities> {
    get().map(|sets| Capabilities(join(sets.map(|set| set.effective))))
}

/// Does this thread have it? `false` where the kernel won't say.
pub fn has(capability: Capability) -> bool {
    effective().is_ok_and(|set| set.has(capability))
}

/// Gives up every capability but those in `keep`, for good: not by running another
/// program either (no_new_privs). What isn't held can't be kept, and is no error.
///
/// # Errors
/// What prctl(2) and capset(2) say; none is expected.
pub fn keep_only(keep: Capabilities) -> io::Result<Kept> {
    let bounded = bound(keep)?;
    // Unknown before Linux 4.3, which has no ambient set to clear.
    let clear_all = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    let _ = prctl(libc::PR_CAP_AMBIENT, clear_all);
    let sets = get()?;
    let permitted = Capabilities(join(sets.map(|set| set.permitted))).and(keep);
    set(permitted)?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    Ok(Kept {
        capabilities: permitted,
        bounded,
    })
}

/// Drops all but `keep` from the bounding set. False if we may not.
fn bound(keep: Capabilities) -> io::Result<bool> {
    for number in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, number) {
            Ok(0) => {}
            Ok(_) if keep.0 & 1 << number != 0 => {}
            Ok(_) => match prctl(libc::PR_CAPBSET_DROP, number) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
                other => drop(other?),
            },
            // Beyond the last one this kernel knows.
            Err(_) => break,
        }
    }
    Ok(true)
}

fn prctl(operation: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the operations used here take integers only.
    let result = unsafe { libc::prctl(operation, argument, zero, zero, zero) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`; two make a set of 64, the low half first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

// By libc's symbols (they have no declaration in the libc crate): `syscall()` is
// fatal in some clock simulators.
unsafe extern "C" {
    fn capget(header: *mut Header, data: *mut Half) -> libc::c_int;
    fn capset(header: *mut Header, data: *const Half) -> libc::c_int;
}

/// Of this thread.
const THIS_THREAD: Header = Header {
    version: VERSION_3,
    pid: 0,
};

fn get() -> io::Result<[Half; 2]> {
    let mut header = THIS_THREAD;
    let mut data = [Half::default(); 2];
    // SAFETY: version 3 writes two halves, which `data` has room for.
    if unsafe { capget(&mut header, data.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(data)
}

fn set(permitted: Capabilities) -> io::Result<()> {
    let mut header = THIS_THREAD;
    let half = |bits: u64| Half {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    let data = [half(permitted.0), half(permitted.0 >> 32)];
    // SAFETY: version 3 reads two halves.
    if unsafe { capset(&mut header, data.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn join([low, high]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, as they are per thread and don't come back.
    fn in_a_thread(test: fn()) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn only_what_is_kept_remains() {
        in_a_thread(|| {
            let before = effective().unwrap();
            let keep = Capabilities::of(&[Capability::SysNice, Capability::Bpf]);
            let kept = keep_only(keep).unwrap();
            assert_eq!(kept.capabilities, before.and(keep));
            assert_eq!(effective().unwrap(), before.and(keep));
            assert!(!has(Capability::SysTime));
            // Again, and with nothing left to lose.
            let kept = keep_only(Capabilities::NONE).unwrap();
            assert!(kept.capabilities.is_empty());
            assert!(keep_only(keep).unwrap().capabilities.is_empty());
            assert_eq!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0).unwrap(), 1);
        });
    }

    #[test]
    fn the_bounding_set_is_cut_where_we_may() {
        in_a_thread(|| {
            let cap_setpcap = 8;
            let may = effective().unwrap().0 & 1 << cap_setpcap != 0;
            let kept = keep_only(Capabilities::of(&[Capability::SysNice])).unwrap();
            if may {
                assert!(kept.bounded);
                let net_raw = Capability::NetRaw as libc::c_ulong;
                assert_eq!(prctl(libc::PR_CAPBSET_READ, net_raw).unwrap(), 0);
            }
        });
    }

    #[test]
    fn sets_are_sets() {
        let set = Capabilities::of(&[Capability::SysTime, Capability::Bpf]);
        assert!(set.has(Capability::SysTime) && set.has(Capability::Bpf));
        assert!(!set.has(Capability::NetRaw));
        assert_eq!(Capability::SysTime.to_string(), "CAP_SYS_TIME");
    }
}
