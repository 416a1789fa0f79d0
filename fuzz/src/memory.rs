//! How much memory an input takes at once.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What an input may hold at once: so many bytes for each of its own, and so many more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) each: usize,
    pub(crate) more: usize,
}

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(held, Relaxed);
}

// Counting is all that is added to the system's own allocator, whose contract is passed on as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `run` on `bytes` and panics if it held more than `bound` at once.
pub(crate) fn bounded(bound: Bound, bytes: &[u8], run: fn(&[u8])) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    run(bytes);
    let most = MOST.load(Relaxed).saturating_sub(before);
    let allowed = bytes.len() * bound.each + bound.more;
    assert!(most <= allowed, "{} bytes made it hold {most} at once, at most {allowed} are in proportion", bytes.len());
}
