//! What tests of things that are trained and saved beside an adapter share.

use std::collections::BTreeMap;
use std::path::Path;

use firebrand::weights::{OwnedTensor, read_tensors, to_f32};

use super::{Run, model_config, weights_digest};

/// A folder with a base whose output head is not its embedding.
pub fn untied() -> Run {
    with_config("tie_word_embeddings", false.into())
}

/// A folder with a base of which one setting is another.
pub fn with_config(key: &str, value: serde_json::Value) -> Run {
    let run = Run::new();
    let mut config = model_config();
    config[key] = value;
    run.model_folder("base", &config);
    run.with_base()
}

/// The tensors of a file.
pub fn tensors(run: &Run, folder: &str, file: &str) -> BTreeMap<String, OwnedTensor> {
    read_tensors(&run.path(folder), file).unwrap().0
}

/// The numbers of one of them.
pub fn numbers(all: &BTreeMap<String, OwnedTensor>, name: &str) -> Vec<f32> {
    to_f32(all[name].element, &all[name].bytes)
}

/// The likeliest continuation of a question of the data.
pub fn likeliest(run: &Run, model: &str) -> String {
    run.succeeds(&["generate", model, "--prompt", "What is 3 plus 4?", "--temperature", "0"])
}

/// Trains `straight` in one go and `often` with stops, to the same bytes; `train` makes a command
/// of a name and of more arguments. A checkpoint is used as it stands meanwhile.
pub fn goes_on_to_the_same_bytes<'a>(
    run: &Run,
    names: [&'a str; 2],
    train: impl Fn(&'a str, &[&'a str]) -> Vec<&'a str>,
) {
    let [straight, often] = names;
    run.succeeds(&train(straight, &[]));
    for steps in ["1", "2"] {
        run.succeeds(&train(often, &["--stop-after-steps", steps]));
    }
    let folders = names.map(|name| Path::new("checkpoints").join(name.trim_start_matches("name=")));
    let newest = folders[1].to_str().unwrap();
    run.succeeds(&["generate", newest, "--prompt", "What?", "--max-tokens", "4"]);
    run.succeeds(&train(often, &[]));
    let [straight, often] =
        folders.map(|folder| weights_digest(&run.path(folder.join("artifact").to_str().unwrap())));
    assert_eq!(often, straight);
}
