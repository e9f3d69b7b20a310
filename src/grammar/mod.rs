//! Answers that follow a JSON Schema: at each place, which tokens may come next.
//!
//! The grammar is llguidance's (<https://github.com/guidance-ai/llguidance>): an Earley parser over
//! the bytes of tokens, with limits on time and size. What a schema asks for and cannot be held
//! by a grammar is refused by it, with a name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Map, Value};

use crate::data::Tokenizer;
use crate::error::{Error, Result, catch_panic, in_a_line};
use crate::files::read_json_schema;

/// White space between values: a model that may write any number of spaces can use up all of its
/// tokens on them.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,24}";

/// What answers have to look like.
pub struct AnswerGrammar {
    matcher: Matcher,
    file: PathBuf,
    /// What the schema says and the grammar does not hold, in words.
    pub notes: Vec<String>,
}

impl AnswerGrammar {
    /// Reads a JSON Schema; an answer is whole where it fits, and the model then writes one of the
    /// tokens `ends`.
    ///
    /// # Errors
    /// When the file is no JSON Schema, asks for something that a grammar cannot hold, or needs
    /// more time or memory than is allowed; when the bytes of the tokens are not known.
    pub fn json_schema(file: &Path, tokenizer: &Tokenizer, ends: &BTreeSet<u32>) -> Result<Self> {
        let schema =
            with_white_space(read_json_schema(file)?.value).map_err(|error| error.at(file))?;
        let words = tokenizer.token_bytes()?;
        let made = catch_panic(|| matcher(schema, words, ends));
        let wrong = |why: String| {
            Error::config("answers cannot be held to this schema").at(file).because(in_a_line(&why))
        };
        let mut matcher = made.map_err(wrong)?.map_err(wrong)?;
        let notes = matcher.grammar_warnings();
        Ok(Self { matcher, file: file.to_path_buf(), notes })
    }

    /// An answer of which nothing is written.
    pub fn begin(&self) -> AnswerInProgress {
        AnswerInProgress { matcher: self.matcher.deep_clone(), file: self.file.clone() }
    }
}

fn matcher(
    schema: Value,
    mut words: Vec<Vec<u8>>,
    ends: &BTreeSet<u32>,
) -> std::result::Result<Matcher, String> {
    let mut ends: Vec<u32> =
        ends.iter().copied().filter(|end| (*end as usize) < words.len()).collect();
    let special = |id: usize, words: &mut Vec<Vec<u8>>| {
        let mut name = vec![TokTrie::SPECIAL_TOKEN_MARKER];
        name.extend_from_slice(format!("<end {id}>").as_bytes());
        words[id] = name;
    };
    if ends.is_empty() {
        // Some token has to end the grammar; one that the model does not have.
        words.push(Vec::new());
        ends.push(u32::try_from(words.len() - 1).map_err(|error| error.to_string())?);
    }
    ends.iter().for_each(|end| special(*end as usize, &mut words));
    let size = u32::try_from(words.len()).map_err(|error| error.to_string())?;
    let trie = TokTrie::from(&TokRxInfo::new(size, ends[0]), &words).with_eos_tokens(&ends);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
        .map_err(|error| error.to_string())?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
    let matcher = Matcher::new(parser);
    match matcher.get_error() {
        None => Ok(matcher),
        Some(error) => Err(error),
    }
}

/// The schema with a limit on white space, unless it says itself (`x-guidance`) what it wants.
fn with_white_space(schema: Value) -> Result<Value> {
    let mut schema = match schema {
        Value::Object(map) => Value::Object(map),
        Value::Bool(true) => Value::Object(Map::new()),
        _ => {
            return Err(Error::config("answers cannot be held to this schema")
                .because("it is `false`, which nothing fits"));
        }
    };
    if schema.get("x-guidance").is_none() {
        let white_space = Some(WHITE_SPACE.to_owned());
        JsonCompileOptions { whitespace_pattern: white_space, ..<_>::default() }
            .apply_to(&mut schema);
    }
    Ok(schema)
}

/// An answer under way.
pub struct AnswerInProgress {
    matcher: Matcher,
    file: PathBuf,
}

impl AnswerInProgress {
    /// Scores in which every token that may not come next has minus infinity; none where the answer
    /// is whole and nothing can follow.
    ///
    /// # Errors
    /// When no token of the vocabulary can go on, or finding those that can takes too long.
    pub fn allowed(&mut self, scores: &[f32]) -> Result<Option<Vec<f32>>> {
        let mask = self.matcher.compute_mask_or_eos();
        let mask = mask.map_err(|error| self.wrong(&error.to_string()))?;
        let mut left = vec![f32::NEG_INFINITY; scores.len()];
        let mut any = false;
        mask.iter_set_entries(|token| {
            if let (Some(to), Some(from)) = (left.get_mut(token), scores.get(token)) {
                *to = *from;
                any = true;
            }
        });
        Ok(any.then_some(left))
    }

    /// Takes the token that came; whether the answer is whole and nothing can follow.
    ///
    /// # Errors
    /// When it is not one that may come.
    pub fn push(&mut self, token: u32) -> Result<bool> {
        match self.matcher.consume_token(token) {
            Ok(()) => Ok(self.matcher.is_stopped()),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    /// Whether the answer could end here.
    pub fn is_whole(&mut self) -> bool {
        self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
    }

    fn wrong(&self, why: &str) -> Error {
        Error::model("the answer cannot go on as the schema asks")
            .at(&self.file)
            .because(in_a_line(why))
    }
}

#[cfg(test)]
mod tests;
