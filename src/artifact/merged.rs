//! A whole model made of an adapter and its base, signed and with its lineage like any artifact,
//! and measured: what its card says is said of it, not of the adapter.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use super::bundle;
use super::card::{Relation, Sample};
use super::composed::ComposedParts;
use super::derived::{Derivation, Made, hash_base_file, open_weights};
use super::effect::{EXACT, ModelEffect};
use super::logit_diff::{LogitDiff, Rows};
use super::measured::{Measured, Trial, not_at_hand};
use super::open::{with_adapter, with_rows};
use super::origin::Origin;
use super::past::LossChange;
use super::ready::ReadyWeights;
use super::rewrite::{Rewritten, Rounding, write_merged};
use super::score_head;
use crate::adapters::{Label, leaves_base};
use crate::config::DeviceChoice;
use crate::device;
use crate::error::{Error, Result};
use crate::event::Evaluation;
use crate::model::{self, Model, ModelJson, TIED, families};
use crate::weights::formats::{self, WeightFormat};
use crate::weights::{Element, INDEX_FILE};

/// What there is to tell of a merged model.
pub struct Merged {
    /// How far it is from its adapter, or why that is not known.
    pub logit_diff: std::result::Result<LogitDiff, String>,
    /// Its validation loss beside that of adapter and base, or why that is not known.
    pub measured: std::result::Result<Measured, String>,
    /// What rounding took of the adapter's change to the weights.
    pub rounding: Rounding,
    /// The format to which changed weights were rounded.
    pub element: Element,
    /// What a user should know about the base.
    pub note: Option<String>,
    /// The format of the weights beside which the adapter was trained, if it was another than that
    /// of the base's files, and its validation loss there.
    pub trained_beside: Option<(String, Option<f64>)>,
    /// The format whose numbers it is merged onto, if it is another than that of the base's files.
    pub onto: Option<&'static str>,
}

impl Merged {
    /// The share of the adapter's effect that rounding took: of its gain if that was measured, else
    /// of its change to the weights.
    pub fn lost(&self) -> Option<f64> {
        let gain = self.measured.as_ref().ok().and_then(Measured::lost);
        gain.or_else(|| self.rounding.kept().map(|kept| 1.0 - kept))
    }

    /// What is told of it, what and value.
    fn beside(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |what: &str, value: String| rows.push((what.to_owned(), value));
        row("number format of changed weights", self.element.name().to_owned());
        if let Some(kept) = self.rounding.kept() {
            row("share of the adapter's change to the weights that it holds", percent(kept));
        }
        if let Some((format, loss)) = &self.trained_beside {
            row("weights beside which the adapter was trained", format.clone());
            if self.onto.is_none() {
                row("weights onto which it is merged", "those of the base's files".to_owned());
            }
            if let Some(loss) = loss {
                row("validation loss of the adapter in training", format!("{loss:.4}"));
            }
        }
        if let Some(format) = self.onto {
            let text = format!("those of the base in {format}, dequantised");
            row("weights onto which it is merged", text);
        }
        match &self.measured {
            Ok(found) => {
                row("validation loss of the base", format!("{:.4}", found.base));
                row("validation loss of the adapter", format!("{:.4}", found.adapter));
                row("validation loss of this model", format!("{:.4}", found.merged));
                if let Some(lost) = found.lost() {
                    row("share of the adapter's gain that it lacks", percent(lost));
                }
            }
            Err(why) => row("validation loss of this model", format!("not measured: {why}")),
        }
        rows
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        let mut add = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        if let Some(kept) = self.rounding.kept() {
            add("adapter_change_kept", kept);
        }
        if let Ok(found) = &self.measured {
            add("base_eval_loss", found.base);
            add("adapter_eval_loss", found.adapter);
            add("eval_loss", found.merged);
        }
        metrics
    }
}

/// A share for people.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Merges an adapter into its base, or those of a composition one after the other, and writes the
/// result into a new directory, in the number format `element` or else that of the base; parts of
/// the base that are no text model keep theirs. It goes onto the numbers of the base's files, or
/// onto those that `linears` makes of them. With `compare`, base, adapter and result are then run
/// on the validation data and the prompts of the adapter's run, in f32 on the CPU, one after the
/// other.
pub fn merge(
    request: &Derivation,
    composed: Option<&ComposedParts>,
    element: Option<Element>,
    linears: Option<&'static dyn WeightFormat>,
    compare: bool,
) -> Result<Merged> {
    request.refuse_existing()?;
    // Dequantised codes are the numbers of the base's files.
    let linears = linears.filter(|format| formats::makes_codes(*format));
    let (origin, further, label) = origins(request, composed)?;
    let ReadyWeights { weights, adapter_files, untied, note, names, head, vocabulary } =
        open_weights(&origin, &further, linears)?;
    let (adapter_files, tokenizer) = match composed {
        Some(parts) => (parts.named(adapter_files)?, parts.tokenizer.clone()),
        None => (adapter_files, origin.model.path.clone()),
    };
    request.carry_out(|scratch| {
        let written = write_merged(weights, scratch, element.map(|element| (element, names)))?;
        let base_files = write_rest(&origin, (&tokenizer, scratch), &written, element, untied)?;
        if let Some(rows) = vocabulary {
            bundle::change_vocabulary(scratch, rows)?;
        }
        if let Some(head) = &head {
            score_head::copy(&origin.model.path, scratch)?;
            score_head::write_config(scratch, head)?;
        }
        let compared = match (compare, further.len()) {
            (true, 0) => compared(&origin, scratch, request, linears)?,
            (true, _) => of_several(&origin, scratch, linears)?,
            (false, _) => Compared::not("not asked for"),
        };
        let merged = Merged {
            logit_diff: compared.logit_diff,
            measured: compared.measured,
            rounding: written.rounding,
            element: written.element.unwrap_or(Element::F32),
            note,
            trained_beside: origin.past.weight_format().map(|format| {
                (format.to_owned(), origin.past.loss.as_ref().map(|loss| loss.after))
            }),
            onto: linears.map(|format| format.name()),
        };
        let found = merged.measured.as_ref().ok();
        let made = Made {
            method: "merge",
            relation: Relation::Merge(label),
            asked: asked(composed, element, linears),
            base_files,
            adapter_files,
            logit_diff: merged.logit_diff.as_ref().ok().cloned(),
            loss: found.map(|found| LossChange {
                dataset: found.dataset.clone(),
                before: found.base,
                after: found.merged,
                of_tokens: found.of_tokens,
            }),
            samples: compared.samples,
            beside: merged.beside(),
            metrics: merged.metrics(),
            head,
            exported: None,
        };
        let inputs = request.inputs(&origin, &made)?;
        Ok((origin, inputs, made, merged))
    })
}

/// The adapter with its base, those that a composition adds after it, and what kind the first is.
fn origins(
    request: &Derivation,
    composed: Option<&ComposedParts>,
) -> Result<(Origin, Vec<Origin>, Label)> {
    let (name, base, supply) = (request.model, request.base, request.supply);
    let (origin, further) = match composed {
        Some(parts) => parts.origins(name, base, supply)?,
        None => (Origin::find(name, base, supply)?, Vec::new()),
    };
    let label = origin.adapter.as_ref().map(|(adapter, _)| adapter.kind().label());
    let label = label.ok_or_else(|| {
        let found = &origin.model;
        Error::adapter(format!("`{}` is a whole model, not an adapter", found.id)).at(&found.path)
    })?;
    Ok((origin, further, label))
}

/// What the command line asked for, for the lineage.
fn asked(
    composed: Option<&ComposedParts>,
    element: Option<Element>,
    linears: Option<&'static dyn WeightFormat>,
) -> BTreeMap<String, String> {
    let element = element.map(|element| ("merge.dtype", element.config_name()));
    let linears = linears.map(|format| ("merge.weight_format", format.name()));
    let composed = composed.map(|parts| ("merge.composition", parts.statement.path.as_str()));
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    element.into_iter().chain(linears).chain(composed).map(owned).collect()
}

/// Writes what goes along with the weights; returns the base's files, as read.
fn write_rest(
    origin: &Origin,
    (tokenizer, scratch): (&Path, &Path),
    written: &Rewritten,
    element: Option<Element>,
    untied: bool,
) -> Result<Vec<crate::files::FileEntry>> {
    // The adapter's tokenizer is the base's, unless training changed the template.
    bundle::copy_sidecars(tokenizer, scratch, false)?;
    bundle::copy_missing(&origin.base.path, scratch)?;
    let mut base_files = written.base_files.clone();
    // Hashed where they were copied to: these bytes are the ones that are used.
    base_files.push(hash_base_file(origin, scratch, "config.json")?);
    let sharded = scratch.join(INDEX_FILE).is_file();
    if sharded {
        base_files.push(hash_base_file(origin, scratch, INDEX_FILE)?);
    }
    origin.base.expect(&base_files)?;
    if let (Some((name, file)), true) = (&written.added, sharded) {
        bundle::change_json(&scratch.join(INDEX_FILE), |index| {
            index["weight_map"][*name] = file.as_str().into();
            index["metadata"]["total_size"] = written.bytes.into();
        })?;
    }
    let mut changes = Vec::new();
    if untied {
        changes.push((TIED, false.into()));
    }
    if let Some(element) = element {
        // Under the name that the file has for it: transformers 5 writes `dtype`, others before.
        let old = ModelJson::read(scratch)?.json.contains_key("torch_dtype");
        let key = if old { "torch_dtype" } else { "dtype" };
        changes.push((key, element.config_name().into()));
        if sharded {
            let total = written.bytes;
            bundle::change_json(&scratch.join(INDEX_FILE), |index| {
                let metadata = index.get_mut("metadata").and_then(Value::as_object_mut);
                metadata.map(|metadata| metadata.insert("total_size".to_owned(), total.into()));
            })?;
        }
    }
    if !changes.is_empty() {
        bundle::change_config(scratch, &changes)?;
    }
    Ok(base_files)
}

/// What was found by running the models.
struct Compared {
    logit_diff: std::result::Result<LogitDiff, String>,
    measured: std::result::Result<Measured, String>,
    samples: Vec<Sample>,
}

impl Compared {
    fn not(why: &str) -> Self {
        let why = why.to_owned();
        Self { logit_diff: Err(why.clone()), measured: Err(why), samples: Vec::new() }
    }
}

/// What several adapters do together is written down for whoever checks it later; there is no
/// model of them beside their base to compare with.
fn of_several(
    origin: &Origin,
    merged: &Path,
    linears: Option<&'static dyn WeightFormat>,
) -> Result<Compared> {
    let not = Compared::not("several adapters are not run beside their base");
    let config = ModelJson::read(merged)?;
    let description = families::describe(&config)?;
    let needed = description.parameters.saturating_mul(6);
    if device::memory_bytes_available().is_some_and(|left| left < needed) || linears.is_some() {
        return Ok(not);
    }
    let opened = device::open(DeviceChoice::Cpu, 0)?;
    let rows = Rows::new(&origin.past, merged, &description)?;
    let logits = |path: &Path| -> Result<_> {
        Ok(rows.logits(&with_rows((path, None), 0, &opened.device)?))
    };
    let (of_base, of_merged) = (logits(&origin.base.path)?, logits(merged)?);
    ModelEffect::new(&rows, &of_merged, Some(&of_base), EXACT).write(merged)?;
    Ok(not)
}

/// Whether the base is taken in the format of weights that the adapter was trained beside.
fn same_weights(origin: &Origin, linears: Option<&'static dyn WeightFormat>) -> bool {
    origin.past.weight_format() == linears.map(|format| format.name())
}

/// The base of an adapted model: what is left without the adapter, unless that has weights or rows
/// in the place of the base's.
fn plain_base(
    mut adapted: Model,
    leaves_base: bool,
    base: (&Path, Option<&'static dyn WeightFormat>),
    device: &Device,
) -> Result<Model> {
    if leaves_base {
        adapted.linears(&mut |_, linear| linear.adapter = None);
        return Ok(adapted);
    }
    let vocabulary = adapted.description.vocabulary;
    drop(adapted);
    with_rows(base, vocabulary, device)
}

/// Runs base, adapter and merged model on the same tokens.
fn compared(
    origin: &Origin,
    merged: &Path,
    request: &Derivation,
    linears: Option<&'static dyn WeightFormat>,
) -> Result<Compared> {
    let config = ModelJson::read(merged)?;
    let description = families::describe(&config)?;
    // One model in f32 at a time, and one of its files as it is read.
    let needed = description.parameters.saturating_mul(6);
    if let Some(left) = device::memory_bytes_available().filter(|left| *left < needed) {
        let (needed, left) = (needed >> 20, left >> 20);
        return Ok(Compared::not(&format!(
            "to run both models takes about {needed} MiB of memory, of which {left} are left"
        )));
    }
    let opened = device::open(DeviceChoice::Cpu, 0)?;
    let trial = Trial::find(origin, request.supply);
    if let Ok(trial) = &trial {
        let tokens = trial.tokens();
        (request.tell)(&format!(
            "measuring base, adapter and merged model on {tokens} tokens of validation data and \
             the prompts, on the CPU (`--no-check` leaves it out)"
        ));
    }
    let answers = |model: &Model| trial.as_ref().map_or(Ok(Vec::new()), |t| t.answers(model));
    let stated = ModelEffect::read(&origin.model.path)?;
    let rows = match &stated {
        Some(stated) => stated.rows(description.vocabulary)?,
        None => Rows::new(&origin.past, merged, &description)?,
    };
    let settings = origin.adapter.as_ref().expect("only adapters are merged").0.as_ref();
    let (base, adapter) = ((origin.base.path.as_path(), linears), &origin.model.path);
    let loaded = with_adapter(base, adapter, settings, &opened.device)?;
    let adapted = loaded.model;
    let reference = trial.as_ref().ok().map(|trial| trial.reference(&adapted));
    let run = |model: &Model| -> Result<Option<Evaluation>> {
        let (Ok(trial), Some(reference)) = (&trial, &reference) else { return Ok(None) };
        trial.loss(model, reference).map(Some)
    };
    let of_adapter = rows.logits(&adapted);
    let adapter = run(&adapted)?;
    let scores = description.labels.is_some(); // a base without labels has no head for them
    let plain = plain_base(adapted, scores || leaves_base(settings), base, &opened.device)?;
    let of_base = (!scores).then(|| rows.logits(&plain));
    if let Some(stated) = stated.filter(|_| same_weights(origin, linears)) {
        stated.refuse_other(&of_adapter, of_base.as_deref(), &origin.model.path)?;
    }
    let (base, before) = (run(&plain)?, answers(&plain)?);
    drop(plain);
    let whole = model::load(merged, model::Init::Pretrained, &opened.device)?.model;
    let of_merged = rows.logits(&whole);
    ModelEffect::new(&rows, &of_merged, origin.if_plain(of_base.as_deref()), EXACT)
        .write(merged)?;
    let logit_diff = LogitDiff::new(&rows, &of_adapter, &of_merged)?;
    let measured = match (&trial, base, adapter, run(&whole)?) {
        (Ok(trial), Some(base), Some(adapter), Some(merged)) => Ok(Measured {
            dataset: trial.dataset.clone(),
            base: base.eval_loss,
            adapter: adapter.eval_loss,
            merged: merged.eval_loss,
            target_tokens: merged.target_tokens,
            of_tokens: merged.perplexity().is_some(),
        }),
        (Err(error), ..) => Err(not_at_hand(error, &origin.model.path)),
        _ => Err("the validation data has no target tokens".to_owned()),
    };
    let after = answers(&whole)?;
    let samples = trial.map_or(Vec::new(), |trial| trial.samples(before, after));
    Ok(Compared { logit_diff: Ok(logit_diff), measured, samples })
}
