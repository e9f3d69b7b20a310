//! One head of values of one document: queries and keys of length 1, chunk after chunk.

use super::DeltaRule;
use super::chunk::Chunk;
use super::chunk_backward::{ChunkBackward, ChunkGradients};
use crate::ops::cpu::packed::View;
use crate::ops::cpu::pointwise::dot;
use crate::ops::{CHUNK, NORM_EPSILON};

/// What a head is given, row after row of the document.
pub struct Head<'a> {
    rule: &'a DeltaRule<'a>,
    first: usize,
    length: usize,
    head: usize,
    /// `[length, key width]`, of length 1 and times the scale of queries.
    q: Vec<f32>,
    /// `[length, key width]`, of length 1.
    k: Vec<f32>,
    /// One over the lengths of queries and keys.
    inverse: [Vec<f32>; 2],
    /// Sums of the logarithms of decay within chunks.
    decay: Vec<f32>,
    beta: Vec<f32>,
}

/// Gradients of what a head is given.
pub struct HeadGradients {
    /// `[length, key width]`.
    pub q: Vec<f32>,
    /// `[length, key width]`.
    pub k: Vec<f32>,
    /// `[length, value width]`.
    pub v: Vec<f32>,
    /// `[length]`.
    pub log_decay: Vec<f32>,
    /// `[length]`.
    pub beta: Vec<f32>,
}

impl<'a> Head<'a> {
    /// A head of values of a document.
    pub fn new(rule: &'a DeltaRule<'a>, (first, length): (usize, usize), head: usize) -> Self {
        let heads = rule.heads;
        let mut this = Self {
            rule,
            first,
            length,
            head,
            q: Vec::new(),
            k: Vec::new(),
            inverse: [Vec::new(), Vec::new()],
            decay: Vec::with_capacity(length),
            beta: Vec::with_capacity(length),
        };
        (this.q, this.inverse[0]) = this.normed(0, heads.scale());
        (this.k, this.inverse[1]) = this.normed(heads.keys_wide(), 1.0);
        let mut sum = 0.0;
        for place in 0..length {
            let at = (first + place) * heads.values + head;
            let before = if place % CHUNK == 0 { 0.0 } else { sum };
            sum = before + rule.log_decay[at];
            this.decay.push(sum);
            this.beta.push(rule.beta[at]);
        }
        this
    }

    /// Columns of its queries or keys, the first of whose heads begin there.
    fn keys(&self, begin: usize) -> View<'a, f32> {
        let heads = self.rule.heads;
        let column = begin + self.head / heads.repeat() * heads.key_width;
        self.part(column, heads.key_width)
    }

    /// `[length, value width]`.
    fn values(&self) -> View<'a, f32> {
        let heads = self.rule.heads;
        self.part(2 * heads.keys_wide() + self.head * heads.value_width, heads.value_width)
    }

    fn part(&self, column: usize, width: usize) -> View<'a, f32> {
        let wide = self.rule.heads.wide();
        let all = View::new(self.rule.qkv, self.rule.qkv.len() / wide, wide);
        all.part((self.first, self.length), (column, width))
    }

    /// Rows of length `scale`, and one over what their lengths were.
    fn normed(&self, begin: usize, scale: f32) -> (Vec<f32>, Vec<f32>) {
        let rows = self.keys(begin);
        let mut normed = Vec::with_capacity(rows.rows * rows.columns);
        let mut inverse = Vec::with_capacity(rows.rows);
        for row in (0..rows.rows).map(|row| rows.row(row)) {
            let one = 1.0 / (dot(row, row) + NORM_EPSILON).sqrt();
            inverse.push(one);
            normed.extend(row.iter().map(|x| x * one * scale));
        }
        (normed, inverse)
    }

    /// The gradient of rows from that of [`Self::normed`], in its place: with r one over their
    /// length, `r·d − x · r³ · (x · d)`.
    fn normed_backward(&self, begin: usize, scale: f32, inverse: &[f32], d: &mut [f32]) {
        let rows = self.keys(begin);
        for (place, (d, r)) in d.chunks_exact_mut(rows.columns).zip(inverse).enumerate() {
            let x = rows.row(place);
            let along = r * r * r * dot(x, d);
            d.iter_mut().zip(x).for_each(|(d, x)| *d = scale * (r * *d - along * x));
        }
    }

    /// Chunks, in order.
    fn chunks(&self) -> impl DoubleEndedIterator<Item = Chunk<'_>> + ExactSizeIterator {
        let heads = self.rule.heads;
        let count = self.length.div_ceil(CHUNK);
        (0..count).map(move |number| {
            let first = number * CHUNK;
            let count = CHUNK.min(self.length - first);
            let all = |x| View::new(x, self.length, heads.key_width);
            let keys = |x| all(x).part((first, count), (0, heads.key_width));
            Chunk {
                q: keys(&self.q),
                k: keys(&self.k),
                v: self.values().part((first, count), (0, heads.value_width)),
                decay: &self.decay[first..first + count],
                beta: &self.beta[first..first + count],
            }
        })
    }

    fn empty_state(&self) -> Vec<f32> {
        vec![0.0; self.rule.heads.key_width * self.rule.heads.value_width]
    }

    /// What leaves the rule, `[length, value width]`.
    pub fn forward(&self) -> Vec<f32> {
        let mut state = self.empty_state();
        let mut output = Vec::with_capacity(self.length * self.rule.heads.value_width);
        for chunk in self.chunks() {
            output.extend(chunk.forward(&mut state));
        }
        output
    }

    /// Gradients for that of all heads, `d: [tokens, values]`.
    pub fn backward(&self, d: &[f32]) -> HeadGradients {
        let heads = self.rule.heads;
        let wide = heads.values_wide();
        let d = View::new(d, d.len() / wide, wide);
        let d =
            d.part((self.first, self.length), (self.head * heads.value_width, heads.value_width));
        // States before the chunks, and what these write.
        let (mut state, mut before) = (self.empty_state(), Vec::new());
        for chunk in self.chunks() {
            before.push(chunk.write(&mut state));
        }
        let (mut d_state, mut parts) = (self.empty_state(), Vec::new());
        for (number, chunk) in self.chunks().enumerate().rev() {
            let d = d.part((number * CHUNK, chunk.beta.len()), (0, heads.value_width));
            let back = ChunkBackward::new(&chunk, &before[number], d);
            parts.push(back.gradients(&mut d_state));
        }
        parts.reverse();
        let joined =
            |of: fn(&ChunkGradients) -> &[f32]| parts.iter().flat_map(of).copied().collect();
        let mut found = HeadGradients {
            q: joined(|part| &part.q),
            k: joined(|part| &part.k),
            v: joined(|part| &part.v),
            log_decay: joined(|part| &part.log_decay),
            beta: joined(|part| &part.beta),
        };
        self.normed_backward(0, heads.scale(), &self.inverse[0], &mut found.q);
        self.normed_backward(heads.keys_wide(), 1.0, &self.inverse[1], &mut found.k);
        found
    }
}
