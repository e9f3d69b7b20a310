//! `firebrand chat`

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::answering::{ModelArgs, SamplingArgs, Speaker};
use crate::cli::{talk, talk_of};
use crate::error::{Error, ErrorCode, Result};
use crate::model::{Sampling, TextInProgress};

/// Talk with a model, turn after turn
///
/// Each line is a turn; a line of three quotation marks (\"\"\") begins and ends a turn of several
/// lines. Lines that begin with a slash are commands; `/help` lists them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told before the first turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// At most this many new tokens in an answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Say after each answer how fast it was made
    #[arg(long)]
    speed: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const HELP: &str = "/new          forget the conversation
/system TEXT  tell the model this from now on; nothing after it takes that back
/undo         forget the last turn and its answer
/save FILE    append the conversation to a file, as a record that `train` reads
/exit         end, as the end of the input does
//TEXT        a turn that begins with a slash";

/// Most bytes of a line.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What begins and ends a turn of several lines.
const QUOTES: &str = "\"\"\"";

pub fn run(args: &Args) -> Result<ExitCode> {
    let sampling = args.sampling.sampling("chat", args.max_tokens)?;
    let speaker = args.model.speaker(&args.sampling)?;
    speaker.codec.chat_template()?;
    let system = args.system.clone();
    let mut chat = Chat { speaker, sampling, args, system, turns: Vec::new(), answered: 0 };
    let mut text = TextInProgress::default();
    talk("`/help` lists commands");
    while let Some(input) = next_input()? {
        match command(&input) {
            Some(("exit", _)) => break,
            Some((name, rest)) => {
                chat.obey(name, rest).unwrap_or_else(|error| talk_of(&error));
            }
            None => chat.turn(&mut text, input.strip_prefix('/').unwrap_or(&input))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a command and what follows it; none where a line is a turn.
fn command(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix('/').filter(|rest| !rest.starts_with('/'))?;
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some((name, rest.trim()))
}

/// A conversation under way.
struct Chat<'a> {
    speaker: Speaker,
    sampling: Sampling,
    args: &'a Args,
    system: Option<String>,
    /// Of the user and the model, in turn.
    turns: Vec<Value>,
    /// The answers so far, forgotten ones too: each has draws of its own.
    answered: u64,
}

impl Chat<'_> {
    /// Answers one turn. What is wrong with the turn alone is said, and it is forgotten.
    fn turn(&mut self, text: &mut TextInProgress, content: &str) -> Result<()> {
        self.turns.push(json!({ "role": "user", "content": content }));
        match self.answer(text) {
            Ok(answer) => {
                self.turns.push(json!({ "role": "assistant", "content": answer }));
                Ok(())
            }
            Err(error) if matches!(error.code, ErrorCode::Usage | ErrorCode::Template) => {
                self.turns.pop();
                talk_of(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, text: &mut TextInProgress) -> Result<String> {
        let prompt = self.speaker.codec.conversation_tokens(self.messages())?;
        let stream = self.sampling.stream.number(self.answered);
        self.answered += 1;
        let sampling = Sampling { stream, ..self.sampling };
        let answer = self.speaker.answer(text, &prompt, sampling, &self.args.sampling);
        let answer = answer.map_err(|error| match error.code {
            ErrorCode::Usage => error.hint("`/new` begins a new conversation"),
            _ => error,
        })?;
        if self.args.speed || !answer.complete {
            talk(&answer.facts);
        }
        Ok(answer.text)
    }

    fn messages(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        system.chain(self.turns.iter().cloned()).collect()
    }

    fn obey(&mut self, name: &str, rest: &str) -> Result<()> {
        match (name, rest) {
            ("help", "") => talk(HELP),
            ("new", "") => self.turns.clear(),
            ("undo", "") => self.turns.truncate(self.turns.len().saturating_sub(2)),
            ("system", text) => self.system = (!text.is_empty()).then(|| text.to_owned()),
            ("save", "") => return Err(Error::usage("`/save` needs the name of a file")),
            ("save", file) => self.save(Path::new(file))?,
            ("help" | "new" | "undo", _) => {
                return Err(Error::usage(format!("`/{name}` takes nothing more")));
            }
            _ => {
                return Err(Error::usage(format!("there is no command `/{name}`"))
                    .hint("`/help` lists them; two slashes begin a turn with a slash"));
            }
        }
        Ok(())
    }

    fn save(&self, file: &Path) -> Result<()> {
        if self.turns.is_empty() {
            return Err(Error::usage("nothing was said that could be saved"));
        }
        let record = json!({ "messages": self.messages() });
        let mut open = std::fs::OpenOptions::new();
        let opened = open.append(true).create(true).open(file);
        opened
            .and_then(|mut opened| opened.write_all(format!("{record}\n").as_bytes()))
            .map_err(|error| Error::file("cannot save the conversation").at(file).because(error))?;
        talk(&format!("saved {} messages: {}", self.messages().len(), file.display()));
        Ok(())
    }
}

/// The next line that is not empty, or lines between quotation marks; none at the end.
fn next_input() -> Result<Option<String>> {
    let mut lines: Option<Vec<String>> = None;
    loop {
        if std::io::stdin().is_terminal() {
            crate::terminal::invite(if lines.is_some() { ". " } else { "> " });
        }
        let Some(line) = next_line()? else {
            return Ok(lines.map(|lines| lines.join("\n")));
        };
        match (&mut lines, line.trim() == QUOTES) {
            (None, true) => lines = Some(Vec::new()),
            (Some(lines), true) => return Ok(Some(lines.join("\n"))),
            (Some(lines), false) => lines.push(line),
            (None, false) if line.trim().is_empty() => {}
            (None, false) => return Ok(Some(line)),
        }
    }
}

fn next_line() -> Result<Option<String>> {
    let mut line = String::new();
    let wrong = |why: String| Error::usage("a line on stdin cannot be read").because(why);
    let read = std::io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line);
    match read.map_err(|error| wrong(error.to_string()))? {
        0 => Ok(None),
        read if read as u64 == LINE_BYTES_MAX => Err(wrong("it has 16 MiB or more".to_owned())),
        _ => Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
    }
}
