//! Whether a model is what it claims to be.

use serde_json::{Value, json};

use super::{ToolEntry, a, maybe, path};
use crate::error::Result;
use crate::mcp::workplace::ToolCall;

const MODEL: &str = "directory of a model, an artifact or a run; with network also owner/name";

pub(super) const VERIFY: ToolEntry = ToolEntry {
    name: "verify",
    title: "Verify a model",
    description: "Who signed a model, is it complete and unchanged, does its lineage agree. The \
                  verdict is `verified`, or says what does not hold; trust is the user's own.",
    needs: None,
    destructive: false,
    input: || (json!({"model": path(MODEL)}), &["model"]),
    output: || {
        let properties = json!({
            "directory": a("string", "what was checked"),
            "verdict": a("string", "`verified`, or what does not hold"),
            "signer": maybe("object", "who signed it"),
            "checks": a("array", "each with its verdict and detail"),
        });
        (properties, &["verdict", "checks"])
    },
    call: |call| of_model(call, &["verify", "--json"]),
};

pub(super) const LINEAGE: ToolEntry = ToolEntry {
    name: "lineage",
    title: "Lineage of a model",
    description: "Where a model comes from: its ancestry with data, settings and base models, as \
                  nested objects.",
    needs: None,
    destructive: false,
    input: || (json!({"model": path(MODEL)}), &["model"]),
    output: || (json!({}), &[]),
    call: |call| of_model(call, &["lineage", "--json"]),
};

pub(super) const SCAN: ToolEntry = ToolEntry {
    name: "scan",
    title: "Scan a model",
    description: "Look through the files of a model for code and other dangers (pickles, remote \
                  code, templates, links) without opening it.",
    needs: None,
    destructive: false,
    input: || (json!({"model": path(MODEL)}), &["model"]),
    output: || (json!({"findings": a("array", "each with its rule and place")}), &["findings"]),
    call: |call| of_model(call, &["scan", "--json"]),
};

fn of_model(call: &ToolCall, command: &[&str]) -> Result<Value> {
    call.path("model")?;
    let model = call.arguments.required("model")?;
    call.json(&call.command(command, model))
}
