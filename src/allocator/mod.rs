//! Where the program's memory comes from. Small blocks are mimalloc's. Large ones, which are the
//! tensors, have an address range of their own: what is freed there is used again, and goes back to
//! the system before any more is taken from it. So the process has no more memory at its peak than
//! it used at the same time; mimalloc alone, which keeps all that it once had, took a fifth more.
//!
//! From 16 KiB on mimalloc has parts of half a megabyte for each of a few dozen sizes and for each
//! thread, which keep that memory once it was used: 30 to 40 MB of a run of any size.

#[cfg(target_os = "linux")]
mod blocks;
#[cfg(target_os = "linux")]
mod region;

use std::alloc::{GlobalAlloc, Layout};

/// The allocator of the program.
pub struct ProgramAllocator;

static SMALL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Blocks of so many bytes are large.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 14;

#[cfg(target_os = "linux")]
fn is_large(size: usize, align: usize) -> bool {
    size >= LARGE && align <= blocks::UNIT
}

// SAFETY: each block comes from one of two allocators, and its address says from which.
#[cfg(target_os = "linux")]
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for ProgramAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align())
            && let Some((block, _)) = region::take(layout.size())
        {
            return block;
        }
        // SAFETY: the caller's.
        unsafe { SMALL.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align())
            && let Some((block, is_zero)) = region::take(layout.size())
        {
            if !is_zero && !block.is_null() {
                // SAFETY: the block has that size.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            return block;
        }
        // SAFETY: the caller's.
        unsafe { SMALL.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if region::has(block) {
            return region::give(block, layout.size());
        }
        // SAFETY: the caller's.
        unsafe { SMALL.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let ours = region::has(block);
        let large = is_large(size, layout.align());
        if ours && large && region::resize(block, layout.size(), size) {
            return block;
        }
        if !ours && !large {
            // SAFETY: the caller's.
            return unsafe { SMALL.realloc(block, layout, size) };
        }
        // SAFETY: the caller's; the sizes of both blocks are known.
        unsafe {
            let Ok(new) = Layout::from_size_align(size, layout.align()) else {
                return std::ptr::null_mut();
            };
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

// SAFETY: all is mimalloc's.
#[cfg(not(target_os = "linux"))]
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for ProgramAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { SMALL.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { SMALL.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { SMALL.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { SMALL.realloc(block, layout, size) }
    }
}
