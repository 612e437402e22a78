//! The requests under way, by position: a ring as long as the rate times the
//! patience, so that looking one up is an index and expiry a walk.

/// What is remembered of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    sequence: u64,
    /// When it was meant to leave, on the monotonic clock.
    pub intended_ns: i64,
    /// When it left, by the kernel, CLOCK_REALTIME; 0 if not known.
    pub departed_ns: i64,
    /// When the reply that an interleaved request speaks of arrived,
    /// CLOCK_REALTIME; 0 for others.
    pub previous_arrival_ns: i64,
    /// Who asked.
    pub client: u32,
    closed: bool,
}

impl Entry {
    /// A request of `client` that was meant to leave then; see the fields.
    pub fn new(client: u32, intended_ns: i64, previous_arrival_ns: i64) -> Self {
        Self {
            client,
            intended_ns,
            previous_arrival_ns,
            ..Self::default()
        }
    }
}

/// What an answer finds.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// Its request, which waits for it.
    Waiting(Entry),
    /// Its request, which was given up for lost.
    GivenUp,
    /// Its request, which was answered before.
    Answered,
    /// No such request was sent.
    Nothing,
}

/// The ring.
#[derive(Clone, Debug)]
pub struct Book {
    entries: Box<[Entry]>,
    /// The oldest that is not settled.
    tail: u64,
    next: u64,
    /// Opened, neither answered nor given up.
    waiting: u64,
}

impl Book {
    /// Room for at least `capacity` requests under way.
    pub fn new(capacity: usize) -> Self {
        let len = capacity.next_power_of_two().max(64);
        Self {
            entries: vec![Entry::default(); len].into_boxed_slice(),
            tail: 1,
            next: 1,
            waiting: 0,
        }
    }

    /// The position of the next request. Counts from 1.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many wait for an answer.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Enters the next request. Is the ring full, the oldest gives way; true if that
    /// one still waited, and so counts as lost.
    pub fn open(&mut self, entry: Entry) -> bool {
        let mut lost = false;
        if self.next - self.tail == self.entries.len() as u64 {
            lost = self.settle_tail();
        }
        let slot = self.slot(self.next);
        self.entries[slot] = Entry {
            sequence: self.next,
            closed: false,
            ..entry
        };
        self.next += 1;
        self.waiting += 1;
        lost
    }

    /// The request at that position left at `departed_ns`.
    pub fn departed(&mut self, sequence: u64, departed_ns: i64) {
        let slot = self.slot(sequence);
        let entry = &mut self.entries[slot];
        if entry.sequence == sequence {
            entry.departed_ns = departed_ns;
        }
    }

    /// Room for at least `capacity`, for what comes from now on. Nothing may wait.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.entries.len() {
            let next = self.next;
            *self = Self::new(capacity);
            (self.tail, self.next) = (next, next);
        }
    }

    /// What the request at that position is up to.
    pub fn peek(&self, sequence: u64) -> Found {
        if sequence == 0 || sequence >= self.next {
            return Found::Nothing;
        }
        let entry = &self.entries[self.slot(sequence)];
        if entry.sequence != sequence {
            // So long ago that its place is taken.
            Found::GivenUp
        } else if entry.closed {
            Found::Answered
        } else if sequence < self.tail {
            Found::GivenUp
        } else {
            Found::Waiting(*entry)
        }
    }

    /// Closes the request at that position, which was answered: says what it was up to
    /// before.
    pub fn close(&mut self, sequence: u64) -> Found {
        let found = self.peek(sequence);
        let slot = self.slot(sequence);
        let entry = &mut self.entries[slot];
        if entry.sequence == sequence {
            entry.closed = true;
        }
        if let Found::Waiting(_) = found {
            self.waiting -= 1;
        }
        found
    }

    /// The request at that position did not leave after all.
    pub fn forget(&mut self, sequence: u64) {
        // It can't have been answered.
        self.close(sequence);
    }

    /// Gives up what was meant to leave before `before_ns` and was not answered; says
    /// how many those were.
    pub fn expire(&mut self, before_ns: i64) -> u64 {
        let mut lost = 0;
        while self.tail < self.next {
            let entry = &self.entries[self.slot(self.tail)];
            if !entry.closed && entry.intended_ns >= before_ns {
                break;
            }
            lost += u64::from(self.settle_tail());
        }
        lost
    }

    /// Those that wait for an answer, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        (self.tail..self.next)
            .map(|sequence| &self.entries[self.slot(sequence)])
            .filter(|entry| !entry.closed)
    }

    /// True if it still waited.
    fn settle_tail(&mut self) -> bool {
        let waited = !self.entries[self.slot(self.tail)].closed;
        self.tail += 1;
        self.waiting -= u64::from(waited);
        waited
    }

    fn slot(&self, sequence: u64) -> usize {
        // The length is a power of two.
        sequence as usize & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(intended_ns: i64) -> Entry {
        Entry::new(0, intended_ns, 0)
    }

    #[test]
    fn each_request_is_answered_once() {
        let mut book = Book::new(8);
        book.open(at(10));
        book.open(at(20));
        assert!(matches!(book.close(2), Found::Waiting(e) if e.intended_ns == 20));
        assert!(matches!(book.close(2), Found::Answered));
        assert!(matches!(book.close(3), Found::Nothing));
        assert!(matches!(book.close(0), Found::Nothing));
        assert_eq!(book.waiting(), 1);
    }

    #[test]
    fn who_waits_too_long_is_lost_and_an_answer_then_is_late() {
        let mut book = Book::new(64);
        for n in 0..10 {
            assert!(!book.open(at(n)));
        }
        book.close(1);
        assert_eq!(book.expire(5), 4);
        assert_eq!(book.waiting(), 5);
        assert_eq!(book.iter().count(), 5);
        assert!(matches!(book.close(3), Found::GivenUp));
        assert!(matches!(book.close(3), Found::Answered));
        assert!(matches!(book.close(7), Found::Waiting(_)));
        assert_eq!(book.expire(i64::MAX), 4);
        assert_eq!(book.waiting(), 0);
    }

    #[test]
    fn a_full_book_gives_up_the_oldest() {
        let mut book = Book::new(64);
        let lost: u64 = (0..70).map(|n| u64::from(book.open(at(n)))).sum();
        assert_eq!(lost, 6);
        assert!(matches!(book.close(1), Found::GivenUp));
        assert_eq!(book.waiting(), 64);
    }
}
