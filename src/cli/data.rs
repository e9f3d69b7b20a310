//! `firebrand data`

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{ConfigArgs, data_line};
use crate::config::Length;
use crate::data::{Batch, Codec, Cursor};
use crate::error::Result;
use crate::report::{Console, Signals};
use crate::train::prepare;

/// Show the exact rows of a run in training order
///
/// With `--json`, one line per micro-batch: tokens, positions and document numbers of its rows
/// (flat, row after row; document 0 is padding), and its targets as pairs of flat position and
/// token. Another program can train on the same batches. `weight` is what each target counts in
/// its step: 1 / learnt tokens of the step.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// One JSON object per micro-batch
    #[arg(long)]
    json: bool,
    /// Stop after this many rows; 0 shows the whole run
    #[arg(long, value_name = "N", default_value_t = 8)]
    rows: usize,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let loaded = args.config.load()?;
    let mut console = Console::new(Signals::default(), true, None);
    let prepared = prepare(&loaded, &mut console)?;
    let mut cursor = Cursor::default();
    let mut shown = 0;
    for step in 1..=prepared.total_steps {
        let batches = prepared.take(&mut cursor)?;
        let targets: usize = batches.iter().map(|batch| batch.targets.len()).sum();
        for (number, batch) in batches.iter().enumerate() {
            if args.rows > 0 && shown >= args.rows {
                return Ok(ExitCode::SUCCESS);
            }
            shown += batch.rows;
            if args.json {
                data_line(&as_json(batch, step, number, targets).to_string())?;
            } else {
                show(batch, step, &prepared.corpus.codec)?;
            }
        }
        if let Length::Epochs(epochs) = loaded.config.train.length
            && cursor.epoch >= epochs
        {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// Rows as text: each document with where it comes from, learnt tokens in brackets.
fn show(batch: &Batch, step: u64, codec: &Codec) -> Result<()> {
    let learnt: std::collections::BTreeSet<usize> =
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
                learn: inside.iter().map(|place| learnt.contains(place)).collect(),
            };
            data_line(&format!("  {source}, {} tokens", inside.len()))?;
            let text = super::plan::marked(&crate::data::pieces(codec, &example)?);
            data_line(&format!("    {}", text.replace('\n', "\n    ")))?;
        }
    }
    Ok(())
}
