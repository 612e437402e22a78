#![no_main]
//! See `keys` in `entries.rs`.

use libfuzzer_sys::fuzz_target;

#[path = "../entries.rs"]
#[allow(dead_code)]
mod entries;

fuzz_target!(|data: &[u8]| entries::keys(data));
