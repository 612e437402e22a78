//! `xdp/answer.bpf.c` in the kernel, and the parts of it that a daemon holds on to. They
//! can go to threads of their own: who tells the time publishes, who reads the rules
//! fills tables.

use std::io;

use crate::linux::xdp::Program;
use crate::linux::xdp::map::{Array, Counts, Map, Published};
use crate::xdp::layout::{
    CLIENTS_PER_SET, COUNTS, OBJECT, OWN_KEY_LEN, OWN_VALUE_LEN, Own, Row, Word, Words, own_value,
};

/// The program's name where the kernel tells of it.
pub const NAME: &str = "ptntp";

/// How much the maps hold. None of them grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Rows of an access table, 1 KiB each; there are two tables.
    pub rows: u32,
    /// Addresses with the interfaces and VLANs where they are ours.
    pub own: u32,
    /// For rate limits: clients, 8 octets each.
    pub clients: u32,
}

/// The program and all it knows.
#[derive(Debug)]
pub struct Answerer {
    /// To be attached to interfaces.
    pub program: Program,
    /// What we tell of us.
    pub publisher: Publisher,
    /// Who asked lately.
    pub clients: Clients,
    /// Who may ask.
    pub tables: Tables,
    /// What is ours.
    pub own: OwnMap,
    /// What became of packets.
    pub counts: Counts,
}

impl Answerer {
    /// Loads it. It answers nothing before an own address and a state are given to it.
    ///
    /// # Errors
    /// EPERM without CAP_BPF and CAP_NET_ADMIN; for tables that there is no memory for, ENOMEM,
    /// E2BIG or EINVAL; those of
    /// [`Program::load`], which kernels before 6.1 give.
    pub fn load(sizes: Sizes) -> io::Result<Self> {
        let state = Published::new("state", Words::default().len())?;
        let rows = sizes.rows.checked_mul(2);
        let rows = rows.ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
        let acl = Array::new("acl", size_of::<Row>(), rows)?;
        let own = Map::hash("own", OWN_KEY_LEN, OWN_VALUE_LEN, sizes.own)?;
        let sets = (sizes.clients as usize).div_ceil(CLIENTS_PER_SET).max(1) as u32;
        let rates = Array::new("rates", CLIENTS_PER_SET * 8, sets)?;
        let counts = Counts::new("counts", COUNTS)?;
        let maps = [state.map(), acl.map(), &own, rates.map(), counts.map()];
        Ok(Self {
            program: Program::load(NAME, OBJECT, &maps)?,
            publisher: Publisher {
                state,
                seed: getrandom::u64().map_err(io::Error::other)?,
                sets: sets.into(),
            },
            clients: Clients(rates),
            tables: Tables {
                array: acl,
                rows: sizes.rows,
            },
            own: OwnMap(own),
            counts,
        })
    }
}

/// The state entry.
#[derive(Debug)]
pub struct Publisher {
    state: Published,
    /// What chooses a client's place; other at each start.
    seed: u64,
    /// How many places there are to choose from.
    sets: u64,
}

impl Publisher {
    /// Replaces the words of [`Entry::words`](crate::xdp::state::Entry::words), at once.
    pub fn publish(&self, words: &Words) {
        let mut words = *words;
        words[Word::Seed as usize] = self.seed;
        words[Word::Sets as usize] = self.sets;
        self.state.publish(&words);
    }

    /// Nothing is answered from now on, until the next [`publish`](Self::publish).
    pub fn withdraw(&self) {
        self.state.publish(&Words::default());
    }
}

/// The clients that rate limits remember.
#[derive(Debug)]
pub struct Clients(Array);

impl Clients {
    /// Forgets them all.
    pub fn clear(&self) {
        self.0.clear();
    }
}

/// The two access tables, of which the state entry names the one in force.
#[derive(Debug)]
pub struct Tables {
    array: Array,
    rows: u32,
}

impl Tables {
    /// Rows of each.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The number for [`Entry::table`](crate::xdp::state::Entry::table) of table 0 or 1.
    pub fn first_row(&self, table: usize) -> u32 {
        assert!(table < 2);
        table as u32 * self.rows
    }

    /// Table 0 or 1, to be filled while it is not in force, nor was a second ago.
    pub fn table_mut(&mut self, table: usize) -> &mut [Row] {
        let (first, rows) = (self.first_row(table) as usize, self.rows as usize);
        let (all, _) = self.array.words_mut().as_chunks_mut();
        &mut all[first..first + rows]
    }
}

/// Addresses that are ours: what is sent to any other passes.
#[derive(Debug)]
pub struct OwnMap(Map);

impl OwnMap {
    /// Answers for this address, on frames to `mac`. Replaces another `mac` at once.
    ///
    /// # Errors
    /// E2BIG for one more than there is room for.
    pub fn insert(&self, own: &Own, mac: [u8; 6]) -> io::Result<()> {
        self.0.insert(&own.key(), &own_value(mac))
    }

    /// No longer.
    ///
    /// # Errors
    /// None is expected.
    pub fn remove(&self, own: &Own) -> io::Result<()> {
        self.0.remove(&own.key())
    }
}
