//! Writes every data set in `datasets/` from tables of facts and sentences of our own.
//!
//! `cargo run --example make_datasets` writes the files, the same bytes on every machine;
//! with `-- --check` it compares them with the committed ones instead. `-- messages 64 FILE` and
//! `-- text 64 FILE` write 64 MB of such records to a file of your own, to measure speed with.

mod chat;
mod corpus;
mod dice;
mod facts;
mod phrases;
mod records;
mod shapes;
mod stream;
mod tables;
mod tools;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use serde_json::{Value, json};

fn files() -> Vec<(&'static str, Vec<Value>)> {
    let documents = corpus::documents();
    let (train, validation) = chat::conversations();
    let calls = |records: &[Value]| records.iter().filter(|it| is_call(it)).cloned().collect();
    vec![
        ("tool-calls.jsonl", calls(&train)),
        ("tool-calls.validation.jsonl", calls(&validation)),
        ("corpus.jsonl", documents.iter().map(|text| json!({ "text": text })).collect()),
        ("quickstart.jsonl", train),
        ("quickstart.validation.jsonl", validation),
        ("messages.jsonl", shapes::messages()),
        ("tools.jsonl", tools::tools()),
        ("sharegpt.jsonl", shapes::sharegpt()),
        ("preference.jsonl", shapes::preference()),
        ("alpaca.jsonl", shapes::alpaca()),
        ("completion.jsonl", shapes::completion()),
        ("text.jsonl", shapes::text()),
    ]
}

/// Whether a conversation ends with a call of a tool and nothing else.
fn is_call(record: &Value) -> bool {
    let last = record["messages"].as_array().and_then(|turns| turns.last()?["content"].as_str());
    let call = last.and_then(|text| text.strip_prefix("<tool_call>")?.strip_suffix("</tool_call>"));
    call.is_some_and(|call| serde_json::from_str::<Value>(call).is_ok())
}

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [shape, megabytes, path] = arguments.as_slice()
        && stream::SHAPES.contains(&shape.as_str())
    {
        return stream(shape, megabytes, Path::new(path));
    }
    let check = arguments.iter().any(|argument| argument == "--check");
    let folder = Path::new("datasets");
    let mut code = ExitCode::SUCCESS;
    for (name, records) in files() {
        let lines: Vec<String> = records.iter().map(records::json_text).collect();
        let text = lines.join("\n") + "\n";
        let path = folder.join(name);
        if !check {
            fs::create_dir_all(folder)?;
            fs::write(&path, &text)?;
            println!("{}: {} records, {} bytes", path.display(), lines.len(), text.len());
        } else if fs::read_to_string(&path)? != text {
            eprintln!("{} differs from what this program writes", path.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn stream(shape: &str, megabytes: &str, path: &Path) -> io::Result<ExitCode> {
    let Ok(megabytes) = megabytes.parse::<u64>() else {
        eprintln!("a number of megabytes was expected, `{megabytes}` was found");
        return Ok(ExitCode::from(2));
    };
    let mut out = io::BufWriter::new(fs::File::create(path)?);
    let records = stream::write(shape, megabytes * 1_000_000, &mut out)?;
    out.flush()?;
    println!("{}: {records} records", path.display());
    Ok(ExitCode::SUCCESS)
}
