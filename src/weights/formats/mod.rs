//! Formats in which the matrices of linear layers that are not trained are kept in memory.
//!
//! A format is one file here and one line in [`WEIGHT_FORMATS`]. What multiplies asks the matrix
//! for its rows, estimates ask the format for its size; neither knows a format.

mod dequantised;
mod floats;
mod int8;
mod nf4;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::FloatDType;

use crate::document::key::{DefaultValue, Key, OwnedKeys, ValueKind};
use crate::document::{Effect, Values};
pub use crate::weights::coded_matrix::{CodedMatrix, Joined, dequantised};

/// Every format.
pub static WEIGHT_FORMATS: &[&dyn WeightFormat] =
    &[&floats::F32, &floats::BF16, &floats::F16, &dequantised::Dequantised, &int8::Int8, &nf4::Nf4];

/// The one that leaves no codes of a base.
pub static DEQUANTISED: &dyn WeightFormat = &dequantised::Dequantised;

/// The setting that chooses a format, and its value that leaves the choice to the device.
const KEY: &str = "model.weight_format";
const AUTO: &str = "auto";

/// A format of matrices in memory: one entry of [`WEIGHT_FORMATS`].
pub trait WeightFormat: Debug + Sync {
    /// As settings and lineage call it.
    fn name(&self) -> &'static str;
    /// Bytes of a matrix `[rows, columns]`.
    fn bytes(&self, shape: [usize; 2]) -> u64;
    /// Those of its scales among them, which stay in memory where codes are left on disk.
    fn scale_bytes(&self, _shape: [usize; 2]) -> u64 {
        0
    }
    /// How its matrices are kept.
    fn storage(&self) -> Storage;
    /// What a user who may choose it is told, after its name.
    fn about(&self) -> &'static str {
        ""
    }
    /// What shares a scale, for the lineage; nothing does in a format without scales.
    fn blocks(&self) -> &'static str {
        ""
    }
    /// What other tools call its choice: tool, name.
    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// How the matrices of a format are kept.
#[derive(Debug, Clone, Copy)]
pub enum Storage {
    /// As tensors of a device. Which of these formats is taken follows from the arithmetic.
    Tensor(FloatDType),
    /// As codes on the host. A user chooses them.
    Coded(Coding),
    /// As the numbers that codes of the base stand for. A user chooses them.
    Numbers,
}

/// Makes codes of numbers `[rows, columns]`.
pub type Coding = fn(&[f32], [usize; 2]) -> Arc<dyn CodedMatrix>;

/// The formats that a user may choose.
fn chosen_ones() -> impl Iterator<Item = &'static dyn WeightFormat> {
    let is_chosen = |format: &&dyn WeightFormat| !matches!(format.storage(), Storage::Tensor(_));
    WEIGHT_FORMATS.iter().copied().filter(is_chosen)
}

/// Whether a format makes codes of numbers.
pub fn makes_codes(format: &dyn WeightFormat) -> bool {
    matches!(format.storage(), Storage::Coded(_))
}

/// Their names.
pub fn choices() -> Vec<&'static str> {
    chosen_ones().map(|format| format.name()).collect()
}

/// The one of a name.
pub fn named(name: &str) -> Option<&'static dyn WeightFormat> {
    chosen_ones().find(|format| format.name() == name)
}

/// The format that a user chose; none where the arithmetic decides.
pub fn chosen(settings: &Values) -> Option<&'static dyn WeightFormat> {
    named(&settings.optional_text(KEY)?)
}

/// The name of the format that a user chose in which numbers are not those of the base's files, by
/// the resolved settings of a run.
pub fn chosen_in(resolved: &BTreeMap<String, String>) -> Option<&str> {
    let makes_others = |name: &&str| named(name).is_some_and(makes_codes);
    resolved.get(KEY).map(String::as_str).filter(makes_others)
}

/// The format whose matrices are tensors of this kind.
pub fn of_tensors(dtype: FloatDType) -> &'static dyn WeightFormat {
    let is = |format: &&&dyn WeightFormat| match format.storage() {
        Storage::Tensor(found) => found == dtype,
        Storage::Coded(_) | Storage::Numbers => false,
    };
    *WEIGHT_FORMATS.iter().find(is).expect("weights are in 32 or 16 bits")
}

/// The setting that chooses a format. It is made once, and lives as long as the program.
pub fn keys() -> Vec<OwnedKeys> {
    let names: Vec<&'static str> = std::iter::once(AUTO).chain(choices()).collect();
    let foreign: Vec<_> = chosen_ones().flat_map(|format| format.names()).copied().collect();
    let mut doc = "How the linear layers of the base model are kept in memory while an adapter is \
                   trained. `auto` keeps blocks of a GGUF file and other codes that the base has, \
                   and all else in 32 or 16 bits, as the arithmetic takes it"
        .to_owned();
    for format in chosen_ones() {
        doc += &format!("; `{}` {}", format.name(), format.about());
    }
    doc.push('.');
    let example = chosen_ones().last().map_or(AUTO, |format| format.name());
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
    vec![OwnedKeys::within("model", "model.init", Vec::leak(vec![key]))]
}
