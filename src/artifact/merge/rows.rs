//! The rows of one tensor on their way, changed by what is to be done to it.

use crate::adapters::WeightChange;
use crate::artifact::requantised::CodedTensor;
use crate::artifact::several::apply_all;
use crate::error::Result;
use crate::model::CheckpointNames;
use crate::weights::{OwnedTensor, ShardStream, TensorPlace, to_f32};

/// How many bytes are read and written at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Rows of a tensor.
pub enum Rows<'a> {
    /// As they lie in the file, in its number format.
    Unchanged(&'a [u8]),
    /// With the adapter added.
    Changed(Change<'a>),
}

/// Rows that an adapter changes, in f32.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// As they were.
    pub before: &'a [f32],
    /// What is added.
    pub added: &'a [f32],
    /// The sum, not rounded to any shorter format yet.
    pub after: &'a [f32],
}

/// Takes the weights as they come.
pub trait Sink {
    /// The next file has a tensor more.
    fn more(&mut self, _name: &'static str, _tensor: OwnedTensor) {}
    /// A file begins.
    fn shard(&mut self, shard: &ShardStream) -> Result<()>;
    /// A tensor begins; its rows come in multiples of the answer, at the end perhaps fewer.
    fn tensor(&mut self, place: &TensorPlace) -> Result<usize>;
    /// The next rows of the tensor.
    fn rows(&mut self, place: &TensorPlace, rows: Rows) -> Result<()>;
    /// The file has ended.
    fn end(&mut self) -> Result<()>;
}

/// Reads a tensor, and what is to come behind the rows that its file has.
pub(super) fn read_tensor(
    (shard, names): (&mut ShardStream, CheckpointNames),
    place: &TensorPlace,
    (codes, changes): (Option<CodedTensor>, &[Box<dyn WeightChange>]),
    sink: &mut dyn Sink,
) -> Result<()> {
    let width: usize = place.shape.iter().skip(1).product();
    let row_bytes = (width * place.element.size()).max(1);
    let unit = sink.tensor(place)?.max(1);
    // What is coded is read whole.
    let count = match &codes {
        Some(codes) => codes.rows,
        None => (PIECE_BYTES / row_bytes / unit).max(1) * unit,
    };
    let mut buffer = Vec::new();
    let mut first = 0;
    loop {
        let bytes = shard.read(&mut buffer, count * row_bytes)?;
        if bytes.is_empty() {
            return further_rows(place, (first, width, count), changes, sink);
        }
        shard.refuse_not_finite(|name| names.path_of(name).is_some())?;
        let rows = bytes.len() / row_bytes;
        if codes.is_none() && changes.is_empty() {
            sink.rows(place, Rows::Unchanged(bytes))?;
        } else {
            let mut before = to_f32(place.element, bytes);
            if let Some(codes) = &codes {
                before = codes.restored(before);
            }
            let (mut after, mut added) = (before.clone(), vec![0.0; before.len()]);
            apply_all(changes, first, (&mut after, &mut added));
            let change = Change { before: &before, added: &added, after: &after };
            sink.rows(place, Rows::Changed(change))?;
        }
        first += rows;
    }
}

/// Rows that the file has not: those of the adapters alone.
fn further_rows(
    place: &TensorPlace,
    (mut first, width, most): (usize, usize, usize),
    changes: &[Box<dyn WeightChange>],
    sink: &mut dyn Sink,
) -> Result<()> {
    let all = place.shape.first().copied().unwrap_or(0);
    while place.shape.len() > 1 && first < all {
        let count = most.min(all - first);
        let before = vec![0.0; count * width];
        let (mut after, mut added) = (before.clone(), before.clone());
        apply_all(changes, first, (&mut after, &mut added));
        let change = Change { before: &before, added: &added, after: &after };
        sink.rows(place, Rows::Changed(change))?;
        first += count;
    }
    Ok(())
}
