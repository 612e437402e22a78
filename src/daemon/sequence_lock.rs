//! A few words that one thread publishes together and any number read, without waiting:
//! a sequence lock.
//!
//! The protocol is the one of Boehm, "Can seqlocks get along with programming
//! language memory models?" (MSPC 2012): the words are atomics, so a reader that
//! overlaps a writer reads a mix, notices, and reads again. Readers have a mapping
//! of their own that can't be written through.

use std::io;
use std::sync::atomic::{Ordering, fence};

use crate::linux::shared::{self, SharedWords};

/// `N` words that belong together.
#[derive(Debug)]
pub struct SequenceLock<const N: usize> {
    /// First the sequence, odd while a writer is at work; then the words.
    words: SharedWords,
}

impl<const N: usize> SequenceLock<N> {
    /// Holds `words`.
    ///
    /// # Errors
    /// Those of [`SharedWords::new`].
    pub fn new(words: [u64; N]) -> io::Result<Self> {
        let lock = Self {
            words: SharedWords::new(1 + N)?,
        };
        lock.publish(words);
        Ok(lock)
    }

    /// Would a write by a reader fault? Not where the kernel denies the means.
    pub fn is_guarded(&self) -> bool {
        self.words.is_guarded()
    }

    /// Replaces the words. Meant for one thread; a second one at the same moment waits
    /// for the first.
    pub fn publish(&self, new: [u64; N]) {
        shared::publish(self.words.writer(), &new);
    }

    /// Changes with each publication: whoever has seen it has seen the words.
    pub fn sequence(&self) -> u64 {
        self.words.load(0)
    }

    /// The words published last.
    pub fn read(&self) -> [u64; N] {
        loop {
            let before = self.words.load(0);
            fence(Ordering::Acquire);
            let words = std::array::from_fn(|i| self.words.load(1 + i));
            fence(Ordering::Acquire);
            let after = self.words.load(0);
            if before == after && before & 1 == 0 {
                return words;
            }
            std::hint::spin_loop();
        }
    }
}
