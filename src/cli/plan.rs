//! `firebrand plan`

use std::process::ExitCode;

use crate::cli::output::data_pieces;
use crate::cli::{AccessArgs, ConfigArgs, data_json, talk};
use crate::config::Init;
use crate::data::{self, Extent};
use crate::error::Result;
use crate::event::bytes;
use crate::report::{Console, Signals};
use crate::train::{Prepared, look_through, prepare, suite};

/// Check a configuration wholly and say what it would do; trains nothing
///
/// Opens every weight file and looks through its numbers, reads data as `train` does, estimates
/// memory, disk, steps, tokens and roughly the speed, and shows the first example as the model
/// sees it, with its target tokens marked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress of downloads
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let loaded = args.config.load()?;
    let mut console = Console::new(Signals::default(), args.json, None);
    let supply = args.access.supply(&args.config, args.quiet || args.json)?;
    // What `train` would refuse only once it has begun, is refused here as well.
    suite(&loaded.config)?;
    let mut prepared = prepare(&loaded, &supply, Extent::AsNeeded, &mut console)?;
    if loaded.config.model.init == Init::Pretrained {
        look_through(&prepared.base.path, &mut console)?;
    }
    let speed = prepared.predict_speed();
    let disk = disk(&prepared, &loaded.config);
    let memory = prepared.memory();
    if args.json {
        let plan = serde_json::json!({
            "config_sha256": loaded.digest,
            "config": loaded.resolved,
            "device": prepared.opened.name,
            "steps": prepared.total_steps,
            "parameters": prepared.description.parameters,
            "active_parameters": prepared.description.active_parameters(),
            "trainable_parameters": prepared.trained.count,
            "precision": prepared.precision.arithmetic.name(),
            "memory_bytes": memory.total(),
            "memory": memory,
            "memory_plans": prepared.memory_plans.all(),
            "device_memory_bytes": prepared.opened.memory_bytes,
            "disk_bytes": disk,
            "data": prepared.corpus.statistics,
            "validation": prepared.corpus.validation.statistics,
        });
        data_json(&serde_json::to_string_pretty(&plan).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    for candidate in prepared.memory_plans.all() {
        talk(&format!("{:>12}  {}", "memory plan", candidate.line()));
    }
    if let Err(why) = speed {
        talk(&format!("{:>12}  {why}", "speed"));
    }
    talk(&format!("{:>12}  at most {} for checkpoints and the artifact", "disk", bytes(disk)));
    if let Some(counts) = &prepared.corpus.statistics {
        tell_counts(counts);
    }
    let Some(first) = prepared.corpus.first_example()? else {
        return Ok(ExitCode::SUCCESS);
    };
    talk(&format!("\nthe first example ({}), target tokens marked:\n", first.record));
    data_pieces(&data::pieces(&prepared.corpus.codec, &first.example)?)?;
    talk(&format!(
        "\nnothing was trained; to do it: firebrand train {}",
        args.config.config.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// What was not taken as it is.
fn tell_counts(statistics: &data::Statistics) {
    let counted = [
        ("truncated", statistics.truncated),
        ("dropped", statistics.dropped),
        ("split", statistics.split),
        ("unusable", statistics.bad_rows),
        ("without target tokens", statistics.no_targets),
        ("held out", statistics.held_out),
        ("also validation records", statistics.overlapping),
        ("duplicates", statistics.duplicates),
        ("retracted", statistics.retracted),
    ];
    let counted: Vec<String> = counted
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if !counted.is_empty() {
        talk(&format!("{:>12}  {}", "records", counted.join(", ")));
    }
}

/// Bytes that the run directory will hold at most.
fn disk(prepared: &Prepared, config: &crate::config::RunConfig) -> u64 {
    // One more checkpoint than is kept exists while pruning.
    let checkpoint = prepared.checkpoint_bytes();
    let artifact = match prepared.adapter {
        Some(_) => 4 * prepared.trained.count,
        None => prepared.description.element.size() as u64 * prepared.description.parameters,
    };
    let best = u64::from(config.eval.load_best_model_at_end);
    (config.checkpoint.keep_last as u64 + 1 + best) * checkpoint + artifact
}
