//! The examples of every data file: fetched, checked and tokenised when they are first needed,
//! and kept on disk under the digest of all that determines them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::about::About;
use super::cache_eviction::{FOLDER, Room};
use super::codec::Codec;
use super::corpus_file::Role;
use super::example::CorpusEntry;
use super::examples::{ExampleFacts, Reader, Writer};
use super::layout::{BlockSize, Blocks, FileId, SetShape};
use super::maker::Maker;
use super::numbers::order_column;
use super::raw::{RawRecord, each_record};
use super::tokenise::{Reading, tokenise};
use super::watch::RecordWatch;
use crate::config::{DataConfig, DataSetConfig, OnUnused, ProblemType};
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use crate::hub::{FileSet, SetFile, Supply};

/// Changes whenever the same file would become other examples, so that old ones are not used.
const VERSION: u32 = 4;

/// The examples of a file, ready to be read.
pub struct StoredExamples {
    reader: Reader<About>,
    sizes: Arc<[BlockSize]>,
}

impl StoredExamples {
    /// What is known of the file.
    pub fn about(&self) -> &About {
        &self.reader.about
    }
}

/// The files of one role, and their examples.
pub struct Store {
    role: Role,
    supply: Arc<Supply>,
    codec: Arc<Codec>,
    config: DataConfig,
    sets: Vec<(DataSetConfig, FileSet)>,
    shapes: Vec<SetShape>,
    slots: Vec<Vec<Mutex<Option<Arc<StoredExamples>>>>>,
    folder: PathBuf,
    room: Room,
    watch: Option<Arc<dyn RecordWatch>>,
}

impl Store {
    /// The files of these sets; nothing is read yet.
    pub fn new(
        role: Role,
        supply: Arc<Supply>,
        codec: Arc<Codec>,
        config: &DataConfig,
        sets: Vec<(DataSetConfig, FileSet)>,
        cache: &Path,
    ) -> Self {
        let shape = |(config, files): &(DataSetConfig, FileSet)| SetShape {
            sizes: files.files.iter().map(|file| file.size).collect(),
            weight: config.weight,
        };
        let slots = |(_, set): &(DataSetConfig, FileSet)| {
            set.files.iter().map(|_| Mutex::new(None)).collect()
        };
        Self {
            role,
            supply,
            codec,
            shapes: sets.iter().map(shape).collect(),
            slots: sets.iter().map(slots).collect(),
            sets,
            folder: cache.join(FOLDER),
            room: Room::new(cache, config.cache_limit),
            config: config.clone(),
            watch: None,
        }
    }

    /// Tells of every record as it is read: nothing is taken from the cache.
    #[must_use]
    pub fn watched(mut self, watch: Option<Arc<dyn RecordWatch>>) -> Self {
        self.watch = watch;
        self
    }

    /// What the files are for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How many blocks a file has.
    pub fn count_of_blocks(&self, id: FileId) -> Result<u32> {
        Ok(self.open(id)?.sizes.len() as u32)
    }

    /// The digest of a file, if it is known without fetching it.
    pub fn digest_of(&self, id: FileId) -> Result<Option<Digest>> {
        self.supply.digest_of(self.file(id))
    }

    /// Every file, in the order of the configuration.
    pub fn files(&self) -> Vec<FileId> {
        let files = |(set, slots): (u32, &Vec<_>)| {
            (0..slots.len() as u32).map(move |file| FileId { set, file })
        };
        (0..).zip(&self.slots).flat_map(files).collect()
    }

    /// The sets as configured, each with its files.
    pub fn sets_and_files(&self) -> &[(DataSetConfig, FileSet)] {
        &self.sets
    }

    /// Bytes of all files as they lie on the hub or on disk.
    pub fn bytes(&self) -> u64 {
        self.shapes.iter().flat_map(|shape| &shape.sizes).sum()
    }

    /// A file of a set.
    pub fn file(&self, id: FileId) -> &SetFile {
        &self.sets[id.set as usize].1.files[id.file as usize]
    }

    /// The examples of a file that were made ready, if they were.
    pub fn ready(&self, id: FileId) -> Option<Arc<StoredExamples>> {
        self.slot(id).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn slot(&self, id: FileId) -> &Mutex<Option<Arc<StoredExamples>>> {
        &self.slots[id.set as usize][id.file as usize]
    }

    /// The examples of a file; fetches and tokenises it if they are not in the cache.
    pub fn open(&self, id: FileId) -> Result<Arc<StoredExamples>> {
        let mut slot = self.slot(id).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*slot {
            return Ok(opened.clone());
        }
        let opened = Arc::new(self.find_or_make(id)?);
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// Shows the records of a file as they stand there; returns size and digest of its bytes.
    pub fn raw(&self, id: FileId, look: &mut dyn FnMut(&[RawRecord])) -> Result<FileEntry> {
        each_record(&self.supply.fetch(self.file(id))?, look)
    }

    fn find_or_make(&self, id: FileId) -> Result<StoredExamples> {
        let file = self.file(id);
        if let (Some(sha256), None) = (self.supply.digest_of(file)?, &self.watch) {
            let path = self.path_of(id, &sha256, None);
            // One that is damaged or gone is made again.
            if let Ok(reader) = Reader::<About>::open(&path)
                && reader.about.file.sha256 == sha256
            {
                self.room.used(&path);
                self.room.make(0)?;
                return Ok(opened(reader));
            }
        }
        self.room.make(file.size)?;
        let source = self.supply.fetch(file)?;
        let (config, _) = &self.sets[id.set as usize];
        let watch = self.watch.as_deref();
        let examiner = watch.map(RecordWatch::examiner);
        let maker = Maker::new(&self.codec, &self.config).examining(examiner);
        let maker = if self.role == Role::Train { maker } else { maker.of_validation() };
        let stop = || self.supply.stopped();
        let reading = Reading {
            name: &file.name,
            format: config.format,
            columns: &config.columns,
            maker: &maker,
            stop: &stop,
            watch: watch.map(|watch| (watch, self.role)),
        };
        let mut writer = Writer::new(&self.folder, self.codec.tokenizer.vocabulary_size())?;
        let about = tokenise(&source, &reading, &mut writer)?;
        self.supply.confirm(file, &about.file)?;
        if about.statistics.records == 0 && self.sets[id.set as usize].1.files.len() == 1 {
            return Err(Error::data("the data set holds no records").at(&*file.name));
        }
        let path = self.path_of(id, &about.file.sha256, about.refusal.as_deref());
        writer.commit(&path, &about)?;
        self.room.used(&path);
        self.room.make(0)?;
        Reader::open(&path).map(opened)
    }

    /// Where the examples of a file with this digest lie: named by all that determines them. Those
    /// of a file that no run would use are apart from those of runs.
    fn path_of(&self, id: FileId, sha256: &Digest, refusal: Option<&str>) -> PathBuf {
        let (config, _) = &self.sets[id.set as usize];
        let mut all = json!({
            "version": [VERSION, env!("CARGO_PKG_VERSION")],
            "file": sha256,
            "codec": self.codec.fingerprint(),
            "format": config.format.name(),
            "columns": config.columns,
            "max_seq_len": self.config.max_seq_len,
            "overlong": self.config.overlong.name(),
            "train_on": self.config.train_on.name(),
            "template_args": self.config.template_args,
            "on_unused": self.config.on_unused.map(OnUnused::name),
        });
        if self.config.no_pairs.is_none() {
            all["pairs"] = if self.config.whole_pairs { json!("whole") } else { json!(true) };
        }
        if self.config.labels {
            all["labels"] = json!(true);
        }
        if let Some(head) = &self.config.score_head {
            let problem = head.problem_type.map(ProblemType::name);
            all["score_head"] = json!({ "problem": problem, "labels": head.labels });
        }
        if self.config.prompts {
            all["prompts"] = json!(true);
        }
        if let Some(column) = &self.config.margin {
            all["margin"] = json!(column);
        }
        if self.role == Role::Train {
            if let Some(column) = &self.config.sample_weight {
                all["sample_weight"] = json!(column);
            }
            if let Some(column) = order_column(&self.config) {
                all["order"] = json!(column);
            }
        }
        if let Some(refusal) = refusal {
            all["refusal"] = refusal.into();
        }
        let digest = Digest::of(all.to_string().as_bytes()).to_string();
        self.folder.join(&digest[..2]).join(format!("{digest}.fbx"))
    }

    /// Reads from a file, which is made again once if the cache has lost or damaged it.
    fn read_from<T>(&self, id: FileId, read: impl Fn(&Reader<About>) -> Result<T>) -> Result<T> {
        let opened = self.open(id)?;
        let error = match read(&opened.reader) {
            Err(error) => error,
            found => return found,
        };
        if self.watch.is_some() {
            return Err(error); // its records would be told of twice
        }
        let _ = fs::remove_file(opened.reader.path());
        *self.slot(id).lock().unwrap_or_else(PoisonError::into_inner) = None;
        let again = self.open(id)?;
        read(&again.reader).map_err(|second| second.because(error.into_what()))
    }
}

fn opened(reader: Reader<About>) -> StoredExamples {
    let size = |block: &super::examples::ExampleBlock| BlockSize {
        examples: block.examples,
        tokens: block.tokens,
    };
    StoredExamples { sizes: reader.blocks.iter().map(size).collect(), reader }
}

impl Blocks for Store {
    fn sets(&self) -> &[SetShape] {
        &self.shapes
    }

    fn sizes(&self, file: FileId) -> Result<Arc<[BlockSize]>> {
        Ok(self.open(file)?.sizes.clone())
    }

    fn read(&self, file: FileId, block: u32) -> Result<Vec<CorpusEntry>> {
        let name = &self.file(file).name;
        self.read_from(file, |reader| reader.block(block as usize, name))
    }

    fn facts(&self, file: FileId, block: u32) -> Result<Vec<ExampleFacts>> {
        self.read_from(file, |reader| reader.facts(block as usize))
    }

    fn stop(&self) {
        self.supply.stop();
    }
}
