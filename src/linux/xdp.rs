//! BPF programs that see frames before the network stack does (XDP): loading one, its
//! place on an interface, and who has that place already. bpf(2), and the kernel's
//! Documentation/networking/; maps are in [`map`], the object file's form in
//! [`object`].

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::linux::netlink::{dump, to_kernel};
use crate::linux::socket::retry;
use crate::linux::xdp::call::{TestRunOrder, bpf, bpf_fd, name_of, test_run};
use crate::linux::xdp::map::Map;
use crate::linux::xdp::object::Object;

mod call;
pub mod live;
pub mod map;
pub mod object;

/// `enum bpf_cmd` of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;

/// BPF_PROG_TYPE_XDP.
const PROG_TYPE_XDP: u32 = 6;
/// BPF_XDP of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// BPF_F_XDP_HAS_FRAGS: the program is fine with seeing the first part of a large frame
/// only, so that interfaces with a large MTU take it. Since 5.18.
const HAS_FRAGS: u32 = 1 << 5;
/// XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE of linux/if_link.h.
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

/// What the verifier may say of a program that it refuses.
const LOG_LEN: usize = 1 << 20;
/// And how many of its lines are of use to anybody: the last ones.
const LOG_LINES: usize = 6;
/// Octets that BPF_PROG_TEST_RUN may give back: a page has to hold them.
const FRAME_LEN_MAX: usize = 3520;

/// A program does nothing but XDP_PASS: what a veth needs at its far end, or XDP_TX on
/// the near end has nowhere to go.
pub const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// How a program gets its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// From the driver, before anything was made of them.
    Native,
    /// From the kernel, on any interface; slower, as there is a socket buffer by then.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// What a program did with a frame: `enum xdp_action` of linux/bpf.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The program failed.
    Aborted,
    /// The frame is gone.
    Drop,
    /// The frame goes on into the stack.
    Pass,
    /// The frame, as it is now, leaves where it came from.
    Transmit,
    /// Anything else, which none of our programs says.
    Other(u32),
}

/// What came of a frame in [`Program::test_run`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// What the program said, the last time.
    pub action: Action,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Nanoseconds that one run took on average.
    pub each_ns: u32,
}

/// A program in the kernel. It is gone when this and all [`Link`]s of it are.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads the program in `object`'s section `xdp`. `maps` are those it names. Needs
    /// CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN; CAP_PERFMON too, as it computes with
    /// pointers.
    ///
    /// # Errors
    /// `PermissionDenied`; `InvalidData` for an object that is none of ours; otherwise
    /// the kernel's with what its verifier said last.
    pub fn load(name: &str, object: &[u8], maps: &[&Map]) -> io::Result<Self> {
        let object = Object::parse(object)?;
        let find = |name: &str| {
            let map = maps.iter().find(|map| map.name() == name);
            map.map(|map| map.as_raw_fd())
        };
        let instructions = object.linked(find)?;
        Self::assemble(name, &instructions, &object.license)
    }

    /// Loads instructions as they are, under the terms that `license` names.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn assemble(name: &str, instructions: &[u64], license: &str) -> io::Result<Self> {
        let license: Vec<u8> = license.bytes().chain([0]).collect();
        let mut order = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            prog_flags: HAS_FRAGS,
            prog_name: name_of(name),
            expected_attach_type: ATTACH_XDP,
            ..ProgLoad::default()
        };
        match bpf_fd(PROG_LOAD, &mut order) {
            Ok(fd) => Ok(Self(fd)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(error),
            Err(error) => {
                let mut log = vec![0_u8; LOG_LEN];
                (order.log_level, order.log_size) = (1, LOG_LEN as u32);
                order.log_buf = log.as_mut_ptr() as u64;
                match bpf_fd(PROG_LOAD, &mut order) {
                    Ok(fd) => Ok(Self(fd)),
                    Err(_) => Err(refused(&error, &log)),
                }
            }
        }
    }

    /// Puts the program on an interface, until the link is dropped or this process ends,
    /// however it ends.
    ///
    /// # Errors
    /// EBUSY: another program has the place ([`attached`] names it); EOPNOTSUPP: the
    /// driver can't, in native mode; EINVAL: not with this MTU or this set-up of the
    /// card; ENODEV.
    pub fn attach(&self, interface: u32, mode: Mode) -> io::Result<Link> {
        let mut order = LinkCreate {
            prog_fd: self.0.as_raw_fd() as u32,
            target_ifindex: interface,
            attach_type: ATTACH_XDP,
            flags: match mode {
                Mode::Native => DRV_MODE,
                Mode::Generic => SKB_MODE,
            },
        };
        bpf_fd(LINK_CREATE, &mut order).map(Link)
    }

    /// Runs the program `repeat` times on one frame, which it may change each time, and
    /// sends nothing. Needs CAP_NET_ADMIN and CAP_BPF.
    ///
    /// # Errors
    /// EINVAL for a frame that is shorter than an Ethernet header or longer than a page
    /// can hold.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> io::Result<TestRun> {
        let mut out = vec![0; FRAME_LEN_MAX];
        let mut order = TestRunOrder {
            prog_fd: self.0.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat,
            ..TestRunOrder::default()
        };
        retry(|| test_run(&mut order))?;
        out.truncate(order.data_size_out as usize);
        Ok(TestRun {
            action: match order.retval {
                0 => Action::Aborted,
                1 => Action::Drop,
                2 => Action::Pass,
                3 => Action::Transmit,
                other => Action::Other(other),
            },
            frame: out,
            each_ns: order.duration,
        })
    }

    /// The kernel's number of it.
    ///
    /// # Errors
    /// None is expected.
    pub fn id(&self) -> io::Result<u32> {
        Ok(info(&self.0)?.0)
    }
}

impl AsRawFd for Program {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A program's place on an interface. Dropping it, or the end of the process, gives the
/// place back.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A program that an interface has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The kernel's number of it, as `ip link` and bpftool show it; 0 for several at once.
    pub id: u32,
    /// What its author called it, if we may know (CAP_SYS_ADMIN).
    pub name: Option<String>,
    /// `native`, `generic`, `offloaded` or `several`.
    pub mode: &'static str,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "program {} ({name}, {})", self.id, self.mode),
            None => write!(f, "program {} ({})", self.id, self.mode),
        }
    }
}

/// Which program an interface has, if any.
///
/// # Errors
/// Those of a netlink socket. An interface that is not there has no program.
pub fn attached(interface: u32) -> io::Result<Option<Attached>> {
    let socket = to_kernel(NETLINK_ROUTE)?;
    let mut found = None;
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(&socket, links, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message
            && link.header.index == interface
        {
            found = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Xdp(xdp) => attached_by(xdp),
                    _ => None,
                });
        }
    })?;
    Ok(found.map(|(id, mode)| Attached {
        id,
        name: name_by_id(id).ok().filter(|name| !name.is_empty()),
        mode,
    }))
}

fn attached_by(xdp: &[LinkXdp]) -> Option<(u32, &'static str)> {
    let mode = xdp.iter().find_map(|word| match word {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::Driver) => Some("native"),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic"),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("offloaded"),
        LinkXdp::Attached(_) => Some("several"),
        _ => None,
    })?;
    let id = xdp.iter().find_map(|word| match word {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    Some((id.unwrap_or(0), mode))
}

fn name_by_id(id: u32) -> io::Result<String> {
    let mut order = [id, 0, 0];
    let fd = bpf_fd(PROG_GET_FD_BY_ID, &mut order)?;
    Ok(info(&fd)?.1)
}

/// Number and name of a program.
fn info(fd: &OwnedFd) -> io::Result<(u32, String)> {
    let mut info = ProgInfo::default();
    let mut order = GetInfo {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<ProgInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut order)?;
    let name = info.name.iter().take_while(|octet| **octet != 0);
    let name = name.map(|octet| char::from(*octet)).collect();
    Ok((info.id, name))
}

fn refused(error: &io::Error, log: &[u8]) -> io::Error {
    let log = String::from_utf8_lossy(log);
    let log = log.trim_end_matches('\0').trim_end();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("; ");
    io::Error::new(
        error.kind(),
        format!("the kernel refuses the program: {error}: {last}"),
    )
}

/// Part of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Part of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The first part of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lens: [u32; 2],
    texts: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interface_has_no_program() {
        assert_eq!(attached(u32::MAX).expect("an answer"), None);
    }

    #[test]
    fn of_a_refusal_the_last_lines_are_told() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let log = b"1\n2\n3\n4\n5\n6\nR1 out of bounds\nprocessed 3 insns\n\0\0\0";
        let text = refused(&error, log).to_string();
        assert!(text.ends_with("3; 4; 5; 6; R1 out of bounds; processed 3 insns"));
    }
}
