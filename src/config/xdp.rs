//! What `xdp` asks for: on which interfaces plain requests are answered before the network
//! stack sees them (`docs/XDP.md`).

use crate::config::stamping::Which;

/// All there is about it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct XdpConfig {
    /// In file order; each interface is named once. None: sockets answer everybody.
    pub lines: Vec<XdpLine>,
    /// What `prefixes` says; see [`room`](Self::room).
    pub prefixes: Option<u32>,
}

/// Room for an access table that a person has written.
pub const PREFIXES_DEFAULT: u32 = 4096;

/// The tables take 8 GiB then.
pub const PREFIXES_MAX: u32 = 1 << 22;

impl XdpConfig {
    /// The access table is to have room for so many rows, whatever is in it at the start: a
    /// narrow prefix may take one or a few (`xdp/tables`).
    pub fn room(&self) -> u32 {
        self.prefixes.unwrap_or(PREFIXES_DEFAULT)
    }
}

/// One `xdp` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpLine {
    /// Of a VLAN the interface that carries it is meant.
    pub interface: Which,
    /// Where the kernel runs the program.
    pub mode: Mode,
}

/// Where the kernel runs the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Mode {
    /// In the driver, before there is a socket buffer.
    #[default]
    Native,
    /// In the kernel, after it: any driver will do, and less is won.
    Generic,
}

impl Mode {
    /// Both.
    pub const EVERY: [Self; 2] = [Self::Native, Self::Generic];

    /// The word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}
