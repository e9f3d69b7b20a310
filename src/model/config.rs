//! `config.json` of a model: read once, with errors that name the file and the key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::config::ScoreHead;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry, has_file, read_json_hashed};
use crate::weights::Element;

/// Largest `config.json` that is read; real ones have a few kilobytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The quantisation that some models were published in.
pub const MXFP4: &str = "mxfp4";
/// How `quantization_config` calls bitsandbytes.
const BITSANDBYTES: &str = "bitsandbytes";

/// The key that says whether the output projection is the embedding.
pub const TIED: &str = "tie_word_embeddings";

/// How the classes of transformers end that score labels.
const CLASSIFIER: &str = "ForSequenceClassification";
/// Most labels of a model.
const LABELS_MAX: usize = 1 << 16;

/// The key that names programs beside the weights.
const OWN_CODE: &str = "auto_map";

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
    /// What stands before the names of keys in errors: those of objects around this one.
    within: String,
    /// Keys that were asked for.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

/// Whether tokens see those before them alone: true where nothing is said.
const CAUSAL: &str = "is_causal";

/// A dropout of the weights of attention in training, which the model itself does without.
const ATTENTION_DROPOUT: &str = "attention_dropout";

/// Keys that change nothing of what is computed: bookkeeping, the tokenizer's, and settings of
/// programs that generate text. Those of `transformers.PreTrainedConfig` 4 and 5, and what is seen
/// in checkpoints.
const HARMLESS: &[&str] = &[
    "architectures",
    ATTENTION_DROPOUT,
    OWN_CODE,
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dual_chunk_attention_config",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_position_embeddings",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "model_type",
    "name_or_path",
    "neftune_noise_alpha",
    "no_repeat_ngram_size",
    "num_labels",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "tokenizer_model_max_length",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_flash_attention",
    "use_cache",
];

impl ModelJson {
    /// Reads `directory/config.json`.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        if !has_file(&path)? {
            return Err(Error::model("this is not a model: it has no `config.json`")
                .at(directory)
                .hint("a model directory holds config.json, tokenizer.json and safetensors"));
        }
        let (value, file) = read_json_hashed(&path, "config.json", CONFIG_BYTES_MAX)?;
        let Value::Object(mut json) = value else {
            return Err(Error::model("`config.json` is not a JSON object").at(path));
        };
        json.retain(|key, value| key != "quantization_config" || !value.is_null());
        // Which families have weights in this format, they say themselves.
        let method = json.get("quantization_config").and_then(|it| it.get("quant_method"));
        let method = method.and_then(Value::as_str);
        if json.contains_key("quantization_config") && method != Some(MXFP4) {
            // Its weights say how they are coded themselves.
            let in_four_bits = json["quantization_config"]["load_in_4bit"] == true;
            if method != Some(BITSANDBYTES) || !in_four_bits {
                return Err(Error::model("the model is quantised, which cannot be trained here")
                    .at(path)
                    .hint("use the unquantised version of the model"));
            }
            json.remove("quantization_config");
        }
        Ok(Self { json, file, untied: false, path, within: String::new(), asked: Arc::default() })
    }

    /// From a value in memory, for tests.
    pub fn from_value(json: Value) -> Self {
        let Value::Object(json) = json else { panic!("a model's config is a JSON object") };
        let text = Value::Object(json.clone()).to_string();
        let (size, sha256) = (text.len() as u64, Digest::of(text.as_bytes()));
        let file = FileEntry { path: "config.json".to_owned(), size, sha256 };
        let path = PathBuf::from("config.json");
        Self { json, file, untied: false, path, within: String::new(), asked: Arc::default() }
    }

    /// Takes the output projection for a weight of its own, whatever the file says.
    pub fn untie(&mut self) {
        self.json.insert(TIED.to_owned(), Value::Bool(false));
        self.untied = true;
    }

    /// How many labels the model scores, where it is one that does.
    ///
    /// # Errors
    /// When the labels are not an object.
    pub fn labels(&self) -> Result<Option<usize>> {
        let architecture = self.json.get("architectures").and_then(|names| names[0].as_str());
        if !architecture.is_some_and(|name| name.ends_with(CLASSIFIER)) {
            return Ok(None);
        }
        match self.json.get("id2label") {
            None | Some(Value::Null) => Ok(Some(self.size("num_labels", LABELS_MAX).unwrap_or(2))),
            Some(Value::Object(labels)) if (1..=LABELS_MAX).contains(&labels.len()) => {
                Ok(Some(labels.len()))
            }
            Some(_) => {
                let what = format!("must be an object with 1 to {LABELS_MAX} labels");
                Err(self.wrong("id2label", &what))
            }
        }
    }

    /// Makes it one of a model that scores so many labels.
    ///
    /// # Errors
    /// When it is one that scores others, or holds more than a text model.
    pub fn score(&mut self, labels: usize) -> Result<()> {
        match self.labels()? {
            Some(own) if own == labels => return Ok(()),
            Some(own) => {
                let what = format!("names {own} labels, and {labels} are to be scored");
                return Err(self.wrong("id2label", &what).hint(
                    "take the labels that the model has, or a base that has no head for labels",
                ));
            }
            None => {}
        }
        let names = (0..labels).map(|number| (number.to_string(), ScoreHead::generic(number)));
        let names: Map<String, Value> = names.map(|(id, name)| (id, name.into())).collect();
        self.json.insert("architectures".to_owned(), json!([self.classifier()]));
        self.json.insert("id2label".to_owned(), names.into());
        Ok(())
    }

    /// The class of transformers that scores labels with the same layers.
    pub fn classifier(&self) -> String {
        let architecture = self.json.get("architectures").and_then(|names| names[0].as_str());
        let family = architecture.and_then(|name| name.rsplit_once("For")).map(|(name, _)| name);
        format!("{}{CLASSIFIER}", family.unwrap_or_default())
    }

    /// Whether the file says that the output projection is the embedding, or the default of the
    /// family where it is silent.
    pub fn tied(&self, default: bool) -> Result<bool> {
        self.flag(TIED, default)
    }

    /// An error about one key.
    pub fn wrong(&self, key: &str, what: &str) -> Error {
        Error::model(format!("`{}{key}` {what}", self.within)).at(&self.path)
    }

    /// The object under a key as a configuration of its own, with defaults of what it is silent
    /// about.
    ///
    /// # Errors
    /// When it is none.
    pub fn nested(&self, key: &str, defaults: &Value) -> Result<Self> {
        let Some(Value::Object(inner)) = self.get(key) else {
            return Err(self.wrong(key, "must be an object"));
        };
        let mut json = defaults.as_object().cloned().unwrap_or_default();
        json.extend(inner.clone());
        let within = format!("{}{key}.", self.within);
        Ok(Self { json, within, asked: Arc::default(), ..self.clone() })
    }

    /// The value of a key; null is as good as none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// Refuses options that nothing asked for: what they ask of a model would be ignored.
    ///
    /// # Errors
    /// Names the first one that is neither harmless nor off.
    pub fn refuse_unknown(&self) -> Result<()> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let harmless = |key: &String| {
            HARMLESS.contains(&key.as_str()) || key.starts_with('_') || key.contains(".js")
        };
        if self.json.get(CAUSAL) == Some(&Value::Bool(false)) {
            return Err(self
                .wrong(CAUSAL, "is false: tokens of this model see those after them")
                .because("attention here is causal, and another model would be trained")
                .hint("embedding models are so; take the language model that they come from"));
        }
        let unknown = |(key, value): &(&String, &Value)| {
            !(asked.contains(*key) || harmless(key) || is_off(value) || is_usual(key, value))
        };
        match self.json.iter().find(unknown) {
            None => Ok(()),
            Some((key, value)) => {
                let family = self.json.get("model_type").and_then(Value::as_str).unwrap_or("");
                let what = format!("asks for something that models of `{family}` here do not have");
                Err(self.wrong(key, &what).because(format!("it is {value}")).hint(
                    "a model that ignored it would compute something else than was trained; if the \
                     option means nothing, remove it from `config.json`",
                ))
            }
        }
    }

    /// The family's name.
    pub fn model_type(&self) -> Result<&str> {
        self.get("model_type")
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong("model_type", "is missing"))
    }

    /// A size between 1 and `max`.
    pub fn size(&self, key: &str, max: usize) -> Result<usize> {
        self.optional_size(key, max)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// A size, or `None` where it is absent or null.
    pub fn optional_size(&self, key: &str, max: usize) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(None),
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
        self.get(key); // it is asked for
        Self::positive_in(&self.json, key, Some(default)).map_err(|error| error.at(&self.path))
    }

    /// The same, in a nested object.
    pub fn positive_in(map: &Map<String, Value>, key: &str, default: Option<f64>) -> Result<f64> {
        let value = match (map.get(key), default) {
            (None | Some(Value::Null), Some(default)) => return Ok(default),
            (None | Some(Value::Null), None) => {
                return Err(Error::model(format!("`{key}` is missing")));
            }
            (Some(value), _) => value,
        };
        #[expect(clippy::cast_possible_truncation)] // models compute in f32
        let usable = |number: &f64| (*number as f32).is_finite() && *number as f32 > 0.0;
        value.as_f64().filter(usable).ok_or_else(|| {
            Error::model(format!("`{key}` must be a number above 0, within 32 bits"))
        })
    }

    /// A flag, or the default.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "must be true or false")),
        }
    }

    /// What it names of programs that would compute the model: they are never run.
    pub fn own_code(&self) -> Option<&Value> {
        self.json.get(OWN_CODE).filter(|map| !map.is_null())
    }

    /// What a user should know of such programs, where the family is one that there is.
    pub fn own_code_note(&self) -> Option<String> {
        let family = self.model_type().ok()?;
        self.own_code().map(|_| {
            format!(
                "`config.json` names a program of the model's own (`{OWN_CODE}`): it is ignored, \
                 and the model is computed as one of the family `{family}`"
            )
        })
    }

    /// What a user should know of a dropout that belongs to the model's own training.
    pub fn dropout_note(&self) -> Option<String> {
        let share = self.json.get(ATTENTION_DROPOUT)?.as_f64().filter(|share| *share > 0.0)?;
        Some(format!(
            "`config.json` has `{ATTENTION_DROPOUT}` {share}: weights of attention are not dropped \
             in training here; `lora_dropout` drops inputs of adapters"
        ))
    }

    /// The number format of the weights.
    pub fn element(&self) -> Element {
        let named = |key| self.json.get(key).and_then(Value::as_str);
        let name = named("dtype").or_else(|| named("torch_dtype"));
        name.and_then(Element::from_config).unwrap_or(Element::F32)
    }
}

/// Whether an option says what every model does that has no such option.
fn is_usual(key: &str, value: &Value) -> bool {
    match (key, value) {
        (CAUSAL, Value::Bool(true)) => true,
        ("layer_types", Value::Array(list)) => list.iter().all(|kind| kind == "full_attention"),
        _ => false,
    }
}

/// Whether a value means that an option is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
