//! From the text of a scenario to [`Scenario`]: one statement a line, in the
//! operator's words; `#` begins a comment. A later statement replaces an earlier
//! one of its kind, so that lines can be appended to change a scenario.

use std::fmt;

use crate::mechanisms::Mechanism;
use crate::sim::dice::Direction;
use crate::sim::scenario::{
    DelayLaw, Event, Expect, FrequencySteps, Happening, Scenario, ServerSpec, Shape, Sine, Term,
    Way, When,
};
use crate::sync::filter::Start;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::stamp::StampOrigin;
use crate::time::units::{PollExponent, Ppm, Precision};
use crate::wire::packet::Leap;

/// What is wrong with a scenario, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The file.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what to write.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Most servers a scenario may have: one octet of address.
const SERVERS_MAX: usize = 200;
/// Longest time that can be said: a thousand days.
const TIME_MAX_S: f64 = 1000.0 * 86_400.0;
/// No clock is worse than this.
const FREQUENCY_MAX_PPM: f64 = 10_000.0;
/// Nor does any wander more than this in a second.
const WANDER_MAX: f64 = 1e-4;
/// All statements, for whoever mistypes one.
const STATEMENTS: &str = "about, length, settle, start, clock, stamps, precision, driftfile, \
                          server, up, down, both, asymmetry, loss, duplicate, reorder, outage, \
                          at, leap, step, select, without, expect or promise";

/// Reads a scenario named `name` from texts, each with the name of its file.
pub fn parse(name: &str, texts: &[(&str, &str)]) -> Result<Scenario, ParseError> {
    let mut scenario = Scenario::new(name);
    let mut last = ("", 0);
    for &(file, text) in texts {
        for (index, line) in text.lines().enumerate() {
            last = (file, index + 1);
            statement(&mut scenario, line, index + 1).map_err(|message| ParseError {
                file: file.to_owned(),
                line: index + 1,
                message,
            })?;
        }
    }
    finish(&mut scenario).map_err(|message| ParseError {
        file: last.0.to_owned(),
        line: last.1,
        message,
    })?;
    Ok(scenario)
}

/// A length of time on its own, such as `2d`: seconds.
pub fn length(text: &str) -> Result<f64, String> {
    let mut words = Words::new(text);
    let seconds = words.duration()?;
    words.end()?;
    if seconds >= 1.0 {
        Ok(seconds)
    } else {
        Err("at least 1 s".to_owned())
    }
}

/// What only the whole can tell.
fn finish(scenario: &mut Scenario) -> Result<(), String> {
    if scenario.length_s < 1.0 {
        return Err("the scenario has no length: write `length 40000 s`".to_owned());
    }
    if scenario.servers.is_empty() {
        return Err("there is nobody to ask: write `server a`".to_owned());
    }
    if scenario.settle_s >= scenario.length_s {
        return Err("it ends before it counts: make `settle` shorter than `length`".to_owned());
    }
    // Whatever lines came after the word for it.
    for server in &mut scenario.servers {
        server.make_asymmetric();
    }
    scenario.events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(())
}

type Fault = String;

fn statement(scenario: &mut Scenario, line: &str, number: usize) -> Result<(), Fault> {
    let text = line.split('#').next().unwrap_or_default().trim();
    let mut words = Words::new(text);
    let Some(key) = words.next() else {
        return Ok(());
    };
    match key {
        "about" => {
            scenario.about = words.rest();
        }
        "length" => {
            scenario.length_s = words.duration()?;
        }
        "settle" => scenario.settle_s = words.duration()?,
        "start" => scenario.start = words.date()?,
        "clock" => clock(scenario, &mut words)?,
        "stamps" => stamps(scenario, &mut words)?,
        "precision" => scenario.precision = Some(words.precision()?),
        "driftfile" => scenario.drift = Some(drift(&mut words)?),
        "server" => server(scenario, &mut words)?,
        "up" | "down" | "both" => {
            let servers = words.servers(scenario)?;
            let (law, more) = law(&mut words)?;
            each_way(scenario, &servers, key, |way| {
                if more {
                    way.delay.terms.extend_from_slice(&law.terms);
                } else {
                    way.delay = law.clone();
                }
            });
        }
        "asymmetry" => {
            let servers = words.servers(scenario)?;
            let share = words.percent()?;
            let longer = words.one_of(&[("up", Direction::Up), ("down", Direction::Down)])?;
            for server in servers {
                scenario.servers[server].asymmetry = Some((share, longer));
            }
        }
        "loss" | "duplicate" | "reorder" => luck(scenario, key, &mut words)?,
        "outage" => {
            let servers = words.servers(scenario)?;
            let (from_s, to_s) = words.span()?;
            for server in servers {
                scenario.servers[server].outages_s.push((from_s, to_s));
            }
        }
        "at" => event(scenario, &mut words)?,
        "leap" => {
            let leap = words.one_of(&[("insert", Leap::Insert), ("delete", Leap::Delete)])?;
            words.literal("at")?;
            scenario.leap = Some((leap, words.date()?));
        }
        "step" => step(scenario, &mut words)?,
        "select" => select(scenario, &mut words)?,
        "without" => {
            while words.peek().is_some() {
                let mechanism = words.one_of(&Mechanism::ALL)?;
                scenario.mechanisms = scenario.mechanisms.without(mechanism);
            }
        }
        "expect" => expect(scenario, &mut words, number)?,
        "promise" => scenario.promised = words.one_of(&[("kept", true), ("none", false)])?,
        _ => return Err(format!("`{key}` is no statement: write {STATEMENTS}")),
    }
    words.end()
}

fn clock(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    let clock = &mut scenario.clock;
    while let Some(word) = words.next() {
        match word {
            "offset" => clock.offset_s = words.duration()?,
            "frequency" => clock.frequency = words.frequency()?,
            "wander" => {
                clock.wander = words.number()?;
                if clock.wander > WANDER_MAX {
                    return Err(format!("`wander` ends at {WANDER_MAX:e}"));
                }
            }
            "sine" => {
                let amplitude = words.frequency()?.ratio();
                words.literal("period")?;
                let period_s = words.positive_duration()?;
                clock.sine = Some(Sine {
                    amplitude,
                    period_s,
                });
            }
            "frequency-step" => {
                let by = words.frequency()?;
                words.literal("every")?;
                clock.steps = Some(FrequencySteps {
                    by,
                    every_s: words.positive_duration()?,
                    random: words.take_if("random"),
                });
            }
            _ => {
                return Err(words.unknown(
                    word,
                    "offset 10 ms, frequency 10 ppm, wander 1e-9, sine 0.5 ppm period 1 h, or \
                     frequency-step 1 ppm every 2 h [random]",
                ));
            }
        }
    }
    Ok(())
}

fn stamps(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    let stamps = &mut scenario.stamps;
    stamps.origin = words.one_of(&[
        ("daemon", StampOrigin::Daemon),
        ("kernel", StampOrigin::Kernel),
        ("hardware", StampOrigin::Hardware),
    ])?;
    while let Some(word) = words.next() {
        match word {
            "noise" => stamps.noise = law(words)?.0,
            "quantum" => {
                let quantum_s = words.positive_duration()?;
                stamps.quantum_ns = ((quantum_s * 1e9).round() as i64).max(1);
            }
            _ => return Err(words.unknown(word, "noise gauss 1 us, or quantum 1 ns")),
        }
    }
    Ok(())
}

fn drift(words: &mut Words<'_>) -> Result<Start, Fault> {
    let frequency = words.frequency()?;
    words.literal("sigma")?;
    Ok(Start {
        frequency,
        frequency_sigma: words.frequency()?,
    })
}

fn server(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    let name = words.any("a name for the server, such as a")?;
    let known = scenario.servers.iter().any(|server| server.name == name);
    if name != "all" && !known {
        if scenario.servers.len() == SERVERS_MAX {
            return Err(format!("at most {SERVERS_MAX} servers"));
        }
        scenario.servers.push(ServerSpec::new(name));
    }
    let chosen = chosen(scenario, name)?;
    let start = words.clone();
    for index in chosen {
        *words = start.clone();
        server_options(&mut scenario.servers[index], words)?;
    }
    Ok(())
}

fn server_options(server: &mut ServerSpec, words: &mut Words<'_>) -> Result<(), Fault> {
    let options = &mut server.options;
    while let Some(word) = words.next() {
        match word {
            "minpoll" => options.minpoll = words.poll()?,
            "maxpoll" => options.maxpoll = words.poll()?,
            "iburst" => options.iburst = true,
            "burst" => options.burst = true,
            "xleave" => options.xleave = true,
            "basic" => options.xleave = false,
            "prefer" => options.prefer = true,
            "noselect" => options.noselect = true,
            "error" => server.error.offset_s = words.duration()?,
            "frequency" => server.error.frequency = words.frequency()?,
            "sine" => {
                let amplitude = words.duration()?;
                words.literal("period")?;
                let period_s = words.positive_duration()?;
                server.error.sine = Some(Sine {
                    amplitude,
                    period_s,
                });
            }
            "stratum" => server.stratum = words.number()?.clamp(1.0, 15.0) as u8,
            "root-delay" => server.root_delay_s = words.duration()?,
            "root-dispersion" => server.root_dispersion_s = words.duration()?,
            "precision" => server.precision = words.precision()?,
            "departs" => server.departs = law(words)?.0,
            _ => {
                return Err(words.unknown(
                    word,
                    "minpoll, maxpoll, iburst, burst, xleave, basic, prefer, noselect, error, \
                     frequency, sine, stratum, root-delay, root-dispersion, precision or departs",
                ));
            }
        }
    }
    if server.options.minpoll > server.options.maxpoll {
        return Err("`minpoll` is above `maxpoll`".to_owned());
    }
    Ok(())
}

/// A sum of delays. Does it begin with `+`, to be added to what is there?
fn law(words: &mut Words<'_>) -> Result<(DelayLaw, bool), Fault> {
    let more = words.take_if("+");
    let mut terms = Vec::new();
    loop {
        let shape = match words.peek() {
            Some("exp") => Shape::Exponential,
            Some("gauss") => Shape::Gauss,
            Some("heavy") => Shape::Heavy,
            Some("uniform") => Shape::Uniform,
            _ => Shape::Constant,
        };
        if shape != Shape::Constant || words.peek() == Some("constant") {
            words.next();
        }
        terms.push(Term {
            shape,
            scale_s: words.duration().map_err(|fault| {
                format!("{fault}; a delay is a sum such as `20 ms + exp 1 ms during 600 s of 1 h`")
            })?,
            when: when(words)?,
        });
        if !words.take_if("+") {
            return Ok((DelayLaw { terms }, more));
        }
    }
}

fn when(words: &mut Words<'_>) -> Result<When, Fault> {
    if words.take_if("during") {
        let for_s = words.positive_duration()?;
        words.literal("of")?;
        let of_s = words.positive_duration()?;
        let ramp_s = if words.take_if("ramp") {
            words.duration()?
        } else {
            0.0
        };
        return Ok(When::During {
            for_s,
            of_s,
            ramp_s,
        });
    }
    if words.peek() == Some("from") {
        let (from_s, to_s) = words.span()?;
        return Ok(When::Between { from_s, to_s });
    }
    Ok(When::Always)
}

fn luck(scenario: &mut Scenario, key: &str, words: &mut Words<'_>) -> Result<(), Fault> {
    let servers = words.servers(scenario)?;
    let direction = words.one_of(&[("up", "up"), ("down", "down"), ("both", "both")])?;
    let share = words.percent()?;
    let hold_s = if key == "reorder" {
        words.literal("by")?;
        words.duration()?
    } else {
        0.0
    };
    each_way(scenario, &servers, direction, |way| match key {
        "loss" => way.loss = share,
        "duplicate" => way.duplicate = share,
        _ => (way.reorder, way.reorder_s) = (share, hold_s),
    });
    Ok(())
}

fn each_way(
    scenario: &mut Scenario,
    servers: &[usize],
    direction: &str,
    change: impl Fn(&mut Way),
) {
    for &server in servers {
        let server = &mut scenario.servers[server];
        if direction != "down" {
            change(&mut server.up);
        }
        if direction != "up" {
            change(&mut server.down);
        }
    }
}

fn event(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    const EVENTS: &str = "clock step 5 ms, clock frequency-step 1 ppm, or server a step 20 ms, \
                          server a loses-time, server a has-time";
    let at_s = words.duration()?;
    let mut happenings = Vec::new();
    match words.any(EVENTS)? {
        "clock" => happenings.push(match words.any(EVENTS)? {
            "step" => Happening::ClockStep(words.duration()?),
            "frequency-step" => Happening::FrequencyStep(words.frequency()?),
            word => return Err(words.unknown(word, EVENTS)),
        }),
        "server" => {
            let servers = words.servers(scenario)?;
            let word = words.any(EVENTS)?;
            let by_s = if word == "step" {
                words.duration()?
            } else {
                0.0
            };
            for server in servers {
                happenings.push(match word {
                    "step" => Happening::ServerStep { server, by_s },
                    "loses-time" | "has-time" => Happening::ServerSync {
                        server,
                        has_time: word == "has-time",
                    },
                    _ => return Err(words.unknown(word, EVENTS)),
                });
            }
        }
        word => return Err(words.unknown(word, EVENTS)),
    }
    let events = happenings.into_iter().map(|what| Event { at_s, what });
    scenario.events.extend(events);
    Ok(())
}

fn step(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    let step = &mut scenario.step;
    while let Some(word) = words.next() {
        match word {
            "threshold" => step.threshold = words.duration_or_none()?,
            "panic" => step.panic = words.duration_or_none()?,
            "stepout" => step.stepout = NtpDuration::from_seconds(words.duration()?),
            "first-unlimited" => step.first_unlimited = true,
            _ => {
                return Err(words.unknown(
                    word,
                    "threshold 0.1 s, panic none, stepout 300 s, or first-unlimited",
                ));
            }
        }
    }
    Ok(())
}

fn select(scenario: &mut Scenario, words: &mut Words<'_>) -> Result<(), Fault> {
    let select = &mut scenario.select;
    while let Some(word) = words.next() {
        match word {
            "minsane" => select.minsane = words.number()? as usize,
            "minclock" => select.minclock = words.number()? as usize,
            "mindist" => select.mindist = NtpDuration::from_seconds(words.duration()?),
            "maxdist" => select.maxdist = NtpDuration::from_seconds(words.duration()?),
            _ => {
                return Err(words.unknown(
                    word,
                    "minsane 1, minclock 3, mindist 1 ms, or maxdist 1.5 s",
                ));
            }
        }
    }
    Ok(())
}

/// What may be expected, and what is compared with: a duration, a frequency or a count.
const FIGURES: [(&str, Unit); 12] = [
    ("rms", Unit::Duration),
    ("p99", Unit::Duration),
    ("max", Unit::Duration),
    ("frequency-rms", Unit::Frequency),
    ("frequency-max", Unit::Frequency),
    ("to-1ms", Unit::Duration),
    ("to-100us", Unit::Duration),
    ("to-10us", Unit::Duration),
    ("to-1us", Unit::Duration),
    ("steps", Unit::Count),
    ("packets", Unit::Count),
    ("unsynchronised", Unit::Duration),
];

#[derive(Clone, Copy)]
enum Unit {
    Duration,
    Frequency,
    Count,
}

fn expect(scenario: &mut Scenario, words: &mut Words<'_>, line: usize) -> Result<(), Fault> {
    let text = words.rest_to_come();
    let figure = words.any("what is expected, such as `rms < 5 us`")?;
    let Some(&(_, unit)) = FIGURES.iter().find(|(name, _)| *name == figure) else {
        let names: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
        return Err(words.unknown(figure, &names.join(", ")));
    };
    words.literal("<")?;
    let below = match unit {
        Unit::Duration => words.duration()?,
        Unit::Frequency => words.frequency()?.ratio(),
        Unit::Count => words.number()?,
    };
    scenario.expects.push(Expect {
        line,
        figure: figure.to_owned(),
        below,
        text,
    });
    Ok(())
}

/// The words of one line, to be taken one by one.
#[derive(Clone)]
struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            words: text.split_whitespace().collect(),
            next: 0,
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.next += 1;
        Some(word)
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn take_if(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.next += usize::from(there);
        there
    }

    fn rest(&mut self) -> String {
        let rest = self.rest_to_come();
        self.next = self.words.len();
        rest
    }

    fn rest_to_come(&self) -> String {
        self.words[self.next..].join(" ")
    }

    fn end(&self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is too much here: leave it out")),
        }
    }

    /// The sentence for a word that is not known here.
    fn unknown(&self, word: &str, instead: &str) -> Fault {
        format!("`{word}` is not known here: write {instead}")
    }

    fn any(&mut self, wanted: &str) -> Result<&'a str, Fault> {
        self.next()
            .ok_or_else(|| format!("the line ends too early: write {wanted}"))
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        let found = self.any(&format!("`{word}`"))?;
        if found == word {
            Ok(())
        } else {
            Err(self.unknown(found, &format!("`{word}`")))
        }
    }

    fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, Fault> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let names = names.join(" or ");
        let word = self.any(&names)?;
        let chosen = choices.iter().find(|(name, _)| *name == word);
        chosen
            .map(|&(_, value)| value)
            .ok_or_else(|| self.unknown(word, &names))
    }

    /// A number and its unit, in one word or two; the sign may be written.
    fn quantity(&mut self, units: &[(&str, f64)], example: &str) -> Result<f64, Fault> {
        let word = self.any(example)?;
        let digits = word.len()
            - word
                .trim_end_matches(|c: char| c.is_alphabetic() || c == 'µ')
                .len();
        let (number, attached) = word.split_at(word.len() - digits);
        let value: f64 = number
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| {
                format!("`{word}` is no number with a unit: write one such as {example}")
            })?;
        let unit = if attached.is_empty() {
            self.next().unwrap_or_default()
        } else {
            attached
        };
        let known = units.iter().find(|(name, _)| *name == unit);
        let Some(&(_, scale)) = known else {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "`{number}` needs a unit ({}), as in {example}",
                names.join(", ")
            ));
        };
        Ok(value * scale)
    }

    /// Seconds.
    fn duration(&mut self) -> Result<f64, Fault> {
        const UNITS: [(&str, f64); 8] = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("min", 60.0),
            ("h", 3600.0),
            ("d", 86_400.0),
        ];
        let written = self.rest_to_come();
        let seconds = self.quantity(&UNITS, "10 ms")?;
        if seconds.abs() <= TIME_MAX_S {
            Ok(seconds)
        } else {
            Err(format!("`{written}`: times end at 1000 d"))
        }
    }

    fn positive_duration(&mut self) -> Result<f64, Fault> {
        let written = self.rest_to_come();
        let seconds = self.duration()?;
        if seconds > 0.0 {
            Ok(seconds)
        } else {
            Err(format!("`{written}`: it has to be longer than nothing"))
        }
    }

    fn duration_or_none(&mut self) -> Result<Option<NtpDuration>, Fault> {
        if self.take_if("none") {
            return Ok(None);
        }
        Ok(Some(NtpDuration::from_seconds(self.duration()?)))
    }

    fn frequency(&mut self) -> Result<Ppm, Fault> {
        let written = self.rest_to_come();
        let ppm = self.quantity(&[("ppm", 1.0), ("ppb", 1e-3)], "10 ppm")?;
        if ppm.abs() <= FREQUENCY_MAX_PPM {
            Ok(Ppm(ppm))
        } else {
            Err(format!("`{written}`: frequencies end at 10000 ppm"))
        }
    }

    /// 0 to 1.
    fn percent(&mut self) -> Result<f64, Fault> {
        let word = self.any("a share such as 1 %")?;
        let number = word.strip_suffix('%');
        let share = number.unwrap_or(word).parse().ok();
        if number.is_none() {
            self.literal("%")?;
        }
        share
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent: f64| percent / 100.0)
            .ok_or_else(|| format!("`{word}` is no share: write one from 0 % to 100 %"))
    }

    fn number(&mut self) -> Result<f64, Fault> {
        let word = self.any("a number")?;
        let value = word
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite() && *n >= 0.0);
        value.ok_or_else(|| format!("`{word}` is no number: write one such as 3 or 1e-9"))
    }

    fn integer(&mut self, name: &str, from: i8, to: i8) -> Result<i8, Fault> {
        let word = self.any(&format!("a {name} such as {to}"))?;
        let value = word.parse().ok().filter(|n| (from..=to).contains(n));
        value.ok_or_else(|| {
            format!("`{word}` is no {name}: write a whole number from {from} to {to}")
        })
    }

    fn poll(&mut self) -> Result<PollExponent, Fault> {
        self.integer("poll exponent", -7, 17).map(PollExponent::new)
    }

    fn precision(&mut self) -> Result<Precision, Fault> {
        self.integer("precision", -32, 0).map(Precision::new)
    }

    /// `from T to T`.
    fn span(&mut self) -> Result<(f64, f64), Fault> {
        self.literal("from")?;
        let from_s = self.duration()?;
        self.literal("to")?;
        Ok((from_s, self.duration()?))
    }

    /// A server's name, or `all`.
    fn servers(&mut self, scenario: &Scenario) -> Result<Vec<usize>, Fault> {
        let name = self.any("the name of a server, or all")?;
        chosen(scenario, name)
    }

    /// `2036-02-07T06:00:00Z`.
    fn date(&mut self) -> Result<WallInstant, Fault> {
        let word = self.any("a date such as 2036-02-07T06:00:00Z")?;
        date(word)
            .ok_or_else(|| format!("`{word}` is no date: write one such as 2036-02-07T06:00:00Z"))
    }
}

fn chosen(scenario: &Scenario, name: &str) -> Result<Vec<usize>, Fault> {
    let servers = scenario.servers.iter().enumerate();
    let found: Vec<usize> = servers
        .filter(|(_, server)| name == "all" || server.name == name)
        .map(|(index, _)| index)
        .collect();
    if found.is_empty() {
        return Err(format!(
            "there is no server `{name}`: write `server {name}` in a line before"
        ));
    }
    Ok(found)
}

fn date(word: &str) -> Option<WallInstant> {
    let (day, time) = word.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text
            .split(by)
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(day, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let sane = (1970..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !sane {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const DAYS_TO_1970: i64 = 719_468;
    let seconds = (days - DAYS_TO_1970) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(WallInstant::from_unix_ns(seconds * 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, String> {
        parse("t", &[("t.sim", text)]).map_err(|error| error.to_string())
    }

    const LEAST: &str = "length 1h\nserver a\n";

    fn with(line: &str) -> Result<Scenario, String> {
        read(&format!("{LEAST}{line}\n"))
    }

    fn fault(line: &str) -> String {
        with(line).unwrap_err()
    }

    #[test]
    fn a_whole_scenario_is_understood() {
        let scenario = read(
            "about   a rack   away # and more\n\
             length  2 d\nsettle 8000s\nstart 2036-02-07T06:28:16Z\n\
             clock   offset -10 ms frequency 10 ppm\nclock wander 1e-9\n\
             stamps  hardware quantum 8 ns\n\
             server  a minpoll 4 maxpoll 6 iburst\nserver b xleave error 50ms\n\
             both    all 100us + exp 15 us\n\
             down    b + 5 ms during 1 h of 6 h ramp 1 s\n\
             loss    a up 1 %\nreorder b down 2% by 1 ms\n\
             outage  a from 3 h to 5 h\n\
             step    threshold 0.1 s panic none\n\
             at      2 h server b step 20 ms\nat 1 h clock step 5 ms\n\
             driftfile -9.9 ppm sigma 0.1 ppm\n\
             expect  rms < 5 us\npromise none\n",
        )
        .unwrap();
        assert_eq!(scenario.about, "a rack away");
        assert_eq!(scenario.length_s, 172_800.0);
        assert_eq!(scenario.start.unix_ns(), 2_085_978_496_000_000_000);
        assert_eq!(scenario.clock.offset_s, -0.01);
        assert_eq!(scenario.clock.wander, 1e-9);
        assert_eq!(scenario.stamps.quantum_ns, 8);
        let [a, b] = &scenario.servers[..] else {
            panic!("two servers");
        };
        assert_eq!(a.up.loss, 0.01);
        assert_eq!(a.outages_s, [(10_800.0, 18_000.0)]);
        assert_eq!(b.error.offset_s, 0.05);
        assert_eq!((b.up.delay.terms.len(), b.down.delay.terms.len()), (2, 3));
        assert_eq!(a.down.delay, b.up.delay);
        assert_eq!(scenario.step.panic, None);
        assert_eq!(scenario.events[0].what, Happening::ClockStep(0.005));
        assert!((scenario.expects[0].below - 5e-6).abs() < 1e-12);
        assert!(!scenario.promised && with("").unwrap().promised);
    }

    #[test]
    fn a_later_line_replaces_an_earlier_one() {
        let scenario =
            with("server a minpoll 4 maxpoll 6\nserver a maxpoll 5\nboth a 1 ms\nboth a 2 ms");
        let scenario = scenario.unwrap();
        assert_eq!(scenario.servers.len(), 1);
        assert_eq!(scenario.servers[0].options.maxpoll.log2(), 5);
        assert_eq!(scenario.servers[0].up.delay.terms[0].scale_s, 2e-3);
    }

    #[test]
    fn what_is_asymmetric_takes_as_long_in_all() {
        let lines = "asymmetry a 75 % up\nboth a 20 ms + exp 1 ms\nup a + 1 ms\n\
                     down a + 5 ms from 1 h to 2 h";
        let scenario = with(lines).unwrap();
        let server = &scenario.servers[0];
        let constants_s = |way: &Way| {
            let terms = way.delay.terms.iter();
            let base = terms.filter(|t| (t.shape, t.when) == (Shape::Constant, When::Always));
            base.map(|term| term.scale_s).sum::<f64>()
        };
        assert!((constants_s(&server.up) - 36e-3).abs() < 1e-12);
        assert!((constants_s(&server.down) - 5e-3).abs() < 1e-12);
    }

    #[test]
    fn faults_say_where_and_what_to_write() {
        for (line, part) in [
            (
                "lenght 1 h",
                "t.sim:3: `lenght` is no statement: write about",
            ),
            ("length 1e300 d", "times end at 1000 d"),
            ("clock wander 1", "`wander` ends at 1e-4"),
            ("clock frequency 1e9 ppm", "frequencies end at 10000 ppm"),
            ("length 10", "`10` needs a unit (ns, us"),
            ("length", "the line ends too early: write 10 ms"),
            ("length 1 h h", "`h` is too much here"),
            ("clock wander -1", "`-1` is no number"),
            ("clock offset nan s", "`nan` is no number"),
            ("clock sine 1 ppm period 0 s", "longer than nothing"),
            ("both b 1 ms", "there is no server `b`: write `server b`"),
            ("both a exp", "the line ends too early"),
            (
                "server a minpoll 18",
                "`18` is no poll exponent: write a whole number",
            ),
            ("server a minpoll 9 maxpoll 8", "above"),
            ("loss a up 101 %", "from 0 % to 100 %"),
            ("loss a up 1", "write `%`"),
            (
                "asymmetry a 100 % left",
                "`left` is not known here: write up or down",
            ),
            ("leap insert on", "`on` is not known here: write `at`"),
            ("start 2036-02-30", "is no date"),
            (
                "without levels thought",
                "`thought` is not known here: write box or round-trip",
            ),
            (
                "expect speed < 1",
                "`speed` is not known here: write rms, p99",
            ),
            ("at 1 h clock explode", "write clock step 5 ms"),
            ("promise all", "write kept or none"),
        ] {
            let fault = fault(line);
            assert!(fault.starts_with("t.sim:3: "), "{line}: {fault}");
            assert!(fault.contains(part), "{line}: {fault}");
        }
        assert!(
            read("server a")
                .unwrap_err()
                .contains("write `length 40000 s`")
        );
        assert!(read("length 1 h").unwrap_err().contains("write `server a`"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let unix_s = |word| date(word).map(|at| at.unix_ns() / 1_000_000_000);
        assert_eq!(unix_s("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_s("2000-03-01T00:00:00Z"), Some(951_868_800));
        assert_eq!(unix_s("2030-12-31T20:00:00Z"), Some(1_924_977_600));
        for wrong in ["", "2030-12-31", "2030-13-01T00:00:00Z", "x-1-1T0:0:0Z"] {
            assert_eq!(unix_s(wrong), None, "{wrong}");
        }
    }
}
