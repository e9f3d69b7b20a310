//! How the factors of LoRA begin: PEFT's `init_lora_weights`. PiSSA and OLoRA take a part of the
//! weight out of it, which the factors begin with; the layer computes what it did.

use rayon::prelude::*;

use super::settings::{InitLoraWeights, LayerSettings, LoraSettings};
use super::singular::largest;
use crate::error::{Error, Result};
use crate::random::Stream;

/// Factors that are a part of the weight: A `[r, in]`, B `[out, r]`.
#[derive(Debug)]
pub struct Factors {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
}

/// Numbers of A where the weight stays as it is; B is zero then.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // weights are f32
pub fn drawn(settings: &LoraSettings, rank: usize, inputs: usize, stream: Stream) -> Vec<f32> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let one = |index: u64| match settings.init_lora_weights {
        InitLoraWeights::Gaussian => stream.normal(index) / rank as f64,
        _ => (2.0 * stream.uniform(index) - 1.0) * bound,
    };
    (0..(rank * inputs) as u64).map(|index| one(index) as f32).collect()
}

/// Factors that are a part of a weight `[out, in]`, and what is left of it when `scale` times their
/// product is taken away.
pub fn taken_out(
    weight: &[f32],
    inputs: usize,
    (settings, layer): (&LoraSettings, LayerSettings),
    stream: Stream,
) -> (Factors, Vec<f32>) {
    let LayerSettings { rank, scale } = layer;
    let factors = match settings.init_lora_weights {
        InitLoraWeights::Olora => first_columns(weight, inputs, rank),
        _ => principal(weight, inputs, layer, stream),
    };
    let mut rest = weight.to_vec();
    rest.par_chunks_mut(inputs).enumerate().for_each(|(row, rest)| {
        let mut sums = vec![0.0_f64; inputs];
        for k in 0..rank {
            let left = scale * f64::from(factors.b[row * rank + k]);
            let right = &factors.a[k * inputs..][..inputs];
            sums.iter_mut().zip(right).for_each(|(sum, a)| *sum += left * f64::from(*a));
        }
        #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
        rest.iter_mut().zip(sums).for_each(|(rest, sum)| *rest = (f64::from(*rest) - sum) as f32);
    });
    (factors, rest)
}

/// PiSSA: `B = U·√(S/s)`, `A = √(S/s)·Vᵀ` of the largest singular values.
#[expect(clippy::cast_possible_truncation)] // factors are f32
fn principal(weight: &[f32], inputs: usize, layer: LayerSettings, stream: Stream) -> Factors {
    let LayerSettings { rank, scale } = layer;
    let found = largest((weight, inputs), rank, stream);
    let outputs = weight.len() / inputs;
    let (mut a, mut b) = (vec![0.0; rank * inputs], vec![0.0; outputs * rank]);
    for k in 0..rank {
        let root = (found.values[k] / scale).sqrt();
        let row = a[k * inputs..][..inputs].iter_mut().zip(&found.right[k]);
        row.for_each(|(a, x)| *a = (root * x) as f32);
        let column = b.iter_mut().skip(k).step_by(rank).zip(&found.left[k]);
        column.for_each(|(b, x)| *b = (root * x) as f32);
    }
    Factors { a, b }
}

/// OLoRA: B are the first columns of Q, A the first rows of R. By Householder reflections with the
/// signs of LAPACK's `geqrf`.
#[expect(clippy::cast_possible_truncation)] // factors are f32
fn first_columns(weight: &[f32], inputs: usize, rank: usize) -> Factors {
    let outputs = weight.len() / inputs;
    let column = |k: usize| weight.iter().skip(k).step_by(inputs).map(|x| f64::from(*x)).collect();
    let mut columns: Vec<Vec<f64>> = (0..rank).map(column).collect();
    // Each reflection is I − 2·v·vᵀ with a unit vector v, or nothing.
    let mut reflections: Vec<Option<Vec<f64>>> = Vec::new();
    for k in 0..rank {
        let mut v = columns[k].clone();
        v[..k].fill(0.0);
        let rest: f64 = v[k + 1..].iter().map(|x| x * x).sum();
        if rest == 0.0 {
            reflections.push(None);
            continue;
        }
        let length = (v[k] * v[k] + rest).sqrt();
        v[k] += length.copysign(v[k]);
        let norm = (v[k] * v[k] + rest).sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        columns[k + 1..].iter_mut().for_each(|column| reflect(column, &v));
        reflections.push(Some(v));
    }
    let of_q = |k: usize| {
        let mut column = vec![0.0; outputs];
        column[k] = 1.0;
        for v in reflections[..=k].iter().rev().flatten() {
            reflect(&mut column, v);
        }
        column
    };
    let q: Vec<Vec<f64>> = (0..rank).into_par_iter().map(of_q).collect();
    let of_r = |k: usize| {
        let mut row = vec![0.0_f64; inputs];
        for (weights, q) in weight.chunks(inputs).zip(&q[k]) {
            row.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += q * f64::from(*weight));
        }
        row[..k].fill(0.0); // exactly, below the diagonal
        row
    };
    let r: Vec<Vec<f64>> = (0..rank).into_par_iter().map(of_r).collect();
    let a = r.into_iter().flatten().map(|x| x as f32).collect();
    let b = (0..outputs).flat_map(|row| q.iter().map(move |q| q[row] as f32)).collect();
    Factors { a, b }
}

fn reflect(x: &mut [f64], v: &[f64]) {
    let share: f64 = 2.0 * x.iter().zip(v).map(|(x, v)| x * v).sum::<f64>();
    x.iter_mut().zip(v).for_each(|(x, v)| *x -= share * v);
}

/// Factors that are a part of a weight have no larger a rank than that.
pub fn refuse_ranks(settings: &LoraSettings, layers: &[(String, [usize; 2])]) -> Result<()> {
    let name = settings.init_lora_weights.name();
    if !settings.init_lora_weights.changes_base() {
        return Ok(());
    }
    if !settings.target_parameters.is_empty() {
        let what = format!(
            "`lora.init_lora_weights = \"{name}\"` cannot be used with `lora.target_parameters`"
        );
        return Err(Error::adapter(what).because("PEFT has it for linear layers alone"));
    }
    let too_large =
        |(path, dims): &&(String, [usize; 2])| settings.of_layer(path).rank > dims[0].min(dims[1]);
    match layers.iter().find(too_large) {
        None => Ok(()),
        Some((path, [outputs, inputs])) => {
            let rank = settings.of_layer(path).rank;
            let what = format!("`lora.init_lora_weights = \"{name}\"` takes no rank of {rank}");
            Err(Error::adapter(what)
                .because(format!("the weight of `{path}` is {outputs} by {inputs}"))
                .hint("choose a smaller `lora.r`, or another in `lora.rank_pattern`"))
        }
    }
}
