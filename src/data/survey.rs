//! All training files before the start: how many examples are trained on, which are left out, and
//! how long each is, so that the rows of every epoch can be counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::admission::Said;
use super::ends_of_runs::line;
use super::epoch::{Curriculum, Lengths};
use super::example::RecordId;
use super::examples::ExampleFacts;
use super::filter::{Filter, HeldOut, Place};
use super::layout::{Blocks, FileId};
use super::numbers::order_column;
use super::statistics::Statistics;
use super::store::Store;
use crate::config::{DataConfig, ValSize};
use crate::error::{Error, Result};
use crate::files::Digest;

/// What a survey found.
pub struct Survey {
    /// What is trained on, counted.
    pub statistics: Statistics,
    /// Lengths of all examples.
    pub lengths: Lengths,
    /// What a curriculum goes by, if there is one.
    pub curriculum: Option<Arc<Curriculum>>,
    /// What there is to say of it.
    pub said: Said,
    /// Why nothing can be trained on it.
    pub refusal: Option<Error>,
}

/// An error in a sentence, without its place and hints.
pub fn sentence(error: &Error) -> String {
    match error.causes.first() {
        Some(cause) => format!("{} ({cause})", error.what),
        None => error.what.clone(),
    }
}

/// Goes through all files once and completes the filter.
pub fn survey(store: &Store, filter: &mut Filter, config: &DataConfig) -> Result<Survey> {
    let mut said = Said::default();
    let mut statistics = Statistics::default();
    for file in store.files() {
        statistics.add(&store.open(file)?.about().statistics);
    }
    (statistics.examples, statistics.tokens) = (0, 0);
    (statistics.target_tokens, statistics.longest) = (0, 0);
    let mut refusal = None;
    filter.held_out = match held_out(store, config.val_size)? {
        Ok(held_out) => held_out,
        Err(error) => {
            refusal = Some(error);
            HeldOut::Nothing
        }
    };
    if config.deduplicate {
        filter.duplicates = duplicates(store)?;
        statistics.duplicates = filter.duplicates.len() as u64;
    }
    let mut found = LeftOut::default();
    let mut lengths = Lengths::new();
    let mut numbers = order_column(config).map(|_| BTreeMap::new());
    for file in store.files() {
        let (mut of_file, mut numbers_of_file) = (Vec::new(), Vec::new());
        each(store, file, |place, facts| {
            found.look(filter, place, &facts);
            if numbers.is_some() {
                numbers_of_file.push(facts.order);
            }
            let placed = filter.places(place, &facts.digest);
            of_file.push(if placed { facts.tokens } else { 0 });
            if filter.keeps(place, &facts.digest) {
                statistics.examples += 1;
                statistics.tokens += u64::from(facts.tokens);
                statistics.target_tokens += u64::from(facts.targets);
                statistics.longest = statistics.longest.max(u64::from(facts.tokens));
            }
            Ok(())
        })?;
        lengths.insert(file, of_file.into());
        if let Some(numbers) = &mut numbers {
            numbers.insert(file, numbers_of_file.into());
        }
    }
    statistics.held_out = found.held_out.len() as u64;
    statistics.overlapping = found.overlapping.len() as u64;
    statistics.retracted = found.retracted;
    if statistics.examples == 0 {
        refusal = refusal.or(Some(nothing_left(store, &statistics)?));
    }
    speak(store, config, &statistics, &found, &mut said)?;
    let curriculum = || Arc::new(Curriculum { lengths: lengths.clone(), numbers });
    let curriculum = config.order.is_some().then(curriculum);
    Ok(Survey { statistics, lengths, curriculum, said, refusal })
}

fn nothing_left(store: &Store, statistics: &Statistics) -> Result<Error> {
    if statistics.overlapping > 0 {
        return Ok(Error::data("every training record is also a validation record")
            .hint("remove them from one of the two, or use `data.val_size`"));
    }
    let error = Error::data("the training data holds no example with target tokens")
        .because(format!("{} records were read", statistics.records));
    // Records that may be skipped are otherwise only warned of, once there is something to train.
    for file in store.files() {
        if let Some(first) = store.open(file)?.about().problems.first() {
            let (bad, reason) = (statistics.bad_rows, &first.reason);
            let record = RecordId { file: store.file(file).name.clone(), line: first.line };
            let why = format!("{bad} of them cannot be used, first {record}: {reason}");
            return Ok(error.because(why).at_position(&*record.file, line(&record), 1));
        }
    }
    Ok(error)
}

/// What is left out, and why.
#[derive(Default)]
struct LeftOut {
    held_out: HashSet<Digest>,
    overlapping: HashSet<Digest>,
    first_overlapping: Option<Place>,
    /// Examples that were retracted.
    retracted: u64,
    /// The records that they come from.
    retracted_records: HashSet<Digest>,
}

impl LeftOut {
    fn look(&mut self, filter: &Filter, place: Place, facts: &ExampleFacts) {
        if filter.held_out.has(&facts.digest) {
            self.held_out.insert(facts.digest);
        }
        if filter.validation.contains(&facts.digest) {
            self.overlapping.insert(facts.digest);
            self.first_overlapping.get_or_insert(place);
        }
        if filter.retracted.contains(&facts.digest) {
            self.retracted += u64::from(filter.places(place, &facts.digest));
            self.retracted_records.insert(facts.digest);
        }
    }
}

fn speak(
    store: &Store,
    config: &DataConfig,
    statistics: &Statistics,
    found: &LeftOut,
    said: &mut Said,
) -> Result<()> {
    if config.val_size != ValSize::None {
        let (held, of) = (statistics.held_out, statistics.records);
        said.notes
            .push(format!("validation: {held} different records of {of}, chosen by their digests"));
        if held == 0 {
            let text = "`data.val_size` is so small that no record was held out";
            said.warnings.push(text.to_owned());
        }
    }
    if config.deduplicate {
        let count = statistics.duplicates;
        said.notes.push(format!(
            "{count} examples are copies of earlier ones and are not trained on again"
        ));
    }
    if !config.retracted.is_empty() {
        let (count, records) = (found.retracted, found.retracted_records.len());
        said.notes.push(format!(
            "{count} examples of {records} records are retracted and not trained on \
             (`data.retracted`)"
        ));
        let unknown = |digest: &&Digest| !found.retracted_records.contains(*digest);
        let unknown: Vec<&Digest> = config.retracted.iter().filter(unknown).collect();
        if let Some(first) = unknown.first() {
            said.warnings.push(format!(
                "{} of {} digests of `data.retracted` are of no record of the training data, \
                 first {first}",
                unknown.len(),
                config.retracted.len()
            ));
        }
    }
    if let Some((file, block, place)) = found.first_overlapping {
        let entries = store.read(file, block)?;
        let count = statistics.overlapping;
        let first = &entries[place as usize].record;
        said.warnings.push(format!(
            "{count} training records are also validation records and are not trained on, first \
             {first}"
        ));
    }
    Ok(())
}

/// Goes through the examples of a file, block by block: where each stands, and its facts.
pub fn each(
    store: &Store,
    file: FileId,
    mut look: impl FnMut(Place, ExampleFacts) -> Result<()>,
) -> Result<()> {
    for block in 0..store.count_of_blocks(file)? {
        for (place, facts) in (0..).zip(store.facts(file, block)?) {
            look((file, block, place), facts)?;
        }
    }
    Ok(())
}

/// What `data.val_size` holds out; or why that cannot be.
fn held_out(store: &Store, size: ValSize) -> Result<Result<HeldOut>> {
    let count = match size {
        ValSize::None => return Ok(Ok(HeldOut::Nothing)),
        ValSize::Fraction(share) => return Ok(Ok(HeldOut::Share(share))),
        ValSize::Records(count) => count,
    };
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    // The smallest digests, and one more, which is the limit. Never more than twice as many are
    // held at once.
    let mut smallest: BTreeSet<Digest> = BTreeSet::new();
    let mut different = 0;
    for file in store.files() {
        each(store, file, |_, facts| {
            let larger = smallest.last().is_some_and(|last| facts.digest > *last);
            if larger && smallest.len() > wanted {
                return Ok(());
            }
            different += u64::from(smallest.insert(facts.digest));
            if smallest.len() > wanted.saturating_add(1) {
                smallest.pop_last();
            }
            Ok(())
        })?;
    }
    Ok(match smallest.into_iter().nth(wanted) {
        Some(limit) => Ok(HeldOut::Below(limit)),
        None => Err(Error::data(format!("`data.val_size = {count}` leaves nothing to train on"))
            .because(format!("there are {different} different records that can be used"))),
    })
}

/// Examples of records of which an equal one stands earlier. Pieces of one text are no duplicates
/// of each other.
fn duplicates(store: &Store) -> Result<BTreeSet<Place>> {
    let mut duplicates = BTreeSet::new();
    // Of each record, where it stood first, as file and line.
    let mut first: HashMap<Digest, (FileId, u64)> = HashMap::new();
    for file in store.files() {
        each(store, file, |place, facts| {
            let here = (file, facts.line);
            if *first.entry(facts.digest).or_insert(here) != here {
                duplicates.insert(place);
            }
            Ok(())
        })?;
    }
    Ok(duplicates)
}
