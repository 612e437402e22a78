//! What is written about measurements, where, and when a new file is begun: what the
//! `statistics`, `filegen`, `log` and other lines of both dialects come to.

use std::path::PathBuf;

use crate::time::duration::NtpDuration;

/// What a file is about: ntpd's sets by their names, chronyd's logs by theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// Each update of the clock (ntpd).
    Loopstats,
    /// Each sample of a source (ntpd).
    Peerstats,
    /// Each answer's stamps (ntpd).
    Rawstats,
    /// Each reading of a reference clock (ntpd).
    Clockstats,
    /// What the server counted, each hour (ntpd).
    Sysstats,
    /// What the process used, each hour (ntpd).
    Usestats,
    /// What happened (ntpd).
    Protostats,
    /// Each answer (chronyd).
    Measurements,
    /// Each sample's part in the estimate (chronyd).
    Statistics,
    /// Each update of the clock (chronyd).
    Tracking,
    /// Each judgement of each source (chronyd).
    Selection,
    /// Each reading of a reference clock (chronyd).
    Refclocks,
    /// Each measurement of the real-time clock (chronyd).
    Rtc,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Loopstats,
        Self::Peerstats,
        Self::Rawstats,
        Self::Clockstats,
        Self::Sysstats,
        Self::Usestats,
        Self::Protostats,
        Self::Measurements,
        Self::Statistics,
        Self::Tracking,
        Self::Selection,
        Self::Refclocks,
        Self::Rtc,
    ];

    /// The word of `statistics`, `filegen` or `log`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loopstats => "loopstats",
            Self::Peerstats => "peerstats",
            Self::Rawstats => "rawstats",
            Self::Clockstats => "clockstats",
            Self::Sysstats => "sysstats",
            Self::Usestats => "usestats",
            Self::Protostats => "protostats",
            Self::Measurements => "measurements",
            Self::Statistics => "statistics",
            Self::Tracking => "tracking",
            Self::Selection => "selection",
            Self::Refclocks => "refclocks",
            Self::Rtc => "rtc",
        }
    }

    /// Is it one of chronyd's logs? Then the file is one for ever, with banners.
    pub const fn is_chronys(self) -> bool {
        matches!(
            self,
            Self::Measurements
                | Self::Statistics
                | Self::Tracking
                | Self::Selection
                | Self::Refclocks
                | Self::Rtc
        )
    }
}

/// When a new file is begun, in UTC, and what is added to the name then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// Never, and nothing.
    None,
    /// With each process: `#` and its number.
    Pid,
    /// Each day: `YYYYMMDD`.
    Day,
    /// Each day, seven names a year: `YYYYwWW`, with the day of the year modulo 7, as ntpd
    /// counts.
    Week,
    /// Each month: `YYYYMM`.
    Month,
    /// Each year: `YYYY`.
    Year,
    /// Each day that the daemon runs: `a` and its age in seconds.
    Age,
}

impl Rotation {
    /// All of them, by their words.
    pub const ALL: [(&'static str, Self); 7] = [
        ("none", Self::None),
        ("pid", Self::Pid),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
        ("age", Self::Age),
    ];

    /// The word of `filegen ... type`.
    pub fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, rotation)| *rotation == self);
        found.map_or("none", |(word, _)| word)
    }
}

/// One file, or one set of files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileConfig {
    /// What it is about.
    pub kind: FileKind,
    /// Its name in the directory, without what [`Rotation`] adds.
    pub name: String,
    /// When a new one is begun.
    pub rotation: Rotation,
    /// Is the newest one linked to the bare name?
    pub link: bool,
}

impl FileConfig {
    /// Unless told otherwise: ntpd's are begun each day and linked, chronyd's never.
    pub fn of(kind: FileKind) -> Self {
        let word = kind.word();
        let chronys = kind.is_chronys();
        Self {
            kind,
            name: if chronys {
                format!("{word}.log")
            } else {
                word.to_owned()
            },
            rotation: if chronys {
                Rotation::None
            } else {
                Rotation::Day
            },
            link: !chronys,
        }
    }
}

/// What is written about measurements.
#[derive(Clone, PartialEq, Debug)]
pub struct StatisticsConfig {
    /// Where ntpd's files are (`statsdir`); none: they are not written.
    pub directory: Option<PathBuf>,
    /// Where chronyd's are (`logdir`); none: they are not written.
    pub log_directory: Option<PathBuf>,
    /// The files, each kind once.
    pub files: Vec<FileConfig>,
    /// False after `disable stats`: nothing is written.
    pub enabled: bool,
    /// `log rawmeasurements`: answers that failed a test are written too.
    pub raw: bool,
    /// chronyd's files have a banner before each so many lines; 0: none.
    pub banner: u32,
    /// `logchange`: an update of the clock beyond this is told in the log; none: never.
    pub change: Option<NtpDuration>,
}

/// chronyd's banner stands before each so many lines.
const BANNER_DEFAULT: u32 = 32;

/// What chronyd tells of without being told to.
pub const CHANGE_DEFAULT: NtpDuration = NtpDuration::from_whole_seconds(1);

impl Default for StatisticsConfig {
    fn default() -> Self {
        Self {
            directory: None,
            log_directory: None,
            files: Vec::new(),
            enabled: true,
            raw: false,
            banner: BANNER_DEFAULT,
            change: None,
        }
    }
}

impl StatisticsConfig {
    /// The files that are written, each with its directory.
    pub fn written(&self) -> impl Iterator<Item = (&FileConfig, &PathBuf)> {
        let files = self.files.iter().filter(|_| self.enabled);
        files.filter_map(|file| {
            let directory = if file.kind.is_chronys() {
                &self.log_directory
            } else {
                &self.directory
            };
            Some((file, directory.as_ref()?))
        })
    }

    /// Takes up one line. `filegen` goes over `statistics`, whichever stands first.
    pub fn take(&mut self, setting: &StatisticsSetting) {
        match setting {
            StatisticsSetting::Directory(path) => self.directory = Some(path.clone()),
            StatisticsSetting::LogDirectory(path) => self.log_directory = Some(path.clone()),
            StatisticsSetting::Files { kinds, raw } => {
                self.raw |= raw;
                for &kind in kinds {
                    if !self.files.iter().any(|file| file.kind == kind) {
                        self.files.push(FileConfig::of(kind));
                    }
                }
            }
            // Last: see `finish`.
            StatisticsSetting::Filegen(_) => {}
            StatisticsSetting::Banner(lines) => self.banner = *lines,
            StatisticsSetting::Change(limit) => self.change = Some(*limit),
        }
    }

    /// Takes up the `filegen` lines, in their order, after all others.
    pub fn finish<'a>(&mut self, lines: impl Iterator<Item = &'a Filegen>) {
        // What a kind is while it is switched off is remembered, as ntpd does.
        let mut off: Vec<FileConfig> = Vec::new();
        for line in lines {
            let is_it = |file: &FileConfig| file.kind == line.kind;
            let place = self.files.iter().position(is_it);
            let mut file = match (place, off.iter().position(is_it)) {
                (Some(place), _) => self.files[place].clone(),
                (None, Some(place)) => off.swap_remove(place),
                (None, None) => FileConfig::of(line.kind),
            };
            let name = line.name.as_deref().unwrap_or(line.kind.word());
            name.clone_into(&mut file.name);
            file.rotation = line.rotation.unwrap_or(file.rotation);
            file.link = line.link.unwrap_or(file.link);
            match (place, line.enable) {
                (Some(place), true) => self.files[place] = file,
                (Some(place), false) => {
                    self.files.remove(place);
                    off.push(file);
                }
                (None, true) => self.files.push(file),
                (None, false) => off.push(file),
            }
        }
        self.files.sort_by_key(|file| file.kind);
    }
}

/// One line about files of measurements.
#[derive(Clone, PartialEq, Debug)]
pub enum StatisticsSetting {
    /// `statsdir`.
    Directory(PathBuf),
    /// `logdir`.
    LogDirectory(PathBuf),
    /// `statistics` and `log`.
    Files {
        /// Which.
        kinds: Vec<FileKind>,
        /// `rawmeasurements` is among them.
        raw: bool,
    },
    /// `filegen`.
    Filegen(Filegen),
    /// `logbanner`.
    Banner(u32),
    /// `logchange`.
    Change(NtpDuration),
}

/// A `filegen` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filegen {
    /// Which set.
    pub kind: FileKind,
    /// `file`; none: the set's own name.
    pub name: Option<String>,
    /// `type`; none: as it was.
    pub rotation: Option<Rotation>,
    /// `link` or `nolink`; none: as it was.
    pub link: Option<bool>,
    /// False: `disable`.
    pub enable: bool,
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::slice::from_ref;

    use super::*;
    use crate::config::dialect::Dialect;
    use crate::config::load::load_text;

    fn of(text: &str, dialect: Dialect) -> StatisticsConfig {
        let text = format!("server a.example\n{text}\n");
        let loaded = load_text(Path::new("/etc/any.conf"), &text, dialect);
        loaded.expect("a good file").config.statistics
    }

    fn ntp(text: &str) -> Vec<FileConfig> {
        of(&format!("statsdir /s/\n{text}"), Dialect::Ntp).files
    }

    #[test]
    fn ntpds_lines_mean_what_ntpd_makes_of_them() {
        let loops = FileConfig::of(FileKind::Loopstats);
        assert_eq!((loops.rotation, loops.link), (Rotation::Day, true));
        assert_eq!(ntp("statistics loopstats"), from_ref(&loops));
        // Naming a set on a `filegen` line is enough.
        assert_eq!(ntp("filegen loopstats"), from_ref(&loops));
        let named = FileConfig {
            name: "l".to_owned(),
            rotation: Rotation::Month,
            link: false,
            ..loops.clone()
        };
        let line = "filegen loopstats file l type month nolink";
        assert_eq!(ntp(line), from_ref(&named));
        // Whichever stands first.
        assert_eq!(ntp(&format!("{line}\nstatistics loopstats")), [named]);
        // A line without a name goes back to the set's own; what it leaves out stays.
        let last = FileConfig {
            rotation: Rotation::Month,
            link: false,
            ..loops
        };
        assert_eq!(ntp(&format!("{line}\nfilegen loopstats enable")), [last]);
        assert_eq!(ntp("statistics loopstats\nfilegen loopstats disable"), []);
    }

    #[test]
    fn nothing_is_written_without_a_directory_or_when_switched_off() {
        let written = |text: &str| of(text, Dialect::Ntp).written().count();
        assert_eq!(written("statistics loopstats peerstats"), 0);
        assert_eq!(written("statsdir /s\nstatistics loopstats peerstats"), 2);
        let off = "statsdir /s\nstatistics loopstats\ndisable stats";
        assert_eq!(written(off), 0);
    }

    #[test]
    fn chronyds_lines_mean_what_chronyd_makes_of_them() {
        let config = of(
            "logdir /l\nlog Tracking statistics\nlog rawmeasurements\nlogbanner 0",
            Dialect::Chrony,
        );
        let kinds: Vec<_> = config.files.iter().map(|file| file.kind).collect();
        assert_eq!(
            kinds,
            [
                FileKind::Measurements,
                FileKind::Statistics,
                FileKind::Tracking
            ]
        );
        assert_eq!(config.files[2].name, "tracking.log");
        assert_eq!((config.raw, config.banner), (true, 0));
        assert_eq!(config.change, Some(CHANGE_DEFAULT));
        let limit = of("logchange 0.25", Dialect::Chrony).change;
        assert_eq!(limit, Some(NtpDuration::from_seconds(0.25)));
    }

    #[test]
    fn no_file_leaves_the_directory() {
        let text = "server a\nstatsdir /s\nfilegen loopstats file ../../etc/x\n";
        let wrong = load_text(Path::new("/etc/ntp.conf"), text, Dialect::Ntp).unwrap_err();
        assert!(wrong[0].message.contains("leads out"), "{}", wrong[0]);
    }
}
