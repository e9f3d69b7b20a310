//! The layout of a GGUF file: which tensors it has, and what becomes of each of the model's.

use std::collections::BTreeMap;

use super::architecture::Architecture;
use super::change::{NumberChange, Target, TensorOrder};
use super::file::Tensor;
use super::mixture::Mixture;
use super::numbers::NumberFormat;
use super::shape::head_width;
use crate::artifact::merge::Weights;
use crate::error::{Error, Result};
use crate::model::Description;
use crate::weights::{Element, TensorPlace};

/// A tensor of the file that one of the model goes into, or a part of it.
#[derive(Debug, Clone)]
pub struct TensorOutput {
    /// How its numbers are written.
    pub numbers: NumberFormat,
    /// What is done to them.
    pub change: NumberChange,
    /// In which order they stand.
    pub order: TensorOrder,
    /// Rows of a head and numbers of a row of the model, where heads are turned.
    pub head: [usize; 2],
    /// Which tensor of the file it is, or is a part of, and where in that it begins.
    pub tensor: usize,
    /// Its first byte in that.
    pub begin: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
}

/// What was asked for.
#[derive(Debug)]
pub enum WantedNumbers {
    /// One format for all matrices.
    One(NumberFormat),
    /// K-quants.
    Mixture(Mixture),
}

/// The layout of a file.
pub struct Layout {
    /// Its tensors.
    pub tensors: Vec<Tensor>,
    /// What becomes of those of the model, by name.
    pub outputs: BTreeMap<String, Vec<TensorOutput>>,
    /// Those that the model has as settings.
    pub factors: Vec<(&'static str, Vec<f32>)>,
    /// Matrices that the wanted numbers do not fit: kept in f16, those of mixtures in formats with
    /// smaller blocks, if they fit.
    pub kept: usize,
    /// Tensors that stay in MXFP4.
    pub coded: usize,
    /// Tensors that the text model does not use.
    pub left_out: usize,
}

impl Layout {
    /// Decides it from names and shapes.
    ///
    /// # Errors
    /// When the model lacks a tensor, has one too many, or one of another shape than its
    /// configuration says.
    pub fn new(
        architecture: &Architecture,
        facts: &Description,
        weights: &Weights,
        wanted: &WantedNumbers,
    ) -> Result<Self> {
        let factors = architecture.rope_factors(facts);
        let tensors = factors.iter().map(|(name, factors)| Tensor {
            name: (*name).to_owned(),
            shape: vec![factors.len()],
            kind: NumberFormat::Plain(Element::F32).kind(),
            bytes: 4 * factors.len() as u64,
        });
        let (tensors, outputs) = (tensors.collect(), BTreeMap::new());
        let mut layout = Self { tensors, outputs, factors, kept: 0, coded: 0, left_out: 0 };
        let mut missing: BTreeMap<String, Vec<usize>> =
            architecture.needed(facts).into_iter().collect();
        for place in weights.places() {
            let Some(path) = facts.names.path_of(&place.name) else {
                layout.left_out += 1;
                continue;
            };
            let targets = architecture.targets(&path, facts)?;
            if targets.is_empty() {
                continue;
            }
            if let Some(shape) = missing.remove(&path)
                && shape != place.shape
            {
                let what = format!(
                    "tensor `{}` has shape {:?}, but `config.json` makes it {shape:?}",
                    place.name, place.shape
                );
                return Err(Error::export(what));
            }
            for target in targets {
                let output = layout.output(place, target, head_width(facts), wanted)?;
                layout.outputs.entry(place.name.clone()).or_default().push(output);
            }
        }
        match missing.keys().next() {
            None => Ok(layout),
            Some(name) => Err(Error::weights(format!("the weights have no tensor for `{name}`"))
                .hint("is the download complete?")),
        }
    }

    /// In which format the numbers of a tensor of a shape are written.
    fn numbers(
        &mut self,
        target: &Target,
        shape: &[usize],
        wanted: &WantedNumbers,
    ) -> NumberFormat {
        if target.order.is_mxfp4() {
            return NumberFormat::Mxfp4;
        }
        // Norms and biases are few, and their errors would be everywhere.
        if shape.len() < 2 || target.exact {
            return NumberFormat::Plain(Element::F32);
        }
        let width = shape.last().copied().unwrap_or(1);
        match wanted {
            WantedNumbers::One(format) if format.fits(width) => *format,
            WantedNumbers::One(_) => {
                self.kept += 1;
                NumberFormat::Plain(Element::F16)
            }
            WantedNumbers::Mixture(mixture) => {
                let format = mixture.format(&target.name, width);
                // Parts of one tensor are counted once.
                let first = target.part.is_none_or(|[number, _]| number == 0);
                self.kept += usize::from(first && mixture.falls_back(format, width));
                format
            }
        }
    }

    fn output(
        &mut self,
        place: &TensorPlace,
        target: Target,
        head: usize,
        wanted: &WantedNumbers,
    ) -> Result<TensorOutput> {
        let mut shape = target.order.shape(&place.shape);
        let numbers = self.numbers(&target, &shape, wanted);
        let rows = place.shape.first().copied().unwrap_or(1);
        let row: usize = place.shape.iter().skip(1).product();
        if target.order == TensorOrder::Turned && (row == 0 || rows % head != 0) {
            let what = format!("tensor `{}` does not consist of whole heads", place.name);
            return Err(Error::export(what));
        }
        let bytes = numbers.bytes(shape.iter().product::<usize>() as u64);
        let (count, begin) = match target.part {
            None => (1, 0),
            Some([number, count]) => {
                shape.insert(0, count);
                (count as u64, number as u64 * bytes)
            }
        };
        let known = self.tensors.iter().position(|tensor| tensor.name == target.name);
        let tensor = known.unwrap_or(self.tensors.len());
        if known.is_none() {
            let (kind, bytes) = (numbers.kind(), bytes * count);
            self.coded += usize::from(numbers == NumberFormat::Mxfp4);
            self.tensors.push(Tensor { name: target.name, shape, kind, bytes });
        }
        let (change, order) = (target.change, target.order);
        let row_bytes = bytes / (rows / order.matrices()).max(1) as u64;
        let head = [head, row];
        Ok(TensorOutput { numbers, change, order, head, tensor, begin, bytes, row_bytes })
    }
}
