//! Attention inside documents as products of blocks: queries of a head in blocks, over the keys up
//! to the last of them. The backward pass makes the weights again, block by block, from their sums,
//! which the forward pass kept (Dao et al. 2022), so that memory grows with tokens and not with
//! their square.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::branches::hide;
use super::element::{F32, Format};
use super::host_tensor::{AsLhs, HostTensor};
use super::packed::{Left, PANEL, PackedRhs, View, convert};
use super::product::{Skipped, Term, add_product_here, product_here};
use super::rotation::Rotation;
use super::run::Products;
use super::softmax::{Scores, cap_scores};
use super::tasks::{QUERIES, QueryBlock, Task, Tasks};
use crate::device::ComputeConfig;
use crate::ops::{AttentionConfig, Branch, Heads, from_vec};

/// Queries, keys and values as factors, and where documents begin and how long they are.
pub struct Attention<'a, F: AsLhs> {
    /// `[tokens, queries · width]`.
    pub q: &'a Left<F>,
    /// `[tokens, kv_heads · width]`.
    pub k: &'a Left<F>,
    /// `[tokens, kv_heads · width]`.
    pub v: &'a Left<F>,
    /// A score of nothing for each query head.
    pub sinks: Option<&'a [f32]>,
    /// How they are laid out, and what sees what.
    pub config: AttentionConfig,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
    /// How they go on in several ways.
    pub branches: &'a [Branch],
    /// Tokens whose output is wanted: blocks of queries without any are left out, and so are zero.
    /// All tokens' where this is `None`.
    pub wanted: Option<&'a [u32]>,
}

/// What attention gave, and what its backward pass needs besides.
pub struct Mixed<F: Format> {
    /// `[tokens, queries · width]`.
    pub output: Left<F>,
    /// Logarithms of the sums of exponentials of a query's scores: of every task,
    /// `[heads, queries]`.
    logs: Vec<Vec<f32>>,
}

/// What is to be packed, and how.
type Pack<'a, F> = (&'a Left<F>, fn(View<<F as Format>::Stored>) -> PackedRhs<F>);

/// Gradients that a task made.
struct TaskGradients {
    /// Of each head, `[queries, width]`.
    q: Vec<Vec<f32>>,
    /// `[keys, width]`.
    k: Vec<f32>,
    /// `[keys, width]`.
    v: Vec<f32>,
    /// Of each head.
    sinks: Vec<f32>,
}

/// Gradients of what attention is given.
pub struct MixedGradients<F: Format> {
    /// Of queries, keys and values.
    pub qkv: [Left<F>; 3],
    /// Of the sinks, if there are some.
    pub sinks: Option<Vec<f32>>,
}

impl QueryBlock {
    /// Weights of the block without what they are padded with.
    fn of<F: Format>(self, weights: &Left<F>) -> View<'_, F::Stored> {
        weights.view().part((0, self.count), (0, self.keys))
    }

    /// Keys before it, where they are outputs of a product.
    fn outputs(self) -> Skipped {
        Skipped { outputs: self.first_key, inner: 0 }
    }

    /// Keys before it, where they are summed over.
    fn inner(self) -> Skipped {
        Skipped { outputs: 0, inner: self.first_key }
    }
}

/// Memory for the largest block of a task.
fn scratch<N>(task: &Task) -> Vec<N> {
    let keys = task.blocks().map(|block| block.keys).max().unwrap_or(0);
    Vec::with_capacity(QUERIES * keys.next_multiple_of(PANEL))
}

impl<F: AsLhs> Attention<'_, F> {
    fn tokens(&self) -> usize {
        self.q.view().rows
    }

    fn tasks(&self) -> Tasks {
        let lengths = self.documents.iter().map(|document| document.1);
        Tasks::new(lengths, self.config.heads.kv_heads, self.config.window)
    }

    /// Whether the output is wanted of any token of a block.
    fn wants(&self, task: &Task, block: QueryBlock) -> bool {
        let first = self.documents[task.document].0 + block.first;
        let within = |token: &u32| (first..first + block.count).contains(&(*token as usize));
        self.wanted.is_none_or(|tokens| tokens.iter().any(within))
    }

    /// Query heads that share keys and values.
    fn repeat(&self) -> usize {
        self.config.heads.queries / self.config.heads.kv_heads
    }

    /// Rows of a document and columns of a head.
    fn head<'b>(&self, x: &'b Left<F>, document: usize, head: usize) -> View<'b, F::Stored> {
        let width = self.config.heads.width;
        x.view().part(self.documents[document], (head * width, width))
    }

    /// The query heads of a task, rows of its queries.
    fn heads_of<'b>(&self, x: &'b Left<F>, task: &Task) -> Vec<View<'b, F::Stored>> {
        self.numbers_of(task).map(|head| self.head(x, task.document, head)).collect()
    }

    /// Their numbers.
    fn numbers_of(&self, task: &Task) -> Range<usize> {
        task.group * self.repeat()..(task.group + 1) * self.repeat()
    }

    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.map(|sinks| sinks[head])
    }

    /// Keys or values of every document and group, packed.
    fn packed<const N: usize>(&self, pack: [Pack<F>; N]) -> Vec<[PackedRhs<F>; N]> {
        let kv_heads = self.config.heads.kv_heads;
        let all = (0..self.documents.len() * kv_heads).into_par_iter().map(|number| {
            pack.map(|(x, pack)| pack(self.head(x, number / kv_heads, number % kv_heads)))
        });
        all.collect()
    }

    /// Those of a task.
    fn for_task<'b, const N: usize>(
        &self,
        packed: &'b [[PackedRhs<F>; N]],
        task: &Task,
    ) -> &'b [PackedRhs<F>; N] {
        &packed[task.document * self.config.heads.kv_heads + task.group]
    }

    /// What is mixed for every query; zero outside of documents.
    pub fn forward(&self) -> Mixed<F> {
        let (width, tasks) = (self.config.heads.width, self.tasks());
        let packed = self.packed([(self.k, PackedRhs::pack_rows), (self.v, PackedRhs::pack_cols)]);
        let mix = |task: &Task| {
            let mut logs = Vec::with_capacity(self.repeat() * task.queries.len());
            let factors = self.for_task(&packed, task);
            let heads = self.heads_of(self.q, task).into_iter().zip(self.numbers_of(task));
            let heads =
                heads.map(|(q, head)| self.mix(task, (q, self.sink(head)), factors, &mut logs));
            let rows: Vec<_> = heads.collect();
            (rows, logs)
        };
        let (rows, logs): (Vec<_>, Vec<_>) = tasks.all.par_iter().map(mix).unzip();
        let output = self.by_token(self.config.heads.queries, |_, place, head, target| {
            let (task, row) = tasks.of_query(place, head / self.repeat());
            let rows = &rows[task][head % self.repeat()];
            convert::<F, _>(&rows[row * width..][..width], target);
        });
        Mixed { output, logs }
    }

    /// Puts results of tasks in the order of tokens, `[tokens, heads · width]`: `put` gets a
    /// token, its document and place there, a head, and where its numbers go. Tokens outside of
    /// documents get zeros.
    fn by_token(
        &self,
        heads: usize,
        put: impl Fn(usize, (usize, usize), usize, &mut [F::Stored]) + Sync,
    ) -> Left<F> {
        let mut places = vec![None; self.tokens()];
        for (document, (first, length)) in self.documents.iter().enumerate() {
            for place in 0..*length {
                places[first + place] = Some((document, place));
            }
        }
        let width = self.config.heads.width;
        Left::with(self.tokens(), heads * width, |token, target| {
            let Some(place) = places[token] else { return };
            for (head, target) in target.chunks_exact_mut(width).enumerate() {
                put(token, place, head, target);
            }
        })
    }

    /// One head of a task: `[queries, width]`; the logarithms of its sums are added to `logs`.
    fn mix(
        &self,
        task: &Task,
        (q, sink): (View<F::Stored>, Option<f32>),
        [keys, values]: &[PackedRhs<F>; 2],
        logs: &mut Vec<f32>,
    ) -> Vec<f32> {
        let width = self.config.heads.width;
        let mut mixed = vec![0.0; task.queries.len() * width];
        let (mut numbers, mut memory) = (scratch(task), scratch(task));
        for (block, target) in task.blocks().zip(mixed.chunks_mut(QUERIES * width)) {
            if !self.wants(task, block) {
                logs.resize(logs.len() + block.count, 0.0);
                continue;
            }
            let scores = self.scores((q, sink), keys, (task.document, block), &mut numbers);
            let mut weights = Left::<F>::reused(memory, block.count, block.keys);
            let sums = scores.exponentials::<F>(weights.numbers_mut());
            let terms = [Term { left: weights.view(), right: values }];
            add_product_here(target, &terms, block.inner());
            // Once they are mixed there are fewer numbers to divide by the sum.
            for (row, sum) in target.chunks_exact_mut(width).zip(&sums) {
                row.iter_mut().for_each(|number| *number /= sum.relative);
            }
            logs.extend(sums.iter().map(|sum| sum.log));
            memory = weights.into_numbers();
        }
        mixed
    }

    /// Scores of a block of a document, in the memory of `numbers`.
    fn scores<'b>(
        &self,
        (q, sink): (View<F::Stored>, Option<f32>),
        keys: &PackedRhs<F>,
        (document, block): (usize, QueryBlock),
        numbers: &'b mut Vec<f32>,
    ) -> Scores<'b> {
        let left = q.part((block.first, block.count), (0, q.columns));
        product_here(numbers, block.keys, &[Term { left, right: keys }], block.outputs());
        let AttentionConfig { scale, soft_cap, window, .. } = self.config;
        if let Some(cap) = soft_cap {
            cap_scores(numbers, scale, cap);
        }
        for branch in self.branches.iter().filter(|branch| branch.document == document) {
            hide(block, branch, numbers);
        }
        let numbers = View::new(numbers, block.count, block.keys);
        let window = window.unwrap_or(usize::MAX);
        let seen = block.first + 1 - block.first_key;
        Scores { numbers, seen, window, scale, soft_cap, sink }
    }

    /// Gradients of queries, keys and values for that of the output, `d`; those of the first two
    /// before they were rotated, if they were, each by a rotation of its own.
    pub fn backward(
        &self,
        mixed: &Mixed<F>,
        d: &Left<F>,
        rotations: [Option<Rotation>; 2],
    ) -> MixedGradients<F> {
        let Heads { queries, kv_heads, width } = self.config.heads;
        let [of_queries, of_keys] = rotations;
        let back = |by: Option<Rotation>, token, row: &[f32], target: &mut [F::Stored]| match by {
            Some(rotation) => rotation.back::<F>(token, row, target),
            None => convert::<F, _>(row, target),
        };
        let tasks = self.tasks();
        let [k, v] = [self.k, self.v];
        let packed = self.packed([
            (k, PackedRhs::pack_rows),
            (k, PackedRhs::pack_cols),
            (v, PackedRhs::pack_rows),
        ]);
        let parts: Vec<TaskGradients> = tasks
            .all
            .par_iter()
            .zip(&mixed.logs)
            .map(|(task, logs)| {
                self.backward_of(task, self.for_task(&packed, task), &mixed.output, logs, d)
            })
            .collect();
        let dq = self.by_token(queries, |token, place, head, target| {
            let (task, row) = tasks.of_query(place, head / self.repeat());
            let rows = &parts[task].q[head % self.repeat()];
            back(of_queries, token, &rows[row * width..][..width], target);
        });
        let sum = |of: fn(&TaskGradients) -> &[f32], place: (usize, usize), group| {
            let mut sum = vec![0.0; width];
            for number in tasks.of_key(place, group) {
                let first = tasks.all[number].keys().start;
                let row = &of(&parts[number])[(place.1 - first) * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            }
            sum
        };
        let dk = self.by_token(kv_heads, |token, place, group, target| {
            back(of_keys, token, &sum(|part| &part.k, place, group), target);
        });
        let dv = self.by_token(kv_heads, |_, place, group, target| {
            convert::<F, _>(&sum(|part| &part.v, place, group), target);
        });
        let sinks = self.sinks.map(|sinks| {
            let mut sums = vec![0.0; sinks.len()];
            for (task, part) in tasks.all.iter().zip(&parts) {
                let of_task = self.numbers_of(task).zip(&part.sinks);
                of_task.for_each(|(head, d)| sums[head] += d);
            }
            sums
        });
        MixedGradients { qkv: [dq, dk, dv], sinks }
    }

    /// With weights P: dV = Pᵀ·dO; dS = s · P ⊙ (dO·Vᵀ − rowsum(dO ⊙ O)); dQ = dS·K; dK = dSᵀ·Q.
    /// A cap of scores multiplies dS with its slope.
    /// Gradients of keys and values are summed over the heads of the group and blocks, in order.
    fn backward_of(
        &self,
        task: &Task,
        [keys, keys_back, values]: &[PackedRhs<F>; 3],
        output: &Left<F>,
        logs: &[f32],
        d: &Left<F>,
    ) -> TaskGradients {
        let (width, count) = (self.config.heads.width, task.queries.len());
        let all_keys = task.keys();
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; all_keys.len() * width]);
        let mut d_sinks = Vec::with_capacity(self.repeat());
        let (mut numbers, mut d_weights) = (scratch(task), scratch(task));
        let mut memory = [scratch(task), scratch(task)];
        let [q, o, d] = [self.q, output, d].map(|x| self.heads_of(x, task));
        let heads = q.into_iter().zip(o.into_iter().zip(d)).zip(logs.chunks_exact(count));
        let heads = heads.zip(self.numbers_of(task)).map(|(((q, (o, d)), logs), head)| {
            let (mut dq, mut d_sink) = (vec![0.0; count * width], 0.0);
            let parts = dq.chunks_mut(QUERIES * width).zip(logs.chunks(QUERIES));
            let blocks = task.blocks().zip(parts);
            for (block, (target, logs)) in blocks.filter(|(block, _)| self.wants(task, *block)) {
                let at = (task.document, block);
                let scores = self.scores((q, self.sink(head)), keys, at, &mut numbers);
                let rows = (block.first, block.count);
                let [q, o, d] = [q, o, d].map(|x| x.part(rows, (0, width)));
                let terms = [Term { left: d, right: values }];
                product_here(&mut d_weights, block.keys, &terms, block.outputs());
                let [mut weights, mut d_scores] = std::mem::take(&mut memory)
                    .map(|memory| Left::<F>::reused(memory, block.count, block.keys));
                let targets = [weights.numbers_mut(), d_scores.numbers_mut()];
                d_sink += scores.gradients::<F>(logs, &d_weights, [d, o], targets);

                let at = (block.first_key - all_keys.start) * width;
                let here = at..at + block.keys * width;
                add_turned::<F>(&mut dv[here.clone()], block.of(&weights), d);
                let terms = [Term { left: d_scores.view(), right: keys_back }];
                add_product_here(target, &terms, block.inner());
                add_turned::<F>(&mut dk[here], block.of(&d_scores), q);
                memory = [weights, d_scores].map(Left::into_numbers);
            }
            d_sinks.push(d_sink);
            dq
        });
        let q = heads.collect();
        TaskGradients { q, k: dk, v: dv, sinks: d_sinks }
    }
}

/// Adds `leftᵀ · right` to the target.
fn add_turned<F: AsLhs>(target: &mut [f32], left: View<F::Stored>, right: View<F::Stored>) {
    let left = Left::<F>::transposed(left);
    let right = PackedRhs::<F>::pack_cols(right);
    add_product_here(target, &[Term { left: left.view(), right: &right }], Skipped::default());
}

/// Attention of tensors of the CPU in 32 bits; none where these kernels are not asked for, or the
/// tensors are on a tape or elsewhere.
pub fn attend(
    (inputs, sinks): ([&Tensor<2>; 3], Option<&Tensor<1>>),
    config: AttentionConfig,
    (documents, branches): (&[(usize, usize)], &[Branch]),
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    Products::of(computing)?;
    let sinks = match sinks {
        Some(sinks) => Some(HostTensor::of(sinks)?),
        None => None,
    };
    let sinks = sinks.as_ref().map(HostTensor::single);
    let [q, k, v] = inputs.map(HostTensor::of);
    let [q, k, v] = [q?, k?, v?].map(|x| x.numbers().converted::<F32>());
    let (q, k, v) = (&q, &k, &v);
    let attention = Attention { q, k, v, sinks, config, documents, branches, wanted: None };
    let output = attention.forward().output.into_numbers();
    Some(from_vec(output, inputs[0].dims(), &inputs[0].device()))
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
