//! Records become batches: source, format, template, tokens, mask, order, pack, batch.
//!
//! [`open`] finds the data sets of a configuration; a [`Plan`] says which rows come in which step,
//! and has files fetched, tokenised and packed as they are needed; [`validation_batches`] are what
//! the loss is measured on. [`Codec`] is how a model reads and writes text, also where nothing is
//! trained.

mod sources;
mod formats;
mod detect;
mod template;
mod tokens;
mod mask;
mod stencil;
mod renderer;
mod codec;
mod example;
mod unused;
mod regions;
mod spots;
mod coverage;
mod handed;
mod texts;
mod sketch;
mod ends_of_runs;
mod finding;
mod written;
mod made;
mod numbers;
mod paired;
mod labelled;
mod labels_found;
pub mod classified;
mod asked;
mod maker;
mod begin;
mod examples;
mod statistics;
mod corpus_file;
mod watch;
mod about;
mod bad_rows;
mod tokenise;
mod cache_eviction;
mod raw;
mod store;
mod order;
mod layout;
mod mixing;
mod filter;
mod pack;
mod batch;
mod epoch;
mod window;
mod prefetch;
mod plan;
mod admission;
mod survey;
mod validation;
mod corpus;
mod retraction;
mod show;
mod count;
mod doctor;
mod pairs;
mod cases;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod property_tests;

pub use admission::Said;
pub use batch::{Batch, SampledToken, SharedBeginning, Target, TeacherTop};
pub use cache_eviction::{CacheItem, items as cache_items, remove as remove_cached};
pub use cases::{Case, Cases, PackedEntries, Question, cases, cases_of, packed_cases};
pub use codec::{Codec, chat_template_digest};
pub use corpus::{Corpus, Extent, open};
pub use corpus_file::{CorpusFile, Role};
pub use count::{Counted, count};
pub use doctor::{Checkup, FindingGroup, checkup};
pub use example::{CorpusEntry, Example, RecordId, RecordOutcome, TextPieces};
pub use examples::TOKEN_BYTES;
pub use finding::FindingKind;
pub use formats::{Content, Conversation};
pub use labels_found::with_labels;
pub use made::Made;
pub use maker::{CaseSettings, Maker};
pub use order::permuted;
pub use pack::{Packing, pack};
pub use pairs::{Pair, preference_pairs};
pub use plan::{Cursor, Plan};
pub use raw::{RawRecord, each_record};
pub use renderer::{
    COMMAND as RENDER_COMMAND, Exceeded, TemplateRenderer, Tried, render_with,
    serve as render_served,
};
pub use retraction::{NamedRecord, NamedRecords, named_records};
pub use show::{ExampleSpan, pieces};
pub use sources::extensions;
pub use statistics::Statistics;
pub use template::{ChatTemplate, TEMPLATE_DATE, TemplateText, Templates, Turns};
pub use tokens::{
    AddedTokenId, AddedTokens, BaseTokenizer, Encoded, StopTexts, TextStream, Tokenizer,
};
pub use validation::{ValidationSet, batches as validation_batches};
