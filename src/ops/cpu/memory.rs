//! New vectors that are filled by the threads that work on them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::team;

/// A vector in parts of a length (the last may be shorter); `write` gets the number and the zeros
/// of each. A part is cleared by the thread that writes it, just before: it is in that core's cache
/// then, and no thread waits while all memory is cleared by one.
pub fn filled<T: Copy + Default + Send + Sync>(
    length: usize,
    part: usize,
    write: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    let cleared = |number: usize, room: &mut [MaybeUninit<T>]| {
        room.fill(MaybeUninit::new(T::default()));
        // SAFETY: all of it was just filled.
        #[expect(unsafe_code)]
        write(number, unsafe { room.assume_init_mut() });
    };
    // SAFETY: each part is filled before `write` gets it.
    #[expect(unsafe_code)]
    unsafe {
        written(length, part, cleared)
    }
}

/// A vector in new memory, in parts of a length (the last may be shorter); `write` gets the number
/// of each, and the part as it is: nothing is cleared.
///
/// # Safety
/// `write` writes every number of each part.
#[expect(unsafe_code)]
pub unsafe fn written<T: Copy + Send + Sync>(
    length: usize,
    part: usize,
    write: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Vec<T> {
    let part = part.max(1);
    let mut vector = Vec::with_capacity(length);
    let room = &mut vector.spare_capacity_mut()[..length];
    let one = |(number, room): (usize, &mut [MaybeUninit<T>])| write(number, room);
    if length <= part {
        room.chunks_mut(part).enumerate().for_each(one);
    } else if team::is_here() {
        team::each(room.chunks_mut(part).enumerate().collect(), one);
    } else {
        room.par_chunks_mut(part).enumerate().for_each(one);
    }
    // SAFETY: the parts are all of the room, and each was written.
    unsafe { vector.set_len(length) };
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_written_once_and_begins_with_zeros() {
        for (length, part) in [(0, 4), (7, 3), (100_000, 4096), (1 << 15, 1 << 20)] {
            let numbers = filled(length, part, |number, part: &mut [u32]| {
                assert!(part.iter().all(|x| *x == 0));
                part.fill(number as u32 + 1);
            });
            let wanted: Vec<u32> = (0..length).map(|i| (i / part) as u32 + 1).collect();
            assert_eq!(numbers, wanted);
            let write = |number: usize, part: &mut [MaybeUninit<u32>]| {
                part.fill(MaybeUninit::new(number as u32 + 1));
            };
            // SAFETY: parts are filled.
            #[expect(unsafe_code)]
            let anew = unsafe { written(length, part, write) };
            assert_eq!(anew, wanted);
        }
    }
}
