//! The rows of a whole run in the order in which it trains on them, and those that it is measured
//! on: `train` and `validation`, with the ending of their form.
//!
//! A row has what trainers on `transformers` read: `input_ids`, `labels` (-100 where nothing is to
//! be predicted), `attention_mask`, `position_ids`, which begin anew with each document of the row,
//! and `seq_lengths`, the lengths of the documents.
//!
//! A form is a file with a line of [`FORMATS`].

mod jsonl;
mod parquet;

use std::path::Path;

use serde::Serialize;

use crate::data::{Batch, Cursor};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::train::Prepared;

/// A form in which rows are written.
pub struct RowsFormat {
    /// Its name on the command line, and the ending of its files.
    pub name: &'static str,
    /// What `datasets` reads it by.
    pub(super) dataset: &'static str,
    begin: fn(&Path) -> Result<Box<dyn RowsWriter>>,
}

/// A file of rows that is being written.
trait RowsWriter {
    fn put(&mut self, row: JobRow) -> Result<()>;
    /// Returns once the disk has all of it.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The first one is the usual one.
const FORMATS: &[&RowsFormat] = &[&jsonl::FORMAT, &parquet::FORMAT];

/// The name of the usual form of rows.
pub const USUAL_ROWS_FORMAT: &str = FORMATS[0].name;

/// Names of all forms of rows.
pub fn rows_formats() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.name)
}

/// The form of this name.
pub fn rows_format(name: &str) -> Option<&'static RowsFormat> {
    FORMATS.iter().copied().find(|format| format.name == name)
}

impl RowsFormat {
    /// The file with the rows of training.
    pub(super) fn training(&self) -> String {
        format!("train.{}", self.name)
    }

    /// The file with the rows of validation.
    pub(super) fn validation(&self) -> String {
        format!("validation.{}", self.name)
    }
}

/// What it is when a file of rows cannot be written.
const WHAT: &str = "cannot write the rows";

/// What the labels have where nothing is to be predicted.
const IGNORED: i64 = -100;
/// How often it is told how far it is.
const TOLD_EVERY: u64 = 1000;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct WrittenRows {
    /// Rows of training.
    pub rows: u64,
    /// Those among them without targets that fill up a step.
    pub filled: u64,
    /// Tokens in rows of training.
    pub tokens: u64,
    /// Rows of validation.
    pub validation: u64,
    /// Whether targets have weights.
    pub weighted: bool,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct JobRow {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
    attention_mask: Vec<u8>,
    position_ids: Vec<u32>,
    seq_lengths: Vec<u32>,
}

impl JobRow {
    /// A row that teaches nothing.
    fn filler() -> Self {
        Self {
            input_ids: vec![0, 0],
            labels: vec![IGNORED; 2],
            attention_mask: vec![1; 2],
            position_ids: vec![0, 1],
            seq_lengths: vec![2],
        }
    }
}

/// The rows of a micro-batch, without padding.
fn rows_of(batch: &Batch) -> Vec<JobRow> {
    let mut labels = vec![IGNORED; batch.tokens.len()];
    for target in &batch.targets {
        // Trainers shift labels themselves: the label stands at the token, not before it.
        labels[target.index as usize + 1] = i64::from(target.token);
    }
    let row = |number: usize| {
        let begin = number * batch.length;
        let documents = &batch.documents[begin..begin + batch.length];
        let length = documents.iter().take_while(|document| **document > 0).count();
        let all = begin..begin + length;
        let mut row = JobRow {
            input_ids: batch.tokens[all.clone()].to_vec(),
            labels: labels[all.clone()].to_vec(),
            attention_mask: vec![1; length],
            position_ids: batch.positions[all].to_vec(),
            seq_lengths: Vec::new(),
        };
        for (place, document) in documents[..length].iter().enumerate() {
            match row.seq_lengths.last_mut() {
                Some(last) if place > 0 && documents[place - 1] == *document => *last += 1,
                _ => row.seq_lengths.push(1),
            }
        }
        row
    };
    (0..batch.rows).map(row).collect()
}

/// Writes all rows of a run.
///
/// # Errors
/// When data cannot be read, or files not written.
pub(super) fn write(
    prepared: &Prepared,
    format: &RowsFormat,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<WrittenRows> {
    let train = &prepared.config().train;
    let per_step = (train.micro_batch_size * train.gradient_accumulation_steps) as u64;
    let mut written = WrittenRows::default();
    let mut file = (format.begin)(&folder.join(format.training()))?;
    let mut cursor = Cursor::default();
    for step in 1..=prepared.total_steps {
        if step % TOLD_EVERY == 1 {
            let all = prepared.total_steps;
            observer.on(Event::Doing(format!("the rows of step {step} of {all}")));
        }
        let mut of_step = 0;
        let before = cursor;
        let batches = prepared.take(&mut cursor)?;
        prepared.admit(before, cursor, observer)?;
        for batch in batches {
            written.weighted |= !batch.weights.is_empty();
            for row in rows_of(&batch) {
                written.tokens += row.input_ids.len() as u64;
                file.put(row)?;
                of_step += 1;
            }
        }
        // A step ends with its epoch; trainers that count rows would take some of the next one.
        while of_step < per_step {
            file.put(JobRow::filler())?;
            written.filled += 1;
            of_step += 1;
        }
        written.rows += of_step;
    }
    file.finish()?;
    if !prepared.validation.is_empty() {
        let mut file = (format.begin)(&folder.join(format.validation()))?;
        for row in prepared.validation.iter().flat_map(rows_of) {
            file.put(row)?;
            written.validation += 1;
        }
        file.finish()?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Target;

    #[test]
    fn a_row_has_labels_at_the_tokens_and_positions_of_its_documents() {
        let target = |index, token| Target { index, token };
        let batch = Batch {
            rows: 2,
            length: 5,
            tokens: vec![1, 2, 3, 4, 5, 6, 7, 0, 0, 0],
            positions: vec![0, 1, 2, 0, 1, 0, 1, 0, 0, 0],
            documents: vec![1, 1, 1, 2, 2, 1, 1, 0, 0, 0],
            targets: vec![target(1, 3), target(3, 5), target(5, 7)],
            ..Batch::default()
        };
        let rows = rows_of(&batch);
        assert_eq!(rows[0].labels, [-100, -100, 3, -100, 5]);
        assert_eq!(rows[0].seq_lengths, [3, 2]);
        assert_eq!(rows[0].position_ids, [0, 1, 2, 0, 1]);
        assert_eq!(
            (rows[1].input_ids.as_slice(), rows[1].seq_lengths.as_slice()),
            (&[6, 7][..], &[2][..])
        );
        assert_eq!(rows[1].labels, [-100, 7]);
    }
}
