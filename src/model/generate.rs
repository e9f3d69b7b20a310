//! Continues prompts token by token, with a cache of keys and values: several at once, since a step
//! of the model costs nearly the same for one token as for a few.

use burn::tensor::Tensor;

use crate::error::{Error, Result};
use crate::model::{Cache, Model, PassContext, Sampling};
use crate::ops::{host, indices};

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let mut made = generate_all(model, &[(prompt, sampling)], ends, &mut watch)?;
    Ok(made.pop().expect("one for each prompt"))
}

/// Continues several prompts at once, each as [`generate`] does; `watch` is told which of them a
/// token is for.
///
/// # Errors
/// Those of [`generate`].
pub fn generate_all(
    model: &Model,
    prompts: &[(&[u32], Sampling)],
    ends: &[u32],
    watch: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Generation>> {
    let mut texts = Vec::with_capacity(prompts.len());
    for (prompt, sampling) in prompts {
        texts.push(Text::begin(model, prompt, *sampling)?);
    }
    loop {
        for (number, text) in texts.iter_mut().enumerate() {
            if !text.done {
                text.choose(ends, &mut |token| watch(number, token));
            }
        }
        let mut going: Vec<&mut Text> = texts.iter_mut().filter(|text| !text.done).collect();
        if going.is_empty() {
            return Ok(texts.into_iter().map(|text| text.made).collect());
        }
        step(model, &mut going)?;
    }
}

/// One text under way.
struct Text {
    sampling: Sampling,
    cache: Cache,
    /// Scores after its last token.
    logits: Vec<f32>,
    /// The prompt and what was made.
    tokens: Vec<u32>,
    made: Generation,
    done: bool,
}

impl Text {
    fn begin(model: &Model, prompt: &[u32], sampling: Sampling) -> Result<Self> {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let made = Generation { tokens: Vec::new(), ended: false };
        let mut cache = Cache::new(model);
        // Nothing to choose, nothing to compute.
        let done = sampling.max_tokens == 0;
        let logits = if done { Vec::new() } else { read(model, &mut cache, prompt)? };
        Ok(Self { sampling, cache, logits, tokens: prompt.to_vec(), made, done })
    }

    /// Chooses the next token, which may be the last.
    fn choose(&mut self, ends: &[u32], watch: &mut dyn FnMut(u32) -> bool) {
        let tokens = &mut self.made.tokens;
        let next = self.sampling.choose(&self.logits, &self.tokens, tokens.len() as u64);
        if ends.contains(&next) {
            self.made.ended = true;
            self.done = true;
            return;
        }
        tokens.push(next);
        self.tokens.push(next);
        self.done = !watch(next) || tokens.len() >= self.sampling.max_tokens;
    }
}

/// Feeds a prompt; returns the scores after its last token.
fn read(model: &Model, cache: &mut Cache, prompt: &[u32]) -> Result<Vec<f32>> {
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
    for (layer, cache) in model.layers.iter().zip(&mut cache.layers) {
        x = layer.prompt(x, &context, cache);
    }
    scores(model, x.narrow(0, length - 1, 1))
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
        text.logits = read(model, &mut text.cache, &text.tokens)?;
    }
    if on.is_empty() { Ok(()) } else { go_on(model, &mut on) }
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
    let scores = scores(model, x)?;
    let width = scores.len() / rows;
    for (text, scores) in texts.iter_mut().zip(scores.chunks_exact(width)) {
        scores.clone_into(&mut text.logits);
    }
    Ok(())
}

fn position(place: usize) -> u32 {
    u32::try_from(place).expect("contexts stay below 2^32 tokens")
}

/// Scores over the vocabulary for `x: [tokens, hidden]`, one after the other.
fn scores(model: &Model, x: Tensor<2>) -> Result<Vec<f32>> {
    let scores = host(model.logits(x));
    match scores.iter().find(|score| !score.is_finite()) {
        None => Ok(scores),
        Some(score) => Err(Error::not_finite("the model's logits are not finite")
            .because(format!("one of them is {score}"))
            .hint("its weights are damaged, or the training that made them diverged")),
    }
}
