//! The weights of experts, which files have in another arrangement than the model.

use std::sync::Arc;

use burn::tensor::Device;

use super::{Fill, WeightSource};
use crate::error::{Error, Result};
use crate::model::description::{
    ExpertMatrix, ExpertStorage, ExpertsDescription, LinearDescription, turned,
};
use crate::model::{Linear, Matrix, Parameter};
use crate::ops::from_vec;
use crate::weights::RawNumbers;
use crate::weights::formats::{CodedMatrix, Joined};
use crate::weights::mxfp4::{self, Mxfp4};

impl WeightSource {
    /// A router: a matrix that formats of linear layers leave as it is.
    pub fn router(&mut self, layer: &str, of: &LinearDescription) -> Result<Linear> {
        let path = format!("{layer}.{}", of.name);
        let weight = Matrix::Tensor(self.matrix(&format!("{path}.weight"), of.dims)?);
        let bias = match of.bias {
            true => Some(self.zeros(&format!("{path}.bias"), of.dims[0])?),
            false => None,
        };
        Ok(Linear { weight, bias, adapter: None })
    }

    /// The linear layers of all experts in a layer: to gate and up, and back.
    pub fn experts(&mut self, layer: &str, of: &ExpertsDescription) -> Result<Vec<[Linear; 2]>> {
        let module = format!("{layer}.{}", of.module);
        match of.storage {
            ExpertStorage::Separate(names) => {
                let one = |number| self.separate_expert(&format!("{module}.{number}"), names, of);
                (0..of.count).map(one).collect()
            }
            _ => {
                let gate_up = self.expert_matrices(&module, of, ExpertMatrix::GateUp)?;
                let down = self.expert_matrices(&module, of, ExpertMatrix::Down)?;
                Ok(gate_up.into_iter().zip(down).map(|(gate_up, down)| [gate_up, down]).collect())
            }
        }
    }

    /// Numbers that nothing trains; zero when drawn.
    pub fn buffer(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        Ok(self.take(name, &[length], Fill::Zeros)?.into_f32())
    }

    fn expert_matrices(
        &mut self,
        module: &str,
        of: &ExpertsDescription,
        matrix: ExpertMatrix,
    ) -> Result<Vec<Linear>> {
        match of.storage {
            ExpertStorage::Mxfp4 => self.coded_experts(module, of, matrix),
            ExpertStorage::Alternating => self.alternating_experts(module, of, matrix),
            _ => self.stacked_experts(module, of, matrix),
        }
    }

    /// Matrices that files have in MXFP4.
    fn coded_experts(
        &mut self,
        module: &str,
        of: &ExpertsDescription,
        matrix: ExpertMatrix,
    ) -> Result<Vec<Linear>> {
        let ([outputs, inputs], name) = (of.dims(matrix), matrix.name());
        let scales_dims = [of.count, outputs, inputs / mxfp4::BLOCK];
        let blocks_dims = [&scales_dims[..], &[mxfp4::BLOCK_BYTES]].concat();
        let path = format!("{module}.{name}_blocks");
        let blocks = self.codes(&path, &blocks_dims)?;
        let scales = self.codes(&format!("{module}.{name}_scales"), &scales_dims)?;
        let alternating = matrix == ExpertMatrix::GateUp;
        let codes = Mxfp4::new(blocks, scales, [outputs, inputs], alternating);
        let codes = codes.ok_or_else(|| Error::weights(format!("`{path}` holds NaN")))?;
        let codes = match self.disk_of_layers() {
            Some(disk) => codes.spilled(disk)?,
            None => codes,
        };
        let biases = self.expert_biases(module, of, matrix)?;
        let device = self.device().clone();
        let linear = |(number, bias): (usize, Option<Vec<f32>>)| {
            let weight = self.coded(&format!("{module}.{number}.{name}"), codes.matrix(number))?;
            Ok(Linear { weight, bias: bias.map(|bias| vector(bias, &device)), adapter: None })
        };
        biases.into_iter().enumerate().map(linear).collect()
    }

    fn codes(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        match self.take(name, shape, Fill::Zeros)? {
            RawNumbers::U8(codes) => Ok(codes),
            other => {
                let found = other.element().name();
                Err(Error::weights(format!("`{name}` must be of type U8, and it is {found}")))
            }
        }
    }

    /// The biases of all experts, with the numbers of gate and up one after the other.
    fn expert_biases(
        &mut self,
        module: &str,
        of: &ExpertsDescription,
        matrix: ExpertMatrix,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        if !of.bias {
            return Ok(vec![None; of.count]);
        }
        let ([outputs, _], alternating) = (of.dims(matrix), matrix == ExpertMatrix::GateUp);
        let name = format!("{module}.{}_bias", matrix.name());
        let numbers = self.take(&name, &[of.count, outputs], Fill::Zeros)?.into_f32();
        let one = |one| Some(turned(one, [outputs, 1], alternating, false));
        Ok(numbers.chunks(outputs).map(one).collect())
    }

    fn separate_expert(
        &mut self,
        expert: &str,
        [gate, up, down]: [&str; 3],
        of: &ExpertsDescription,
    ) -> Result<[Linear; 2]> {
        let half = [of.width, of.hidden];
        let linear = |weight| Linear { weight, bias: None, adapter: None };
        let name = |matrix: ExpertMatrix| format!("{expert}.{}", matrix.name());
        if let Some([gate_up, down]) = self.expert_in_blocks(expert, [gate, up, down], of)? {
            let gate_up = self.coded(&name(ExpertMatrix::GateUp), gate_up)?;
            let down = self.coded(&name(ExpertMatrix::Down), down)?;
            return Ok([gate_up, down].map(linear));
        }
        let mut numbers = |name: &str, dims| self.numbers(&format!("{expert}.{name}.weight"), dims);
        let (gate, up) = (numbers(gate, half)?, numbers(up, half)?);
        let down = numbers(down, of.dims(ExpertMatrix::Down))?;
        let gate_up = match self.coding() {
            // Each by itself, as if it were a layer of its own.
            Some(code) => {
                let halves = [gate, up].map(|numbers| code(&numbers.into_f32(), half));
                self.coded(&name(ExpertMatrix::GateUp), Arc::new(Joined(halves)))?
            }
            None => self.of_numbers(gate.followed_by(up), of.dims(ExpertMatrix::GateUp))?,
        };
        let dims = of.dims(ExpertMatrix::Down);
        Ok([linear(gate_up), linear(self.linear_of(&name(ExpertMatrix::Down), down, dims)?)])
    }

    /// The matrices of an expert, if files have all of them in blocks that are kept.
    fn expert_in_blocks(
        &mut self,
        expert: &str,
        names: [&str; 3],
        of: &ExpertsDescription,
    ) -> Result<Option<[Arc<dyn CodedMatrix>; 2]>> {
        let (half, down) = ([of.width, of.hidden], of.dims(ExpertMatrix::Down));
        let paths = names.map(|name| format!("{expert}.{name}.weight"));
        if !paths.iter().all(|path| self.holds_blocks(path)) {
            return Ok(None);
        }
        let mut matrices = Vec::new();
        for (path, dims) in paths.iter().zip([half, half, down]) {
            let blocks = self.kept_blocks(path, &dims)?;
            matrices.extend(blocks.map(|blocks| blocks.matrix(0, dims[0])));
        }
        let all = <[_; 3]>::try_from(matrices).ok();
        Ok(all.map(|[gate, up, down]| [Arc::new(Joined([gate, up])) as _, down]))
    }

    fn stacked_experts(
        &mut self,
        module: &str,
        of: &ExpertsDescription,
        matrix: ExpertMatrix,
    ) -> Result<Vec<Linear>> {
        let (name, dims) = (format!("{module}.{}", matrix.name()), of.dims(matrix));
        let shape = [of.count, dims[0], dims[1]];
        if let Some(blocks) = self.kept_blocks(&name, &shape)? {
            let linear = |number| {
                let codes = blocks.matrix(number, dims[0]);
                let weight = self.coded(&format!("{name}.{number}"), codes)?;
                Ok(Linear { weight, bias: None, adapter: None })
            };
            return (0..of.count).map(linear).collect();
        }
        let all = self.take(&name, &shape, Fill::Normal)?;
        let linear = |(number, numbers)| {
            let weight = self.linear_of(&format!("{name}.{number}"), numbers, dims)?;
            Ok(Linear { weight, bias: None, adapter: None })
        };
        all.chunks(dims[0] * dims[1]).into_iter().enumerate().map(linear).collect()
    }

    fn alternating_experts(
        &mut self,
        module: &str,
        of: &ExpertsDescription,
        matrix: ExpertMatrix,
    ) -> Result<Vec<Linear>> {
        let ([outputs, inputs], name) = (of.dims(matrix), matrix.name());
        let alternating = matrix == ExpertMatrix::GateUp;
        let all =
            self.take(&format!("{module}.{name}"), &[of.count, inputs, outputs], Fill::Normal)?;
        let biases = self.expert_biases(module, of, matrix)?;
        let device = self.device().clone();
        let matrices = all.chunks(outputs * inputs).into_iter().zip(biases);
        matrices
            .enumerate()
            .map(|(number, (numbers, bias))| {
                let numbers = numbers.transposed([inputs, outputs], |output| match alternating {
                    true => alternating_place(output, outputs),
                    false => output,
                });
                let bias = bias.map(|bias| vector(bias, &device));
                let path = format!("{module}.{number}.{name}");
                let weight = self.linear_of(&path, numbers, [outputs, inputs])?;
                Ok(Linear { weight, bias, adapter: None })
            })
            .collect()
    }
}

fn vector(values: Vec<f32>, device: &Device) -> Parameter<1> {
    let length = values.len();
    Parameter::frozen(from_vec(values, [length], device))
}

/// Where the number at a place of whole halves is among alternating ones.
fn alternating_place(place: usize, count: usize) -> usize {
    let half = count / 2;
    if place < half { 2 * place } else { 2 * (place - half) + 1 }
}

impl RawNumbers {
    /// These and then others, in their format if both have the same, else in 32 bits.
    fn followed_by(self, other: Self) -> Self {
        match (self, other) {
            (Self::F16(mut all), Self::F16(more)) => {
                all.extend(more);
                Self::F16(all)
            }
            (Self::BF16(mut all), Self::BF16(more)) => {
                all.extend(more);
                Self::BF16(all)
            }
            // Matrices are never codes.
            (all, more) => {
                let mut all = all.into_f32();
                all.extend(more.into_f32());
                Self::F32(all)
            }
        }
    }

    /// The transpose of a matrix of this shape, of which `column` says for each of its rows which
    /// column it is.
    fn transposed(self, [rows, columns]: [usize; 2], column: impl Fn(usize) -> usize) -> Self {
        fn of<N: Copy>(
            all: &[N],
            [rows, columns]: [usize; 2],
            column: impl Fn(usize) -> usize,
        ) -> Vec<N> {
            let mut transposed = Vec::with_capacity(all.len());
            for number in 0..columns {
                let column = column(number);
                transposed.extend((0..rows).map(|row| all[row * columns + column]));
            }
            transposed
        }
        match self {
            Self::F32(all) => Self::F32(of(&all, [rows, columns], column)),
            Self::F16(all) => Self::F16(of(&all, [rows, columns], column)),
            Self::BF16(all) => Self::BF16(of(&all, [rows, columns], column)),
            Self::U8(all) => Self::U8(of(&all, [rows, columns], column)),
        }
    }
}
