//! Linear layers where text is written, a row for each text: weights and additions of low rank are
//! read as they are kept.

use super::element::Number;
use super::few::{add_narrow, few_rows, few_rows_then};
use super::packed::View;
use super::projection::Projection;

/// What linear layers of one input give for a few rows `x: [rows, in]`, `[rows, out]` each, with
/// all additions, which are made while an output is at hand; factors of products are rounded to
/// bfloat16 where that is asked for.
pub fn decode_outputs<const N: usize>(
    to: [&Projection; N],
    x: View<f32>,
    rounds: bool,
) -> [Vec<f32>; N] {
    let low_ranks: Vec<_> = to.iter().filter_map(|to| to.low_rank.as_ref()).collect();
    let weights: Vec<_> = low_ranks.iter().map(|low| low.a.numbers()).collect();
    let mut hidden = few_rows(x, &weights, rounds);
    for (hidden, low) in hidden.iter_mut().zip(&low_ranks) {
        for x in hidden {
            *x *= low.scale;
            if rounds {
                *x = x.rounded().wide();
            }
        }
    }
    let mut hidden = hidden.iter();
    let hidden: [Option<&Vec<f32>>; N] =
        to.map(|to| to.low_rank.as_ref().and_then(|_| hidden.next()));
    let weights = to.map(|to| to.weight.numbers());
    let outputs = few_rows_then(x, &weights, rounds, |number, first, target| {
        let to = to[number];
        if let (Some(low), Some(hidden)) = (&to.low_rank, hidden[number]) {
            // Nothing is dropped outside of training.
            let hidden = View::new(hidden, x.rows, low.rank());
            add_narrow(hidden, low.b.numbers(), rounds, first, target);
            if let Some(magnitude) = &low.magnitude {
                let factors = &magnitude.factor[first..];
                for row in &mut *target {
                    row.iter_mut().zip(factors).for_each(|(y, factor)| *y *= factor);
                }
            }
        }
        if let Some((bias, _)) = &to.bias {
            let bias = &bias.single()[first..];
            for row in target {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
    });
    outputs.try_into().expect("an output for each layer")
}
