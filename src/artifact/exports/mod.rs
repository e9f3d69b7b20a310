//! Formats of other programs that a finished model can be written in.

pub mod gguf;
pub mod jev;
pub mod vllm;

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::bundle;
use super::card::Relation;
use super::derived::{Derivation, Made, hash_base_file, open_weights};
use super::effect_run::check_effect;
use super::merge::{Addition, Weights};
use super::origin::Origin;
use super::ready::ReadyWeights;
use super::score_head;
use crate::adapters::{Adapter, resized};
use crate::config::{ProblemType, ScoreHead};
use crate::data::Codec;
use crate::error::{Context, Error, Result};
use crate::files::{FileEntry, NewFile, create_dir_new, failed, hash_tree, read_bytes, remove_dir};
use crate::model::{CheckpointNames, Description, ModelJson, inspect};
use crate::objectives;

/// A format.
pub trait Export: Sync {
    /// What `--format` calls it.
    fn name(&self) -> &'static str;
    /// Its number formats, as `--type` calls them; the first is the default.
    fn types(&self) -> &'static [&'static str];
    /// What it holds.
    fn contents(&self) -> Contents;
}

/// Writes a whole model into a folder.
pub type WriteModel = fn(&Source, Weights, &Path) -> Result<Written>;

/// What a format holds, and what writes it into a folder.
pub enum Contents {
    /// A whole model that writes text; an adapter is added to its base on the way.
    Model(WriteModel),
    /// A whole model that gives a text one of several labels, likewise.
    Classifier(WriteModel),
    /// An adapter by itself.
    Adapter(fn(AdapterSource, &Path) -> Result<Written>),
}

/// All formats.
pub static EXPORTS: &[&dyn Export] = &[&gguf::Gguf, &gguf::GgufLora, &vllm::Vllm, &jev::Jev];

/// An adapter to be written.
pub struct AdapterSource<'a> {
    /// Its name.
    pub name: &'a str,
    /// One of the format's own types.
    pub number: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Kind and settings.
    pub adapter: &'a dyn Adapter,
    /// What its base is made of.
    pub base: &'a Description,
    /// Its tensors, those of several layers taken apart.
    pub addition: Addition,
}

/// A model to be written, apart from its weights.
pub struct Source<'a> {
    /// Its name.
    pub name: &'a str,
    /// One of the format's own types.
    pub number: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Its `config.json`.
    pub config: ModelJson,
    /// Its `tokenizer.json`.
    pub tokenizer: serde_json::Value,
    /// Its tokenizer and chat template, ready for use.
    pub codec: Codec,
    /// Where its small files lie.
    pub files: &'a Path,
    /// Which weights are those of the text model.
    pub names: CheckpointNames,
    /// What it scores in the place of tokens, if it does.
    pub head: Option<ScoreHead>,
    /// What a classifier was handed in training beside conversations, by name.
    pub template_args: &'a BTreeMap<String, serde_json::Value>,
}

/// What was written.
pub struct Written {
    /// The file's name.
    pub file: String,
    /// The base's weights, as read.
    pub base_files: Vec<FileEntry>,
    /// Where in the file 64 letters stand for the digest of the inputs, which is known only when
    /// all of them were read; nowhere if this is none.
    pub binding: Option<u64>,
    /// What the user should know about it.
    pub notes: Vec<String>,
}

/// Where the model's small files are put while they are used: what is hashed is what is used.
const SMALL_FILES: &str = ".source";
/// Largest `tokenizer.json` that is read.
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// The format of a name.
///
/// # Errors
/// Says which formats there are.
pub fn find(name: &str) -> Result<&'static dyn Export> {
    let found = EXPORTS.iter().find(|export| export.name() == name).copied();
    found.ok_or_else(|| {
        let names: Vec<_> = EXPORTS.iter().map(|export| export.name()).collect();
        Error::export(format!("there is no format `{name}`"))
            .hint(format!("supported: `{}`", names.join("`, `")))
    })
}

/// Writes a model, or an adapter with its base, in another format into a new directory; returns the
/// file's name and what the user should know.
pub fn export(
    request: &Derivation,
    format: &dyn Export,
    number: Option<&str>,
    check: bool,
) -> Result<(String, Vec<String>)> {
    request.refuse_existing()?;
    let number = match number {
        None => format.types()[0],
        Some(wanted) => *format.types().iter().find(|name| **name == wanted).ok_or_else(|| {
            let (types, format) = (format.types().join("`, `"), format.name());
            Error::export(format!("the format `{format}` has no type `{wanted}`"))
                .hint(format!("supported: `{types}`"))
        })?,
    };
    let origin = Origin::find(request.model, request.base, request.supply)?;
    let contents = format.contents();
    refuse_scores(&contents, format.name(), &origin.model.path)?;
    let unchecked = if check { check_effect(&origin)? } else { None };
    let written = match contents {
        Contents::Model(write) | Contents::Classifier(write) => {
            export_model(request, origin, (format.name(), number), write)
        }
        Contents::Adapter(write) => export_adapter(request, origin, (format.name(), number), write),
    };
    written.map(|(file, notes)| (file, unchecked.into_iter().chain(notes).collect()))
}

/// Refuses a model that scores what the format has no place for.
fn refuse_scores(contents: &Contents, format: &str, model: &Path) -> Result<()> {
    let scores = match contents {
        Contents::Adapter(_) => return Ok(()),
        Contents::Model(_) => {
            return score_head::refuse(model, &format!("be written as {format}"));
        }
        Contents::Classifier(_) => match score_head::find(model)? {
            None => "tokens".to_owned(),
            Some(ScoreHead { problem_type: None, .. }) => "rewards".to_owned(),
            Some(ScoreHead { problem_type: Some(ProblemType::SingleLabel), .. }) => return Ok(()),
            Some(ScoreHead { problem_type: Some(other), .. }) => {
                format!("labels of the kind `{}`", other.name())
            }
        },
    };
    let what =
        format!("the format `{format}` is for models that give a text one of several labels");
    Err(Error::export(what)
        .at(model)
        .because(format!("this one scores {scores}"))
        .hint(objectives::hint_of_labels()))
}

/// Writes an adapter by itself.
fn export_adapter(
    request: &Derivation,
    origin: Origin,
    (format, number): (&str, &str),
    write: fn(AdapterSource, &Path) -> Result<Written>,
) -> Result<(String, Vec<String>)> {
    let Some(adapter) = origin.adapter.as_ref().map(|(adapter, _)| adapter.clone()) else {
        let what = format!("the format `{format}` is for adapters, and this is a whole model");
        return Err(Error::export(what).at(&origin.model.path));
    };
    let base = inspect(&origin.base.path)?;
    score_head::refuse(&origin.model.path, &format!("be exported as {format}"))?;
    let description = resized(adapter.as_ref(), &base.description)?;
    let addition = Addition::open(&origin.model.path, adapter.clone(), &description)?;
    let name = request.out.file_name().unwrap_or_default().to_string_lossy();
    let adapter_file = addition.file.clone();
    request.carry_out(|scratch| {
        bundle::copy_sidecars(&origin.model.path, scratch, false)?;
        let small_files = hash_tree(scratch)?;
        let config = hash_base_file(&origin, &origin.base.path, "config.json")?;
        origin.base.expect(std::slice::from_ref(&config))?;
        let (adapter, base) = (adapter.as_ref(), &description);
        let source =
            AdapterSource { name: &name, number, origin: &origin, adapter, base, addition };
        let mut written = write(source, scratch)?;
        written.notes.extend(origin.stack.as_ref().map(|stack| {
            let names: Vec<&str> =
                stack.adapters.iter().map(|it| it.directory.id.as_str()).collect();
            format!(
                "it goes onto the base with the adapters below merged into it: {}",
                names.join(", then ")
            )
        }));
        let base_files = std::iter::once(config).chain(small_files).collect();
        let made = Made {
            relation: Relation::Adapter(adapter.kind().label()),
            ..made((format, number), base_files, vec![adapter_file], &origin, &written)
        };
        let inputs = request.inputs(&origin, &made)?;
        bind(scratch, &written, &inputs.digest().to_string())?;
        Ok((origin, inputs, made, (written.file, written.notes)))
    })
}

/// What lineage and card tell of an export.
fn made(
    (format, number): (&str, &str),
    base_files: Vec<FileEntry>,
    adapter_files: Vec<FileEntry>,
    origin: &Origin,
    written: &Written,
) -> Made {
    let asked = [("export.format", format), ("export.type", number)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Made {
        method: "export",
        relation: Relation::Export,
        asked: BTreeMap::from(asked),
        base_files,
        adapter_files,
        logit_diff: None,
        loss: origin.past.loss.clone(),
        samples: Vec::new(),
        beside: Vec::new(),
        metrics: BTreeMap::new(),
        head: None,
        exported: Some(written.file.clone()),
    }
}

/// Writes a whole model.
fn export_model(
    request: &Derivation,
    origin: Origin,
    (format, number): (&str, &str),
    write: WriteModel,
) -> Result<(String, Vec<String>)> {
    let ready = open_weights(&origin, &[], None)?;
    let ReadyWeights { weights, adapter_files, untied, note, vocabulary, names, head } = ready;
    let relation = match (&head, &origin.adapter) {
        (Some(_), Some((adapter, _))) => Relation::Merge(adapter.kind().label()),
        _ => Relation::Export,
    };
    let args = match &head {
        Some(_) => origin.past.template_args().map_err(|error| error.at(&origin.model.path))?,
        None => BTreeMap::new(),
    };
    let name = request.out.file_name().unwrap_or_default().to_string_lossy();
    request.carry_out(|scratch| {
        let small = scratch.join(SMALL_FILES);
        create_dir_new(&small)?;
        bundle::copy_sidecars(&origin.model.path, &small, false)?;
        bundle::copy_missing(&origin.base.path, &small)?;
        score_head::copy(&origin.model.path, &small)?;
        let head = copied_head(head, &origin, &small)?;
        let config = hash_base_file(&origin, &small, "config.json")?;
        let mut small_files = hash_tree(&small)?;
        small_files.retain(|file| used(&file.path) && file.path != config.path);
        if let Some(rows) = vocabulary {
            bundle::change_vocabulary(&small, rows)?;
        }
        let mut model = ModelJson::read(&small)?;
        if untied {
            model.untie();
        }
        let source = Source {
            name: &name,
            number,
            origin: &origin,
            config: model,
            tokenizer: tokenizer(&small)?,
            codec: Codec::load(&small, None)?,
            files: &small,
            names,
            head: head.clone(),
            template_args: &args,
        };
        let written = write(&source, weights, scratch)?;
        drop(source);
        remove_dir(&small)?;
        let mut base_files = written.base_files.clone();
        base_files.push(config);
        origin.base.expect(&base_files)?;
        base_files.extend(small_files);
        let made = made((format, number), base_files, adapter_files, &origin, &written);
        let mut made = Made { relation, head, ..made };
        if !args.is_empty() {
            let args = serde_json::to_string(&args).context("cannot encode the arguments")?;
            made.asked.insert("export.template_args".to_owned(), args);
        }
        let inputs = request.inputs(&origin, &made)?;
        bind(scratch, &written, &inputs.digest().to_string())?;
        let notes = note.into_iter().chain(written.notes).collect();
        Ok((origin, inputs, made, (written.file, notes)))
    })
}

/// What a model scores by the copies of its files, which are what the lineage names. Without
/// [`score_head::FILE`] it is said by an adapter's own files alone.
fn copied_head(
    head: Option<ScoreHead>,
    origin: &Origin,
    copies: &Path,
) -> Result<Option<ScoreHead>> {
    let copied = match (&head, &origin.adapter) {
        (None, _) => None,
        (Some(_), Some(_)) => score_head::read(copies)?.or_else(|| head.clone()),
        (Some(_), None) => score_head::find(copies)?,
    };
    if copied == head {
        return Ok(copied);
    }
    Err(Error::changed("the labels of the model changed while it was read").at(&origin.model.path))
}

/// Which of the small files decide what is written.
fn used(name: &str) -> bool {
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        score_head::FILE,
    ]
    .contains(&name)
}

fn tokenizer(directory: &Path) -> Result<serde_json::Value> {
    let path = directory.join("tokenizer.json");
    let bytes = read_bytes(&path, TOKENIZER_BYTES_MAX)?;
    serde_json::from_slice(&bytes).context_at("not a valid tokenizer", &path)
}

/// Writes the digest of the inputs in its place.
fn bind(folder: &Path, written: &Written, digest: &str) -> Result<()> {
    let Some(place) = written.binding else { return Ok(()) };
    let path = &folder.join(&written.file);
    let write = || -> io::Result<()> {
        let mut file = NewFile::open(path)?;
        file.seek(SeekFrom::Start(place))?;
        file.write_all(digest.as_bytes())?;
        file.sync()
    };
    write().map_err(|error| failed("cannot write the export", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn formats_are_found_by_name() {
        let types = ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "bf16", "f32"];
        assert_eq!(find("gguf").unwrap().types(), types);
        let error = find("onnx").err().unwrap().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[export]: there is no format `onnx`

hint: supported: `gguf`, `gguf-lora`, `vllm`, `jev`
"#]],
        );
    }
}
