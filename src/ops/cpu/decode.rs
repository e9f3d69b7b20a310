//! Linear layers where text is written, a row for each text: weights and additions of low rank are
//! read as they are kept.

use super::few::few_rows;
use super::low_rank::LowRank;
use super::packed::View;
use super::projection::Projection;

/// What linear layers of one input give for a few rows `x: [rows, in]`, `[rows, out]` each, with
/// all additions; factors of products are rounded to bfloat16 where that is asked for.
pub fn decode_outputs<const N: usize>(
    to: [&Projection; N],
    x: View<f32>,
    rounds: bool,
) -> [Vec<f32>; N] {
    let mut outputs = few_rows(x, to.map(|to| to.weight.numbers()), rounds);
    for (to, y) in to.iter().zip(&mut outputs) {
        if let Some(low) = &to.low_rank {
            add_low_rank(low, x, rounds, y);
        }
        if let Some((bias, _)) = &to.bias {
            for row in y.chunks_exact_mut(bias.columns()) {
                row.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y += bias);
            }
        }
    }
    outputs
}

/// Nothing is dropped outside of training.
fn add_low_rank(low: &LowRank, x: View<f32>, rounds: bool, y: &mut [f32]) {
    let [mut hidden] = few_rows(x, [low.a.numbers()], rounds);
    hidden.iter_mut().for_each(|x| *x *= low.scale);
    let hidden = View::new(&hidden, x.rows, low.rank());
    let [more] = few_rows(hidden, [low.b.numbers()], rounds);
    y.iter_mut().zip(more).for_each(|(y, more)| *y += more);
    if let Some(magnitude) = &low.magnitude {
        for row in y.chunks_exact_mut(magnitude.factor.len()) {
            row.iter_mut().zip(&magnitude.factor).for_each(|(y, factor)| *y *= factor);
        }
    }
}
