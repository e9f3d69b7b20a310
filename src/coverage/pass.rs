//! Forward passes over records, a layer at a time: what a layer keeps is looked at and dropped
//! before the next begins, so that memory grows neither with the layers nor with the records.

use super::bits::BitSet;
use super::criteria::{PathSpace, Thresholds};
use super::hits::{LayerNumbers, LayerReader, NotFinite, UnitRanges};
use crate::data::{Batch, Case, packed_cases};
use crate::engine::upload;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::blocks::LayerHeads;

/// A model that is looked at.
pub struct CoveragePass<'a> {
    /// The model.
    pub model: &'a Model,
    /// What counts as exercised.
    pub thresholds: Thresholds,
    /// All paths.
    pub space: PathSpace,
    /// Of each layer, what sections are of.
    reference: Option<&'a [UnitRanges]>,
    /// Of each layer, what is known of its heads.
    heads: Vec<LayerHeads>,
}

/// A document of a batch: its first token, its length, and the record that it is of.
type Span = (usize, usize, usize);

impl<'a> CoveragePass<'a> {
    /// Of a model; `reference` has what values each unit has in another data set.
    pub fn new(
        model: &'a Model,
        thresholds: Thresholds,
        reference: Option<&'a [UnitRanges]>,
    ) -> Self {
        let space = PathSpace::new(model, &thresholds, reference.is_some());
        let heads = model.layers.iter().map(|_| LayerHeads::new()).collect();
        Self { model, thresholds, space, reference, heads }
    }

    /// How often nothing was exercised yet, for each layer.
    pub fn no_numbers(&self) -> Vec<LayerNumbers> {
        self.space.layers.iter().map(LayerNumbers::new).collect()
    }

    /// Runs the model on all tokens of records, in rows of at most so many tokens, some rows at
    /// once. `each` is handed what a piece of a record exercises, with the number of the record.
    ///
    /// # Errors
    /// When the model is not computed by the kernels of the CPU, or gives numbers that are not
    /// finite.
    pub fn run(
        &mut self,
        cases: &[Case],
        (max_seq_len, rows_at_once): (usize, usize),
        numbers: &mut [LayerNumbers],
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(usize, &BitSet),
    ) -> Result<()> {
        let (packed, owners) = packed_cases(cases, max_seq_len);
        for (batch, rows) in packed.batches(rows_at_once) {
            let owner = |row: usize, document: usize| owners[rows[row][document] as usize];
            let (spans, sets) =
                self.batch(&batch, &owner, numbers).map_err(|error| match error {
                    Failed::NotFinite(span) => not_finite(&cases[span.2]),
                    Failed::OtherKernels => other_kernels(),
                })?;
            spans.iter().zip(&sets).for_each(|((_, _, owner), set)| each(*owner, set));
            progress(batch.tokens_without_padding());
        }
        Ok(())
    }

    /// What the documents of a batch exercise.
    fn batch(
        &mut self,
        batch: &Batch,
        owner: &dyn Fn(usize, usize) -> usize,
        numbers: &mut [LayerNumbers],
    ) -> std::result::Result<(Vec<Span>, Vec<BitSet>), Failed> {
        let (tokens, context) = upload(self.model, batch);
        let of_span = |(first, count): &(usize, usize)| {
            let document = batch.documents[*first] as usize - 1;
            (*first, *count, owner(first / batch.length, document))
        };
        let spans: Vec<Span> = context.documents.spans().iter().map(of_span).collect();
        let mut sets = vec![BitSet::new(self.space.total); spans.len()];
        let mut x = self.model.embed(&tokens, &context);
        for (number, layer) in self.model.layers.iter().enumerate() {
            let (y, saved) = layer.differentiable(x, &context);
            let activities = saved.activity(&mut self.heads[number]);
            let activities = activities.ok_or(Failed::OtherKernels)?;
            let reader = LayerReader {
                space: &self.space.layers[number],
                thresholds: &self.thresholds,
                reference: self.reference.map(|reference| &reference[number]),
            };
            for (span, set) in spans.iter().zip(&mut sets) {
                let here = span.0..span.0 + span.1;
                let read = reader.read(&activities, here, set, &mut numbers[number]);
                read.map_err(|NotFinite| Failed::NotFinite(*span))?;
            }
            x = y;
        }
        Ok((spans, sets))
    }
}

/// Why a batch came to nothing.
enum Failed {
    NotFinite(Span),
    OtherKernels,
}

fn not_finite(case: &Case) -> Error {
    Error::not_finite("the model gives numbers that are not finite")
        .because(format!("they are of {}", case.record))
        .hint("its weights are damaged, or the training that made them diverged")
}

fn other_kernels() -> Error {
    Error::evaluation("the coverage of this model cannot be measured")
        .because(
            "units and heads are read from the kernels of the CPU, and one of its layers is \
             computed by tensor operations",
        )
        .hint("an adapter may be the reason: `firebrand merge` makes a whole model of it")
}
