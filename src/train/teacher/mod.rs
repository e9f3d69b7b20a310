//! The model that a run learns from (`distillation.teacher`): found and checked like a base model.
//! It is asked once, before the base is loaded, and what it says is filed in the cache; where the
//! model answers prompts itself, which nobody knows before, it stays in memory and is asked in each
//! step.

mod ask;
mod file;
mod resident;

use self::file::TeacherFile;
pub use self::file::filed_teachers;
use self::resident::ResidentTeacher;
pub(super) use ask::learn_from_teacher;

use crate::artifact::base_record::BaseRecord;
use crate::config::{Recompute, RunConfig};
use crate::data::{Batch, Tokenizer};
use crate::engine::{AdapterMemory, TeacherMemory, TrainedParameters, Workload, estimate};
use crate::error::{Error, ErrorCode, Result};
use crate::event::bytes;
use crate::files::{Digest, FileEntry, hash_file};
use crate::hub::{ModelDirectory, Supply};
use crate::model::{Description, inspect};
use crate::objectives::{self, OnPolicyConfig, TeacherConfig};
use crate::train::approval::Approval;
use crate::train::base_signature::{BaseSignature, base_signature, recorded};
use crate::weights::shard_names;

/// A model to learn from, which is there, whole.
pub struct Teacher {
    pub(super) config: TeacherConfig,
    directory: ModelDirectory,
    /// What it is made of.
    pub(super) description: Description,
    /// Its configuration and its weights.
    files: Vec<FileEntry>,
    signed: BaseSignature,
    record: BaseRecord,
    /// Whether the model answers prompts itself.
    on_policy: Option<OnPolicyConfig>,
    answers: TeacherAnswers,
}

/// Where what the teacher says comes from.
enum TeacherAnswers {
    /// It was not asked yet, or is not asked any more.
    None,
    /// From what was filed of the data.
    Filed(TeacherFile),
    /// From itself.
    Resident(Box<ResidentTeacher>),
}

impl Teacher {
    /// Finds the teacher that a configuration names, if its objective learns from one.
    ///
    /// # Errors
    /// When there is none, it is not allowed, or it is no whole model.
    pub fn find(config: &RunConfig, supply: &Supply, approval: &Approval) -> Result<Option<Self>> {
        let objective = objectives::chosen(&config.owned);
        let Some(settings) = objective.teacher() else { return Ok(None) };
        let named = |error: Error| error.because("`distillation.teacher` names it");
        let directory = supply.named(&settings.model).and_then(ModelDirectory::as_base);
        let directory = directory.map_err(named)?;
        let signed = base_signature(&directory.path)?;
        let found = inspect(&directory.path).map_err(named)?;
        let mut files = vec![found.config.file.clone()];
        for name in shard_names(&directory.path)? {
            files.push(hash_file(&directory.path.join(&name), &name)?);
        }
        let record = recorded(&directory, &files, &signed, approval)?;
        directory.expect(&files)?;
        let (config, description) = (settings.clone(), found.description);
        let (on_policy, answers) = (objective.on_policy(), TeacherAnswers::None);
        Ok(Some(Self { config, directory, description, files, signed, record, on_policy, answers }))
    }

    /// As the lineage has it.
    pub fn record(&self) -> &BaseRecord {
        &self.record
    }

    /// The digests of its files.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.files.iter().map(|file| file.sha256)
    }

    /// Its tokens must be those of the base model: probabilities are compared token by token.
    ///
    /// # Errors
    /// Names the first token that is another.
    pub fn expect_tokenizer(&self, own: &Tokenizer) -> Result<()> {
        let theirs = Tokenizer::load(&self.directory.path)?;
        if theirs.digest() == own.digest() {
            return Ok(());
        }
        let shown = |name: Option<String>| {
            name.map_or("no token".to_owned(), |name| format!("`{}`", name.escape_debug()))
        };
        let most = u32::try_from(own.vocabulary_size().max(theirs.vocabulary_size()));
        let other = (0..most.unwrap_or(u32::MAX)).find_map(|token| {
            let (ours, theirs) = (own.token_name(token), theirs.token_name(token));
            (ours != theirs).then(|| (token, shown(ours), shown(theirs)))
        });
        let Some((token, ours, theirs)) = other else { return Ok(()) };
        Err(Error::tokenizer("the teacher has another tokenizer than the base model")
            .at(&self.directory.path)
            .because(format!("token {token} is {theirs} there, and {ours} in the base model"))
            .because("distillation compares the probabilities of both token by token")
            .hint("name a teacher of the family of the base model as `distillation.teacher`"))
    }

    /// What is in memory while it is asked, beside the program: before the run a row at a time, in
    /// steps a micro-batch.
    pub fn memory(&self, work: Workload) -> TeacherMemory {
        let trained = TrainedParameters::default();
        let (rows, micro_batches) = match self.on_policy {
            Some(_) => (work.rows, work.micro_batches),
            None => (1, 1),
        };
        let asked = Workload {
            trained,
            adapted: true,
            rows,
            micro_batches,
            recompute: Recompute::Layers,
            coded: (0, 0),
            dequantised: 0,
            saves: false,
            checked: 0,
            ..work
        };
        let memory = estimate(&self.description, asked, &AdapterMemory::default());
        match self.on_policy {
            Some(_) => TeacherMemory::Beside(memory),
            None => TeacherMemory::Before(memory),
        }
    }

    /// Gives a batch what was filed of its targets, if anything was.
    ///
    /// # Errors
    /// When the file with that is damaged.
    pub fn teach(&self, batch: &mut Batch) -> Result<()> {
        match &self.answers {
            TeacherAnswers::Filed(file) => file.teach(batch),
            TeacherAnswers::None | TeacherAnswers::Resident(_) => Ok(()),
        }
    }

    /// Gives batches what the teacher says of their targets, if it is in memory.
    ///
    /// # Errors
    /// When it has no such token, or the device fails.
    pub fn score(&self, batches: &mut [Batch]) -> Result<()> {
        match &self.answers {
            TeacherAnswers::Resident(teacher) => teacher.score(&self.config, batches),
            TeacherAnswers::None | TeacherAnswers::Filed(_) => Ok(()),
        }
    }

    /// Frees its weights, if they are in memory: nothing is asked any more.
    pub fn release(&mut self) {
        self.answers = TeacherAnswers::None;
    }

    /// What is asked of it, in a line.
    pub fn line(&self, targets: u64) -> String {
        let Self { config, description, .. } = self;
        if let Some(OnPolicyConfig { lmbda, .. }) = self.on_policy {
            return format!(
                "{} ({}), in memory beside the run and asked in each step: its {} likeliest tokens \
                 for each target; the model answers itself in {} of the steps",
                config.model,
                description.model_type,
                config.top_k.min(description.outputs()),
                lmbda
            );
        }
        format!(
            "{} ({}), asked before the run about {targets} target tokens: its {} likeliest each, \
             {} in the cache",
            config.model,
            description.model_type,
            config.top_k.min(description.outputs()),
            bytes(self.file_bytes(targets))
        )
    }

    /// Bytes of the file for so many target tokens.
    pub fn file_bytes(&self, targets: u64) -> u64 {
        targets * (8 * self.config.top_k.min(self.description.outputs()) as u64 + 4)
    }

    /// Files that were read must be those that were looked at before.
    fn unchanged(&self, read: &[FileEntry]) -> Result<()> {
        for file in read {
            self.signed.expect(&self.directory.path, file)?;
            if !self.digests().any(|digest| digest == file.sha256) {
                let what = "the file changed after it was checked";
                let path = self.directory.path.join(&file.path);
                return Err(Error::refused(ErrorCode::Changed, what).at(path));
            }
        }
        Ok(())
    }
}
