//! Where generation ends: what a run has trained to end an answer, beside what the base names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Context, Result};
use crate::files::{has_file, read_json, write_synced};

const FILE: &str = "generation_config.json";
/// Configuration files of more bytes are refused.
const MAX_FILE: u64 = 16 << 20;
/// What `generation_config.json` takes over from `config.json` where a model has only the latter.
const IDS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// Adds tokens to `eos_token_id` of the `generation_config.json` in `target`, which is made of the
/// base model's `config.json` where there is none. A file that names them all is left as it is.
pub fn add(base: &Path, target: &Path, ends: &BTreeSet<u32>) -> Result<()> {
    let path = target.join(FILE);
    let there = has_file(&path)?;
    let mut config = match there {
        true => object(&path)?,
        false => {
            let ids = object(&base.join("config.json"))?;
            ids.into_iter().filter(|(name, _)| IDS.contains(&name.as_str())).collect()
        }
    };
    let mut stops = match config.get("eos_token_id") {
        Some(Value::Array(list)) => list.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(one) => vec![one.clone()],
    };
    let missing = ends.iter().map(|id| Value::from(*id)).filter(|id| !stops.contains(id));
    let missing: Vec<Value> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    stops.extend(missing);
    let stops = if stops.len() == 1 { stops.remove(0) } else { Value::Array(stops) };
    config.insert("eos_token_id".to_owned(), stops);
    if there {
        fs::remove_file(&path).context_at("cannot replace the file", &path)?;
    }
    let text = serde_json::to_string_pretty(&config).context("cannot encode the file")?;
    write_synced(&path, format!("{text}\n").as_bytes())
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    match read_json(path, MAX_FILE)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a file, or of a model without it.
    fn added(generation: Option<&str>, model: &str, ends: &[u32]) -> Option<String> {
        let (base, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(base.path().join("config.json"), model).unwrap();
        if let Some(text) = generation {
            fs::write(target.path().join(FILE), text).unwrap();
        }
        add(base.path(), target.path(), &ends.iter().copied().collect()).unwrap();
        fs::read_to_string(target.path().join(FILE)).ok()
    }

    #[test]
    fn what_is_named_stays_and_what_was_trained_is_added() {
        let ids = |text: Option<String>| -> Value {
            serde_json::from_str::<Value>(&text.unwrap()).unwrap()["eos_token_id"].clone()
        };
        let one = Some(r#"{"bos_token_id": 0, "eos_token_id": 0, "top_p": 0.9}"#);
        assert_eq!(ids(added(one, "{}", &[2])), serde_json::json!([0, 2]));
        assert!(added(one, "{}", &[2]).unwrap().contains("\"top_p\": 0.9"));
        let list = Some("{\"eos_token_id\":[2,0]}");
        assert_eq!(added(list, "{}", &[0, 2]).as_deref(), list, "not one byte is changed");
        assert_eq!(ids(added(list, "{}", &[7])), serde_json::json!([2, 0, 7]));
        assert_eq!(ids(added(Some("{}"), "{}", &[7])), serde_json::json!(7));
    }

    #[test]
    fn a_model_without_the_file_gets_one_if_it_needs_it() {
        let model = r#"{"model_type": "llama", "eos_token_id": 3, "bos_token_id": 1}"#;
        assert_eq!(added(None, model, &[3]), None);
        let made: Value = serde_json::from_str(&added(None, model, &[2]).unwrap()).unwrap();
        assert_eq!(made, serde_json::json!({"eos_token_id": [3, 2], "bos_token_id": 1}));
    }
}
