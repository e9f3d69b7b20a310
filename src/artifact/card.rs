//! The model card: `README.md` with front matter that the Hugging Face hub reads.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::base_record::BaseRecord;
use super::licenses;
use super::lineage::INPUTS_FILE;
use super::logit_diff::LogitDiff;
use super::markup::{code, yaml};
use super::parent::STATEMENT_FILE;
use super::past::{CardDataset, LossChange};
use super::signature;
use crate::adapters::Label;
use crate::config::ScoreHead;
use crate::files::{Digest, FileEntry};
use crate::hub::ModelDirectory;
use crate::objectives::LABELLING_TASK;

/// What only an export as a decision model of transformers has.
pub const DECISION_FILE: &str = "decision.json";
/// The card's file name.
pub const FILE: &str = "README.md";

/// What the artifact is to its base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// An adapter of this kind: of use only together with its base.
    Adapter(Label),
    /// Every weight was trained further.
    Finetune,
    /// An adapter of this kind merged into its base.
    Merge(Label),
    /// Written in another format, perhaps with coarser numbers.
    Export,
    /// Trained from random weights: the base gave only its shape and tokenizer.
    Scratch,
}

impl Relation {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Adapter(_) => Some("adapter"),
            Self::Finetune => Some("finetune"),
            Self::Merge(_) => Some("merge"),
            Self::Export => Some("quantized"),
            Self::Scratch => None,
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Adapter(of) => format!("A {} adapter for", of.title),
            Self::Finetune => "All weights fine-tuned from".to_owned(),
            Self::Merge(of) => format!("A {} adapter merged into", of.title),
            Self::Export => "Written in another format from".to_owned(),
            Self::Scratch => {
                "Trained from random weights with the shape and tokenizer of".to_owned()
            }
        }
    }
}

/// Everything that a card says.
#[derive(Debug, Clone)]
pub struct Card {
    /// The model's name.
    pub name: String,
    /// What it is to its base.
    pub relation: Relation,
    /// The base model as the user named it.
    pub base: String,
    /// What the hub calls the base model: all that its front matter takes.
    pub base_id: Option<String>,
    /// The base model's commit, if it came from the hub.
    pub revision: Option<String>,
    /// The base model's files.
    pub base_files: Vec<FileEntry>,
    /// Adapters that are merged into it, in their order.
    pub base_adapters: Vec<BaseRecord>,
    /// SPDX identifier, if the user gave one.
    pub license: Option<String>,
    /// Every data file.
    pub datasets: Vec<CardDataset>,
    /// The settings worth reading, in reading order.
    pub settings: Vec<(String, String)>,
    /// Validation loss before and after training, in nats for each target token.
    pub loss: Option<LossChange>,
    /// What a suite said of it, if it was evaluated.
    pub judged: Option<Evaluated>,
    /// Prompts with the answers before and after.
    pub samples: Vec<Sample>,
    /// How far a merged model is from its adapter, if it was looked at.
    pub logit_diff: Option<LogitDiff>,
    /// What is told of a merged model beside its adapter: what, and its value.
    pub beside: Vec<(String, String)>,
    /// What it scores in the place of tokens, if it does.
    pub head: Option<ScoreHead>,
    /// The file that an export is.
    pub exported: Option<String>,
    /// Digest of the inputs, which the weights' header repeats.
    pub inputs: Digest,
    /// The key that signs, if any.
    pub signer: Option<String>,
    /// Versions of the programs that made it.
    pub versions: Vec<(String, String)>,
}

/// What an evaluation said of the model.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The name of its suite.
    pub suite: String,
    /// The data files.
    pub datasets: Vec<String>,
    /// Over suite and data.
    pub sha256: Digest,
    /// The numbers, by name.
    pub metrics: Vec<(String, f64)>,
    /// All of them, per slice, as a Markdown table.
    pub table: String,
}

/// One prompt.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What was asked.
    pub prompt: String,
    /// The base model's answer.
    pub before: String,
    /// This model's answer.
    pub after: String,
}

/// What the hub calls a base model: what `model.base_id` says, or the repository that it is from.
pub fn id_of(named: Option<&str>, base: &ModelDirectory) -> Option<String> {
    let of_repository = || {
        base.commit()?;
        let parts: Vec<&str> = base.id.splitn(3, '/').take(2).collect(); // a GGUF file is the third
        Some(parts.join("/"))
    };
    named.map(str::to_owned).or_else(of_repository)
}

impl Card {
    /// The text of the card.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing into a string cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        self.write_front_matter(out)?;
        let (name, base) = (code(&self.name), code(&self.base));
        writeln!(out, "\n# {name}\n\n{} {base}, made with Firebrand.", self.relation.sentence())?;
        self.write_origin(out)?;
        self.write_settings(out)?;
        self.write_numbers(out)?;
        self.write_judged(out)?;
        self.write_likeness(out)?;
        self.write_verification(out)?;
        self.write_usage(out)
    }

    fn write_front_matter(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "---")?;
        if let Some(license) = &self.license {
            out.push_str(&licenses::front_matter(license));
        }
        let mut tags = vec!["firebrand".to_owned()];
        if let (Some(relation), Some(base)) = (self.relation.name(), &self.base_id) {
            writeln!(out, "base_model: {}", yaml(base))?;
            writeln!(out, "base_model_relation: {relation}")?;
            tags.push(format!("base_model:{relation}:{base}"));
        }
        if let Relation::Adapter(of) = self.relation {
            tags.extend(of.tags.iter().map(|tag| (*tag).to_owned()));
        }
        if self.is_gguf() {
            tags.push("gguf".to_owned());
        }
        // Only what the hub has: it would take the path of a local file for a name of its own.
        // And only what it was trained on: that is what the hub says of them.
        let trained = self.datasets.iter().filter(|set| set.split != "validation");
        let datasets: BTreeSet<_> = trained.filter_map(|set| Some(set.on_hub()?.0)).collect();
        if !datasets.is_empty() {
            writeln!(out, "datasets:")?;
        }
        for name in datasets {
            writeln!(out, "- {}", yaml(name))?;
        }
        if let Some(loss) = &self.loss {
            let more = if loss.of_tokens { "\n- perplexity" } else { "" };
            writeln!(out, "metrics:\n- loss{more}")?;
        }
        let library = match self.relation {
            _ if self.is_gguf() => "gguf",
            Relation::Adapter(_) => "peft",
            _ => "transformers",
        };
        writeln!(out, "library_name: {library}\npipeline_tag: {}\ntags:", self.task())?;
        for tag in &tags {
            writeln!(out, "- {}", yaml(tag))?;
        }
        self.write_model_index(out)?;
        writeln!(out, "---")
    }

    fn write_model_index(&self, out: &mut String) -> std::fmt::Result {
        let loss = self.loss.as_ref().filter(|loss| loss.after.exp().is_finite());
        if loss.is_none() && self.judged.is_none() {
            return Ok(());
        }
        writeln!(out, "model-index:\n- name: {}\n  results:", yaml(&self.name))?;
        if let Some(loss) = loss {
            self.write_loss_result(loss, out)?;
        }
        let Some(judged) = &self.judged else { return Ok(()) };
        writeln!(out, "  - task:\n      type: {}", self.task())?;
        let sets = yaml(&judged.datasets.join(", "));
        writeln!(out, "    dataset:\n      type: {sets}\n      name: {}", yaml(&judged.suite))?;
        writeln!(out, "    metrics:")?;
        for (name, value) in judged.metrics.iter().filter(|(_, value)| value.is_finite()) {
            writeln!(out, "    - type: {}\n      value: {value:.6}", yaml(name))?;
        }
        Ok(())
    }

    fn write_loss_result(&self, loss: &LossChange, out: &mut String) -> std::fmt::Result {
        let evaluated = self.datasets.iter().find(|set| set.name == loss.dataset);
        let hub = evaluated.and_then(CardDataset::on_hub);
        let kind = yaml(hub.map_or(&loss.dataset, |(name, _)| name));
        let dataset = yaml(&loss.dataset);
        writeln!(out, "  - task:\n      type: {}", self.task())?;
        writeln!(out, "    dataset:\n      type: {kind}\n      name: {dataset}")?;
        writeln!(out, "      split: validation")?;
        if let Some((_, commit)) = hub {
            writeln!(out, "      revision: {}", yaml(commit))?;
        }
        writeln!(out, "    metrics:")?;
        writeln!(out, "    - type: loss\n      value: {:.6}", loss.after)?;
        match loss.of_tokens {
            true => writeln!(out, "    - type: perplexity\n      value: {:.6}", loss.after.exp()),
            false => Ok(()),
        }
    }

    fn write_origin(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Made from\n\n| what | file | sha256 |\n|---|---|---|")?;
        if let Some(revision) = &self.revision {
            writeln!(out, "| base model, commit | {} | |", code(revision))?;
        }
        for file in &self.base_files {
            writeln!(out, "| base model | {} | `{}` |", code(&file.path), file.sha256)?;
        }
        self.write_adapters_below(out)?;
        for set in &self.datasets {
            let (split, name) = (code(&set.split), code(&set.name));
            writeln!(out, "| data, {split}, {} records | {name} | `{}` |", set.rows, set.sha256)?;
        }
        writeln!(
            out,
            "\nEverything that went in is listed in `{INPUTS_FILE}` (sha256 `{}`); what was done \
             with it, in `{STATEMENT_FILE}`.",
            self.inputs
        )
    }

    fn write_settings(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## How\n\n| setting | value |\n|---|---|")?;
        for (name, value) in self.settings.iter().chain(&self.versions) {
            writeln!(out, "| {} | {} |", code(name), code(value))?;
        }
        Ok(())
    }

    fn write_numbers(&self, out: &mut String) -> std::fmt::Result {
        if self.loss.is_none() && self.samples.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Before and after")?;
        if let Some(loss) = &self.loss {
            writeln!(out, "\nOn {}:\n", code(&loss.dataset))?;
            writeln!(out, "| | before | after |\n|---|---:|---:|")?;
            writeln!(out, "| validation loss | {:.4} | {:.4} |", loss.before, loss.after)?;
            if loss.of_tokens {
                let (before, after) = (loss.before.exp(), loss.after.exp());
                writeln!(out, "| perplexity | {before:.2} | {after:.2} |")?;
            }
        }
        if !self.samples.is_empty() {
            writeln!(out, "\n| prompt | before | after |\n|---|---|---|")?;
        }
        for sample in &self.samples {
            let [prompt, before, after] =
                [&sample.prompt, &sample.before, &sample.after].map(|text| code(text));
            writeln!(out, "| {prompt} | {before} | {after} |")?;
        }
        Ok(())
    }

    fn write_judged(&self, out: &mut String) -> std::fmt::Result {
        let Some(judged) = &self.judged else { return Ok(()) };
        let sets: Vec<String> = judged.datasets.iter().map(|set| code(set)).collect();
        writeln!(
            out,
            "\n## Evaluation\n\nBy the suite {} on {}:\n",
            code(&judged.suite),
            sets.join(", ")
        )?;
        writeln!(out, "{}", judged.table)?;
        writeln!(out, "Suite and data have the sha256 `{}`.", judged.sha256)
    }

    fn write_likeness(&self, out: &mut String) -> std::fmt::Result {
        if self.logit_diff.is_none() && self.beside.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Beside the adapter\n")?;
        if let Some(found) = &self.logit_diff {
            writeln!(out, "Compared on {}, in f32:\n", found.what)?;
        }
        writeln!(out, "| | |\n|---|---:|")?;
        if let Some(found) = &self.logit_diff {
            writeln!(out, "| largest difference of a logit | {:.3e} |", found.difference)?;
            writeln!(out, "| largest logit | {:.3e} |", found.largest)?;
            let (agreeing, positions) = (found.agreeing, found.positions);
            writeln!(out, "| same most likely token | {agreeing} of {positions} positions |")?;
        }
        for (what, value) in &self.beside {
            writeln!(out, "| {what} | {} |", code(value))?;
        }
        Ok(())
    }

    fn write_verification(&self, out: &mut String) -> std::fmt::Result {
        let Some(hint) = &self.signer else {
            return writeln!(out, "\n## Verify\n\nNot signed: no key attests these files.");
        };
        let signature = signature::FILE;
        write!(
            out,
            "\n## Verify\n\n`{signature}` covers every file here, in the OpenSSF Model Signing \
             format, by the key with the SHA-256\n`{hint}`. With its public key in `key.pem`, \
             either of these checks it:\n\n```\nfirebrand verify . --key key.pem\n\
             model_signing verify key . --signature {signature} --public_key key.pem\n```\n"
        )
    }

    /// What the hub calls what it does. A reward model is to it a classifier with one label.
    fn task(&self) -> &'static str {
        match &self.head {
            Some(_) => LABELLING_TASK,
            None => "text-generation",
        }
    }

    /// Whether it is a file of llama.cpp.
    fn is_gguf(&self) -> bool {
        self.exported.as_ref().is_some_and(|file| file.ends_with(".gguf"))
    }

    /// Whether it answers questions with labels.
    pub(super) fn is_decision_model(&self) -> bool {
        self.exported.as_deref() == Some(DECISION_FILE)
    }

    pub(super) fn is_adapter(&self) -> bool {
        matches!(self.relation, Relation::Adapter(_))
    }
}

#[cfg(test)]
#[path = "card_tests.rs"]
pub(crate) mod tests;
