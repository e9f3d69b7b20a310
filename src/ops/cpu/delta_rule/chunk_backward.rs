//! The gradients of a chunk: those of `chunk`, term by term, from the last to the first.

use pulp::NullaryFnOnce;

use super::chunk::{Chunk, Packed, Squares, Written, rows_of, scaled, term, times};
use crate::device::arch;
use crate::ops::cpu::element::F32;
use crate::ops::cpu::packed::{Left, View};
use crate::ops::cpu::pointwise::dot;
use crate::ops::cpu::product::{Skipped, add_product_here};

/// Gradients of what a chunk is given, with that of the logarithms in the place of their sums.
pub struct ChunkGradients {
    /// Of queries of length 1.
    pub q: Vec<f32>,
    /// Of keys of length 1.
    pub k: Vec<f32>,
    /// Of values.
    pub v: Vec<f32>,
    /// Of g.
    pub log_decay: Vec<f32>,
    /// Of β.
    pub beta: Vec<f32>,
}

/// What was computed of a chunk, and the gradients of c so far.
pub struct ChunkBackward<'a> {
    chunk: &'a Chunk<'a>,
    squares: &'a Squares,
    /// P.
    seen: Vec<f32>,
    /// V.
    written: View<'a, f32>,
    /// k S.
    said: &'a [f32],
    /// γ and κ.
    grown: Vec<f32>,
    late: Vec<f32>,
    /// The state before the chunk.
    state: View<'a, f32>,
    written_rows: Packed,
    state_rows: Packed,
    /// The gradient of the output.
    d: View<'a, f32>,
    d_columns: Packed,
    sums: Vec<f32>,
}

impl<'a> ChunkBackward<'a> {
    /// Of a chunk that wrote what it did, for the gradient of its output.
    pub fn new(chunk: &'a Chunk<'a>, found: &'a Written, d: View<'a, f32>) -> Self {
        let Written { before, said, written, squares } = found;
        let (count, state) = (chunk.count(), rows_of(before, chunk.k.columns));
        let written = rows_of(written, count);
        Self {
            seen: chunk.seen(&Packed::pack_rows(chunk.k), squares),
            said,
            grown: chunk.grown().collect(),
            late: chunk.late().collect(),
            written_rows: Packed::pack_rows(written),
            state_rows: Packed::pack_rows(state),
            d_columns: Packed::pack_cols(d),
            sums: vec![0.0; count],
            chunk,
            squares,
            written,
            state,
            d,
        }
    }

    /// The gradients; that of the state after the chunk becomes that of the state before it.
    pub fn gradients(mut self, d_state: &mut [f32]) -> ChunkGradients {
        let (chunk, count) = (self.chunk, self.chunk.count());
        let mut d_k = self.through_writes(d_state);
        let d_written = self.of_written(d_state);
        let mut d_q = self.through_reads();
        let mut d_seen = times(&[term(self.d, &self.written_rows)]);
        self.through_decays(&mut d_seen);
        let (d_right, mut d_system) = self.of_right_side(d_written);
        let mut d_beta = self.through_system(&mut d_system);
        let (d_v, d_said) = self.through_right_side(d_right, &mut d_beta);

        let (key_columns, query_columns) = (Packed::pack_cols(chunk.k), Packed::pack_cols(chunk.q));
        let turned = Left::<F32>::transposed(rows_of(&d_seen, count));
        let terms = [
            term(rows_of(&d_system, count), &key_columns),
            term(turned.view(), &query_columns),
            term(rows_of(&d_said, count), &self.state_rows),
        ];
        add_product_here(&mut d_k, &terms, Skipped::default());
        let terms = [term(rows_of(&d_seen, count), &key_columns)];
        add_product_here(&mut d_q, &terms, Skipped::default());

        let kept = chunk.last().exp();
        d_state.iter_mut().for_each(|number| *number *= kept);
        let queries = scaled(chunk.q, self.grown.iter().copied());
        let queries = Left::<F32>::transposed(rows_of(&queries, count));
        let (turned, said) = (Left::<F32>::transposed(chunk.k), rows_of(&d_said, count));
        let said = Packed::pack_cols(said);
        let terms = [term(queries.view(), &self.d_columns), term(turned.view(), &said)];
        add_product_here(d_state, &terms, Skipped::default());
        // g is in the sums of its own token and of those after it.
        let mut sum = 0.0;
        self.sums.iter_mut().rev().for_each(|number| {
            sum += *number;
            *number = sum;
        });
        ChunkGradients { q: d_q, k: d_k, v: d_v, log_decay: self.sums, beta: d_beta }
    }

    /// That of keys through the state after the chunk.
    fn through_writes(&mut self, d_state: &[f32]) -> Vec<f32> {
        let (chunk, keys) = (self.chunk, self.chunk.k.columns);
        let mut of_last = chunk.last().exp() * dot(self.state.data, d_state);
        let mut d_k = times(&[term(self.written, &Packed::pack_rows(rows_of(d_state, keys)))]);
        for (row, d_k) in d_k.chunks_exact_mut(keys).enumerate() {
            d_k.iter_mut().for_each(|d| *d *= self.late[row]);
            let along = dot(d_k, chunk.k.row(row));
            of_last += along;
            self.sums[row] -= along;
        }
        self.sums[chunk.count() - 1] += of_last;
        d_k
    }

    /// That of V, through the output and the state after the chunk.
    fn of_written(&self, d_state: &[f32]) -> Vec<f32> {
        let seen = Left::<F32>::transposed(rows_of(&self.seen, self.chunk.count()));
        let after = Packed::pack_cols(rows_of(d_state, self.chunk.k.columns));
        let late = scaled(self.chunk.k, self.late.iter().copied());
        let late = rows_of(&late, self.chunk.count());
        times(&[term(seen.view(), &self.d_columns), term(late, &after)])
    }

    /// That of queries through what they read of the state.
    fn through_reads(&mut self) -> Vec<f32> {
        let mut d_q = times(&[term(self.d, &self.state_rows)]);
        for (row, d_q) in d_q.chunks_exact_mut(self.chunk.k.columns).enumerate() {
            d_q.iter_mut().for_each(|d| *d *= self.grown[row]);
            self.sums[row] += dot(d_q, self.chunk.q.row(row));
        }
        d_q
    }

    /// The gradient of the right side R of the system in the place of that of its solution, and
    /// `dR Vᵀ`.
    fn of_right_side(&self, mut d: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let (system, width) = (self.squares.system.as_slice(), self.chunk.v.columns);
        arch().dispatch(SolveTransposed { system, rows: &mut d, width });
        let d_system = times(&[term(rows_of(&d, self.chunk.count()), &self.written_rows)]);
        (d, d_system)
    }

    /// Those of values and of what the state says of the keys.
    fn through_right_side(
        &mut self,
        mut d_v: Vec<f32>,
        d_beta: &mut [f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let values = self.chunk.v.columns;
        let mut d_said = Vec::with_capacity(d_v.len());
        for (row, d_v) in d_v.chunks_exact_mut(values).enumerate() {
            let (beta, grown) = (self.chunk.beta[row], self.grown[row]);
            let said = &self.said[row * values..][..values];
            let sides = self.chunk.v.row(row).iter().zip(said).zip(d_v.iter());
            d_beta[row] += sides.map(|((v, said), d)| d * (v - grown * said)).sum::<f32>();
            d_v.iter_mut().for_each(|d| *d *= beta);
            d_said.extend(d_v.iter().map(|d| -grown * d));
            self.sums[row] += dot(&d_said[row * values..], said);
        }
        (d_v, d_said)
    }

    /// The gradient of `qᵢ · kⱼ` in the place of that of P; what goes to the sums is added.
    fn through_decays(&mut self, d: &mut [f32]) {
        let (count, squares) = (self.chunk.count(), self.squares);
        for i in 0..count {
            for j in 0..count {
                let at = i * count + j;
                let along = d[at] * self.seen[at];
                self.sums[i] += along;
                self.sums[j] -= along;
                d[at] *= squares.decays[at];
            }
        }
    }

    /// The gradient of `kᵢ · kⱼ`, of both orders at once, in the place of `dR Vᵀ`, of which the
    /// gradient of A is the negative below the diagonal. Returns that of β.
    fn through_system(&mut self, d: &mut [f32]) -> Vec<f32> {
        let (count, squares) = (self.chunk.count(), self.squares);
        let mut d_beta = vec![0.0; count];
        for i in 0..count {
            d[i * count + i] = 0.0;
            for j in 0..i {
                let at = i * count + j;
                let along = -d[at] * squares.system[at];
                self.sums[i] += along;
                self.sums[j] -= along;
                let decayed = -d[at] * squares.decays[at];
                d_beta[i] += decayed * squares.keys[at];
                d[at] = self.chunk.beta[i] * decayed;
                d[j * count + i] = d[at];
            }
        }
        d_beta
    }
}

/// The same with the transpose of the system.
struct SolveTransposed<'a> {
    system: &'a [f32],
    rows: &'a mut [f32],
    width: usize,
}

impl NullaryFnOnce for SolveTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { system, rows, width } = self;
        let count = rows.len() / width;
        for i in (1..count).rev() {
            let (before, rest) = rows.split_at_mut(i * width);
            let row = &rest[..width];
            for (other, factor) in before.chunks_exact_mut(width).zip(&system[i * count..]) {
                other.iter_mut().zip(row).for_each(|(other, row)| *other -= factor * row);
            }
        }
    }
}
