//! Attention inside documents as products of blocks: queries of a head in blocks, over the keys up
//! to the last of them. The backward pass makes the weights again, block by block, from their sums,
//! which the forward pass kept (Dao et al. 2022), so that memory grows with tokens and not with
//! their square.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::element::{F32, Format};
use super::host_tensor::{AsLhs, HostTensor};
use super::packed::{Left, PANEL, PackedRhs, View, convert};
use super::product::{Term, add_product_here, product_here};
use super::rotation::Rotation;
use super::run::Products;
use super::softmax::{Scores, cap_scores};
use super::tasks::{QUERIES, QueryBlock, Task, Tasks};
use crate::device::ComputeConfig;
use crate::ops::{AttentionConfig, Heads, from_vec};

/// Queries, keys and values as factors, and where documents begin and how long they are.
pub struct Attention<'a, F: AsLhs> {
    /// `[tokens, queries · width]`.
    pub q: &'a Left<F>,
    /// `[tokens, kv_heads · width]`.
    pub k: &'a Left<F>,
    /// `[tokens, kv_heads · width]`.
    pub v: &'a Left<F>,
    /// How they are laid out, and what sees what.
    pub config: AttentionConfig,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
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
}

impl QueryBlock {
    /// Weights of the block without what they are padded with.
    fn of<F: Format>(self, weights: &Left<F>) -> View<'_, F::Stored> {
        weights.view().part((0, self.count), (0, self.keys))
    }
}

/// Memory for the largest block of a task.
fn scratch<N>(task: &Task) -> Vec<N> {
    Vec::with_capacity(QUERIES * task.keys().next_multiple_of(PANEL))
}

impl<F: AsLhs> Attention<'_, F> {
    fn tokens(&self) -> usize {
        self.q.view().rows
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(self.documents.iter().map(|document| document.1), self.config.heads.kv_heads)
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
        let heads = task.group * self.repeat()..(task.group + 1) * self.repeat();
        heads.map(|head| self.head(x, task.document, head)).collect()
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
            let heads = self.heads_of(self.q, task).into_iter();
            let rows: Vec<_> = heads.map(|q| self.mix(task, q, factors, &mut logs)).collect();
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
        q: View<F::Stored>,
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
            let scores = self.scores(q, keys, block, &mut numbers);
            let mut weights = Left::<F>::reused(memory, block.count, block.keys);
            let sums = scores.exponentials::<F>(weights.numbers_mut());
            add_product_here(target, &[Term { left: weights.view(), right: values }]);
            // Once they are mixed there are fewer numbers to divide by the sum.
            for (row, sum) in target.chunks_exact_mut(width).zip(&sums) {
                row.iter_mut().for_each(|number| *number /= sum.relative);
            }
            logs.extend(sums.iter().map(|sum| sum.log));
            memory = weights.into_numbers();
        }
        mixed
    }

    /// Scores of a block, in the memory of `numbers`.
    fn scores<'b>(
        &self,
        q: View<F::Stored>,
        keys: &PackedRhs<F>,
        block: QueryBlock,
        numbers: &'b mut Vec<f32>,
    ) -> Scores<'b> {
        let left = q.part((block.first, block.count), (0, q.columns));
        product_here(numbers, block.keys, &[Term { left, right: keys }]);
        let AttentionConfig { scale, soft_cap, window, .. } = self.config;
        if let Some(cap) = soft_cap {
            cap_scores(numbers, scale, cap);
        }
        let numbers = View::new(numbers, block.count, block.keys);
        let window = window.unwrap_or(usize::MAX);
        Scores { numbers, seen: block.first + 1, window, scale, soft_cap }
    }

    /// Gradients of queries, keys and values for that of the output, `d`; those of the first two
    /// before they were rotated, if they were.
    pub fn backward(
        &self,
        mixed: &Mixed<F>,
        d: &Left<F>,
        rotation: Option<Rotation>,
    ) -> [Left<F>; 3] {
        let Heads { queries, kv_heads, width } = self.config.heads;
        let back = |token: usize, row: &[f32], target: &mut [F::Stored]| match rotation {
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
            back(token, &rows[row * width..][..width], target);
        });
        let sum = |of: fn(&TaskGradients) -> &[f32], place: (usize, usize), group| {
            let mut sum = vec![0.0; width];
            for part in &parts[tasks.of_key(place, group)] {
                let row = &of(part)[place.1 * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            }
            sum
        };
        let dk = self.by_token(kv_heads, |token, place, group, target| {
            back(token, &sum(|part| &part.k, place, group), target);
        });
        let dv = self.by_token(kv_heads, |_, place, group, target| {
            convert::<F, _>(&sum(|part| &part.v, place, group), target);
        });
        [dq, dk, dv]
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
        let (mut dk, mut dv) = (vec![0.0; task.keys() * width], vec![0.0; task.keys() * width]);
        let (mut numbers, mut d_weights) = (scratch(task), scratch(task));
        let mut memory = [scratch(task), scratch(task)];
        let [q, o, d] = [self.q, output, d].map(|x| self.heads_of(x, task));
        let heads = q.into_iter().zip(o.into_iter().zip(d)).zip(logs.chunks_exact(count));
        let heads = heads.map(|((q, (o, d)), logs)| {
            let mut dq = vec![0.0; count * width];
            let parts = dq.chunks_mut(QUERIES * width).zip(logs.chunks(QUERIES));
            let blocks = task.blocks().zip(parts);
            for (block, (target, logs)) in blocks.filter(|(block, _)| self.wants(task, *block)) {
                let scores = self.scores(q, keys, block, &mut numbers);
                let rows = (block.first, block.count);
                let [q, o, d] = [q, o, d].map(|x| x.part(rows, (0, width)));
                product_here(&mut d_weights, block.keys, &[Term { left: d, right: values }]);
                let [mut weights, mut d_scores] = std::mem::take(&mut memory)
                    .map(|memory| Left::<F>::reused(memory, block.count, block.keys));
                let targets = [weights.numbers_mut(), d_scores.numbers_mut()];
                scores.gradients::<F>(logs, &d_weights, [d, o], targets);

                let until = block.keys * width;
                add_turned::<F>(&mut dv[..until], block.of(&weights), d);
                add_product_here(target, &[Term { left: d_scores.view(), right: keys_back }]);
                add_turned::<F>(&mut dk[..until], block.of(&d_scores), q);
                memory = [weights, d_scores].map(Left::into_numbers);
            }
            dq
        });
        TaskGradients { q: heads.collect(), k: dk, v: dv }
    }
}

/// Adds `leftᵀ · right` to the target.
fn add_turned<F: AsLhs>(target: &mut [f32], left: View<F::Stored>, right: View<F::Stored>) {
    let left = Left::<F>::transposed(left);
    let right = PackedRhs::<F>::pack_cols(right);
    add_product_here(target, &[Term { left: left.view(), right: &right }]);
}

/// Attention of tensors of the CPU in 32 bits; none where these kernels are not asked for, or the
/// tensors are on a tape or elsewhere.
pub fn attend(
    inputs: [&Tensor<2>; 3],
    config: AttentionConfig,
    documents: &[(usize, usize)],
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    Products::of(computing)?;
    let [q, k, v] = inputs.map(HostTensor::of);
    let [q, k, v] = [q?, k?, v?].map(|x| x.numbers().converted::<F32>());
    let attention = Attention { q: &q, k: &k, v: &v, config, documents, wanted: None };
    let output = attention.forward().output.into_numbers();
    Some(from_vec(output, inputs[0].dims(), &inputs[0].device()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::Kernels;
    use crate::ops::{Documents, attend, attend_backward, host};
    use crate::random::Stream;

    /// Documents around the sizes of blocks and panels, against tensor operations.
    #[test]
    fn blocks_compute_what_tensor_operations_compute() {
        let lengths = [1, 47, 48, 49, 64, 65, 330, 3];
        let mut numbers: Vec<u32> = vec![0; 5];
        for (number, length) in (1..).zip(lengths) {
            numbers.extend(std::iter::repeat_n(number, length));
        }
        let tokens = numbers.len();
        let documents = Documents::new(&numbers, 1, tokens);
        for (queries, kv_heads, width, window, soft_cap) in [
            (4, 2, 16, None, None),
            (3, 1, 10, Some(7), None),
            (2, 2, 64, Some(70), Some(1.2)),
            (2, 1, 8, Some(1), None),
            (4, 1, 12, None, Some(0.4)),
        ] {
            let heads = Heads { queries, kv_heads, width };
            let config = AttentionConfig { window, soft_cap, ..AttentionConfig::of(heads) };
            // What padding gets is left open.
            let random = |features: usize, name: &str| -> Tensor<2> {
                let stream = Stream::new(6).site(name);
                #[expect(clippy::cast_possible_truncation)]
                let numbers = (0..(tokens * features) as u64).map(|i| match i / features as u64 {
                    0..5 => 0.0,
                    _ => stream.normal(i) as f32,
                });
                from_vec(numbers.collect(), [tokens, features], &Device::flex())
            };
            let [q, d] = ["q", "d"].map(|name| random(queries * width, name));
            let [k, v] = ["k", "v"].map(|name| random(kv_heads * width, name));
            let computing =
                ComputeConfig { kernels: Kernels::Portable, ..ComputeConfig::default() };
            let inputs = [&q, &k, &v];
            let mixed = attend(inputs, config, &documents, computing);
            let back = attend_backward(inputs, &d, config, &documents, computing);

            let [q, k, v, d] = [q, k, v, d].map(host);
            let documents = documents.spans();
            let left = |x| Left::<F32>::from_numbers(x, tokens);
            let [q, k, v, d] = [q, k, v, d].map(left);
            let blocks = Attention { q: &q, k: &k, v: &v, config, documents, wanted: None };
            let output = blocks.forward();
            let gradients = blocks.backward(&output, &d, None).map(Left::into_numbers);
            let output = output.output.into_numbers();
            let near = |what: &str, ours: &[f32], reference: Tensor<2>| {
                let reference = host(reference);
                assert_eq!(ours.len(), reference.len());
                let far = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f32::max) < 2e-5, "{what} of {config:?}");
            };
            near("output", &output, mixed);
            for (ours, (what, reference)) in gradients.iter().zip(["q", "k", "v"].iter().zip(back))
            {
                near(what, ours, reference);
            }
        }
    }
}
