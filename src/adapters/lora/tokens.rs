//! Tokens whose rows of the embedding are trained beside an adapter and saved with it: PEFT's
//! `trainable_token_indices`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::whole::whole_weights;
use crate::adapters::{Adapter, WeightChange};
use crate::data::Tokenizer;
use crate::device::Arithmetic;
use crate::error::{Error, Result, nearest};
use crate::model::{Description, Model, token_rows_path};
use crate::weights::Element;
use burn::tensor::{Device, FloatDType};

/// The path of the rows of the embedding that an adapter trains, with their dimensions.
///
/// # Errors
/// When a token has no row, is named twice, or the embedding is trained whole.
pub fn token_rows(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Option<(String, [usize; 2])>> {
    if let [text, ..] = adapter.trainable_tokens() {
        let what = format!("`{}` in `lora.trainable_tokens` is not known yet", text.escape_debug());
        return Err(Error::adapter(what).because("no tokenizer was asked for its number"));
    }
    let tokens = adapter.trainable_token_indices();
    if tokens.is_empty() {
        return Ok(None);
    }
    let rows = description.vocabulary;
    if let Some(token) = tokens.iter().find(|token| **token >= rows) {
        let what = format!("the token {token} in `trainable_token_indices` has no row to train");
        return Err(Error::adapter(what).because(format!("the model's embedding has {rows} rows")));
    }
    if tokens.iter().collect::<BTreeSet<_>>().len() < tokens.len() {
        return Err(Error::adapter("a token appears twice in `trainable_token_indices`"));
    }
    let embedding = description.names.embedding;
    if whole_weights(adapter, description)?.iter().any(|(path, _)| *path == embedding) {
        let what = "rows of the embedding are to be trained, and all of it is trained already";
        return Err(Error::adapter(what)
            .because("`lora.modules_to_save` names it, or the output head, which is the same")
            .hint("leave out `lora.modules_to_save`, or the tokens"));
    }
    Ok(Some((token_rows_path(embedding), [tokens.len(), description.hidden])))
}

/// The paths of tables that do not stay as the files of the base have them.
///
/// # Errors
/// Those of [`whole_weights`] and [`token_rows`].
pub fn changed_tables(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<&'static str>> {
    let whole = whole_weights(adapter, description)?.into_iter().map(|(path, _)| path);
    let rows = token_rows(adapter, description)?.map(|_| description.names.embedding);
    Ok(whole.chain(rows).collect())
}

/// The same adapter with the numbers of all its tokens: those that it has as texts are looked up in
/// the tokenizer of a model directory.
///
/// # Errors
/// When the tokenizer does not know them, or cannot be read.
pub fn with_token_numbers(adapter: Arc<dyn Adapter>, model: &Path) -> Result<Arc<dyn Adapter>> {
    let texts = adapter.trainable_tokens();
    if texts.is_empty() {
        return Ok(adapter);
    }
    let tokenizer = Tokenizer::load(model)?;
    let mut numbers: BTreeSet<usize> = adapter.trainable_token_indices().iter().copied().collect();
    let mut problems = Vec::new();
    for text in texts {
        match tokenizer.token_id(text) {
            Some(number) => drop(numbers.insert(number as usize)),
            None => problems.push(unknown(text, &tokenizer)),
        }
    }
    match Error::all(problems) {
        Some(error) => Err(error.at(model)),
        None => Ok(adapter.with_trainable_tokens(numbers.into_iter().collect())),
    }
}

fn unknown(text: &str, tokenizer: &Tokenizer) -> Error {
    let shown = text.escape_debug();
    let error = Error::adapter(format!(
        "`{shown}` in `lora.trainable_tokens` is not a token of the base model's tokenizer"
    ));
    let known = tokenizer.special_texts();
    match nearest(text, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(
            "write a token as `tokenizer.json` has it, or its number in \
             `lora.trainable_token_indices`",
        ),
    }
}

/// The same tokens in the order in which another adapter has them, where both have the same.
pub fn in_order_of(adapter: Arc<dyn Adapter>, other: &dyn Adapter) -> Arc<dyn Adapter> {
    let (own, theirs) = (adapter.trainable_token_indices(), other.trainable_token_indices());
    let sorted = |tokens: &[usize]| tokens.iter().copied().collect::<BTreeSet<_>>();
    match own != theirs && own.len() == theirs.len() && sorted(own) == sorted(theirs) {
        true => adapter.with_trainable_tokens(theirs.to_vec()),
        false => adapter,
    }
}

/// Makes the rows trainable. On the CPU the embedding is kept as its files have it, so that rows
/// are rounded as merging rounds them.
pub fn train_rows(model: &mut Model, adapter: &dyn Adapter) {
    let tokens = adapter.trainable_token_indices();
    if tokens.is_empty() {
        return;
    }
    let description = &model.description;
    let bfloat16 = model.computing.arithmetic == Arithmetic::MixedBf16
        || description.element == Element::BF16
            && !description.in_blocks.contains_key(description.names.embedding);
    let matrix = &mut model.embedding.matrix;
    matrix.dequantise();
    if bfloat16 && model.device == Device::flex() {
        matrix.round(FloatDType::BF16);
    }
    let number = |token: &usize| u32::try_from(*token).expect("tokens have rows");
    matrix.train_rows(tokens.iter().map(number).collect());
}

/// Merging puts the rows of tokens in the place of those of the base.
pub struct ReplacedRows {
    /// The tokens, in the order of their rows.
    pub tokens: Vec<usize>,
    /// Their rows, one after the other.
    pub values: Vec<f32>,
    /// Numbers of a row.
    pub width: usize,
}

impl WeightChange for ReplacedRows {
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]) {
        added.fill(0.0);
        for (token, values) in self.tokens.iter().zip(self.values.chunks_exact(self.width)) {
            let Some(row) = token.checked_sub(first) else { continue };
            let range = row * self.width..(row + 1) * self.width;
            let Some(row) = rows.get_mut(range.clone()) else { continue };
            for ((row, added), value) in row.iter_mut().zip(&mut added[range]).zip(values) {
                *added = value - *row;
                *row = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_replaced_in_whichever_part_of_the_matrix_they_are() {
        let change =
            ReplacedRows { tokens: vec![3, 0], values: vec![7.0, 8.0, 1.0, 2.0], width: 2 };
        let mut rows = vec![0.5; 4];
        let mut added = vec![9.0; 4];
        change.apply(2, &mut rows, &mut added);
        assert_eq!(rows, [0.5, 0.5, 7.0, 8.0]);
        assert_eq!(added, [0.0, 0.0, 6.5, 7.5]);
        change.apply(0, &mut rows, &mut added);
        assert_eq!(rows, [1.0, 2.0, 7.0, 8.0]);
        change.apply(4, &mut rows, &mut added);
        assert_eq!(added, [0.0; 4]);
    }
}
