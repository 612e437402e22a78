//! The one binary; see `ptntp --help`.

fn main() {}
