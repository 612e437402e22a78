//! Asking the running service, for every command that reads.

use std::io::Write;

use serde::de::DeserializeOwned;

use crate::cli::args::ControlArgs;
use crate::daemon::control::{self, AskError};
use crate::daemon::paths;
use crate::daemon::query::{AssociationStatus, Variables};
use crate::daemon::status::Status;
use crate::node::report::SourceReport;

/// The service's state, and the JSON it was sent as; or a sentence saying why not.
pub fn stat(args: &ControlArgs) -> Result<(Status, String), String> {
    parsed(args, "stat")
}

/// The service's sources, and the JSON they were sent as.
pub fn peers(args: &ControlArgs) -> Result<(Vec<SourceReport>, String), String> {
    parsed(args, "peers")
}

/// The variables that ntpq reads of an association, 0 for the system's, and their JSON.
pub fn variables(args: &ControlArgs, association: u16) -> Result<(Variables, String), String> {
    parsed(args, &format!("variables {association}"))
}

/// The sources with their status words, and their JSON.
pub fn associations(args: &ControlArgs) -> Result<(Vec<AssociationStatus>, String), String> {
    parsed(args, "associations")
}

/// What the service answers to `command`, and the JSON it was sent as.
pub fn parsed<T: DeserializeOwned>(
    args: &ControlArgs,
    command: &str,
) -> Result<(T, String), String> {
    let json = question(args, command).map_err(|error| error.to_string())?;
    let value = serde_json::from_str(&json).map_err(|error| {
        format!("the daemon's answer makes no sense to this version of ptntp: {error}")
    })?;
    Ok((value, json))
}

/// The first place where somebody listens; if nowhere, what the last one said.
fn question(args: &ControlArgs, command: &str) -> Result<String, AskError> {
    let places = match &args.control {
        Some(path) => vec![path.clone()],
        None => paths::control_candidates(),
    };
    let (last, before) = places.split_last().expect("there is always a default");
    for place in before {
        match control::ask(place, command) {
            Err(AskError::Unreachable { .. }) => {}
            answer => return answer,
        }
    }
    control::ask(last, command)
}

/// To standard output. A reader that went away (`ptntp peers | head -1`) is no
/// error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("ptntp: standard output: {error}");
        }
        // Who closed the pipe has read enough.
        _ => {}
    }
}
