//! The result as a web page of one file, without scripts: figures, and curves of
//! delay and loss.

use std::fmt::Write as _;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::load::report::{Report, Step, count, duration, share};
use crate::load::tally::INTERVALS;

/// Size of a chart.
const SIZE: (u32, u32) = (860, 320);
const BLUE: RGBColor = RGBColor(31, 95, 168);
const ORANGE: RGBColor = RGBColor(208, 112, 16);
const RED: RGBColor = RGBColor(184, 32, 32);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// Points of one curve.
struct Curve {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The whole page.
///
/// # Errors
/// A chart that can't be drawn, in words.
pub fn html(report: &Report) -> Result<String, String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>ptntp bench {0}</title>\n<style>\nbody {{ font: 15px/1.5 sans-serif; max-width: \
         56em; margin: 2em auto; padding: 0 1em; }}\npre {{ overflow-x: auto; background: #f4f4f4; \
         padding: 1em; }}\nsvg {{ max-width: 100%; height: auto; }}\n</style>\n\
         <h1>ptntp bench {0}</h1>\n<pre>{1}</pre>\n",
        escape(&report.server),
        escape(&report.text())
    );
    for (title, svg) in charts(report).map_err(|error| format!("can't draw: {error}"))? {
        let _ = write!(page, "<h2>{}</h2>\n{svg}\n", escape(&title));
    }
    let json = serde_json::to_string_pretty(&report.json()).unwrap_or_default();
    let _ = write!(
        page,
        "<details><summary>All figures, as JSON</summary>\n<pre>{}</pre></details>\n</html>\n",
        escape(&json)
    );
    Ok(page)
}

type Drawn = Result<String, Box<dyn std::error::Error>>;

fn charts(report: &Report) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let step = report.result();
    let mut all = Vec::new();
    if report.steps.len() > 1 {
        all.push(("Delay by rate".to_owned(), delay_by_rate(&report.steps)?));
        all.push(("Loss by rate".to_owned(), loss_by_rate(&report.steps)?));
    }
    let of = step
        .offered
        .map_or(String::new(), |rate| format!(" at {}/s", count(rate)));
    all.push((format!("Delay by percentile{of}"), percentiles(step)?));
    all.push((format!("Delay over time{of}"), delay_over_time(step)?));
    all.push((format!("Loss over time{of}"), loss_over_time(step)?));
    Ok(all)
}

fn by_rate(steps: &[Step], value: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = steps
        .iter()
        .filter_map(|step| Some((step.offered?, value(step))))
        .collect();
    // A search comes back to where it was.
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn delay_by_rate(steps: &[Step]) -> Drawn {
    let quantile = |q| {
        by_rate(steps, |step| {
            step.tally.delays_ns.value_at_quantile(q) as f64
        })
    };
    delays("requests/s", &|x| count(*x), &quantiles(quantile))
}

fn loss_by_rate(steps: &[Step]) -> Drawn {
    let points = by_rate(steps, |step| 100.0 * step.tally.failure());
    losses("requests/s", &|x| count(*x), points)
}

fn quantiles(points: impl Fn(f64) -> Vec<(f64, f64)>) -> Vec<Curve> {
    [
        ("p50", 0.5, BLUE),
        ("p99", 0.99, ORANGE),
        ("p99.9", 0.999, RED),
    ]
    .map(|(name, quantile, colour)| Curve {
        name,
        colour,
        points: points(quantile),
    })
    .into()
}

/// The share of slower requests falls by powers of ten to the right.
fn percentiles(step: &Step) -> Drawn {
    let points = (0..=50).map(|n| {
        let nines = f64::from(n) / 10.0;
        let quantile = 1.0 - 10_f64.powf(-nines);
        let delay_ns = step.tally.delays_ns.value_at_quantile(quantile);
        (nines, delay_ns as f64)
    });
    let curve = Curve {
        name: "delay",
        colour: BLUE,
        points: points.collect(),
    };
    let label = |nines: &f64| match nines.fract() {
        0.0 => format!("{}", 100.0 - 100.0 * 10_f64.powf(-nines)),
        _ => String::new(),
    };
    delays("percentile", &label, &[curve])
}

fn over_time(step: &Step, value: impl Fn(usize) -> Option<f64>) -> Vec<(f64, f64)> {
    let part_s = step.tally.length_ns as f64 * 1e-9 / INTERVALS as f64;
    let points = (0..step.tally.intervals.len()).filter_map(|n| {
        let middle_s = (n as f64 + 0.5) * part_s;
        Some((middle_s, value(n)?))
    });
    points.collect()
}

fn delay_over_time(step: &Step) -> Drawn {
    let curves = quantiles(|quantile| {
        over_time(step, |n| {
            let delays_ns = &step.tally.intervals[n].delays_ns;
            (!delays_ns.is_empty()).then(|| delays_ns.value_at_quantile(quantile) as f64)
        })
    });
    delays("seconds", &|x| format!("{x:.2}"), &curves)
}

fn loss_over_time(step: &Step) -> Drawn {
    let points = over_time(step, |n| {
        let interval = &step.tally.intervals[n];
        let lost = interval.sent.saturating_sub(interval.answered);
        (interval.sent > 0).then(|| 100.0 * lost as f64 / interval.sent as f64)
    });
    losses("seconds", &|x| format!("{x:.2}"), points)
}

/// A chart of delays, on a logarithmic scale.
fn delays(what: &str, label: &dyn Fn(&f64) -> String, curves: &[Curve]) -> Drawn {
    let values = || curves.iter().flat_map(|c| &c.points).map(|p| p.1.max(1.0));
    let low = values().fold(f64::INFINITY, f64::min).min(1e9);
    let high = values().fold(low * 10.0, f64::max);
    let range = (low * 0.8..high * 1.2).log_scale();
    chart(curves, range, what, "delay", label, &|ns: &f64| {
        duration(*ns)
    })
}

/// A chart of shares in percent.
fn losses(what: &str, label: &dyn Fn(&f64) -> String, points: Vec<(f64, f64)>) -> Drawn {
    let high = points.iter().map(|p| p.1).fold(1.0, f64::max);
    let curve = Curve {
        name: "lost",
        colour: RED,
        points,
    };
    let percent = |p: &f64| share(p / 100.0);
    chart(&[curve], 0.0..high * 1.1, what, "lost", label, &percent)
}

fn chart<Y>(
    curves: &[Curve],
    range: Y,
    what: &str,
    value: &str,
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let xs = || curves.iter().flat_map(|c| &c.points).map(|p| p.0);
    let from = xs().fold(f64::INFINITY, f64::min).min(1e12);
    let to = xs().fold(from, f64::max);
    let to = if to > from { to } else { from + 1.0 };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(from..to, range)?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GREY.mix(0.3))
            .x_desc(what)
            .y_desc(value)
            .x_label_formatter(x_label)
            .y_label_formatter(y_label)
            .draw()?;
        for curve in curves {
            let colour = curve.colour;
            chart
                .draw_series(LineSeries::new(
                    curve.points.iter().map(|p| (p.0, p.1.max(0.0))),
                    colour.stroke_width(2),
                ))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        if curves.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .draw()?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::Tally;

    fn step(rate: f64) -> Step {
        let mut tally = Tally::new(1_000_000_000);
        tally.meant = Some(1000);
        (tally.sent, tally.basic, tally.lost) = (1000, 990, 10);
        for n in 1..=990 {
            tally.delayed(n * 1000);
            let interval = &mut tally.intervals[n as usize % INTERVALS];
            interval.sent += 1;
            interval.answered += 1;
            interval.delays_ns.saturating_record(n * 1000);
        }
        Step {
            offered: Some(rate),
            tally,
        }
    }

    fn report(steps: Vec<Step>) -> Report {
        Report {
            server: "<&>:123".to_owned(),
            origin: "64 ports".to_owned(),
            clients: 64,
            threads: 1,
            ceiling: None,
            chosen: 0,
            steps,
            found: None,
            interrupted: false,
            error: None,
        }
    }

    #[test]
    fn one_file_has_all_curves_and_no_foreign_markup() {
        let page = html(&report(vec![step(100.0)])).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("&lt;&amp;&gt;:123") && !page.contains("<&>"));
        for part in ["99.9", "Delay over time", "p99.9", "http"] {
            let foreign = part == "http" && page.replace("http://www.w3.org", "").contains(part);
            assert!(
                !foreign && (part == "http" || page.contains(part)),
                "{part}"
            );
        }
        let page = html(&report(vec![step(100.0), step(200.0)])).unwrap();
        assert_eq!(page.matches("<svg").count(), 5);
    }

    #[test]
    fn nothing_that_came_back_can_be_drawn_too() {
        let mut empty = step(1.0);
        empty.tally = Tally::new(1);
        assert!(html(&report(vec![empty])).is_ok());
    }
}
