//! What a run is about to do, said before it begins.

use std::path::{Component, Path};

use crate::config::Init;
use crate::device;
use crate::engine::optimizers;
use crate::event::{Event, Observer, bytes};
use crate::files::KERNELS;
use crate::train::read_data::rows_per_step;
use crate::train::{Prepared, frozen_weights, memory_fit, parameter_rules};

/// Says where a run lies whose directory, named within the working folder, is somewhere else.
pub(super) fn say_where(directory: &Path, observer: &mut dyn Observer) {
    let within = directory.components().all(|part| matches!(part, Component::Normal(_)));
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    if let (true, Ok(here), Ok(real)) = (within, here, directory.canonicalize())
        && !real.starts_with(&here)
    {
        let (named, real) = (directory.display(), real.display());
        observer.on(Event::Warning(format!(
            "`{named}` leads through a link out of the working folder: the run lies in {real}"
        )));
    }
}

impl Prepared<'_> {
    pub(super) fn announce(&self, observer: &mut dyn Observer) {
        let mut fact = |label, value: String| observer.on(Event::Fact(label, value));
        let (description, config) = (&self.description, self.config);
        let mut parameters = millions(description.parameters);
        let active = description.active_parameters();
        if active < description.parameters {
            parameters += &format!(", of which a token takes {}", megas(active));
        }
        fact("model", format!("{} ({}, {parameters})", config.model.base, description.model_type));
        if !config.model.base_adapters.is_empty() {
            fact("stands on", config.model.base_adapters.join(", then "));
        }
        let method = match &self.adapter {
            Some(adapter) => adapter.describe(),
            None => "full fine-tuning".to_owned(),
        };
        let start = match (&config.model.adapter, config.model.init) {
            (Some(name), _) => format!(", from {name}"),
            (None, Init::Random) => ", from random weights".to_owned(),
            (None, Init::Pretrained) => String::new(),
        };
        let beside = self.adapter.as_ref().map_or(0, |_| self.trained.count);
        let all = description.parameters + beside;
        fact("method", format!("{method}{start}"));
        if let Some(line) = self.teacher_line() {
            fact("teacher", line);
        }
        fact("trainable", trainable_of(self.trained.count, all));
        for (group, count) in
            parameter_rules::described((self.config, self.adapter.as_deref()), &self.description)
                .unwrap_or_default()
        {
            fact("group", format!("{} of {group}", millions(count)));
        }
        fact("device", format!("{}: {}", self.opened.name, self.opened.reason));
        let precision = &self.precision;
        fact("precision", format!("{}: {}", precision.arithmetic.name(), precision.reason));
        let (format, adapter) = (self.weight_format, self.adapter.as_deref());
        let weights = frozen_weights::weights_line(format, adapter, description, &self.opened);
        if let Some(line) = weights {
            fact("weights", line);
        }
        fact("data", self.data_line());
        fact(
            "steps",
            format!(
                "{} of {} rows of at most {} tokens",
                self.total_steps,
                rows_per_step(config),
                config.data.max_seq_len
            ),
        );
        fact("memory", memory_fit::memory_line(self.memory(), &self.opened));
        let (choice, about) = (config.train.memory, self.memory_plan().about());
        let train = &config.train;
        let moved = train.optimizer_offload.is_some() || train.activation_offload.is_some();
        let set = train.tiled_mlp.is_some() || moved;
        if let Some(choice) = choice {
            fact("memory plan", format!("{choice}: {about}"));
        } else if set {
            fact("memory plan", about);
        }
        self.announce_kernels(observer);
        self.say_what_differs(observer);
    }

    /// What of it is not as may be expected.
    fn say_what_differs(&self, observer: &mut dyn Observer) {
        let config = self.config;
        if !self.micro_batch_split.is_none() {
            observer.on(Event::Note(format!(
                "{} of a micro-batch of {}: the device takes no tensors of more than {}",
                self.micro_batch_split,
                config.train.micro_batch_size,
                bytes(self.opened.limits.tensor_bytes)
            )));
        }
        if self.opened.on_gpu() && optimizers::is_on_host(&*optimizers::chosen(&config.owned)) {
            observer.on(Event::Note(
                "the optimizer has its state in host memory and computes updates there: weights \
                 and gradients are moved there and back at each step"
                    .to_owned(),
            ));
        }
        if config.checkpoint.keep_best > 0 && config.eval.every_steps == 0 {
            observer.on(Event::Warning(
                "`checkpoint.keep_best` keeps nothing: nothing is measured before the end \
                 (`eval.every_steps`)"
                    .to_owned(),
            ));
        }
        if let Some(warning) = memory_fit::warning(self.memory(), &self.opened) {
            observer.on(Event::Warning(warning));
        }
    }

    fn teacher_line(&self) -> Option<String> {
        let trained = self.corpus.statistics.as_ref().map_or(0, |counts| counts.target_tokens);
        let targets = trained + self.corpus.validation.statistics.target_tokens;
        self.teacher.as_ref().map(|teacher| teacher.line(targets))
    }

    /// Where the driver of a GPU keeps what it compiles.
    fn announce_kernels(&self, observer: &mut dyn Observer) {
        let run = Path::new(&self.config.output.dir);
        let here = std::path::absolute(run.join(KERNELS)).ok();
        let folder = device::kernel_folder();
        if self.opened.on_gpu()
            && let Some(folder) = folder
        {
            let value = format!("kept in {} (drivers of Mesa and NVIDIA)", folder.display());
            observer.on(Event::Fact("kernels", value));
        }
        if self.config.device.pin_kernels && (!self.opened.on_gpu() || folder != here.as_deref()) {
            let why = match self.opened.on_gpu() {
                true => "drivers cannot be told here where to keep kernels",
                false => "the CPU compiles none",
            };
            let what = "`device.pin_kernels` keeps nothing";
            observer.on(Event::Warning(format!("{what}: {why}")));
        }
    }

    fn data_line(&self) -> String {
        let validation = self.corpus.validation.statistics.examples;
        match &self.corpus.statistics {
            Some(counts) => format!(
                "{} examples, {} tokens, {} target tokens, {validation} for validation",
                counts.examples, counts.tokens, counts.target_tokens
            ),
            None => format!(
                "{} in {} files, read while it is trained on; {validation} examples for validation",
                bytes(self.corpus.train.bytes()),
                self.corpus.train.files().len()
            ),
        }
    }
}

/// As PEFT counts them: an adapter's own parameters are part of all.
#[expect(clippy::cast_precision_loss)] // for display
fn trainable_of(trainable: u64, all: u64) -> String {
    let share = 100.0 * trainable as f64 / all.max(1) as f64;
    let [trainable, all] = [trainable, all].map(|count| count as f64 / 1e6);
    format!("{trainable:.2} M of {all:.2} M parameters, {share:.2} %")
}

fn millions(count: u64) -> String {
    format!("{} parameters", megas(count))
}

#[expect(clippy::cast_precision_loss)] // for display
fn megas(count: u64) -> String {
    format!("{:.2} M", count as f64 / 1e6)
}
