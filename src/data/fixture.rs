//! What the tests of this module share: the small tokenizer of the repository, and settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::Codec;
use super::corpus::{Corpus, Extent, open};
use super::formats::{Content, Conversation};
use super::sources;
use super::tokens::BaseTokenizer;
use crate::config::{DataConfig, DataSetConfig, Overlong, TrainOn, ValSize};
use crate::error::Result;
use crate::event::Silence;
use crate::hub::{Policy, Supply};

/// The model directory with the small tokenizer.
pub fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

/// Its tokenizer and template.
pub fn codec() -> Codec {
    Codec::load(&model_dir(), None).unwrap()
}

/// Its tokenizer with another template.
pub fn codec_with(template: &str) -> Codec {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.jinja");
    std::fs::write(&path, template).unwrap();
    Codec::load(&model_dir(), Some(&path)).unwrap()
}

/// A copy of the model directory, to change.
pub fn copy_of_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(model_dir().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Settings for these training files.
pub fn config(train: &[&Path]) -> DataConfig {
    DataConfig {
        no_pairs: Some(String::new()),
        whole_pairs: false,
        labels: false,
        score_head: None,
        prompts: false,
        train: train.iter().map(|path| DataSetConfig::new(path.to_str().unwrap())).collect(),
        validation: Vec::new(),
        val_size: ValSize::None,
        retracted: Vec::new(),
        max_seq_len: 64,
        packing: true,
        shuffle: true,
        order: None,
        mixing_temperature: 1.0,
        sample_weight: None,
        margin: None,
        overlong: Overlong::Truncate,
        train_on: TrainOn::Assistant,
        chat_template: None,
        template_args: std::collections::BTreeMap::new(),
        on_unused: None,
        max_bad_rows: 0,
        deduplicate: false,
        window_rows: 16_000,
        window_bytes: 64 << 20,
        prefetch_windows: 1,
        survey_below: 64 << 20,
        cache_limit: None,
    }
}

/// Files of this machine only.
pub fn supply(cache: &Path) -> Arc<Supply> {
    let policy = Policy { offline: true, extensions: sources::extensions(), ..Policy::default() };
    Arc::new(Supply::new(policy, Arc::new(Silence), Arc::new(|| false), cache))
}

/// Opens the data of a configuration, all of it, with a cache of its own.
pub fn open_with(config: &DataConfig, model_dir: &Path) -> Result<Corpus> {
    let cache = tempfile::tempdir().unwrap();
    let tokenizer = BaseTokenizer::plain(model_dir);
    let corpus =
        open(config, tokenizer, &supply(cache.path()), cache.path(), Extent::Everything, 0)?;
    let _ = cache.keep(); // read by the corpus for as long as it lives
    Ok(corpus)
}

/// Writes a file of records.
pub fn write(folder: &Path, name: &str, lines: impl IntoIterator<Item = String>) -> PathBuf {
    let path = folder.join(name);
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    std::fs::write(&path, text).unwrap();
    path
}

/// Two questions with their answers.
pub fn two_answers() -> Content {
    let turn = |role: &str, content: &str| serde_json::json!({ "role": role, "content": content });
    let messages = [
        turn("user", "What is two and two?"),
        turn("assistant", "It is 4."),
        turn("user", "And three?"),
        turn("assistant", "It is 6."),
    ];
    Content::Chat(Conversation { messages: messages.into(), ..Conversation::default() })
}
