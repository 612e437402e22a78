//! Tables that many threads read and none may write: a write through whatever pointer
//! is a fault, and not a wrong answer to somebody later (mprotect(2)).

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use crate::linux::socket::check;

/// A value whose lists can't be written to until it is dropped.
#[derive(Debug)]
pub struct Sealed<T> {
    value: Option<Arc<T>>,
    pages: Vec<Pages>,
}

/// What [`Sealed::new`] collects lists in.
#[derive(Debug)]
pub struct Lists<'a> {
    pages: Vec<Pages>,
    /// They outlive it.
    borrowed: std::marker::PhantomData<&'a ()>,
}

/// Whole pages: where they begin, and octets.
#[derive(Clone, Copy, Debug)]
struct Pages {
    start: usize,
    len: usize,
}

impl<T> Sealed<T> {
    /// Seals those lists of `value` that `name` adds. The kernel can do so for whole
    /// pages only: what shares a page with something else stays as it is.
    pub fn new(value: Arc<T>, name: impl for<'a> FnOnce(&'a T, &mut Lists<'a>)) -> Self {
        let mut lists = Lists {
            pages: Vec::new(),
            borrowed: std::marker::PhantomData,
        };
        name(&value, &mut lists);
        let mut pages = lists.pages;
        // ENOMEM is all that can be: too many mappings. Then it is not sealed.
        // SAFETY: the pages are whole ones of slices that `value`, of which we hold a
        // share, lends: nobody has a right to write there while we do.
        pages.retain(|pages| unsafe { pages.protect(libc::PROT_READ) }.is_ok());
        Self {
            value: Some(value),
            pages,
        }
    }
}

impl<'a> Lists<'a> {
    /// Adds a list. (What is `Copy` is never written to through a shared reference.)
    pub fn add<E: Copy>(&mut self, list: &'a [E]) {
        let page = page_len();
        let octets = list.as_ptr_range();
        let start = (octets.start as usize).next_multiple_of(page);
        let end = octets.end as usize / page * page;
        if start < end {
            let len = end - start;
            self.pages.push(Pages { start, len });
        }
    }
}

impl Pages {
    /// # Safety
    /// Nobody may use the pages in ways that `protection` forbids.
    unsafe fn protect(self, protection: libc::c_int) -> io::Result<()> {
        let start = self.start as *mut libc::c_void;
        // SAFETY: as promised by the caller.
        check(unsafe { libc::mprotect(start, self.len, protection) }).map(drop)
    }
}

impl<T> Deref for Sealed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until dropped")
    }
}

impl<T> Drop for Sealed<T> {
    fn drop(&mut self) {
        let mut is_open = true;
        for pages in &self.pages {
            // SAFETY: gives back the rights that the memory was allocated with.
            is_open &= unsafe { pages.protect(libc::PROT_READ | libc::PROT_WRITE) }.is_ok();
        }
        if !is_open {
            // Whoever gets that memory next would fault: nobody shall.
            std::mem::forget(self.value.take());
        }
    }
}

fn page_len() -> usize {
    // SAFETY: no pointers.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(len).expect("a page has a size")
}

/// Does a write to this address fault? A child tries.
#[cfg(test)]
pub(crate) fn write_faults<T>(at: *const T) -> bool {
    // SAFETY: the child makes no call but _exit, and the write it tries harms
    // nobody: it either faults or goes to memory of its own.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            let at = at.cast_mut().cast::<u8>();
            at.write_volatile(at.read_volatile());
            libc::_exit(0);
        }
        child
    };
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_what_is_sealed_faults_until_it_is_dropped() {
        let list: Arc<Box<[u64]>> = Arc::new((0..100_000).collect());
        let middle = &raw const list[50_000];
        let sealed = Sealed::new(Arc::clone(&list), |list, lists| lists.add(list));
        assert!(write_faults(middle));
        assert!(sealed.iter().copied().eq(0..100_000));
        drop(sealed);
        assert!(!write_faults(middle));
    }

    #[test]
    fn what_fills_no_page_is_left_alone() {
        let list: Arc<Box<[u8]>> = Arc::new(vec![7; 100].into());
        let sealed = Sealed::new(Arc::clone(&list), |list, lists| lists.add(list));
        assert!(sealed.pages.is_empty());
    }
}
