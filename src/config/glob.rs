//! File names with `*`, `?` and `[...]` (glob(7)), for `include` of chrony.conf.

use std::path::{Path, PathBuf};

/// The existing files that `pattern` matches, sorted.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') {
        "/"
    } else {
        ""
    })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found.iter().flat_map(|at| step(at, part)).collect();
    }
    found.retain(|path| !path.is_dir() && path.exists());
    found.sort();
    found
}

fn step(at: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[']) {
        return vec![at.join(part)];
    }
    let directory = if at.as_os_str().is_empty() {
        Path::new(".")
    } else {
        at
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pattern: Vec<char> = part.chars().collect();
    names
        .filter(|name| !name.starts_with('.') || part.starts_with('.'))
        .filter(|name| matches(&pattern, &name.chars().collect::<Vec<_>>()))
        .map(|name| at.join(name))
        .collect()
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        '*' => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        '?' => !name.is_empty() && matches(rest, &name[1..]),
        '[' => match (
            rest.iter().skip(1).position(|c| *c == ']'),
            name.split_first(),
        ) {
            (Some(end), Some((c, left))) => {
                in_class(&rest[..=end], *c) && matches(&rest[end + 2..], left)
            }
            _ => false,
        },
        plain => name.first() == Some(plain) && matches(rest, &name[1..]),
    }
}

/// Is `c` one of `class`, such as `a-z0` or `!a`?
fn in_class(class: &[char], c: char) -> bool {
    let (negated, class) = match class {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        all => (false, all),
    };
    let ranges = class
        .windows(3)
        .any(|w| w[1] == '-' && (w[0]..=w[2]).contains(&c));
    (ranges || class.contains(&c)) != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let is = |pattern: &str, name: &str| {
            matches(
                &pattern.chars().collect::<Vec<_>>(),
                &name.chars().collect::<Vec<_>>(),
            )
        };
        assert!(is("*.conf", "a.conf") && !is("*.conf", "a.confx"));
        assert!(is("a?c", "abc") && !is("a?c", "ac"));
        assert!(is("[0-9][!x]*", "1yz") && !is("[0-9][!x]*", "1xz"));
        assert!(!is("[a", "a") && is("[]a]", "]"));
        assert_eq!(files("/dev/nul?"), [PathBuf::from("/dev/null")]);
        assert!(files("/nonexistent/*").is_empty());
    }
}
