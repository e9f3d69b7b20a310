//! Decision models of transformers (`JevForDecision`, as 5.24 has it): a classifier that says, by
//! `decide` and the pipeline `decision`, which of its labels a text has.
//!
//! The model is that of `merge` under the names of another class: `AutoModel` as `model`, and the
//! head as `proj`, which has a bias there. `decision.json` has the labels and the temperature,
//! `decision_template.jinja` what is read of a request.

mod template;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Contents, Export, Source, Written};
use crate::artifact::bundle;
use crate::artifact::card::DECISION_FILE as DECISION;
use crate::artifact::merge::Weights;
use crate::artifact::merged::percent;
use crate::artifact::rewrite::{Renaming, Rewritten, Rounding, write_renamed};
use crate::artifact::score_head;
use crate::config::ScoreHead;
use crate::error::{Error, Result};
use crate::files::{has_file, write_synced};
use crate::model::{CheckpointNames, LM_HEAD, SCORE, families};
use crate::weights::{Element, INDEX_FILE, OwnedTensor, ShardStream};

/// The format.
pub struct Jev;

/// What its weights are, as `merge --dtype` says it.
const TYPES: [&str; 4] = ["base", "f32", "bf16", "f16"];
/// What writes out a request.
const TEMPLATE: &str = "decision_template.jinja";
/// The head there.
const HEAD: &str = "proj.weight";
/// The bias of the head, which ours lacks.
const BIAS: &str = "proj.bias";
/// What transformers takes out of each request.
const TAKEN_OUT: [&str; 2] = ["<|mark|>", "<|split|>"];
/// The class that takes a tokenizer for what `tokenizer.json` says.
const TOKENIZER_CLASS: &str = "TokenizersBackend";
/// Names of two labels that are the answers to a question, no and yes.
const NO_AND_YES: [[&str; 2]; 3] = [["false", "true"], ["no", "yes"], ["0", "1"]];
/// Rounding of less of the adapter's change is not told.
const ROUNDING_TOLD: f64 = 0.05;

impl Export for Jev {
    fn name(&self) -> &'static str {
        "jev"
    }

    fn types(&self) -> &'static [&'static str] {
        &TYPES
    }

    fn contents(&self) -> Contents {
        Contents::Classifier(write)
    }
}

fn write(source: &Source, weights: Weights, target: &Path) -> Result<Written> {
    let head = source.head.as_ref().expect("a format of classifiers is handed nothing else");
    if source.config.json.contains_key("quantization_config") {
        let what = "a base with quantised weights cannot be written as a decision model";
        return Err(Error::export(what)
            .at(&source.origin.base.path)
            .because("transformers would look for its settings where the model has none")
            .hint("name the same model in bfloat16 with `--base DIR`"));
    }
    let element = Element::from_option(source.number);
    let yes = noul_options(&head.labels);
    let template = check_labels(&head.labels)
        .and_then(|()| {
            template::write(&source.codec, source.template_args, &head.labels, yes.is_some())
        })
        .map_err(|error| error.at(&source.origin.model.path))?;
    let zeros = vec![0.0; head.labels.len()];
    let bias = OwnedTensor {
        element: Element::F32,
        shape: vec![zeros.len()],
        bytes: Element::F32.encode(&zeros),
    };
    let renaming =
        Renaming { name: &|name| name_there(source.names, name), behind_head: (BIAS, bias) };
    let format = element.map(|element| (element, source.names));
    let written = write_renamed(weights, target, format, &renaming)?;
    if has_file(&source.files.join(INDEX_FILE))? {
        write_index(target, &written)?;
    }
    bundle::write_json(&target.join("config.json"), &config(source, head, element)?)?;
    bundle::write_json(&target.join(DECISION), &decision(head, yes))?;
    write_synced(&target.join(TEMPLATE), template.as_bytes())?;
    write_rest(source.files, target)?;
    let notes = notes(&written.rounding, written.element, yes.is_some());
    Ok(Written { file: DECISION.to_owned(), base_files: written.base_files, binding: None, notes })
}

/// What a tensor is called there; nothing where there is no place for it.
fn name_there(names: CheckpointNames, name: &str) -> Option<String> {
    match names.path_of(name) {
        Some(path) if path == SCORE => Some(HEAD.to_owned()),
        Some(path) => (path != LM_HEAD).then_some(path),
        // Keys and values that no layer uses have a place there all the same.
        None => name.starts_with(&format!("{}.", names.layers)).then(|| name.to_owned()),
    }
}

/// The index of the files, by what they hold.
fn write_index(target: &Path, written: &Rewritten) -> Result<()> {
    let shards = written.base_files.iter().filter(|file| file.path.ends_with(".safetensors"));
    let mut map = Map::new();
    for file in shards {
        // Of a file that held nothing but what has no place there, none was written.
        if !has_file(&target.join(&file.path))? {
            continue;
        }
        let shard = ShardStream::open(target, &file.path)?;
        let names = shard.places().iter().map(|place| place.name.clone());
        map.extend(names.map(|name| (name, Value::from(file.path.as_str()))));
    }
    let index = json!({ "metadata": { "total_size": written.bytes }, "weight_map": map });
    bundle::write_json(&target.join(INDEX_FILE), &index)
}

/// `config.json`: that of the base within that of the decision model.
fn config(source: &Source, head: &ScoreHead, element: Option<Element>) -> Result<Value> {
    let mut base = source.config.json.clone();
    let key = ["dtype", "torch_dtype"].into_iter().find(|key| base.contains_key(*key));
    let dtype = match element {
        Some(element) => element.config_name().into(),
        None => key.map_or(Value::Null, |key| base[key].clone()),
    };
    base.insert(key.unwrap_or("dtype").to_owned(), dtype.clone());
    Ok(json!({
        "architectures": ["JevForDecision"],
        "dtype": dtype,
        "hidden_size": families::describe(&source.config)?.hidden,
        "model_type": "jev",
        "num_verbalizers": head.labels.len(),
        // Every question is answered by the labels from the first one on.
        "offsets": { "noul": 0, "score": 0, "choice": 0 },
        "softcap": null,
        "text_config": base,
    }))
}

/// `decision.json`. Tokens of a text stay what they are in training, also where they are special.
fn decision(head: &ScoreHead, yes: Option<[&str; 2]>) -> Value {
    let mut labels = Map::from_iter([("choice".to_owned(), json!(head.labels))]);
    let mut temperature = Map::from_iter([("choice".to_owned(), head.temperature.into())]);
    if yes.is_some() {
        labels.insert("noul".to_owned(), json!(head.labels));
        temperature.insert("noul".to_owned(), head.temperature.into());
    }
    json!({
        "labels": labels,
        "temperature": temperature,
        "noul_options": yes.unwrap_or(["true", "false"]),
        "sanitize_control_tokens": false,
    })
}

/// Refuses labels that no question can have as its options.
fn check_labels(labels: &[String]) -> Result<()> {
    let wrong = |label: &str, why: String| {
        let what = format!("no question of a decision model can have the option `{label}`");
        Err(Error::export(what).because(why))
    };
    let mut seen = BTreeSet::new();
    for label in labels {
        if let Some(token) = TAKEN_OUT.into_iter().find(|token| label.contains(token)) {
            return wrong(label, format!("transformers takes `{token}` out of it"));
        }
        if !seen.insert(label) {
            return wrong(label, "two labels have this name".to_owned());
        }
    }
    Ok(())
}

/// What the labels are to a question of the type `noul`, in their order; nothing where they are no
/// answers to one.
fn noul_options(labels: &[String]) -> Option<[&'static str; 2]> {
    let [first, second] = labels else { return None };
    let of_labels = [first.to_lowercase(), second.to_lowercase()];
    NO_AND_YES.into_iter().find_map(|[no, yes]| match of_labels.each_ref().map(String::as_str) {
        [first, second] if [first, second] == [no, yes] => Some(["false", "true"]),
        [first, second] if [first, second] == [yes, no] => Some(["true", "false"]),
        _ => None,
    })
}

/// What goes along with the model. Classes of tokenizers are chosen by families, of which this is
/// none.
fn write_rest(files: &Path, target: &Path) -> Result<()> {
    bundle::copy_sidecars(files, target, false)?;
    score_head::copy(files, target)?;
    let tokenizer = target.join("tokenizer_config.json");
    match has_file(&tokenizer)? {
        true => bundle::change_json(&tokenizer, |json| {
            json["tokenizer_class"] = TOKENIZER_CLASS.into();
        }),
        false => Ok(()),
    }
}

/// What a user should know.
fn notes(rounding: &Rounding, element: Option<Element>, yes: bool) -> Vec<String> {
    let asked = format!(
        "it answers questions of the type `choice`, whose options are the labels in the order of \
         `labels.choice` in `{DECISION}`{}",
        if yes { ", and `noul`" } else { "" }
    );
    let lost = rounding.kept().map(|kept| 1.0 - kept).filter(|lost| *lost > ROUNDING_TOLD);
    let lost = lost.zip(element).map(|(lost, element)| {
        let (lost, element) = (percent(lost), element.name());
        format!(
            "rounding to {element} took {lost} of the adapter's change to the weights; \
             `--type f32` keeps it"
        )
    });
    std::iter::once(asked).chain(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn two_labels_that_say_yes_and_no_answer_a_question() {
        let found = |labels: [&str; 2]| noul_options(&labels.map(str::to_owned));
        assert_eq!(found(["no", "yes"]), Some(["false", "true"]));
        assert_eq!(found(["True", "False"]), Some(["true", "false"]));
        assert_eq!(found(["0", "1"]), Some(["false", "true"]));
        assert_eq!(found(["no", "true"]), None);
        assert_eq!(found(["large", "small"]), None);
        assert_eq!(noul_options(&["no".to_owned()]), None);
    }

    #[test]
    fn labels_that_cannot_be_asked_for_are_refused() {
        let check = |labels: &[&str]| {
            check_labels(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>())
        };
        check(&["a", "A", "", "|mark|"]).unwrap();
        says(
            check(&["a", "b", "a"]).unwrap_err(),
            snapbox::str![[r#"
error[export]: no question of a decision model can have the option `a`
  because two labels have this name
"#]],
        );
        says(
            check(&["a", "<|mark|>b"]).unwrap_err(),
            snapbox::str![[r#"
error[export]: no question of a decision model can have the option `<|mark|>b`
  because transformers takes `<|mark|>` out of it
"#]],
        );
        says(
            check(&["a<|split|>"]).unwrap_err(),
            snapbox::str![[r#"
error[export]: no question of a decision model can have the option `a<|split|>`
  because transformers takes `<|split|>` out of it
"#]],
        );
    }

    #[test]
    fn tensors_have_the_names_of_the_other_class() {
        let names = CheckpointNames { keys_end: Some(1), ..CheckpointNames::USUAL };
        let names = names.beside(&["mtp"]);
        for (name, there) in [
            ("model.embed_tokens.weight", Some("model.embed_tokens.weight")),
            (
                "model.layers.1.self_attn.k_proj.weight",
                Some("model.layers.1.self_attn.k_proj.weight"),
            ),
            ("score.weight", Some("proj.weight")),
            ("lm_head.weight", None),
            ("mtp.norm.weight", None),
        ] {
            assert_eq!(name_there(names, name).as_deref(), there, "{name}");
        }
    }
}
