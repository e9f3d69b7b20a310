//! Everything that a run learns from and is measured on.

use crate::data::corpus_file::CorpusFile;
use crate::data::corpus_file::Role;
use crate::data::example::CorpusEntry;
use crate::data::validation::ValidationSet;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::{Admission, Said};
use super::codec::Codec;
use super::epoch::{Curriculum, Lengths};
use super::filter::Filter;
use super::layout::{Blocks, FileId};
use super::mixing::mixed;
use super::plan::{Cursor, Plan};
use super::statistics::Statistics;
use super::store::Store;
use super::survey;
use super::tokens::BaseTokenizer;
use super::validation;
use super::watch::RecordWatch;
use super::window::Recipe;
use crate::config::{DataConfig, DataSetConfig, ValSize};
use crate::error::Result;
use crate::files::Digest;
use crate::hub::{FileSet, Locked, LockedFile, SetFile, Supply};

/// How much is read before training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything: the number of rows must be known.
    Everything,
    /// The first window, unless the settings need more.
    AsNeeded,
}

/// Everything that a run learns from and is measured on.
pub struct Corpus {
    config: DataConfig,
    /// The files that are trained on.
    pub train: Arc<Store>,
    /// The files that are measured on.
    pub validation_files: Arc<Store>,
    /// Measured on; may be empty.
    pub validation: ValidationSet,
    /// What was counted in the training data; `None` while it is streamed.
    pub statistics: Option<Statistics>,
    /// Tokenizer and chat template.
    pub codec: Arc<Codec>,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
    /// What a careful person would want to look at, a sentence each.
    pub warnings: Vec<String>,
    /// Why no run would use this data, where it was looked at all the same.
    pub refusals: Vec<String>,
    filter: Filter,
    lengths: Option<Lengths>,
    curriculum: Option<Arc<Curriculum>>,
    admission: Mutex<Admission>,
    /// The window of which the files were admitted last.
    admitted: Mutex<Option<(u64, u64)>>,
}

/// Finds the data of a configuration and reads as much of it as is needed to start, in the tokens
/// of a base and those that are added to them.
pub fn open(
    config: &DataConfig,
    tokenizer: BaseTokenizer,
    supply: &Arc<Supply>,
    cache: &Path,
    extent: Extent,
    max_records: u64,
) -> Result<Corpus> {
    let template = config.chat_template.as_deref().map(Path::new);
    let model_dir = tokenizer.folder().to_owned();
    let codec = Codec::with(tokenizer.take()?, &model_dir, template)?;
    let codec = Arc::new(codec.with_template_args(config.template_args.clone()));
    open_watched(config, &codec, supply, cache, extent, max_records, None)
}

/// The same with a codec at hand. With a `watch`, what ends a run is noted in
/// [`Corpus::refusals`], and the rest is looked at all the same.
pub fn open_watched(
    config: &DataConfig,
    codec: &Arc<Codec>,
    supply: &Arc<Supply>,
    cache: &Path,
    extent: Extent,
    max_records: u64,
    watch: Option<&Arc<dyn RecordWatch>>,
) -> Result<Corpus> {
    let store = |role: Role| -> Result<Arc<Store>> {
        let sets = if role == Role::Train { &config.train } else { &config.validation };
        let found: Result<Vec<FileSet>> =
            sets.iter().map(|set| supply.set(set, role.name())).collect();
        let sets = sets.iter().cloned().zip(found?).collect();
        let store = Store::new(role, supply.clone(), codec.clone(), config, sets, cache);
        Ok(Arc::new(store.watched(watch.cloned())))
    };
    let (train, validation_files) = (store(Role::Train)?, store(Role::Validation)?);
    let everything = extent == Extent::Everything
        || config.val_size != ValSize::None
        || config.deduplicate
        || config.order.is_some()
        || config.mixing_temperature != 1.0
        || train.bytes() <= config.survey_below;
    let mut admission = Admission::new(codec.clone(), config.max_bad_rows);
    admission.notes_refusals = watch.is_some();
    let mut said = Said { notes: super::admission::describe(codec), warnings: Vec::new() };
    if everything {
        said.add(admission.admit(&train, &train.files())?);
    }
    said.add(admission.admit(&validation_files, &validation_files.files())?);
    let mut corpus = Corpus {
        config: config.clone(),
        train,
        validation_files,
        validation: ValidationSet::default(),
        statistics: None,
        codec: codec.clone(),
        notes: Vec::new(),
        warnings: Vec::new(),
        filter: Filter::default(),
        lengths: None,
        curriculum: None,
        refusals: std::mem::take(&mut admission.refusals),
        admission: Mutex::new(admission),
        admitted: Mutex::new(None),
    };
    corpus.separate(everything, max_records, watch.is_some(), &mut said)?;
    (corpus.notes, corpus.warnings) = (said.notes, said.warnings);
    Ok(corpus)
}

impl Corpus {
    /// Keeps what is trained on and what is measured on apart.
    fn separate(
        &mut self,
        everything: bool,
        max_records: u64,
        goes_on: bool,
        said: &mut Said,
    ) -> Result<()> {
        let config = &self.config;
        self.filter.validation = validation::digests(&self.validation_files)?;
        self.filter.retracted = config.retracted.iter().copied().collect();
        if everything {
            let mut found = survey::survey(&self.train, &mut self.filter, config)?;
            match found.refusal.take() {
                Some(refusal) if goes_on => self.refusals.push(survey::sentence(&refusal)),
                Some(refusal) => return Err(refusal),
                None => {}
            }
            said.add(found.said);
            self.statistics = Some(found.statistics);
            said.notes.extend(mixing_note(&self.train, &found.lengths, config));
            self.lengths = Some(found.lengths);
            self.curriculum = found.curriculum;
        } else {
            let count = self.train.files().len();
            let bytes = crate::event::bytes(self.train.bytes());
            said.notes.push(format!(
                "streaming {count} files of {bytes}: training starts with the first, and its \
                 number of epochs is not known before"
            ));
        }
        self.validation = match config.validation.is_empty() {
            true => validation::held_out(&self.train, &self.filter.held_out, max_records)?,
            false => validation::whole(&self.validation_files, max_records)?,
        };
        Ok(())
    }

    /// The rows of a run.
    pub fn plan(&self, seed: u64) -> Plan {
        let recipe = Recipe::new(
            self.train.clone(),
            self.filter.clone(),
            (self.lengths.clone(), self.curriculum.clone()),
            &self.config,
            seed,
        );
        Plan::new(recipe, self.config.prefetch_windows)
    }

    /// Whether the data is read while it is trained on, so that its size is not known.
    pub fn is_streamed(&self) -> bool {
        self.lengths.is_none()
    }

    /// Looks at the files of the rows up to a position, when they come for the first time:
    /// returns what there is to say of them.
    ///
    /// # Errors
    /// When they hold more unusable records than the configuration allows.
    pub fn admit(&self, plan: &Plan, cursor: &Cursor) -> Result<Said> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Some((cursor.epoch, cursor.window));
        if !self.is_streamed() || *admitted == here {
            return Ok(Said::default());
        }
        let files = plan.files_through(cursor)?;
        let said = self.admission().admit(&self.train, &files)?;
        *admitted = here;
        Ok(said)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of which rows were used so far, in the order of the configuration. Files that
    /// were only made ready ahead are not among them.
    pub fn files(&self) -> Vec<CorpusFile> {
        let admission = self.admission();
        let of = |store: &Store| -> Vec<CorpusFile> {
            let file = |id: FileId| admission.used(store.role(), &store.file(id).name).cloned();
            store.files().into_iter().filter_map(file).collect()
        };
        [of(&self.train), of(&self.validation_files)].concat()
    }

    /// Takes over the files that earlier processes of the run have used.
    pub fn remember(&self, files: &[CorpusFile]) {
        self.admission().remember(files);
    }

    /// The entries of a lock, with what is known of the files that were used.
    pub fn locked(&self) -> Vec<Locked> {
        let admission = self.admission();
        let of = |store: &Store| -> Vec<Locked> {
            let entry = |(_, set): &(DataSetConfig, FileSet)| {
                let fill = |(file, locked): (&SetFile, &LockedFile)| {
                    let mut locked = locked.clone();
                    if let Some(used) = admission.used(store.role(), &file.name) {
                        locked.sha256 = Some(used.file.sha256);
                        locked.rows = Some(used.rows);
                    }
                    locked
                };
                let files = set.files.iter().zip(&set.locked.files).map(fill).collect();
                Locked { files, ..set.locked.clone() }
            };
            store.sets_and_files().iter().map(entry).collect()
        };
        [of(&self.train), of(&self.validation_files)].concat()
    }

    /// What determines the data: of every file its digest, or its git object where it has not
    /// been read yet, and the commits.
    pub fn identity(&self) -> Result<Digest> {
        let mut text = String::new();
        for store in [&self.train, &self.validation_files] {
            for id in store.files() {
                let file = store.file(id);
                let locked = &store.sets_and_files()[id.set as usize].1.locked.files;
                let known = match (&locked[id.file as usize].oid, store.ready(id)) {
                    (Some(oid), _) => oid.clone(),
                    (None, Some(opened)) => opened.about().file.sha256.to_string(),
                    (None, None) => {
                        let digest = store.digest_of(id)?;
                        digest.map(|digest| digest.to_string()).unwrap_or_default()
                    }
                };
                text += &format!("{} {} {known}\n", file.path, file.size);
            }
            text += "\n";
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// Whether an example of the training data is trained on.
    pub fn keeps(&self, place: super::filter::Place, digest: &Digest) -> bool {
        self.filter.keeps(place, digest)
    }

    /// Which records are kept apart.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The first example that is trained on, for people to look at.
    pub fn first_example(&self) -> Result<Option<CorpusEntry>> {
        for file in self.train.files() {
            for block in 0..self.train.count_of_blocks(file)? {
                for (place, entry) in (0..).zip(self.train.read(file, block)?) {
                    if self.filter.keeps((file, block, place), &entry.digest) {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The digest of the chat template's text; of several, one over all that are used.
    pub fn template_digest(&self) -> Option<Digest> {
        self.codec.template_digest()
    }

    /// The tokens at which an answer or a text ends, of those that were targets in the files that
    /// were used so far.
    pub fn target_ends(&self) -> BTreeSet<u32> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).ends().clone()
    }

    /// Every training example that is trained on, in file order: for tests and for looking at data.
    pub fn examples(&self) -> Result<Vec<CorpusEntry>> {
        let mut all = Vec::new();
        self.each_block(&mut |entries| {
            all.extend(entries);
            Ok(())
        })?;
        Ok(all)
    }

    /// The same block by block, so that no more of them is in memory.
    pub fn each_block(&self, with: &mut dyn FnMut(Vec<CorpusEntry>) -> Result<()>) -> Result<()> {
        for file in self.train.files() {
            for block in 0..self.train.count_of_blocks(file)? {
                let entries = (0..).zip(self.train.read(file, block)?);
                let kept = entries.filter_map(|(place, entry)| {
                    self.filter.keeps((file, block, place), &entry.digest).then_some(entry)
                });
                with(kept.collect())?;
            }
        }
        Ok(())
    }
}

/// How often each set comes where a temperature says it.
#[expect(clippy::float_cmp)] // the default itself
fn mixing_note(train: &Store, lengths: &Lengths, config: &DataConfig) -> Option<String> {
    let temperature = config.mixing_temperature;
    let sets = mixed(train.sets(), lengths, temperature);
    let each = sets.iter().zip(train.sets_and_files());
    let each: Vec<String> = each
        .map(|(shape, (set, _))| format!("`{}` {:.2} times", set.path.escape_debug(), shape.weight))
        .collect();
    let note = || format!("mixing temperature {temperature}, an epoch has {}", each.join(", "));
    (temperature != 1.0).then(note)
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
