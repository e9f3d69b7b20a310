//! The address range of large blocks.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect};

use super::blocks::{Blocks, GRANULE, Pages};

/// Bytes that are asked for, in turn: addresses alone, which cost nothing.
const SIZES: [usize; 3] = [1 << 40, 1 << 37, 1 << 35];

struct Region {
    base: NonNull<c_void>,
    size: usize,
    blocks: Mutex<Blocks>,
}

// SAFETY: the address is that of memory which is never given back, and what is known of its blocks
// is behind a lock.
#[expect(unsafe_code)]
unsafe impl Send for Region {}
// SAFETY: the same.
#[expect(unsafe_code)]
unsafe impl Sync for Region {}

/// None where the system does not give the addresses; all blocks are small ones then.
static REGION: OnceLock<Option<Region>> = OnceLock::new();

fn region() -> Option<&'static Region> {
    REGION.get_or_init(reserve).as_ref()
}

fn reserve() -> Option<Region> {
    SIZES.into_iter().find_map(|size| {
        // One granule more, to begin at a whole one.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses an address range that nothing else has.
        #[expect(unsafe_code)]
        let begin =
            unsafe { mmap_anonymous(null_mut(), size + GRANULE, ProtFlags::empty(), flags) };
        let begin = begin.ok()?;
        let more = begin.cast::<u8>().align_offset(GRANULE);
        let base = NonNull::new(begin.cast::<u8>().wrapping_add(more).cast())?;
        Some(Region { base, size, blocks: Mutex::new(Blocks::default()) })
    })
}

impl Region {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.base.as_ptr().cast::<u8>().wrapping_add(offset).cast()
    }

    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.base.as_ptr() as usize);
        (offset < self.size).then_some(offset)
    }
}

impl Pages for &Region {
    fn commit(&mut self, from: usize, to: usize) -> bool {
        if to > self.size {
            return false;
        }
        let (begin, length) = (self.at(from), to - from);
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range is the region's.
        #[expect(unsafe_code)]
        unsafe {
            // Large pages where the system has them for the asking.
            let _ = madvise(begin, length, Advice::LinuxHugepage);
            mprotect(begin, length, writable).is_ok()
        }
    }

    fn release(&mut self, from: usize, to: usize) -> bool {
        // SAFETY: no block is in the range, and what is read there next is zeros.
        #[expect(unsafe_code)]
        unsafe {
            madvise(self.at(from), to - from, Advice::LinuxDontNeed).is_ok()
        }
    }
}

/// A block, null where the system has no more memory, and whether it is all zeros. None where there
/// is no region.
pub fn take(size: usize) -> Option<(*mut u8, bool)> {
    let mut region = region()?;
    let taken = region.blocks().take(size, &mut region);
    Some(match taken {
        Some(block) => (region.at(block.offset).cast(), block.is_zero),
        None => (null_mut(), false),
    })
}

/// Whether a block is one of these.
pub fn has(block: *mut u8) -> bool {
    // Before the first one is taken there is none.
    let region = REGION.get().and_then(Option::as_ref);
    region.is_some_and(|region| region.offset(block).is_some())
}

/// Takes a block back.
pub fn give(block: *mut u8, size: usize) {
    let region = region().expect("the block is one of its own");
    let offset = region.offset(block).expect("the block is one of its own");
    region.blocks().give(offset, size);
}

/// Whether a block has another size from now on, at the place where it is.
pub fn resize(block: *mut u8, size: usize, new: usize) -> bool {
    let Some(mut region) = region() else { return false };
    let Some(offset) = region.offset(block) else { return false };
    region.blocks().resize(offset, (size, new), &mut region)
}
