//! What a run would do, and what it can be told.

use serde_json::{Value, json};

use super::{ToolEntry, a, maybe, overrides, path};
use crate::document;
use crate::error::{Error, Result, nearest};
use crate::mcp::workplace::ToolCall;
use crate::settings::KEYS;

pub(super) const PLAN: ToolEntry = ToolEntry {
    name: "plan",
    title: "Plan a run",
    description: "Check the settings of a run wholly and say what it would do: steps, tokens, \
                  memory, disk, parameters, precision, device. Reads model and data, trains \
                  nothing. Call it before `train`.",
    needs: None,
    destructive: false,
    input: || {
        let config = path("the file with the settings (TOML), or the name of a run");
        (json!({"config": config, "set": overrides()}), &["config"])
    },
    output: || {
        let properties = json!({
            "config_sha256": a("string", "digest of the settings that decide numbers"),
            "config": a("object", "every setting by its key"),
            "device": a("string", "where it would run"),
            "steps": a("integer", "optimizer updates"),
            "parameters": a("integer", "of the model"),
            "active_parameters": a("integer", "that a token uses"),
            "trainable_parameters": a("integer", "that the run changes"),
            "precision": a("string", "arithmetic"),
            "memory_bytes": a("integer", "estimated peak"),
            "memory": a("object", "what it is made of"),
            "memory_plans": a("array", "ways to fit it into memory, how fast, and the chosen one"),
            "device_memory_bytes": maybe("integer", "what the device has"),
            "disk_bytes": a("integer", "that the run directory will hold at most"),
            "data": maybe("object", "counts of the training data"),
            "validation": maybe("object", "counts of the validation data"),
        });
        (properties, &["config_sha256", "config", "device", "steps", "memory_bytes", "disk_bytes"])
    },
    call: plan,
};

fn plan(call: &ToolCall) -> Result<Value> {
    let (path, _) = call.settings()?;
    call.json(&call.command(&["plan", "--json", "--quiet"], &path.to_string_lossy()))
}

pub(super) const SETTINGS: ToolEntry = ToolEntry {
    name: "settings",
    title: "Describe the settings",
    description: "The settings of a run: without arguments the sections with what they are \
                  about, with `section` the JSON Schema of its keys (types, defaults, meaning).",
    needs: None,
    destructive: false,
    input: || {
        let section = json!({"type": "string", "maxLength": 64, "description": "such as `train`"});
        (json!({"section": section}), &[])
    },
    output: || {
        let properties = json!({
            "sections": a("object", "meaning of each section by its name"),
            "section": a("string", "the one that was asked for"),
            "schema": a("object", "its JSON Schema"),
        });
        (properties, &[])
    },
    call: settings,
};

fn settings(call: &ToolCall) -> Result<Value> {
    let schema = document::schema(&KEYS);
    let sections = schema["properties"].as_object().cloned().unwrap_or_default();
    let Some(name) = call.arguments.text("section") else {
        let about = sections.iter().map(|(name, of)| (name.clone(), of["description"].clone()));
        return Ok(json!({"sections": about.collect::<serde_json::Map<_, _>>()}));
    };
    if let Some(schema) = sections.get(name) {
        return Ok(json!({"section": name, "schema": schema}));
    }
    let error = Error::usage(format!("there is no section `{name}`"));
    Err(match nearest(name, sections.keys().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("without arguments this tool lists them"),
    })
}
