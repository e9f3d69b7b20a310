//! JSON files: requests for code, keys that stand twice, shards elsewhere, Keras models.

use super::Folder;
use super::facts::facts;
use super::report::Report;
use super::rules::{JSON_TWICE, KERAS_LAMBDA, PATH_TRICK, REMOTE_CODE};
use super::sample::Sample;
use super::{kinds, pickle, tokenizer};
use crate::hub::path_fault;

/// Larger JSON files are not looked into; the largest tokenizers have about 35 MB.
const MAX_JSON: usize = 64 << 20;
/// How many characters of a name of code are shown.
const MAX_NAME: usize = 80;

/// Looks at a JSON file; what concerns other files is kept for later.
pub(super) fn look(sample: &Sample, folder: &mut Folder, report: &mut Report) {
    let is_other = kinds::kind(&sample.head).is_some()
        || sample.is_safetensors()
        || pickle::recognise(&sample.head, false).is_some();
    if sample.extension() != "json" || is_other {
        return;
    }
    let name = &sample.name;
    let bytes = match sample.whole(MAX_JSON) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return report.unread(name, format!("it has more than {MAX_JSON} bytes")),
        Err(error) => return report.unread(name, error),
    };
    let (facts, result) = facts(&bytes);
    if let Err(error) = result {
        report.unread(name, format!("it is not valid JSON: {error}"));
    }
    for key in &facts.twice {
        report.add(&JSON_TWICE, name, format!("the key `{key}` appears twice in one object"));
    }
    if let Some(code) = facts.auto_map.first() {
        let code: String = code.chars().take(MAX_NAME).collect();
        report.add(&REMOTE_CODE, name, format!("`auto_map` names `{code}`"));
    }
    if facts.trusts_code {
        report.add(&REMOTE_CODE, name, "it switches `trust_remote_code` on");
    }
    if facts.lambda {
        report.add(&KERAS_LAMBDA, name, "it describes a Lambda layer");
    }
    let mut shards: Vec<String> = facts.shards.into_iter().collect();
    shards.sort();
    for shard in &shards {
        if let Some(fault) = path_fault(shard) {
            report.add(&PATH_TRICK, name, format!("it names the file `{shard}`: {fault}"));
        }
    }
    let here = folder.directory(name);
    here.shards.extend(shards.into_iter().map(|shard| (name.clone(), shard)));
    here.code.extend(facts.auto_map);
    here.templates.extend(facts.templates.into_iter().map(|text| (name.clone(), text)));
    match sample.file_name().as_str() {
        "config.json" => here.vocabulary = facts.vocabulary,
        "tokenizer.json" => here.largest_id = tokenizer::look(name, &bytes, report),
        _ => {}
    }
}
