//! Modules that are trained whole beside an adapter, and saved with it: PEFT's `modules_to_save`,
//! and the head that scores labels, which PEFT adds to them by itself.

use std::collections::BTreeSet;

use crate::adapters::{Adapter, WeightChange, adapter_file_name, last_name};
use crate::error::{Error, Result, nearest};
use crate::model::{Description, LM_HEAD, Model, SCORE, VocabularyMatrix};
use crate::ops::wide;

/// What comes after the path of a module in that of its weight.
const WEIGHT: &str = ".weight";

/// The paths of the weights that an adapter is saved with, with their dimensions.
///
/// # Errors
/// When it names modules that cannot be trained so.
pub fn whole_weights(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(&'static str, [usize; 2])>> {
    let names = adapter.modules_to_save();
    let table = [description.vocabulary, description.hidden];
    let head = description.labels.map(|labels| (SCORE, [labels, description.hidden]));
    if names.is_empty() {
        return Ok(Vec::from_iter(head));
    }
    let tables: &[&'static str] = match head {
        Some(_) => &[description.names.embedding],
        None => &[description.names.embedding, LM_HEAD],
    };
    let known: BTreeSet<&str> = tables.iter().map(|path| module_name(path)).collect();
    let unknown = names.iter().filter(|name| !tables.iter().any(|path| is_of(path, name)));
    let problems = unknown.map(|name| {
        let error =
            Error::adapter(format!("`{name}` in `lora.modules_to_save` cannot be trained whole"));
        match nearest(name, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                error.hint("the embedding (`embed_tokens`) and the output head (`lm_head`) can")
            }
        }
    });
    if let Some(error) = Error::all(problems.collect()) {
        return Err(error);
    }
    let wanted = tables.iter().filter(|path| names.iter().any(|name| is_of(path, name)));
    let path = |path: &&'static str| match description.tied {
        true => description.names.embedding, // whichever of the two was named
        false => *path,
    };
    let paths: BTreeSet<&'static str> = wanted.map(path).collect();
    let in_order = tables.iter().filter(|path| paths.contains(*path));
    Ok(in_order.map(|path| (*path, table)).chain(head).collect())
}

/// Where the output head is the embedding, and that is trained: the names in files of the head,
/// under which PEFT keeps the same numbers once more (`ensure_weight_tying`), and of the embedding.
pub fn tied_copy(adapter: &dyn Adapter, description: &Description) -> Option<[String; 2]> {
    let tied = description.tied && description.labels.is_none();
    (tied && !adapter.modules_to_save().is_empty())
        .then(|| [LM_HEAD, description.names.embedding].map(adapter_file_name))
}

fn module_name(path: &str) -> &str {
    last_name(path.strip_suffix(WEIGHT).unwrap_or(path))
}

/// Whether a name means the module of a weight: its path, or the end of that.
fn is_of(path: &str, name: &str) -> bool {
    let module = path.strip_suffix(WEIGHT).unwrap_or(path);
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Of files whose head and embedding were trained apart, on a base where they are one.
pub fn not_tied() -> Error {
    Error::adapter("the adapter's embedding and output head are not one")
        .because("those of its base are, and training one apart from the other unties them")
        .hint("PEFT keeps them together with `ensure_weight_tying=True`")
}

/// Makes them trainable.
pub fn unfreeze(model: &mut Model, weights: &[(&'static str, [usize; 2])]) {
    let all = model.head.matrix.iter_mut().chain([&mut model.embedding.matrix]);
    let wanted =
        |matrix: &&mut VocabularyMatrix| weights.iter().any(|(path, _)| *path == matrix.path());
    for matrix in all.filter(wanted) {
        matrix.dequantise();
        for piece in matrix.pieces_mut() {
            piece.trainable = true;
            piece.value = wide(piece.value.clone());
        }
    }
}

/// Merging puts the saved weight in the place of that of the base.
pub struct Replaced {
    /// The rows of the saved weight, one after the other.
    pub values: Vec<f32>,
    /// Numbers of a row.
    pub width: usize,
}

impl WeightChange for Replaced {
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]) {
        let values = &self.values[first * self.width..][..rows.len()];
        for ((row, added), value) in rows.iter_mut().zip(added).zip(values) {
            *added = value - *row;
            *row = *value;
        }
    }
}
