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
    let low_ranks =
        || to.iter().enumerate().filter_map(|(at, to)| Some((at, to.low_rank.as_ref()?)));
    let mut pairs: Vec<_> = to.iter().map(|to| (x, to.weight.numbers())).collect();
    pairs.extend(low_ranks().map(|(_, low)| (x, low.a.numbers())));
    let mut outputs = few_rows(&pairs, rounds);
    let mut hidden = outputs.split_off(N);
    for (hidden, (_, low)) in hidden.iter_mut().zip(low_ranks()) {
        hidden.iter_mut().for_each(|x| *x *= low.scale);
    }
    let pairs: Vec<_> = hidden
        .iter()
        .zip(low_ranks())
        .map(|(hidden, (_, low))| (View::new(hidden, x.rows, low.rank()), low.b.numbers()))
        .collect();
    for (more, (at, low)) in few_rows(&pairs, rounds).into_iter().zip(low_ranks()) {
        add_low_rank(low, &more, &mut outputs[at]);
    }
    for (to, y) in to.iter().zip(&mut outputs) {
        if let Some((bias, _)) = &to.bias {
            for row in y.chunks_exact_mut(bias.columns()) {
                row.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y += bias);
            }
        }
    }
    outputs.try_into().expect("an output for each layer")
}

/// Nothing is dropped outside of training.
fn add_low_rank(low: &LowRank, more: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(more).for_each(|(y, more)| *y += more);
    if let Some(magnitude) = &low.magnitude {
        for row in y.chunks_exact_mut(magnitude.factor.len()) {
            row.iter_mut().zip(&magnitude.factor).for_each(|(y, factor)| *y *= factor);
        }
    }
}
