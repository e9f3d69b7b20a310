//! The base model of a run, looked at before anything else is done: all that can be wrong with its
//! files, but for the numbers in them, is said at once.

use std::io::Read;
use std::path::Path;

use crate::config::{Init, RunConfig, ScoreHead};
use crate::data::Corpus;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer, bytes};
use crate::files::{FileEntry, hash_file, lfs_pointer, lfs_refusal, open_regular};
use crate::hub::{ModelDirectory, RepoKind, RepoName};
use crate::model::{
    self, Description, Inspected, ModelJson, families, inspect, inspect_for, refuse_random,
};

/// `model.base_id` is a name of a hub, and for a base that does not come from one.
fn refuse_wrong_id(config: &RunConfig, base: &ModelDirectory) -> Result<()> {
    let Some(id) = &config.model.base_id else { return Ok(()) };
    if base.commit().is_some() {
        let error = Error::config("`model.base_id` is for a base model in a directory");
        return Err(error.because(format!("`{}` is one on the hub already", base.id)));
    }
    match RepoName::parse(RepoKind::Model, id) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::config("`model.base_id` is no name on a hub").because(error)),
    }
}

/// What is read of a base model beside its weights.
const TEXT_FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
];
/// What may be read besides.
const MORE_TEXT_FILES: [&str; 1] = ["added_tokens.json"];
/// Weights up to this size are looked through before a run, to find NaN and infinite numbers.
const LOOKED_THROUGH_BYTES: u64 = 8 << 30;

/// The sizes of the base model and the file that tells them. Weights that are to be loaded are
/// there, whole, and those that the sizes ask for.
pub(super) fn described(
    config: &RunConfig,
    base: &ModelDirectory,
    head: Option<&ScoreHead>,
    observer: &mut dyn Observer,
) -> Result<(Description, FileEntry)> {
    refuse_wrong_id(config, base)?;
    let labels = head.map(|head| head.labels.len());
    let (description, json) = match config.model.init {
        Init::Pretrained => {
            let found = inspect_for(&base.path, labels)?;
            if let Some(note) = found.note() {
                observer.on(Event::Warning(note));
            }
            (found.description, found.config)
        }
        Init::Random => {
            let mut json = ModelJson::read(&base.path)?;
            labels.map_or(Ok(()), |labels| json.score(labels))?;
            let description = families::describe(&json)?;
            refuse_random(&description)?;
            if let Some(note) = json.own_code_note() {
                observer.on(Event::Warning(note));
            }
            (description, json)
        }
    };
    if config.data.max_seq_len > description.positions_max {
        observer.on(Event::Warning(format!(
            "`data.max_seq_len` is {}, but the model was made for {} positions",
            config.data.max_seq_len, description.positions_max
        )));
    }
    Ok((description, json.file))
}

/// The files of a base model beside its weights, those of them that are there.
pub(super) fn text_files(base: &ModelDirectory) -> Result<Vec<FileEntry>> {
    let there = |name: &&str| base.path.join(name).exists();
    for name in TEXT_FILES.into_iter().chain(MORE_TEXT_FILES).filter(there) {
        refuse_pointer(&base.path.join(name))?;
    }
    let files = TEXT_FILES.into_iter().filter(there);
    files.map(|name| hash_file(&base.path.join(name), name)).collect()
}

/// A pointer of Git LFS in place of a file is called one, not a file with an error in its first
/// line.
fn refuse_pointer(path: &Path) -> Result<()> {
    const BEGIN_BYTES: u64 = 1024;
    let mut begin = Vec::new();
    let read = open_regular(path)?.take(BEGIN_BYTES).read_to_end(&mut begin);
    read.context_at("cannot read the file", path)?;
    if lfs_pointer(&begin) { Err(lfs_refusal(path)) } else { Ok(()) }
}

/// Reads the weights of a base model once and refuses those that are not finite, as loading them
/// would; says so where they are too many to be read for it.
pub fn look_through(base: &Path, observer: &mut dyn Observer) -> Result<()> {
    let Inspected { headers, .. } = inspect(base)?;
    match headers.bytes() {
        0..=LOOKED_THROUGH_BYTES => headers.refuse_not_finite(),
        size => {
            observer.on(Event::Note(format!(
                "{} of weights were not looked through for NaN: `train` does, as it loads them, \
                 and `firebrand doctor --weights {}` does at any time",
                bytes(size),
                base.display()
            )));
            Ok(())
        }
    }
}

/// Prompts must be ones that the model can be asked.
fn check_prompts(
    prompts: &[String],
    codec: &crate::data::Codec,
    description: &Description,
) -> Result<()> {
    for (number, prompt) in prompts.iter().enumerate() {
        let of = |error: Error| error.because(format!("number {} of `eval.prompts`", number + 1));
        let tokens = codec.prompt(prompt).map_err(of)?;
        if tokens.is_empty() {
            return Err(of(Error::config("a prompt has no tokens")));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= description.vocabulary)
        {
            let rows = description.vocabulary;
            let what = format!("a prompt has the token {token}, the model's embedding {rows} rows");
            return Err(of(Error::config(what)));
        }
    }
    Ok(())
}

/// Whether the model has what data and settings ask of it, and room in memory.
pub(super) fn check_model(
    config: &RunConfig,
    description: &Description,
    base: &ModelDirectory,
    corpus: &Corpus,
    on_gpu: bool,
) -> Result<()> {
    check_vocabulary(corpus, description, base)?;
    if let Some(labels) = description.labels.filter(|labels| *labels > description.vocabulary) {
        let what = format!("{labels} labels are more than the model's vocabulary has tokens");
        return Err(Error::run(what).because(format!("those are {}", description.vocabulary)));
    }
    check_prompts(&config.eval.prompts, &corpus.codec, description)?;
    match config.model.init {
        Init::Random if !on_gpu => model::check_room(description),
        _ => Ok(()),
    }
}

fn check_vocabulary(
    corpus: &Corpus,
    description: &Description,
    base: &ModelDirectory,
) -> Result<()> {
    // Added tokens beyond it are usual; a text with one of them is refused.
    let vocabulary = corpus.codec.tokenizer.own_vocabulary_size();
    if vocabulary <= description.vocabulary {
        return Ok(());
    }
    Err(Error::run(format!(
        "the tokenizer has {vocabulary} tokens, but the model's embedding only {} rows",
        description.vocabulary
    ))
    .at(&base.path)
    .hint("tokenizer.json and config.json belong to different models"))
}
