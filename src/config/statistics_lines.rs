//! `statistics`, `filegen`, `log` and the other lines about files of measurements: ntpd's
//! and chronyd's words, both as ptntp's own too.

use crate::config::statement::{Line, Statement};
use crate::config::statistics::{FileKind, Filegen, Rotation, StatisticsSetting};
use crate::config::words::Word;

/// Sets that ntpd has and we don't, and why.
const WITHOUT: [(&str, &str); 6] = [
    ("cryptostats", "there is no Autokey"),
    ("ntsstats", "there is no NTS yet"),
    ("ntskestats", "there is no NTS yet"),
    ("ntskelog", "there is no NTS yet"),
    ("refstats", "`clockstats` has what clocks showed"),
    ("timingstats", "ntpd has it in special builds only"),
];

fn ntp_words() -> impl Iterator<Item = &'static str> {
    let ours = FileKind::ALL.into_iter().filter(|kind| !kind.is_chronys());
    let without = WITHOUT.iter().map(|(word, _)| *word);
    ours.map(FileKind::word).chain(without)
}

/// The set of this name; none, which was said, if there is none.
fn set(line: &mut Line<'_>, directive: &Word, word: &Word) -> Option<Option<FileKind>> {
    let mut all = FileKind::ALL.into_iter();
    if let Some(kind) = all.find(|kind| !kind.is_chronys() && kind.word() == word.text) {
        return Some(Some(kind));
    }
    if let Some((word_known, why)) = WITHOUT.iter().find(|(known, _)| *known == word.text) {
        line.note(
            word,
            format!("`{word_known}` is accepted and has no effect here, because {why}"),
        );
        return Some(None);
    }
    line.unknown(word, &directive.text, ntp_words());
    None
}

/// `statsdir directory`.
pub fn statsdir(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a directory")?;
    line.end()?;
    let setting = StatisticsSetting::Directory(path.text.into());
    Some(Statement::Statistics(setting))
}

/// `statistics name...`.
pub fn statistics(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let first = line.argument(directive, "a name such as `loopstats`")?;
    let mut kinds = Vec::from_iter(set(line, directive, &first)?);
    while let Some(word) = line.take() {
        kinds.extend(set(line, directive, &word)?);
    }
    let setting = StatisticsSetting::Files { kinds, raw: false };
    Some(Statement::Statistics(setting))
}

/// `filegen name [file name] [type type] [link|nolink] [enable|disable]`.
pub fn filegen(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    const KNOWN: [&str; 6] = ["file", "type", "link", "nolink", "enable", "disable"];
    let word = line.argument(directive, "a name such as `loopstats`")?;
    let kind = set(line, directive, &word)?;
    let mut filegen = Filegen {
        kind: kind.unwrap_or(FileKind::Loopstats),
        name: None,
        rotation: None,
        link: None,
        enable: true,
    };
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "file" => filegen.name = Some(file_name(line, &word)?),
            "type" => {
                let value = line.argument(&word, "a type such as `day`")?;
                let mut all = Rotation::ALL.iter();
                let Some((_, rotation)) = all.find(|(known, _)| *known == value.text) else {
                    let known = Rotation::ALL.iter().map(|(known, _)| *known);
                    line.unknown(&value, "filegen ... type", known);
                    return None;
                };
                filegen.rotation = Some(*rotation);
            }
            "link" => filegen.link = Some(true),
            "nolink" => filegen.link = Some(false),
            "enable" => filegen.enable = true,
            "disable" => filegen.enable = false,
            _ => {
                line.unknown(&word, &directive.text, KNOWN);
                return None;
            }
        }
    }
    Some(match kind {
        Some(_) => Statement::Statistics(StatisticsSetting::Filegen(filegen)),
        None => Statement::Inert,
    })
}

/// A name below the directory: as with ntpd, it may not lead out of it.
fn file_name(line: &mut Line<'_>, after: &Word) -> Option<String> {
    let word = line.argument(after, "a file name")?;
    if word.text.split('/').any(|part| part == "..") {
        let message = format!("`{}` leads out of the directory", word.text);
        line.error(
            &word,
            message,
            "write a name without `..`; see `statsdir`".into(),
        );
        return None;
    }
    Some(word.text)
}

/// `logdir directory`.
pub fn logdir(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a directory")?;
    line.end()?;
    let setting = StatisticsSetting::LogDirectory(path.text.into());
    Some(Statement::Statistics(setting))
}

/// `log what...`.
pub fn log(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let (mut kinds, mut raw) = (Vec::new(), false);
    while let Some(word) = line.take() {
        let name = word.text.to_ascii_lowercase();
        let mut all = FileKind::ALL.into_iter();
        if name == "rawmeasurements" {
            raw = true;
            kinds.push(FileKind::Measurements);
        } else if name == "tempcomp" {
            let message = "`tempcomp` is accepted and has no effect here, because the filter learns what the oscillator does";
            line.note(&word, message.into());
        } else if let Some(kind) = all.find(|kind| kind.is_chronys() && kind.word() == name) {
            kinds.push(kind);
        } else {
            let known = FileKind::ALL.into_iter().filter(|kind| kind.is_chronys());
            let known = known.map(FileKind::word);
            line.unknown(
                &word,
                &directive.text,
                known.chain(["rawmeasurements", "tempcomp"]),
            );
            return None;
        }
    }
    let setting = StatisticsSetting::Files { kinds, raw };
    Some(Statement::Statistics(setting))
}

/// `logbanner lines`.
pub fn logbanner(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let lines = line.integer(directive, 0..=1_000_000_000)?;
    line.end()?;
    Some(Statement::Statistics(StatisticsSetting::Banner(lines)))
}

/// `logchange seconds`.
pub fn logchange(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let limit = line.seconds(directive)?;
    line.end()?;
    Some(Statement::Statistics(StatisticsSetting::Change(limit)))
}
