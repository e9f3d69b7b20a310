//! Attention inside documents as products of blocks: queries of a head in blocks, over the keys up
//! to the last of them. The backward pass makes the weights again, block by block, from their sums,
//! which the forward pass kept (Dao et al. 2022), so that memory grows with tokens and not with
//! their square.

use rayon::prelude::*;

use super::element::Format;
use super::held::Borrow;
use super::packed::{Left, PANEL, Packed, View, convert};
use super::pointwise::Rotation;
use super::product::{Term, add_product_here, product_here};
use super::softmax::Scores;
use crate::ops::Heads;

/// Queries of a block: as many as keys of a panel, so that what they see ends where a panel ends,
/// and whole squares to transpose.
const QUERIES: usize = PANEL;

/// Queries, keys and values as factors, and where documents begin and how long they are.
pub struct Attention<'a, F: Borrow> {
    /// `[tokens, queries · width]`.
    pub q: &'a Left<F>,
    /// `[tokens, groups · width]`.
    pub k: &'a Left<F>,
    /// `[tokens, groups · width]`.
    pub v: &'a Left<F>,
    /// How they are laid out.
    pub heads: Heads,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
}

/// What attention gave, and what its backward pass needs besides.
pub struct Mixed<F: Format> {
    /// `[tokens, queries · width]`.
    pub output: Left<F>,
    /// Logarithms of the sums of exponentials of a query's scores: of every document and group of
    /// heads, `[heads, length]`.
    logs: Vec<Vec<f32>>,
}

/// Gradients of a task, `[length, width]` each.
struct TaskGradients {
    /// Of each head of the group.
    q: Vec<Vec<f32>>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// A document and a group of heads that share keys and values.
#[derive(Clone, Copy)]
struct Task {
    document: (usize, usize),
    group: usize,
}

/// Queries `first..first + count` of a document, which see the keys before `seen` at most.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    count: usize,
    /// Keys whose scores are computed: whole panels, or all.
    keys: usize,
}

impl Block {
    /// Weights of the block without what they are padded with.
    fn of<F: Format>(self, weights: &Left<F>) -> View<'_, F::Kept> {
        weights.view().part((0, self.count), (0, self.keys))
    }
}

fn blocks(length: usize) -> impl Iterator<Item = Block> {
    (0..length).step_by(QUERIES).map(move |first| {
        let count = QUERIES.min(length - first);
        Block { first, count, keys: (first + count).next_multiple_of(PANEL).min(length) }
    })
}

/// Memory for the largest block of a document.
fn scratch<N>(length: usize) -> Vec<N> {
    Vec::with_capacity(QUERIES * length.next_multiple_of(PANEL))
}

impl<'a, F: Borrow> Attention<'a, F> {
    fn tokens(&self) -> usize {
        self.q.view().rows
    }

    fn scale(&self) -> f32 {
        #[expect(clippy::cast_precision_loss)] // head sizes are small
        let width = self.heads.width as f32;
        1.0 / width.sqrt()
    }

    fn tasks(&self) -> Vec<Task> {
        let groups = self.heads.groups;
        let of = |document: &(usize, usize)| {
            let document = *document;
            (0..groups).map(move |group| Task { document, group })
        };
        self.documents.iter().flat_map(of).collect()
    }

    /// Rows of a document and columns of a head.
    fn head<'b>(&self, x: &'b Left<F>, task: Task, head: usize) -> View<'b, F::Kept> {
        let width = self.heads.width;
        x.view().part(task.document, (head * width, width))
    }

    fn heads_of(&self, group: usize) -> std::ops::Range<usize> {
        group * self.repeat()..(group + 1) * self.repeat()
    }

    /// What is mixed for every query; zero outside of documents.
    pub fn forward(&self) -> Mixed<F> {
        let width = self.heads.width;
        let one = |task: &Task| {
            let keys = Packed::<F>::of_outputs(self.head(self.k, *task, task.group));
            let values = Packed::<F>::of_inner(self.head(self.v, *task, task.group));
            let mut logs = Vec::new();
            let mix = |head| self.mix(self.head(self.q, *task, head), &keys, &values, &mut logs);
            let rows: Vec<Vec<f32>> = self.heads_of(task.group).map(mix).collect();
            (rows, logs)
        };
        let (parts, logs): (Vec<_>, Vec<_>) = self.tasks().par_iter().map(one).unzip();
        let output = self.by_token(self.heads.queries, |_, task, place, head, target| {
            let rows = &parts[task][head % self.repeat()];
            convert::<F, _>(&rows[place * width..][..width], target);
        });
        Mixed { output, logs }
    }

    /// Puts results of tasks in the order of tokens, `[tokens, heads · width]`: `put` gets a
    /// token, its task and place in the document, a head, and where its numbers go. Tokens outside
    /// of documents get zeros.
    fn by_token(
        &self,
        heads: usize,
        put: impl Fn(usize, usize, usize, usize, &mut [F::Kept]) + Sync,
    ) -> Left<F> {
        let (width, groups) = (self.heads.width, self.heads.groups);
        let mut places = vec![None; self.tokens()];
        for (document, (first, length)) in self.documents.iter().enumerate() {
            for place in 0..*length {
                places[first + place] = Some((document, place));
            }
        }
        Left::with(self.tokens(), heads * width, |token, target| {
            let Some((document, place)) = places[token] else { return };
            for (head, target) in target.chunks_exact_mut(width).enumerate() {
                let task = document * groups + head * groups / heads;
                put(token, task, place, head, target);
            }
        })
    }

    /// Query heads that share keys and values.
    fn repeat(&self) -> usize {
        self.heads.queries / self.heads.groups
    }

    /// One head of one document: `[length, width]`; the logarithms of its sums are added to `logs`.
    fn mix(
        &self,
        q: View<F::Kept>,
        keys: &Packed<F>,
        values: &Packed<F>,
        logs: &mut Vec<f32>,
    ) -> Vec<f32> {
        let width = self.heads.width;
        let mut mixed = vec![0.0; q.rows * width];
        let (mut numbers, mut memory) = (scratch(q.rows), scratch(q.rows));
        for block in blocks(q.rows) {
            let scores = self.scores(q, keys, block, &mut numbers);
            let mut weights = Left::<F>::reused(memory, block.count, block.keys);
            let sums = scores.exponentials::<F>(weights.numbers_mut());
            let target = &mut mixed[block.first * width..][..block.count * width];
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
        q: View<F::Kept>,
        keys: &Packed<F>,
        block: Block,
        numbers: &'b mut Vec<f32>,
    ) -> Scores<'b> {
        let left = q.part((block.first, block.count), (0, q.columns));
        product_here(numbers, block.keys, &[Term { left, right: keys }]);
        let numbers = View::new(numbers, block.count, block.keys);
        Scores { numbers, seen: block.first + 1, scale: self.scale() }
    }

    /// Gradients of queries, keys and values for that of the output, `d`; those of the first two
    /// before they were rotated.
    pub fn backward(&self, mixed: &Mixed<F>, d: &Left<F>, rotation: Rotation) -> [Left<F>; 3] {
        let Heads { queries, groups, width } = self.heads;
        let tasks = self.tasks();
        let parts: Vec<TaskGradients> = tasks
            .par_iter()
            .zip(&mixed.logs)
            .map(|(task, logs)| self.backward_of(*task, &mixed.output, logs, d))
            .collect();
        let row = |place: usize| place * width..(place + 1) * width;
        let dq = self.by_token(queries, |token, task, place, head, target| {
            let rows = &parts[task].q[head % self.repeat()];
            rotation.back::<F>(token, &rows[row(place)], target);
        });
        let dk = self.by_token(groups, |token, task, place, _, target| {
            rotation.back::<F>(token, &parts[task].k[row(place)], target);
        });
        let dv = self.by_token(groups, |_, task, place, _, target| {
            convert::<F, _>(&parts[task].v[row(place)], target);
        });
        [dq, dk, dv]
    }

    /// With weights P: dV = Pᵀ·dO; dS = s · P ⊙ (dO·Vᵀ − rowsum(dO ⊙ O)); dQ = dS·K; dK = dSᵀ·Q.
    /// Gradients of keys and values are summed over the heads of the group and blocks, in order.
    fn backward_of(
        &self,
        task: Task,
        output: &Left<F>,
        logs: &[f32],
        d: &Left<F>,
    ) -> TaskGradients {
        let width = self.heads.width;
        let [k, v] = [self.k, self.v].map(|x| self.head(x, task, task.group));
        let (keys, keys_back) = (Packed::<F>::of_outputs(k), Packed::<F>::of_inner(k));
        let values = Packed::<F>::of_outputs(v);
        let (mut dk, mut dv) = (vec![0.0; k.rows * width], vec![0.0; k.rows * width]);
        let (mut numbers, mut d_weights) = (scratch(k.rows), scratch(k.rows));
        let mut memory = [scratch(k.rows), scratch(k.rows)];
        let heads = self.heads_of(task.group).zip(logs.chunks_exact(k.rows)).map(|(head, logs)| {
            let [q, o, d] = [self.q, output, d].map(|x| self.head(x, task, head));
            let mut dq = vec![0.0; k.rows * width];
            for block in blocks(k.rows) {
                let scores = self.scores(q, &keys, block, &mut numbers);
                let rows = (block.first, block.count);
                let [q, o, d] = [q, o, d].map(|x| x.part(rows, (0, width)));
                product_here(&mut d_weights, block.keys, &[Term { left: d, right: &values }]);
                let [mut weights, mut d_scores] = std::mem::take(&mut memory)
                    .map(|memory| Left::<F>::reused(memory, block.count, block.keys));
                let targets = [weights.numbers_mut(), d_scores.numbers_mut()];
                let logs = &logs[block.first..][..block.count];
                scores.gradients::<F>(logs, &d_weights, [d, o], targets);

                let until = block.keys * width;
                add_turned::<F>(&mut dv[..until], block.of(&weights), d);
                let target = &mut dq[block.first * width..][..block.count * width];
                add_product_here(target, &[Term { left: d_scores.view(), right: &keys_back }]);
                add_turned::<F>(&mut dk[..until], block.of(&d_scores), q);
                memory = [weights, d_scores].map(Left::into_numbers);
            }
            dq
        });
        TaskGradients { q: heads.collect(), k: dk, v: dv }
    }
}

/// Adds `leftᵀ · right` to the target.
fn add_turned<F: Borrow>(target: &mut [f32], left: View<F::Kept>, right: View<F::Kept>) {
    let left = Left::<F>::transposed(left);
    let right = Packed::<F>::of_inner(right);
    add_product_here(target, &[Term { left: left.view(), right: &right }]);
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::super::element::Single;
    use super::*;
    use crate::device::Computing;
    use crate::ops::{Documents, attend, attend_backward, from_vec, host};
    use crate::random::Stream;

    /// Documents around the sizes of blocks and panels, against the plain loops.
    #[test]
    fn blocks_compute_what_loops_over_queries_compute() {
        let lengths = [1, 47, 48, 49, 64, 65, 130, 3];
        let mut numbers: Vec<u32> = vec![0; 5];
        for (number, length) in (1..).zip(lengths) {
            numbers.extend(std::iter::repeat_n(number, length));
        }
        let tokens = numbers.len();
        let documents = Documents::new(&numbers, 1, tokens);
        for (queries, groups, width) in [(4, 2, 16), (3, 1, 10), (2, 2, 64)] {
            let heads = Heads { queries, groups, width };
            let random = |features: usize, name: &str| -> Tensor<2> {
                let stream = Stream::new(6).site(name);
                #[expect(clippy::cast_possible_truncation)]
                let numbers = (0..(tokens * features) as u64).map(|i| stream.normal(i) as f32);
                from_vec(numbers.collect(), [tokens, features], &Device::flex())
            };
            let [q, d] = ["q", "d"].map(|name| random(queries * width, name));
            let [k, v] = ["k", "v"].map(|name| random(groups * width, name));
            let computing = Computing::default();
            let loops = attend(&q, &k, &v, heads, &documents, computing);
            let inputs = [&q, &k, &v];
            let back = attend_backward(inputs, &loops, d.clone(), heads, &documents, computing);

            let [q, k, v, d] = [q, k, v, d].map(host);
            let documents = documents.spans();
            let tokens = q.len() / (heads.queries * heads.width);
            let left = |x| Left::<Single>::from_numbers(x, tokens);
            let [q, k, v, d] = [q, k, v, d].map(left);
            let blocks = Attention { q: &q, k: &k, v: &v, heads, documents };
            let output = blocks.forward();
            // Angles of zero turn nothing.
            let (cosines, sines) =
                (vec![1.0; tokens * heads.width], vec![0.0; tokens * heads.width]);
            let rotation = Rotation { cosines: &cosines, sines: &sines, width: heads.width };
            let gradients = blocks.backward(&output, &d, rotation).map(Left::into_numbers);
            let output = output.output.into_numbers();
            let near = |what: &str, ours: &[f32], reference: Tensor<2>| {
                let reference = host(reference);
                assert_eq!(ours.len(), reference.len());
                let far = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f32::max) < 2e-5, "{what} of {heads:?}");
            };
            near("output", &output, loops.output);
            for (ours, (what, reference)) in gradients.iter().zip(["q", "k", "v"].iter().zip(back))
            {
                near(what, ours, reference);
            }
        }
    }
}
