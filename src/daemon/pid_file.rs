//! `pidfile`: the number of our process, for scripts that look for it there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::daemon::drift;

/// The file, which goes with this.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    /// Writes it in the place of whatever is there.
    ///
    /// # Errors
    /// What the file system says: the directory has to be there, and to be writable.
    pub fn write(path: &Path) -> io::Result<Self> {
        let text = format!("{}\n", std::process::id());
        drift::replace(path, &text)?;
        let path = path.to_owned();
        Ok(Self { path, text })
    }
}

impl Drop for PidFile {
    /// If another one has written his since, it stays.
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
