//! Tokens whose rows of the embedding, or of an output head of its own, are trained beside an
//! adapter and saved with it: PEFT's `trainable_token_indices`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::settings::LoraSettings;
use super::whole::whole_weights;
use crate::adapters::{Adapter, WeightChange};
use crate::data::{BaseTokenizer, Tokenizer};
use crate::device::Arithmetic;
use crate::error::{Error, Result, nearest};
use crate::model::{Description, LM_HEAD, Model, token_rows_path};
use crate::weights::Element;
use burn::tensor::{Device, FloatDType};

/// The matrices with a row for each token of which an adapter trains rows: path, and tokens.
///
/// # Errors
/// When a token has no row, is named twice, or the matrix is trained whole, or not there.
pub fn tables_of_rows<'a>(
    adapter: &'a dyn Adapter,
    description: &Description,
) -> Result<Vec<(&'static str, &'a [usize])>> {
    if let [text, ..] = adapter.trainable_tokens() {
        let what = format!("`{}` in `lora.trainable_tokens` is not known yet", text.escape_debug());
        return Err(Error::adapter(what).because("no tokenizer was asked for its number"));
    }
    let mut all = Vec::new();
    for table in [description.names.embedding, LM_HEAD] {
        let tokens = adapter.settings().tokens_of(table);
        if !tokens.is_empty() {
            refuse_rows(adapter, description, (table, tokens))?;
            all.push((table, tokens));
        }
    }
    Ok(all)
}

fn refuse_rows(
    adapter: &dyn Adapter,
    description: &Description,
    (table, tokens): (&'static str, &[usize]),
) -> Result<()> {
    let rows = description.vocabulary;
    if let Some(token) = tokens.iter().find(|token| **token >= rows) {
        let what = format!("the token {token} in `trainable_token_indices` has no row to train");
        return Err(Error::adapter(what)
            .because(format!("the model's embedding has {rows} rows"))
            .hint("`model.add_tokens` makes rows for tokens that the base does not have"));
    }
    if tokens.iter().collect::<BTreeSet<_>>().len() < tokens.len() {
        return Err(Error::adapter("a token appears twice in `trainable_token_indices`"));
    }
    if !description.vocabulary_tables().any(|path| path == table) {
        let what = "`trainable_token_indices` names the output head beside the embedding";
        return Err(Error::adapter(what).because("this model has no output head of its own"));
    }
    if whole_weights(adapter, description)?.iter().any(|(path, _)| *path == table) {
        let (what, why) = match table {
            LM_HEAD => (
                "rows of the output head are to be trained, and all of it is trained already",
                "`lora.modules_to_save` names it",
            ),
            _ => (
                "rows of the embedding are to be trained, and all of it is trained already",
                "`lora.modules_to_save` names it, or the output head, which is the same",
            ),
        };
        return Err(Error::adapter(what)
            .because(why)
            .hint("leave out `lora.modules_to_save`, or the tokens"));
    }
    Ok(())
}

/// The paths of the rows that an adapter trains, with their dimensions.
///
/// # Errors
/// Those of [`tables_of_rows`].
pub fn token_rows(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(String, [usize; 2])>> {
    let tables = tables_of_rows(adapter, description)?.into_iter();
    let rows = |(table, tokens): (&str, &[usize])| {
        (token_rows_path(table), [tokens.len(), description.hidden])
    };
    Ok(tables.map(rows).collect())
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
    let rows = tables_of_rows(adapter, description)?.into_iter().map(|(path, _)| path);
    Ok(whole.chain(rows).collect())
}

/// What the model of an adapter is made of: its base, or that with more rows for tokens, which the
/// adapter is saved with.
///
/// # Errors
/// When the adapter has not all of these rows, or the base cannot have them.
pub fn resized(adapter: &dyn Adapter, base: &Description) -> Result<Description> {
    let known = base.vocabulary;
    let Some(rows) = adapter.settings().vocabulary.filter(|rows| *rows > known) else {
        return Ok(base.clone());
    };
    let whole = whole_weights(adapter, base)?;
    for table in base.vocabulary_tables() {
        if whole.iter().any(|(path, _)| *path == table) {
            continue;
        }
        let tokens: BTreeSet<usize> = adapter.settings().tokens_of(table).iter().copied().collect();
        if let Some(token) = (known..rows).find(|token| !tokens.contains(token)) {
            let what = format!("the adapter has no row {token} of `{table}`");
            return Err(Error::adapter(what)
                .because(format!("its tokens go up to {}, the base has {known} rows", rows - 1))
                .hint("is this the base that it was trained on?"));
        }
    }
    base.resized(rows)
}

/// The same adapter for a base with this tokenizer: texts of tokens are looked up in it, and rows
/// of tokens that the run adds are trained, of the embedding and of an output head of its own, but
/// for what is trained whole.
///
/// # Errors
/// When the tokenizer does not know a token, or cannot be read.
pub fn with_token_rows(
    adapter: Arc<dyn Adapter>,
    (base, description): (&BaseTokenizer, &Description),
) -> Result<Arc<dyn Adapter>> {
    let texts = adapter.trainable_tokens();
    if texts.is_empty() && base.added().is_empty() {
        return Ok(adapter);
    }
    let tokenizer = base.get()?;
    let mut numbers: BTreeSet<usize> = adapter.trainable_token_indices().iter().copied().collect();
    let mut problems = Vec::new();
    for text in texts {
        match tokenizer.token_id(text) {
            Some(number) => drop(numbers.insert(number as usize)),
            None => problems.push(unknown(text, tokenizer)),
        }
    }
    if let Some(error) = Error::all(problems) {
        return Err(error.at(base.folder()));
    }
    let rows = tokenizer.rows_needed(description.vocabulary);
    let new = tokenizer.added().iter().filter(|token| token.is_new).map(|token| token.id as usize);
    let new: BTreeSet<usize> = new.chain(description.vocabulary..rows).collect();
    let whole: Vec<&str> =
        whole_weights(adapter.as_ref(), description)?.into_iter().map(|(path, _)| path).collect();
    let mut settings = adapter.settings().with_tokens(Vec::new());
    for table in description.vocabulary_tables().filter(|table| !whole.contains(table)) {
        match table {
            LM_HEAD => settings.head_token_indices = new.iter().copied().collect(),
            _ => numbers.extend(&new),
        }
    }
    settings.trainable_token_indices = numbers.into_iter().collect();
    settings.vocabulary = (rows > description.vocabulary).then_some(rows);
    Ok(adapter.with_settings(settings))
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
    let sorted = |tokens: &[usize]| tokens.iter().copied().collect::<BTreeSet<_>>();
    let ordered = |own: &[usize], theirs: &[usize]| {
        let same = own.len() == theirs.len() && sorted(own) == sorted(theirs);
        if same { theirs.to_vec() } else { own.to_vec() }
    };
    let (own, theirs) = (adapter.settings(), other.settings());
    let (of_embedding, of_head) = (
        ordered(&own.trainable_token_indices, &theirs.trainable_token_indices),
        ordered(&own.head_token_indices, &theirs.head_token_indices),
    );
    let settings = LoraSettings {
        trainable_token_indices: of_embedding,
        head_token_indices: of_head,
        ..own.clone()
    };
    adapter.with_settings(settings)
}

/// Makes the rows trainable. On the CPU the matrix is kept as its files have it, so that rows are
/// rounded as merging rounds them.
pub fn train_rows(model: &mut Model, adapter: &dyn Adapter) -> Result<()> {
    for (table, tokens) in tables_of_rows(adapter, &model.description)? {
        let description = &model.description;
        let bfloat16 = model.computing.arithmetic == Arithmetic::MixedBf16
            || description.element == Element::BF16 && !description.in_blocks.contains_key(table);
        let matrix = match (table, &mut model.head.matrix) {
            (LM_HEAD, Some(matrix)) => matrix,
            _ => &mut model.embedding.matrix,
        };
        matrix.dequantise();
        if bfloat16 && model.device == Device::flex() {
            matrix.round(FloatDType::BF16);
        }
        let number = |token: &usize| u32::try_from(*token).expect("tokens have rows");
        matrix.train_rows(tokens.iter().map(number).collect());
    }
    Ok(())
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
