//! Attention inside documents as products of blocks: queries of a head in blocks, over the keys up
//! to the last of them. The backward pass makes the weights again, block by block (Dao et al.
//! 2022), so that memory grows with tokens and not with their square.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::held::{Borrow, Numbers};
use super::packed::{Left, PANEL, Packed, View};
use super::pointwise::{dot, softmax_row};
use super::product::{Term, add_product_here, product_here};
use crate::ops::Heads;

/// Queries of a block: whole tiles, and scores over two thousand keys fit into a core's cache.
const QUERIES: usize = 48;

/// Queries, keys and values: `[tokens, heads · width]` each, and where documents begin and how long
/// they are.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// `[tokens, queries · width]`.
    pub q: &'a [f32],
    /// `[tokens, groups · width]`.
    pub k: &'a [f32],
    /// `[tokens, groups · width]`.
    pub v: &'a [f32],
    /// How they are laid out.
    pub heads: Heads,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
}

/// Gradients of queries, keys and values.
pub type Gradients = [Vec<f32>; 3];

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

fn blocks(length: usize) -> impl Iterator<Item = Block> {
    (0..length).step_by(QUERIES).map(move |first| {
        let count = QUERIES.min(length - first);
        Block { first, count, keys: (first + count).next_multiple_of(PANEL).min(length) }
    })
}

impl<'a> Attention<'a> {
    fn tokens(&self) -> usize {
        self.q.len() / self.wide()
    }

    fn wide(&self) -> usize {
        self.heads.queries * self.heads.width
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
    fn head<'b>(&self, x: &'b [f32], heads: usize, task: Task, head: usize) -> View<'b, f32> {
        let width = self.heads.width;
        let all = View::new(x, x.len() / (heads * width), heads * width);
        all.part(task.document, (head * width, width))
    }

    fn of_group(&self, x: &'a [f32], task: Task) -> View<'a, f32> {
        self.head(x, self.heads.groups, task, task.group)
    }

    fn of_query(&self, x: &'a [f32], task: Task, head: usize) -> View<'a, f32> {
        self.head(x, self.heads.queries, task, head)
    }

    fn heads_of(&self, group: usize) -> std::ops::Range<usize> {
        let repeat = self.heads.queries / self.heads.groups;
        group * repeat..(group + 1) * repeat
    }

    /// What is mixed for every query, `[tokens, queries · width]`; zero outside of documents.
    pub fn forward<F: Borrow>(&self) -> Vec<f32> {
        let (width, wide) = (self.heads.width, self.wide());
        let tasks = self.tasks();
        let parts: Vec<Vec<Vec<f32>>> = tasks
            .par_iter()
            .map(|task| {
                let keys = Packed::<F>::of_outputs(self.of_group(self.k, *task));
                let values = Packed::<F>::of_inner(self.of_group(self.v, *task));
                let one = |head| self.mix(self.of_query(self.q, *task, head), &keys, &values);
                self.heads_of(task.group).map(one).collect()
            })
            .collect();
        let mut output = vec![0.0; self.q.len()];
        for (task, heads) in tasks.iter().zip(parts) {
            for (head, rows) in self.heads_of(task.group).zip(heads) {
                scatter(&mut output, &rows, (wide, head * width, width), task.document.0);
            }
        }
        output
    }

    /// One head of one document: `[length, width]`.
    fn mix<F: Borrow>(&self, q: View<f32>, keys: &Packed<F>, values: &Packed<F>) -> Vec<f32> {
        let width = self.heads.width;
        let mut mixed = vec![0.0; q.rows * width];
        let mut scores = Vec::new();
        for block in blocks(q.rows) {
            let weights = self.weights(q, keys, block, &mut scores);
            let left = F::factor(Numbers::Single(weights));
            let target = &mut mixed[block.first * width..][..block.count * width];
            add_product_here(target, &[Term { left: left.view(), right: values }]);
        }
        mixed
    }

    /// Weights of a block, `[queries, keys]`, in the memory of `scores`.
    fn weights<'b, F: Borrow>(
        &self,
        q: View<f32>,
        keys: &Packed<F>,
        block: Block,
        scores: &'b mut Vec<f32>,
    ) -> View<'b, f32> {
        let q = q.part((block.first, block.count), (0, q.columns));
        let left = F::factor(Numbers::Single(q));
        product_here(scores, block.keys, &[Term { left: left.view(), right: keys }]);
        Arch::new().dispatch(Softmax { scores, block, scale: self.scale() });
        View::new(scores, block.count, block.keys)
    }

    /// Gradients for that of the output, `d`.
    pub fn backward<F: Borrow>(&self, output: &[f32], d: &[f32]) -> Gradients {
        let (width, wide, narrow) =
            (self.heads.width, self.wide(), self.heads.groups * self.heads.width);
        let tasks = self.tasks();
        let parts: Vec<(Vec<Vec<f32>>, Vec<f32>, Vec<f32>)> =
            tasks.par_iter().map(|task| self.backward_of::<F>(*task, output, d)).collect();
        let mut dq = vec![0.0; self.tokens() * wide];
        let mut dk = vec![0.0; self.tokens() * narrow];
        let mut dv = vec![0.0; self.tokens() * narrow];
        for (task, (queries, keys, values)) in tasks.iter().zip(parts) {
            let (start, group) = (task.document.0, task.group);
            for (head, rows) in self.heads_of(group).zip(queries) {
                scatter(&mut dq, &rows, (wide, head * width, width), start);
            }
            scatter(&mut dk, &keys, (narrow, group * width, width), start);
            scatter(&mut dv, &values, (narrow, group * width, width), start);
        }
        [dq, dk, dv]
    }

    /// With weights P: dV = Pᵀ·dO; dS = s · P ⊙ (dO·Vᵀ − rowsum(dO ⊙ O)); dQ = dS·K; dK = dSᵀ·Q.
    /// Gradients of keys and values are summed over the heads of the group and blocks, in order.
    fn backward_of<F: Borrow>(
        &self,
        task: Task,
        output: &[f32],
        d: &[f32],
    ) -> (Vec<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let width = self.heads.width;
        let (k, v) = (self.of_group(self.k, task), self.of_group(self.v, task));
        let (keys, keys_back) = (Packed::<F>::of_outputs(k), Packed::<F>::of_inner(k));
        let values = Packed::<F>::of_outputs(v);
        let (mut dk, mut dv) = (vec![0.0; k.rows * width], vec![0.0; k.rows * width]);
        let (mut scores, mut d_scores) = (Vec::new(), Vec::new());
        let heads = self.heads_of(task.group).map(|head| {
            let q = self.of_query(self.q, task, head);
            let [o, d] = [output, d].map(|x| self.head(x, self.heads.queries, task, head));
            let mut dq = vec![0.0; k.rows * width];
            for block in blocks(k.rows) {
                let weights = self.weights(q, &keys, block, &mut scores);
                let rows = (block.first, block.count);
                let [q, o, d] = [q, o, d].map(|x| x.part(rows, (0, width)));
                let until = block.keys * width;
                add_turned::<F>(&mut dv[..until], weights, d);

                let left = F::factor(Numbers::Single(d));
                let term = Term { left: left.view(), right: &values };
                product_here(&mut d_scores, block.keys, &[term]);
                let scale = self.scale();
                Arch::new().dispatch(Scores { weights, d_scores: &mut d_scores, d, o, scale });
                let d_scores = View::new(&d_scores, block.count, block.keys);
                let left = F::factor(Numbers::Single(d_scores));
                let target = &mut dq[block.first * width..][..block.count * width];
                add_product_here(target, &[Term { left: left.view(), right: &keys_back }]);
                add_turned::<F>(&mut dk[..until], d_scores, q);
            }
            dq
        });
        let dq = heads.collect();
        (dq, dk, dv)
    }
}

/// Adds `leftᵀ · right` to the target.
fn add_turned<F: Borrow>(target: &mut [f32], left: View<f32>, right: View<f32>) {
    let left = Left::<F>::transposed(left);
    let right = Packed::<F>::of_inner(right);
    add_product_here(target, &[Term { left: left.view(), right: &right }]);
}

/// Puts `[length, width]` into columns of a wider matrix: its stride, the first column and the
/// width.
fn scatter(
    target: &mut [f32],
    rows: &[f32],
    (stride, at, width): (usize, usize, usize),
    start: usize,
) {
    for (place, row) in rows.chunks_exact(width).enumerate() {
        let to = (start + place) * stride + at;
        target[to..to + width].copy_from_slice(row);
    }
}

/// Softmax of each row over what its query sees.
struct Softmax<'a> {
    scores: &'a mut [f32],
    block: Block,
    scale: f32,
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { scores, block, scale } = self;
        for (query, row) in scores.chunks_exact_mut(block.keys).enumerate() {
            softmax_row(row, block.first + query + 1, scale);
        }
    }
}

/// Gradients of scores from those of weights, in place.
struct Scores<'a> {
    weights: View<'a, f32>,
    d_scores: &'a mut [f32],
    d: View<'a, f32>,
    o: View<'a, f32>,
    scale: f32,
}

impl NullaryFnOnce for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { weights, d_scores, d, o, scale } = self;
        for (query, row) in d_scores.chunks_exact_mut(weights.columns).enumerate() {
            let shared = dot(d.row(query), o.row(query));
            for (d, weight) in row.iter_mut().zip(weights.row(query)) {
                *d = weight * (*d - shared) * scale;
            }
        }
    }
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
            let blocks = Attention { q: &q, k: &k, v: &v, heads, documents };
            let output = blocks.forward::<Single>();
            let gradients = blocks.backward::<Single>(&output, &d);
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
