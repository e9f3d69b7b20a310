//! The numbers of linear layers as a format of weights has them, in the place of those of files:
//! what an adapter was trained beside.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Description;
use crate::model::description::{StoredLayout, StoredTensors, turned};
use crate::weights::formats::{Coding, Storage, WeightFormat, dequantised};

/// The linear layers of a model.
pub struct Requantised {
    code: Coding,
    linears: BTreeMap<String, [usize; 2]>,
    experts: StoredTensors,
}

/// A tensor of a file whose numbers are coded.
pub struct CodedTensor {
    code: Coding,
    /// Rows of the tensor that are coded at once.
    pub rows: usize,
    /// The matrix in them, `[out, in]`.
    dims: [usize; 2],
    /// Whether it is transposed, and then whether its rows alternate.
    transposed: Option<bool>,
}

impl Requantised {
    /// None for formats that keep the numbers.
    pub fn new(description: &Description, format: &dyn WeightFormat) -> Option<Self> {
        let Storage::Coded(code) = format.storage() else { return None };
        let routers: BTreeSet<String> = description.routers().collect();
        let linears = description.linears.iter().filter(|(path, _)| !routers.contains(path));
        let linears = linears.map(|(path, dims)| (format!("{path}.weight"), *dims)).collect();
        Some(Self { code, linears, experts: StoredTensors::of(description) })
    }

    /// The tensor of a path, if it is coded.
    pub fn of_tensor(&self, path: &str, shape: &[usize]) -> Option<CodedTensor> {
        let code = self.code;
        if let Some(dims) = self.linears.get(path).filter(|dims| dims[..] == *shape) {
            return Some(CodedTensor { code, rows: dims[0], dims: *dims, transposed: None });
        }
        let stored = self.experts.get(path).filter(|stored| stored.shape == shape)?;
        if !stored.parameters.iter().all(|path| path.ends_with(".weight")) {
            return None;
        }
        let (rows, dims, transposed) = match stored.layout {
            StoredLayout::Rows(_) => (shape[0], [shape[0], stored.dims[1]], None),
            StoredLayout::Stacked => (1, stored.dims, None),
            StoredLayout::Transposed { alternating } => (1, stored.dims, Some(alternating)),
        };
        Some(CodedTensor { code, rows, dims, transposed })
    }
}

impl CodedTensor {
    /// The numbers that the codes of these stand for.
    pub fn restored(&self, numbers: Vec<f32>) -> Vec<f32> {
        let restored = |numbers: &[f32]| dequantised((self.code)(numbers, self.dims).as_ref());
        match self.transposed {
            None => restored(&numbers),
            Some(alternating) => {
                let matrix = turned(&numbers, self.dims, alternating, false);
                turned(&restored(&matrix), self.dims, alternating, true)
            }
        }
    }
}
