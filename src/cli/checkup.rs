//! `firebrand data --doctor`

use std::process::ExitCode;

use crate::cli::output::data_pieces;
use crate::cli::{data_json, data_line};
use crate::config::Loaded;
use crate::data::{Checkup, checkup};
use crate::error::Result;
use crate::train::Prepared;

/// The longest bar of the histogram, in characters.
const BAR: usize = 40;

/// Prints the findings.
pub fn run(loaded: &Loaded, prepared: &Prepared, json: bool) -> Result<ExitCode> {
    let found = checkup(&prepared.corpus, &prepared.plan, loaded.config.data.max_seq_len)?;
    if json {
        data_json(&serde_json::to_string_pretty(&found).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    numbers(&found)?;
    data_line("\nlengths in tokens")?;
    let most = found.lengths.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (edge, count) in &found.lengths {
        let length = usize::try_from(count * BAR as u64 / most).unwrap_or(BAR);
        data_line(&format!("  up to {edge:>6}  {count:>9}  {}", "▇".repeat(length)))?;
    }
    for (place, pieces) in &found.examples {
        data_line(&format!("\n{place}"))?;
        data_pieces(pieces)?;
    }
    data_line("")?;
    if found.concerns.is_empty() {
        data_line("nothing needs attention")?;
    }
    for concern in &found.concerns {
        data_line(&format!("look at this: {concern}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn numbers(found: &Checkup) -> Result<()> {
    let counts = &found.statistics;
    #[expect(clippy::cast_precision_loss)] // for people
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    let lines = [
        ("records", format!("{}, {} unusable", counts.records, counts.bad_rows)),
        (
            "examples",
            format!(
                "{}, {} cut off, {} left out as too long, {} with nothing to learn, {} repeated",
                counts.examples,
                counts.truncated,
                counts.dropped,
                counts.nothing_to_learn,
                found.duplicates
            ),
        ),
        (
            "tokens",
            format!(
                "{}, {} learnt ({:.1} %); median example {}, 95 of 100 up to {}, longest {}",
                counts.tokens,
                counts.learnt_tokens,
                percent(counts.learnt_tokens, counts.tokens),
                found.median,
                found.percentile_95,
                counts.longest
            ),
        ),
        ("rows", format!("{}, {:.1} % full", found.rows, 100.0 * found.filled)),
        (
            "validation",
            format!(
                "{} examples, {} tokens to measure on, {} of the training data are in it too",
                found.validation.examples, found.validation.learnt_tokens, counts.overlapping
            ),
        ),
    ];
    lines.iter().try_for_each(|(label, text)| data_line(&format!("{label:>12}  {text}")))
}
