//! Reading the leap second file: at the start and once a day, because a new one
//! comes twice a year and a daemon runs for longer.

use std::io::{self, Read};
use std::path::Path;

use crate::config::leapfile::{LEN_MAX, LeapFile, parse};
use crate::config::regular;

/// What is in the file, or a sentence.
pub type Outcome = Result<LeapFile, String>;

/// Reads with blocking calls: for `--io poll`.
pub fn read(path: &Path) -> Outcome {
    let mut bytes = Vec::new();
    let read = regular::open(path).and_then(|file| file.take(LEN_MAX).read_to_end(&mut bytes));
    understand(path, read.map(|_| bytes))
}

/// The same through the ring of the tokio-uring runtime this runs on.
pub async fn read_uring(path: &Path) -> Outcome {
    understand(path, try_read_uring(path).await)
}

async fn try_read_uring(path: &Path) -> io::Result<Vec<u8>> {
    regular::check(path)?;
    let file = tokio_uring::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    loop {
        let (read, chunk) = file.read_at(vec![0; 16 << 10], bytes.len() as u64).await;
        let len = read?;
        bytes.extend_from_slice(&chunk[..len]);
        if len == 0 || bytes.len() as u64 >= LEN_MAX {
            break;
        }
    }
    file.close().await?;
    Ok(bytes)
}

fn understand(path: &Path, bytes: io::Result<Vec<u8>>) -> Outcome {
    let file = bytes
        .map_err(|error| error.to_string())
        .and_then(|bytes| parse(&String::from_utf8_lossy(&bytes)));
    file.map_err(|problem| format!("leap second file {}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_read_the_same_and_name_the_file() {
        let path = std::env::temp_dir().join(format!("ptntp-leaps-{}", std::process::id()));
        std::fs::write(&path, "#@ 3928521600\n2272060800 10\n").expect("a file");
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).expect("io_uring is here");
        let table = read(&path).expect("a table");
        assert_eq!(runtime.block_on(read_uring(&path)), Ok(table));
        std::fs::remove_file(&path).expect("it was there");
        for wrong in [std::env::temp_dir(), "/dev/zero".into()] {
            for error in [read(&wrong), runtime.block_on(read_uring(&wrong))] {
                let error = error.expect_err("no file");
                assert!(error.contains("no regular file"), "{error}");
            }
        }
        for error in [read(&path), runtime.block_on(read_uring(&path))] {
            let error = error.expect_err("it is gone");
            assert!(error.contains("ptntp-leaps"), "{error}");
        }
    }
}
