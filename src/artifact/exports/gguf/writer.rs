//! Writes the numbers of a GGUF file as the weights come by, one piece of a tensor at a time.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::architecture::{Architecture, head_width};
use super::file::{ALIGNMENT, Keys, Tensor, header};
use super::numbers::NumberFormat;
use crate::artifact::merge::{Rows, Sink, Weights};
use crate::error::{Error, Result};
use crate::files::{NewFile, failed};
use crate::gguf::{Turn, turn};
use crate::model::Description;
use crate::weights::{Element, ShardStream, TensorPlace, to_f32};

const FAILED: &str = "cannot write the export";

/// What becomes of one tensor of the model.
#[derive(Debug, Clone)]
struct Plan {
    numbers: NumberFormat,
    /// Rows of a head and numbers of a row, where heads are turned.
    turned: Option<[usize; 2]>,
    bytes: u64,
}

/// The layout of a file: which tensors it has, and what becomes of each of the model's.
pub struct Layout {
    tensors: Vec<Tensor>,
    plans: BTreeMap<String, Plan>,
    factors: Vec<(&'static str, Vec<f32>)>,
    /// Matrices that the wanted numbers do not fit, kept in f16.
    pub kept: usize,
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
        wanted: NumberFormat,
    ) -> Result<Self> {
        let factors = architecture.rope_factors(facts);
        let mut layout = Self { tensors: Vec::new(), plans: BTreeMap::new(), factors, kept: 0 };
        for (name, factors) in &layout.factors {
            layout.tensors.push(Tensor {
                name: (*name).to_owned(),
                shape: vec![factors.len()],
                kind: NumberFormat::Plain(Element::F32).kind(),
                bytes: 4 * factors.len() as u64,
            });
        }
        let mut missing: BTreeMap<String, Vec<usize>> =
            architecture.needed(facts).into_iter().collect();
        for place in weights.places() {
            let Some(target) = architecture.target(&place.name, facts)? else { continue };
            if let Some(shape) = missing.remove(&target.name)
                && shape != place.shape
            {
                let what = format!(
                    "tensor `{}` has shape {:?}, but `config.json` makes it {shape:?}",
                    place.name, place.shape
                );
                return Err(Error::export(what));
            }
            let width = place.shape.last().copied().unwrap_or(1);
            // Norms and biases are few, and their errors would be everywhere.
            let numbers = match place.shape.len() {
                0 | 1 => NumberFormat::Plain(Element::F32),
                _ if wanted.fits(width) => wanted,
                _ => {
                    layout.kept += 1;
                    NumberFormat::Plain(Element::F16)
                }
            };
            let row: usize = place.shape.iter().skip(1).product();
            let rows = place.shape.first().copied().unwrap_or(1);
            let head = head_width(facts);
            if target.turned && (row == 0 || rows % head != 0) {
                let what = format!("tensor `{}` does not consist of whole heads", place.name);
                return Err(Error::export(what));
            }
            let bytes = numbers.bytes(place.bytes / place.element.size() as u64);
            let turned = target.turned.then_some([head, row]);
            layout.plans.insert(place.name.clone(), Plan { numbers, turned, bytes });
            let (name, shape) = (target.name, place.shape.clone());
            layout.tensors.push(Tensor { name, shape, kind: numbers.kind(), bytes });
        }
        match missing.keys().next() {
            None => Ok(layout),
            Some(name) => Err(Error::weights(format!("the weights have no tensor for `{name}`"))
                .hint("is the download complete?")),
        }
    }
}

/// A file that is being written.
pub struct Writer {
    file: BufWriter<NewFile>,
    path: PathBuf,
    plans: BTreeMap<String, Plan>,
    /// The tensor that is being written, what becomes of it, and bytes written of it.
    current: Option<(Plan, u64)>,
    /// Where the keys begin in the file.
    pub keys_begin: u64,
}

impl Writer {
    /// Begins the file.
    pub fn begin(path: &Path, keys: &Keys, layout: Layout) -> Result<Self> {
        let (bytes, keys_begin) = header(keys, &layout.tensors);
        let data: u64 =
            layout.tensors.iter().map(|tensor| tensor.bytes.next_multiple_of(ALIGNMENT)).sum();
        let begin = || -> io::Result<BufWriter<NewFile>> {
            let file = NewFile::begin(path)?;
            file.reserve(bytes.len() as u64 + data)?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&bytes)?;
            Ok(file)
        };
        let file = begin().map_err(|error| failed(FAILED, path, &error))?;
        let mut writer =
            Self { file, path: path.to_owned(), plans: layout.plans, current: None, keys_begin };
        for (_, factors) in &layout.factors {
            let bytes = Element::F32.encode(factors);
            writer.write(&bytes)?;
            writer.pad(bytes.len() as u64)?;
        }
        Ok(writer)
    }

    /// Ends the file.
    pub fn finish(self) -> Result<()> {
        let Self { file, path, .. } = self;
        let end = || -> io::Result<()> { file.into_inner().map_err(|e| e.into_error())?.sync() };
        end().map_err(|error| failed(FAILED, &path, &error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| failed(FAILED, &self.path, &error))
    }

    fn pad(&mut self, written: u64) -> Result<()> {
        let padding = written.next_multiple_of(ALIGNMENT) - written;
        let zeros = [0; ALIGNMENT as usize];
        self.write(&zeros[..usize::try_from(padding).unwrap_or_default()])
    }

    fn end_tensor(&mut self) -> Result<()> {
        let Some((plan, written)) = self.current.take() else { return Ok(()) };
        assert_eq!(written, plan.bytes, "a tensor of another size than was planned");
        self.pad(written)
    }
}

impl Sink for Writer {
    fn shard(&mut self, _: &ShardStream) -> Result<()> {
        Ok(())
    }

    fn tensor(&mut self, place: &TensorPlace) -> Result<usize> {
        self.end_tensor()?;
        self.current = self.plans.get(&place.name).map(|plan| (plan.clone(), 0));
        let heads = self.current.as_ref().and_then(|(plan, _)| plan.turned);
        Ok(heads.map_or(1, |[head, _]| head))
    }

    fn rows(&mut self, place: &TensorPlace, rows: Rows) -> Result<()> {
        let Some((plan, written)) = &mut self.current else { return Ok(()) };
        let mut values = match rows {
            Rows::Unchanged(bytes) => to_f32(place.element, bytes),
            Rows::Changed(change) => change.after.to_vec(),
        };
        if let Some(value) = plan.numbers.too_large(&values) {
            return Err(Error::export(format!("`{}` cannot be written in this type", place.name))
                .because(format!("one of its weights is {value}"))
                .hint("`--type bf16` and `--type f32` have room for every finite number"));
        }
        if let Some([head, row]) = plan.turned {
            values = turn(&values, (head, row), Turn::ToNeighbours);
        }
        let bytes = plan.numbers.encode(&values);
        *written += bytes.len() as u64;
        self.write(&bytes)
    }

    fn end(&mut self) -> Result<()> {
        self.end_tensor()
    }
}
