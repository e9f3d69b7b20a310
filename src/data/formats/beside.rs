//! Fields that stand beside the list of messages and say something to the model.

use serde_json::{Value, json};

use super::calls::tools;
use super::{Conversation, Fields, optional_string};
use crate::data::sources::kind;
use crate::files::parse_exact_json;

/// Where records keep the system turn; the second is the name in some public data sets.
const SYSTEM: [&str; 2] = ["system", "system_prompt"];
/// What only models that see or hear can learn from.
const MEDIA: [&str; 6] = ["image", "images", "audio", "audios", "video", "videos"];
/// What a template is given by the program and not by a record.
const RESERVED: [&str; 8] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "tokenize",
    "return_dict",
    "return_assistant_tokens_mask",
];

/// Takes what stands beside the messages out of the record and into the conversation.
pub fn take_beside(record: &mut Fields, conversation: &mut Conversation) -> Result<(), String> {
    no_media(record)?;
    conversation.tools = tools(record)?;
    conversation.template_args = template_args(record)?;
    take_system(record, conversation)
}

fn no_media(record: &Fields) -> Result<(), String> {
    let holds = |name: &&&str| match record.get(**name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    match MEDIA.iter().find(holds) {
        Some(name) => Err(format!("the record has `{name}`, and only text can be trained on")),
        None => Ok(()),
    }
}

/// The system text beside the messages becomes the first turn.
fn take_system(record: &mut Fields, conversation: &mut Conversation) -> Result<(), String> {
    for name in SYSTEM {
        let system = optional_string(record, name)?;
        record.remove(name); // a null
        if system.is_empty() {
            continue;
        }
        let role = conversation.messages.first().map(|first| &first["role"]);
        let has_one = role.is_some_and(|role| role == "system" || role == "developer");
        if !has_one {
            conversation.put_first(json!({ "role": "system", "content": system }));
        } else if conversation.messages[0]["content"].as_str().map(str::trim) != Some(system.trim())
        {
            return Err(format!("`{name}` and the system turn say different things"));
        }
    }
    Ok(())
}

/// What the record hands to the template by name, such as `enable_thinking`.
fn template_args(record: &mut Fields) -> Result<Fields, String> {
    const NAME: &str = "chat_template_kwargs";
    let args = match record.remove(NAME) {
        None | Some(Value::Null) => return Ok(Fields::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Fields::new()),
        Some(Value::String(text)) => parse_exact_json(text.as_bytes())
            .map_err(|_| format!("`{NAME}` is a string that holds no JSON"))?,
        Some(args) => args,
    };
    let Value::Object(mut args) = args else {
        return Err(format!("`{NAME}` must be an object, {} was found", kind(&args)));
    };
    args.retain(|_, value| !value.is_null());
    match RESERVED.iter().find(|name| args.contains_key(**name)) {
        Some(name) => Err(format!("`{NAME}` sets `{name}`, which a record must not set")),
        None => Ok(args),
    }
}
