//! Formats in which the matrices of linear layers that are not trained are kept in memory.
//!
//! A format is one file here and one line in [`WEIGHT_FORMATS`]. What multiplies asks the matrix
//! for its rows, estimates ask the format for its size; neither knows a format.

mod floats;
mod int8;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::FloatDType;

use crate::document::key::{DefaultValue, Key, OwnedKeys, ValueKind};
use crate::document::{Effect, Values};

/// Every format.
pub static WEIGHT_FORMATS: &[&dyn WeightFormat] =
    &[&floats::F32, &floats::BF16, &floats::F16, &int8::Int8];

/// The setting that chooses a format, and its value that leaves the choice to the device.
const KEY: &str = "model.weight_format";
const AUTO: &str = "auto";

/// A format of matrices in memory: one entry of [`WEIGHT_FORMATS`].
pub trait WeightFormat: Debug + Sync {
    /// As settings and lineage call it.
    fn name(&self) -> &'static str;
    /// Bytes of a matrix `[rows, columns]`.
    fn bytes(&self, shape: [usize; 2]) -> u64;
    /// How its matrices are kept.
    fn storage(&self) -> Storage;
    /// What a user who may choose it is told, after its name.
    fn about(&self) -> &'static str {
        ""
    }
    /// What other tools call its choice: tool, name.
    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// Settings of other tools that it takes the place of: tool, name, what to say.
    fn notes(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &[]
    }
}

/// How the matrices of a format are kept.
#[derive(Debug, Clone, Copy)]
pub enum Storage {
    /// As tensors of a device. Which of these formats is taken follows from the arithmetic.
    Tensor(FloatDType),
    /// As codes on the host, made of numbers `[rows, columns]`. A user chooses them.
    Coded(fn(&[f32], [usize; 2]) -> Arc<dyn CodedMatrix>),
}

/// A matrix `[rows, columns]` that is kept as codes.
pub trait CodedMatrix: Debug + Send + Sync {
    /// Rows and columns.
    fn shape(&self) -> [usize; 2];
    /// Numbers of a row from the column `first` on, as many as `target` has.
    fn read(&self, row: usize, first: usize, target: &mut [f32]);
}

/// Every number of a matrix, row by row: what products are those of.
pub fn dequantised(matrix: &dyn CodedMatrix) -> Vec<f32> {
    let [rows, columns] = matrix.shape();
    let mut numbers = vec![0.0; rows * columns];
    for (row, target) in numbers.chunks_exact_mut(columns.max(1)).enumerate() {
        matrix.read(row, 0, target);
    }
    numbers
}

/// The format that a user chose; none where the arithmetic decides.
pub fn chosen(settings: &Values) -> Option<&'static dyn WeightFormat> {
    let name = settings.optional_text(KEY)?;
    WEIGHT_FORMATS.iter().copied().find(|format| format.name() == name)
}

/// The name of the format that a user chose, by the resolved settings of a run.
pub fn chosen_in(resolved: &BTreeMap<String, String>) -> Option<&str> {
    resolved.get(KEY).map(String::as_str).filter(|name| *name != AUTO)
}

/// The format whose matrices are tensors of this kind.
pub fn of_tensors(dtype: FloatDType) -> &'static dyn WeightFormat {
    let is = |format: &&&dyn WeightFormat| match format.storage() {
        Storage::Tensor(found) => found == dtype,
        Storage::Coded(_) => false,
    };
    *WEIGHT_FORMATS.iter().find(is).expect("weights are in 32 or 16 bits")
}

/// The setting that chooses a format. It is made once, and lives as long as the program.
pub fn keys() -> Vec<OwnedKeys> {
    let is_coded = |format: &&dyn WeightFormat| matches!(format.storage(), Storage::Coded(_));
    let coded: Vec<_> = WEIGHT_FORMATS.iter().copied().filter(is_coded).collect();
    let names = std::iter::once(AUTO).chain(coded.iter().map(|format| format.name()));
    let names: Vec<&'static str> = names.collect();
    let foreign: Vec<_> = coded.iter().flat_map(|format| format.names()).copied().collect();
    let notes: Vec<_> = coded.iter().flat_map(|format| format.notes()).copied().collect();
    let mut doc = "How the linear layers of the base model are kept in memory while an adapter is \
                   trained. `auto` keeps them in 32 or 16 bits, as the arithmetic takes them"
        .to_owned();
    for format in &coded {
        doc += &format!("; `{}` {}", format.name(), format.about());
    }
    doc.push('.');
    let example = coded.last().map_or(AUTO, |format| format.name());
    let key = Key::new(
        KEY,
        ValueKind::Choice(Vec::leak(names)),
        DefaultValue::Value("\"auto\""),
        String::leak(doc),
    )
    .example(String::leak(format!("\"{example}\"")))
    .names(Vec::leak(foreign))
    .effect(Effect::Weights)
    .silent_default();
    let own = OwnedKeys::within("model", "model.init", Vec::leak(vec![key]));
    vec![OwnedKeys { notes: Vec::leak(notes), ..own }]
}
