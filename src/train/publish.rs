//! From a trained model to a signed artifact: weights, settings, tokenizer, card, lineage,
//! signature; made in a scratch folder and committed by one rename.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapters;
use crate::artifact::card::{Card, Evaluated, Relation, Sample, id_of};
use crate::artifact::certificate::Certificate;
use crate::artifact::keys::{self, KeyOrigin, SigningKey};
use crate::artifact::lineage::{Inputs, RunRecord};
use crate::artifact::past::{CardDataset, LossChange};
use crate::artifact::peft::{self, AdapterConfig};
use crate::artifact::provenance::{ChangeRecord, CheckpointRecord, Lineage, RunFacts};
use crate::artifact::{self, bundle, sbom, score_head, stops};
use crate::checkpoint::{HistoryEntry, HistoryEvent, folder_name, now};
use crate::config::{Init, RunConfig};
use crate::engine::Trainer;
use crate::error::{Context, Error, Result};
use crate::event::{self, Event, Observer};
use crate::files::{Digest, ROLLOUTS, RunDirectory, hash_file, name_anywhere, write_synced};
use crate::model::TIED;
use crate::train::effect::write_effect;
use crate::train::head::RunHead;
use crate::train::provenance_inputs::lock_beside;
use crate::train::session::Record;
use crate::train::weights_file::write_weights;
use crate::train::{Prepared, Request, added_tokens, frozen_weights, gradient_check};

/// What a finished run has made.
#[derive(Debug)]
pub struct Published {
    /// The signed directory.
    pub artifact: PathBuf,
    /// Who signed it: hint and place of the key.
    pub signer: Option<String>,
    /// Validation loss before and after.
    pub losses: Option<(f64, f64)>,
    /// Prompt, answer before, answer after.
    pub answers: Vec<(String, String, String)>,
}

/// A key, and where it came from.
pub type Signer = (SigningKey, KeyOrigin);

/// The key to sign with, made on first use; `None` when signing is switched off.
pub fn signer(config: &RunConfig, observer: &mut dyn Observer) -> Result<Option<Signer>> {
    if !config.output.sign {
        observer.on(Event::Warning("the artifact will not be signed (`output.sign`)".to_owned()));
        return Ok(None);
    }
    let certificates = match &config.output.signer_certificates {
        Some(path) => Certificate::all_from_file(Path::new(path))
            .map_err(|error| error.hint("the file is named by `output.signer_certificates`"))?,
        None => Vec::new(),
    };
    match (config.output.signer.as_slice(), &config.output.signer_key) {
        ([], None) => {}
        ([], Some(_)) => {
            return Err(Error::config("`output.signer_key` requires `output.signer`")
                .hint("`output.signing_key` names a private key in a file"));
        }
        (_, None) => {
            return Err(Error::config("`output.signer` requires `output.signer_key`")
                .hint("name the file with the public key (PEM) that its signatures fit"));
        }
        (command, Some(public)) => {
            return keys::held_by(command, Path::new(public), certificates).map(Some);
        }
    }
    let environment = std::env::var(keys::ENVIRONMENT).ok();
    let explicit = config.output.signing_key.as_deref();
    let home = keys::config_home()?;
    let signer = keys::load_or_create(&home, explicit, environment.as_deref(), certificates)?;
    if let KeyOrigin::Created(path) = &signer.1 {
        observer.on(Event::Note(format!(
            "made a key pair to sign with: {}, and {} for those who verify",
            path.display(),
            path.with_extension("pub.pem").display()
        )));
    }
    Ok(Some(signer))
}

/// Writes the artifact of a run, into a folder in its directory.
pub fn publish(
    (run, artifact): (&RunDirectory, &Path),
    request: &Request,
    prepared: &Prepared,
    trainer: &mut Trainer,
    record: Record,
    signer: Option<&Signer>,
    observer: &mut dyn Observer,
) -> Result<Published> {
    let config = &request.loaded.config;
    let of_run = run_record(run, request, prepared)?;
    let inputs = Inputs::of_run(&of_run);
    let scratch = bundle::scratch(artifact)?;
    let trained = adapters::publish(&mut trainer.model);
    let written = write_weights(&scratch, request, prepared, trainer, &inputs)
        .and_then(|()| write_effect(&scratch, prepared, trainer, observer));
    adapters::put_back(&mut trainer.model, trained);
    written?;
    if let Some(adapter) = &prepared.adapter {
        let published = adapter.published();
        let adapter = published.as_ref().unwrap_or(adapter);
        let json = AdapterConfig {
            base_model: &prepared.base.id,
            revision: prepared.base.commit(),
            adapter: adapter.as_ref(),
            modules: &prepared.adapted,
            names: prepared.description.names,
            scores: prepared.score_head.is_some(),
            tied: prepared.description.tied,
        };
        write_synced(&scratch.join(peft::CONFIG_FILE), json.to_json().as_bytes())?;
    }
    let whole = prepared.adapter.is_none();
    bundle::copy_sidecars(&prepared.base.path, &scratch, whole)?;
    refuse_changed(&scratch, prepared)?;
    added_tokens::write(&scratch, config, whole.then_some(prepared.description.vocabulary))?;
    if let Some(RunHead { head, calibration }) = &prepared.score_head {
        score_head::write(&scratch, head, calibration.as_ref())?;
        if whole {
            score_head::write_config(&scratch, head)?;
        }
    }
    if prepared.untied && whole {
        // Other programs, and older ones, shall take the projection that was trained.
        bundle::change_config(&scratch, &[(TIED, false.into())])?;
    }
    if let Some(template) = prepared.own_template() {
        bundle::replace_templates(&scratch, template)?;
    }
    stops::add(&prepared.base.path, &scratch, &prepared.corpus.target_ends())?;
    prepared.lock().write(&run.data_lock())?; // now with the digests of all that was read
    let card = card(request, prepared, &record, (&of_run, &inputs), signer);
    let facts = facts(run, prepared, &record)?;
    let lineage = Lineage { inputs, asked: Inputs::as_asked(&of_run), facts };
    if config.output.sbom {
        sbom::write(&scratch, &card, &lineage)?;
    }
    bundle::seal(&scratch, artifact, &card, &lineage, signer.map(|signer| &signer.0))?;
    Ok(Published {
        artifact: artifact.to_owned(),
        signer: signer.map(describe),
        losses: losses(&record),
        answers: answers(&record),
    })
}

/// What goes along with the weights must be what they were trained with.
fn refuse_changed(scratch: &Path, prepared: &Prepared) -> Result<()> {
    for used in prepared.tokenizer_files().iter().chain(&prepared.base_files) {
        let copy = scratch.join(&used.path);
        // Weights are written again; of an adapter's base, only the tokenizer is copied.
        let copied = !used.path.ends_with(".safetensors") && copy.is_file();
        if copied && hash_file(&copy, &used.path)?.sha256 != used.sha256 {
            return Err(Error::changed("the file was changed while the run went on")
                .at(prepared.base.path.join(&used.path))
                .hint("put it back as it was, and run the same command again"));
        }
    }
    Ok(())
}

/// How the weights came about.
fn method(config: &RunConfig, prepared: &Prepared) -> &'static str {
    match (&prepared.adapter, config.model.init) {
        (Some(adapter), _) => adapter.kind().name(),
        (None, Init::Pretrained) => "full",
        (None, Init::Random) => "from-random-weights",
    }
}

fn run_record(run: &RunDirectory, request: &Request, prepared: &Prepared) -> Result<RunRecord> {
    let (loaded, outputs) = (request.loaded, vec![run.root().to_path_buf()]);
    let config = &loaded.config;
    Ok(RunRecord {
        config: (request.config_path.to_owned(), loaded.text_sha256),
        overrides: loaded.overrides.iter().cloned().collect(),
        method: method(config, prepared).to_owned(),
        base: prepared.base_record()?,
        base_adapters: prepared.base_adapter_records(),
        teacher: prepared.teacher.as_ref().map(|teacher| teacher.record().clone()),
        start_adapter: prepared.start.as_ref().map(|start| start.record().clone()),
        datasets: prepared.dataset_records(),
        templates: prepared.template_records(),
        tokenizer: prepared.tokenizer_files(),
        resolved: loaded.resolved.clone(),
        settings: loaded.portable(),
        seed: config.seed,
        device: device_record(prepared),
        arithmetic: arithmetic_record(prepared),
        deterministic: prepared.opened.deterministic,
        lock: lock_beside(request.config_path)?,
        allowlist: prepared.approval.record(),
        source: artifact::source(Path::new("."), &outputs),
    })
}

/// What computed, and in which arithmetic.
fn device_record(prepared: &Prepared) -> BTreeMap<String, String> {
    let mut facts = arithmetic_record(prepared);
    facts.extend(prepared.memory_plans.record());
    facts.insert("name".to_owned(), prepared.opened.name.clone());
    let adapter = prepared.opened.adapter.iter();
    let driver = adapter.map(|it| format!("{} {}", it.driver, it.driver_info));
    facts.extend(driver.map(|driver| ("driver".to_owned(), driver)));
    facts
}

/// What of that decides bits: the kind of machine, and the number formats.
fn arithmetic_record(prepared: &Prepared) -> BTreeMap<String, String> {
    let opened = &prepared.opened;
    let mut facts = vec![
        ("backend", opened.backend.to_owned()),
        ("class", opened.class()),
        ("precision", prepared.precision.arithmetic.name().to_owned()),
    ];
    let digest = prepared.quantised.or(prepared.in_blocks);
    facts.extend(frozen_weights::record(
        prepared.weight_format,
        prepared.in_blocks.and(Some(&prepared.description)),
        digest,
    ));
    facts.extend(opened.adapter.as_ref().map(|adapter| ("api", adapter.api.clone())));
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn facts(run: &RunDirectory, prepared: &Prepared, record: &Record) -> Result<RunFacts> {
    let list = |what: HistoryEvent| -> Vec<CheckpointRecord> {
        let of_kind = |entry: &&HistoryEntry| entry.what == what;
        let to_record = |entry: &HistoryEntry| {
            let name = entry.from.clone().unwrap_or_else(|| folder_name(entry.step));
            Some(CheckpointRecord { name, step: entry.step, manifest: entry.manifest? })
        };
        record.history.iter().filter(of_kind).filter_map(to_record).collect()
    };
    let mut metrics = BTreeMap::new();
    for found in &record.evaluations {
        metrics.insert(format!("eval_loss/step-{}", found.step), found.eval_loss);
    }
    if let Some(last) = record.evaluated() {
        metrics.insert("eval_loss".to_owned(), last.eval_loss);
        metrics.extend(last.prefixed());
    }
    if let Some(judged) = &record.judged {
        for (name, metric) in &judged.metrics {
            metrics.insert(format!("{}/{name}", judged.suite.name), metric.value);
        }
    }
    #[expect(clippy::cast_precision_loss)] // counts stay far below 2^53
    for (name, count) in [("tokens", record.tokens), ("target_tokens", record.target_tokens)] {
        metrics.insert(name.to_owned(), count as f64);
    }
    let (finished, rollouts) = (now(), run.rollouts());
    Ok(RunFacts {
        invocation_id: bundle::invocation_id(run.root()),
        started: record.history.first().map_or_else(|| finished.clone(), |e| e.time.clone()),
        finished,
        versions: prepared.versions(),
        metrics,
        metrics_log: hash_file(&run.metrics(), "metrics.jsonl")?,
        rollouts_log: rollouts.is_file().then(|| hash_file(&rollouts, ROLLOUTS)).transpose()?,
        checkpoints: list(HistoryEvent::Saved),
        resumed: list(HistoryEvent::Resumed),
        reused: list(HistoryEvent::Reused),
        gradient_check: gradient_check::found(run)?,
        result: record.result_checkpoint()?,
        changes: changes(record)?,
    })
}

fn changes(record: &Record) -> Result<Vec<ChangeRecord>> {
    // What a device had no memory for changes numbers as well, in their last digits.
    let is_change = |entry: &&HistoryEntry| {
        entry.what == HistoryEvent::Changed || entry.what == HistoryEvent::Divided
    };
    let changed = record.history.iter().filter(is_change);
    let record = |entry: &HistoryEntry| -> Result<ChangeRecord> {
        // Of what was changed, not of when.
        let timeless = HistoryEntry { time: String::new(), ..entry.clone() };
        let line = serde_json::to_vec(&timeless).context("cannot encode the history")?;
        Ok(ChangeRecord {
            step: entry.step,
            exact: entry.exact == Some(true),
            what: entry
                .differences
                .iter()
                .map(ToString::to_string)
                .chain(entry.why.iter().filter(|_| entry.what == HistoryEvent::Divided).cloned())
                .collect(),
            entry: Digest::of(&line),
        })
    };
    changed.map(record).collect()
}

fn losses(record: &Record) -> Option<(f64, f64)> {
    let last = record.evaluated()?;
    // Of other records (`eval.max_records`) it would be another loss.
    let first = record.evaluations.iter().find(|it| it.target_tokens == last.target_tokens)?;
    (first.step < last.step).then_some((first.eval_loss, last.eval_loss))
}

fn answers(record: &Record) -> Vec<(String, String, String)> {
    let last = record.samples.last().map_or(0, |sample| sample.step);
    let of = |step| record.samples.iter().filter(move |sample| sample.step == step);
    let answer = |(number, after): (usize, &event::Sample)| {
        // Prompts may have changed while the run was interrupted.
        let same = |before: &&event::Sample| before.prompt == after.prompt;
        let before = of(0).nth(number).filter(same).or_else(|| of(0).find(same));
        let before = before.map_or("(not asked)".to_owned(), |before| before.answer.clone());
        (after.prompt.clone(), before, after.answer.clone())
    };
    of(last).enumerate().filter(|_| last > 0).map(answer).collect()
}

/// Who signed: the key's hint, and where the key is.
fn describe((key, origin): &Signer) -> String {
    format!("{} ({origin})", key.name())
}

/// What the card calls the model. Not the name of the run: another one would give other bytes.
fn model_name(config: &RunConfig, base: &str, method: &str) -> String {
    let base = base.trim_end_matches('/').trim_end_matches("/artifact");
    let last = base.rsplit('/').next().unwrap_or(base);
    config.output.title.clone().unwrap_or_else(|| format!("{last}-{method}"))
}

fn card(
    request: &Request,
    prepared: &Prepared,
    record: &Record,
    (of_run, inputs): (&RunRecord, &Inputs),
    signer: Option<&Signer>,
) -> Card {
    let loaded = request.loaded;
    let config = &loaded.config;
    let relation = match (&prepared.adapter, config.model.init) {
        (Some(adapter), _) => Relation::Adapter(adapter.kind().label()),
        (None, Init::Pretrained) => Relation::Finetune,
        (None, Init::Random) => Relation::Scratch,
    };
    let datasets = prepared.dataset_records();
    let validation = datasets.iter().find(|set| set.split == "validation");
    let evaluated = validation.or(datasets.first()).map(|set| name_anywhere(&set.id));
    Card {
        name: model_name(config, &prepared.base.id, method(config, prepared)),
        relation,
        base: prepared.base.id.clone(),
        base_id: id_of(config.model.base_id.as_deref(), &prepared.base),
        revision: prepared.base.commit().map(str::to_owned),
        base_files: of_run.base.files.clone(),
        base_adapters: of_run.base_adapters.clone(),
        license: config.output.license.clone(),
        datasets: datasets
            .iter()
            .map(|set| CardDataset {
                name: name_anywhere(&set.id),
                split: set.split.clone(),
                rows: set.rows,
                sha256: set.file.sha256,
                uri: set.uri.clone(),
            })
            .collect(),
        settings: loaded.portable().into_iter().collect(),
        loss: losses(record).map(|(before, after)| LossChange {
            dataset: evaluated.unwrap_or_default(),
            before,
            after,
            of_tokens: record.evaluations.iter().all(|found| found.perplexity().is_some()),
        }),
        judged: record.judged.as_ref().map(|report| Evaluated {
            suite: report.suite.name.clone(),
            datasets: report.suite.data.iter().map(|file| file.file.path.clone()).collect(),
            sha256: report.suite.sha256,
            metrics: report.metrics.iter().map(|(name, it)| (name.clone(), it.value)).collect(),
            table: report.to_markdown(),
        }),
        samples: answers(record)
            .into_iter()
            .map(|(prompt, before, after)| Sample { prompt, before, after })
            .collect(),
        logit_diff: None,
        beside: Vec::new(),
        head: prepared.score_head.as_ref().map(|of| of.head.clone()),
        exported: None,
        inputs: inputs.digest(),
        signer: signer.map(|signer| signer.0.public().hint().to_owned()),
        versions: prepared.versions().into_iter().collect(),
    }
}
