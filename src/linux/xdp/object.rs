//! What clang makes of a BPF program: as much of ELF (elf(5)) as one program in a
//! section `xdp` needs, which names maps that are defined nowhere in it.

use std::io;
use std::os::fd::RawFd;

/// EM_BPF.
const MACHINE_BPF: u16 = 247;
/// SHT_SYMTAB and SHT_REL.
const SYMBOLS: u32 = 2;
const RELOCATIONS: u32 = 9;
/// R_BPF_64_64: an address that a load of 64 bits, which takes two instructions, needs.
const ADDRESS: u32 = 1;
/// BPF_LD | BPF_DW | BPF_IMM.
const LOAD_64: u64 = 0x18;
/// BPF_PSEUDO_MAP_FD, in the place of the source register: the number is a map's
/// descriptor.
const IS_MAP: u64 = 1 << 12;

/// A program that is not yet joined to its maps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Of eight octets each.
    pub instructions: Vec<u64>,
    /// Which instruction loads the address of which map.
    pub maps: Vec<(usize, String)>,
    /// The terms that the program is under, as it says.
    pub license: String,
}

impl Object {
    /// Reads an object file.
    ///
    /// # Errors
    /// `InvalidData` for anything but what this file speaks of.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        read(bytes).ok_or_else(|| invalid("not a BPF object with a program in section xdp".into()))
    }

    /// The instructions with descriptors in them.
    ///
    /// # Errors
    /// `InvalidData` if there is no map of a name.
    pub fn linked(&self, find: impl Fn(&str) -> Option<RawFd>) -> io::Result<Vec<u64>> {
        let mut instructions = self.instructions.clone();
        for (at, name) in &self.maps {
            let fd = find(name).ok_or_else(|| invalid(format!("no map is called {name}")))?;
            let instruction = &mut instructions[*at];
            *instruction = *instruction & 0xffff_ffff | (fd as u64) << 32 | IS_MAP;
        }
        Ok(instructions)
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A section's header, as far as it matters here.
#[derive(Clone, Copy)]
struct Section<'a> {
    name: &'a str,
    kind: u32,
    body: &'a [u8],
    /// The section it belongs to: sh_link and sh_info.
    link: usize,
    info: usize,
}

fn read(bytes: &[u8]) -> Option<Object> {
    // 64 bits, of this machine's octet order.
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, order] || half(bytes, 18)? != MACHINE_BPF {
        return None;
    }
    let sections = sections(bytes)?;
    let at = sections.iter().position(|section| section.name == "xdp")?;
    let (instructions, rest) = sections[at].body.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let instructions: Vec<u64> = instructions
        .iter()
        .map(|eight| u64::from_ne_bytes(*eight))
        .collect();
    let mut maps = Vec::new();
    let of_the_program = |s: &&Section| s.kind == RELOCATIONS && s.info == at;
    for section in sections.iter().filter(of_the_program) {
        let symbols = sections.get(section.link).filter(|s| s.kind == SYMBOLS)?;
        let names = sections.get(symbols.link)?.body;
        for entry in section.body.chunks(16) {
            let (offset, info) = (double(entry, 0)? as usize, double(entry, 8)?);
            let symbol = symbols.body.get((info >> 32) as usize * 24..)?;
            let defined = half(symbol, 6)? != 0;
            let load = *instructions.get(offset / 8)? & 0xff == LOAD_64;
            if info as u32 != ADDRESS || defined || !load || offset % 8 != 0 {
                return None;
            }
            maps.push((offset / 8, text(names, word(symbol, 0)? as usize)?.into()));
        }
    }
    let license = sections.iter().find(|s| s.name == "license")?.body;
    Some(Object {
        instructions,
        maps,
        license: text(license, 0)?.into(),
    })
}

fn sections(bytes: &[u8]) -> Option<Vec<Section<'_>>> {
    let table = bytes.get(double(bytes, 40)? as usize..)?;
    let (len, count, names) = (half(bytes, 58)?, half(bytes, 60)?, half(bytes, 62)?);
    let header = |index: u16| table.get(usize::from(len) * usize::from(index)..);
    let body = |header: &[u8]| {
        // SHT_NOBITS (8) has a length, and nothing in the file.
        let len = if word(header, 4)? == 8 {
            0
        } else {
            double(header, 32)? as usize
        };
        bytes.get(double(header, 24)? as usize..)?.get(..len)
    };
    let names = body(header(names)?)?;
    (0..count)
        .map(|index| {
            let header = header(index)?;
            Some(Section {
                name: text(names, word(header, 0)? as usize)?,
                kind: word(header, 4)?,
                body: body(header)?,
                link: word(header, 40)? as usize,
                info: word(header, 44)? as usize,
            })
        })
        .collect()
}

/// A text that ends with a zero.
fn text(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|octet| *octet == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = include_bytes!("../../xdp/answer.bpf.o");

    #[test]
    fn our_own_object_names_its_maps_and_its_terms() {
        let object = Object::parse(ANSWER).expect("an object");
        assert_eq!(object.license, "Dual MIT/GPL");
        let mut names: Vec<&str> = object.maps.iter().map(|(_, name)| &**name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, ["acl", "counts", "own", "rates", "state"]);
        let linked = object.linked(|_| Some(77)).expect("all maps");
        for (at, _) in &object.maps {
            assert_eq!(linked[*at] >> 32, 77);
            assert_eq!(linked[*at] & 0xf0ff, LOAD_64 | IS_MAP);
        }
        let error = object.linked(|name| (name != "own").then_some(3));
        assert!(
            error
                .expect_err("one is missing")
                .to_string()
                .contains("own")
        );
    }

    #[test]
    fn a_damaged_object_is_refused_or_read_but_never_a_panic() {
        for len in 0..ANSWER.len() {
            let _ = Object::parse(&ANSWER[..len]);
        }
        for at in 0..ANSWER.len() {
            let mut bytes = ANSWER.to_vec();
            bytes[at] ^= 0xff;
            let _ = Object::parse(&bytes);
        }
        assert!(Object::parse(b"\x7fELF").is_err());
    }
}
