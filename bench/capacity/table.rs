//! What was measured, as tables.

use std::fmt::Write;

use super::measured::{Cell, Measured, ratio};
use super::{Args, CLIENTS, Load, MANY_CLIENTS, MANY_RATE, MANY_SECONDS, PREFIXES};

/// Requests of each client in interleaved mode.
const EACH: f64 = 60_000.0 * MANY_SECONDS as f64 / MANY_CLIENTS as f64;

/// The tables, in Markdown.
pub fn text(measured: &[Measured<Load>], ceiling: f64, args: &Args) -> String {
    let first = &measured[0];
    let mut text = String::new();
    let out = &mut text;
    let _ = writeln!(
        out,
        "Medians of {} rounds, with the least and the most in brackets; ratios are {}'s to the \
         row's, round by round. {CLIENTS} clients; {} has an access list of {PREFIXES} prefixes, \
         the others none. T3 to T4 is the p99 of the time from a reply's transmit stamp to its \
         arrival, which here is the error of the stamp. {}\n",
        args.rounds,
        first.name,
        first.name,
        generator(measured)
    );
    let _ = writeln!(out, "### All that one core can answer\n");
    let _ = writeln!(
        out,
        "| server | answers/s | generator | ratio | CPU a request | ratio | at 20k/s | ratio | \
         T3 to T4 | memory |"
    );
    let _ = writeln!(
        out,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for one in with(measured, Load::Full) {
        let rate = |cell: &Cell| cell.answered_per_s;
        let cost = |cell: &Cell| cell.cost_us;
        let _ = writeln!(
            out,
            "| {} | {:.0}k | {:.0} % busy, ceiling {:.0}k | {} | {:.2} µs | {} | {:.2} µs | {} | \
             {} | {:.0} MiB |",
            one.name,
            one.median(Load::Full, rate) / 1e3,
            one.median(Load::Full, |cell| cell.generator_busy) * 100.0,
            ceiling / 1e3,
            ratio(first.part_of(one, Load::Full, rate)),
            one.median(Load::Full, cost),
            ratio(first.part_of(one, Load::Full, cost)),
            one.median(Load::Light, cost),
            ratio(first.part_of(one, Load::Light, cost)),
            match one.median(Load::Stamps, |cell| cell.stamp_error_us) {
                // It does not say that its clock is synchronised.
                none if none.is_nan() => "not told".to_owned(),
                some => format!("{some:.1} µs"),
            },
            one.memory_kib as f64 / 1024.0
        );
    }
    let loads = [
        (Load::Light, "20,000", ", evenly"),
        (Load::Heavy, "100,000", ", sixteen at a time"),
    ];
    for (load, rate, how) in loads {
        let _ = writeln!(out, "\n### Delay at {rate} requests a second{how}\n");
        let _ = writeln!(
            out,
            "| server | answered | p50 | ratio | p99 | ratio | p99.9 | ratio |"
        );
        let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
        for one in with(measured, load) {
            let _ = write!(
                out,
                "| {} | {:.2} % |",
                one.name,
                one.median(load, |cell| cell.answered) * 100.0
            );
            let whats: [fn(&Cell) -> f64; 3] =
                [|c| c.delays_us[0], |c| c.delays_us[1], |c| c.delays_us[2]];
            for what in whats {
                let _ = write!(
                    out,
                    " {:.0} µs | {} |",
                    one.median(load, what),
                    ratio(first.part_of(one, load, what))
                );
            }
            let _ = writeln!(out);
        }
    }
    let _ = writeln!(
        out,
        "\n### Interleaved mode: {MANY_CLIENTS} clients, {MANY_RATE} requests a second\n"
    );
    let _ = writeln!(
        out,
        "The share is of requests that could have an interleaved answer; ptntp gives one from a \
         client's third request on, so with {} requests of each client it reaches at most {:.0} %. \
         chronyd-large has 100 MB for its table of clients.\n",
        EACH,
        100.0 * (EACH - 2.0) / (EACH - 1.0)
    );
    let _ = writeln!(
        out,
        "| server | answered | interleaved | CPU a request | ratio | memory |"
    );
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- |");
    let load = Load::Interleaved;
    for one in with(measured, load) {
        let _ = writeln!(
            out,
            "| {} | {:.1} % | {:.1} % | {:.2} µs | {} | {:.0} MiB |",
            one.name,
            one.median(load, |cell| cell.answered) * 100.0,
            one.median(load, |cell| cell.interleaved) * 100.0,
            one.median(load, |cell| cell.cost_us),
            ratio(first.part_of(one, load, |cell| cell.cost_us)),
            one.memory_kib as f64 / 1024.0
        );
    }
    text
}

/// In how many measurements the generator was the limit.
fn generator(measured: &[Measured<Load>]) -> String {
    let all = measured.iter().flat_map(Measured::cells).count();
    let of = |one: &Measured<Load>| one.cells().filter(|cell| cell.generator_limits).count();
    let which: Vec<String> = measured
        .iter()
        .filter(|one| of(one) > 0)
        .map(|one| format!("{} of {}", of(one), one.name))
        .collect();
    match which.as_slice() {
        [] => format!("The generator was the limit in none of {all} measurements."),
        _ => format!(
            "The generator may have been the limit in these of {all} measurements: {}.",
            which.join(", ")
        ),
    }
}

/// Those that were measured under this load.
fn with(measured: &[Measured<Load>], load: Load) -> impl Iterator<Item = &Measured<Load>> {
    measured.iter().filter(move |one| one.has(load))
}

/// Rewrites what stands between the marks in `docs/PERFORMANCE.md`, and the plot.
pub fn write_docs(measured: &[Measured<Load>], text: &str) -> std::io::Result<()> {
    rewrite(BEGIN, END, text)?;
    std::fs::write(docs().join("performance.svg"), plot(measured))
}

/// Rewrites what stands between two marks in `docs/PERFORMANCE.md`.
pub fn rewrite(begin: &str, end: &str, text: &str) -> std::io::Result<()> {
    let path = docs().join("PERFORMANCE.md");
    let old = std::fs::read_to_string(&path)?;
    let cut = |mark: &str| {
        old.find(mark)
            .ok_or_else(|| std::io::Error::other(format!("{} has no {mark}", path.display())))
    };
    let (begin, end) = (cut(begin)? + begin.len(), cut(end)?);
    let new = format!("{}\n\n{}\n{}", &old[..begin], text.trim_end(), &old[end..]);
    std::fs::write(&path, new)
}

fn docs() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

const BEGIN: &str = "<!-- bench/compare --docs writes from here -->";
const END: &str = "<!-- to here -->";

/// Bars: answers a second of one core.
fn plot(measured: &[Measured<Load>]) -> String {
    const ROW: usize = 28;
    let rate = |one: &Measured<Load>| one.median(Load::Full, |cell| cell.answered_per_s);
    let most = measured.iter().map(rate).fold(0.0, f64::max);
    let mut rows = String::new();
    let mut y = 40;
    for one in with(measured, Load::Full) {
        let width = rate(one) / most * 420.0;
        let colour = if one.name.starts_with("ptntp") {
            "#1b6ca8"
        } else {
            "#9aa5b1"
        };
        let _ = writeln!(
            rows,
            "<text x=\"130\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"140\" y=\"{y}\" width=\"{width:.0}\" height=\"18\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{}\">{:.0}k</text>",
            y + 14,
            one.name,
            width + 146.0,
            y + 14,
            rate(one) / 1e3
        );
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">Answers a second, one core, {CLIENTS} clients</text>\n\
         {rows}</svg>\n",
        y + 10
    )
}
