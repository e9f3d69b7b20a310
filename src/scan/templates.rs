//! Chat templates: rendered with a bounded number of instructions, in a process of its own.
//!
//! A template cannot read files, and its instructions are counted, but a string that it doubles
//! again and again fills the memory in forty of them. So it runs in a child process that the
//! system stops at a limit; that child is this program.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::report::Report;
use super::rules::{TEMPLATE_BOMB, TEMPLATE_ESCAPE, TEMPLATE_INVALID};
use crate::data::{ChatTemplate, Conversation, Turns};
use crate::error::{Context, Error, Result};

/// Longer templates are not run; the longest in use have about 20 kB.
pub(super) const MAX_TEMPLATE: usize = 1 << 20;
/// The child's address space. The program itself takes some hundred MB of it.
const MEMORY: u64 = 2 << 30;
/// Processor time of the child in seconds, and the time after which it is stopped in any case.
const SECONDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(30);
/// How many chat templates are run, and how many that run away.
const MAX_TEMPLATES: usize = 64;
const MAX_BOMBS: usize = 3;
/// How much of the child's answer is read.
const MAX_ANSWER: u64 = 4096;

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

/// What became of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It writes plain conversations.
    Fine,
    /// It is not valid, or fails; why.
    Fails(String),
    /// It takes too much of something; of what.
    Bomb(String),
}

impl Outcome {
    /// In one line, for the parent.
    pub fn to_line(&self) -> String {
        let (word, why) = match self {
            Self::Fine => ("fine", ""),
            Self::Fails(why) => ("fails", why.as_str()),
            Self::Bomb(why) => ("bomb", why.as_str()),
        };
        format!("{word} {}", why.replace('\n', " "))
    }

    fn from_line(line: &str) -> Option<Self> {
        let (word, why) = line.trim_end_matches('\n').split_once(' ')?;
        match word {
            "fine" => Some(Self::Fine),
            "fails" => Some(Self::Fails(why.to_owned())),
            "bomb" => Some(Self::Bomb(why.to_owned())),
            _ => None,
        }
    }
}

/// Looks at templates, each of a file. `program` is this program, to run them in; without one they
/// run here.
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
    let outcome = match program {
        Some(program) => match in_child(program, source) {
            Ok(outcome) => outcome,
            Err(error) => {
                let why = error.causes.first().cloned().unwrap_or_default();
                report.unread(file, format!("the template was not run: {why}"));
                return false;
            }
        },
        None => render(source),
    };
    let bomb = matches!(outcome, Outcome::Bomb(_));
    if let Outcome::Fails(why) | Outcome::Bomb(why) = outcome {
        let rule = if bomb { &TEMPLATE_BOMB } else { &TEMPLATE_INVALID };
        report.add(rule, file, format!("the chat template: {why}"));
    }
    bomb
}

/// Renders conversations that every template should be able to write.
pub fn render(source: &str) -> Outcome {
    let special = ["bos_token", "eos_token", "unk_token", "pad_token"]
        .map(|name| (name.to_owned(), format!("<{name}>")));
    let template = match ChatTemplate::new(source, "chat template", BTreeMap::from(special)) {
        Ok(template) => template,
        Err(error) => {
            let why = error.causes.first().cloned().unwrap_or_default();
            let why = format!("{}: {why}", error.what);
            return if is_too_much(&why) { Outcome::Bomb(why) } else { Outcome::Fails(why) };
        }
    };
    let mut failure = None;
    let mut written = false;
    for (conversation, generation) in conversations() {
        let turns = Turns::new(&conversation);
        match template.render(&turns, turns.count(), generation) {
            Ok(_) => written = true,
            Err(why) => {
                if is_too_much(&why) {
                    return Outcome::Bomb(why);
                }
                failure.get_or_insert(why);
            }
        }
    }
    match failure {
        Some(why) if !written => Outcome::Fails(format!("it fails on plain conversations: {why}")),
        _ => Outcome::Fine,
    }
}

/// Whether a template ended at one of the engine's limits.
fn is_too_much(why: &str) -> bool {
    const LIMITS: [&str; 6] = [
        "runs for too long",
        "writes more than",
        "recursion",
        "too large",
        "too many elements",
        "engine fails on it",
    ];
    LIMITS.iter().any(|limit| why.contains(limit))
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

/// What the child does: it takes its limits, reads a template from stdin, and renders it.
///
/// # Errors
/// When the template cannot be read.
pub fn child(input: impl Read) -> Result<Outcome> {
    limit();
    let mut source = String::new();
    input
        .take(MAX_TEMPLATE as u64)
        .read_to_string(&mut source)
        .context("cannot read the template")?;
    Ok(render(&source))
}

#[cfg(unix)]
fn limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Core, 0)]
    {
        // Where a limit cannot be set, the parent's patience remains.
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}

#[cfg(not(unix))]
fn limit() {}

fn in_child(program: &Path, source: &str) -> Result<Outcome> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context_at("cannot start the program", program)?;
    if let Some(mut input) = child.stdin.take() {
        // A child that ends early does not read all of it; its status tells why.
        let _ = input.write_all(source.as_bytes());
    }
    let status = wait(&mut child)?;
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_ANSWER).read_to_string(&mut answer).context("cannot read the answer")?;
    }
    match status {
        Some(status) if status.success() => Outcome::from_line(&answer)
            .ok_or_else(|| Error::new("no answer").because("the program gave no answer")),
        Some(status) if status.code().is_some() => {
            Err(Error::new("no answer").because(format!("the program ended with {status}")))
        }
        _ => Ok(Outcome::Bomb("it takes too much memory or time".to_owned())),
    }
}

/// Waits for the end, which is brought about after a while.
fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return Ok(Some(status));
        }
        if start.elapsed() > PATIENCE {
            child.kill().context("cannot stop the program")?;
            child.wait().context("cannot wait for the program")?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The hidden command that runs [`child`].
pub const COMMAND: &str = "render-template";
