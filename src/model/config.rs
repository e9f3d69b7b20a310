//! `config.json` of a model: read once, with errors that name the file and the key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry, read_json_hashed};
use crate::ops::RopeScaling;
use crate::weights::Element;

/// Largest `config.json` that is read; real ones have a few kilobytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The key that says whether the output projection is the embedding.
pub const TIED: &str = "tie_word_embeddings";

/// A parsed `config.json`.
#[derive(Debug, Clone)]
pub struct ModelJson {
    /// The whole object.
    pub json: Map<String, Value>,
    /// Name, size and digest of the bytes that it was read from.
    pub file: FileEntry,
    /// Whether the weights hold an output projection of their own where the file says that it is
    /// the embedding.
    pub untied: bool,
    path: PathBuf,
}

/// Sizes that estimates, exports and checks need.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// `model_type` in `config.json`.
    pub model_type: String,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / groups` queries.
    pub groups: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Width of the gated layer.
    pub intermediate: usize,
    /// Longest position seen in training.
    pub positions_max: usize,
    /// Added to the mean square in norms.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
    /// Is the output projection the embedding?
    pub tied: bool,
    /// All weights.
    pub parameters: u64,
    /// Every linear layer of the decoder layers: module path and `[out, in]`.
    pub linears: Vec<(String, [usize; 2])>,
    /// Number format that `config.json` names, in which full models are written.
    pub element: Element,
}

impl ModelJson {
    /// Reads `directory/config.json`; a model that brings its own code is refused.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        if !path.exists() {
            return Err(Error::new("this is not a model: it has no `config.json`")
                .at(directory)
                .hint("a model directory holds config.json, tokenizer.json and safetensors"));
        }
        let (value, file) = read_json_hashed(&path, "config.json", CONFIG_BYTES_MAX)?;
        let Value::Object(json) = value else {
            return Err(Error::new("`config.json` is not a JSON object").at(path));
        };
        if json.contains_key("auto_map") {
            return Err(Error::new(
                "the model needs its own code (`auto_map`), which is never run",
            )
            .at(path));
        }
        if json.contains_key("quantization_config") {
            return Err(Error::new("the model is quantised, which cannot be trained here")
                .at(path)
                .hint("use the unquantised version of the model"));
        }
        Ok(Self { json, file, untied: false, path })
    }

    /// From a value in memory, for tests.
    pub fn from_value(json: Value) -> Self {
        let Value::Object(json) = json else { panic!("a model's config is a JSON object") };
        let text = Value::Object(json.clone()).to_string();
        let (size, sha256) = (text.len() as u64, Digest::of(text.as_bytes()));
        let file = FileEntry { path: "config.json".to_owned(), size, sha256 };
        Self { json, file, untied: false, path: PathBuf::from("config.json") }
    }

    /// Takes the output projection for a weight of its own, whatever the file says.
    pub fn untie(&mut self) {
        self.json.insert(TIED.to_owned(), Value::Bool(false));
        self.untied = true;
    }

    /// Whether the file says that the output projection is the embedding.
    pub fn tied(&self) -> Result<bool> {
        self.flag(TIED, false)
    }

    /// An error about one key.
    pub fn wrong(&self, key: &str, what: &str) -> Error {
        Error::new(format!("`{key}` {what}")).at(&self.path)
    }

    /// The family's name.
    pub fn model_type(&self) -> Result<&str> {
        self.json
            .get("model_type")
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong("model_type", "is missing"))
    }

    /// A size between 1 and `max`.
    pub fn size(&self, key: &str, max: usize) -> Result<usize> {
        self.optional_size(key, max)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// A size, or `None` where it is absent or null.
    pub fn optional_size(&self, key: &str, max: usize) -> Result<Option<usize>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                match number.filter(|number| (1..=max).contains(number)) {
                    Some(number) => Ok(Some(number)),
                    None => Err(self.wrong(key, &format!("must be between 1 and {max}"))),
                }
            }
        }
    }

    /// A finite number above zero, or the default.
    pub fn positive(&self, key: &str, default: f64) -> Result<f64> {
        Self::positive_in(&self.json, key, Some(default)).map_err(|error| error.at(&self.path))
    }

    /// The same, in a nested object.
    pub fn positive_in(map: &Map<String, Value>, key: &str, default: Option<f64>) -> Result<f64> {
        let value = match (map.get(key), default) {
            (None | Some(Value::Null), Some(default)) => return Ok(default),
            (None | Some(Value::Null), None) => {
                return Err(Error::new(format!("`{key}` is missing")));
            }
            (Some(value), _) => value,
        };
        #[expect(clippy::cast_possible_truncation)] // models compute in f32
        let usable = |number: &f64| (*number as f32).is_finite() && *number as f32 > 0.0;
        value
            .as_f64()
            .filter(usable)
            .ok_or_else(|| Error::new(format!("`{key}` must be a number above 0, within 32 bits")))
    }

    /// A flag, or the default.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "must be true or false")),
        }
    }

    /// The number format of the weights.
    pub fn element(&self) -> Element {
        let name = self.json.get("dtype").or_else(|| self.json.get("torch_dtype"));
        name.and_then(Value::as_str).and_then(Element::from_config).unwrap_or(Element::F32)
    }
}
