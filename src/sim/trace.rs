//! A run as a table, for whoever draws curves of his own.

use std::fmt::Write as _;

use crate::sim::world::Record;

/// CSV: a head line, then a line for each second. What is not known is left empty.
pub fn csv(records: &[Record]) -> String {
    let mut text = String::from(
        "at_s,error_s,offset_s,bound_s,likely_s,root_distance_s,frequency_error,poll_s\n",
    );
    for record in records {
        let known =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6e}"));
        let promise = record.second.promise;
        let _ = writeln!(
            text,
            "{},{:.6e},{},{},{},{},{:.6e},{}",
            record.at_s,
            record.second.error_s,
            known(record.offset_s),
            known(promise.map(|promise| promise.bound_s)),
            known(promise.map(|promise| promise.likely_s)),
            known(promise.map(|promise| promise.served_s)),
            record.second.frequency_error,
            record
                .poll_s
                .map_or(String::new(), |poll_s| poll_s.to_string()),
        );
    }
    text
}
