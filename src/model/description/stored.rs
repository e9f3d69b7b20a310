//! Parameters that files have in another arrangement than the model: matrices of experts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Description, ExpertMatrix, ExpertStorage, ExpertsDescription};

/// A tensor of files that is made of parameters of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Paths of the parameters, one for each expert that is in it.
    pub parameters: Vec<String>,
    /// Dimensions of each of them, `[out, in]`; a bias has one column.
    pub dims: [usize; 2],
    /// How they are arranged.
    pub layout: StoredLayout,
}

/// How a tensor of files is made of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredLayout {
    /// Some rows of the one parameter; the first.
    Rows(usize),
    /// All, one after the other, `[experts, out, in]`.
    Stacked,
    /// The transposes of all, one after the other, `[experts, in, out]`.
    Transposed {
        /// Whether columns of the first half and of the second alternate.
        alternating: bool,
    },
}

/// Where the number at `place` of alternating halves of `count` numbers is in whole halves.
pub fn whole_place(place: usize, count: usize) -> usize {
    place / 2 + if place.is_multiple_of(2) { 0 } else { count / 2 }
}

impl StoredTensor {
    /// Its numbers, made of those of its parameters.
    pub fn joined(&self, parameters: &[Vec<f32>]) -> Vec<f32> {
        match self.layout {
            StoredLayout::Rows(first) => {
                let [rows, inputs] = [self.shape[0], self.dims[1]];
                parameters[0][first * inputs..(first + rows) * inputs].to_vec()
            }
            StoredLayout::Stacked => parameters.concat(),
            StoredLayout::Transposed { alternating } => {
                let of_one = |matrix: &Vec<f32>| turned(matrix, self.dims, alternating, true);
                parameters.iter().flat_map(of_one).collect()
            }
        }
    }
}

/// The transpose of a matrix `[out, in]`, with its outputs alternating or not; or, the other way
/// round, the matrix of its transpose.
pub fn turned(
    numbers: &[f32],
    [outputs, inputs]: [usize; 2],
    alternating: bool,
    to_file: bool,
) -> Vec<f32> {
    let mut turned = vec![0.0; numbers.len()];
    for place in 0..outputs {
        let row = if alternating { whole_place(place, outputs) } else { place };
        for input in 0..inputs {
            let [in_file, in_model] = [input * outputs + place, row * inputs + input];
            match to_file {
                true => turned[in_file] = numbers[in_model],
                false => turned[in_model] = numbers[in_file],
            }
        }
    }
    turned
}

/// The tensors of files that are made of parameters, by name.
pub struct StoredTensors(BTreeMap<String, StoredTensor>);

impl StoredTensors {
    /// Those of a model.
    pub fn of(description: &Description) -> Self {
        let all = description.experts().flat_map(|(layer, experts)| experts.stored(layer));
        Self(all.map(|stored| (stored.name.clone(), stored)).collect())
    }

    /// None.
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The one of a name.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.0.get(name)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &StoredTensor> {
        self.0.values()
    }

    /// Paths of the parameters that they are made of.
    pub fn parameters(&self) -> BTreeSet<&str> {
        self.iter().flat_map(|stored| &stored.parameters).map(String::as_str).collect()
    }
}

impl ExpertsDescription {
    /// The tensors that files have of the experts, in the decoder layer of a path; in place of
    /// those in MXFP4, what they would be otherwise.
    pub fn stored(&self, layer: &str) -> Vec<StoredTensor> {
        match self.storage {
            ExpertStorage::Separate(names) => {
                (0..self.count).flat_map(|number| self.separate(layer, number, names)).collect()
            }
            ExpertStorage::Stacked => self.stacked(layer),
            ExpertStorage::Alternating | ExpertStorage::Mxfp4 => self.alternating(layer),
        }
    }

    fn separate(
        &self,
        layer: &str,
        number: usize,
        [gate, up, down]: [&str; 3],
    ) -> [StoredTensor; 3] {
        let (hidden, width) = (self.hidden, self.width);
        let expert = format!("{layer}.{}.{number}", self.module);
        let rows = |name: &str, of: ExpertMatrix, first, shape: [usize; 2]| StoredTensor {
            name: format!("{expert}.{name}.weight"),
            shape: shape.to_vec(),
            parameters: vec![format!("{expert}.{}.weight", of.name())],
            dims: self.dims(of),
            layout: StoredLayout::Rows(first),
        };
        [
            rows(gate, ExpertMatrix::GateUp, 0, [width, hidden]),
            rows(up, ExpertMatrix::GateUp, width, [width, hidden]),
            rows(down, ExpertMatrix::Down, 0, [hidden, width]),
        ]
    }

    fn stacked(&self, layer: &str) -> Vec<StoredTensor> {
        let of_matrix = |matrix: ExpertMatrix| {
            let (module, name, dims) = (self.module, matrix.name(), self.dims(matrix));
            let path = |number| format!("{layer}.{module}.{number}.{name}.weight");
            StoredTensor {
                name: format!("{layer}.{module}.{name}"),
                shape: [&[self.count], &dims[..]].concat(),
                parameters: (0..self.count).map(path).collect(),
                dims,
                layout: StoredLayout::Stacked,
            }
        };
        ExpertMatrix::ALL.map(of_matrix).into()
    }

    fn alternating(&self, layer: &str) -> Vec<StoredTensor> {
        let module = format!("{layer}.{}", self.module);
        let mut tensors = Vec::new();
        for matrix in ExpertMatrix::ALL {
            let alternating = matrix == ExpertMatrix::GateUp;
            let ([outputs, inputs], name) = (self.dims(matrix), matrix.name());
            let mut add = |file_name: String, shape, part: &str, dims| {
                let path = |number| format!("{module}.{number}.{name}.{part}");
                tensors.push(StoredTensor {
                    name: file_name,
                    shape,
                    parameters: (0..self.count).map(path).collect(),
                    dims,
                    layout: StoredLayout::Transposed { alternating },
                });
            };
            let shape = vec![self.count, inputs, outputs];
            add(format!("{module}.{name}"), shape, "weight", [outputs, inputs]);
            if self.bias {
                let shape = vec![self.count, outputs];
                add(format!("{module}.{name}_bias"), shape, "bias", [outputs, 1]);
            }
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_with_alternating_halves_are_turned_there_and_back() {
        // Two outputs of the gate, then two of up; three inputs: 10 · output + input.
        let matrix: Vec<f32> =
            (0..4_u8).flat_map(|o| (0..3_u8).map(move |i| f32::from(10 * o + i))).collect();
        let file = turned(&matrix, [4, 3], true, true);
        assert_eq!(file[..4], [0.0, 20.0, 10.0, 30.0]);
        assert_eq!(file[4..8], [1.0, 21.0, 11.0, 31.0]);
        assert_eq!(turned(&file, [4, 3], true, false), matrix);
        let plain = turned(&matrix, [4, 3], false, true);
        assert_eq!(plain[..4], [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(turned(&plain, [4, 3], false, false), matrix);
    }
}
