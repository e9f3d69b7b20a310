//! What `generate` and `chat` share: a model with its tokenizer on a device, how tokens are chosen,
//! and an answer that appears while it is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::artifact::open::{BaseChoice, OpenedModel, open, opened_on};
use crate::cli::output::failed;
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{named_device, talk};
use crate::data::{Codec, StopTexts, TextStream};
use crate::device::{self, OpenedDevice};
use crate::error::{Error, Result};
use crate::grammar::AnswerGrammar;
use crate::hub::Policy;
use crate::model::{Filters, Sampling, TextInProgress, generate_all};
use crate::random::Stream;
use crate::report::Transfers;
use crate::terminal;
use crate::train::Access;

/// How tokens are chosen, and where an answer ends.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
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
    /// Answer in JSON that fits this JSON Schema: tokens that would leave it are never chosen
    #[arg(long, value_name = "FILE", conflicts_with = "stop")]
    json_schema: Option<PathBuf>,
    /// Makes draws repeatable
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

impl SamplingArgs {
    /// How tokens are chosen, with draws of their own at each place in the program.
    ///
    /// # Errors
    /// When a value is out of range, or would change nothing.
    pub fn sampling(&self, site: &str, max_tokens: usize) -> Result<Sampling> {
        let filters = self.filters()?;
        let stream = Stream::new(self.seed).site(site);
        Ok(Sampling { filters, ..Sampling::new(self.temperature, stream, max_tokens) })
    }

    /// What answers have to look like, if that was said; what the schema says in vain is told.
    fn grammar(&self, codec: &Codec) -> Result<Option<AnswerGrammar>> {
        let Some(file) = &self.json_schema else { return Ok(None) };
        let grammar = AnswerGrammar::json_schema(file, &codec.tokenizer, codec.stops())?;
        grammar.notes.iter().for_each(|note| talk(&format!("note: {note}")));
        Ok(Some(grammar))
    }

    fn filters(&self) -> Result<Filters> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::usage("`--temperature` must be 0 or above"));
        }
        let of_draws = [
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
        ];
        if let (Some((name, _)), true) =
            (of_draws.iter().find(|(_, given)| *given), self.temperature == 0.0)
        {
            return Err(Error::usage(format!("`{name}` changes nothing without draws"))
                .hint("give a `--temperature` above 0, too"));
        }
        let is_share = |share: &f64| *share > 0.0 && *share <= 1.0;
        for (name, share) in [("--top-p", self.top_p), ("--min-p", self.min_p)] {
            if share.is_some_and(|share| !is_share(&share)) {
                return Err(Error::usage(format!("`{name}` must be above 0 and at most 1")));
            }
        }
        if self.top_k == Some(0) {
            return Err(Error::usage("`--top-k` must be 1 or above"));
        }
        let repetition_penalty = self.repetition_penalty.unwrap_or(1.0);
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return Err(Error::usage("`--repetition-penalty` must be above 0"));
        }
        let (top_k, top_p, min_p) = (self.top_k, self.top_p, self.min_p);
        Ok(Filters { top_k, top_p, min_p, repetition_penalty })
    }
}

/// Which model runs where, and how its turns are written.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// A model directory, an artifact, a run (finished or not), a checkpoint of one (`RUN@best`,
    /// `RUN@last`, `RUN@step-200`), or owner/name on the hub, also with `@revision`
    pub model: String,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    weights: WeightFormatArgs,
    /// A Jinja chat template in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Hand a name to the chat template, as `data.template_args` does: `enable_thinking=false`; the
    /// value is JSON, or else text
    #[arg(long = "template-arg", value_name = "NAME=VALUE", value_parser = template_arg)]
    pub template_args: Vec<(String, serde_json::Value)>,
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

impl ModelArgs {
    /// Opens it all; what is to be known of the model is said.
    ///
    /// # Errors
    /// When the device, the model, or the schema that answers have to fit cannot be used.
    pub fn speaker(&self, sampling: &SamplingArgs) -> Result<Speaker> {
        let (opened, model, codec) = self.open()?;
        if model.score_head.is_some() {
            return Err(Error::model("a model that scores labels writes no text")
                .at(&self.model)
                .hint("`firebrand classify` scores texts with it"));
        }
        let grammar = sampling.grammar(&codec)?;
        Ok(Speaker { opened, model, codec, grammar, name: self.model.clone() })
    }

    /// Device, model and codec; what is to be known of the model is said.
    ///
    /// # Errors
    /// When the device or the model cannot be used.
    pub fn open(&self) -> Result<(OpenedDevice, OpenedModel, Codec)> {
        let opened = device::open(named_device(&self.device)?, 0)?;
        let transfers = Arc::new(Transfers::new(false));
        let supply = Access { transfers, ..Access::default() }.supply(Policy::default())?;
        let base = BaseChoice { instead: self.base.as_deref(), linears: self.weights.format() };
        let model = opened_on(&opened, || open(&self.model, base, &opened.device, &supply))?;
        model.notes.iter().for_each(|note| talk(&format!("note: {note}")));
        let args_of_run = model.template_args.clone().into_iter();
        let codec = model
            .codec(self.chat_template.as_deref())?
            .with_template_args(args_of_run.chain(self.template_args.iter().cloned()));
        Ok((opened, model, codec))
    }
}

/// A model that answers.
pub struct Speaker {
    opened: OpenedDevice,
    model: OpenedModel,
    /// Its tokenizer and chat template.
    pub codec: Codec,
    grammar: Option<AnswerGrammar>,
    name: String,
}

/// An answer that was shown.
pub struct Answer {
    /// What stands in it, without a text that ended it.
    pub text: String,
    /// Whether the model or a text of `--stop` ended it.
    pub complete: bool,
    /// How it ended and how fast it was, as a message.
    pub facts: String,
}

impl Speaker {
    /// The tokens that the model can take, prompt and answer together; any number where positions
    /// turn slower as a text becomes longer.
    pub fn context(&self) -> usize {
        let model = &self.model.model;
        let longest = model.description.positions_max;
        let beyond = u32::try_from(longest).unwrap_or(u32::MAX - 2) + 1;
        match model.frequencies.iter().any(|of| of.differ(beyond, beyond + 1)) {
            true => usize::MAX,
            false => longest,
        }
    }

    /// Answers a prompt, in a text whose beginning may have been read before; what is made is shown
    /// at once.
    ///
    /// # Errors
    /// When the device fails, the model's logits are not finite, or nobody takes the text.
    pub fn answer(
        &self,
        text: &mut TextInProgress,
        prompt: &[u32],
        sampling: Sampling,
        args: &SamplingArgs,
    ) -> Result<Answer> {
        let ends: Vec<u32> = self.codec.stops().iter().copied().collect();
        let (mut stream, mut out) = (TextStream::new(true), terminal::Stream::begin());
        let mut stops = StopTexts::new(args.stop.iter().cloned());
        let (mut failure, mut first, mut shown) = (None, None, String::new());
        let began = Instant::now();
        let mut show = |token| {
            first.get_or_insert_with(|| began.elapsed());
            let pushed = stream.push(&self.codec.tokenizer, token).and_then(|piece| {
                let piece = stops.push(&piece);
                shown.push_str(&piece);
                out.push(&piece).map_err(failed)
            });
            failure = pushed.err();
            failure.is_none() && !stops.found()
        };
        let room = sampling.max_tokens.min(self.room_after(prompt)?);
        let sampling = Sampling { max_tokens: room, ..sampling };
        let made = device::room_for(1).and_then(|()| {
            let model = &self.model.model;
            let grammar = self.grammar.as_ref();
            let work = || text.go_on(model, prompt, &ends, sampling, grammar, &mut show);
            device::attempt(self.opened.on_gpu(), work)
        });
        let generation = made.map_err(|failure| failure.while_doing("generating text"))?;
        if let Some(error) = failure {
            return Err(error);
        }
        let generation = generation.map_err(|error| error.at(&self.name))?;
        let rest = stops.push(&stream.finish(&self.codec.tokenizer)?) + &stops.finish();
        out.push(&(rest.clone() + "\n")).map_err(failed)?;
        shown.push_str(&rest);
        let (read, count) = (prompt.len(), generation.tokens.len());
        let why = match (stops.found(), generation.ended) {
            (true, _) => "stopped at `--stop`".to_owned(),
            (false, true) if self.grammar.is_some() => "the JSON is whole".to_owned(),
            (false, true) => "the model ended".to_owned(),
            (false, false) if read + count >= self.context() => {
                format!("the model's context of {} tokens is full", self.context())
            }
            (false, false) => "stopped at `--max-tokens`".to_owned(),
        };
        let (all, first) = (began.elapsed(), first.unwrap_or_default());
        let facts = format!(
            "prompt {read} tokens, {}; {count} tokens, {} on {}; {why}",
            speed(generation.read, first),
            // The first comes with the prompt.
            speed(count.saturating_sub(1), all.saturating_sub(first)),
            self.opened.name
        );
        Ok(Answer { text: shown, complete: generation.ended || stops.found(), facts })
    }

    /// Answers several prompts at once, which costs nearly as little as one; nothing is shown.
    ///
    /// # Errors
    /// Those of [`Speaker::answer`], and when a prompt does not fit the model's context.
    pub fn answers(
        &self,
        prompts: &[Vec<u32>],
        sampling: impl Fn(usize) -> Sampling,
        args: &SamplingArgs,
    ) -> Result<Vec<Batched>> {
        let ends: Vec<u32> = self.codec.stops().iter().copied().collect();
        let mut asked = Vec::with_capacity(prompts.len());
        for (number, prompt) in prompts.iter().enumerate() {
            let sampling = sampling(number);
            let max_tokens = sampling.max_tokens.min(self.room_after(prompt)?);
            asked.push((prompt.as_slice(), Sampling { max_tokens, ..sampling }));
        }
        let fresh = || (TextStream::new(true), StopTexts::new(args.stop.iter().cloned()));
        let mut texts: Vec<_> = prompts.iter().map(|_| (fresh(), String::new())).collect();
        let mut failure = None;
        let mut watch = |number: usize, token| {
            let ((stream, stops), text) = &mut texts[number];
            match stream.push(&self.codec.tokenizer, token) {
                Ok(piece) => text.push_str(&stops.push(&piece)),
                Err(error) => failure = Some(error),
            }
            failure.is_none() && !stops.found()
        };
        let made = device::room_for(prompts.len()).and_then(|()| {
            let (model, grammar) = (&self.model.model, self.grammar.as_ref());
            let work = || generate_all(model, &asked, &ends, grammar, &mut watch);
            device::attempt(self.opened.on_gpu(), work)
        });
        let made = made.map_err(|failure| failure.while_doing("generating text"))?;
        if let Some(error) = failure {
            return Err(error);
        }
        let made = made.map_err(|error| error.at(&self.name))?;
        let finished =
            made.into_iter().zip(texts).map(|(made, ((mut stream, mut stops), text))| {
                let rest = stops.push(&stream.finish(&self.codec.tokenizer)?) + &stops.finish();
                let complete = made.ended || stops.found();
                Ok(Batched { text: text + &rest, tokens: made.tokens.len(), complete })
            });
        finished.collect()
    }

    /// How many tokens an answer to a prompt can have.
    fn room_after(&self, prompt: &[u32]) -> Result<usize> {
        let context = self.context();
        match context.checked_sub(prompt.len()) {
            Some(room) if room > 0 => Ok(room),
            _ => {
                let said = format!("the prompt has {} tokens, which is too long", prompt.len());
                Err(Error::usage(said)
                    .because(format!("the model takes {context} tokens, prompt and answer"))
                    .hint("shorten it"))
            }
        }
    }
}

/// An answer that was made beside others.
pub struct Batched {
    /// What stands in it, without a text that ended it.
    pub text: String,
    /// The number of its tokens.
    pub tokens: usize,
    /// Whether the model or a text of `--stop` ended it.
    pub complete: bool,
}

#[expect(clippy::cast_precision_loss)] // for display
fn speed(tokens: usize, time: Duration) -> String {
    match tokens as f64 / time.as_secs_f64() {
        speed if speed.is_finite() => format!("{speed:.1} tokens/s"),
        _ => "0.0 tokens/s".to_owned(),
    }
}
