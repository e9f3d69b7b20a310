//! The gated delta rule as tensor operations, in the chunked form of Yang et al.: what the tokens
//! of a chunk write is the solution of a triangular system, so that all but the state is products
//! of matrices, and the number of operations follows from the longest document alone.

use burn::tensor::Tensor;

use super::{DeltaInputs, NORM_EPSILON};
use crate::ops::sequences::Chunks;
use crate::ops::{DeltaHeads, Documents};

/// Added to logarithms of what is not there: exp() of it is exactly zero in f32.
const NEVER: f32 = -1e30;

/// Rows `[chunks · size, count · width]` as `[chunks, count, size, width]`.
fn heads_of(x: Tensor<2>, chunks: &Chunks, count: usize) -> Tensor<4> {
    let width = x.dims()[1] / count;
    x.reshape([chunks.count, chunks.size, count, width]).swap_dims(1, 2)
}

/// Of length 1.
fn normed(x: Tensor<4>) -> Tensor<4> {
    let squares = x.clone().square().sum_dim(3);
    x * squares.add_scalar(NORM_EPSILON).sqrt().recip()
}

/// Each head as often as heads of values share it, `[n, heads, size, width]`.
fn repeated(x: Tensor<4>, repeat: usize) -> Tensor<4> {
    let [n, heads, size, width] = x.dims();
    if repeat == 1 {
        return x;
    }
    let all: Tensor<5> = x.reshape([n, heads, 1, size, width]);
    all.repeat_dim(2, repeat).reshape([n, heads * repeat, size, width])
}

/// Queries times their scale, keys, and values: `[n, value heads, size, width]`.
fn qkv(
    x: Tensor<2>,
    heads: DeltaHeads,
    part: impl Fn(Tensor<2>, usize) -> Tensor<4>,
) -> [Tensor<4>; 3] {
    let wide = heads.keys_wide();
    let queries_and_keys = [0, wide].map(|first| {
        let x = part(x.clone().narrow(1, first, wide), heads.keys);
        repeated(normed(x), heads.repeat())
    });
    let [q, k] = queries_and_keys;
    let v = part(x.narrow(1, 2 * wide, heads.values_wide()), heads.values);
    [q.mul_scalar(heads.scale()), k, v]
}

/// What the steps over the chunks need, `[chunks, value heads, …]`.
struct Steps {
    /// Values that are written if the state is zero, `[size, value width]`.
    values: Tensor<4>,
    /// What is taken of them for a state, `[size, key width]`.
    reads: Tensor<4>,
    /// Queries of the state, `[size, key width]`.
    queries: Tensor<4>,
    /// How much each token sees of what those before it wrote, `[size, size]`.
    within: Tensor<4>,
    /// Keys under which values are written into the next state, `[key width, size]`.
    writes: Tensor<4>,
    /// What is left of a state after the chunk, `[1, 1]`.
    kept: Tensor<4>,
}

impl Steps {
    fn new(inputs: DeltaInputs, heads: DeltaHeads, chunks: &Chunks) -> Self {
        let (count, size) = (chunks.count, chunks.size);
        let part = |x: Tensor<2>, count: usize| heads_of(x, chunks, count);
        let [q, k, v] = qkv(chunks.gather(inputs.qkv), heads, part);
        let beta = part(chunks.gather(inputs.beta), heads.values);
        // Sums of logarithms from the beginning of the chunk on.
        let decay = part(chunks.gather(inputs.log_decay), heads.values);
        let rows = decay.reshape([count * heads.values, size]);
        let total = rows.matmul(chunks.seen.clone().transpose());
        let down = total.clone().reshape([count, heads.values, size, 1]);
        let across = total.reshape([count, heads.values, 1, size]);
        let square = |mask: &Tensor<2>| mask.clone().reshape([1, 1, size, size]);
        let hidden = square(&chunks.seen).neg().add_scalar(1.0).mul_scalar(NEVER);
        let decay = (down.clone() - across.clone() + hidden).exp();

        let (k_turned, k_beta) = (k.clone().transpose(), k.clone() * beta.clone());
        let system = k_beta.clone().matmul(k_turned.clone()) * decay.clone();
        let inverse = inverse(system * square(&chunks.earlier), chunks);
        let grown = down.clone().exp();
        let last = across.narrow(3, size - 1, 1);
        Self {
            values: inverse.clone().matmul(v * beta),
            reads: inverse.matmul(k_beta * grown.clone()),
            within: q.clone().matmul(k_turned) * decay,
            queries: q * grown,
            writes: (k * (last.clone() - down).exp()).transpose(),
            kept: last.exp(),
        }
    }
}

/// `(1 + lower)⁻¹` of matrices with numbers below their diagonals alone. Inverses of diagonal
/// blocks of 1, 2, 4, … are joined to those of twice the size: no power of a matrix occurs, whose
/// numbers might be much larger than those of the inverse.
fn inverse(lower: Tensor<4>, chunks: &Chunks) -> Tensor<4> {
    let size = chunks.size;
    let one = chunks.seen.clone() - chunks.earlier.clone();
    let on_tape = lower.device().is_autodiff();
    let fixed = if on_tape { lower.clone().inner() } else { lower.clone() };
    let mut inverse = one.reshape([1, 1, size, size]).expand(fixed.dims());
    for (number, border) in chunks.borders.iter().enumerate() {
        let below = fixed.clone() * border.clone().reshape([1, 1, size, size]);
        let change = match number {
            0 => below,
            _ => inverse.clone().matmul(below).matmul(inverse.clone()),
        };
        inverse = inverse - change;
    }
    if !on_tape {
        return inverse;
    }
    // The inverse T of a matrix changes by −T·d·T: what follows is T, and has this derivative.
    let change = inverse.clone().matmul(lower - fixed).matmul(inverse.clone());
    change.neg() + inverse
}

/// What leaves the rule, and the states after the last chunks of all documents that are as long as
/// the longest.
pub(super) fn packed(
    inputs: DeltaInputs,
    heads: DeltaHeads,
    documents: &Documents,
) -> (Tensor<2>, Tensor<4>) {
    let chunks = documents.sequences().chunks(&inputs.qkv.device().inner());
    let (tokens, device) = (inputs.qkv.dims()[0], inputs.qkv.device());
    let sizes = [1, heads.values, heads.key_width, heads.value_width];
    if chunks.count == 0 {
        let nothing = Tensor::zeros([tokens, heads.values_wide()], &device);
        return (nothing, Tensor::zeros(sizes, &device));
    }
    let steps = Steps::new(inputs, heads, &chunks);
    let (mut outputs, mut first) = (Vec::with_capacity(chunks.steps.len()), 0);
    let mut state: Option<Tensor<4>> = None;
    for count in &chunks.steps {
        let of = |x: &Tensor<4>| x.clone().narrow(0, first, *count);
        let before = state.take().map(|state| state.narrow(0, 0, *count));
        let written = match &before {
            Some(state) => of(&steps.values) - of(&steps.reads).matmul(state.clone()),
            None => of(&steps.values),
        };
        let seen = of(&steps.within).matmul(written.clone());
        outputs.push(match &before {
            Some(state) => seen + of(&steps.queries).matmul(state.clone()),
            None => seen,
        });
        let more = of(&steps.writes).matmul(written);
        state = Some(match before {
            Some(state) => state * of(&steps.kept) + more,
            None => more,
        });
        first += count;
    }
    let wide = heads.values_wide();
    let output =
        Tensor::cat(outputs, 0).swap_dims(1, 2).reshape([chunks.count * chunks.size, wide]);
    (chunks.scatter(output), state.expect("there is a chunk at least"))
}

/// One more token of each of several texts.
pub(super) fn step(
    inputs: DeltaInputs,
    heads: DeltaHeads,
    state: Tensor<4>,
) -> (Tensor<2>, Tensor<4>) {
    let texts = inputs.qkv.dims()[0];
    let part = |x: Tensor<2>, count: usize| {
        let width = x.dims()[1] / count;
        x.reshape([texts, count, 1, width])
    };
    let [q, k, v] = qkv(inputs.qkv, heads, part);
    let (beta, decay) = (part(inputs.beta, heads.values), part(inputs.log_decay, heads.values));
    let state = state * decay.exp();
    let written = (v - k.clone().matmul(state.clone())) * beta;
    let state = state + k.transpose().matmul(written);
    let output = q.matmul(state.clone()).reshape([texts, heads.values_wide()]);
    (output, state)
}
