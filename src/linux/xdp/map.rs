//! BPF maps: memory that a program in the kernel and we share. Arrays are mapped, so
//! that a change is a write; the others are changed by bpf(2).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::linux::mapping::Mapping;
use crate::linux::priority::cores_possible;
use crate::linux::shared;
use crate::linux::xdp::call::{bpf, bpf_fd, name_of};

/// `enum bpf_cmd` of linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;

/// `enum bpf_map_type`.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
const PERCPU_ARRAY: u32 = 6;

/// BPF_F_MMAPABLE: an array that can be mapped. Since 5.5.
const MMAPABLE: u32 = 1 << 10;

/// A map that is known by a name to the program that uses it.
#[derive(Debug)]
pub struct Map {
    name: &'static str,
    fd: OwnedFd,
    key_len: usize,
    value_len: usize,
}

impl Map {
    /// A hash table with room for `entries`.
    ///
    /// # Errors
    /// EPERM without CAP_BPF; ENOMEM.
    pub fn hash(
        name: &'static str,
        key_len: usize,
        value_len: usize,
        entries: u32,
    ) -> io::Result<Self> {
        Self::create(name, HASH, [key_len, value_len], entries, 0)
    }

    /// A list of one program, for another one that ends with it (bpf_tail_call).
    ///
    /// # Errors
    /// As [`hash`](Self::hash).
    pub fn of_program(name: &'static str, program: &impl AsRawFd) -> io::Result<Self> {
        let map = Self::create(name, PROG_ARRAY, [4, 4], 1, 0)?;
        map.insert(&[0; 4], &program.as_raw_fd().to_ne_bytes())?;
        Ok(map)
    }

    fn create(
        name: &'static str,
        kind: u32,
        [key_len, value_len]: [usize; 2],
        entries: u32,
        flags: u32,
    ) -> io::Result<Self> {
        let mut order = MapCreate {
            map_type: kind,
            key_size: key_len as u32,
            value_size: value_len as u32,
            max_entries: entries,
            map_flags: flags,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: name_of(name),
        };
        Ok(Self {
            name,
            fd: bpf_fd(MAP_CREATE, &mut order)?,
            key_len,
            value_len,
        })
    }

    /// What the program calls it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    /// E2BIG for a table that is full.
    ///
    /// # Panics
    /// If key or value have another length than the map's.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value_len);
        self.element(MAP_UPDATE_ELEM, key, value.as_ptr() as u64)
    }

    /// Takes an entry away; none that is not there.
    ///
    /// # Errors
    /// None is expected.
    ///
    /// # Panics
    /// If the key has another length than the map's.
    pub fn remove(&self, key: &[u8]) -> io::Result<()> {
        match self.element(MAP_DELETE_ELEM, key, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    fn element(&self, command: libc::c_int, key: &[u8], value: u64) -> io::Result<()> {
        assert_eq!(key.len(), self.key_len);
        let mut order = MapElement {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.as_ptr() as u64,
            value,
            flags: 0,
        };
        bpf(command, &mut order).map(drop)
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// An array whose memory is ours too.
#[derive(Debug)]
pub struct Array {
    map: Map,
    mapping: Mapping,
}

impl Array {
    /// `entries` values of `value_len` octets each, a multiple of eight; all zero.
    ///
    /// # Errors
    /// As [`Map::hash`].
    pub fn new(name: &'static str, value_len: usize, entries: u32) -> io::Result<Self> {
        assert_eq!(value_len % 8, 0, "or the kernel puts room between them");
        let map = Map::create(name, ARRAY, [4, value_len], entries, MMAPABLE)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = Mapping::shared(map.as_raw_fd(), value_len * entries as usize, 0, access)?;
        Ok(Self { map, mapping })
    }

    /// The map, for the program.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The memory, as numbers that we alone write: not for arrays that the program writes.
    /// One that runs meanwhile may see some of them changed and others not.
    pub fn words_mut(&mut self) -> &mut [u32] {
        let len = self.mapping.len() / size_of::<u32>();
        // SAFETY: the mapping is page-aligned, `len` words long, and always holds
        // numbers. No other reference to it exists in this process: all are borrowed
        // from `self`, this one mutably. Programs only read the arrays this is called for.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start(), len) }
    }

    /// Makes all of it zero, whoever reads or writes it meanwhile.
    pub fn clear(&self) {
        for word in self.atomics() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The memory, as numbers that the program may write too, one by one.
    pub fn atomics(&self) -> &[AtomicU64] {
        let len = self.mapping.len() / size_of::<u64>();
        // SAFETY: as above, and shared references to atomics may be many.
        unsafe { std::slice::from_raw_parts(self.mapping.start(), len) }
    }
}

/// Words that a program reads all at once or not at all: an array with one value, the
/// first word of which is a sequence number, odd while the others are changed.
#[derive(Debug)]
pub struct Published(Array);

impl Published {
    /// `count` words with the sequence; all zero.
    ///
    /// # Errors
    /// As [`Map::hash`].
    pub fn new(name: &'static str, count: usize) -> io::Result<Self> {
        Array::new(name, count * size_of::<u64>(), 1).map(Self)
    }

    /// The map, for the program.
    pub fn map(&self) -> &Map {
        &self.0.map
    }

    /// Replaces the words after the sequence by those of `new` after its first, as
    /// [`shared::publish`] does.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn publish(&self, new: &[u64]) {
        shared::publish(self.0.atomics(), &new[1..]);
    }
}

/// Words that a program counts in, for each CPU apart, so that none waits for another.
#[derive(Debug)]
pub struct Counts {
    map: Map,
    count: usize,
    cpus: usize,
}

impl Counts {
    /// `count` words in one value.
    ///
    /// # Errors
    /// As [`Map::hash`], or those of [`cores_possible`].
    pub fn new(name: &'static str, count: usize) -> io::Result<Self> {
        // Of each there is a copy.
        let cpus = cores_possible()?;
        let len = count * size_of::<u64>();
        let map = Map::create(name, PERCPU_ARRAY, [4, len], 1, 0)?;
        Ok(Self { map, count, cpus })
    }

    /// The map, for the program.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The words, each summed over all CPUs.
    ///
    /// # Errors
    /// None is expected.
    pub fn sums(&self) -> io::Result<Vec<u64>> {
        let mut values = vec![0_u64; self.count * self.cpus];
        let key = 0_u32.to_ne_bytes();
        let place = values.as_mut_ptr() as u64;
        self.map.element(MAP_LOOKUP_ELEM, &key, place)?;
        let mut sums = vec![0_u64; self.count];
        for of_one_cpu in values.chunks_exact(self.count) {
            for (sum, value) in sums.iter_mut().zip(of_one_cpu) {
                *sum = sum.wrapping_add(*value);
            }
        }
        Ok(sums)
    }
}

/// Part of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// Part of `union bpf_attr` for what is done with one element.
#[repr(C)]
struct MapElement {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}
