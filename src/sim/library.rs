//! The scenarios that come with the program: the files of `tests/sim/scenarios`.

macro_rules! scenario {
    ($name:literal) => {
        Builtin {
            name: $name,
            file: concat!($name, ".sim"),
            text: include_str!(concat!("../../tests/sim/scenarios/", $name, ".sim")),
        }
    };
}

/// A scenario that needs no file.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// What it is called.
    pub name: &'static str,
    /// The file it came from.
    pub file: &'static str,
    /// What that says.
    pub text: &'static str,
}

/// All of them, the most common first.
pub const BUILTIN: &[Builtin] = &[
    scenario!("lan"),
    scenario!("wan"),
    scenario!("hw-quiet"),
    scenario!("hw-1us"),
    scenario!("lan-gauss"),
    scenario!("heavy-tail"),
    scenario!("bursts"),
    scenario!("route-change"),
    scenario!("freq-step"),
    scenario!("hvac"),
    scenario!("daily"),
    scenario!("four-good"),
    scenario!("one-50ms"),
    scenario!("one-5ms"),
    scenario!("start-lan"),
    scenario!("start-wan"),
    scenario!("reboot-drift"),
    scenario!("asymmetry"),
    scenario!("asymmetry-wan"),
    scenario!("holdover"),
    scenario!("loss-reorder"),
    scenario!("noisy-host"),
    scenario!("server-step"),
    scenario!("falseticker-majority-honest"),
    scenario!("foreign-step"),
    scenario!("leap"),
    scenario!("era"),
];

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|builtin| builtin.name == name)
}

/// Names that someone who wrote `name` may have meant: the nearest first, few.
pub fn similar(name: &str) -> Vec<&'static str> {
    // Nobody mistypes the first letter.
    let starts_otherwise = |known: &str| known.chars().next() != name.chars().next();
    let mut near: Vec<(usize, bool, &str)> = BUILTIN
        .iter()
        .map(|builtin| builtin.name)
        .map(|known| (distance(name, known), starts_otherwise(known), known))
        .filter(|&(apart, _, known)| {
            apart <= 2 || known.contains(name) || (known.len() > 2 && name.contains(known))
        })
        .collect();
    near.sort();
    near.into_iter()
        .take(3)
        .map(|(_, _, known)| known)
        .collect()
}

/// Letters to change, add or leave out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let best = (diagonal + usize::from(x != y)).min(row[j].min(row[j + 1]) + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_what_was_meant() {
        assert_eq!(similar("lna")[0], "lan");
        assert_eq!(similar("four-god"), ["four-good"]);
        assert!(similar("start").contains(&"start-lan"));
        assert!(similar("zzzzzzzz").is_empty());
    }
}
