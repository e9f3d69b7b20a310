//! How many million tokens a second: each engine alone, and records to examples.
//!
//! `cargo bench --bench tokenise -- [MODEL_DIR ...]`; without one, the embedded base model.

use std::path::Path;
use std::time::Instant;

use firebrand::config::DataConfig;
use firebrand::data::{Codec, Content, Conversation, Maker, RecordId, RecordOutcome};
use firebrand::random::Stream;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Conversations to measure with: about 300 tokens each.
const RECORDS: usize = 20_000;
/// The exact engine is slow; it gets the first of them only.
const EXACT_RECORDS: usize = 1_000;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let models = match given.is_empty() {
        true => vec![root.join("checkpoints/base-tiny/artifact")],
        false => given.into_iter().map(Into::into).collect(),
    };
    let sentences = sentences(&root.join("datasets/corpus.jsonl"));
    let records: Vec<String> =
        (0..RECORDS).map(|number| record(&sentences, number as u64).to_string()).collect();
    for model in models {
        measure(&model, &records);
    }
}

fn measure(model: &Path, records: &[String]) {
    let codec = Codec::load(model, None).expect("a model directory");
    let tokenizer = &codec.tokenizer;
    let started = Instant::now();
    let engine = tokenizer.engine();
    let megabytes = records.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    println!(
        "{}\n  engine: {engine} (made in {:.2} s); {} records, {megabytes:.1} MB",
        model.display(),
        started.elapsed().as_secs_f64(),
        records.len()
    );
    let maker = Maker::new(&codec, &settings());
    let texts: Vec<String> = records
        .iter()
        .map(|line| {
            let Content::Chat(conversation) = content(line) else { unreachable!() };
            conversation.messages.iter().filter_map(|m| m["content"].as_str()).collect()
        })
        .collect();
    let tokens: usize = texts.iter().map(|t| tokenizer.encode(t).unwrap().tokens.len()).sum();
    println!("  {:.1} tokens to a record", tokens as f64 / texts.len() as f64);
    let exactly = |text: &String| tokenizer.encode_exactly(text).unwrap().tokens.len();
    let quickly = |text: &String| tokenizer.encode(text).unwrap().tokens.len();
    let content = |line: &String| match content(line) {
        Content::Chat(conversation) => conversation.messages.len(),
        _ => 0,
    };
    let example = |line: &String| {
        let id = RecordId { file: "bench".into(), line: 1 };
        let made = maker.make(self::content(line), serde_json::Map::new(), &id);
        match made.map(|made| made.outcome) {
            Ok(RecordOutcome::Whole(example)) => example.tokens.len(),
            other => panic!("{other:?}"),
        }
    };
    report("exact engine", &texts[..EXACT_RECORDS], exactly);
    report("with the fast engine", &texts, quickly);
    report("reading JSON alone (messages)", records, content);
    report("JSON to example", records, example);
}

/// One thread by the time it computed, then all of them by the clock.
fn report<T: Sync>(name: &str, items: &[T], work: impl Fn(&T) -> usize + Sync) {
    let clock = Instant::now();
    let wall = || clock.elapsed().as_secs_f64();
    let single = speed(computed, || items.iter().map(&work).sum());
    let all = speed(wall, || items.par_iter().with_min_len(64).map(&work).sum());
    println!("  {name:32} {single:8.2} M/s on one thread, {all:8.2} M/s on all");
}

/// Millions a second. The best of three: other work on the machine only ever makes it slower.
fn speed(clock: impl Fn() -> f64, run: impl Fn() -> usize) -> f64 {
    let once = || {
        let started = clock();
        run() as f64 / (clock() - started) / 1e6
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

/// The seconds that this thread has computed, so that other programs do not count; where the
/// system does not say, the seconds on the clock.
fn computed() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()) {
        Some(nanoseconds) => nanoseconds / 1e9,
        None => std::time::UNIX_EPOCH.elapsed().map_or(0.0, |time| time.as_secs_f64()),
    }
}

fn content(line: &str) -> Content {
    let mut record: Value = serde_json::from_str(line).unwrap();
    let Value::Array(messages) = record["messages"].take() else { unreachable!() };
    Content::Chat(Conversation { messages, ..Conversation::default() })
}

/// The default settings, with rows that hold every record.
fn settings() -> DataConfig {
    let text = "[model]\nbase = \"m\"\n[data]\nmax_seq_len = 131072\noverlong = \"error\"\n\
                [[data.train]]\npath = \"d\"\n";
    let loaded = firebrand::settings::parse(Path::new("bench.toml"), text.as_bytes(), &[]);
    loaded.expect("a valid configuration").config.data
}

fn sentences(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("the corpus of the repository");
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|record| {
            let text = record["text"].as_str().unwrap_or_default().to_owned();
            text.split_inclusive(". ").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// A conversation of two to six turns, with a word now and then that was never seen before.
fn record(sentences: &[String], number: u64) -> Value {
    let stream = Stream::new(7).number(number);
    let mut counter = 0;
    let mut draw = |below: u64| {
        counter += 1;
        stream.bits(counter) % below
    };
    let turns = 2 * (1 + draw(3));
    let messages = (0..turns).map(|turn| {
        let mut text = String::new();
        for _ in 0..=draw(7) {
            text.push_str(&sentences[draw(sentences.len() as u64) as usize]);
            if draw(2) == 0 {
                let word: String = (0..3 + draw(8))
                    .map(|_| char::from(b'a' + u8::try_from(draw(26)).unwrap()))
                    .collect();
                text.push_str(&format!("{word} {} ", draw(100_000)));
            }
        }
        json!({ "role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": text })
    });
    json!({ "messages": messages.collect::<Vec<_>>() })
}
