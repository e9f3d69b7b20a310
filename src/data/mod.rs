//! Records become batches: source, format, template, tokens, mask, order, pack, batch.
//!
//! [`open`] reads every data set of a configuration into a [`Corpus`]; a [`Plan`] says which rows
//! come in which step; [`validation_batches`] are what the loss is measured on. [`Codec`] is how a
//! model reads and writes text, also where nothing is trained.

mod sources;
mod formats;
mod detect;
mod template;
mod tokens;
mod mask;
mod codec;
mod example;
mod order;
mod pack;
mod corpus;
mod reading;
mod batch;
mod validation;
mod plan;
mod show;
#[cfg(test)]
mod fixture;

pub use batch::{Batch, Target};
pub use codec::Codec;
pub use corpus::{Corpus, CorpusFile, Entry, Part, Role, Statistics, open};
pub use example::{Example, Maker, Outcome, RecordId};
pub use formats::{Content, Conversation, map_columns};
pub use order::permuted;
pub use plan::{Cursor, Plan};
pub use show::{Pair, Piece, pair, pieces};
pub use sources::extensions;
pub use template::{ChatTemplate, TEMPLATE_DATE, Turns};
pub use tokens::{Encoded, TextStream, Tokenizer};
pub use validation::batches as validation_batches;
