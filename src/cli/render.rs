//! What the tables of several commands share: intervals, durations, columns.

use crate::time::duration::NtpDuration;

/// An interval as ntpq prints `when` and `poll`: `-` if there is none, seconds
/// up to 2048, then minutes to 300, hours to 96, days. Polls below a second,
/// which ntpq does not know, keep their fraction.
pub fn interval(seconds: f64) -> String {
    if seconds > 0.0 && seconds < 1.0 {
        let text = format!("{seconds:.2}");
        return text.trim_start_matches('0').to_owned();
    }
    let seconds = seconds as i64;
    if seconds <= 0 {
        return "-".to_owned();
    }
    if seconds <= 2048 {
        return seconds.to_string();
    }
    // ntpq rounds so that a unit is only used from its middle on.
    let minutes = (seconds + 29) / 60;
    if minutes <= 300 {
        return format!("{minutes}m");
    }
    let hours = (minutes + 29) / 60;
    if hours <= 96 {
        return format!("{hours}h");
    }
    format!("{}d", (hours + 11) / 24)
}

/// Seconds with a scale a person can read: `-12.300 µs`; `-` if unknown.
pub fn seconds(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |s| NtpDuration::from_seconds(s).to_string(),
    )
}

/// Rows in columns as wide as their widest cell, two spaces apart; the last one
/// is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text without what would move a terminal's cursor: names and refids can come
/// from strangers.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_as_in_ntpq() {
        for (seconds, text) in [
            (-1.0, "-"),
            (0.0, "-"),
            (0.125, ".12"),
            (0.5, ".50"),
            (1.9, "1"),
            (64.0, "64"),
            (2048.0, "2048"),
            (2049.0, "34m"),
            (18_000.0, "300m"),
            (18_100.0, "5h"),
            (345_000.0, "96h"),
            (360_000.0, "4d"),
        ] {
            assert_eq!(interval(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(columns(&[row("a", "1"), row("bµ", "2")]), "a   1\nbµ  2\n");
    }
}
