//! `firebrand classify`

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::answering::ModelArgs;
use crate::cli::data_json;
use crate::config::{ProblemType, ScoreHead};
use crate::data::Codec;
use crate::error::{Context, Error, Result};
use crate::evaluation::label_scores::{probabilities, scores, unlabelled};

/// Score texts by a model that was trained with `train.objective = "classification"` or `"reward"`
///
/// Every line of the input is a text; with `--jsonl` it is an object with `text`, or with
/// `messages`, which the chat template writes out. For every line a JSON object is printed: the
/// object or the text, the `label` or the `labels` that the model finds, and the `probabilities` of
/// all; of a regression or a reward the `scores`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The file with the texts; `-` reads them from stdin
    #[arg(value_name = "FILE", default_value = "-")]
    texts: PathBuf,
    /// Each line is a JSON object: `{"text": TEXT}` or `{"messages": [...]}`
    #[arg(long)]
    jsonl: bool,
    /// Texts that are scored at the same time
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
}

/// Tokens of a row in which several short texts are scored.
const ROW_TOKENS: usize = 1024;

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.batch_size == 0 {
        return Err(Error::usage("`--batch-size` must be 1 or above"));
    }
    let (_, model, codec) = args.model.open()?;
    let Some(head) = &model.score_head else {
        return Err(Error::model("the model scores tokens, not labels")
            .at(&args.model.model)
            .hint("`train.objective` names what trains a head for labels"));
    };
    let mut lines = input(&args.texts)?.lines().zip(1_usize..);
    loop {
        let (mut objects, mut examples) = (Vec::new(), Vec::new());
        for (line, number) in lines.by_ref() {
            let line = line.context_at("cannot read the texts", &args.texts)?;
            if line.trim().is_empty() {
                continue;
            }
            let at = |error: Error| error.at(format!("{}:{number}", args.texts.display()));
            let object = object(&line, args.jsonl).map_err(at)?;
            let tokens = tokens(&codec, &object).map_err(at)?;
            if tokens.is_empty() {
                return Err(at(Error::usage("the text has no tokens")));
            }
            examples.push(unlabelled(tokens));
            objects.push(object);
            if objects.len() == args.batch_size {
                break;
            }
        }
        if objects.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let scores = scores(&model.model, &examples, (ROW_TOKENS, 1), &mut |_| ())?;
        for (mut object, scores) in objects.into_iter().zip(scores) {
            object.extend(found(head, &scores));
            data_json(&Value::Object(object).to_string())?;
        }
    }
}

fn input(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).context_at("cannot read the texts", path)?;
    Ok(Box::new(BufReader::new(file)))
}

fn object(line: &str, is_json: bool) -> Result<Map<String, Value>> {
    match is_json {
        true => serde_json::from_str(line)
            .map_err(|error| Error::usage("a text is no JSON object").because(error)),
        false => Ok(Map::from_iter([("text".to_owned(), line.into())])),
    }
}

fn tokens(codec: &Codec, object: &Map<String, Value>) -> Result<Vec<u32>> {
    match (object.get("text"), object.get("messages")) {
        (Some(Value::String(text)), None) => codec.text_tokens(text),
        (None, Some(Value::Array(messages))) => codec.whole_conversation(messages.clone()),
        _ => Err(Error::usage("an object needs either `text`, a string, or `messages`, a list")),
    }
}

/// What is printed of scores.
fn found(head: &ScoreHead, scores: &[f64]) -> Map<String, Value> {
    let by_label = |numbers: &[f64]| -> Value {
        let pairs = head.labels.iter().cloned().zip(numbers.iter().map(|number| json!(number)));
        Value::Object(pairs.collect())
    };
    let mut found = Map::new();
    let Some(all) = probabilities(head.problem_type, scores, head.temperature) else {
        found.insert("scores".to_owned(), by_label(scores));
        return found;
    };
    match head.problem_type {
        Some(ProblemType::MultiLabel) => {
            let names = head.labels.iter().zip(&all).filter(|(_, part)| **part > 0.5);
            found.insert("labels".to_owned(), names.map(|(name, _)| name.as_str()).collect());
        }
        _ => {
            let best = (0..all.len()).max_by(|a, b| all[*a].total_cmp(&all[*b]).then(b.cmp(a)));
            let name = best.map(|best| head.labels[best].as_str());
            found.insert("label".to_owned(), name.into());
        }
    }
    found.insert("probabilities".to_owned(), by_label(&all));
    found
}
