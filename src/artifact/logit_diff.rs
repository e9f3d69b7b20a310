//! How far two models are apart: the largest difference of their logits on a few prompts.

use std::fmt;
use std::path::Path;

use super::past::Past;
use crate::data::Codec;
use crate::error::{Error, Result};
use crate::model::{Description, Model, PassContext};
use crate::ops::{host, indices};
use crate::random::Stream;

/// At most so many positions are compared: the scores of one model are held until the other's come.
const POSITIONS_MAX: usize = 256;
/// Of one prompt at most so many tokens, from its beginning.
const ROW_TOKENS_MAX: usize = 64;
/// Where a run has no prompts: so many rows of so many tokens, drawn with seed 0.
const DRAWN: [usize; 2] = [4, 32];

/// Rows of tokens to compare two models on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    tokens: Vec<Vec<u32>>,
    /// What they are, for people.
    pub what: String,
}

impl Rows {
    /// The prompts of a run in the tokens of the model in `directory`, written as the run wrote
    /// them; tokens drawn at random where there are no prompts.
    pub fn new(past: &Past, directory: &Path, description: &Description) -> Result<Self> {
        if past.prompts.is_empty() {
            return Ok(Self::drawn(description.vocabulary));
        }
        let codec = Codec::load(directory, None)?.with_template_args(past.template_args()?);
        Self::of_prompts(&past.prompts, &codec, description.vocabulary)
    }

    /// Prompts in the tokens of a model with so many; tokens drawn at random where there are no
    /// prompts.
    pub fn of_prompts(prompts: &[String], codec: &Codec, vocabulary: usize) -> Result<Self> {
        let mut tokens = Vec::new();
        let mut positions = 0;
        for prompt in prompts {
            let mut row = codec.prompt(prompt)?;
            row.truncate(ROW_TOKENS_MAX.min(POSITIONS_MAX - positions));
            positions += row.len();
            if !row.is_empty() {
                tokens.push(row);
            }
        }
        let outside = |row: &Vec<u32>| row.iter().any(|token| *token as usize >= vocabulary);
        if tokens.is_empty() || tokens.iter().any(outside) {
            return Ok(Self::drawn(vocabulary));
        }
        let what = format!("{} of the run's prompts, {positions} tokens", tokens.len());
        Ok(Self { tokens, what })
    }

    /// These rows, none of them empty.
    pub fn of_tokens(tokens: Vec<Vec<u32>>, what: &str) -> Self {
        Self { tokens, what: what.to_owned() }
    }

    /// The tokens of each row.
    pub fn tokens(&self) -> &[Vec<u32>] {
        &self.tokens
    }

    /// The first rows, and of each the first tokens.
    #[must_use]
    pub fn shortened(&self, rows: usize, tokens: usize) -> Self {
        let short = |row: &Vec<u32>| row[..row.len().min(tokens)].to_vec();
        let tokens: Vec<Vec<u32>> = self.tokens.iter().take(rows).map(short).collect();
        let positions: usize = tokens.iter().map(Vec::len).sum();
        let what = match tokens == self.tokens {
            true => self.what.clone(),
            false => format!("the first {positions} tokens of {}", self.what),
        };
        Self { tokens, what }
    }

    fn drawn(vocabulary: usize) -> Self {
        let [rows, length] = DRAWN;
        let stream = Stream::new(0).site("likeness");
        let token = |counter: usize| {
            let drawn = stream.bits(counter as u64) % vocabulary as u64;
            u32::try_from(drawn).expect("vocabularies stay below 2^32")
        };
        let row = |row: usize| (0..length).map(|place| token(row * length + place)).collect();
        let what = format!("{rows} rows of {length} tokens drawn from the vocabulary with seed 0");
        Self { tokens: (0..rows).map(row).collect(), what }
    }

    /// Each of them by itself.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        let one = |row: &Vec<u32>| Self { tokens: vec![row.clone()], what: self.what.clone() };
        self.tokens.iter().map(one)
    }

    /// The logits of a model for every position, `[vocabulary]` each, row after row.
    pub fn logits(&self, model: &Model) -> Vec<Vec<f32>> {
        self.logits_through(model, |context| context)
    }

    /// The same of the base of a model with an adapter.
    pub fn logits_of_base(&self, model: &Model) -> Vec<Vec<f32>> {
        self.logits_through(model, PassContext::without_adapters)
    }

    fn logits_through(
        &self,
        model: &Model,
        through: impl Fn(PassContext) -> PassContext,
    ) -> Vec<Vec<f32>> {
        let of_row = |row: &Vec<u32>| {
            let length = row.len();
            let positions: Vec<u32> = (0..).take(length).collect();
            let ones = vec![1; length];
            let (frequencies, device) = (&model.frequencies, &model.device);
            let context = PassContext::packed(1, length, &positions, &ones, frequencies, device);
            let context = through(context.computed(model.computing));
            let tokens = indices(row.iter().copied(), device);
            host(model.logits(model.hidden(tokens, &context)))
        };
        self.tokens.iter().map(of_row).collect()
    }
}

/// How far two models are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitDiff {
    /// On what they were compared.
    pub what: String,
    /// The largest difference of a logit.
    pub difference: f64,
    /// The largest logit, without its sign: what the difference is to be seen against.
    pub largest: f64,
    /// Positions at which both find the same token most likely.
    pub agreeing: usize,
    /// Positions compared.
    pub positions: usize,
}

impl LogitDiff {
    /// Compares the logits of two models on the same rows.
    ///
    /// # Errors
    /// When a logit is not a number: then one of the models is broken.
    pub fn new(rows: &Rows, one: &[Vec<f32>], other: &[Vec<f32>]) -> Result<Self> {
        let mut found = Self {
            what: rows.what.clone(),
            difference: 0.0,
            largest: 0.0,
            agreeing: 0,
            positions: 0,
        };
        for ((row, one), other) in rows.tokens.iter().zip(one).zip(other) {
            assert_eq!(one.len(), other.len(), "the models have one vocabulary");
            let width = one.len() / row.len();
            for (a, b) in one.chunks_exact(width).zip(other.chunks_exact(width)) {
                found.positions += 1;
                found.agreeing += usize::from(best(a) == best(b));
                for (a, b) in a.iter().zip(b) {
                    let (a, b) = (f64::from(*a), f64::from(*b));
                    if !(a.is_finite() && b.is_finite()) {
                        return Err(Error::not_finite("the model's logits are not finite numbers")
                            .because(format!("{a} and {b} on {}", rows.what)));
                    }
                    found.difference = found.difference.max((a - b).abs());
                    found.largest = found.largest.max(a.abs());
                }
            }
        }
        Ok(found)
    }

    /// Its numbers by name, for a lineage.
    #[expect(clippy::cast_precision_loss)] // a few hundred positions
    pub fn metrics(&self) -> [(String, f64); 4] {
        [
            ("adapter_logit_difference", self.difference),
            ("adapter_logit_largest", self.largest),
            ("adapter_agreeing_positions", self.agreeing as f64),
            ("adapter_positions", self.positions as f64),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

impl fmt::Display for LogitDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, difference, largest, agreeing, positions } = self;
        write!(
            f,
            "largest difference of a logit {difference:.3e} (largest logit {largest:.3e}), the \
             same most likely token at {agreeing} of {positions} positions; on {what}"
        )
    }
}

fn best(logits: &[f32]) -> Option<usize> {
    let by_score = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    logits.iter().enumerate().max_by(by_score).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn rows() -> Rows {
        Rows { tokens: vec![vec![1, 2], vec![3]], what: "three tokens".to_owned() }
    }

    #[test]
    fn the_difference_is_the_largest_and_the_best_tokens_are_counted() {
        let one = vec![vec![1.0, 2.0, 5.0, 4.0], vec![0.0, -8.0]];
        let other = vec![vec![1.0, 2.5, 3.0, 4.0], vec![0.0, -8.0]];
        let found = LogitDiff::new(&rows(), &one, &other).unwrap();
        assert_eq!((found.difference, found.largest), (2.0, 8.0));
        assert_eq!((found.agreeing, found.positions), (2, 3));
        let text = found.to_string();
        says(
            &text,
            snapbox::str![
                "largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 2 of 3 positions; on three tokens"
            ],
        );
        assert!(LogitDiff::new(&rows(), &one, &[vec![f32::NAN; 4], vec![0.0; 2]]).is_err());
    }

    #[test]
    fn tokens_are_drawn_where_there_are_no_prompts() {
        let drawn = Rows::drawn(10);
        assert_eq!(drawn, Rows::drawn(10));
        assert_eq!(drawn.tokens.len() * drawn.tokens[0].len(), 128);
        assert!(drawn.tokens.iter().flatten().all(|token| *token < 10));
        assert_ne!(drawn.tokens[0], drawn.tokens[1]);
    }
}
