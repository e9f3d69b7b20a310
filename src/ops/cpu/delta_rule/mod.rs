//! The gated delta rule inside documents, and its gradient. Each head of values of each document
//! is gone through by one thread, in chunks whose work is products of matrices (`chunk`); the
//! backward pass makes the states at the beginning of chunks again. Everything is in 32 bits, and
//! what several heads of values give for the same keys is added in one order.

mod chunk;
mod chunk_backward;
mod head;

use burn::tensor::Tensor;
use rayon::prelude::*;

use self::head::{Head, HeadGradients};
use super::host_tensor::HostTensor;
use super::memory::filled;
use super::run::Products;
use crate::device::ComputeConfig;
use crate::ops::{DeltaHeads, DeltaInputs, from_vec};

/// Rows that are put together by a task.
const ROWS: usize = 16;

/// What the rule is given.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRule<'a> {
    /// Queries, keys and values, `[tokens, wide]`.
    pub qkv: &'a [f32],
    /// g, `[tokens, value heads]`.
    pub log_decay: &'a [f32],
    /// β, `[tokens, value heads]`.
    pub beta: &'a [f32],
    /// How they are laid out.
    pub heads: DeltaHeads,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
}

/// Gradients of what a [`DeltaRule`] is given; zero outside of documents.
pub struct DeltaGradients {
    /// `[tokens, wide]`.
    pub qkv: Vec<f32>,
    /// `[tokens, value heads]`.
    pub log_decay: Vec<f32>,
    /// `[tokens, value heads]`.
    pub beta: Vec<f32>,
}

impl DeltaRule<'_> {
    fn tokens(&self) -> usize {
        self.qkv.len() / self.heads.wide()
    }

    /// A head of each document: head after head, document after document.
    fn all<T: Send>(&self, of: impl Fn(Head<'_>) -> T + Sync) -> Vec<T> {
        let count = self.documents.len() * self.heads.values;
        let one = |number: usize| {
            let document = self.documents[number / self.heads.values];
            of(Head::new(self, document, number % self.heads.values))
        };
        (0..count).into_par_iter().map(one).collect()
    }

    /// The number of its document and its place there, of each token.
    fn places(&self) -> Vec<Option<(usize, usize)>> {
        let mut places = vec![None; self.tokens()];
        for (number, (first, count)) in self.documents.iter().enumerate() {
            for place in 0..*count {
                places[first + place] = Some((number, place));
            }
        }
        places
    }

    /// Rows of a width for all tokens: `write` gets document, place there and the row.
    fn by_token(&self, width: usize, write: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
        let places = self.places();
        filled(self.tokens() * width, ROWS * width, |part, target| {
            for (row, target) in target.chunks_exact_mut(width).enumerate() {
                if let Some((document, place)) = places[part * ROWS + row] {
                    write(document, place, target);
                }
            }
        })
    }

    /// What leaves the rule, `[tokens, values]`; zero outside of documents.
    pub fn forward(&self) -> Vec<f32> {
        let outputs = self.all(|head| head.forward());
        let (heads, width) = (self.heads.values, self.heads.value_width);
        self.by_token(self.heads.values_wide(), |document, place, target| {
            for (head, target) in target.chunks_exact_mut(width).enumerate() {
                target.copy_from_slice(&outputs[document * heads + head][place * width..][..width]);
            }
        })
    }

    /// The gradients for that of what [`Self::forward`] gave.
    pub fn backward(&self, d: &[f32]) -> DeltaGradients {
        let found = self.all(|head| head.backward(d));
        let DeltaHeads { key_width, values, value_width, .. } = self.heads;
        let repeat = self.heads.repeat();
        let of = |document: usize, head: usize| &found[document * values + head];
        let keys_wide = self.heads.keys_wide();
        let add = |target: &mut [f32], row: &[f32]| {
            target.iter_mut().zip(row).for_each(|(target, d)| *target += d);
        };
        let qkv = self.by_token(self.heads.wide(), |document, place, target| {
            let (q, rest) = target.split_at_mut(keys_wide);
            let (k, v) = rest.split_at_mut(keys_wide);
            for head in 0..values {
                let found = of(document, head);
                let shared = head / repeat * key_width;
                let row = place * key_width..(place + 1) * key_width;
                add(&mut q[shared..shared + key_width], &found.q[row.clone()]);
                add(&mut k[shared..shared + key_width], &found.k[row]);
                let row = place * value_width..(place + 1) * value_width;
                v[head * value_width..][..value_width].copy_from_slice(&found.v[row]);
            }
        });
        let numbers = |of_head: fn(&HeadGradients) -> &[f32]| {
            self.by_token(values, |document, place, target| {
                for (head, target) in target.iter_mut().enumerate() {
                    *target = of_head(of(document, head))[place];
                }
            })
        };
        let (log_decay, beta) = (numbers(|head| &head.log_decay), numbers(|head| &head.beta));
        DeltaGradients { qkv, log_decay, beta }
    }
}

/// What leaves the rule for tensors of the CPU in 32 bits; none where these kernels are not asked
/// for, or the tensors are on a tape or elsewhere.
pub fn gated_delta_rule(
    inputs: &DeltaInputs,
    heads: DeltaHeads,
    documents: &[(usize, usize)],
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    Products::of(computing)?;
    let [qkv, log_decay, beta] = [&inputs.qkv, &inputs.log_decay, &inputs.beta].map(HostTensor::of);
    let (qkv, log_decay, beta) = (qkv?, log_decay?, beta?);
    let [qkv, log_decay, beta] = [&qkv, &log_decay, &beta].map(HostTensor::single);
    let rule = DeltaRule { qkv, log_decay, beta, heads, documents };
    let shape = [rule.tokens(), heads.values_wide()];
    Some(from_vec(rule.forward(), shape, &inputs.qkv.device()))
}

#[cfg(test)]
#[path = "../delta_rule_tests.rs"]
mod tests;
