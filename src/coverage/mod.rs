//! Which paths of a model a data set exercises: units of MLPs, heads of attention, experts. What an
//! evaluation never goes through, it cannot judge.
//!
//! - `criteria`, `bits`: what is counted, and sets of it
//! - `pass`, `hits`: a forward pass, and what it goes through
//! - `result`, `table`: what that comes to, as a file and for people
//! - `diff`: two results beside each other; `history`: many in the order of time
//! - `suggest`, `variations`: records that would exercise more

mod bits;
mod criteria;
mod diff;
mod history;
mod hits;
mod pass;
mod result;
mod suggest;
mod table;
mod variations;

use std::sync::Arc;

pub use bits::BitSet;
pub use criteria::{CRITERIA, Criterion, LayerSpace, PathSpace, Thresholds};
pub use diff::{CoverageDiff, DiffCounts, diff, diff_markdown};
pub use history::{CoverageHistory, HistoryPoint, history, history_markdown};
pub use hits::{LayerNumbers, UnitRanges};
pub use pass::CoveragePass;
pub use result::{
    Counts, Coverage, Covered, CoveredSet, DataRecord, LayerCoverage, PartCoverage, SlicesCoverage,
    VERSION,
};
pub use suggest::{Candidate, Suggestion, Suggestions, suggest};
pub use table::{markdown, percent, share, suggestions_markdown};
pub use variations::{Variation, VariationKind, variations};

use crate::data::{Case, Cases, cases};
use crate::error::{Error, Result};
use crate::evaluation::{Slices, Subject, Suite, Watcher, asked, model_record, slices};
use crate::files::Digest;
use crate::hub::Supply;

/// What sections are of: a result on another data set, usually that of the training.
pub struct Reference {
    /// The digest of its file.
    pub sha256: Digest,
    /// What values each unit has there, layer by layer.
    pub ranges: Vec<UnitRanges>,
}

impl Reference {
    /// Of a result on the same model.
    ///
    /// # Errors
    /// When it is of another model.
    pub fn new(result: &Coverage, sha256: Digest, subject: &Subject) -> Result<Self> {
        if result.model.sha256 != model_record(subject).sha256 {
            return Err(Error::evaluation("the reference is of another model")
                .because(format!("it was measured on `{}`", result.model.name))
                .hint("units of different models are not the same: measure it with this one"));
        }
        Ok(Self { sha256, ranges: result.ranges()? })
    }
}

/// A measurement: the result, and what is needed to measure more beside it.
pub struct Measured<'a> {
    /// The result.
    pub coverage: Coverage,
    /// The records that were run.
    pub cases: Vec<Case>,
    /// What they exercise.
    pub set: BitSet,
    /// The model.
    pub pass: CoveragePass<'a>,
}

/// Runs a model on the records of a suite, its tasks and slices.
///
/// # Errors
/// When the data cannot be used, or the model is not computed by the kernels of the CPU.
pub fn measure<'a>(
    subject: &Subject<'a>,
    suite: &Suite,
    supply: &Arc<Supply>,
    (thresholds, reference): (Thresholds, Option<&'a Reference>),
    watcher: &dyn Watcher,
) -> Result<Measured<'a>> {
    let settings = suite.case_settings(subject.codec, subject.score_head);
    let found = cases(&suite.data, subject.codec, supply, &settings)?;
    found.warnings.iter().for_each(|text| watcher.warn(text));
    if found.cases.iter().all(|case| case.examples.is_empty()) {
        return Err(Error::evaluation("the data has nothing to run the model on")
            .at(&suite.path)
            .because(format!("{} records were read", found.cases.len())));
    }
    let ranges = reference.map(|reference| reference.ranges.as_slice());
    let mut pass = CoveragePass::new(subject.model, thresholds, ranges);
    let parts = Parts::of(suite, &found.cases)?;
    let mut sets = vec![BitSet::new(pass.space.total); parts.count() + 1];
    let mut numbers = pass.no_numbers();
    let tokens: u64 = found.cases.iter().map(|case| case.tokens() as u64).sum();
    watcher.begin("records", tokens);
    let mut progress = |tokens| watcher.advance(tokens);
    let size = (suite.max_seq_len, suite.micro_batch_size);
    pass.run(&found.cases, size, &mut numbers, &mut progress, &mut |case, set| {
        sets[0].add(set);
        parts.of_case(case).for_each(|part| sets[part + 1].add(set));
    })?;
    watcher.end();
    let space = &pass.space;
    let layers = space.layers.iter().zip(&numbers);
    let layers = layers.map(|(layer, numbers)| LayerCoverage::new(layer, &sets[0], numbers));
    let layers: Vec<LayerCoverage> = layers.collect();
    let (slices, tasks) = parts.coverage(space, &sets[1..]);
    let coverage = Coverage {
        version: VERSION,
        firebrand: env!("CARGO_PKG_VERSION").to_owned(),
        model: model_record(subject),
        data: data_record(suite, &found, tokens),
        thresholds,
        reference: reference.map(|reference| reference.sha256),
        totals: Coverage::totals_of(&layers),
        layers,
        slices,
        tasks,
    };
    Ok(Measured { coverage, cases: found.cases, set: sets.swap_remove(0), pass })
}

fn data_record(suite: &Suite, found: &Cases, tokens: u64) -> DataRecord {
    DataRecord {
        name: suite.name.clone(),
        files: found.files.clone(),
        records: found.cases.len() as u64,
        tokens,
        truncated: found.truncated,
    }
}

/// Slices and tasks, one after the other.
struct Parts {
    slices: Vec<Slices>,
    /// Name, and of each record whether it is asked.
    tasks: Vec<(String, Vec<bool>)>,
}

impl Parts {
    fn of(suite: &Suite, cases: &[Case]) -> Result<Self> {
        let mut tasks = Vec::with_capacity(suite.tasks.len());
        for task in &suite.tasks {
            let mut is_asked = vec![false; cases.len()];
            for (case, _) in asked(task, cases).map_err(|error| error.at(&suite.path))? {
                is_asked[case] = true;
            }
            tasks.push((task.name.clone(), is_asked));
        }
        Ok(Self { slices: slices(suite, cases)?, tasks })
    }

    fn count(&self) -> usize {
        self.slices.iter().map(|slices| slices.names.len()).sum::<usize>() + self.tasks.len()
    }

    /// The numbers of the parts that a record is in.
    fn of_case(&self, case: usize) -> impl Iterator<Item = usize> {
        let mut first = 0;
        let slices = self.slices.iter().map(move |slices| {
            let part = slices.of[case].map(|slice| first + slice);
            first += slices.names.len();
            part
        });
        let before: usize = self.slices.iter().map(|slices| slices.names.len()).sum();
        let tasks = self.tasks.iter().enumerate();
        let tasks = tasks.map(move |(number, (_, asked))| asked[case].then_some(before + number));
        slices.chain(tasks).flatten()
    }

    fn coverage(
        &self,
        space: &PathSpace,
        sets: &[BitSet],
    ) -> (Vec<SlicesCoverage>, Vec<PartCoverage>) {
        let mut sets = sets.iter();
        let mut part = |name: &str, records: usize| {
            let set = sets.next().expect("there is a set for each part");
            PartCoverage::new(name, records as u64, space, set)
        };
        let mut slices = Vec::with_capacity(self.slices.len());
        for Slices { by, names, of } in &self.slices {
            let records = |slice| of.iter().filter(|of| **of == Some(slice)).count();
            let parts = names.iter().enumerate();
            let parts = parts.map(|(slice, name)| part(name, records(slice))).collect();
            slices.push(SlicesCoverage { by: by.clone(), slices: parts });
        }
        let count = |asked: &[bool]| asked.iter().filter(|asked| **asked).count();
        let tasks = self.tasks.iter().map(|(name, asked)| part(name, count(asked))).collect();
        (slices, tasks)
    }
}
