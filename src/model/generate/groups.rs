//! Several completions of each of several prompts: a prompt is read once, and what was computed of
//! it is where all of its completions begin. So many are written at the same time as cost nearly as
//! much as one; when one ends, the next begins.

use burn::tensor::Device;

use super::{Generation, Text, step, writing};
use crate::error::Result;
use crate::model::{Model, Sampling};
use crate::ops::cpu::{FEW_ROWS, each};

/// Completions that a GPU writes at the same time.
const ON_GPU: usize = 64;

/// What the model wrote after a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// All new tokens, the one that ended them among them.
    pub tokens: Vec<u32>,
    /// Did the model end by itself?
    pub ended: bool,
}

impl Completion {
    /// What was written, without the token that ended it.
    pub fn said(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - usize::from(self.ended)]
    }
}

/// How many a device writes at the same time.
pub fn texts_at_once(on_gpu: bool) -> usize {
    if on_gpu { ON_GPU } else { FEW_ROWS }
}

/// A completion under way: of which prompt, and which of its completions.
struct Writing {
    group: usize,
    number: usize,
    text: Text,
}

/// Continues each prompt once for each way of drawing. Each completion is that of
/// [`super::generate`], whatever is written beside it; `watch` hears how many are done.
///
/// # Errors
/// Those of [`super::generate`].
pub fn generate_groups(
    model: &Model,
    groups: &[(&[u32], Vec<Sampling>)],
    ends: &[u32],
    watch: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Completion>>> {
    let empty = |(_, of): &(_, Vec<Sampling>)| vec![Completion::default(); of.len()];
    let mut made: Vec<Vec<Completion>> = groups.iter().map(empty).collect();
    let at_once = texts_at_once(model.device != Device::flex());
    let mut waiting = (0..).zip(groups).flat_map(|(group, (prompt, of))| {
        (0..).zip(of).map(move |(number, sampling)| (group, number, *prompt, *sampling))
    });
    let mut read: Option<(usize, Text)> = None;
    let mut under_way: Vec<Writing> = Vec::with_capacity(at_once);
    let mut done = 0;
    writing(model, || {
        loop {
            while under_way.len() < at_once
                && let Some((group, number, prompt, sampling)) = waiting.next()
            {
                let known = read.take().filter(|(of, _)| *of == group);
                let (_, beginning) = match known {
                    Some(known) => read.insert(known),
                    None => read.insert((group, Text::begin(model, prompt, sampling)?)),
                };
                under_way.push(Writing { group, number, text: beginning.again(sampling) });
            }
            if under_way.is_empty() {
                return Ok(());
            }
            choose(&mut under_way, ends)?;
            for ended in under_way.extract_if(.., |it| it.text.done) {
                made[ended.group][ended.number] = ended.text.into();
                done += 1;
                watch(done);
            }
            let mut texts: Vec<&mut Text> = under_way.iter_mut().map(|it| &mut it.text).collect();
            if !texts.is_empty() {
                step(model, &mut texts)?;
            }
        }
    })?;
    Ok(made)
}

/// The next token of each.
fn choose(under_way: &mut [Writing], ends: &[u32]) -> Result<()> {
    let mut chosen: Vec<Result<()>> = under_way.iter().map(|_| Ok(())).collect();
    each(under_way.iter_mut().zip(&mut chosen).collect(), |(it, chosen)| {
        *chosen = it.text.choose(ends, &mut |_| true);
    });
    chosen.into_iter().collect()
}

impl Text {
    /// What was read so far, to be continued in another way.
    fn again(&self, sampling: Sampling) -> Self {
        let done = sampling.max_tokens == 0;
        let (logits, tokens) = (self.logits.clone(), self.tokens.clone());
        let (cache, read) = (self.cache.clone(), self.read);
        let (made, grammar, end) = (Generation::default(), None, None);
        Self { sampling, cache, logits, tokens, read, made, grammar, end, done }
    }
}

impl From<Text> for Completion {
    fn from(text: Text) -> Self {
        let mut tokens = text.made.tokens;
        tokens.extend(text.end);
        Self { tokens, ended: text.made.ended }
    }
}
