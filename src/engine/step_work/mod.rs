//! What a LoRA step launches, moves and computes on a device, from the description of a model: the
//! formula of what `device::keep_ledger` counts. It holds for models as Llama is, with adapters
//! beside all seven linear layers, and for rows whose attention keeps no scores.

mod parts;

pub use parts::Parts;

use crate::device::{Arithmetic, DeviceLimits, Ledger, Transfers, Work};
use crate::model::Description;
use crate::model::description::BlockDescription;
use crate::ops::{ATTENTION_TILE, AttentionConfig, Heads, keeps_no_scores};

/// Bytes of a number of 32 bits.
const F32: usize = 4;
/// Adapters of a layer: `A` and `B` of seven.
const ADAPTER_TENSORS: usize = 14;
/// Of each the norm of all gradients has so many sums (`ops/gpu/update.rs`), and so many are in a
/// kernel at most.
const SUMS: usize = 32;
const TOGETHER: usize = 16;
/// The loss scale of the first step, and what of it is multiplied before scores (`loss_scale.rs`,
/// `cross_entropy/on_gpu.rs`).
const LOSS_SCALE: usize = 65_536;
const SCALE_MAX: usize = 1024;

/// How wide a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Heads of attention.
    pub heads: Heads,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Is the output projection the embedding?
    pub tied: bool,
}

/// A step of one micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct StepShape {
    /// Of what model.
    pub model: ModelShape,
    /// Rank of the adapters.
    pub rank: usize,
    /// Rows of the micro-batch, and positions in each.
    pub rows: (usize, usize),
    /// Positions that have a target.
    pub targets: usize,
    /// Of these at most so many have logits at once.
    pub chunk: usize,
    /// To how many rows of logits is filled up.
    pub pad_multiple: usize,
    /// How is multiplied.
    pub arithmetic: Arithmetic,
    /// What the device takes at once.
    pub limits: DeviceLimits,
    /// Buffers that a kernel sees at most there.
    pub bindings: usize,
}

/// Launches of one kernel with the same work each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// Its name.
    pub kernel: &'static str,
    /// How many.
    pub count: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// Operations of all of them.
    pub flops: usize,
}

/// Linear layers of one input.
#[derive(Clone, Copy)]
struct Product {
    /// How many.
    count: usize,
    inner: usize,
    outer: usize,
    /// Bytes of a number of the input.
    input: usize,
}

impl ModelShape {
    /// That of a description; none if it has layers of other kinds, or not all alike.
    pub fn of(description: &Description) -> Option<Self> {
        let mut found = description.layers.iter().map(|layer| {
            let [attention, mlp] = layer.residuals.as_slice() else { return None };
            match (&attention.block, &mlp.block) {
                (BlockDescription::Attention(attention), BlockDescription::GatedMlp(mlp)) => {
                    Some((attention.config.heads, mlp.down.dims[1]))
                }
                _ => None,
            }
        });
        let (heads, intermediate) = found.next()??;
        let alike = found.all(|other| other == Some((heads, intermediate)));
        let Description { hidden, vocabulary, tied, .. } = *description;
        let layers = description.layers.len();
        alike.then_some(Self { layers, hidden, intermediate, heads, vocabulary, tied })
    }

    fn queries(&self) -> usize {
        self.heads.queries * self.heads.width
    }

    fn qkv(&self) -> usize {
        self.queries() + 2 * self.heads.kv_heads * self.heads.width
    }

    /// Numbers of its matrices.
    pub fn numbers(&self) -> usize {
        let of_layer = (self.qkv() + self.queries() + 3 * self.intermediate) * self.hidden;
        let tables = if self.tied { 1 } else { 2 };
        self.layers * of_layer + tables * self.vocabulary * self.hidden
    }
}

fn launched(kernel: &'static str, bytes: usize, flops: usize) -> Launched {
    Launched { kernel, count: 1, bytes, flops }
}

/// A product `[m, k] · [k, n]`, of factors with so many bytes a number.
fn multiplied([m, k, n]: [usize; 3], (left, right): (usize, usize)) -> Launched {
    launched("MatmulEntry", left * m * k + right * k * n + F32 * m * n, 2 * m * n * k)
}

impl Launched {
    fn times(self, count: usize) -> Self {
        let Self { kernel, bytes, flops, .. } = self;
        Self { kernel, count: count * self.count, bytes: count * bytes, flops: count * flops }
    }
}

impl StepShape {
    /// Whether the formula holds: attention keeps no scores, and the linear layers of one input
    /// are one product that the device takes at once.
    pub fn holds(&self) -> bool {
        let config = AttentionConfig::of(self.model.heads);
        let small = self.products().into_iter().all(|product| {
            self.tokens() <= self.limits.rows_of_product(product.inner, product.outer)
        });
        keeps_no_scores(config, self.rows, self.limits) && small
    }

    /// Tokens, padding included.
    pub fn tokens(&self) -> usize {
        self.rows.0 * self.rows.1
    }

    /// Bytes of a factor of products.
    fn factor(&self) -> usize {
        self.arithmetic.factors().size()
    }

    fn scaled(&self) -> bool {
        self.arithmetic == Arithmetic::MixedF16
    }

    fn products(&self) -> [Product; 4] {
        let ModelShape { hidden, intermediate, .. } = self.model;
        let (queries, qkv, factor) = (self.model.queries(), self.model.qkv(), self.factor());
        [
            Product { count: 3, inner: hidden, outer: qkv, input: factor },
            Product { count: 1, inner: queries, outer: hidden, input: F32 },
            Product { count: 2, inner: hidden, outer: 2 * intermediate, input: factor },
            Product { count: 1, inner: intermediate, outer: hidden, input: factor },
        ]
    }

    /// Numbers of the adapters of a layer.
    fn adapters(&self) -> usize {
        let of = |product: Product| self.rank * (product.count * product.inner + product.outer);
        self.products().into_iter().map(of).sum()
    }

    /// Rows of logits of each chunk of the loss, and how many of them are targets.
    fn chunks(&self) -> Vec<(usize, usize)> {
        let limit = self.limits.rows_of_product(self.model.hidden, self.model.vocabulary);
        let most = self.chunk.min(limit).max(1);
        let of = |first| {
            let count = most.min(self.targets - first);
            (count.next_multiple_of(self.pad_multiple.max(1)).min(most), count)
        };
        (0..self.targets).step_by(most).map(of).collect()
    }

    /// Numbers that attention looks up of documents.
    fn seen(&self) -> usize {
        let (rows, length) = self.rows;
        self.tokens() + 2 * rows * length.div_ceil(ATTENTION_TILE)
    }

    /// Forward and backward of linear layers of one input.
    fn of_product(&self, product: Product) -> Vec<Launched> {
        let Product { count, inner, outer, input } = product;
        let (tokens, factor) = (self.tokens(), self.factor());
        let rank = count * self.rank;
        // Factors and their gradients are joined and taken apart where layers are several.
        let hidden = (F32 + factor) * tokens * rank;
        let add = |width: usize, blocks: usize| {
            let bytes = hidden + F32 * rank * width + 2 * F32 * tokens * width;
            launched("AddLowRank", bytes, 2 * tokens * width * rank / blocks)
        };
        let mut all = vec![
            multiplied([tokens, inner, outer], (input, factor)),
            multiplied([tokens, inner, rank], (input, F32)),
            add(outer, count),
            multiplied([outer, tokens, rank], (F32, factor)),
            multiplied([tokens, outer, rank], (F32, F32)),
            multiplied([tokens, outer, inner], (F32, factor)),
            add(inner, 1),
            multiplied([rank, tokens, inner], (factor, input)),
        ];
        if count > 1 {
            let (a, b, blocks) = (rank * inner, outer * self.rank, outer * rank);
            all.push(launched("JoinFactors", F32 * (2 * a + b + blocks), 0));
            all.push(launched("SplitBlocks", F32 * (b + blocks), 0));
        }
        all
    }

    /// Attention without scores, forward and backward.
    fn of_attention(&self) -> Vec<Launched> {
        let (tokens, (rows, length)) = (self.tokens(), self.rows);
        let (qkv, mixed) = (F32 * tokens * self.model.qkv(), F32 * tokens * self.model.queries());
        let seen = F32 * self.seen();
        let of_queries = 2 * F32 * tokens * self.model.heads.queries;
        let pairs = length * (length + 1) / 2;
        let product = 2 * rows * pairs * self.model.queries();
        vec![
            launched("FusedAttention", qkv + seen + mixed, 2 * product),
            launched("FusedAttentionQueries", qkv + 2 * mixed + seen + of_queries, 5 * product),
            launched(
                "FusedAttentionKeys",
                qkv + mixed + seen + of_queries + (qkv - mixed),
                4 * product,
            ),
        ]
    }

    /// What a layer launches, without the update.
    pub fn layer(&self) -> Vec<Launched> {
        let ModelShape { hidden, intermediate, heads, .. } = self.model;
        let (tokens, factor) = (self.tokens(), self.factor());
        let (stream, gated) = (tokens * hidden, tokens * intermediate);
        let rotated = tokens * (heads.queries + heads.kv_heads) * heads.width;
        let tables = 2 * tokens * heads.width;
        let norm = |bytes: usize| bytes * stream + F32 * hidden;
        let mut all: Vec<_> =
            self.products().into_iter().flat_map(|product| self.of_product(product)).collect();
        all.extend(self.of_attention());
        all.extend([
            launched("NormForward", norm(F32 + factor), 4 * stream).times(2),
            launched("NormBackward", norm(4 * F32), 10 * stream).times(2),
            launched("RotateBeside", F32 * (2 * tokens * self.model.qkv() + tables), 3 * rotated)
                .times(2),
            launched("GateForward", (2 * F32 + factor) * gated, 6 * gated),
            launched("GateBackward", 5 * F32 * gated, 12 * gated),
            launched("KernelBinop", 3 * F32 * stream, stream).times(2),
            launched("FullKernel", F32, 0).times(3),
        ]);
        all
    }

    /// The norm of the gradients and the update, of all layers.
    pub fn update(&self) -> Vec<Launched> {
        let (tensors, numbers) =
            (ADAPTER_TENSORS * self.model.layers, self.adapters() * self.model.layers);
        let at_once =
            |buffers: usize| (self.bindings.saturating_sub(2) / buffers).clamp(1, TOGETHER);
        let (summed, moved) = (tensors.div_ceil(at_once(1)), tensors.div_ceil(at_once(5)));
        let sums = F32 * SUMS * tensors;
        vec![
            Launched {
                kernel: "SquaresOfParts",
                count: summed,
                bytes: F32 * numbers + sums,
                flops: 2 * numbers,
            },
            launched("LossAndNorm", sums + 3 * F32, SUMS * tensors),
            Launched {
                kernel: "MoveParameters",
                count: moved,
                bytes: 7 * F32 * numbers + F32 * moved,
                flops: 14 * numbers,
            },
        ]
    }

    /// Embedding, loss, and what is decided of a step.
    pub fn beside(&self) -> Vec<Launched> {
        let ModelShape { hidden, vocabulary, .. } = self.model;
        let (tokens, factor) = (self.tokens(), self.factor());
        let stream = tokens * hidden;
        let mut all = vec![
            launched("SelectKernel", 2 * factor * stream + F32 * tokens, 0),
            launched("FullKernel", F32 * stream, 0),
        ];
        if factor != F32 {
            all.push(launched("CastElement", (F32 + factor) * stream, 0));
        }
        for (number, (rows, targets)) in self.chunks().into_iter().enumerate() {
            let (x, logits) = (rows * hidden, rows * vocabulary);
            all.extend([
                launched("SelectKernel", 2 * F32 * x + F32 * rows, 0),
                launched("NormForward", 2 * F32 * x + F32 * hidden, 4 * x),
                multiplied([rows, hidden, vocabulary], (F32, factor)),
                launched("LossRows", (F32 + factor) * logits + 2 * F32 * rows, 8 * logits),
                launched("SumAll", F32 * rows + F32, rows),
                multiplied([rows, vocabulary, hidden], (factor, factor)),
                launched("FullKernel", F32, 0),
                launched("NormBackward", 3 * F32 * x + F32 * hidden, 10 * x),
                launched("RowsPlaced", targets * (2 * F32 * hidden + F32), 0),
            ]);
            if self.scaled() && LOSS_SCALE > SCALE_MAX * self.targets {
                all.push(launched("KernelScalarBinop", 2 * F32 * x, x));
            }
            if number > 0 {
                all.push(launched("KernelBinop", 3 * F32, 1));
            }
        }
        all.push(launched("KernelScalarBinop", 2 * F32, 1));
        if !self.scaled() {
            all.extend([
                launched("SliceKernel", 2 * F32, 1),
                launched("KernelScalarBinop", 2 * F32, 1).times(2),
                launched("UnaryFloat", 2 * F32, 1),
                launched("KernelScalarCmp", 2 * F32, 1),
                launched("MaskFillKernel", 3 * F32, 1),
            ]);
        }
        all
    }

    /// Every launch of a step.
    pub fn step(&self) -> Vec<Launched> {
        let layers = self.model.layers;
        let of_layers = self.layer().into_iter().map(|one| one.times(layers));
        of_layers.chain(self.update()).chain(self.beside()).collect()
    }

    /// What a device is told of a step, besides launches: tokens, cosines and sines of positions,
    /// documents, targets and a number.
    fn uploads(&self) -> Transfers {
        let chunks = self.chunks();
        let rows: usize = chunks.iter().map(|(rows, _)| rows).sum();
        let angles = 2 * self.tokens() * self.model.heads.width;
        let numbers = self.tokens() + angles + self.seen() + 2 * rows + usize::from(self.scaled());
        Transfers {
            times: signed(4 + 2 * chunks.len() + usize::from(self.scaled())),
            bytes: signed(F32 * numbers),
        }
    }

    /// The same as a ledger.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger {
            uploads: self.uploads(),
            read_backs: Transfers { times: 1, bytes: 8 },
            ..Ledger::default()
        };
        for Launched { kernel, count, bytes, flops } in self.step() {
            let (launches, bytes, flops) = (signed(count), signed(bytes), signed(flops));
            ledger.add(kernel, Work { launches, known: launches, bytes, flops });
        }
        ledger
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
