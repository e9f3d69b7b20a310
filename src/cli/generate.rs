//! `firebrand generate`

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::answering::{ModelArgs, SamplingArgs, Speaker};
use crate::cli::{data_json, talk};
use crate::error::{Context, Error, Result};
use crate::model::{Sampling, TextInProgress};

/// Let a model go on from a prompt; the text is streamed to stdout
///
/// A file or another program gets the text byte by byte as the model wrote it. On a terminal, and
/// in the log of GitHub Actions or Azure Pipelines, characters that would steer it are escaped.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What to go on from; `-` reads it from stdin
    #[arg(long, short, value_name = "TEXT", required_unless_present = "prompts")]
    prompt: Option<String>,
    /// Many prompts, a JSON object a line: `{"prompt": TEXT}`, with `--chat` also `{"messages":
    /// [...]}`; what is printed is each object with its `answer`, the number of its `tokens`, and
    /// whether it is `complete`
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// How many of many prompts are answered at the same time
    #[arg(long, value_name = "N", default_value_t = 8, requires = "prompts")]
    batch_size: usize,
    /// Treat the prompt as a user's turn, rendered with the model's chat template
    #[arg(long)]
    chat: bool,
    /// At most this many new tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let of_templates = [
        ("--chat-template", args.model.chat_template.is_some()),
        ("--template-arg", !args.model.template_args.is_empty()),
    ];
    if let (Some((name, _)), false) = (of_templates.iter().find(|(_, given)| *given), args.chat) {
        return Err(Error::usage(format!("`{name}` changes nothing without `--chat`")));
    }
    let sampling = args.sampling.sampling("generate", args.max_tokens)?;
    if let Some(file) = &args.prompts {
        return answer_all(args, file, sampling);
    }
    let prompt = match args.prompt.as_deref().unwrap_or_default() {
        "-" => from_stdin()?,
        text => text.to_owned(),
    };
    let speaker = args.model.speaker(&args.sampling)?;
    let prompt = match args.chat {
        true => speaker.codec.chat_tokens(&prompt)?,
        false => speaker.codec.text_tokens(&prompt)?,
    };
    if prompt.is_empty() {
        return Err(Error::usage("the prompt is empty"));
    }
    let text = &mut TextInProgress::default();
    let answer = speaker.answer(text, &prompt, sampling, &args.sampling)?;
    talk(&answer.facts);
    Ok(ExitCode::SUCCESS)
}

/// Answers the prompts of a file, so many at a time; an error names the line.
fn answer_all(args: &Args, file: &Path, sampling: Sampling) -> Result<ExitCode> {
    if args.batch_size == 0 {
        return Err(Error::usage("`--batch-size` must be 1 or above"));
    }
    let lines = BufReader::new(File::open(file).context_at("cannot read the prompts", file)?);
    let speaker = args.model.speaker(&args.sampling)?;
    let mut lines = lines.lines().zip(1_usize..);
    loop {
        let (mut objects, mut prompts, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (line, number) in lines.by_ref() {
            let line = line.context_at("cannot read the prompts", file)?;
            if line.trim().is_empty() {
                continue;
            }
            let at = |error: Error| error.at(format!("{}:{number}", file.display()));
            let object = serde_json::from_str::<Map<String, Value>>(&line)
                .map_err(|error| at(Error::usage("a prompt is no JSON object").because(error)))?;
            prompts.push(tokens_of(&speaker, &object, args.chat).map_err(at)?);
            objects.push(object);
            numbers.push(number as u64);
            if prompts.len() == args.batch_size {
                break;
            }
        }
        if prompts.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        // Draws follow from the place in the file, whatever is answered together.
        let own = |place: usize| {
            let stream = sampling.stream.number(numbers[place]);
            Sampling { stream, ..sampling }
        };
        let answers = speaker.answers(&prompts, own, &args.sampling).map_err(|error| {
            let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
            error.at(format!("{}, lines {first} to {last}", file.display()))
        })?;
        for (mut object, answer) in objects.into_iter().zip(answers) {
            object.insert("answer".to_owned(), answer.text.into());
            object.insert("tokens".to_owned(), answer.tokens.into());
            object.insert("complete".to_owned(), answer.complete.into());
            data_json(&Value::Object(object).to_string())?;
        }
    }
}

/// What one object asks.
fn tokens_of(speaker: &Speaker, object: &Map<String, Value>, chat: bool) -> Result<Vec<u32>> {
    let codec = &speaker.codec;
    let tokens = match (object.get("prompt"), object.get("messages"), chat) {
        (Some(Value::String(text)), None, true) => codec.chat_tokens(text),
        (Some(Value::String(text)), None, false) => codec.text_tokens(text),
        (None, Some(Value::Array(messages)), true) => codec.conversation_tokens(messages.clone()),
        (None, Some(_), false) => {
            Err(Error::usage("`messages` are a conversation").hint("give `--chat`, too"))
        }
        _ => Err(Error::usage("a string `prompt`, or a list `messages`, is expected")),
    }?;
    if tokens.is_empty() {
        return Err(Error::usage("the prompt is empty"));
    }
    Ok(tokens)
}

/// Most bytes of a prompt that is read from stdin.
const PROMPT_BYTES_MAX: u64 = 64 << 20;

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    let wrong = |why: String| Error::usage("the prompt on stdin cannot be read").because(why);
    let mut limited = std::io::stdin().lock().take(PROMPT_BYTES_MAX + 1);
    limited.read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > PROMPT_BYTES_MAX {
        return Err(wrong("it has more than 64 MiB".to_owned()));
    }
    // The line end that `echo` and editors add.
    let end = text.strip_suffix('\n').map_or(text.len(), str::len);
    text.truncate(end);
    Ok(text)
}
