//! The floor plan holds: imports point down, name the file that defines a thing,
//! and make no circles; `unsafe` stays below `linux/`; every file says what it is
//! for. Reads the source as text, less comments, strings and test modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// From the ground up: each room, and the rooms directly below it. A room may
/// import whatever can be reached downwards.
const FLOOR_PLAN: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("wire", &["time"]),
    ("linux", &["time"]),
    ("hardware", &["time"]),
    ("measurement", &["wire"]),
    ("dice", &[]),
    ("load", &["measurement", "dice"]),
    ("mechanisms", &[]),
    ("system", &["measurement", "mechanisms"]),
    ("sync", &["system"]),
    ("client", &["system"]),
    ("server", &["system", "dice"]),
    ("xdp", &["server"]),
    ("config", &["server", "client", "sync"]),
    ("node", &["server", "client", "sync"]),
    ("daemon", &["node", "config", "linux", "hardware", "xdp"]),
    ("sim", &["node"]),
    ("cli", &["daemon", "sim", "load"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

fn may_import(from: &str, to: &str) -> bool {
    let Some((_, below)) = FLOOR_PLAN.iter().find(|(name, _)| *name == from) else {
        return false;
    };
    from == to || below.iter().any(|room| may_import(room, to))
}

#[test]
fn imports_point_down_and_nothing_else_is_amiss() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, "", &mut files);
    assert!(files.contains_key("lib.rs"), "no source found");
    let faults: Vec<String> = inspect(&files).iter().map(Fault::to_string).collect();
    assert!(faults.is_empty(), "in src/:\n{}", faults.join("\n"));
}

type Files = BTreeMap<String, String>;

fn collect(directory: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// Something that does not belong in `file`.
#[derive(PartialEq, Eq, Debug)]
enum Fault {
    /// An import of a room that is not below.
    Upward { file: String, path: String },
    /// A path through the crate's root, or through a file that does not define the thing.
    Detour { file: String, path: String },
    /// `pub use`: a thing has one address.
    Reexport { file: String, path: String },
    /// Files that import each other; the first is named again at the end.
    Circle { files: Vec<String> },
    /// `unsafe` outside `linux/`.
    Unsafe { file: String },
    /// No `//!` at the top.
    Silent { file: String },
    /// A room that the floor plan does not know.
    UnknownRoom { file: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upward { file, path } => {
                write!(f, "{file} imports {path}, which is not below it")
            }
            Self::Detour { file, path } => {
                write!(
                    f,
                    "{file} imports {path}, not from the file that defines it"
                )
            }
            Self::Reexport { file, path } => write!(f, "{file} reexports {path}"),
            Self::Circle { files } => write!(f, "a circle of imports: {}", files.join(" -> ")),
            Self::Unsafe { file } => write!(f, "{file} uses unsafe outside linux/"),
            Self::Silent { file } => write!(f, "{file} does not open with //! lines"),
            Self::UnknownRoom { file } => write!(f, "{file} is in no room of the floor plan"),
        }
    }
}

/// All faults of a source tree, by path below `src/`.
fn inspect(files: &Files) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, text) in files {
        let file = name.clone();
        if !text.starts_with("//!") {
            faults.push(Fault::Silent { file: file.clone() });
        }
        if !FLOOR_PLAN.iter().any(|(known, _)| *known == room(name)) {
            faults.push(Fault::UnknownRoom { file });
            continue;
        }
        let code = code_of(text);
        let words = words(&code);
        if words.contains(&"unsafe") && room(name) != "linux" {
            faults.push(Fault::Unsafe { file: file.clone() });
        }
        for import in imports(name, &without_tests(&words)) {
            let (file, path) = (file.clone(), import.path.join("::"));
            let Some(target) = definition(files, &import.path) else {
                faults.push(Fault::Detour { file, path });
                continue;
            };
            if import.public {
                faults.push(Fault::Reexport { file, path });
            } else if !may_import(room(name), room(target)) {
                faults.push(Fault::Upward { file, path });
            }
            if target != name {
                edges.entry(name).or_default().insert(target);
            }
        }
    }
    faults.extend(circle(&edges).map(|files| Fault::Circle { files }));
    faults
}

/// `sync/select.rs` is in `sync`, `system.rs` in `system`.
fn room(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The file that a path (without its `crate`) leads to: that of the longest
/// module it names. None if that file does not define the thing named next.
fn definition<'a>(files: &'a Files, path: &[String]) -> Option<&'a str> {
    for length in (1..=path.len()).rev() {
        let stem = path[..length].join("/");
        for name in [format!("{stem}.rs"), format!("{stem}/mod.rs")] {
            if let Some((name, text)) = files.get_key_value(&name) {
                let thing = path.get(length);
                return thing
                    .is_none_or(|thing| thing == "*" || defines(text, thing))
                    .then_some(name);
            }
        }
    }
    None
}

fn defines(text: &str, thing: &str) -> bool {
    const KEYWORDS: [&str; 8] = [
        "struct",
        "enum",
        "trait",
        "fn",
        "const",
        "static",
        "type",
        "macro_rules",
    ];
    let code = code_of(text);
    let words = words(&code);
    let mut pairs = words.windows(2);
    pairs.any(|pair| KEYWORDS.contains(&pair[0]) && pair[1] == thing)
}

/// One path that starts at the crate's root, without the word `crate`.
struct Import {
    path: Vec<String>,
    public: bool,
}

/// Every such path, in a `use` or in the middle of an expression.
fn imports(file: &str, words: &[&str]) -> Vec<Import> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < words.len() {
        match words[i] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let start = match words[i] {
            _ if words.get(i + 1) != Some(&"::") || i > 0 && words[i - 1] == "::" => None,
            "crate" => Some(Vec::new()),
            "ptntp" if file == "main.rs" => Some(Vec::new()),
            // Deeper they may stand in a module within the file.
            "self" if depth == 0 => Some(module(file)),
            "super" if depth == 0 => {
                let mut names = module(file);
                names.pop();
                Some(names)
            }
            _ => None,
        };
        let Some(start) = start else {
            i += 1;
            continue;
        };
        // `pub use` or `pub(crate) use`.
        let public = i > 1 && words[i - 1] == "use" && matches!(words[i - 2], "pub" | ")");
        let mut paths = Vec::new();
        i = tree(words, i + 2, start, &mut paths);
        found.extend(paths.into_iter().map(|path| Import { path, public }));
    }
    found
}

/// Reads `a::{b, c::d as e}` from `words[i]` on; says where it ends.
fn tree(words: &[&str], mut i: usize, mut path: Vec<String>, all: &mut Vec<Vec<String>>) -> usize {
    loop {
        match words.get(i) {
            Some(&"{") => {
                i += 1;
                while i < words.len() && words[i] != "}" {
                    i = if words[i] == "," {
                        i + 1
                    } else {
                        tree(words, i, path.clone(), all)
                    };
                }
                return i + 1;
            }
            Some(&"self") => {}
            Some(&"super") => {
                path.pop();
            }
            Some(word) => path.push((*word).to_owned()),
            None => {}
        }
        i += 1;
        // `name::<T>` goes on, but not as a path.
        if words.get(i) == Some(&"::") && words.get(i + 1) != Some(&"<") {
            i += 1;
            continue;
        }
        all.push(path);
        return if words.get(i) == Some(&"as") {
            i + 2
        } else {
            i
        };
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" | "main" => Vec::new(),
        _ => stem.split('/').map(str::to_owned).collect(),
    }
}

/// Drops every item under `#[cfg(test)]`: tests may look around more freely.
fn without_tests<'a>(words: &[&'a str]) -> Vec<&'a str> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while i < words.len() {
        if !words[i..].starts_with(&MARK) {
            kept.push(words[i]);
            i += 1;
            continue;
        }
        i += MARK.len();
        let mut depth = 0;
        while let Some(&word) = words.get(i) {
            i += 1;
            match word {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(word, "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// Names, `::`, and single characters.
fn words(code: &str) -> Vec<&str> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if in_name(first) {
            rest.find(|c| !in_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() {
            words.push(word);
        }
        rest = after;
    }
    words
}

/// The text with its comments, strings and characters blanked.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut last = ' ';
    while let Some(first) = rest.chars().next() {
        let blank = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_len(rest)
        } else if first == '"' {
            string_len(rest)
        } else if first == 'r' && !(last.is_alphanumeric() && last != 'b' || last == '_') {
            raw_string_len(rest)
        } else if first == '\'' {
            character_len(rest)
        } else {
            0
        };
        if blank > 0 {
            code.push(' ');
            rest = &rest[blank..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
        last = first;
    }
    code
}

fn comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            match text[at..].chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return at,
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// 0 if it is no raw string after all.
fn raw_string_len(text: &str) -> usize {
    let after = &text[1..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let body = 1 + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[body..]
        .find(&end)
        .map_or(text.len(), |at| body + at + end.len())
}

/// 0 if it is a lifetime.
fn character_len(text: &str) -> usize {
    let mut rest = text.char_indices().skip(1);
    match rest.next() {
        // The character after the backslash may be a quote itself.
        Some((_, '\\')) => rest
            .skip(1)
            .find(|(_, c)| *c == '\'')
            .map_or(0, |(at, _)| at + 1),
        _ => match rest.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
    }
}

/// One circle, if there is any.
fn circle(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Option<Vec<String>> {
    fn walk<'a>(
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        file: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|f| *f == file) {
            let ring = way[start..].iter().chain([&file]);
            return Some(ring.map(|f| (*f).to_owned()).collect());
        }
        if !done.insert(file) {
            return None;
        }
        way.push(file);
        let mut targets = edges.get(file).into_iter().flatten();
        let found = targets.find_map(|target| walk(edges, target, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges
        .keys()
        .find_map(|file| walk(edges, file, &mut Vec::new(), &mut done))
}

/// The faults of a small house with one file added or replaced.
fn with(file: &str, text: &str) -> Vec<Fault> {
    let house = [
        ("lib.rs", "pub mod time; pub mod wire;"),
        ("time/mod.rs", "pub mod duration; pub mod units;"),
        ("time/duration.rs", "pub struct NtpDuration;"),
        (
            "time/units.rs",
            "use crate::time::duration::NtpDuration; pub struct Ppm;",
        ),
        ("config/mod.rs", "pub mod parse; pub struct Config;"),
        ("config/parse.rs", "use crate::config::Config;"),
        (
            "wire/packet.rs",
            "use crate::time::{duration::*, units::{self, Ppm as P}}; pub struct Packet;",
        ),
        ("linux/clock.rs", "fn f() { unsafe {} }"),
        ("main.rs", "fn main() { ptntp::cli::main() }"),
        ("cli/mod.rs", "pub fn main() {}"),
    ];
    let mut files: Files = house
        .into_iter()
        .map(|(name, code)| (name.to_owned(), format!("//! x\n{code}")))
        .collect();
    files.insert(file.to_owned(), text.to_owned());
    inspect(&files)
}

#[test]
fn a_house_in_order_has_no_faults() {
    assert_eq!(with("time/map.rs", "//! x\n"), []);
}

#[test]
fn an_import_that_points_up_is_found_wherever_it_hides() {
    for code in [
        "use crate::wire::packet::Packet;",
        "use crate::{time::units::Ppm, wire::packet::{self, Packet}};",
        "fn f() -> crate::wire::packet::Packet { todo!() }",
        "use super::super::wire::packet::Packet;",
    ] {
        let faults = with("time/map.rs", &format!("//! x\n{code}"));
        assert!(
            faults
                .iter()
                .any(|fault| matches!(fault, Fault::Upward { .. })),
            "{code}: {faults:?}"
        );
    }
    let faults = with("linux/udp.rs", "//! x\nuse crate::wire::packet::Packet;");
    assert!(matches!(&faults[..], [Fault::Upward { .. }]), "{faults:?}");
}

#[test]
fn what_is_not_code_or_only_a_test_is_left_alone() {
    for code in [
        "// use crate::wire::packet::Packet;",
        "/* /* unsafe */ use crate::wire::packet::Packet; */",
        "const A: &str = \"unsafe crate::wire::packet \\\" crate::wire::packet\";",
        "const A: &str = r#\"unsafe \" crate::wire::packet\"#;",
        "const A: (char, char) = ('\"', '\\''); // unsafe",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
        "#[cfg(test)]\nmod tests { use crate::wire::packet::Packet; fn f() {} }",
        "#[cfg(test)]\nuse crate::wire::packet::Packet;",
        "#![allow(unsafe_code)]",
    ] {
        assert_eq!(with("time/map.rs", &format!("//! x\n{code}")), [], "{code}");
    }
}

#[test]
fn a_thing_is_imported_from_the_file_that_defines_it() {
    for code in [
        "use crate::NtpDuration;",
        "use crate::time::NtpDuration;",
        "use crate::time::units::NtpDuration;",
        "use crate::{NtpDuration};",
    ] {
        let faults = with("wire/packet.rs", &format!("//! x\n{code}"));
        assert!(
            matches!(&faults[..], [Fault::Detour { .. }]),
            "{code}: {faults:?}"
        );
    }
    for code in [
        "pub use crate::time::duration::NtpDuration;",
        "pub use self::duration::NtpDuration;",
        "pub(crate) use crate::time::duration::NtpDuration;",
    ] {
        let faults = with("time/mod.rs", &format!("//! x\n{code}"));
        assert!(
            matches!(&faults[..], [Fault::Reexport { .. }]),
            "{code}: {faults:?}"
        );
    }
}

#[test]
fn a_circle_is_named() {
    let faults = with(
        "time/duration.rs",
        "//! x\nuse crate::time::units::Ppm; pub struct NtpDuration;",
    );
    let ring = ["time/duration.rs", "time/units.rs", "time/duration.rs"];
    assert_eq!(
        faults,
        [Fault::Circle {
            files: ring.map(str::to_owned).to_vec()
        }]
    );
}

#[test]
fn unsafe_silence_and_unknown_rooms_are_found() {
    let one = |file: &str, text: &str| match &with(file, text)[..] {
        [fault] => fault.to_string(),
        faults => panic!("{file}: {faults:?}"),
    };
    assert_eq!(
        one("wire/raw.rs", "//! x\nfn f() { unsafe { g() } }"),
        "wire/raw.rs uses unsafe outside linux/"
    );
    assert_eq!(
        one("wire/raw.rs", "fn f() {}"),
        "wire/raw.rs does not open with //! lines"
    );
    assert_eq!(
        one("attic/a.rs", "//! x\n"),
        "attic/a.rs is in no room of the floor plan"
    );
}
