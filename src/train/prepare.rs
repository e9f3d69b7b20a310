//! Everything that is known before the first step: model, data, device, length, memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::adapters::{self, Adapter};
use crate::artifact::parent::Parent;
use crate::checkpoint::Identity;
use crate::config::{Loaded, Recompute, RunConfig};
use crate::data::{self, BaseTokenizer, Batch, Corpus, Cursor, Extent, Plan, Said};
use crate::device::{self, ComputeConfig, OpenedDevice, Precision};
use crate::engine::optimizers;
use crate::engine::{
    Estimate, MicroBatchSplit, Optimizer, StepSettings, TrainedParameters, Trainer, Workload,
};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::{Digest, FileEntry};
use crate::hub::{InputTrust, ModelDirectory, Supply};
use crate::model::{self, Description, FrozenWeights};
use crate::objectives;
use crate::random::Stream;
use crate::train::approval::Approval;
use crate::train::base_adapters::{self, RunStack, signed_base};
use crate::train::base_signature::BaseSignature;
use crate::train::head::{self, RunHead};
use crate::train::memory_plan::MemoryPlan;
use crate::train::memory_plans::{self, MemoryPlans};
use crate::train::read_data::{batches_read, data_bytes, planned, read_data};
use crate::train::resident::{self, BaseKey};
use crate::train::schedule_of::schedule_of;
use crate::train::start_adapter::{StartAdapter, adapters_of};
use crate::train::teacher::Teacher;
use crate::train::{added_tokens, base, device_init, frozen_weights, memory_fit, parameter_rules};
use crate::weights::Element;
use crate::weights::formats::WeightFormat;

/// A run that is ready to begin.
pub struct Prepared<'a> {
    pub(super) config: &'a RunConfig,
    /// The base model's directory; with adapters merged into it, that of the merged model.
    pub base: ModelDirectory,
    /// What that is made of, if adapters are merged into it.
    pub(super) stack: Option<RunStack>,
    /// Its sizes.
    pub description: Description,
    /// Configuration and weights of the base, with the digests of the bytes that are used.
    pub base_files: Vec<FileEntry>,
    /// Where the run computes.
    pub opened: OpenedDevice,
    /// In which arithmetic, and why.
    pub precision: Precision,
    /// Micro-batches that are read for a step.
    batches_read: usize,
    /// How micro-batches are divided from the beginning, so that tensors are not too large.
    pub(super) micro_batch_split: MicroBatchSplit,
    /// What it learns from.
    pub corpus: Corpus,
    /// The rows, in order.
    pub plan: Plan,
    /// What it is measured on.
    pub validation: Vec<Batch>,
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// How many numbers learn, and what is kept for them.
    pub trained: TrainedParameters,
    /// What may be held in memory at once, and what that takes; one of them is chosen.
    pub memory_plans: MemoryPlans,
    /// Number formats of the base's weights, by path; known once the trainer is made.
    pub elements: BTreeMap<String, Element>,
    /// What is scored in the place of tokens, if anything is.
    pub score_head: Option<RunHead>,
    /// What is trained beside frozen weights; every weight is, without it.
    pub adapter: Option<Arc<dyn Adapter>>,
    /// The one whose values it begins with.
    pub(super) start: Option<StartAdapter>,
    /// The model that it learns from.
    pub(super) teacher: Option<Teacher>,
    /// How frozen linear layers are kept, if that was chosen.
    pub weight_format: Option<&'static dyn WeightFormat>,
    /// The digest of the codes of frozen layers; known then, too. And of those of its files.
    pub(super) quantised: Option<Digest>,
    pub(super) in_blocks: Option<Digest>,
    /// Last names of the layers that have an adapter; known then, too.
    pub(super) adapted: BTreeSet<String>,
    /// Whether the weights hold an output projection that `config.json` denies; known then, too.
    pub(super) untied: bool,
    pub(super) parent: Option<Parent>,
    /// Why the base model may be used.
    pub(super) base_trust: InputTrust,
    /// Whether inputs may be used, and why.
    pub(super) approval: Approval,
    /// The signature of the base, as it was when it was checked.
    signed: BaseSignature,
}

/// Checks all that can be checked without weights, and reads as much data as `extent` asks for.
pub fn prepare<'a>(
    loaded: &'a Loaded,
    supply: &Arc<Supply>,
    extent: Extent,
    observer: &mut dyn Observer,
) -> Result<Prepared<'a>> {
    let config = &loaded.config;
    let opening = device_init::begin(config)?; // first: it says on how many threads all works
    let (base, stack, approval, base_trust) = found_base(config, supply)?;
    let (data, head) = head::of_run(config, supply)?;
    let (description, config_file) = base::described(config, &base, head.as_ref(), observer)?;
    let tokenizer = BaseTokenizer::of(&config.model, &base.path)?;
    let (adapter, start) = adapters_of(config, supply, (&tokenizer, &description), &approval)?;
    let (description, grown) = added_tokens::with_rows(&tokenizer, description, observer)?;
    let teacher = Teacher::find(config, supply, &approval)?;
    let weight_format = frozen_weights::weight_format(config, &description, adapter.as_deref())?;
    let trained = memory_fit::trained(config, adapter.as_deref(), &description)?;
    let (signed, parent) = signed_base(&base, stack.as_ref(), observer)?;
    let corpus = read_data(config, &data, tokenizer, supply, extent)?;
    let (opened, precision) = opening()?;
    say(&Said { notes: corpus.notes.clone(), warnings: corpus.warnings.clone() }, observer);
    base::check_model(config, &description, &base, &corpus, opened.on_gpu())?;
    let (plan, length, total_steps) = planned(config, &corpus, &opened)?;
    let (rows, model) = (config.train.micro_batch_size, (&description, adapter.as_deref()));
    let micro_batch_split = memory_fit::micro_batch_split(&description, &opened, rows, length)?;
    let work = Workload {
        trained,
        adapted: adapter.is_some(),
        loaded: grown,
        length,
        data: data_bytes(&config.data, &corpus),
        tokenizer: corpus.codec.tokenizer.vocabulary_size() as u64,
        ..memory_fit::passes(config, (&opened, precision.arithmetic), micro_batch_split)
    };
    let work = memory_fit::in_steps(work, config, &description, total_steps);
    let work = frozen_weights::with_codes(weight_format, model, &opened, work);
    let work = (work, teacher.as_ref().map(|teacher| teacher.memory(work)));
    let memory_plans = memory_plans::of(config, &opened, model, weight_format, work)?;
    let prepared = Prepared {
        config,
        opened,
        total_steps,
        base_files: vec![config_file],
        base,
        stack,
        description,
        precision,
        batches_read: batches_read(config),
        micro_batch_split,
        validation: data::validation_batches(&corpus.validation, &config.data, rows),
        corpus,
        plan,
        trained,
        memory_plans,
        elements: BTreeMap::new(),
        score_head: head.map(RunHead::from),
        adapter,
        start,
        teacher,
        weight_format,
        quantised: None,
        in_blocks: None,
        adapted: BTreeSet::new(),
        untied: false,
        parent,
        base_trust,
        approval,
        signed,
    };
    prepared.approved(observer)
}

/// The base model, which inputs may be used, and why the base may.
fn found_base(
    config: &RunConfig,
    supply: &Supply,
) -> Result<(ModelDirectory, Option<RunStack>, Approval, InputTrust)> {
    let mut approval = Approval::of(config, supply.pinned())?;
    let base = supply.base(&config.model)?;
    approval.read_signature(config, &base)?;
    let trust = approval.model(&base, &base::text_files(&base)?)?;
    let (base, stack) = base_adapters::found(config, supply, base, &approval)?;
    let trust = stack.as_ref().map_or(trust, |stack| trust.min(stack.trust));
    Ok((base, stack, approval, trust))
}

impl Prepared<'_> {
    /// Files are those that were locked and approved; what will be done is said.
    fn approved(self, observer: &mut dyn Observer) -> Result<Self> {
        self.unchanged(&self.base_files)?;
        self.unchanged(self.corpus.codec.tokenizer.files())?;
        self.approve_data()?;
        if let Some(start) = &self.start {
            start.refuse_other_below(self.stack.as_ref())?;
        }
        if let Some(teacher) = &self.teacher {
            teacher.expect_tokenizer(&self.corpus.codec.tokenizer)?;
        }
        self.announce(observer);
        Ok(self)
    }

    /// Loads the weights and puts the adapter beside them.
    pub fn trainer(&mut self) -> Result<Trainer> {
        let seed = Stream::new(self.config.seed);
        let init = self.init();
        let (kernels, arithmetic) = (self.config.device.kernels, self.precision.arithmetic);
        let (plan, folder) = (self.memory_plan(), Path::new(&self.config.output.dir));
        let computing = ComputeConfig { kernels, arithmetic, ..plan.computing(&self.opened) };
        let on_disk = plan.streamed.map(|which| (which, folder));
        let frozen = FrozenWeights { on_disk, ..self.frozen_weights() };
        if plan.recompute == Recompute::Layers {
            device::prefer_small_pages(); // memory counts more than time here
        }
        let device = &self.opened.device;
        let load = || {
            let loaded = model::load_for(&self.base.path, init, device, computing, frozen)?;
            // Uploads fail when they are waited for.
            let put = device.sync();
            put.context_code(ErrorCode::Device, "the model could not be put on the device")?;
            Ok::<_, Error>(loaded)
        };
        let (base, init_of) = (&self.base.path, self.config.model.init);
        let key = BaseKey::of(base, init_of, device, computing, &frozen);
        let loading = || resident::base(key, load);
        let mut loaded = device::guarded(self.on_gpu(), "loading the model", loading)??;
        self.base.expect(&loaded.files)?;
        if self.stack.is_none() {
            let trust = self.approval.model(&self.base, &loaded.files)?;
            self.base_trust = self.base_trust.min(trust);
        }
        self.unchanged(&loaded.files)?;
        self.base_files = loaded.files;
        self.elements = loaded.elements;
        self.quantised = loaded.quantised;
        self.in_blocks = loaded.in_blocks;
        self.untied = loaded.config.untied;
        loaded.model.resize_vocabulary(self.description.vocabulary)?;
        match &self.adapter {
            Some(adapter) => {
                self.adapted = adapters::attach(&mut loaded.model, adapter.as_ref(), seed)?;
                if let Some(start) = &self.start {
                    start.put(&mut loaded.model, adapter.as_ref(), self.files_of_base())?;
                }
            }
            None => adapters::unfreeze_all(&mut loaded.model),
        }
        let mut trainer = Trainer::new(loaded.model, self.step_settings(), self.optimizer());
        let rules = parameter_rules::of(
            (self.config, self.adapter.as_deref()),
            &self.description,
            &mut trainer.model,
        )?;
        trainer.optimizer.set_rules(rules);
        trainer.objective = objectives::chosen(&self.config.owned);
        trainer.micro_batch_split = self
            .micro_batch_split
            .at_most(self.memory_plan().rows, self.config.train.micro_batch_size);
        Ok(trainer)
    }

    /// What is held in memory at once.
    pub(super) fn memory_plan(&self) -> MemoryPlan {
        self.memory_plans.chosen().plan
    }

    /// Memory by part.
    pub fn memory(&self) -> &Estimate {
        &self.memory_plans.chosen().estimate
    }

    /// Whether tensors are on a GPU.
    pub(super) fn on_gpu(&self) -> bool {
        self.opened.on_gpu()
    }

    /// Files that were read must be those whose signature and sizes were looked at before.
    pub(super) fn unchanged(&self, read: &[FileEntry]) -> Result<()> {
        for file in read {
            self.signed.expect(&self.base.path, file)?;
            let known = self.base_files.iter().find(|known| known.path == file.path);
            if known.is_some_and(|known| known.sha256 != file.sha256) {
                return Err(Error::refused(
                    ErrorCode::Changed,
                    "the file changed after it was checked",
                )
                .at(self.base.path.join(&file.path))
                .because(format!("{} was read", file.sha256)));
            }
        }
        Ok(())
    }

    /// Configuration and weights of the base, without adapters that are merged into it.
    pub(super) fn files_of_base(&self) -> &[FileEntry] {
        self.stack.as_ref().map_or(&self.base_files, |of| &of.stack.base_files)
    }

    /// The rule of the update.
    fn optimizer(&self) -> Box<dyn Optimizer> {
        optimizers::chosen(&self.config.owned)
    }

    /// Bytes of a checkpoint: trainable parameters, and what the optimizer keeps for them.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.trained.checkpoint_bytes()
    }

    /// How steps are made.
    pub(super) fn step_settings(&self) -> StepSettings {
        let (train, plan) = (&self.config.train, self.memory_plan());
        StepSettings {
            schedule: schedule_of(train, self.total_steps),
            max_grad_norm: train.max_grad_norm,
            recompute: plan.recompute,
            loss_chunk_tokens: plan.loss_chunk_tokens,
            parallel_micro_batches: memory_fit::parallel_micro_batches(self.config, &self.opened),
            rows: train.micro_batch_size,
            neftune_noise_alpha: train.neftune_noise_alpha.unwrap_or(0.0),
            seed: self.config.seed,
        }
    }

    /// The rows of the step at the cursor, which moves on.
    pub fn take(&self, cursor: &mut Cursor) -> Result<Vec<Batch>> {
        let train = &self.config.train;
        let rows = train.micro_batch_size;
        let mut batches = self.plan.take(cursor, self.batches_read, rows)?;
        if let Some(teacher) = &self.teacher {
            batches.iter_mut().try_for_each(|batch| teacher.teach(batch))?;
        }
        Ok(batches)
    }

    /// Gives rows what a teacher says of them that stays in memory, if there is one.
    pub(super) fn score_by_teacher(&self, batches: &mut [Batch]) -> Result<()> {
        self.teacher.as_ref().map_or(Ok(()), |teacher| teacher.score(batches))
    }

    /// Frees a teacher that stayed in memory: steps are done.
    pub(super) fn release_teacher(&mut self) {
        self.teacher.iter_mut().for_each(Teacher::release);
    }

    /// Looks at the files of the rows between two positions; what there is to say is passed on.
    pub fn admit(&self, from: Cursor, to: Cursor, observer: &mut dyn Observer) -> Result<()> {
        let window = if to.epoch == from.epoch { to.window } else { u64::MAX };
        let said = self.corpus.admit(&self.plan, &Cursor { window, ..from })?;
        say(&said, observer);
        self.approve_data()
    }

    /// Every data file that is about to be trained on, or measured on, must be allowed.
    fn approve_data(&self) -> Result<()> {
        for file in self.corpus.files() {
            self.approval.data(&file.file.path, &file.file)?;
        }
        Ok(())
    }

    /// Digests of all that the trainable parameters begin with, and of what they learn from.
    fn base_digests(&self) -> impl Iterator<Item = Digest> {
        let base = self.base_files.iter().map(|file| file.sha256);
        let teacher = self.teacher.iter().flat_map(Teacher::digests);
        base.chain(self.start.iter().flat_map(StartAdapter::digests)).chain(teacher)
    }

    /// What determines the run.
    pub fn identity(&self, loaded: &Loaded) -> Result<Identity> {
        Ok(Identity {
            config: loaded.digest,
            settings: loaded.deciding(),
            base: joined(self.base_digests()),
            data: self.corpus.identity()?,
            codec: Some(self.corpus.codec.fingerprint()),
            code: format!("firebrand {}", env!("CARGO_PKG_VERSION")),
            device: self.opened.class(),
            precision: self.precision.arithmetic.name().to_owned(),
        })
    }
}

fn say(said: &Said, observer: &mut dyn Observer) {
    said.notes.iter().for_each(|note| observer.on(Event::Note(note.clone())));
    said.warnings.iter().for_each(|text| observer.on(Event::Warning(text.clone())));
}

fn joined(digests: impl Iterator<Item = Digest>) -> Digest {
    let bytes: Vec<u8> = digests.flat_map(|digest| digest.0).collect();
    Digest::of(&bytes)
}
