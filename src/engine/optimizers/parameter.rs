//! What an optimizer is told of a parameter, and what it keeps for it.

use burn::tensor::Tensor;

use super::UpdateStep;
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};
pub use crate::engine::offload::Kept;
use crate::model::{matrix_of_token_rows, piece_of};

/// A parameter, as an optimizer knows it beside its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatedParameter {
    /// Its path, with the number of the piece where it is one.
    pub path: String,
    /// Its dimensions: one or two.
    pub dims: Vec<usize>,
}

impl UpdatedParameter {
    /// A parameter of a path; what files have in more dimensions is a matrix of the last one.
    pub fn new(path: &str, dims: &[usize]) -> Self {
        let dims = match dims {
            [] => vec![1],
            [one] => vec![*one],
            [rows @ .., columns] => vec![rows.iter().product(), *columns],
        };
        Self { path: path.to_owned(), dims }
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// Its rows and columns, if it is a matrix.
    pub fn matrix(&self) -> Option<[usize; 2]> {
        <[usize; 2]>::try_from(self.dims.as_slice()).ok()
    }

    /// Whether it is a norm, a bias or another vector, and no matrix.
    pub fn is_vector(&self) -> bool {
        self.dims.len() < 2
    }

    /// Whether it has a row for each token: an embedding or an output head, or rows of one.
    pub fn is_vocabulary(&self) -> bool {
        let of_rows = matrix_of_token_rows(&self.path);
        let (whole, _) = piece_of(of_rows.as_ref().unwrap_or(&self.path));
        let module = whole.strip_suffix(".weight").unwrap_or(whole);
        let name = module.rsplit('.').next().unwrap_or(module);
        name.starts_with("embed_tokens") || name == "lm_head"
    }
}

/// One kind of numbers that an optimizer keeps for a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSpec {
    /// As checkpoints name it.
    pub name: &'static str,
    /// How many.
    pub count: usize,
    /// Whether they are bytes in host memory, and not numbers of 32 bits on the device.
    pub codes: bool,
}

impl StateSpec {
    /// Numbers of 32 bits.
    pub const fn numbers(name: &'static str, count: usize) -> Self {
        Self { name, count, codes: false }
    }

    /// Codes of eight bits.
    pub const fn codes(name: &'static str, count: usize) -> Self {
        Self { name, count, codes: true }
    }

    /// As many numbers as the parameter has, of each of these names.
    pub fn each(names: &[&'static str], parameter: &UpdatedParameter) -> Vec<Self> {
        names.iter().map(|name| Self::numbers(name, parameter.count())).collect()
    }

    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.count as u64 * if self.codes { 1 } else { 4 }
    }
}

/// All numbers of a state of a fixed number of kinds.
pub(super) fn numbers_of<const N: usize>(state: Vec<Kept>) -> [Tensor<1>; N] {
    let all: Vec<_> = state.into_iter().map(Kept::numbers).collect();
    all.try_into().unwrap_or_else(|all: Vec<_>| panic!("{N} are kept, not {}", all.len()))
}

/// What every optimizer is told of weight decay.
pub(super) const DECAY_KEYS: &[Key] = &[
    Key::new(
        "train.weight_decay",
        ValueKind::Number(Range::closed(0.0, 10.0)),
        DefaultValue::Value("0.01"),
        "Decoupled weight decay: a step multiplies weights by `1 - learning_rate * weight_decay`.",
    )
    .example("0.1"),
    Key::new(
        "train.decay_norms_and_biases",
        ValueKind::Boolean,
        DefaultValue::Value("true"),
        "Whether weight decay acts on norms, biases and other vectors, too. transformers' trainers \
         leave these out: `false`.",
    )
    .example("false")
    .silent_default(),
];

/// Weight decay, by parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightDecay {
    rate: f64,
    vectors: bool,
}

impl WeightDecay {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            rate: values.number("train.weight_decay"),
            vectors: values.boolean("train.decay_norms_and_biases"),
        }
    }

    /// That of matrices in an update.
    pub fn of_matrices(&self, step: UpdateStep) -> f64 {
        step.weight_decay.unwrap_or(self.rate)
    }

    /// That of one parameter in an update.
    pub fn of(&self, parameter: &UpdatedParameter, step: UpdateStep) -> f64 {
        match parameter.is_vector() && !self.vectors {
            true => 0.0,
            false => self.of_matrices(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_by_shape_and_path() {
        let embedding = UpdatedParameter::new("model.embed_tokens.weight#3", &[10, 4]);
        assert!(embedding.is_vocabulary() && embedding.matrix() == Some([10, 4]));
        let head = UpdatedParameter::new("lm_head.weight", &[10, 4]);
        assert!(head.is_vocabulary());
        let rows = "model.embed_tokens.token_adapter.trainable_tokens_delta";
        assert!(UpdatedParameter::new(rows, &[2, 4]).is_vocabulary());
        let experts = UpdatedParameter::new("model.layers.0.mlp.experts.down_proj", &[2, 3, 4]);
        assert_eq!((experts.matrix(), experts.is_vocabulary()), (Some([6, 4]), false));
        let norm = UpdatedParameter::new("model.norm.weight", &[4]);
        assert_eq!((norm.matrix(), norm.count()), (None, 4));
        let some = WeightDecay { rate: 0.5, vectors: false };
        let step = UpdateStep { learning_rate: 1.0, weight_decay: None, number: 1 };
        assert_eq!((some.of(&norm, step), some.of(&head, step)), (0.0, 0.5));
        assert_eq!(WeightDecay { vectors: true, ..some }.of(&norm, step), 0.5);
        // A decay of their own takes the place of the rate, and vectors stay out of it.
        let own = UpdateStep { weight_decay: Some(0.1), ..step };
        assert_eq!((some.of(&norm, own), some.of(&head, own)), (0.0, 0.1));
    }
}
