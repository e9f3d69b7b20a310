//! Memory that products are written to.

use std::mem::MaybeUninit;

use super::element::Format;

/// Where sums go.
pub enum Target<'a, F: Format> {
    /// Memory that nothing was written to yet.
    New(&'a mut [MaybeUninit<f32>]),
    /// They are added to what is there.
    Sum(&'a mut [f32]),
    /// Memory that nothing was written to yet, in the format of factors: whole sums alone.
    Factor(&'a mut [MaybeUninit<F::Stored>]),
}

impl<F: Format> Target<'_, F> {
    /// Numbers that there is room for.
    pub fn len(&self) -> usize {
        match self {
            Self::New(target) => target.len(),
            Self::Sum(target) => target.len(),
            Self::Factor(target) => target.len(),
        }
    }

    /// Sums of a row of a tile.
    #[inline(always)]
    pub fn put(&mut self, at: usize, sums: &[f32]) {
        match self {
            Self::New(target) => {
                target[at..at + sums.len()].write_copy_of_slice(sums);
            }
            Self::Sum(target) => {
                for (target, sum) in target[at..at + sums.len()].iter_mut().zip(sums) {
                    *target += sum;
                }
            }
            Self::Factor(target) => {
                for (target, sum) in target[at..at + sums.len()].iter_mut().zip(sums) {
                    target.write(F::of(*sum));
                }
            }
        }
    }

    /// After the first pass, which wrote a tile to every place.
    #[inline(always)]
    pub fn written(self) -> Self {
        match self {
            // SAFETY: panels are all columns, and tiles of each all rows; there is a pass of one
            // step at least, also for no inner numbers.
            #[expect(unsafe_code)]
            Self::New(target) => Self::Sum(unsafe { target.assume_init_mut() }),
            other => other,
        }
    }
}
