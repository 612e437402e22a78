//! Names become addresses. A literal needs nobody; a name is looked up by
//! getaddrinfo, which blocks for as long as it likes, on threads of its own that end
//! when there is nothing left to look up.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::config::Family;

/// Look-ups at the same time: one dead name server must not hold up the other
/// names, and a thousand names must not become a thousand threads.
const THREADS_MAX: usize = 4;

/// A name with more addresses than this is cut short.
const ADDRESSES_MAX: usize = 64;

/// What came of a look-up: at least one address, or a sentence.
pub type Outcome = Result<Vec<SocketAddr>, String>;

/// What to look up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// A name, or a literal address.
    pub name: String,
    /// Only this family's addresses.
    pub family: Option<Family>,
    /// The port of the resulting addresses.
    pub port: u16,
}

impl Question {
    /// The answer that needs no look-up: none if `name` is no literal address.
    pub fn literal(&self) -> Option<Outcome> {
        let bare = self
            .name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(&self.name);
        let address: IpAddr = bare.parse().ok()?;
        Some(self.choose([SocketAddr::new(address, self.port)].into_iter()))
    }

    /// Blocks in getaddrinfo.
    ///
    /// # Errors
    /// The sentence why there is no address.
    pub fn look_up(&self) -> Outcome {
        let addresses = (self.name.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("{}: {error}", self.name))?;
        self.choose(addresses)
    }

    fn choose(&self, addresses: impl Iterator<Item = SocketAddr>) -> Outcome {
        let mut chosen = Vec::new();
        for address in addresses {
            let wanted = match self.family {
                None => true,
                Some(Family::V4) => address.is_ipv4(),
                Some(Family::V6) => address.is_ipv6(),
            };
            if wanted && !chosen.contains(&address) && chosen.len() < ADDRESSES_MAX {
                chosen.push(address);
            }
        }
        if chosen.is_empty() {
            let family = match self.family {
                None => "",
                Some(Family::V4) => "IPv4 ",
                Some(Family::V6) => "IPv6 ",
            };
            return Err(format!("{} has no {family}address", self.name));
        }
        Ok(chosen)
    }
}

/// Called on a look-up thread with what was found.
type Done = Box<dyn FnOnce(Outcome) + Send>;

#[derive(Default)]
struct Work {
    waiting: VecDeque<(Question, Done)>,
    threads: usize,
}

/// Looks up names in the background. Ends by itself: dropping it loses nothing
/// but the answers.
#[derive(Clone, Default)]
pub struct Resolver {
    work: Arc<Mutex<Work>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = lock(&self.work);
        f.debug_struct("Resolver")
            .field("waiting", &work.waiting.len())
            .field("threads", &work.threads)
            .finish()
    }
}

impl Resolver {
    /// No thread yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `done` with the answer: at once, on this thread, for a literal
    /// address or if no thread can be had, else later on a look-up thread.
    pub fn resolve(&self, question: Question, done: impl FnOnce(Outcome) + Send + 'static) {
        if let Some(outcome) = question.literal() {
            return done(outcome);
        }
        let name = question.name.clone();
        {
            let mut work = lock(&self.work);
            work.waiting.push_back((question, Box::new(done)));
            if work.threads >= THREADS_MAX {
                return;
            }
            work.threads += 1;
        }
        let shared = Arc::clone(&self.work);
        let started = thread::Builder::new()
            .name("ptntp-resolve".to_owned())
            .spawn(move || work_through(&shared));
        if let Err(error) = started {
            let mut work = lock(&self.work);
            work.threads -= 1;
            // Other threads will come to it; only if there are none, nobody will.
            let stranded = if work.threads == 0 {
                std::mem::take(&mut work.waiting)
            } else {
                VecDeque::new()
            };
            drop(work);
            for (_, done) in stranded {
                done(Err(format!("{name}: no thread to look it up: {error}")));
            }
        }
    }
}

fn work_through(shared: &Mutex<Work>) {
    loop {
        let (question, done) = {
            let mut work = lock(shared);
            match work.waiting.pop_front() {
                Some(next) => next,
                None => {
                    work.threads -= 1;
                    return;
                }
            }
        };
        done(question.look_up());
    }
}

/// Nothing is left half done where a panic could poison.
fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn question(name: &str, family: Option<Family>) -> Question {
        Question {
            name: name.to_owned(),
            family,
            port: 123,
        }
    }

    #[test]
    fn literals_need_no_thread() {
        let here = thread::current().id();
        for (name, address) in [
            ("192.0.2.1", "192.0.2.1:123"),
            ("2001:db8::1", "[2001:db8::1]:123"),
            ("[2001:db8::1]", "[2001:db8::1]:123"),
        ] {
            let (sender, receiver) = mpsc::channel();
            Resolver::new().resolve(question(name, None), move |outcome| {
                sender.send((thread::current().id(), outcome)).unwrap();
            });
            let (thread, outcome) = receiver.try_recv().unwrap();
            assert_eq!(thread, here);
            assert_eq!(outcome.unwrap(), [address.parse().unwrap()]);
        }
    }

    #[test]
    fn the_wrong_family_is_an_error_that_says_so() {
        let outcome = question("192.0.2.1", Some(Family::V6)).literal().unwrap();
        assert_eq!(outcome.unwrap_err(), "192.0.2.1 has no IPv6 address");
    }

    #[test]
    fn names_are_looked_up_in_the_background_and_threads_end() {
        let resolver = Resolver::new();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..20 {
            let sender = sender.clone();
            resolver.resolve(question("localhost", Some(Family::V4)), move |outcome| {
                sender.send(outcome).unwrap();
            });
        }
        for _ in 0..20 {
            let outcome = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
            assert_eq!(outcome.unwrap(), ["127.0.0.1:123".parse().unwrap()]);
        }
        for _ in 0..500 {
            if lock(&resolver.work).threads == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{resolver:?}");
    }
}
