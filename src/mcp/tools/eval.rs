//! How good a model is.

use serde_json::json;

use super::{ToolEntry, a, path};
use crate::mcp::permission::Permission;

pub(super) const EVAL: ToolEntry = ToolEntry {
    name: "eval",
    title: "Evaluate a model",
    description: "Measure a model with a suite (TOML): loss, accuracy and tasks, per slice, with \
                  intervals. It computes, and adds a line to the history of the run.",
    needs: Some(Permission::Eval),
    destructive: false,
    input: || {
        let model = "a model, an artifact, a run or a checkpoint of one (`RUN@best`)";
        let suite = "what it is evaluated on (TOML)";
        (json!({"model": path(model), "suite": path(suite)}), &["model", "suite"])
    },
    output: || {
        let properties = json!({
            "metrics": a("object", "each with value, interval and count"),
            "performance": a("object", "speed and memory"),
        });
        (properties, &["metrics", "performance"])
    },
    call: |call| {
        call.path("model")?;
        let suite = call.document("suite")?;
        let model = call.arguments.required("model")?;
        let config = format!("--config={}", suite.display());
        call.json(&call.command(&["eval", "--json", "--quiet", &config], model))
    },
};
