//! PTP hardware clocks by the names that operators give them: a device, a link to one
//! (`/dev/ptp_kvm`), or the interface that has it.

use std::fmt;
use std::io;
use std::path::Path;

use crate::linux::ethtool::Ethtool;
use crate::linux::phc::Phc;
use crate::linux::timex::Timex;
use crate::time::instant::WallInstant;

/// Nothing can tell a time before this one: the clock was never set. 2020-01-01.
pub const SET_FROM: WallInstant = WallInstant::from_unix_ns(1_577_836_800_000_000_000);

/// Why a clock is of no use just now. Of each the operator is told once.
#[derive(Clone, PartialEq, Debug)]
pub enum Trouble {
    /// It can't be opened.
    Closed(String),
    /// It can't be read, or set, any more.
    Gone(String),
    /// It can be read and not set.
    ReadOnly,
    /// It jumped by so many seconds.
    Jumped(f64),
    /// It runs so many times as fast as the system clock.
    Absurd(f64),
    /// It shows a time long ago.
    Unset,
}

impl Trouble {
    /// Is there nothing new in it for who was told of `earlier`? What is gone can't be
    /// opened.
    pub fn is_like(&self, earlier: &Self) -> bool {
        let follows = matches!((earlier, self), (Self::Gone(_), Self::Closed(_)));
        follows || std::mem::discriminant(self) == std::mem::discriminant(earlier)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) => write!(f, "can't be opened ({why}); trying again"),
            Self::Gone(why) => write!(f, "can't be used ({why}); trying again"),
            Self::ReadOnly => f.write_str(
                "can't be set by this user; give it write access to the device, as the udev \
                 rules of the package do",
            ),
            Self::Jumped(by) => write!(
                f,
                "jumped by {by:+.9} s against the system clock; learning it anew"
            ),
            Self::Absurd(times) => write!(
                f,
                "runs {times:.3} times as fast as the system clock; not used"
            ),
            Self::Unset => f.write_str("shows a time before 2020: nobody has set it; not used"),
        }
    }
}

/// N of the `/dev/ptpN` that `name` stands for.
///
/// # Errors
/// NotFound without such a device or interface; Unsupported if the interface has no
/// clock, or the device is none.
pub fn index_of(name: &str) -> io::Result<u32> {
    if name.starts_with('/') {
        let path = Path::new(name).canonicalize()?;
        let number = path.to_str().and_then(|path| path.strip_prefix("/dev/ptp"));
        return number
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| {
                let what = format!("{} is no PTP clock", path.display());
                io::Error::new(io::ErrorKind::Unsupported, what)
            });
    }
    let stamping = Ethtool::new()?.stamping(name)?;
    stamping.and_then(|stamping| stamping.phc).ok_or_else(|| {
        let what = format!("{name} has no PTP clock (see `ptntp nics`)");
        io::Error::new(io::ErrorKind::Unsupported, what)
    })
}

/// Opens it.
///
/// # Errors
/// As [`index_of`], and what open(2) says.
pub fn open(name: &str) -> io::Result<Phc> {
    Phc::open(index_of(name)?)
}

/// TAI − UTC as the kernel has it; none: nobody has told the kernel.
pub fn kernel_tai_offset() -> Option<i32> {
    let kernel = Timex::new().read().ok()?;
    Some(kernel.tai_offset).filter(|&offset| offset != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_clocks_say_why() {
        let missing = index_of("/dev/ptp_none").expect_err("no such device");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let other = index_of("/dev/null").expect_err("no clock");
        assert!(other.to_string().contains("no PTP clock"), "{other}");
        assert!(index_of("lo").is_err());
    }
}
