//! Sums of products of bfloat16 with the instructions for it, of weights as they are kept.

#![allow(unsafe_code)] // vector instructions, behind a check that the processor has them

use half::bf16;

use crate::ops::cpu::host_tensor::StoredNumbers;
use crate::ops::cpu::packed::View;

/// Writes the outputs of some weights from a first one on, of each row. Numbers that are not kept
/// in bfloat16 are rounded to it.
///
/// # Panics
/// Where the processor has no instructions for it.
pub fn outputs(x: View<bf16>, w: StoredNumbers, first: usize, target: &mut [&mut [f32]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = vectors::Instructions::find() {
        // SAFETY: the processor has them, as it was found just now.
        return unsafe { vectors::all(instructions, x, w, first, target) };
    }
    let _ = (x, w, first, target);
    unreachable!("the processor is asked first");
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512d, _mm_storeu_ps, _mm512_add_ps, _mm512_castpd_ps,
        _mm512_castps_pd, _mm512_dpbf16_ps, _mm512_extractf32x4_ps, _mm512_loadu_si512,
        _mm512_maskz_loadu_epi16, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_unpackhi_pd,
        _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };
    use std::mem::transmute;

    use half::bf16;

    use super::super::ahead::call_for;
    use super::super::{AT_ONCE, Sums, as_kept, write};
    use crate::device::multiplies_bfloat16;
    use crate::ops::cpu::element::Number;
    use crate::ops::cpu::host_tensor::StoredNumbers;
    use crate::ops::cpu::packed::View;

    /// Numbers that an instruction takes of a factor.
    const WIDTH: usize = 32;

    /// The instructions, of a processor that has them.
    #[derive(Clone, Copy)]
    pub struct Instructions(());

    impl Instructions {
        /// Whether it has.
        pub fn find() -> Option<Self> {
            multiplies_bfloat16().then_some(Self(()))
        }
    }

    /// All outputs: compiled for that processor as a whole, so that sums go from registers to their
    /// places.
    ///
    /// # Safety
    /// The processor must have AVX512-F, AVX512-BW and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn all(
        instructions: Instructions,
        x: View<bf16>,
        w: StoredNumbers,
        first: usize,
        target: &mut [&mut [f32]],
    ) {
        match w {
            StoredNumbers::Bf16(w) => as_kept(instructions, x, w, first, target),
            w => converted(instructions, x, w, first, target),
        }
    }

    /// All outputs, of weights that are rounded a few rows at a time.
    #[inline(always)]
    fn converted(
        instructions: Instructions,
        x: View<bf16>,
        w: StoredNumbers,
        first: usize,
        target: &mut [&mut [f32]],
    ) {
        let count = target.first().map_or(0, |row| row.len());
        let columns = w.columns();
        let mut wide = vec![0.0_f32; columns];
        let mut numbers = vec![bf16::ZERO; AT_ONCE * columns];
        for at in (0..count).step_by(AT_ONCE) {
            for o in 0..AT_ONCE.min(count - at) {
                let numbers = &mut numbers[o * columns..][..columns];
                let row = first + at + o;
                let wide = if let StoredNumbers::F32(w) = w {
                    w.row(row)
                } else {
                    w.read(row, &mut wide);
                    &wide
                };
                for (number, wide) in numbers.iter_mut().zip(wide) {
                    *number = wide.rounded();
                }
            }
            let mut rows: [&[bf16]; AT_ONCE] = [&[]; AT_ONCE];
            for o in 0..AT_ONCE {
                rows[o] = &numbers[o * columns..][..columns];
            }
            write::<Instructions, false>(instructions, x, rows, at, target);
        }
    }

    impl Sums for Instructions {
        type Row = bf16;
        type Weight = bf16;

        #[inline]
        fn write<const ROWS: usize, const FETCHES: bool>(
            self,
            x: [&[bf16]; ROWS],
            w: [&[bf16]; AT_ONCE],
            target: &mut [&mut [f32]],
            at: usize,
        ) {
            // SAFETY: there is one of these only where the processor has them.
            unsafe { tile::<ROWS, FETCHES>(x, w, target, at) };
        }
    }

    /// Writes the sums of some rows with four outputs from one on. Each is summed in sixteen lanes,
    /// pair by pair, and the lanes in one order, whatever stands beside it. Where it fetches,
    /// weights that come later in memory are called for.
    ///
    /// # Safety
    /// The processor must have AVX512-F, AVX512-BW and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn tile<const ROWS: usize, const FETCHES: bool>(
        x: [&[bf16]; ROWS],
        w: [&[bf16]; AT_ONCE],
        target: &mut [&mut [f32]],
        at_output: usize,
    ) {
        let length = w[0].len();
        assert!(w.iter().all(|w| w.len() == length), "rows of weights are as long as each other");
        assert!(x.iter().all(|x| x.len() >= length), "factors are as long as rows of weights");
        let rows_of_w = w;
        let (x, w) = (x.map(<[bf16]>::as_ptr), w.map(<[bf16]>::as_ptr));
        let mut held = [_mm512_setzero_ps(); AT_ONCE * AT_ONCE];
        let whole = length / WIDTH * WIDTH;
        // SAFETY: rows hold so many numbers (checked above), and loads need no alignment; both
        // types are 512 bits of any value.
        let load = |from: *const bf16, at: usize| -> __m512bh {
            unsafe { transmute(_mm512_loadu_si512(from.add(at).cast())) }
        };
        if ROWS == 1 {
            // Memory comes by itself for one row, which reads all weights in their order.
            for output in 0..AT_ONCE {
                for at in (0..whole).step_by(WIDTH) {
                    let (x, w) = (load(x[0], at), load(w[output], at));
                    held[output] = _mm512_dpbf16_ps(held[output], x, w);
                }
            }
        } else {
            for at in (0..whole).step_by(WIDTH) {
                add(&mut held, x.map(|x| load(x, at)), w.map(|w| load(w, at)));
                if FETCHES {
                    let bytes = AT_ONCE * size_of::<bf16>();
                    call_for(rows_of_w[0], at * bytes, AT_ONCE);
                }
            }
        }
        if whole < length {
            let mask = (1_u32 << (length - whole)) - 1;
            // SAFETY: what the mask leaves out is not read.
            let load = |from: *const bf16| -> __m512bh {
                unsafe { transmute(_mm512_maskz_loadu_epi16(mask, from.add(whole).cast())) }
            };
            add(&mut held, x.map(load), w.map(load));
        }
        let sums = sums_of(held);
        let rows = [
            _mm512_extractf32x4_ps::<0>(sums),
            _mm512_extractf32x4_ps::<1>(sums),
            _mm512_extractf32x4_ps::<2>(sums),
            _mm512_extractf32x4_ps::<3>(sums),
        ];
        for (target, sums) in target[..ROWS].iter_mut().zip(rows) {
            let target = &mut target[at_output..];
            if target.len() >= AT_ONCE {
                // SAFETY: there is room for four numbers.
                unsafe { _mm_storeu_ps(target.as_mut_ptr(), sums) };
            } else {
                let mut few = [0.0; AT_ONCE];
                // SAFETY: as above.
                unsafe { _mm_storeu_ps(few.as_mut_ptr(), sums) };
                target.copy_from_slice(&few[..target.len()]);
            }
        }
    }

    /// Adds the products of each row with each output.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    fn add<const ROWS: usize>(
        held: &mut [__m512; AT_ONCE * AT_ONCE],
        x: [__m512bh; ROWS],
        w: [__m512bh; AT_ONCE],
    ) {
        for row in 0..ROWS {
            for output in 0..AT_ONCE {
                let held = &mut held[row * AT_ONCE + output];
                *held = _mm512_dpbf16_ps(*held, x[row], w[output]);
            }
        }
    }

    /// The sum of the lanes of each of sixteen vectors.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn sums_of(held: [__m512; 16]) -> __m512 {
        let pairs: [__m512d; 8] = std::array::from_fn(|i| {
            let (a, b) = (held[2 * i], held[2 * i + 1]);
            let sum = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            _mm512_castps_pd(sum)
        });
        // In each quarter of a vector the sum of that quarter of four.
        let fours: [__m512; 4] = std::array::from_fn(|i| {
            let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
        });
        let across = |a: __m512, b: __m512| -> __m512 {
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
            _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b))
        };
        across(across(fours[0], fours[1]), across(fours[2], fours[3]))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::random::Stream;

        #[test]
        fn sums_beside_others_are_those_of_each_alone_and_of_the_numbers() {
            let Some(instructions) = Instructions::find() else {
                return; // nor does any product come here
            };
            let stream = Stream::new(6);
            #[expect(clippy::cast_possible_truncation)]
            let numbers: Vec<bf16> =
                (0..800).map(|index| (stream.normal(index) as f32).rounded()).collect();
            for length in [0, 1, 2, 32, 37, 64, 99] {
                let of = |row: usize| &numbers[row * 100..][..length];
                let (x, w) = (std::array::from_fn(of), std::array::from_fn(|o| of(4 + o)));
                let sums = |rows: &[usize]| {
                    let mut found = vec![[0.0; AT_ONCE + 1]; rows.len()];
                    let mut target: Vec<&mut [f32]> =
                        found.iter_mut().map(<[f32; 5]>::as_mut_slice).collect();
                    match rows {
                        [row] => instructions.write::<1, false>([x[*row]], w, &mut target, 1),
                        _ => instructions.write::<AT_ONCE, true>(x, w, &mut target, 1),
                    }
                    found
                };
                for (row, found) in sums(&[0, 1, 2, 3]).into_iter().enumerate() {
                    assert_eq!([found], *sums(&[row]));
                    let [before, found @ ..] = found;
                    assert_eq!(before, 0.0);
                    for (w, sum) in w.iter().zip(found) {
                        let exact: f32 =
                            x[row].iter().zip(*w).map(|(x, w)| x.wide() * w.wide()).sum();
                        assert!((sum - exact).abs() < 1e-4, "{sum} and {exact}");
                    }
                }
            }
        }
    }
}
