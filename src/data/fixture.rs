//! What the tests of this module share: the small tokenizer of the repository, and settings.

use std::path::{Path, PathBuf};

use super::codec::Codec;
use crate::config::{DataConfig, DataSetConfig, FormatChoice, Overlong, TrainOn, ValSize};

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
    let set = |path: &&Path| DataSetConfig {
        path: path.to_str().unwrap().to_owned(),
        format: FormatChoice::Auto,
    };
    DataConfig {
        train: train.iter().map(set).collect(),
        validation: Vec::new(),
        val_size: ValSize::None,
        max_seq_len: 64,
        packing: true,
        shuffle: true,
        overlong: Overlong::Truncate,
        train_on: TrainOn::Assistant,
        chat_template: None,
        max_bad_rows: 0,
        window_rows: 16_000,
    }
}

/// Writes a file of records.
pub fn write(folder: &Path, name: &str, lines: impl IntoIterator<Item = String>) -> PathBuf {
    let path = folder.join(name);
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    std::fs::write(&path, text).unwrap();
    path
}
