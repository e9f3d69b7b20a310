//! What an adapter saves beside the parameters of its layers: numbers that take the place of those
//! of the base.

use std::collections::BTreeMap;
use std::path::Path;

use crate::adapters::{
    Adapter, Replaced, ReplacedRows, WeightChange, adapter_file_name, is_copy_of_table, not_tied,
    tied_copy, whole_weights,
};
use crate::error::{Error, Result};
use crate::model::Description;
use crate::weights::{OwnedTensor, to_f32};

/// Refuses numbers that no model can use, and a copy of the embedding that differs from it, which
/// is left out otherwise.
pub fn check_saved(
    directory: &Path,
    tensors: &mut BTreeMap<String, OwnedTensor>,
    (adapter, base): (&dyn Adapter, &Description),
) -> Result<()> {
    for (name, tensor) in &*tensors {
        let count = tensor.element.not_finite(&tensor.bytes);
        if count > 0 {
            let what = format!("the adapter holds {count} NaN or infinite numbers in `{name}`");
            return Err(Error::adapter(what).at(directory));
        }
    }
    tensors.retain(|name, _| !is_copy_of_table(name, base));
    for (path, dims) in whole_weights(adapter, base)? {
        let saved = tensors.get(&adapter_file_name(path)).map(|tensor| &tensor.shape);
        if let Some(shape) = saved.filter(|shape| **shape != dims) {
            let what = format!("the adapter does not fit `{path}`");
            let why = format!("it has {shape:?} in place of {dims:?}");
            return Err(Error::adapter(what).at(directory).because(why));
        }
    }
    let Some([copy, of]) = tied_copy(adapter, base) else { return Ok(()) };
    match tensors.remove(&copy).as_ref() == tensors.get(&of) {
        true => Ok(()),
        false => Err(not_tied().at(directory)),
    }
}

/// What merging does to a weight of this shape of which a tensor has all numbers, or those of the
/// rows of `tokens`; why it does not fit.
pub fn replacement(
    saved: &OwnedTensor,
    tokens: Option<&[usize]>,
    shape: &[usize],
) -> Result<Box<dyn WeightChange>, String> {
    let mut expected = shape.to_vec();
    if let (Some(tokens), [rows, ..]) = (tokens, expected.as_mut_slice()) {
        *rows = tokens.len();
    }
    if saved.shape != expected {
        return Err(format!("it has {:?} in place of {expected:?}", saved.shape));
    }
    let (values, width) = (to_f32(saved.element, &saved.bytes), shape.iter().skip(1).product());
    Ok(match tokens {
        None => Box::new(Replaced { values, width }),
        Some(tokens) => Box::new(ReplacedRows { tokens: tokens.to_vec(), values, width }),
    })
}
