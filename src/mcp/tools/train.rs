//! Runs are started as processes of their own, which outlive the call and the server.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ToolEntry, a, overrides, path, runs};
use crate::error::Result;
use crate::mcp::permission::Permission;
use crate::mcp::workplace::ToolCall;

/// For so long it is waited whether a run fails at once.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// For so long it is waited until a run has saved.
const STOP_MAX: Duration = Duration::from_secs(60);

pub(super) const TRAIN: ToolEntry = ToolEntry {
    name: "train",
    title: "Start a run",
    description: "Start training from a file of settings, or go on where an earlier run with them \
                  stopped. Returns after a few seconds with the state of the run, which goes on; \
                  `status` tells how it is doing. One run at a time.",
    needs: Some(Permission::Train),
    destructive: false,
    input: || {
        let config = path("the file with the settings (TOML), or the name of a run");
        (json!({"config": config, "set": overrides(), "stop_after_steps": steps()}), &["config"])
    },
    output: runs::STATUS.output,
    call: |call| {
        let (config, loaded) = call.settings()?;
        let directory = call.place.root.inside(&loaded.config.output.dir)?;
        start(call, "train", &config, &directory)
    },
};

pub(super) const RESUME: ToolEntry = ToolEntry {
    name: "resume",
    title: "Resume a run",
    description: "Go on with a run that stopped, by its name or directory, from its newest \
                  checkpoint. Returns as `train` does.",
    needs: Some(Permission::Train),
    destructive: false,
    input: || {
        let run = path("name or directory of a run");
        (json!({"run": run, "set": overrides(), "stop_after_steps": steps()}), &["run"])
    },
    output: runs::STATUS.output,
    call: |call| {
        let run = call.run("run")?;
        let loaded = call.settings_of_run(&run)?;
        let directory = call.place.root.inside(&loaded.config.output.dir)?;
        start(call, "resume", &run, &directory)
    },
};

pub(super) const STOP: ToolEntry = ToolEntry {
    name: "stop",
    title: "Stop a run",
    description: "Ask a run that this server has started to save and stop; `resume` goes on with \
                  it later. Returns its state once it has stopped.",
    needs: Some(Permission::Train),
    destructive: true,
    input: || (json!({"run": path("name or directory of a run")}), &["run"]),
    output: runs::STATUS.output,
    call: |call| {
        let directory = match call.started() {
            Some(directory) => directory,
            None => call.run("run")?,
        };
        call.place.children.stop(&directory)?;
        call.place.children.wait_for(&directory, STOP_MAX, call.unwanted);
        call.status(&directory)
    },
};

fn steps() -> Value {
    let mut steps = a("integer", "save and stop after so many steps of this process");
    steps["minimum"] = 1.into();
    steps
}

fn start(call: &ToolCall, command: &str, named: &Path, directory: &Path) -> Result<Value> {
    let steps = call.arguments.number("stop_after_steps");
    let steps = steps.map(|steps| format!("--stop-after-steps={steps}"));
    let options: Vec<&str> = std::iter::once(command).chain(steps.as_deref()).collect();
    let command = call.command(&options, &named.to_string_lossy());
    call.place.children.start(&command, directory)?;
    call.place.children.wait_for(directory, FIRST_LOOK, call.unwanted);
    call.status(directory)
}
