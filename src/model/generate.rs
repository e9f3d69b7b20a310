//! Continues prompts token by token, with a cache of keys and values: several at once, since a step
//! of the model costs nearly the same for one token as for a few.

mod groups;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};

pub use self::groups::{Completion, generate_groups, texts_at_once};
use crate::error::{Error, Result};
use crate::grammar::{AnswerGrammar, AnswerInProgress};
use crate::model::{Cache, Layer, Model, PassContext, Sampling};
use crate::ops::cpu::{HostTensor, Products, StoredNumbers, each, has_team, together};
use crate::ops::{host, indices};

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// New tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Did the model end by itself?
    pub ended: bool,
}

/// Continues `prompt` until a token of `ends`; each new token is shown to `watch` at once, which
/// returns false to stop.
///
/// # Errors
/// When the model's logits are not finite: it is broken, and nothing follows from them.
pub fn generate(
    model: &Model,
    prompt: &[u32],
    ends: &[u32],
    sampling: Sampling,
    watch: &mut dyn FnMut(u32) -> bool,
) -> Result<Generation> {
    let mut watch = |_: usize, token: u32| watch(token);
    let mut made = generate_all(model, &[(prompt, sampling)], ends, None, &mut watch)?;
    Ok(made.pop().expect("one for each prompt"))
}

/// Continues several prompts at once, each as [`generate`] does; `watch` is told which of them a
/// token is for. With a grammar, answers follow it.
///
/// # Errors
/// Those of [`generate`], and when no token can go on as the grammar asks.
pub fn generate_all(
    model: &Model,
    prompts: &[(&[u32], Sampling)],
    ends: &[u32],
    grammar: Option<&AnswerGrammar>,
    watch: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Generation>> {
    let mut texts = Vec::with_capacity(prompts.len());
    for (prompt, sampling) in prompts {
        let grammar = grammar.map(AnswerGrammar::begin);
        texts.push(Text { grammar, ..Text::begin(model, prompt, *sampling)? });
    }
    finish(model, &mut texts, ends, watch)?;
    Ok(texts.into_iter().map(|text| text.made).collect())
}

/// Makes tokens of all texts until each has ended.
fn finish(
    model: &Model,
    texts: &mut [Text],
    ends: &[u32],
    watch: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<()> {
    writing(model, || {
        loop {
            for (number, text) in texts.iter_mut().enumerate() {
                if !text.done {
                    text.choose(ends, &mut |token| watch(number, token))?;
                }
            }
            let mut going: Vec<&mut Text> = texts.iter_mut().filter(|text| !text.done).collect();
            if going.is_empty() {
                return Ok(());
            }
            step(model, &mut going)?;
        }
    })
}

/// Work in which tokens are written one after the other: with threads that stand ready, where the
/// kernels of the CPU do all of it. Tensor operations have the threads of the pool.
fn writing<T>(model: &Model, work: impl FnOnce() -> T) -> T {
    let here = model.device == Device::flex() && Products::of(model.computing).is_some();
    match here && model.layers.iter().all(Layer::decodes) {
        true => together(work),
        false => work(),
    }
}

/// A text that goes on over several prompts, as a conversation does: what was computed of its
/// beginning is kept while later prompts begin the same way.
#[derive(Default)]
pub struct TextInProgress(Option<Text>);

impl TextInProgress {
    /// Continues `prompt` as [`generate_all`] does.
    ///
    /// # Errors
    /// Those of [`generate_all`]; the text is forgotten then, as it is where `watch` panics.
    pub fn go_on(
        &mut self,
        model: &Model,
        prompt: &[u32],
        ends: &[u32],
        sampling: Sampling,
        grammar: Option<&AnswerGrammar>,
        watch: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Answered> {
        let known = self.0.take().filter(|text| text.is_beginning_of(prompt, model));
        let mut read = prompt.len();
        let mut text = match known {
            Some(mut text) => {
                read -= text.read;
                text.extend(model, prompt)?;
                text.done = sampling.max_tokens == 0;
                Text { sampling, made: Generation::default(), end: None, ..text }
            }
            None => Text::begin(model, prompt, sampling)?,
        };
        text.grammar = grammar.map(AnswerGrammar::begin);
        finish(model, std::slice::from_mut(&mut text), ends, &mut |_, token| watch(token))?;
        let Generation { tokens, ended } = text.made.clone();
        self.0 = Some(text);
        Ok(Answered { tokens, ended, read })
    }
}

/// What came out of a prompt of a text in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// New tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Did the model end by itself?
    pub ended: bool,
    /// The tokens of the prompt that had to be read.
    pub read: usize,
}

/// Feeding tokens one by one to a text that was begun is as much work as reading so many times
/// their number anew.
const READING_IS_FASTER: usize = 16;

/// One text under way.
struct Text {
    sampling: Sampling,
    cache: Cache,
    /// Scores after the last token that was read.
    logits: TokenScores,
    /// The prompt and what was made.
    tokens: Vec<u32>,
    /// The number of tokens that the model has seen; the last one made may be missing.
    read: usize,
    made: Generation,
    /// What has to be followed, as far as it was.
    grammar: Option<AnswerInProgress>,
    /// The token that ended it.
    end: Option<u32>,
    done: bool,
}

/// Scores of one text among those that were computed together.
#[derive(Clone, Default)]
struct TokenScores {
    all: Arc<Scores>,
    range: Range<usize>,
}

impl TokenScores {
    fn numbers(&self) -> &[f32] {
        &self.all.numbers()[self.range.clone()]
    }
}

/// Scores over the vocabulary: where the CPU has computed them, or read back.
enum Scores {
    Here(HostTensor),
    ReadBack(Vec<f32>),
}

impl Default for Scores {
    fn default() -> Self {
        Self::ReadBack(Vec::new())
    }
}

impl Scores {
    fn of(logits: Tensor<2>) -> Self {
        match HostTensor::of(&logits) {
            Some(here) if matches!(here.numbers(), StoredNumbers::F32(_)) => Self::Here(here),
            _ => Self::ReadBack(host(logits)),
        }
    }

    fn numbers(&self) -> &[f32] {
        match self {
            Self::Here(here) => here.single(),
            Self::ReadBack(numbers) => numbers,
        }
    }
}

impl Text {
    fn begin(model: &Model, prompt: &[u32], sampling: Sampling) -> Result<Self> {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let made = Generation::default();
        let mut cache = Cache::new(model);
        // Nothing to choose, nothing to compute.
        let done = sampling.max_tokens == 0;
        let logits = match done {
            true => TokenScores::default(),
            false => in_pool(model, || read(model, &mut cache, prompt))?,
        };
        let read = if done { 0 } else { prompt.len() };
        let tokens = prompt.to_vec();
        Ok(Self { sampling, cache, logits, tokens, read, made, grammar: None, end: None, done })
    }

    /// Whether a prompt begins with what was read, and so that going on is less work than to begin
    /// anew.
    fn is_beginning_of(&self, prompt: &[u32], model: &Model) -> bool {
        let more = prompt.len().saturating_sub(self.read);
        let (before, after) = (position(self.read), position(prompt.len()));
        self.read > 0
            && prompt.starts_with(&self.tokens[..self.read])
            && more.saturating_mul(READING_IS_FASTER) <= prompt.len()
            && !model.frequencies.iter().any(|of| of.differ(before, after))
    }

    /// Reads what a prompt has beyond what was read.
    fn extend(&mut self, model: &Model, prompt: &[u32]) -> Result<()> {
        self.tokens.truncate(self.read);
        writing(model, || {
            for token in &prompt[self.read..] {
                self.tokens.push(*token);
                step(model, &mut [&mut *self])?;
            }
            Ok(())
        })
    }

    /// Chooses the next token, which may be the last.
    fn choose(&mut self, ends: &[u32], watch: &mut dyn FnMut(u32) -> bool) -> Result<()> {
        let allowed = match &mut self.grammar {
            None => None,
            Some(grammar) => match grammar.allowed(self.logits.numbers())? {
                // Only an end that the model has no token for.
                None => {
                    (self.made.ended, self.done) = (true, true);
                    return Ok(());
                }
                allowed => allowed,
            },
        };
        let scores = allowed.as_deref().unwrap_or(self.logits.numbers());
        let tokens = &mut self.made.tokens;
        let next = self.sampling.choose(scores, &self.tokens, tokens.len() as u64);
        if ends.contains(&next) {
            self.made.ended = true;
            self.end = Some(next);
            self.done = true;
            return Ok(());
        }
        tokens.push(next);
        self.tokens.push(next);
        self.done = !watch(next) || tokens.len() >= self.sampling.max_tokens;
        if let Some(grammar) = &mut self.grammar
            && grammar.push(next)?
        {
            (self.made.ended, self.done) = (true, true);
        }
        Ok(())
    }
}

/// Feeds a prompt; returns the scores after its last token.
fn read(model: &Model, cache: &mut Cache, prompt: &[u32]) -> Result<TokenScores> {
    let length = prompt.len();
    let positions: Vec<u32> = (0..length).map(position).collect();
    let context = PassContext::packed(
        1,
        length,
        &positions,
        &vec![1; length],
        &model.frequencies,
        &model.device,
    )
    .computed(model.computing);
    let mut x = model.embed(&indices(prompt.iter().copied(), &model.device), &context);
    let last = model.layers.len() - 1;
    for (number, (layer, cache)) in model.layers.iter().zip(&mut cache.layers).enumerate() {
        x = layer.prompt(x, (&context, number == last), cache);
    }
    let rows = x.dims()[0];
    let scores = scores(model, x.narrow(0, rows - 1, 1))?;
    Ok(TokenScores { range: 0..scores.numbers().len(), all: scores.into() })
}

/// Feeds the last token of each text. One that is now of a length for which positions turn
/// otherwise is read again from its beginning: all that was computed of it has changed.
fn step(model: &Model, texts: &mut [&mut Text]) -> Result<()> {
    let (mut again, mut on): (Vec<&mut Text>, Vec<&mut Text>) =
        texts.iter_mut().map(|text| &mut **text).partition(|text| {
            let length = position(text.tokens.len());
            model.frequencies.iter().any(|of| of.differ(length - 1, length))
        });
    for text in &mut again {
        text.cache = Cache::new(model);
        text.logits = in_pool(model, || read(model, &mut text.cache, &text.tokens))?;
        text.read = text.tokens.len();
    }
    if on.is_empty() {
        return Ok(());
    }
    match has_team() {
        true => go_on(model, &mut on),
        false => in_pool(model, || go_on(model, &mut on)),
    }
}

/// One thread alone talks to a GPU. On the CPU it is one of the pool, which takes part in the work
/// instead of waiting for every product.
fn in_pool<T: Send>(model: &Model, work: impl FnOnce() -> T + Send) -> T {
    match model.device == Device::flex() {
        true => rayon::join(work, || ()).0,
        false => work(),
    }
}

fn go_on(model: &Model, texts: &mut [&mut Text]) -> Result<()> {
    let (mut positions, mut tokens) = (Vec::new(), Vec::new());
    for text in texts.iter() {
        positions.push(position(text.tokens.len() - 1));
        tokens.extend(text.tokens.last().copied());
    }
    let rows = texts.len();
    let context =
        PassContext::packed(rows, 1, &positions, &vec![1; rows], &model.frequencies, &model.device)
            .computed(model.computing);
    // [texts, hidden]
    let mut x = model.embed(&indices(tokens.into_iter(), &model.device), &context);
    for (number, layer) in model.layers.iter().enumerate() {
        let mut caches: Vec<_> =
            texts.iter_mut().map(|text| &mut text.cache.layers[number]).collect();
        x = layer.next(x, &context, &mut caches);
    }
    let scores = Arc::new(scores(model, x)?);
    let width = scores.numbers().len() / rows;
    for (row, text) in texts.iter_mut().enumerate() {
        let range = row * width..(row + 1) * width;
        text.logits = TokenScores { all: scores.clone(), range };
        text.read = text.tokens.len();
    }
    Ok(())
}

fn position(place: usize) -> u32 {
    u32::try_from(place).expect("contexts stay below 2^32 tokens")
}

/// Scores over the vocabulary for `x: [tokens, hidden]`, one after the other.
fn scores(model: &Model, x: Tensor<2>) -> Result<Scores> {
    const PART: usize = 1 << 14;
    let scores = Scores::of(model.logits(x));
    let numbers = scores.numbers();
    let first_broken = AtomicUsize::new(numbers.len());
    each(numbers.chunks(PART).enumerate().collect(), |(number, part): (usize, &[f32])| {
        // All of them first, in vectors.
        if part.iter().fold(false, |broken, score| broken | !score.is_finite()) {
            let place = part.iter().position(|score| !score.is_finite()).unwrap_or_default();
            first_broken.fetch_min(number * PART + place, Ordering::Relaxed);
        }
    });
    match numbers.get(first_broken.into_inner()) {
        None => Ok(scores),
        Some(score) => Err(Error::not_finite("the model's logits are not finite")
            .because(format!("one of them is {score}"))
            .hint("its weights are damaged, or the training that made them diverged")),
    }
}
