//! The training step on the CPU, written for it: products of matrices with panels that fit its
//! caches, and everything between them in one pass over memory each. Results do not depend on the
//! number of threads.
//!
//! `element` and `packed` say how factors are kept, `turn` transposes, `memory` makes new vectors,
//! `product` and `brain` multiply; `pointwise`, `softmax`, `attention` (in `tasks`) and `loss`
//! are what a model does besides; `projection` is a linear layer, with the addition of `low_rank`,
//! `decoder` a layer; `few` multiplies a few rows where text is written; `held` and `run` are the
//! way in.

mod attention;
mod brain;
mod decoder;
mod element;
mod few;
mod held;
mod loss;
mod low_rank;
mod memory;
mod packed;
mod pointwise;
mod product;
mod projection;
mod run;
mod softmax;
mod tasks;
mod turn;

pub use decoder::{Decoder, Gain, Setting};
pub use element::{Brain, Rounded, Single};
pub use few::few_rows;
pub use held::Held;
pub use low_rank::{LowRank, Magnitude};
pub use packed::{Left, Packed, View};
pub use pointwise::{Norm, Rotation, gated, gated_backward};
pub use product::{Term, factor_product, product};
pub use projection::{PathGradients, Projection};
pub use run::{Head, HeadGradients, Products, Taped};
pub use softmax::{Scores, Sum};
