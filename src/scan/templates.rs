//! Chat templates: conversations are rendered as a run renders them, in the same process with the
//! same limits, so that what scans clean does no harm in a run.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::report::Report;
use super::rules::{TEMPLATE_BOMB, TEMPLATE_ESCAPE, TEMPLATE_INVALID};
use crate::data::{Conversation, TemplateRenderer, TemplateText, Tried};
use crate::error::{Error, ErrorCode, Result};

/// Longer templates are not run; the longest in use have about 64 KiB.
pub(super) const MAX_TEMPLATE: usize = 1 << 20;
/// How many chat templates are run, and how many that run away.
const MAX_TEMPLATES: usize = 64;
const MAX_BOMBS: usize = 3;

/// What only a template that wants out of its sandbox says.
const ESCAPES: [&str; 14] = [
    "__class__",
    "__globals__",
    "__subclasses__",
    "__mro__",
    "__base__",
    "__bases__",
    "__builtins__",
    "__import__",
    "__init__",
    "__getattribute__",
    "__dict__",
    "lipsum",
    "os.popen",
    "os.system",
];

/// The template of a decision model: it is handed a state and a question, too.
const ASKED: &str = "decision_template.jinja";
/// By what a template refuses what it is handed.
const REFUSES: &str = "raise_exception";

/// What became of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplateCheck {
    /// It writes plain conversations.
    Fine,
    /// It is not valid, or fails; why.
    Fails(String),
    /// It takes too much of something; of what.
    Bomb(String),
}

/// Looks at templates, each of a file. `program` is this program, to run them in; without one they
/// run here, under fewer limits.
pub(super) fn look_at_all<'a>(
    templates: impl Iterator<Item = &'a (String, String)>,
    program: Option<&Path>,
    report: &mut Report,
) {
    let mut bombs = 0;
    for (count, (file, source)) in templates.enumerate() {
        if count == MAX_TEMPLATES || bombs == MAX_BOMBS {
            return report.unread(file, "this chat template and those after it were not run");
        }
        bombs += usize::from(look(file, source, program, report));
    }
}

/// Looks at one template; says whether it ran away.
fn look(file: &str, source: &str, program: Option<&Path>, report: &mut Report) -> bool {
    if source.len() > MAX_TEMPLATE {
        let detail = format!("the chat template has {} bytes", source.len());
        report.add(&TEMPLATE_BOMB, file, detail);
        return false;
    }
    if let Some(word) = ESCAPES.iter().find(|word| source.contains(*word)) {
        report.add(&TEMPLATE_ESCAPE, file, format!("the chat template says `{word}`"));
    }
    let outcome = match render(source, program, file.rsplit('/').next() == Some(ASKED)) {
        Ok(outcome) => outcome,
        Err(error) => {
            let why = error.causes.first().cloned().unwrap_or_default();
            report.unread(file, format!("the template was not run: {why}"));
            return false;
        }
    };
    let bomb = matches!(outcome, TemplateCheck::Bomb(_));
    if let TemplateCheck::Fails(why) | TemplateCheck::Bomb(why) = outcome {
        let rule = if bomb { &TEMPLATE_BOMB } else { &TEMPLATE_INVALID };
        report.add(rule, file, format!("the chat template: {why}"));
    }
    bomb
}

/// Renders conversations that every template should be able to write, as a run would; one that is
/// `asked` questions is, and may refuse all of these: it knows those of its own labels alone.
fn render(source: &str, program: Option<&Path>, asked: bool) -> Result<TemplateCheck> {
    let special = ["bos_token", "eos_token", "unk_token", "pad_token"]
        .map(|name| (name.to_owned(), format!("<{name}>")));
    let text = TemplateText { source: source.to_owned(), origin: "chat template".to_owned() };
    let renderer = match TemplateRenderer::in_program(text, BTreeMap::from(special), program) {
        Ok(renderer) => renderer,
        Err(error) => return failed(error),
    };
    let mut failure = None;
    let mut written = false;
    let questions = if asked { questions() } else { Vec::new() };
    for (conversation, generation) in conversations().into_iter().chain(questions) {
        match renderer.attempt(&conversation, generation) {
            Ok(tried) if tried.at_limit => {
                let why = tried.written.err().unwrap_or_else(|| "it came to a limit".to_owned());
                return Ok(TemplateCheck::Bomb(why));
            }
            Ok(Tried { written: Ok(()), .. }) => written = true,
            Ok(Tried { written: Err(why), .. }) => drop(failure.get_or_insert(why)),
            Err(error) => return failed(error),
        }
    }
    Ok(match failure {
        Some(why) if !written && !(asked && source.contains(REFUSES)) => {
            TemplateCheck::Fails(format!("it fails on plain conversations: {why}"))
        }
        _ => TemplateCheck::Fine,
    })
}

/// What an error says of a template.
fn failed(error: Error) -> Result<TemplateCheck> {
    let why = error.causes.first().cloned().unwrap_or_default();
    let sentence = format!("{}: {why}", error.what);
    match error.code {
        ErrorCode::TemplateLimit => Ok(TemplateCheck::Bomb(sentence)),
        ErrorCode::Template => Ok(TemplateCheck::Fails(sentence)),
        _ => Err(error),
    }
}

/// What transformers hands the template of a decision model: a text or messages, and a question of
/// each type.
fn questions() -> Vec<(Conversation, bool)> {
    let user = |text: &str| json!({"role": "user", "content": text});
    let states = [json!("Hello?"), json!([user("Hello?")])];
    let types = [
        ("choice", ["yes", "no"], ["A", "B"]),
        ("noul", ["true", "false"], ["Yes", "No"]),
        ("score", ["0", "1"], ["A", "B"]),
    ];
    let asked = |state: &Value, (kind, options, labels): (&str, [&str; 2], [&str; 2])| {
        let question = json!({
            "name": "it", "type": kind, "instructions": "Is it one?",
            "options": options, "labels": labels, "descriptions": ["It is.", null],
        });
        let args = [
            ("state", state.clone()),
            ("questions", json!([question])),
            ("question", question),
            ("enable_thinking", false.into()),
            ("sanitize_control_tokens", false.into()),
        ];
        let template_args =
            args.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let messages = vec![user("")];
        (Conversation { messages, template_args, ..Conversation::default() }, true)
    };
    states.iter().flat_map(|state| types.map(|kind| asked(state, kind))).collect()
}

fn conversations() -> Vec<(Conversation, bool)> {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let (user, assistant) = (turn("user", "Hello?"), turn("assistant", "Good day."));
    let talk = |messages: Vec<_>| Conversation { messages, ..Conversation::default() };
    let tool = json!({"type": "function", "function": {
        "name": "weather", "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }});
    let long = (0..20).flat_map(|_| [user.clone(), assistant.clone()]).collect();
    let tools =
        Conversation { tools: Some(json!([tool])), ..talk(vec![user.clone(), assistant.clone()]) };
    vec![
        (talk(vec![user.clone(), assistant.clone()]), false),
        (talk(vec![turn("system", "Be brief."), user.clone(), assistant, user]), true),
        (tools, false),
        (talk(long), true),
    ]
}
