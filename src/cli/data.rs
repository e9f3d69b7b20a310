//! `firebrand data`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use crate::cli::checkup::Telling;
use crate::cli::output::data_pieces;
use crate::cli::{AccessArgs, ConfigArgs, data_json, data_line, talk};
use crate::config::{Length, Loaded};
use crate::data::{Batch, Codec, Cursor, Extent};
use crate::error::{ErrorCode, Result};
use crate::files::Digest;
use crate::hub::Supply;
use crate::report::{Console, Signals};
use crate::train::{Prepared, prepare};

/// Show the exact rows of a run in training order
///
/// With `--json`, one line per micro-batch: tokens, positions and document numbers of its rows
/// (flat, row after row; document 0 is padding), and its targets as pairs of flat position and
/// token. Another program can train on the same batches. `weight` is what each target counts in
/// its step: 1 / target tokens of the step. Preference pairs are shown as they are rendered.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// One JSON object per micro-batch (of `--doctor` and `--digest`, one for all)
    #[arg(long)]
    json: bool,
    /// Stop after this many rows; 0 shows the whole run
    #[arg(long, value_name = "N", default_value_t = 8)]
    rows: usize,
    /// Print one digest over all rows of the run, or of `--rows N`, and nothing else
    #[arg(long, conflicts_with = "doctor")]
    digest: bool,
    /// The same without the digest: how many rows and tokens, and how fast they came
    #[arg(long, conflicts_with_all = ["doctor", "digest"])]
    count: bool,
    /// Begin at this position, as a run that goes on there would: epochs, windows and rows done
    /// (`cursor` in the `state.json` of a checkpoint)
    #[arg(long, value_name = "EPOCH:WINDOW:ROW", value_parser = position)]
    at: Option<Cursor>,
    /// Look for what is wrong with the data before training on it: unusable records, records
    /// without target tokens, empty answers, special tokens in texts, near-duplicates across the
    /// split, and more. Exit code 1: `train` would refuse the data
    #[arg(long)]
    doctor: bool,
    /// Where `--doctor` lists every finding, one JSON object a line; in the cache unless named
    #[arg(long, value_name = "FILE", requires = "doctor")]
    report: Option<PathBuf>,
    /// Show no progress of downloads
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let digests = Digests::default();
    let loaded = args.config.load()?;
    let supply = args.access.supply(&args.config, args.quiet || args.json)?;
    if args.doctor {
        let (config, report) = (args.config.config.as_path(), args.report.as_deref());
        let telling = Telling { config, report, json: args.json };
        return super::checkup::run(&loaded, &supply, &telling);
    }
    match show_rows(args, &loaded, &supply, digests) {
        Err(error) if error.code == ErrorCode::Pairs => {
            super::pairs::show(&loaded, &supply, args.json, args.rows)?;
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

/// Reads `EPOCH:WINDOW:ROW`.
fn position(text: &str) -> std::result::Result<Cursor, String> {
    let parts: Vec<Option<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [Some(epoch), Some(window), Some(row)] => {
            Ok(Cursor { epoch: *epoch, window: *window, row: *row })
        }
        _ => Err("three numbers are expected, such as `0:12:0`".to_owned()),
    }
}

fn show_rows(
    args: &Args,
    loaded: &Loaded,
    supply: &Arc<Supply>,
    mut digests: Digests,
) -> Result<ExitCode> {
    let mut console = Console::new(Signals::default(), true, None);
    let prepared = prepare(loaded, supply, Extent::AsNeeded, &mut console)?;
    let shown = rows(args, loaded, &prepared, |batch, step, number, targets| {
        if args.digest || args.count {
            digests.take(batch, args.digest);
            Ok(())
        } else if args.json {
            data_json(&as_json(batch, step, number, targets).to_string())
        } else {
            show(batch, step, &prepared.corpus.codec)
        }
    })?;
    if args.digest || args.count {
        digests.tell(shown, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands on the micro-batches of the run: batch, step, its number in the step, targets of the
/// step. Returns the number of rows.
fn rows(
    args: &Args,
    loaded: &Loaded,
    prepared: &Prepared,
    mut use_batch: impl FnMut(&Batch, u64, usize, usize) -> Result<()>,
) -> Result<usize> {
    let mut cursor = args.at.unwrap_or_default();
    let mut shown = 0;
    for step in 1..=prepared.total_steps {
        let before = cursor;
        let batches = prepared.take(&mut cursor)?;
        prepared.admit(before, cursor, &mut Console::new(Signals::default(), true, None))?;
        let targets: usize = batches.iter().map(|batch| batch.targets.len()).sum();
        for (number, batch) in batches.iter().enumerate() {
            if args.rows > 0 && shown >= args.rows {
                return Ok(shown);
            }
            shown += batch.rows;
            use_batch(batch, step, number, targets)?;
        }
        if let Length::Epochs(epochs) = loaded.config.train.length
            && cursor.epoch >= epochs
        {
            break;
        }
    }
    Ok(shown)
}

/// One digest over the digests of all micro-batches.
struct Digests {
    began: Instant,
    first: Option<f64>,
    all: Vec<u8>,
    tokens: u64,
}

impl Default for Digests {
    fn default() -> Self {
        Self { began: Instant::now(), first: None, all: Vec::new(), tokens: 0 }
    }
}

impl Digests {
    fn take(&mut self, batch: &Batch, digest: bool) {
        self.first.get_or_insert_with(|| self.began.elapsed().as_secs_f64());
        if digest {
            self.all.extend(batch.digest().0);
        }
        self.tokens += batch.tokens_without_padding();
    }

    fn tell(&self, rows: usize, args: &Args) -> Result<()> {
        let digest = args.digest.then(|| Digest::of(&self.all));
        let (tokens, seconds) = (self.tokens, self.began.elapsed().as_secs_f64());
        if args.json {
            let line = json!({ "sha256": digest, "rows": rows, "tokens": tokens,
                "first_seconds": self.first, "seconds": seconds });
            return data_json(&line.to_string());
        }
        let counted = format!("{rows} rows, {tokens} tokens in {seconds:.2} s");
        match digest {
            Some(digest) => {
                talk(&counted);
                data_line(&digest.to_string())
            }
            None => data_line(&counted),
        }
    }
}

fn as_json(batch: &Batch, step: u64, number: usize, targets_of_step: usize) -> serde_json::Value {
    let targets: Vec<[u32; 2]> =
        batch.targets.iter().map(|target| [target.index, target.token]).collect();
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    let weight = 1.0 / targets_of_step as f64;
    let sources: Vec<Vec<String>> =
        batch.sources.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    json!({
        "step": step,
        "micro_batch": number,
        "rows": batch.rows,
        "length": batch.length,
        "tokens": batch.tokens,
        "positions": batch.positions,
        "documents": batch.documents,
        "targets": targets,
        "weight": weight,
        "sources": sources,
        "sha256": batch.digest(),
    })
}

/// Rows as text: each document with where it comes from, target tokens in brackets.
fn show(batch: &Batch, step: u64, codec: &Codec) -> Result<()> {
    let target: std::collections::BTreeSet<usize> =
        batch.targets.iter().map(|target| target.index as usize + 1).collect();
    for row in 0..batch.rows {
        let places = row * batch.length..(row + 1) * batch.length;
        data_line(&format!("step {step}, row {row}:"))?;
        for (number, source) in batch.sources[row].iter().enumerate() {
            let inside: Vec<usize> = places
                .clone()
                .filter(|place| batch.documents[*place] as usize == number + 1)
                .collect();
            let example = crate::data::Example {
                tokens: inside.iter().map(|place| batch.tokens[*place]).collect(),
                loss_mask: inside.iter().map(|place| target.contains(place)).collect(),
            };
            data_line(&format!("  {source}, {} tokens", inside.len()))?;
            data_pieces(&crate::data::pieces(codec, &example)?)?;
        }
    }
    Ok(())
}
