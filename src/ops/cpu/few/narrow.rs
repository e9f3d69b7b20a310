//! Products with matrices of few columns, `[out, rank]`: what an adapter of low rank adds to
//! outputs. Each sum alone would take longer to fold than to make, so sixteen outputs are made at
//! once.

use pulp::{Simd, WithSimd};

use super::AT_ONCE;
use crate::device::arch;
use crate::ops::cpu::element::Number;
use crate::ops::cpu::host_tensor::StoredNumbers;
use crate::ops::cpu::packed::View;
use crate::ops::cpu::pointwise::LANES;

/// Adds `hidden · bᵀ` for rows `hidden: [rows, rank]` and `b: [out, rank]` to the outputs of each
/// row from a first one on; each sum in the order of the rank. Numbers of `b` are rounded to
/// bfloat16 first where that is asked for.
pub fn add_narrow(
    hidden: View<f32>,
    b: StoredNumbers,
    rounds: bool,
    first: usize,
    target: &mut [&mut [f32]],
) {
    arch().dispatch(Narrow { hidden, b, rounds, first, target });
}

struct Narrow<'a, 't, 'r> {
    hidden: View<'a, f32>,
    b: StoredNumbers<'a>,
    rounds: bool,
    first: usize,
    target: &'t mut [&'r mut [f32]],
}

impl WithSimd for Narrow<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { hidden, b, rounds, first, target } = self;
        let (count, rank) = (target.first().map_or(0, |row| row.len()), hidden.columns);
        let mut wide = vec![0.0_f32; rank];
        let mut turned = vec![[0.0_f32; LANES]; rank];
        for at in (0..count).step_by(LANES) {
            let outputs = LANES.min(count - at);
            for output in 0..outputs {
                b.read(first + at + output, &mut wide);
                for (turned, x) in turned.iter_mut().zip(&wide) {
                    turned[output] = if rounds { x.rounded().wide() } else { *x };
                }
            }
            let mut row = 0;
            while row < hidden.rows {
                let many = row + AT_ONCE <= hidden.rows;
                let found = match many {
                    true => sums(std::array::from_fn(|it| hidden.row(row + it)), &turned),
                    false => {
                        let [found] = sums([hidden.row(row)], &turned);
                        [found, [0.0; LANES], [0.0; LANES], [0.0; LANES]]
                    }
                };
                let rows = if many { AT_ONCE } else { 1 };
                for (target, found) in target[row..row + rows].iter_mut().zip(&found) {
                    for (to, sum) in target[at..at + outputs].iter_mut().zip(found) {
                        *to += sum;
                    }
                }
                row += rows;
            }
        }
    }
}

/// Of some rows at once: one alone would wait for its last addition before the next.
#[inline(always)]
fn sums<const ROWS: usize>(
    hidden: [&[f32]; ROWS],
    turned: &[[f32; LANES]],
) -> [[f32; LANES]; ROWS] {
    let mut sums = [[0.0_f32; LANES]; ROWS];
    for (place, turned) in turned.iter().enumerate() {
        for row in 0..ROWS {
            let x = hidden[row][place];
            for lane in 0..LANES {
                sums[row][lane] = x.mul_add(turned[lane], sums[row][lane]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn it_adds_the_product_whatever_stands_beside_it() {
        let stream = Stream::new(8);
        #[expect(clippy::cast_possible_truncation)]
        let numbers: Vec<f32> = (0..4000).map(|index| stream.normal(index) as f32).collect();
        for (rows, outputs, rank) in [(1, 5, 1), (3, 16, 8), (7, 37, 16), (16, 70, 33)] {
            let hidden = View::new(&numbers[..rows * rank], rows, rank);
            let b = View::new(&numbers[1000..1000 + outputs * rank], outputs, rank);
            for rounds in [false, true] {
                let number = |x: f32| if rounds { x.rounded().wide() } else { x };
                let mut all = vec![0.25; rows * outputs];
                let mut target: Vec<&mut [f32]> = all.chunks_exact_mut(outputs).collect();
                add_narrow(hidden, StoredNumbers::F32(b), rounds, 0, &mut target);
                for (row, found) in all.chunks_exact(outputs).enumerate() {
                    for (output, found) in found.iter().enumerate() {
                        let pairs = hidden.row(row).iter().zip(b.row(output));
                        let sum: f32 = pairs.map(|(x, b)| x * number(*b)).sum();
                        assert!((found - 0.25 - sum).abs() < 1e-4, "{found} and {sum}");
                    }
                    // Alone, and in two parts.
                    let (mut alone, middle) = (vec![0.25; outputs], outputs / 2);
                    let row = hidden.part((row, 1), (0, rank));
                    let (left, right) = alone.split_at_mut(middle);
                    add_narrow(row, StoredNumbers::F32(b), rounds, 0, &mut [left]);
                    add_narrow(row, StoredNumbers::F32(b), rounds, middle, &mut [right]);
                    assert_eq!(alone, found);
                }
            }
        }
    }
}
