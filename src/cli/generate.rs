//! `firebrand generate`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::artifact::open::{BaseChoice, open, opened_on};
use crate::cli::output::failed;
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{named_device, talk};
use crate::data::{Codec, StopTexts, TextStream};
use crate::device;
use crate::error::{Error, Result};
use crate::hub::Policy;
use crate::model::{Filters, Sampling, generate};
use crate::random::Stream;
use crate::terminal;
use crate::train::Access;

/// Let a model go on from a prompt; the text is streamed to stdout
///
/// A file or another program gets the text byte by byte as the model wrote it. On a terminal, and
/// in the log of GitHub Actions or Azure Pipelines, characters that would steer it are escaped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, an artifact, a run (finished or not), or owner/name on the hub
    model: String,
    /// What to go on from
    #[arg(long, short, value_name = "TEXT")]
    prompt: String,
    /// Treat the prompt as a user's turn, rendered with the model's chat template
    #[arg(long)]
    chat: bool,
    /// At most this many new tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// 0 always takes the most likely token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Draw from so many of the most likely tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the fewest of the most likely tokens whose probabilities are so much together
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw from tokens with at least this share of the probability of the most likely one only
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Make tokens that were there before less likely: above 1
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// End where the model writes this, which is not shown; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Makes draws repeatable
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    weights: WeightFormatArgs,
    /// A Jinja chat template in place of the model's own
    #[arg(long, value_name = "FILE", requires = "chat")]
    chat_template: Option<PathBuf>,
    /// Hand a name to the chat template, as `data.template_args` does: `enable_thinking=false`; the
    /// value is JSON, or else text
    #[arg(long = "template-arg", value_name = "NAME=VALUE", requires = "chat",
        value_parser = template_arg)]
    template_args: Vec<(String, serde_json::Value)>,
    /// As `device.name` in a configuration, such as cpu, gpu:1 or vulkan
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
}

/// Reads `NAME=VALUE`.
fn template_arg(text: &str) -> std::result::Result<(String, serde_json::Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((name.to_owned(), value))
        }
        _ => Err("a name and a value are expected, such as `enable_thinking=false`".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let wanted = named_device(&args.device)?;
    let filters = filters(args)?;
    let opened = device::open(wanted, 0)?;
    let transfers = std::sync::Arc::new(crate::report::Transfers::new(false));
    let supply = Access { transfers, ..Access::default() }.supply(Policy::default())?;
    let base = BaseChoice { instead: args.base.as_deref(), linears: args.weights.format() };
    let model = opened_on(&opened, || open(&args.model, base, &opened.device, &supply))?;
    model.notes.iter().for_each(|note| talk(&format!("note: {note}")));
    let template = args.chat_template.as_deref().or(model.chat_template.as_deref());
    let args_of_run = model.template_args.clone().into_iter();
    let template_args = args_of_run.chain(args.template_args.iter().cloned());
    let codec = Codec::load_for(model.model.description.vocabulary, &model.codec, template)?
        .with_template_args(template_args);
    let prompt = if args.chat {
        codec.chat_tokens(&args.prompt)?
    } else {
        codec.text_tokens(&args.prompt)?
    };
    if prompt.is_empty() {
        return Err(Error::usage("the prompt is empty"));
    }
    let stream = Stream::new(args.seed).site("generate");
    let sampling = Sampling { filters, ..Sampling::new(args.temperature, stream, args.max_tokens) };
    let ends: Vec<u32> = codec.stops().iter().copied().collect();
    let (mut text, mut out) = (TextStream::new(true), terminal::Stream::begin());
    let mut stops = StopTexts::new(args.stop.iter().cloned());
    let (mut failure, mut first) = (None, None);
    let began = Instant::now();
    let mut show = |token| {
        first.get_or_insert_with(|| began.elapsed());
        let piece = text.push(&codec.tokenizer, token);
        let shown = piece.and_then(|piece| out.push(&stops.push(&piece)).map_err(failed));
        failure = shown.err();
        failure.is_none() && !stops.found()
    };
    let made = device::room_for(1).and_then(|()| {
        let work = || generate(&model.model, &prompt, &ends, sampling, &mut show);
        device::attempt(opened.on_gpu(), work)
    });
    let generation = made.map_err(|failure| failure.while_doing("generating text"))?;
    if let Some(error) = failure {
        return Err(error);
    }
    let generation = generation.map_err(|error| error.at(&args.model))?;
    let rest = stops.push(&text.finish(&codec.tokenizer)?) + &stops.finish();
    out.push(&(rest + "\n")).map_err(failed)?;
    let why = match (stops.found(), generation.ended) {
        (true, _) => "stopped at `--stop`",
        (false, true) => "the model ended",
        (false, false) => "stopped at `--max-tokens`",
    };
    let (all, first) = (began.elapsed(), first.unwrap_or_default());
    let (read, count) = (prompt.len(), generation.tokens.len());
    talk(&format!(
        "prompt {read} tokens, {}; {count} tokens, {} on {}; {why}",
        speed(read, first),
        // The first comes with the prompt.
        speed(count.saturating_sub(1), all.saturating_sub(first)),
        opened.name
    ));
    Ok(ExitCode::SUCCESS)
}

/// How tokens are chosen; settings that would change nothing are errors.
fn filters(args: &Args) -> Result<Filters> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(Error::usage("`--temperature` must be 0 or above"));
    }
    let of_draws = [
        ("--top-k", args.top_k.is_some()),
        ("--top-p", args.top_p.is_some()),
        ("--min-p", args.min_p.is_some()),
    ];
    if let (Some((name, _)), true) =
        (of_draws.iter().find(|(_, given)| *given), args.temperature == 0.0)
    {
        return Err(Error::usage(format!("`{name}` changes nothing without draws"))
            .hint("give a `--temperature` above 0, too"));
    }
    let is_share = |share: &f64| *share > 0.0 && *share <= 1.0;
    for (name, share) in [("--top-p", args.top_p), ("--min-p", args.min_p)] {
        if share.is_some_and(|share| !is_share(&share)) {
            return Err(Error::usage(format!("`{name}` must be above 0 and at most 1")));
        }
    }
    if args.top_k == Some(0) {
        return Err(Error::usage("`--top-k` must be 1 or above"));
    }
    let repetition_penalty = args.repetition_penalty.unwrap_or(1.0);
    if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
        return Err(Error::usage("`--repetition-penalty` must be above 0"));
    }
    let (top_k, top_p, min_p) = (args.top_k, args.top_p, args.min_p);
    Ok(Filters { top_k, top_p, min_p, repetition_penalty })
}

#[expect(clippy::cast_precision_loss)] // for display
fn speed(tokens: usize, time: Duration) -> String {
    match tokens as f64 / time.as_secs_f64() {
        speed if speed.is_finite() => format!("{speed:.1} tokens/s"),
        _ => "0.0 tokens/s".to_owned(),
    }
}
