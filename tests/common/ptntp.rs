//! ptntp itself, as an operator starts and asks it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::metrics::{self, Scrape};
use super::net::Namespace;
use super::process::{self, Process};
use super::{TempDir, secs, wait_until};

/// Where the daemons of the tests are scraped, each in its own namespace.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9975);

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ptntp");

/// A configuration that serves its own clock, right or wrong, to everybody.
pub const OPEN: &str = "server 127.127.1.0\nfudge 127.127.1.0 stratum 3\nrestrict default\n";

/// A command line of ptntp outside of any namespace, for what needs no network.
pub fn ptntp(args: &[&str]) -> Output {
    let mut command = process::command(None, BINARY);
    command.args(args);
    process::run(command, secs(20))
}

/// `ptntp bench` from a namespace.
pub fn bench(from: &Namespace, server: IpAddr, args: &[&str]) -> Output {
    let mut command = process::command(Some(from), BINARY);
    command.args(["bench", &server.to_string()]).args(args);
    process::run(command, secs(60))
}

/// Its JSON; it must have measured. It waits long for answers if it isn't told.
pub fn bench_json(from: &Namespace, server: IpAddr, args: &[&str]) -> Value {
    let mut patient = [args, &["--json"]].concat();
    if !args.contains(&"--timeout") {
        patient.extend(["--timeout", "5s"]);
    }
    let output = bench(from, server, &patient);
    let json = serde_json::from_slice(&output.stdout);
    json.unwrap_or_else(|_| panic!("{args:?}: {}", process::all(&output)))
}

/// The number at `path` (`/result/sent`) of a report.
pub fn number(report: &Value, path: &str) -> f64 {
    let found = report.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// How to start a daemon. What isn't said has the tests' default: virtual clock
/// 0.5 s off and 50 ppm fast, metrics on, port 123.
pub struct Setup<'a> {
    namespace: &'a Namespace,
    directory: TempDir,
    clock: &'a str,
    metrics: String,
    config: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
}

/// A daemon that runs.
pub struct Ptntp<'a> {
    /// First, so that it ends before its directory goes.
    pub process: Process,
    namespace: &'a Namespace,
    /// Its configuration, log and control socket.
    pub directory: TempDir,
    command: Box<dyn Fn() -> Command + 'a>,
}

/// Starts describing a daemon in a namespace.
pub fn in_namespace(namespace: &Namespace) -> Setup<'_> {
    Setup {
        namespace,
        directory: TempDir::new(),
        clock: "virtual:0.5,50",
        metrics: METRICS.to_string(),
        config: None,
        args: Vec::new(),
        env: Vec::new(),
        wrapper: Vec::new(),
    }
}

impl<'a> Setup<'a> {
    /// `--clock`: never `system` here.
    pub fn clock(mut self, clock: &'a str) -> Self {
        assert_ne!(clock, "system", "this machine's clock is not ours to move");
        self.clock = clock;
        self
    }

    /// `--metrics off`, for a second daemon in the same namespace.
    pub fn without_metrics(mut self) -> Self {
        self.metrics = "off".into();
        self
    }

    /// The configuration file; `@DIR@` in it becomes the daemon's directory.
    pub fn config(mut self, text: &str) -> Self {
        let path = self.directory.path().display().to_string();
        self.config = Some(text.replace("@DIR@", &path));
        self
    }

    /// Further options.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A command that runs it, such as strace.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// The directory, for files to be there before the start.
    pub fn directory(&self) -> &TempDir {
        &self.directory
    }

    /// Starts it and waits until it answers at its control socket.
    pub fn start(self) -> Ptntp<'a> {
        let mut ptntp = self.start_unready();
        ptntp.wait_ready();
        ptntp
    }

    /// Starts it.
    pub fn start_unready(self) -> Ptntp<'a> {
        let path = self.directory.path().to_owned();
        if let Some(text) = &self.config {
            self.directory.write("ntp.conf", text);
        }
        let Self {
            namespace,
            directory,
            clock,
            metrics,
            config,
            args,
            env,
            wrapper,
        } = self;
        let command = Box::new(move || {
            let mut command = match wrapper.split_first() {
                None => process::command(Some(namespace), BINARY),
                Some((program, words)) => {
                    let mut command = process::command(Some(namespace), program);
                    command.args(words).arg(BINARY);
                    command
                }
            };
            command.args(["run", "--clock", clock]);
            command.args(["--metrics", &metrics, "--control"]);
            command.arg(path.join("control"));
            if config.is_some() {
                command.arg("-c").arg(path.join("ntp.conf"));
            }
            command
                .args(&args)
                .envs(env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            command
        });
        let log = directory.path().join("log");
        Ptntp {
            process: Process::start("ptntp", command(), &log),
            namespace,
            directory,
            command,
        }
    }
}

impl Ptntp<'_> {
    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    fn wait_ready(&mut self) {
        let ready = wait_until(secs(20), || {
            self.process.ended().is_some() || self.tell(&["stat"]).status.code() != Some(2)
        });
        let ended = self.process.ended();
        assert!(ended.is_none(), "ptntp run ended with {ended:?}");
        assert!(ready, "ptntp run does not answer at its control socket");
    }

    /// Starts it again after it has ended, with the same command line and files.
    pub fn restart(&mut self) {
        self.restart_unready();
        self.wait_ready();
    }

    /// Starts it again and does not wait.
    pub fn restart_unready(&mut self) {
        assert!(self.process.ended().is_some(), "it still runs");
        let log = self.directory.path().join("log");
        self.process = Process::start("ptntp", (self.command)(), &log);
    }

    /// A command line of ptntp about this daemon.
    pub fn tell(&self, args: &[&str]) -> Output {
        let mut command = process::command(Some(self.namespace), BINARY);
        command.args(args).arg("--control").arg(self.control());
        process::run(command, secs(10))
    }

    /// The JSON a command prints.
    pub fn json(&self, command: &str) -> Value {
        let output = self.tell(&[command, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("ptntp {command} --json: {e}: {}", process::all(&output));
        })
    }

    /// `ptntp stat --json`.
    pub fn stat(&self) -> Value {
        self.json("stat")
    }

    /// `ptntp peers --json`: the sources, in the order of the configuration.
    pub fn sources(&self) -> Vec<Value> {
        match self.json("peers") {
            Value::Array(sources) => sources,
            other => panic!("peers --json is no list: {other}"),
        }
    }

    /// Does it call itself synchronised?
    pub fn sync(&self) -> bool {
        self.stat()["sync"]
            .as_bool()
            .expect("sync is true or false")
    }

    /// The virtual clock minus this machine's: the truth of the matter.
    pub fn true_error_s(&self) -> f64 {
        let stat = self.stat();
        let error = stat["true_error_s"].as_f64();
        error.unwrap_or_else(|| panic!("no true_error_s in {stat}"))
    }

    /// Seconds until the true error came below `limit_s` to stay there for `hold`; an
    /// error if that took longer than `within`. Staying is judged on a machine that
    /// runs other tests at the same time, so a relapse only starts the wait anew.
    pub fn settles(
        &self,
        limit_s: f64,
        within: Duration,
        hold: Duration,
    ) -> Result<Duration, String> {
        let start = Instant::now();
        let mut settled = None;
        loop {
            let error = self.true_error_s();
            if error.abs() >= limit_s || !self.sync() {
                settled = None;
            }
            let since = *settled.get_or_insert_with(|| start.elapsed());
            if error.abs() < limit_s && start.elapsed() >= since + hold {
                return Ok(since);
            }
            if start.elapsed() >= within + hold {
                return Err(format!(
                    "true error {error} s after {:.1} s: {}",
                    start.elapsed().as_secs_f64(),
                    self.stat()
                ));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The metrics as Prometheus sees them.
    pub fn scrape(&self) -> Scrape {
        Scrape::parse(&self.scrape_text())
    }

    /// Their text.
    pub fn scrape_text(&self) -> String {
        let answer = self.namespace.inside(|| metrics::get(METRICS));
        let answer = answer.unwrap_or_else(|e| panic!("scrape {METRICS}: {e}"));
        metrics::body(&answer).to_owned()
    }
}
