//! Writes the numbers of a GGUF file as the weights come by, one piece of a tensor at a time.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::architecture::{Architecture, Target, TensorChange};
use super::file::{ALIGNMENT, Keys, Tensor, header};
use super::keys::head_width;
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
    change: TensorChange,
    /// Rows of a head and numbers of a row, where heads are turned.
    head: [usize; 2],
    bytes: u64,
    /// Which tensor of the file it is, or is a part of, and where in that it begins.
    tensor: usize,
    begin: u64,
    /// Bytes of that tensor, if it is the last part.
    ends_at: Option<u64>,
}

/// The layout of a file: which tensors it has, and what becomes of each of the model's.
pub struct Layout {
    tensors: Vec<Tensor>,
    plans: BTreeMap<String, Plan>,
    factors: Vec<(&'static str, Vec<f32>)>,
    /// Matrices that the wanted numbers do not fit, kept in f16.
    pub kept: usize,
    /// Tensors that are not of the text model.
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
        wanted: NumberFormat,
    ) -> Result<Self> {
        let factors = architecture.rope_factors(facts);
        let tensors = factors.iter().map(|(name, factors)| Tensor {
            name: (*name).to_owned(),
            shape: vec![factors.len()],
            kind: NumberFormat::Plain(Element::F32).kind(),
            bytes: 4 * factors.len() as u64,
        });
        let (tensors, plans) = (tensors.collect(), BTreeMap::new());
        let mut layout = Self { tensors, plans, factors, kept: 0, left_out: 0 };
        let mut missing: BTreeMap<String, Vec<usize>> =
            architecture.needed(facts).into_iter().collect();
        for place in weights.places() {
            let Some(path) = facts.names.path_of(&place.name) else {
                layout.left_out += 1;
                continue;
            };
            let Some(target) = architecture.target(&path, facts)? else { continue };
            if let Some(shape) = missing.remove(&path)
                && shape != place.shape
            {
                let what = format!(
                    "tensor `{}` has shape {:?}, but `config.json` makes it {shape:?}",
                    place.name, place.shape
                );
                return Err(Error::export(what));
            }
            layout.add(place, target, head_width(facts), wanted)?;
        }
        match missing.keys().next() {
            None => Ok(layout),
            Some(name) => Err(Error::weights(format!("the weights have no tensor for `{name}`"))
                .hint("is the download complete?")),
        }
    }

    fn add(
        &mut self,
        place: &TensorPlace,
        target: Target,
        head: usize,
        wanted: NumberFormat,
    ) -> Result<()> {
        let width = place.shape.last().copied().unwrap_or(1);
        // Norms and biases are few, and their errors would be everywhere.
        let numbers = match place.shape.len() {
            0 | 1 => NumberFormat::Plain(Element::F32),
            _ if target.exact => NumberFormat::Plain(Element::F32),
            _ if wanted.fits(width) => wanted,
            _ => {
                self.kept += 1;
                NumberFormat::Plain(Element::F16)
            }
        };
        let row: usize = place.shape.iter().skip(1).product();
        let rows = place.shape.first().copied().unwrap_or(1);
        if target.change == TensorChange::Turned && (row == 0 || rows % head != 0) {
            let what = format!("tensor `{}` does not consist of whole heads", place.name);
            return Err(Error::export(what));
        }
        let bytes = numbers.bytes(place.bytes / place.element.size() as u64);
        // A convolution of each channel by itself has one input.
        let mut shape = place.shape.clone();
        if shape.len() == 3 && shape[1] == 1 {
            shape.remove(1);
        }
        let (tensor, begin) = match target.part {
            None => (self.tensors.len(), 0),
            Some([number, count]) => {
                shape.insert(0, count);
                let known = self.tensors.iter().position(|tensor| tensor.name == target.name);
                (known.unwrap_or(self.tensors.len()), number as u64 * bytes)
            }
        };
        if tensor == self.tensors.len() {
            let count = target.part.map_or(1, |[_, count]| count as u64);
            let (kind, bytes) = (numbers.kind(), bytes * count);
            self.tensors.push(Tensor { name: target.name, shape, kind, bytes });
        }
        let (change, all) = (target.change, self.tensors[tensor].bytes);
        let ends_at = (begin + bytes == all).then_some(all);
        let plan = Plan { numbers, change, head: [head, row], bytes, tensor, begin, ends_at };
        self.plans.insert(place.name.clone(), plan);
        Ok(())
    }
}

/// A file that is being written.
pub struct Writer {
    file: BufWriter<NewFile>,
    path: PathBuf,
    plans: BTreeMap<String, Plan>,
    /// Where each tensor begins in the file.
    begins: Vec<u64>,
    /// What becomes of the tensor that is being written, and bytes written of it.
    current: Option<(Plan, u64)>,
    /// Where the keys begin in the file.
    pub keys_begin: u64,
}

impl Writer {
    /// Begins the file.
    pub fn begin(path: &Path, keys: &Keys, layout: Layout) -> Result<Self> {
        let (bytes, keys_begin) = header(keys, &layout.tensors);
        let mut end = bytes.len() as u64;
        let mut begins = Vec::new();
        for tensor in &layout.tensors {
            begins.push(end);
            end += tensor.bytes.next_multiple_of(ALIGNMENT);
        }
        let begin = || -> io::Result<BufWriter<NewFile>> {
            let file = NewFile::begin(path)?;
            file.reserve(end)?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&bytes)?;
            Ok(file)
        };
        let file = begin().map_err(|error| failed(FAILED, path, &error))?;
        let (path, plans) = (path.to_owned(), layout.plans);
        let mut writer = Self { file, path, plans, begins, current: None, keys_begin };
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
        plan.ends_at.map_or(Ok(()), |bytes| self.pad(bytes))
    }

    /// Goes to the place of a tensor; those that come one after the other need no way.
    fn go_to(&mut self, to: u64) -> Result<()> {
        let mut go = || match self.file.stream_position()? == to {
            true => Ok(()),
            false => self.file.seek(SeekFrom::Start(to)).map(drop),
        };
        go().map_err(|error| failed(FAILED, &self.path, &error))
    }
}

impl Sink for Writer {
    fn shard(&mut self, _: &ShardStream) -> Result<()> {
        Ok(())
    }

    fn tensor(&mut self, place: &TensorPlace) -> Result<usize> {
        self.end_tensor()?;
        let Some(plan) = self.plans.get(&place.name).cloned() else { return Ok(1) };
        self.go_to(self.begins[plan.tensor] + plan.begin)?;
        let head = if plan.change == TensorChange::Turned { plan.head[0] } else { 1 };
        self.current = Some((plan, 0));
        Ok(head)
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
        match plan.change {
            TensorChange::None => {}
            TensorChange::Turned => {
                let [head, row] = plan.head;
                values = turn(&values, (head, row), Turn::ToNeighbours);
            }
            TensorChange::PlusOne => values.iter_mut().for_each(|value| *value += 1.0),
        }
        let bytes = plan.numbers.encode(&values);
        *written += bytes.len() as u64;
        self.write(&bytes)
    }

    fn end(&mut self) -> Result<()> {
        self.end_tensor()
    }
}
