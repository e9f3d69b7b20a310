//! Turns of a conversation as records hold them, made into the one form that templates take.

use serde_json::{Map, Value};

use super::calls::calls;
use super::content::content;
use super::{Conversation, KNOWN, found};
use crate::data::sources::kind;

/// The roles that templates know; `developer` is the newer name of `system`.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
/// Other names of the role `tool`: OpenAI's older one, and that of Llama 3.
const TOOL_ROLES: [&str; 2] = ["function", "ipython"];
/// Whether the assistant's message is a target, in the words of OpenAI and mistral-finetune, of
/// axolotl, and of ms-swift.
const TARGET_KEYS: [&str; 4] = ["weight", "train", "training", "loss"];
/// Which characters of a message are targets, in axolotl's words.
const DETAIL_KEYS: [&str; 2] = ["train_detail", "training_detail"];
/// The names under which the reasoning of a message is found, as transformers looks for them.
pub const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A turn as templates take it.
pub struct Turn {
    /// An object with at least a `role` and a `content`.
    pub message: Value,
    /// Whether it is a target, if it is the assistant's.
    pub target: bool,
}

/// Whether there is a field of one of these names. Messages have few fields: to compare names costs
/// less than to look each up.
fn has_any(fields: &Map<String, Value>, names: &[&str]) -> bool {
    fields.keys().any(|key| names.contains(&key.as_str()))
}

/// The turn as templates take it; `number` counts from 1.
///
/// A null `content` stays null, since templates ask for it; other null fields are left out, as in
/// containers that cannot tell them from missing ones.
pub fn turn(message: Value, number: usize) -> Result<Turn, String> {
    let Value::Object(mut fields) = message else {
        return Err(format!("message {number} must be an object, {} was found", kind(&message)));
    };
    if fields.values().any(Value::is_null) {
        fields.retain(|key, value| key == "content" || !value.is_null());
    }
    role(&mut fields, number)?;
    let wrong = |reason| format!("message {number}: {reason}");
    let target = target(&mut fields).map_err(wrong)?;
    let calls = calls(&mut fields).map_err(wrong)?;
    let mut fields = reasoned(fields);
    let may_be_null = !calls.is_empty() || fields.contains_key(REASONING[0]);
    // Insertion leaves what is there at its place: templates may print whole messages.
    let content = match fields.get_mut("content").map(std::mem::take) {
        None | Some(Value::Null) if may_be_null => Value::Null,
        None | Some(Value::Null) => return Err(format!("message {number} has no `content`")),
        Some(given) => content(given).map_err(wrong)?,
    };
    fields.insert("content".to_owned(), content);
    match calls.is_empty() {
        true => drop(fields.shift_remove("tool_calls")),
        false => drop(fields.insert("tool_calls".to_owned(), Value::Array(calls))),
    }
    Ok(Turn { message: Value::Object(fields), target })
}

/// Checks the role; other names of `tool` become it.
fn role(fields: &mut Map<String, Value>, number: usize) -> Result<(), String> {
    match fields.get_mut("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => Ok(()),
        Some(Value::String(role)) if TOOL_ROLES.contains(&role.as_str()) => {
            "tool".clone_into(role);
            Ok(())
        }
        Some(Value::String(role)) => {
            let known = ROLES.iter().chain(&TOOL_ROLES).map(|role| format!("`{role}`"));
            let known = known.collect::<Vec<_>>().join(", ");
            Err(format!("message {number} has the role `{role}`{KNOWN}{known}"))
        }
        Some(other) => {
            let other = kind(other);
            Err(format!("message {number}: `role` must be a string, {other} was found"))
        }
        None => Err(format!("message {number} has no `role`, {}", found(fields))),
    }
}

/// Whether the record wants the message as a target, which is the trainer's business and not the
/// template's.
fn target(fields: &mut Map<String, Value>) -> Result<bool, String> {
    if !has_any(fields, &TARGET_KEYS) && !has_any(fields, &DETAIL_KEYS) {
        return Ok(true);
    }
    if let Some(key) = DETAIL_KEYS.iter().find(|key| fields.contains_key(**key)) {
        return Err(format!("`{key}` makes parts of a message targets, which cannot be done here"));
    }
    let mut wanted: Option<(&str, bool)> = None;
    for key in TARGET_KEYS {
        let target = match fields.shift_remove(key) {
            None => continue,
            Some(Value::Bool(target)) => target,
            Some(Value::Number(number)) if number.as_f64() == Some(0.0) => false,
            Some(Value::Number(number)) if number.as_f64() == Some(1.0) => true,
            Some(other) => {
                return Err(format!(
                    "`{key}` is {other}; a message is a target (1, true) or is not (0, false)"
                ));
            }
        };
        match wanted {
            Some((other, before)) if before != target => {
                return Err(format!("`{other}` and `{key}` say different things"));
            }
            _ => wanted = Some((key, target)),
        }
    }
    match wanted {
        Some((key, true)) if fields["role"] != "assistant" => Err(format!(
            "`{key}` makes this message a target, and only messages of the assistant can be targets"
        )),
        Some((_, target)) => Ok(target),
        None => Ok(true),
    }
}

/// Reasoning under both names that templates read, as transformers hands it over.
fn reasoned(mut fields: Map<String, Value>) -> Map<String, Value> {
    if !has_any(&fields, &REASONING) {
        return fields;
    }
    let Some(reasoning) = REASONING.iter().find_map(|key| fields.get(*key)).cloned() else {
        return fields;
    };
    fields.insert("reasoning_content".to_owned(), reasoning.clone());
    if fields.contains_key("thinking") {
        return fields;
    }
    std::iter::once(("thinking".to_owned(), reasoning)).chain(fields).collect()
}

/// All turns, with nothing beside them.
pub fn conversation(
    turns: impl IntoIterator<Item = Result<Turn, String>>,
) -> Result<Conversation, String> {
    let mut conversation = Conversation::default();
    for turn in turns {
        conversation.push(turn?);
    }
    Ok(conversation)
}

/// All turns with role and content as templates take them.
pub fn checked(messages: Vec<Value>) -> Result<Conversation, String> {
    conversation((1..).zip(messages).map(|(number, message)| turn(message, number)))
}

impl Conversation {
    /// Adds a turn at the end.
    pub fn push(&mut self, turn: Turn) {
        if !turn.target {
            self.not_targets.insert(self.messages.len());
        }
        self.messages.push(turn.message);
    }

    /// Puts a message before all others.
    pub fn put_first(&mut self, message: Value) {
        self.messages.insert(0, message);
        self.not_targets = self.not_targets.iter().map(|index| index + 1).collect();
    }

    /// Adds the turns of another conversation at the end.
    pub fn append(&mut self, other: Self) {
        let before = self.messages.len();
        self.not_targets.extend(other.not_targets.iter().map(|index| index + before));
        self.messages.extend(other.messages);
    }

    /// Turns round which of the assistant's messages are targets, so that the turns that are found
    /// are those of the context.
    pub fn look_for_the_others(&mut self) {
        let messages = self.messages.iter().enumerate();
        let spoken = messages.filter(|(_, turn)| turn["role"] == "assistant");
        let others = spoken.map(|(index, _)| index).filter(|it| !self.not_targets.contains(it));
        self.not_targets = others.collect();
    }

    /// Makes context of what the assistant said before the last message of the user.
    pub fn last_turn_alone(&mut self) {
        let last = self.messages.iter().rposition(|turn| turn["role"] == "user").unwrap_or(0);
        let before = self.messages[..last].iter().enumerate();
        let spoken = before.filter(|(_, turn)| turn["role"] == "assistant");
        self.not_targets.extend(spoken.map(|(index, _)| index));
    }

    /// Makes context of everything that was said so far.
    pub fn as_context(&mut self) {
        let spoken =
            self.messages.iter().enumerate().filter(|(_, turn)| turn["role"] == "assistant");
        self.not_targets = spoken.map(|(index, _)| index).collect();
    }
}
