//! How right ptntp is in all weathers, beside what others reach: the tables of
//! `docs/ACCURACY.md`. `bench/accuracy` runs it.

mod weather;

use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Parser;

use weather::rows::{Rows, read};
use weather::{ablation, bounds, cost, docs, report, results};

/// Tables of ptntp's true error in simulated weather, beside what others reach
#[derive(Parser, Debug)]
#[command(
    name = "bench/accuracy",
    bin_name = "bench/accuracy",
    after_help = "\
Rows are those of bench/weather.txt, which has what others reach, and the scenarios in bench/scenarios.

Exit status: 1 when a bound was broken, 2 when something can't be read or written, else 0; targets
that are missed are in the tables."
)]
struct Args {
    /// Seeds a row; figures are their medians
    #[arg(long, value_name = "N", default_value = "11")]
    seeds: NonZeroU64,

    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_seed: u64,

    /// Only these rows
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    rows: Vec<String>,

    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Rewrite the tables and plots of docs/ACCURACY.md, and tests/sim/snapshots.txt
    #[arg(long, conflicts_with_all = ["rows", "json", "markdown"])]
    docs: bool,

    /// Count broken bounds in at least this many simulated seconds [default: 1e7]: all rows and all
    /// scenarios that come with ptntp, each also with its whole delay hidden on one way
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1e7",
          conflicts_with_all = ["docs", "json"])]
    bounds: Option<f64>,

    /// What gets worse without each mechanism, or without these
    #[arg(long, value_name = "NAME", num_args = 0..=1, value_delimiter = ',', default_missing_value = "all",
          conflicts_with_all = ["docs", "json", "bounds"])]
    ablation: Option<Vec<String>>,

    /// What a sample costs of the processor's time, and a source of memory
    #[arg(long, conflicts_with_all = ["docs", "json", "bounds", "ablation"])]
    cost: bool,

    /// What `cargo bench` says to every benchmark.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

impl Args {
    fn seeds(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed + self.seeds.get()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = read().and_then(|mut rows| {
        rows.choose(&args.rows)?;
        measure(&args, &rows)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(sentence) => {
            eprintln!("bench/accuracy: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// Did all bounds hold?
fn measure(args: &Args, rows: &Rows) -> Result<bool, String> {
    let show = |tables: &[report::Table]| {
        for table in tables {
            if args.markdown {
                println!("{}", table.markdown());
            } else {
                println!("{}", table.text());
            }
        }
    };
    if let Some(seconds) = args.bounds {
        let (table, held) = bounds::count(rows, args.first_seed, seconds);
        show(&[table]);
        return Ok(held);
    }
    if args.cost {
        show(&[cost::table()]);
        return Ok(true);
    }
    if let Some(names) = &args.ablation {
        show(&ablation::tables(rows, args.seeds(), names)?);
        return Ok(true);
    }
    let results = results::measure(rows, args.seeds());
    if args.docs {
        docs::write(rows, &results)?;
    } else if args.json {
        println!("{}", results.json());
    } else {
        show(&report::tables(&results));
    }
    let mut promised = results.rows.iter().filter(|row| row.promised);
    Ok(promised.all(|row| row.figures.broken + row.figures.broken_served == 0))
}
