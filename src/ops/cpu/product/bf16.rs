//! Products of bfloat16 with the instructions for it. The only unsafe code of the products: the
//! scalar twin that tests compare it with is [`twin`].

#![allow(unsafe_code)] // vector instructions, behind a check that the processor has them

use super::{ROWS, RowBlock, Tile, TileInput, sweep};
use crate::device::multiplies_bfloat16;
use crate::ops::cpu::element::{Bf16, Number};
use crate::ops::cpu::packed::PANEL;

/// Rows of a product.
pub(super) fn rows(block: RowBlock<'_, Bf16>) {
    #[cfg(target_arch = "x86_64")]
    if multiplies_bfloat16() {
        // SAFETY: the processor has the instructions that `vectors::rows` is compiled for.
        unsafe { vectors::rows(block) };
        return;
    }
    sweep(block, twin);
}

/// A tile in plain code: each pair of products is added to the sum, the second first, as the
/// instruction does it, apart from its rounding.
fn twin(parts: &[TileInput<'_, Bf16>], width: usize, begins: bool, sums: &mut Tile) {
    if begins {
        *sums = [[0.0; PANEL]; ROWS];
    }
    for part in parts {
        for (k, pairs) in part.panel.chunks_exact(width).enumerate() {
            for (row, sums) in part.rows.iter().zip(sums.iter_mut()) {
                let (first, second) = (row[2 * k].wide(), row[2 * k + 1].wide());
                for (sum, pair) in sums.iter_mut().zip(pairs) {
                    *sum += second * pair[1].wide();
                    *sum += first * pair[0].wide();
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m512bh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::{Bf16, ROWS, RowBlock, Tile, TileInput, sweep};

    /// # Safety
    /// The processor must have AVX512-F and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn rows(block: RowBlock<'_, Bf16>) {
        sweep(block, |parts, width, begins, sums| {
            // SAFETY: the features are those of this function.
            unsafe {
                match width / 16 {
                    4 => tile::<4>(parts, begins, sums),
                    3 => tile::<3>(parts, begins, sums),
                    2 => tile::<2>(parts, begins, sums),
                    _ => tile::<1>(parts, begins, sums),
                }
            }
        });
    }

    /// A tile of `V` vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    unsafe fn tile<const V: usize>(parts: &[TileInput<'_, Bf16>], begins: bool, sums: &mut Tile) {
        let mut held = [[_mm512_setzero_ps(); V]; ROWS];
        if !begins {
            for (held, sums) in held.iter_mut().zip(&*sums) {
                for (held, sums) in held.iter_mut().zip(sums.chunks_exact(16)) {
                    // SAFETY: there are 16 numbers.
                    *held = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
                }
            }
        }
        for part in parts {
            let pairs = part.panel.len() / (16 * V);
            let rows = part.rows.map(|row| {
                assert!(row.len() == 2 * pairs, "rows are as long as the panel is deep");
                row.as_ptr()
            });
            let panel = part.panel.as_ptr();
            for k in 0..pairs {
                // SAFETY: the panel holds `pairs · V` vectors of 16 pairs, each row `pairs` pairs
                // (checked above); loads need no alignment; both types are 512 bits of any value.
                unsafe {
                    let numbers: [__m512bh; V] = std::array::from_fn(|vector| {
                        transmute(_mm512_loadu_si512(panel.add((k * V + vector) * 16).cast()))
                    });
                    for (row, held) in rows.iter().zip(&mut held) {
                        let pair = row.add(2 * k).cast::<i32>().read_unaligned();
                        let factor: __m512bh = transmute(_mm512_set1_epi32(pair));
                        for (held, number) in held.iter_mut().zip(numbers) {
                            *held = _mm512_dpbf16_ps(*held, factor, number);
                        }
                    }
                }
            }
        }
        for (held, sums) in held.iter().zip(sums) {
            for (held, target) in held.iter().zip(sums.chunks_exact_mut(16)) {
                // SAFETY: the target holds 16 numbers.
                unsafe { _mm512_storeu_ps(target.as_mut_ptr(), *held) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::element::F32;
    use crate::ops::cpu::packed::{Left, PackedRhs, View};
    use crate::ops::cpu::product::{Term, product};
    use crate::random::Stream;

    /// Where there are no such instructions, the twin is what products are made of.
    #[test]
    fn the_twin_computes_what_the_instructions_compute() {
        let stream = Stream::new(4);
        #[expect(clippy::cast_possible_truncation)]
        let random = |first: u64, count: u64| -> Vec<f32> {
            (first..first + count).map(|index| stream.normal(index) as f32).collect()
        };
        let (a, b) = (random(0, 6 * 34), random(1000, 34 * 64));
        let left = Left::<Bf16>::of(View::new(&a, 6, 34));
        let right = PackedRhs::<Bf16>::pack_cols(View::new(&b, 34, 64));
        let rows = std::array::from_fn(|row| left.view().row(row));
        let mut sums = [[0.0; PANEL]; ROWS];
        twin(&[TileInput { rows, panel: right.panel(0, (0, 34)) }], 64, true, &mut sums);
        let ours = product(&[Term { left: left.view(), right: &right }]);
        for (twin, ours) in sums.iter().flatten().zip(&ours) {
            assert!((twin - ours).abs() < 1e-5, "{twin} and {ours}");
        }
        let exact = Left::<F32>::of(View::new(&a, 6, 34));
        let right = PackedRhs::<F32>::pack_cols(View::new(&b, 34, 64));
        let exact = product(&[Term { left: exact.view(), right: &right }]);
        assert_ne!(exact, ours, "bfloat16 is not 32 bits");
    }
}
