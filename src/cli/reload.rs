//! `ptntp reload`: the running service reads its configuration file again. It is told by
//! SIGHUP, so that the kernel says who may; the outcome is asked for afterwards.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::args::ControlArgs;
use crate::cli::ask;
use crate::daemon::status::Reloads;

/// Files, and the second until the service tells of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends the signal and waits for what comes of it.
pub fn run(args: &ControlArgs) -> ExitCode {
    match reload(args) {
        Err(sentence) => {
            eprintln!("ptntp reload: {sentence}");
            ExitCode::FAILURE
        }
        Ok(reloads) => {
            if args.json {
                let json = serde_json::to_string(&reloads).expect("two strings and a number");
                ask::print(&format!("{json}\n"));
            }
            match reloads.problem {
                Some(problem) => {
                    eprintln!("{problem}\nnothing was reloaded; the service goes on as it was");
                    ExitCode::FAILURE
                }
                None => {
                    for what in &reloads.later {
                        eprintln!("{what} changes with the next start");
                    }
                    ExitCode::SUCCESS
                }
            }
        }
    }
}

fn reload(args: &ControlArgs) -> Result<Reloads, String> {
    let (before, _) = ask::stat(args)?;
    let pid = i32::try_from(before.pid).map_err(|_| "the service tells no process".to_owned())?;
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .map_err(|error| format!("the service (process {pid}) can't be told: {error}"))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50));
        let (now, _) = ask::stat(args)?;
        if now.reloads.count > before.reloads.count {
            return Ok(now.reloads);
        }
    }
    Err("the service was told, and has not said yet what came of it; see its log".to_owned())
}
