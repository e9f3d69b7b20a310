//! Tensors of adapters that files have for all experts of a layer at once, as PEFT has them beside
//! parameters with three dimensions (`tuners/lora/layer.py`, `ParamWrapper.get_delta_factors`).

use std::collections::{BTreeMap, BTreeSet};

use super::whole_place;
use crate::weights::{Element, TensorSpec};

/// A tensor of files that holds those of several layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackedTensor {
    /// Its name.
    pub name: String,
    /// Names that the tensors of the layers would have by themselves, one for each expert.
    pub parts: Vec<String>,
    /// The dimensions of each.
    pub part: [usize; 2],
    /// How they stand in it.
    pub arrangement: Arrangement,
}

/// How matrices of experts stand in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// One after the other: `[experts · rows, columns]`.
    Rows,
    /// Beside each other, the first columns of all, then the second: `[rows, columns · experts]`.
    Columns {
        /// Whether the rows of the first half and of the second alternate.
        alternating: bool,
    },
}

impl StackedTensor {
    /// Its dimensions.
    pub fn shape(&self) -> Vec<usize> {
        let ([rows, columns], experts) = (self.part, self.parts.len());
        match self.arrangement {
            Arrangement::Rows => vec![experts * rows, columns],
            Arrangement::Columns { .. } => vec![rows, columns * experts],
        }
    }

    /// For each of its numbers, the expert and the place in the tensor of that.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let ([rows, columns], experts) = (self.part, self.parts.len());
        let count = rows * columns;
        let arrangement = self.arrangement;
        (0..count * experts).map(move |place| match arrangement {
            Arrangement::Rows => (place / count, place % count),
            Arrangement::Columns { alternating } => {
                let (row, rest) = (place / (columns * experts), place % (columns * experts));
                let row = if alternating { whole_place(row, rows) } else { row };
                (rest % experts, row * columns + rest / experts)
            }
        })
    }

    /// Its numbers, of those of the layers.
    fn joined(&self, parts: &[Vec<f32>]) -> Vec<f32> {
        self.places().map(|(expert, place)| parts[expert][place]).collect()
    }

    /// The tensors of the layers, by name, of its numbers.
    pub fn taken_apart(&self, numbers: &[f32]) -> impl Iterator<Item = (String, Vec<f32>)> {
        self.parts.iter().cloned().zip(self.split(numbers))
    }

    /// The numbers of the layers.
    fn split(&self, numbers: &[f32]) -> Vec<Vec<f32>> {
        let mut parts = vec![vec![0.0; self.part[0] * self.part[1]]; self.parts.len()];
        for ((expert, place), number) in self.places().zip(numbers) {
            parts[expert][place] = *number;
        }
        parts
    }
}

/// Puts stacked tensors in the place of those of layers, in what is to be written.
pub fn stack_specs(stacked: &[StackedTensor], specs: Vec<TensorSpec>) -> Vec<TensorSpec> {
    let of_layers: BTreeSet<&str> =
        stacked.iter().flat_map(|tensor| &tensor.parts).map(String::as_str).collect();
    let mut specs: Vec<TensorSpec> =
        specs.into_iter().filter(|spec| !of_layers.contains(spec.name.as_str())).collect();
    specs.extend(stacked.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        element: Element::F32,
        shape: tensor.shape(),
    }));
    specs
}

/// The numbers of a stacked tensor, if a name is that of one; `numbers` gives those of a layer.
pub fn stacked_numbers(
    stacked: &[StackedTensor],
    name: &str,
    numbers: impl Fn(&str) -> Vec<f32>,
) -> Option<Vec<f32>> {
    let tensor = stacked.iter().find(|tensor| tensor.name == name)?;
    let parts: Vec<_> = tensor.parts.iter().map(|part| numbers(part)).collect();
    Some(tensor.joined(&parts))
}

/// The same for what files are expected to hold.
pub fn stack_shapes(stacked: &[StackedTensor], shapes: &mut BTreeMap<String, Vec<usize>>) {
    for tensor in stacked {
        tensor.parts.iter().for_each(|part| drop(shapes.remove(part)));
        shapes.insert(tensor.name.clone(), tensor.shape());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(arrangement: Arrangement) -> StackedTensor {
        let parts = vec!["0".to_owned(), "1".to_owned(), "2".to_owned()];
        StackedTensor { name: "all".to_owned(), parts, part: [4, 2], arrangement }
    }

    /// The number of expert e at row o and column r is eor.
    #[test]
    fn places_are_those_of_peft_and_what_is_joined_is_split_again() {
        let part = |expert: u8| -> Vec<f32> {
            let one =
                |row: u8, column: u8| f32::from(expert) * 100.0 + f32::from(row * 10 + column);
            (0..4).flat_map(|row| [one(row, 0), one(row, 1)]).collect()
        };
        let parts = [part(0), part(1), part(2)];
        let joined = |arrangement| tensor(arrangement).joined(&parts);
        let rows = joined(Arrangement::Rows);
        assert_eq!(rows, parts.concat());
        let columns = joined(Arrangement::Columns { alternating: false });
        assert_eq!(columns[..6], [0.0, 100.0, 200.0, 1.0, 101.0, 201.0]);
        assert_eq!(columns[6..8], [10.0, 110.0]);
        let alternating = joined(Arrangement::Columns { alternating: true });
        let first_of_rows: Vec<f32> = alternating.iter().step_by(6).copied().collect();
        assert_eq!(first_of_rows, [0.0, 20.0, 10.0, 30.0]);
        for arrangement in [
            Arrangement::Rows,
            Arrangement::Columns { alternating: false },
            Arrangement::Columns { alternating: true },
        ] {
            let tensor = tensor(arrangement);
            assert_eq!(tensor.split(&tensor.joined(&parts)), parts);
            let count = |shape: Vec<usize>| shape.iter().product::<usize>();
            assert_eq!(count(tensor.shape()), 24);
        }
    }
}
