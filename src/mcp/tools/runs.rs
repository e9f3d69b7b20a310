//! What became of runs.

use std::path::Path;

use serde_json::{Value, json};

use super::{ToolEntry, a, maybe, path};
use crate::config::RUNS;
use crate::error::{Context, Result};
use crate::mcp::run_status::run_status;
use crate::mcp::workplace::ToolCall;
use crate::train::comparison::Comparison;
use crate::train::runs;

pub(super) const LIST: ToolEntry = ToolEntry {
    name: "runs_list",
    title: "List runs",
    description: "The runs below a folder, with state, steps, last loss and size.",
    needs: None,
    destructive: false,
    input: || (json!({"folder": path("where to look; else `checkpoints`")}), &[]),
    output: || {
        let run = json!({"type": "object", "required": ["name", "path", "state", "step"]});
        let runs = json!({"type": "array", "items": run, "description": "by path"});
        (json!({"runs": runs}), &["runs"])
    },
    call: |call| {
        let folder = call.arguments.text("folder").unwrap_or(RUNS);
        call.place.root.inside(folder)?;
        let folder = Path::new(folder);
        let all = match folder == Path::new(RUNS) && !folder.exists() {
            true => Vec::new(), // before the first run
            false => runs::list(folder)?,
        };
        Ok(json!({"runs": serde_json::to_value(all).context("cannot encode the runs")?}))
    },
};

pub(super) const STATUS: ToolEntry = ToolEntry {
    name: "status",
    title: "Status of a run",
    description: "How a run is doing, from its directory: state (starting, running, finished, \
                  interrupted, failed), step, loss, validation, speed, seconds left, newest \
                  answers, checkpoints; for a run that this server has started also what its \
                  process said last. Poll it after `train`.",
    needs: None,
    destructive: false,
    input: || (json!({"run": path("name or directory of a run")}), &["run"]),
    output: || {
        let states = ["starting", "running", "finished", "interrupted", "failed"];
        let properties = json!({
            "name": a("string", "the name of the run"),
            "path": a("string", "its directory"),
            "state": {"type": "string", "enum": states},
            "failure": maybe("string", "why it failed"),
            "step": a("integer", "steps that were made"),
            "steps": maybe("integer", "steps that it is to make, where its settings say so"),
            "saved_step": a("integer", "step of its newest checkpoint"),
            "epoch": maybe("number", "position in the data"),
            "loss": maybe("number", "of the last step, in nats"),
            "learning_rate": maybe("number", "of the last step"),
            "grad_norm": maybe("number", "of the last step, before clipping"),
            "tokens_per_second": maybe("number", "over the newest steps"),
            "seconds_left": maybe("number", "at that speed"),
            "validation": maybe("object", "the newest validation"),
            "best_validation": maybe("object", "the one with the least loss"),
            "samples": a("array", "answers to `eval.prompts` at the newest checkpoint"),
            "checkpoints": a("array", "newest first"),
            "history": a("array", "what happened last"),
            "process": maybe("object", "its process, if this server has started it"),
        });
        (properties, &["name", "path", "state"])
    },
    call: |call| {
        let directory = match call.started() {
            Some(directory) => directory,
            None => call.run("run")?,
        };
        call.status(&directory)
    },
};

impl ToolCall<'_> {
    /// The directory of a run of this server that the client has named, which may not be there yet.
    pub(super) fn started(&self) -> Option<std::path::PathBuf> {
        let given = self.arguments.text("run")?;
        let direct = self.place.root.inside(given).ok();
        let named = self.place.root.inside(&format!("{RUNS}/{given}")).ok();
        let known = |path: &std::path::PathBuf| self.place.children.process(path).is_some();
        direct.into_iter().chain(named).find(known)
    }

    /// The state of a run, with its process.
    pub(super) fn status(&self, directory: &Path) -> Result<Value> {
        let process = self.place.children.process(directory);
        let mut status = run_status(directory)?;
        let is_running = process.as_ref().map(|process| process["running"] == true);
        match (is_running, status["state"].as_str()) {
            // Before there was anything of it.
            (Some(false), Some("starting")) => status["state"] = "failed".into(),
            // Its page is written when its result is there already.
            (Some(true), Some("finished")) => status["state"] = "running".into(),
            _ => {}
        }
        status["process"] = process.unwrap_or_default();
        Ok(status)
    }
}

pub(super) const COMPARE: ToolEntry = ToolEntry {
    name: "runs_compare",
    title: "Compare two runs",
    description: "Two runs beside each other: the settings that differ, and losses of training \
                  and validation at steps that both have.",
    needs: None,
    destructive: false,
    input: || {
        let (one, other) = (path("name or directory of one"), path("of the other"));
        (json!({"one": one, "other": other}), &["one", "other"])
    },
    output: || {
        let properties = json!({
            "runs": a("array", "both, in this order"),
            "settings": a("object", "values of both by key, where they differ"),
            "training": a("array", "losses of both at the same steps"),
            "validation": a("array", "the same of validations"),
        });
        (properties, &["runs", "settings", "training", "validation"])
    },
    call: |call| {
        let both = Comparison::of(&call.run("one")?, &call.run("other")?)?;
        serde_json::to_value(both).context("cannot encode the comparison")
    },
};
