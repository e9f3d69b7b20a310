//! `firebrand devices`

use std::process::ExitCode;

use crate::cli::{data_json, data_line};
use crate::device::{self, Survey, Surveyed};
use crate::error::{Context, Result, printable};
use crate::event::bytes;

/// List what there is to compute on, and what `device.name = "auto"` takes
///
/// Every graphics adapter as each interface shows it, with its driver, limits and number formats.
/// Each is tried out with a small product in a process of its own, so that a driver which crashes
/// becomes a sentence.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let survey = device::survey();
    if args.json {
        data_json(&serde_json::to_string_pretty(&survey).context("cannot encode the list")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    lines(&survey).iter().try_for_each(|line| data_line(&printable(line)))?;
    Ok(ExitCode::SUCCESS)
}

/// The list for people.
pub(super) fn lines(survey: &Survey) -> Vec<String> {
    let free =
        survey.cpu_memory_bytes.map_or(String::new(), |free| format!(", {} free", bytes(free)));
    let mut lines = vec![format!("cpu: {} threads{free}", survey.cpu_threads)];
    for found in &survey.adapters {
        lines.extend(adapter(found));
    }
    lines.extend(survey.failures.iter().map(|why| format!("! {why}")));
    lines.push(format!("auto takes {}: {}", survey.auto, survey.reason));
    lines
}

/// One adapter for people.
pub(super) fn adapter(found: &Surveyed) -> Vec<String> {
    let of = &found.adapter;
    let mut lines = vec![format!("{}: {}, {}", found.device_name, of.name, of.kind.describe())];
    let mut add = |label: &str, text: String| lines.push(format!("  {label:<10}  {text}"));
    let driver = format!("{} {}", of.driver, of.driver_info);
    add("driver", if driver.trim().is_empty() { "not told".into() } else { driver });
    let limits = &of.limits;
    let [x, y, z] = limits.workgroup_size;
    add(
        "limits",
        format!(
            "tensors of {}, buffers of {}, {} bindings",
            bytes(limits.binding_bytes),
            bytes(limits.buffer_bytes),
            limits.bindings
        ),
    );
    add(
        "workgroups",
        format!(
            "{} threads ({x} × {y} × {z}) sharing {}, up to {} along an axis",
            limits.workgroup_threads,
            bytes(limits.workgroup_bytes.into()),
            limits.dispatch_workgroups
        ),
    );
    let subgroups = match (of.subgroups, of.subgroup_size) {
        (true, (least, most)) if least == most => format!("subgroups of {least}"),
        (true, (least, most)) => format!("subgroups of {least} to {most}"),
        (false, _) => "no subgroups".to_owned(),
    };
    match &found.trial {
        Some(trial) => {
            let memory = trial.memory_bytes.map_or("not told".to_owned(), bytes);
            add("memory", memory);
            let has = |yes, name: &str| if yes { name.to_owned() } else { format!("no {name}") };
            let mut formats =
                [has(trial.has_f16(), "f16"), has(trial.has_bf16(), "bf16")].join(", ");
            if let Some(why) = trial.bf16_problem() {
                formats += &format!(" ({why})");
            }
            add("formats", format!("f32, {formats}, {subgroups}"));
            add(
                "trial",
                format!(
                    "a product of 64 × 64 in {:.1} s, off by {:.0e}",
                    trial.seconds, trial.f32_error
                ),
            );
            add("compiler", format!("{}: {}", trial.compiler, trial.compiler_reason));
        }
        None => add("formats", subgroups),
    }
    if let Some(problem) = &found.problem {
        add("unusable", problem.clone());
    }
    lines
}
