//! The kernels and the tensor operations against the rule token by token in double precision, and
//! both against each other backward.

use burn::tensor::Device;

use super::*;
use crate::config::Kernels;
use crate::ops::{Documents, gated_delta_rule as portable, host};
use crate::random::Stream;

const HEADS: [DeltaHeads; 3] = [
    DeltaHeads { keys: 2, key_width: 6, values: 4, value_width: 10 },
    DeltaHeads { keys: 1, key_width: 32, values: 1, value_width: 16 },
    DeltaHeads { keys: 2, key_width: 17, values: 6, value_width: 33 },
];

/// Padding before, between and after documents around the length of a chunk.
fn documents() -> Documents {
    let mut numbers: Vec<u32> = vec![0; 3];
    for (number, length) in (1..).zip([1, 63, 64, 65, 200, 5]) {
        numbers.extend(std::iter::repeat_n(number, length));
        numbers.extend(std::iter::repeat_n(0, (number % 2) as usize));
    }
    Documents::new(&numbers, 1, numbers.len())
}

fn random(count: usize, name: &str, of: impl Fn(f64) -> f64) -> Vec<f32> {
    let stream = Stream::new(8).site(name);
    #[expect(clippy::cast_possible_truncation)]
    (0..count as u64).map(|index| of(stream.normal(index)) as f32).collect()
}

struct Case {
    qkv: Vec<f32>,
    log_decay: Vec<f32>,
    beta: Vec<f32>,
    d: Vec<f32>,
}

impl Case {
    fn new(heads: DeltaHeads, tokens: usize) -> Self {
        // Keys that resemble each other, of which each takes from what the last one wrote.
        let alike = |x: f64| 1.0 + 0.5 * x;
        Self {
            qkv: random(tokens * heads.wide(), "qkv", alike),
            log_decay: random(tokens * heads.values, "decay", |x| -0.2 * x.abs()),
            beta: random(tokens * heads.values, "beta", |x| 1.0 / (1.0 + (-x - 1.0).exp())),
            d: random(tokens * heads.values_wide(), "d", |x| x),
        }
    }

    fn rule<'a>(&'a self, heads: DeltaHeads, documents: &'a Documents) -> DeltaRule<'a> {
        DeltaRule {
            qkv: &self.qkv,
            log_decay: &self.log_decay,
            beta: &self.beta,
            heads,
            documents: documents.spans(),
        }
    }

    fn tensors(&self, heads: DeltaHeads) -> DeltaInputs {
        let tensor = |x: &[f32], width: usize| {
            from_vec(x.to_vec(), [x.len() / width, width], &Device::flex())
        };
        DeltaInputs {
            qkv: tensor(&self.qkv, heads.wide()),
            log_decay: tensor(&self.log_decay, heads.values),
            beta: tensor(&self.beta, heads.values),
        }
    }

    /// The rule as it is written down, token by token.
    fn exact(&self, heads: DeltaHeads, documents: &Documents) -> Vec<f64> {
        let tokens = self.beta.len() / heads.values;
        let mut output = vec![0.0; tokens * heads.values_wide()];
        let unit = |x: &[f32]| -> Vec<f64> {
            let square = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() + 1e-6;
            x.iter().map(|x| f64::from(*x) / square.sqrt()).collect()
        };
        for (first, count) in documents.spans() {
            for head in 0..heads.values {
                let mut state = vec![vec![0.0; heads.value_width]; heads.key_width];
                for token in *first..first + count {
                    let row = &self.qkv[token * heads.wide()..][..heads.wide()];
                    let at = head / heads.repeat() * heads.key_width;
                    let q = unit(&row[at..at + heads.key_width]);
                    let k = unit(&row[heads.keys_wide() + at..][..heads.key_width]);
                    let v = &row[2 * heads.keys_wide() + head * heads.value_width..];
                    let numbers = token * heads.values + head;
                    let decay = f64::from(self.log_decay[numbers]).exp();
                    state.iter_mut().flatten().for_each(|x| *x *= decay);
                    for column in 0..heads.value_width {
                        let said: f64 = state.iter().zip(&k).map(|(row, k)| row[column] * k).sum();
                        let beta = f64::from(self.beta[numbers]);
                        let written = beta * (f64::from(v[column]) - said);
                        state.iter_mut().zip(&k).for_each(|(row, k)| row[column] += k * written);
                        let seen: f64 = state.iter().zip(&q).map(|(row, q)| row[column] * q).sum();
                        let place = token * heads.values_wide() + head * heads.value_width + column;
                        output[place] = seen / (heads.key_width as f64).sqrt();
                    }
                }
            }
        }
        output
    }
}

fn near(what: &str, ours: &[f32], reference: impl Iterator<Item = f64> + Clone, limit: f64) {
    assert_eq!(ours.len(), reference.clone().count(), "{what}");
    let largest = reference.clone().fold(0.0_f64, |most, x| most.max(x.abs()));
    for (place, (ours, reference)) in ours.iter().zip(reference).enumerate() {
        let error = (f64::from(*ours) - reference).abs();
        assert!(error <= limit * largest, "{what} {place}: {ours} for {reference}");
    }
}

#[test]
fn both_forms_compute_what_the_rule_says_token_by_token() {
    let documents = documents();
    for heads in HEADS {
        let case = Case::new(heads, documents.length);
        let exact = case.exact(heads, &documents);
        let ours = case.rule(heads, &documents).forward();
        near("kernels", &ours, exact.iter().copied(), 3e-6);
        let computing = ComputeConfig { kernels: Kernels::Portable, ..ComputeConfig::default() };
        let tensors = host(portable(case.tensors(heads), heads, &documents, computing));
        near("tensors", &tensors, exact.into_iter(), 3e-6);
    }
}

#[test]
fn gradients_of_the_kernels_are_those_of_a_tape() {
    let documents = documents();
    for heads in HEADS {
        let case = Case::new(heads, documents.length);
        let leaf = |x: Tensor<2>| x.autodiff().require_grad();
        let inputs = case.tensors(heads);
        let inputs = DeltaInputs {
            qkv: leaf(inputs.qkv),
            log_decay: leaf(inputs.log_decay),
            beta: leaf(inputs.beta),
        };
        let output = portable(inputs.clone(), heads, &documents, ComputeConfig::default());
        let d = from_vec(case.d.clone(), output.dims(), &Device::flex());
        let mut tape = (output * d).sum().backward();
        let ours = case.rule(heads, &documents).backward(&case.d);
        let DeltaInputs { qkv, log_decay, beta } = inputs;
        let found = [
            ("qkv", qkv, ours.qkv),
            ("decay", log_decay, ours.log_decay),
            ("beta", beta, ours.beta),
        ];
        for (what, leaf, ours) in found {
            let reference = host(leaf.grad_remove(&mut tape).unwrap());
            near(what, &ours, reference.into_iter().map(f64::from), 2e-5);
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let documents = documents();
    let heads = HEADS[0];
    let case = Case::new(heads, documents.length);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let rule = case.rule(heads, &documents);
            let back = rule.backward(&case.d);
            [rule.forward(), back.qkv, back.log_decay, back.beta]
        })
    };
    let one = with(1);
    for threads in [2, 3, 7] {
        assert_eq!(with(threads), one);
    }
}
