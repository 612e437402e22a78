//! `rtcsync`, `rtcfile` and the other lines about the real-time clock: chrony's words,
//! as ptntp's own.

use crate::config::statement::{Line, RtcSetting, Statement};
use crate::config::words::Word;

/// `rtcsync [on|off]`: the kernel copies the time to the clock every 11 minutes.
pub fn sync(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let on = on_or_off(line, directive)?;
    Some(Statement::Rtc(RtcSetting::Sync(on)))
}

/// `rtcfile path`: we discipline the clock ourselves, and keep its error there.
pub fn file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    line.end()?;
    Some(Statement::Rtc(RtcSetting::File(path.text.into())))
}

/// `rtcdevice path`.
pub fn device(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a device such as /dev/rtc0")?;
    line.end()?;
    Some(Statement::Rtc(RtcSetting::Device(path.text.into())))
}

/// `rtconutc [on|off]`; off: local time.
pub fn on_utc(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let on = on_or_off(line, directive)?;
    Some(Statement::Rtc(RtcSetting::OnUtc(on)))
}

/// `rtcautotrim seconds`; zero: never.
pub fn autotrim(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let limit = line.seconds(directive)?;
    line.end()?;
    let limit = Some(limit).filter(|limit| *limit != Default::default());
    Some(Statement::Rtc(RtcSetting::Autotrim(limit)))
}

/// `hwclockfile path`: hwclock's file says whether the clock is on UTC.
pub fn hwclock_file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file such as /etc/adjtime")?;
    line.end()?;
    Some(Statement::Rtc(RtcSetting::HwclockFile(path.text.into())))
}

/// chrony's word alone means on.
pub fn on_or_off(line: &mut Line<'_>, directive: &Word) -> Option<bool> {
    let Some(word) = line.take() else {
        return Some(true);
    };
    line.end()?;
    match word.text.as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => {
            line.unknown(&word, &directive.text, ["on", "off"]);
            None
        }
    }
}
