//! Curves of a simulated run: true error, promised bound, poll interval over time. In
//! a terminal by dots, eight to a letter (Unicode's Braille patterns); in a file as
//! SVG. Errors span many powers of ten, so their axis is logarithmic.

use std::fmt::Write as _;

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::sim::world::Record;

/// The longest span of a terminal's axis, in powers of ten.
const DECADES_MAX: i32 = 9;
/// An error below this is drawn as this: clocks count nanoseconds.
const ERROR_MIN_S: f64 = 1e-10;
/// Room for the labels left of the terminal's axis.
const LABEL_LEN: usize = 8;

/// What falls into one column of a plot.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Column {
    at_s: f64,
    /// Of the true error, with its sign.
    lowest_s: f64,
    highest_s: f64,
    /// Of its magnitude.
    rms_s: f64,
    /// The largest promised.
    bound_s: Option<f64>,
    /// The largest likely error.
    likely_s: Option<f64>,
    poll_s: Option<f64>,
}

impl Column {
    fn of(records: &[Record]) -> Self {
        let errors = || records.iter().map(|record| record.second.error_s);
        let promises = || records.iter().filter_map(|record| record.second.promise);
        let squares: f64 = errors().map(|error_s| error_s * error_s).sum();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
        let last = &records[records.len() - 1];
        Self {
            at_s: records[0].at_s as f64,
            lowest_s: errors().fold(f64::INFINITY, f64::min),
            highest_s: errors().fold(f64::NEG_INFINITY, f64::max),
            rms_s: (squares / records.len() as f64).sqrt(),
            bound_s: largest(&mut promises().map(|promise| promise.bound_s)),
            likely_s: largest(&mut promises().map(|promise| promise.likely_s)),
            poll_s: last.poll_s,
        }
    }

    fn largest_s(&self) -> f64 {
        self.highest_s.max(-self.lowest_s)
    }
}

/// At most `count` columns, each with at least a second.
fn columns(records: &[Record], count: usize) -> Vec<Column> {
    let count = count.clamp(1, records.len().max(1));
    (0..count)
        .filter_map(|n| {
            let from = n * records.len() / count;
            let to = (n + 1) * records.len() / count;
            (from < to).then(|| Column::of(&records[from..to]))
        })
        .collect()
}

/// The powers of ten that hold errors and bounds.
fn decades(columns: &[Column]) -> (i32, i32) {
    let (mut low_s, mut high_s) = (f64::INFINITY, ERROR_MIN_S);
    for column in columns {
        low_s = low_s.min(column.rms_s.max(ERROR_MIN_S));
        high_s = high_s.max(column.largest_s());
        high_s = high_s.max(column.bound_s.unwrap_or(0.0));
    }
    let high = high_s.log10().ceil() as i32;
    let low = (low_s.min(high_s).log10().floor() as i32).min(high - 1);
    (low.max(high - DECADES_MAX), high)
}

/// For a terminal of so many letters a line.
pub fn terminal(records: &[Record], width: usize, height: usize) -> String {
    let letters = width.saturating_sub(LABEL_LEN + 2).max(16);
    let dots = columns(records, 2 * letters);
    if dots.is_empty() {
        return String::new();
    }
    let (low, high) = decades(&dots);
    let mut canvas = Canvas::new(letters, height);
    let row = |seconds: f64| {
        let share = (seconds.log10() - f64::from(low)) / f64::from(high - low);
        ((1.0 - share) * (canvas_rows(height) - 1) as f64)
            .round()
            .max(0.0) as usize
    };
    for (x, column) in dots.iter().enumerate() {
        // From the usual to the largest.
        for y in row(column.largest_s())..=row(column.rms_s) {
            canvas.set(x, y);
        }
        if let Some(bound_s) = column.bound_s {
            canvas.set(x, row(bound_s));
        }
    }
    let mut text = String::new();
    let labels: Vec<(usize, String)> = (low..=high)
        .map(|power| (row(10_f64.powi(power)) / 4, power_of_ten(power)))
        .collect();
    for (line, letters) in canvas.lines().enumerate() {
        let label = labels.iter().find(|(at, _)| *at == line);
        let (label, tick) = label.map_or(("", '│'), |(_, label)| (label, '┤'));
        let _ = writeln!(text, "{label:>LABEL_LEN$} {tick}{}", letters.trim_end());
    }
    let polls: String = columns(records, letters)
        .iter()
        .map(|column| poll_letter(column.poll_s))
        .collect();
    let end = duration(records.len() as f64);
    let _ = writeln!(text, "{:>LABEL_LEN$} └{}", "", "─".repeat(letters));
    let _ = writeln!(text, "{:>LABEL_LEN$}  0{end:>1$}", "", letters - 1);
    let _ = writeln!(text, "{:>LABEL_LEN$}  {polls}", "poll");
    let _ = writeln!(
        text,
        "\nThe band is the true error, from usual to largest; the line above it is the promised\n\
         bound. poll is in powers of two: 4 is 16 s, a is 1024 s."
    );
    text
}

fn canvas_rows(height: usize) -> usize {
    4 * height
}

fn poll_letter(poll_s: Option<f64>) -> char {
    poll_s.map_or(' ', |poll_s| match poll_s.log2().round() as i32 {
        power @ 0.. => char::from_digit(power as u32, 36).unwrap_or('+'),
        _ => '-',
    })
}

/// `10 µs` for −5.
fn power_of_ten(power: i32) -> String {
    let (unit, least) = match power {
        0.. => ("s", 0),
        -3..=-1 => ("ms", -3),
        -6..=-4 => ("µs", -6),
        -9..=-7 => ("ns", -9),
        _ => ("ps", -12),
    };
    format!("{} {unit}", 10_i64.pow((power - least).unsigned_abs()))
}

/// `90 s`, `11.1 h`, `2.3 d`.
fn duration(seconds: f64) -> String {
    match seconds {
        ..600.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// Dots, two by four to a letter.
struct Canvas {
    letters: Vec<Vec<u8>>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            letters: vec![vec![0; width]; height],
        }
    }

    /// What lies outside is not drawn.
    fn set(&mut self, x: usize, y: usize) {
        // Bits of a Braille pattern, from the top, left and right.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let line = self.letters.get_mut(y / 4);
        if let Some(letter) = line.and_then(|line| line.get_mut(x / 2)) {
            *letter |= BITS[y % 4][x % 2];
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.letters.iter().map(|line| {
            let letter = |&bits: &u8| match bits {
                0 => ' ',
                bits => char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' '),
            };
            line.iter().map(letter).collect()
        })
    }
}

const SVG_SIZE: (u32, u32) = (1000, 900);
/// Its curves have so many points: each spans two pixels, and a file stays small
/// enough to keep.
const SVG_COLUMNS: usize = 450;
const ERROR: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const LIKELY: RGBColor = RGBColor(0xe0, 0xa0, 0x30);
const GREY: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const BOUND: RGBColor = RGBColor(0xd6, 0x4b, 0x2a);
const POLL: RGBColor = RGBColor(0x3a, 0x7d, 0x44);

/// As SVG: magnitudes, the signed error once settled, the poll interval.
pub fn svg(records: &[Record], title: &str, settle_s: f64) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, records, title, settle_s).map_err(|error| error.to_string())?;
    Ok(text)
}

/// What a column has to draw.
type Curve = fn(&Column) -> Option<f64>;
type Failure = Box<dyn std::error::Error>;

fn draw(text: &mut String, records: &[Record], title: &str, settle_s: f64) -> Result<(), Failure> {
    let columns = columns(records, SVG_COLUMNS);
    let Some(last) = columns.last() else {
        return Err("there is nothing to draw".into());
    };
    // Long runs in hours, short ones in seconds.
    let (scale_s, unit) = if last.at_s > 7200.0 {
        (3600.0, "hours")
    } else {
        (1.0, "seconds")
    };
    let x = |column: &Column| column.at_s / scale_s;
    let end = x(last);
    let root = SVGBackend::with_string(text, SVG_SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 22))?;
    let (top, rest) = root.split_vertically(420);
    let (middle, bottom) = rest.split_vertically(270);

    let (low, high) = decades(&columns);
    let power = |power: i32| 10_f64.powi(power);
    let mut chart = ChartBuilder::on(&top)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, (power(low)..power(high)).log_scale())?;
    mesh(&mut chart, "|true error| and bound", "", &seconds)?;
    let curves: [(&str, ShapeStyle, Curve); 4] = [
        ("true error, largest", ERROR.mix(0.35).into(), |column| {
            Some(column.largest_s())
        }),
        ("true error, usual (RMS)", ERROR.into(), |column| {
            Some(column.rms_s)
        }),
        ("likely error, as believed", LIKELY.into(), |column| {
            column.likely_s
        }),
        ("promised bound", BOUND.into(), |column| column.bound_s),
    ];
    for (name, style, value) in curves {
        let points = columns.iter().filter_map(|column| {
            let value_s = value(column)?.clamp(power(low), power(high));
            Some((x(column), value_s))
        });
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GREY)
        .draw()?;

    let settled: Vec<&Column> = columns.iter().filter(|c| c.at_s >= settle_s).collect();
    let limit_s = settled
        .iter()
        .map(|column| column.largest_s())
        .fold(1e-9, f64::max)
        * 1.05;
    let mut chart = ChartBuilder::on(&middle)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, -limit_s..limit_s)?;
    mesh(&mut chart, "true error once settled", "", &seconds)?;
    let band = settled
        .iter()
        .flat_map(|column| [(x(column), column.lowest_s), (x(column), column.highest_s)]);
    chart.draw_series(LineSeries::new(band, ERROR.stroke_width(1)))?;

    // In powers of two, as polls are.
    let polls = columns.iter().filter_map(|column| column.poll_s);
    let most = polls.clone().map(f64::log2).fold(0.0, f64::max).round();
    let least = polls.map(f64::log2).fold(most, f64::min).round();
    let mut chart = ChartBuilder::on(&bottom)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, least - 1.0..most + 1.0)?;
    mesh(
        &mut chart,
        "poll interval",
        unit,
        &|power: &f64| match power.fract() {
            0.0 => format!("{} s", power.exp2()),
            _ => String::new(),
        },
    )?;
    for known in columns.split(|column| column.poll_s.is_none()) {
        let powers = known.iter().filter_map(|c| Some((x(c), c.poll_s?.log2())));
        chart.draw_series(LineSeries::new(powers, POLL.stroke_width(2)))?;
    }
    root.present()?;
    Ok(())
}

fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    what: &str,
    time: &str,
    label: &dyn Fn(&f64) -> String,
) -> Result<(), Failure>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(GREY.mix(0.3))
        .y_desc(what)
        .x_desc(time)
        .y_labels(10)
        .y_label_formatter(label)
        .draw()?;
    Ok(())
}

/// A round figure: `10 µs`, `-2.5 ms`.
fn seconds(value: &f64) -> String {
    let magnitude = value.abs();
    let (scale, unit) = match magnitude {
        ..1e-13 => return "0".to_owned(),
        0.9999.. => (1.0, "s"),
        0.9999e-3.. => (1e3, "ms"),
        0.9999e-6.. => (1e6, "µs"),
        _ => (1e9, "ns"),
    };
    let number = format!("{:.3}", value * scale);
    format!(
        "{} {unit}",
        number.trim_end_matches('0').trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::score::{Promise, Second};

    fn records() -> Vec<Record> {
        (1..=10_000_u64)
            .map(|at_s| Record {
                at_s,
                second: Second {
                    error_s: 1e-2 / (at_s as f64) * if at_s % 2 == 0 { 1.0 } else { -1.0 },
                    frequency_error: 0.0,
                    promise: (at_s > 100).then_some(Promise {
                        bound_s: 1e-3,
                        likely_s: 1e-4,
                        served_s: 1e-3,
                    }),
                },
                offset_s: Some(1e-6),
                poll_s: Some(64.0),
            })
            .collect()
    }

    #[test]
    fn a_terminal_shows_a_falling_curve_within_its_width() {
        let text = terminal(&records(), 60, 12);
        assert!(
            text.lines().take(15).all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(
            text.contains("10 ms ┤") && text.contains("10 µs ┤"),
            "{text}"
        );
        assert!(text.contains("66666"), "{text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("   10 ms"), "{text}");
    }

    #[test]
    fn a_file_has_three_charts() {
        let svg = svg(&records(), "a title", 1000.0).unwrap();
        for part in [
            "<svg",
            "a title",
            "poll interval",
            "once settled",
            "promised bound",
            "1 ms",
        ] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn figures_are_round() {
        assert_eq!(seconds(&-2.5e-3), "-2.5 ms");
        assert_eq!(seconds(&1e-6), "1 µs");
        assert_eq!(power_of_ten(-5), "10 µs");
        assert_eq!(power_of_ten(-1), "100 ms");
    }
}
