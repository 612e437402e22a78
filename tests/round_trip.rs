//! `ptntp check` prints a file that gives the same daemon back, and `ptntp convert` one that
//! means the same wherever it does not say otherwise: random files of both dialects, made
//! from the tables of every directive and option, and the files of distributions.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use ptntp::config::convert::to_chrony;
use ptntp::config::dialect::Dialect;
use ptntp::config::directives::{
    Choices, Directive, Kind, State, chrony, chrony_options, ntp, ntp_options,
};
use ptntp::config::load::{load, load_text};
use ptntp::config::{Config, native};
use ptntp::server::access::AccessTable;
use ptntp::server::rule::Flags;

/// What stands for numbers of a directive or an option: where in its range, and how it is
/// written.
type Dice = (Index, u32);

/// Values of each kind: often small, sometimes at an end of the range.
fn value(kind: Kind, (index, fraction): Dice) -> String {
    let of = |all: usize| index.index(all);
    match kind {
        Kind::Int(low, high) => {
            let width = usize::try_from(high - low).expect("low first") + 1;
            let n = match of(8) {
                0 => high,
                1 => low,
                2..5 => low + i64::try_from(of(width.min(9))).expect("small"),
                _ => low + i64::try_from(of(width)).expect("within"),
            };
            n.to_string()
        }
        Kind::Num(low, high) | Kind::MaybeNum(low, high) => {
            let exponent = i32::try_from(of(11)).expect("small") - 9;
            let sign = if fraction % 2 == 0 { 1.0 } else { -1.0 };
            let number = sign * f64::from(fraction % 10_000) / 1_000.0 * 10_f64.powi(exponent);
            number.clamp(low, high).to_string()
        }
        Kind::OneOf(words) => words[of(words.len())].to_owned(),
        Kind::Text(_) | Kind::Rest => kind.sample(),
    }
}

/// An example with other numbers, where it has plain ones.
fn varied(example: &str, (index, fraction): Dice) -> String {
    let vary = |word: &str| match word.parse::<u32>() {
        Ok(n) if fraction % 3 > 0 => (n / 2 + index.index(8) as u32).to_string(),
        _ => word.to_owned(),
    };
    let lines = example.split('\n');
    let words = lines.map(|line| line.split(' ').map(vary).collect::<Vec<_>>().join(" "));
    words.collect::<Vec<_>>().join("\n")
}

/// A line of one directive.
fn line(directives: &[Directive], pick: Index, dice: Dice) -> String {
    let accepted = |d: &&Directive| matches!(d.state, State::Works | State::NoEffect);
    let accepted: Vec<&Directive> = directives.iter().filter(accepted).collect();
    let directive = pick.get(&accepted);
    let before = if directive.name == "fudge" {
        "server 127.127.1.0\n"
    } else {
        ""
    };
    let example = varied(directive.example, dice);
    format!("{before}{} {example}", directive.name)
}

/// A line with several options of one directive.
fn options(all: &[Choices], pick: Index, dice: &[(Index, Dice)], host: u8) -> String {
    let choices = pick.get(all);
    let mut text = choices
        .before
        .replace("a.example", &format!("h{host}.example"));
    let mut used = Vec::new();
    for (pick, dice) in dice {
        let choice = pick.get(choices.choices);
        let accepted = matches!(choice.state, State::Works | State::NoEffect);
        if !accepted || used.contains(&choice.name) || choice.name == "key" {
            continue;
        }
        used.push(choice.name);
        text += &format!(" {}", choice.name);
        if let Some(kind) = choice.value {
            text += &format!(" {}", value(kind, *dice));
        }
    }
    text + choices.after
}

fn dice() -> impl Strategy<Value = Dice> {
    (any::<Index>(), any::<u32>())
}

fn file(dialect: Dialect) -> impl Strategy<Value = String> {
    let (directives, all): (&[Directive], &[Choices]) = match dialect {
        Dialect::Chrony => (chrony::DIRECTIVES, &chrony_options::ALL),
        _ => (ntp::DIRECTIVES, &ntp_options::ALL),
    };
    let one = (any::<Index>(), dice()).prop_map(|(pick, dice)| line(directives, pick, dice));
    let many = (
        any::<Index>(),
        prop::collection::vec((any::<Index>(), dice()), 1..6),
        any::<u8>(),
    )
        .prop_map(|(pick, dice, host)| options(all, pick, &dice, host));
    let lines = prop::collection::vec(prop_oneof![one, many], 1..12);
    lines.prop_map(|lines| format!("server last.example\n{}\n", lines.join("\n")))
}

fn loaded(text: &str, dialect: Dialect) -> Result<Config, String> {
    match load_text(Path::new("x.conf"), text, dialect) {
        Ok(loaded) => Ok(loaded.config),
        Err(why) => Err(why.iter().map(|d| format!("{d}\n")).collect()),
    }
}

/// In and beside the blocks that examples name.
const ASKERS: [&str; 10] = [
    "0.0.0.0",
    "10.0.0.1",
    "127.0.0.1",
    "192.0.2.0",
    "192.0.2.1",
    "198.51.100.7",
    "255.255.255.255",
    "::1",
    "2001:db8::1",
    "fe80::1",
];
/// Who has one of these gets no time.
const UNSERVED: Flags = Flags::from_bits(
    Flags::IGNORE.bits() | Flags::NOSERVE.bits() | Flags::NOCLIENT.bits() | Flags::NOTRUST.bits(),
);

/// The same daemon by the native file, and by a chrony.conf as far as that has words.
fn again(config: &Config) -> Result<(), TestCaseError> {
    let text = native::lines(config).join("\n");
    let second = loaded(&text, Dialect::Ntp).map_err(TestCaseError::fail)?;
    prop_assert_eq!(config, &second, "{}", text);
    let (lines, _) = to_chrony(config);
    let text = lines.join("\n");
    let converted = loaded(&text, Dialect::Chrony);
    let converted = converted.map_err(|why| TestCaseError::fail(format!("{text}\n{why}")))?;
    // What is chrony's by now is kept whole.
    let (lines, _) = to_chrony(&converted);
    let text = lines.join("\n");
    let second = loaded(&text, Dialect::Chrony);
    let mut second = second.map_err(|why| TestCaseError::fail(format!("{text}\n{why}")))?;
    let [one, other] = [&converted, &second].map(|c| AccessTable::compile(&c.rules, &[]));
    for address in ASKERS {
        let address = address.parse().expect("an address");
        let served = |table: &AccessTable| !table.lookup(address, 40_000).intersects(UNSERVED);
        prop_assert_eq!(served(&one), served(&other), "{}: {}", address, text);
    }
    second.rules.clone_from(&converted.rules);
    prop_assert_eq!(converted, second, "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_ntp_conf_gives_the_same_daemon_back(text in file(Dialect::Ntp)) {
        let config = loaded(&text, Dialect::Ntp);
        prop_assume!(config.is_ok());
        again(&config.expect("assumed"))?;
    }

    #[test]
    fn a_chrony_conf_gives_the_same_daemon_back(text in file(Dialect::Chrony)) {
        let config = loaded(&text, Dialect::Chrony);
        prop_assume!(config.is_ok());
        again(&config.expect("assumed"))?;
    }
}

/// Lines that contradict each other are refused, but most random files are good.
#[test]
fn most_random_files_load() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for dialect in [Dialect::Ntp, Dialect::Chrony] {
        let mut runner = TestRunner::deterministic();
        let mut good = 0;
        for _ in 0..500 {
            let text = file(dialect)
                .new_tree(&mut runner)
                .expect("a file")
                .current();
            good += usize::from(loaded(&text, dialect).is_ok());
        }
        assert!(good > 150, "{dialect:?}: {good} of 500");
    }
}

#[test]
fn files_of_distributions_give_the_same_daemon_back() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("files") {
        let path = entry.expect("a file").path();
        let config = load(&path, Dialect::Auto);
        let config = config
            .unwrap_or_else(|why| panic!("{}: {why:#?}", path.display()))
            .config;
        again(&config).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        seen += 1;
    }
    assert!(seen >= 19, "{seen}");
}
