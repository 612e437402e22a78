//! `refclock` and `phc`: clocks of this host's that are read, and clocks that are set.

use crate::client::options::SourceOptions;
use crate::client::refclock::ClockOptions;
use crate::config::directives::clock_options::REFCLOCK;
use crate::config::directives::remark;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::config::{PhcLine, SourceConfig, SourceKind};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;
use crate::wire::refid::RefId;

/// How often a measurement is made, as chrony has it.
const POLL_DEFAULT: PollExponent = PollExponent::new(4);

/// `refclock PHC DEVICE-or-INTERFACE[:nocrossts] [option ...]`; any other driver is an
/// error.
pub fn refclock(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let driver = line.argument(directive, "a driver: `PHC`")?;
    if !driver.text.eq_ignore_ascii_case("phc") {
        let message = format!("`refclock {}` is not supported yet", driver.text);
        let help = match driver.text.to_ascii_lowercase().as_str() {
            "local" => "write `server 127.127.1.0` and `fudge 127.127.1.0 stratum 10`",
            _ => "delete the line, or put `#` before it; `refclock PHC /dev/ptp0` works",
        };
        line.error(directive, message, help.into());
        return None;
    }
    let parameter = line.argument(&driver, "a device like `/dev/ptp0`, or an interface")?;
    let mut clock = ClockOptions::default();
    let mut parts = parameter.text.split(':');
    let device = device(line, &parameter, parts.next().unwrap_or_default())?;
    for part in parts {
        match part {
            "nocrossts" => clock.nocrossts = true,
            _ => {
                let message = format!("`:{part}` is not supported: the clock's time is read");
                let help = "leave it out; of chrony's only `:nocrossts` is known".into();
                line.error(&parameter, message, help);
                return None;
            }
        }
    }
    let mut options = SourceOptions {
        minpoll: POLL_DEFAULT,
        maxpoll: POLL_DEFAULT,
        ..SourceOptions::default()
    };
    while let Some(word) = line.take() {
        option(line, &word, &mut options, &mut clock)?;
    }
    if clock.dpoll > options.minpoll {
        let message = "`dpoll` is above `poll`: one reading makes a measurement";
        let help = "make `poll` larger, or `dpoll` smaller".into();
        line.warning(directive, message.into(), help);
    }
    options.clock = Some(clock);
    Some(Statement::Source(SourceConfig {
        kind: SourceKind::Clock,
        name: device,
        family: None,
        most: None,
        options,
    }))
}

fn option(
    line: &mut Line<'_>,
    word: &Word,
    options: &mut SourceOptions,
    clock: &mut ClockOptions,
) -> Option<()> {
    // chrony.conf does not care for case.
    let name = word.text.to_ascii_lowercase();
    let known = REFCLOCK.choices.iter();
    let Some(choice) = known.clone().find(|choice| choice.name == name) else {
        line.unknown(word, "refclock PHC", known.map(|choice| choice.name));
        return None;
    };
    match choice.name {
        "poll" => {
            options.minpoll = poll(line, word)?;
            options.maxpoll = options.minpoll;
        }
        "dpoll" => clock.dpoll = poll(line, word)?,
        "refid" => clock.refid = refid(line, word)?,
        "offset" => clock.offset = signed_seconds(line, word)?,
        "delay" => clock.delay = line.seconds(word)?,
        "stratum" => clock.stratum = line.integer(word, 0..=14)?,
        "precision" => clock.precision = line.seconds(word)?,
        "filter" => clock.filter = line.integer(word, 1..=1024)?,
        "tai" => clock.tai = true,
        "nocrossts" => clock.nocrossts = true,
        "prefer" => options.prefer = true,
        "noselect" => options.noselect = true,
        _ => {
            let said = remark(&word.text, choice.state, choice.why, choice.instead);
            let (_, message, help) = said?;
            line.error(word, message, help);
            return None;
        }
    }
    Some(())
}

/// `phc discipline DEVICE-or-INTERFACE [tai|utc] [step SECONDS]` (native).
pub fn phc(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let verb = line.argument(directive, "`discipline`")?;
    if verb.text != "discipline" {
        line.unknown(&verb, "phc", ["discipline"]);
        return None;
    }
    let word = line.argument(&verb, "a device like `/dev/ptp0`, or an interface")?;
    let device = device(line, &word, &word.text)?;
    let mut phc = PhcLine {
        device,
        ..PhcLine::default()
    };
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "tai" => phc.tai = true,
            "utc" => phc.tai = false,
            "step" => phc.step = line.seconds(&word)?,
            _ => {
                line.unknown(&word, "phc discipline", ["tai", "utc", "step"]);
                return None;
            }
        }
    }
    Some(Statement::Phc(phc))
}

/// A path below /dev, or an interface's name.
fn device(line: &mut Line<'_>, word: &Word, name: &str) -> Option<String> {
    let path = name.starts_with("/dev/");
    let interface = !name.is_empty() && name.len() <= 15 && !name.contains('/');
    if path || interface {
        return Some(name.to_owned());
    }
    let message = format!("`{name}` is neither a device nor an interface");
    let help = "write one like `/dev/ptp0`, or an interface that has a clock (`ptntp nics`)".into();
    line.error(word, message, help);
    None
}

fn poll(line: &mut Line<'_>, word: &Word) -> Option<PollExponent> {
    line.integer(word, -6..=PollExponent::MAX.log2())
        .map(PollExponent::new)
}

fn refid(line: &mut Line<'_>, after: &Word) -> Option<RefId> {
    let word = line.argument(after, "up to four letters")?;
    let letters = word.text.as_bytes();
    if letters.len() > 4 || !letters.iter().all(u8::is_ascii_graphic) {
        let message = format!("`{}` can't be a refid", word.text);
        line.error(&word, message, "write up to four letters or digits".into());
        return None;
    }
    let mut bytes = [0; 4];
    bytes[..letters.len()].copy_from_slice(letters);
    Some(RefId::from_bytes(bytes))
}

fn signed_seconds(line: &mut Line<'_>, after: &Word) -> Option<NtpDuration> {
    let word = line.argument(after, "a number of seconds")?;
    match word.text.parse::<f64>() {
        // 68 years: what an era has each way.
        Ok(seconds) if seconds.abs() <= f64::from(i32::MAX) => {
            Some(NtpDuration::from_seconds(seconds))
        }
        _ => {
            let message = format!("`{}` is no value for `{}`", word.text, after.text);
            line.error(&word, message, "write a number of seconds".into());
            None
        }
    }
}
