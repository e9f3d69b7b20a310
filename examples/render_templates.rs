//! Renders conversations with chat templates, so that another program can compare its own.
//!
//! `cargo run --release --example render_templates < INPUT.json`, where INPUT is
//! `{"templates": [text], "conversations": [{"messages": […], "tools": …}], "special": {name:
//! token}}`. Writes a line of JSON for each template, conversation and "without" and "with" a
//! generation prompt, in that order: `{"text": …}` or `{"refused": …}`. The conversations are
//! handed to the templates as they are.

use std::collections::BTreeMap;
use std::io::Read;

use firebrand::data::{ChatTemplate, Conversation, Turns};
use firebrand::error::{Context, Result};
use firebrand::files::parse_exact_json;
use serde_json::{Value, json};

fn main() -> Result<()> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).context("cannot read the input")?;
    let input = parse_exact_json(&text).context("the input cannot be read")?;
    let list = |key: &str| input[key].as_array().cloned().unwrap_or_default();
    let special: BTreeMap<String, String> =
        serde_json::from_value(input["special"].clone()).context("`special` names no tokens")?;
    let conversations: Vec<Turns> = list("conversations").iter().map(turns).collect();
    for template in list("templates") {
        let source = template.as_str().unwrap_or_default();
        let compiled = ChatTemplate::new(source, "template", special.clone());
        for turns in &conversations {
            for generation in [false, true] {
                let rendered = match &compiled {
                    Ok(template) => template.render(turns, turns.count(), generation),
                    Err(error) => Err(error.to_string()),
                };
                let line = match rendered {
                    Ok(text) => json!({ "text": text }),
                    Err(reason) => json!({ "refused": reason }),
                };
                println!("{line}");
            }
        }
    }
    Ok(())
}

fn turns(conversation: &Value) -> Turns {
    let messages = conversation["messages"].as_array().cloned().unwrap_or_default();
    let tools = Some(conversation["tools"].clone()).filter(|tools| !tools.is_null());
    Turns::new(&Conversation { messages, tools, ..Conversation::default() })
}
