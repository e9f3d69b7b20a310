//! Fetches a repository of a hub into the cache that all tools share, and proves every byte.
//!
//! `cargo run --release --example pull -- model|dataset OWNER/NAME [REVISION]`: of a model only
//! what is ever fetched of one, of a data set everything. A line of JSON for each file.

use std::io::Write;
use std::time::Instant;

use firebrand::error::{Context, Error, Result};
use firebrand::hub::{Hub, RepoKind, RepoName, Settings, model_files};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::usage("usage: pull model|dataset OWNER/NAME [REVISION]");
    let [kind, name, revision @ ..] = arguments.as_slice() else { return Err(usage()) };
    let kind = match kind.as_str() {
        "model" => RepoKind::Model,
        "dataset" => RepoKind::Dataset,
        _ => return Err(usage()),
    };
    let repo = RepoName::parse(kind, name)?;
    let hub = Hub::new(Settings::from_env()?)?.with_notice(|notice| eprintln!("{notice}"));
    let commit = hub.commit_of(&repo, revision.first().map_or("main", String::as_str))?;
    let mut files = hub.tree(&repo, &commit)?;
    if kind == RepoKind::Model {
        files = model_files(&files)?;
    }
    let mut out = std::io::stdout().lock();
    for file in files {
        let begun = Instant::now();
        let fetched = hub.fetch(&repo, &commit, &file, &|_| ())?;
        let line = serde_json::json!({
            "path": fetched.path,
            "size": file.size,
            "sha256": fetched.sha256,
            "downloaded": fetched.downloaded,
            "seconds": begun.elapsed().as_secs_f64(),
        });
        writeln!(out, "{line}").context("cannot write to standard output")?;
    }
    Ok(())
}
