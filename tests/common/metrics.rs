//! Prometheus: a scrape over plain HTTP, the text format, quantiles of histograms.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One sample of the text format.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    pub samples: Vec<Sample>,
    /// Family to its TYPE.
    pub types: BTreeMap<String, String>,
    /// Family to its HELP.
    pub help: BTreeMap<String, String>,
}

/// GETs `/metrics`. Call it inside the daemon's namespace.
pub fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Splits head and body; panics unless the answer is 200.
pub fn body(answer: &str) -> &str {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        !head.to_ascii_lowercase().contains("chunked"),
        "a plain body is expected: {head}"
    );
    body
}

impl Scrape {
    /// Reads the text format; panics at a line that is none of it.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let kind = words.next().unwrap_or_default();
                let family = words.next().unwrap_or_default().to_owned();
                let rest = words.next().unwrap_or_default().to_owned();
                match kind {
                    "TYPE" => scrape.types.insert(family, rest),
                    "HELP" => scrape.help.insert(family, rest),
                    _ => None,
                };
            } else {
                let sample = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
                scrape.samples.push(sample);
            }
        }
        scrape
    }

    /// The only sample of a name, or none.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.sum(name, &[])
    }

    /// The sum of all samples of a name that have these labels; none if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self
            .samples
            .iter()
            .filter(|s| s.name == name)
            .filter(|s| {
                labels
                    .iter()
                    .all(|(k, v)| s.labels.get(*k).is_some_and(|l| l == v))
            })
            .map(|s| s.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// A histogram, all its label sets added up.
    pub fn histogram(&self, family: &str) -> Histogram {
        let name = format!("{family}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples.iter().filter(|s| s.name == name) {
            let le: f64 = sample.labels["le"].parse().expect("le is a number");
            match buckets.iter_mut().find(|(bound, _)| *bound == le) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((le, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Histogram { buckets }
    }
}

/// A real Prometheus histogram: (upper bound, samples up to it).
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// Samples in all.
    pub fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// What was added since an earlier scrape.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |le: f64| {
            let bucket = earlier.buckets.iter().find(|(bound, _)| *bound == le);
            bucket.map_or(0.0, |(_, count)| *count)
        };
        let buckets = self.buckets.iter();
        Self {
            buckets: buckets.map(|(le, n)| (*le, n - before(*le))).collect(),
        }
    }

    /// The bound of the bucket that holds quantile `q`: never less than the quantile.
    pub fn quantile(&self, q: f64) -> f64 {
        let wanted = q * self.count();
        let bucket = self.buckets.iter().find(|(_, count)| *count >= wanted);
        bucket.map_or(f64::INFINITY, |(le, _)| *le)
    }
}

/// `name{label="value",...} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample {
            name: series.into(),
            labels: BTreeMap::new(),
            value,
        });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        // Values of ours have no escaped quotes.
        let (text, after) = after.split_once('"')?;
        labels.insert(label.to_owned(), text.to_owned());
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample {
        name: name.into(),
        labels,
        value,
    })
}
