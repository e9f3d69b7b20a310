//! The training step on the CPU, written for it: products of matrices with panels that fit its
//! caches, and everything between them in one pass over memory each. Results do not depend on the
//! number of threads.
//!
//! `element` and `packed` say how factors are kept, `transpose` turns squares, `memory` makes new
//! vectors, `product` multiplies; `pointwise`, `gates`, `softmax`, `attention` (in `tasks`, with
//! `branches`), `convolution`, `delta_rule` and `loss` are what a model does besides; `projection`
//! is a linear layer, with the addition of `low_rank`; `project` reads prompts; `few`, `decode` and
//! `cached` write text, a few rows at a time, by a `team` of threads; `speed` measures products;
//! `host_tensor` and `run` are the way in. Blocks of models are made of these (`model/blocks`).

mod attention;
mod branches;
mod cached;
mod clamped;
mod convolution;
mod delta_rule;
mod element;
mod exponential;
mod few;
mod gates;
mod host_tensor;
mod loss;
mod low_rank;
mod memory;
mod decode;
mod packed;
mod pointwise;
mod product;
mod project;
mod projection;
mod rotation;
mod run;
mod softmax;
mod speed;
mod target;
mod tasks;
mod team;
mod transpose;

pub use attention::{Attention, Mixed, MixedGradients, attend};
pub use cached::{CacheFormat, CachedKeys, PAGE as CACHE_PAGE, attend_next};
pub use convolution::{Convolution, ConvolutionGradients};
pub use decode::decode_outputs;
pub use delta_rule::{DeltaGradients, DeltaRule, gated_delta_rule};
pub use element::{Bf16, F32, F32RoundedToBf16, Number};
pub use few::FEW_ROWS;
pub use gates::{multiplied, sigmoid_gated, sigmoid_gated_backward};
pub use host_tensor::{AsLhs, HostTensor, StoredNumbers};
pub use loss::GROUP as HEAD_ROWS;
pub use low_rank::{InputMask, LowRank, Magnitude};
pub use packed::{Left, PackedRhs, View, convert, packed_numbers, picked, spread};
pub use pointwise::{Norm, dot, gated, gated_backward};
pub use product::{
    PASS, Term, chosen_tile, factor_product, product, product_by, set_step_depth, step_depth,
};
pub use project::{PACKED_OUTPUTS, project, project_with};
pub use projection::{Back, Given, Narrow, PathGradients, Projection};
pub use rotation::Rotation;
pub use run::{Head, HeadGradients, Products};
pub use softmax::{Scores, Sum};
pub use speed::{
    ProductSpeed, brief_gflops, gflops_by, gflops_counted, gflops_of, gflops_packing, peak_gflops,
    product_speed,
};
pub use tasks::task_keys;
pub use team::{each, is_here as has_team, together};
