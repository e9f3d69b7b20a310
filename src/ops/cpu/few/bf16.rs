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
    if crate::device::multiplies_bfloat16() {
        vectors::outputs(x, w, first, target);
        return;
    }
    let _ = (x, w, first, target);
    unreachable!("the processor is asked first");
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512d, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
        _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_maskz_loadu_epi16, _mm512_setzero_ps,
        _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
        _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };
    use std::mem::transmute;

    use half::bf16;

    use super::super::ahead::call_for;
    use crate::ops::cpu::element::Number;
    use crate::ops::cpu::host_tensor::StoredNumbers;
    use crate::ops::cpu::packed::View;

    /// Rows, and outputs, that are summed at once where there are so many.
    const AT_ONCE: usize = 4;
    /// Numbers that an instruction takes of a factor.
    const WIDTH: usize = 32;

    /// As outside; the processor must have the instructions.
    pub fn outputs(x: View<bf16>, w: StoredNumbers, first: usize, target: &mut [&mut [f32]]) {
        let count = target.first().map_or(0, |row| row.len());
        let columns = w.columns();
        match w {
            StoredNumbers::Bf16(w) => {
                for at in (0..count).step_by(AT_ONCE) {
                    // Outputs beyond the last are the last again, and go nowhere.
                    let w = std::array::from_fn(|o| w.row(first + (at + o).min(count - 1)));
                    write(x, w, at, target);
                }
            }
            w => {
                let mut wide = vec![0.0_f32; columns];
                let mut rounded = vec![bf16::ZERO; AT_ONCE * columns];
                for at in (0..count).step_by(AT_ONCE) {
                    for o in 0..AT_ONCE.min(count - at) {
                        w.read(first + at + o, &mut wide);
                        let rounded = &mut rounded[o * columns..][..columns];
                        for (rounded, wide) in rounded.iter_mut().zip(&wide) {
                            *rounded = wide.rounded();
                        }
                    }
                    let w = std::array::from_fn(|o| &rounded[o * columns..][..columns]);
                    write(x, w, at, target);
                }
            }
        }
    }

    /// A few outputs of all rows.
    fn write(x: View<bf16>, w: [&[bf16]; AT_ONCE], at: usize, target: &mut [&mut [f32]]) {
        let mut row = 0;
        while row < x.rows {
            let together = if row + AT_ONCE <= x.rows { AT_ONCE } else { 1 };
            let mut sums = [0.0; AT_ONCE * AT_ONCE];
            // SAFETY: the processor has the instructions, as the caller of this module found.
            unsafe {
                let rows = || std::array::from_fn(|i| x.row(row + i));
                match (together, row) {
                    (1, 0) => tile::<1, true>([x.row(row)], w, &mut sums),
                    (1, _) => tile::<1, false>([x.row(row)], w, &mut sums),
                    (_, 0) => tile::<AT_ONCE, true>(rows(), w, &mut sums),
                    _ => tile::<AT_ONCE, false>(rows(), w, &mut sums),
                }
            }
            let rows = target[row..][..together].iter_mut();
            for (target, sums) in rows.zip(sums.chunks_exact(AT_ONCE)) {
                for (target, sum) in target[at..].iter_mut().zip(sums) {
                    *target = *sum;
                }
            }
            row += together;
        }
    }
    /// The sums of some rows with four outputs, `[rows, outputs]`. Each is summed in sixteen lanes,
    /// pair by pair, and the lanes in one order, whatever stands beside it. Where it fetches,
    /// weights that come later in memory are called for.
    ///
    /// # Safety
    /// The processor must have AVX512-F, AVX512-BW and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn tile<const ROWS: usize, const FETCHES: bool>(
        x: [&[bf16]; ROWS],
        w: [&[bf16]; AT_ONCE],
        sums: &mut [f32; AT_ONCE * AT_ONCE],
    ) {
        let length = w[0].len();
        assert!(w.iter().all(|w| w.len() == length), "rows of weights are as long as each other");
        assert!(x.iter().all(|x| x.len() >= length), "factors are as long as rows of weights");
        let rows_of_w = w;
        let (x, w) = (x.map(<[bf16]>::as_ptr), w.map(<[bf16]>::as_ptr));
        let mut held = [_mm512_setzero_ps(); AT_ONCE * AT_ONCE];
        let whole = length / WIDTH * WIDTH;
        for at in (0..whole).step_by(WIDTH) {
            // SAFETY: rows hold so many numbers (checked above), and loads need no alignment; both
            // types are 512 bits of any value.
            let load = |from: *const bf16| -> __m512bh {
                unsafe { transmute(_mm512_loadu_si512(from.add(at).cast())) }
            };
            add(&mut held, x.map(load), w.map(load));
            if FETCHES {
                let bytes = AT_ONCE * size_of::<bf16>();
                call_for(rows_of_w[0], at * bytes, AT_ONCE);
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
        // SAFETY: there is room for sixteen numbers.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sums_of(held)) };
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
        use crate::device::multiplies_bfloat16;
        use crate::ops::cpu::element::Number;
        use crate::random::Stream;

        #[test]
        fn sums_beside_others_are_those_of_each_alone_and_of_the_numbers() {
            if !multiplies_bfloat16() {
                return; // nor does any product come here
            }
            let stream = Stream::new(6);
            #[expect(clippy::cast_possible_truncation)]
            let numbers: Vec<bf16> =
                (0..800).map(|index| (stream.normal(index) as f32).rounded()).collect();
            for length in [0, 1, 2, 32, 37, 64, 99] {
                let of = |row: usize| &numbers[row * 100..][..length];
                let (x, w) = (std::array::from_fn(of), std::array::from_fn(|o| of(4 + o)));
                let (mut found, mut alone) = ([0.0; 16], [0.0; 16]);
                // SAFETY: the processor was asked.
                unsafe { tile::<4, true>(x, w, &mut found) };
                for (row, sums) in x.iter().zip(found.chunks_exact(AT_ONCE)) {
                    // SAFETY: as above.
                    unsafe { tile::<1, false>([row], w, &mut alone) };
                    assert_eq!(sums, &alone[..AT_ONCE]);
                    for (w, sum) in w.iter().zip(sums) {
                        let exact: f32 = row.iter().zip(*w).map(|(x, w)| x.wide() * w.wide()).sum();
                        assert!((sum - exact).abs() < 1e-4, "{sum} and {exact}");
                    }
                }
            }
        }
    }
}
