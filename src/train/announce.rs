//! What a run is about to do, said before it begins.

use crate::config::{Init, PrecisionChoice, TargetModules};
use crate::device;
use crate::engine::Estimate;
use crate::event::{Event, Observer, bytes};
use crate::train::Prepared;
use crate::train::prepare::rows_per_step;

impl Prepared<'_> {
    pub(super) fn announce(&self, observer: &mut dyn Observer) {
        let mut fact = |label, value: String| observer.on(Event::Fact(label, value));
        let (facts, config) = (&self.facts, self.config);
        let parameters = millions(facts.parameters);
        fact("model", format!("{} ({}, {parameters})", config.model.base, facts.model_type));
        let method = match &config.lora {
            Some(lora) => {
                let targets = match &lora.target_modules {
                    TargetModules::AllLinear => "all linear layers".to_owned(),
                    TargetModules::Names(names) => names.join(", "),
                };
                format!("LoRA r {} on {targets}", lora.r)
            }
            None => "every weight learns".to_owned(),
        };
        let start = match config.model.init {
            Init::Random => ", from random weights",
            Init::Pretrained => "",
        };
        fact("method", format!("{method}{start}: {} learn", millions(self.learning)));
        fact("device", format!("{}: {}", self.opened.name, self.opened.reason));
        let why = match config.train.precision {
            PrecisionChoice::Auto => "what this device computes best",
            PrecisionChoice::F32 => "asked for",
        };
        fact("precision", format!("f32: {why}"));
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
        fact("memory", memory_line(&self.memory));
        if config.checkpoint.keep_best > 0 && config.eval.every_steps == 0 {
            observer.on(Event::Warning(
                "`checkpoint.keep_best` keeps nothing: nothing is measured before the end \
                 (`eval.every_steps`)"
                    .to_owned(),
            ));
        }
        if let Some(available) = device::memory_bytes_available()
            && self.memory.total() > available
        {
            observer.on(Event::Warning(format!(
                "this run may need {}, and {} are free; `train.recompute = \"layers\"` or a \
                 smaller `train.micro_batch_size` needs less",
                bytes(self.memory.total()),
                bytes(available)
            )));
        }
    }

    fn data_line(&self) -> String {
        let validation = self.corpus.validation.statistics.examples;
        match &self.corpus.statistics {
            Some(counts) => format!(
                "{} examples, {} tokens, {} learnt, {validation} for validation",
                counts.examples, counts.tokens, counts.learnt_tokens
            ),
            None => format!(
                "{} in {} files, read while it is trained on; {validation} examples for validation",
                bytes(self.corpus.train.bytes()),
                self.corpus.train.files().len()
            ),
        }
    }
}

/// The estimate in one line.
fn memory_line(memory: &Estimate) -> String {
    format!(
        "about {}: weights {}, optimiser {}, activations {}, logits {}, checkpoint {}, data {}",
        bytes(memory.total()),
        bytes(memory.weights),
        bytes(memory.optimizer),
        bytes(memory.activations),
        bytes(memory.logits),
        bytes(memory.checkpoint),
        bytes(memory.data)
    )
}

#[expect(clippy::cast_precision_loss)] // for display
fn millions(count: u64) -> String {
    format!("{:.2} M parameters", count as f64 / 1e6)
}
