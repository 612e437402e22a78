//! `hwtest/real` where there is no hardware: it says so, and what it found instead, in
//! words and in JSON. With hardware it is the suite `real` in the guest (`hwtest`).

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

mod common;

use common::net::{Namespace, Star, spoke_v4};
use common::ptntp::{BINARY, OPEN, in_namespace};
use common::{TempDir, process, secs};

/// Runs it: exit status, words, and the report if there is one.
fn real(namespace: &Namespace, args: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let directory = TempDir::new();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("hwtest/real");
    let mut command = process::command(Some(namespace), program);
    command.args(args).arg("--out").arg(directory.path());
    command.env("PTNTP", BINARY);
    let output = process::run(command, secs(120));
    let text = process::all(&output);
    assert_eq!(output.status.signal(), None, "{text}");
    let report = directory
        .path()
        .join(format!("hwtest-real-{}.json", args[0]));
    let report = std::fs::read_to_string(report).unwrap_or("null".into());
    let report = serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report}"));
    (output.status.code(), text, report)
}

#[test]
fn a_host_without_hardware_stamps_is_told_so() {
    require!(root, gcc);
    let star = Star::new(1);
    let _server = in_namespace(&star.spokes[0]).config(OPEN).start();
    let peer = spoke_v4(0).to_string();

    let (status, text, report) = real(&star.hub, &["s0", "--peer", &peer]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("verdict: kernel: no hardware stamps"),
        "{text}"
    );
    assert_eq!(report["verdict"], "kernel", "{report}");
    assert_eq!(report["driver"], "veth", "{report}");
    assert_eq!(report["all_answer"], "refused", "{report}");
    assert_eq!(report["present_ntp_received"], 40, "{text}");
    assert_eq!(report["present_ntp_rx_hw"], 0, "{text}");

    let (status, text, report) = real(&star.hub, &["nonesuch0"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("no interface nonesuch0"), "{text}");
    assert!(report.is_null(), "{report}");
}
