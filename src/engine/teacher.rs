//! What a teacher makes of targets: a model that is only asked.

use crate::data::{Batch, TeacherTop};
use crate::engine::MicroBatchSplit;
use crate::engine::reference::before_head;
use crate::engine::sizes::{Size, pieces};
use crate::model::Model;
use crate::objectives::{Targets, TeacherConfig, top_tokens};

/// The likeliest tokens at each target of a batch by `model`, of the first `vocabulary` ones. At
/// most `chunk` targets have logits at once.
pub fn teacher_tops(
    model: &Model,
    batch: &Batch,
    config: &TeacherConfig,
    (vocabulary, chunk): (usize, usize),
) -> Vec<TeacherTop> {
    let size = Size::of(batch, batch.rows, MicroBatchSplit::default(), model.computing);
    let mut tops = Vec::with_capacity(batch.targets.len());
    for piece in pieces(batch, size, model.computing) {
        let (x, pairs) = before_head(model, &piece.batch, false);
        let targets = Targets { pairs: &pairs, chunk, temperature: config.temperature };
        tops.extend(top_tokens(model, &x, targets, (config.top_k, vocabulary)));
    }
    tops
}
