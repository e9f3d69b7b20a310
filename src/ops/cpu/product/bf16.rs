//! Products of bfloat16 with the instructions for it. The only unsafe code of the products: the
//! scalar twin that tests compare it with is [`twin`].

#![allow(unsafe_code)] // vector instructions, behind a check that the processor has them

use half::bf16;

use super::wide::{self, ROWS, Sums, TileInput};
use super::{RowBlock, tall};
use crate::device::{InstructionSet, TileShape};
use crate::ops::cpu::element::{Bf16, Group, Number};
use crate::ops::cpu::packed::PANEL;

/// Rows of a product.
pub(super) fn rows(block: RowBlock<'_, Bf16>) {
    let shape = block.tile.shape;
    #[cfg(target_arch = "x86_64")]
    if block.tile.instructions == InstructionSet::Avx512Bf16 {
        // Panics where the processor has no such instructions.
        block.tile.instructions.arch();
        // SAFETY: the processor has the instructions that both are compiled for.
        return unsafe {
            match shape {
                TileShape::Wide => vectors::rows(block),
                TileShape::Tall => vectors::tall_rows(block),
            }
        };
    }
    match shape {
        TileShape::Wide => wide::sweep(block, twin),
        TileShape::Tall => tall::sweep(block, Twin),
    }
}

/// A tile in plain code: each pair of products is added to the sum, the second first, as the
/// instruction does it, apart from its rounding.
fn twin(parts: &[TileInput<'_, Bf16>], width: usize, begins: bool, sums: &mut Sums) {
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

/// The same in tiles of more rows and fewer outputs.
#[derive(Clone, Copy)]
struct Twin;

impl tall::Tiles<Bf16> for Twin {
    fn sum(
        self,
        parts: &[tall::TileInput<Bf16>],
        outputs: usize,
        begins: bool,
        sums: &mut tall::Sums,
    ) {
        if begins {
            *sums = [[0.0; tall::OUTPUTS]; tall::ROWS];
        }
        for part in parts {
            for (k, factors) in part.rows.chunks_exact(tall::ROWS).enumerate() {
                let pairs = &part.panel[k * part.width..][..outputs];
                for (sums, bits) in sums.iter_mut().zip(factors) {
                    let [first, second] = <[bf16; 2]>::of_bits(*bits);
                    for (sum, pair) in sums.iter_mut().zip(pairs) {
                        *sum += second.wide() * pair[1].wide();
                        *sum += first.wide() * pair[0].wide();
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::wide::{ROWS, Sums, TileInput, sweep};
    use super::{Bf16, RowBlock, tall};

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

    /// The same in tiles of more rows and fewer outputs.
    ///
    /// # Safety
    /// The processor must have AVX512-F and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn tall_rows(block: RowBlock<Bf16>) {
        tall::sweep(block, Tall(()));
    }

    /// Tiles of a processor that has the instructions: made by [`tall_rows`] alone.
    #[derive(Clone, Copy)]
    struct Tall(());

    impl tall::Tiles<Bf16> for Tall {
        #[inline(always)]
        fn sum(
            self,
            parts: &[tall::TileInput<Bf16>],
            outputs: usize,
            begins: bool,
            sums: &mut tall::Sums,
        ) {
            // SAFETY: there is one of these only where the processor has them.
            unsafe {
                match outputs {
                    tall::OUTPUTS => tall_tile::<2>(parts, begins, sums),
                    _ => tall_tile::<1>(parts, begins, sums),
                }
            }
        }
    }

    /// A tile of 14 rows and `V` vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    unsafe fn tall_tile<const V: usize>(
        parts: &[tall::TileInput<Bf16>],
        begins: bool,
        sums: &mut tall::Sums,
    ) {
        let mut held = [[_mm512_setzero_ps(); V]; tall::ROWS];
        if !begins {
            for row in 0..tall::ROWS {
                for vector in 0..V {
                    let sums = &sums[row][vector * 16..][..16];
                    // SAFETY: there are 16 numbers.
                    held[row][vector] = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
                }
            }
        }
        for part in parts {
            let pairs = part.rows.len() / tall::ROWS;
            let end = pairs.saturating_sub(1) * part.width + V * 16;
            assert!(pairs == 0 || part.panel.len() >= end, "panels are as deep as rows are long");
            let (rows, panel) = (part.rows.as_ptr(), part.panel.as_ptr());
            for k in 0..pairs {
                let mut numbers: [__m512bh; V] =
                    // SAFETY: both types are 512 bits of any value.
                    [unsafe { transmute::<__m512, __m512bh>(_mm512_setzero_ps()) }; V];
                // SAFETY: the panel holds `V` vectors of 16 pairs in every group, rows a pair of
                // each (checked above); loads need no alignment; both types are 512 bits of any
                // value.
                unsafe {
                    for (vector, number) in numbers.iter_mut().enumerate() {
                        let from = panel.add(k * part.width + vector * 16).cast();
                        *number = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(from));
                    }
                    for (row, held) in held.iter_mut().enumerate() {
                        let pair = rows.add(k * tall::ROWS + row).cast::<i32>().read_unaligned();
                        let factor: __m512bh = transmute(_mm512_set1_epi32(pair));
                        for (held, number) in held.iter_mut().zip(numbers) {
                            *held = _mm512_dpbf16_ps(*held, factor, number);
                        }
                    }
                }
            }
        }
        for row in 0..tall::ROWS {
            for vector in 0..V {
                let target = &mut sums[row][vector * 16..][..16];
                // SAFETY: the target holds 16 numbers.
                unsafe { _mm512_storeu_ps(target.as_mut_ptr(), held[row][vector]) };
            }
        }
    }

    /// A tile of `V` vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    unsafe fn tile<const V: usize>(parts: &[TileInput<'_, Bf16>], begins: bool, sums: &mut Sums) {
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
        let mut sums: Sums = [[0.0; PANEL]; ROWS];
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
