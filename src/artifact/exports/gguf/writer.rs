//! Writes the numbers of a GGUF file as the weights come by, one piece of a tensor at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::change::{TensorOrder, put_mxfp4, rows_of_half};
use super::file::{ALIGNMENT, Keys, header};
use super::layout::{Layout, TensorOutput};
use crate::artifact::merge::{Rows, Sink};
use crate::error::{Error, Result};
use crate::files::{NewFile, failed, open_regular};
use crate::weights::{Element, ShardStream, TensorPlace, to_f32};

const FAILED: &str = "cannot write the export";

/// A file that is being written.
pub struct Writer {
    file: BufWriter<NewFile>,
    path: PathBuf,
    outputs: BTreeMap<String, Vec<TensorOutput>>,
    /// Where each tensor begins in the file, and its bytes.
    tensors: Vec<(u64, u64)>,
    /// What becomes of the tensor that is being written, and rows that were.
    current: Option<(Vec<TensorOutput>, u64)>,
    /// Tensors of which codes or scales are in the file.
    half_done: BTreeSet<usize>,
    /// Where the keys begin in the file.
    pub keys_begin: u64,
}

impl Writer {
    /// Begins the file.
    pub fn begin(path: &Path, keys: &Keys, layout: Layout) -> Result<Self> {
        let (bytes, keys_begin) = header(keys, &layout.tensors);
        let mut end = bytes.len() as u64;
        let mut tensors = Vec::new();
        for tensor in &layout.tensors {
            tensors.push((end, tensor.bytes));
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
        let (path, outputs) = (path.to_owned(), layout.outputs);
        let (current, half_done) = (None, BTreeSet::new());
        let mut writer = Self { file, path, outputs, tensors, current, half_done, keys_begin };
        for (number, (_, factors)) in layout.factors.iter().enumerate() {
            writer.write(writer.tensors[number].0, &Element::F32.encode(factors))?;
            writer.pad(number)?;
        }
        Ok(writer)
    }

    /// Ends the file.
    pub fn finish(self) -> Result<()> {
        let Self { file, path, .. } = self;
        let end = || -> io::Result<()> { file.into_inner().map_err(|e| e.into_error())?.sync() };
        end().map_err(|error| failed(FAILED, &path, &error))
    }

    /// Writes bytes at a place; those that come one after the other need no way.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut write = || -> io::Result<()> {
            if self.file.stream_position()? != at {
                self.file.seek(SeekFrom::Start(at))?;
            }
            self.file.write_all(bytes)
        };
        write().map_err(|error| failed(FAILED, &self.path, &error))
    }

    /// What was written at a place.
    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.flush().map_err(|error| failed(FAILED, &self.path, &error))?;
        let mut file = open_regular(&self.path)?;
        let mut read = || {
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(bytes)
        };
        read().map_err(|error| failed(FAILED, &self.path, &error))
    }

    /// Fills up what is behind a tensor.
    fn pad(&mut self, tensor: usize) -> Result<()> {
        let (begin, bytes) = self.tensors[tensor];
        let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
        let zeros = [0; ALIGNMENT as usize];
        match usize::try_from(padding).unwrap_or_default() {
            0 => Ok(()),
            padding => self.write(begin + bytes, &zeros[..padding]),
        }
    }

    fn end_tensor(&mut self) -> Result<()> {
        let Some((outputs, rows)) = self.current.take() else { return Ok(()) };
        for output in outputs {
            let written = rows * output.row_bytes;
            let planned = output.bytes * output.order.matrices() as u64;
            assert_eq!(written, planned, "a tensor of another size than was planned");
            if output.order.is_mxfp4() {
                self.half_done.insert(output.tensor);
            }
            if output.begin + output.bytes == self.tensors[output.tensor].1 {
                self.pad(output.tensor)?;
            }
        }
        Ok(())
    }

    /// Writes whole rows of numbers, of which `first` is the number of the first.
    fn put(&mut self, output: &TensorOutput, first: u64, values: Vec<f32>) -> Result<()> {
        let begin = self.tensors[output.tensor].0 + output.begin;
        let [head, row] = output.head;
        let (values, first) = match output.order {
            TensorOrder::Half(which) => {
                let number = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
                let rows = number(output.bytes / output.row_bytes.max(1));
                let here = (number(first), values.len() / row.max(1));
                let (kept, first) = rows_of_half(which, here, rows);
                (values[kept.start * row..kept.end * row].to_vec(), first as u64)
            }
            _ => (values, first),
        };
        if values.is_empty() {
            return Ok(()); // they are of the other half
        }
        let bytes = output.order.apply(output.change, (head, row), values);
        let bytes = output.numbers.encode(&bytes);
        let TensorOrder::Rows(heads) = output.order else {
            return self.write(begin + first * output.row_bytes, &bytes);
        };
        let size = usize::try_from(output.row_bytes).unwrap_or(usize::MAX);
        for (number, row) in (first..).zip(bytes.chunks(size)) {
            let place = heads.place(usize::try_from(number).unwrap_or(usize::MAX)) as u64;
            self.write(begin + place * output.row_bytes, row)?;
        }
        Ok(())
    }

    /// Writes codes or scales of whole experts: whichever come second find the others there.
    fn put_codes(&mut self, output: &TensorOutput, first: u64, bytes: &[u8]) -> Result<()> {
        let TensorOrder::Mxfp4 { of, scales } = output.order else { return Ok(()) };
        let at = self.tensors[output.tensor].0 + output.begin + first * output.row_bytes;
        let row = output.head[1];
        let size = usize::try_from(output.row_bytes).unwrap_or(usize::MAX);
        let mut blocks = vec![0; bytes.len() / row.max(1) * size];
        if self.half_done.contains(&output.tensor) {
            self.read_back(at, &mut blocks)?;
        }
        put_mxfp4(of, scales, row, bytes, &mut blocks);
        self.write(at, &blocks)
    }
}

impl Sink for Writer {
    fn shard(&mut self, _: &ShardStream) -> Result<()> {
        Ok(())
    }

    fn tensor(&mut self, place: &TensorPlace) -> Result<usize> {
        self.end_tensor()?;
        let Some(outputs) = self.outputs.get(&place.name).cloned() else { return Ok(1) };
        let turned = |output: &&TensorOutput| output.order == TensorOrder::Turned;
        let head = outputs.iter().find(turned).map_or(1, |output| output.head[0]);
        self.current = Some((outputs, 0));
        Ok(head)
    }

    fn rows(&mut self, place: &TensorPlace, rows: Rows) -> Result<()> {
        let Some((outputs, first)) = self.current.take() else { return Ok(()) };
        let row = outputs.first().map_or(1, |output| output.head[1]).max(1);
        let (bytes, values) = match rows {
            Rows::Unchanged(bytes) if place.element == Element::U8 => (bytes, Vec::new()),
            Rows::Unchanged(bytes) => (&[][..], to_f32(place.element, bytes)),
            Rows::Changed(change) => (&[][..], change.after.to_vec()),
        };
        for output in &outputs {
            if output.order.is_mxfp4() {
                self.put_codes(output, first, bytes)?;
                continue;
            }
            if let Some(value) = output.numbers.too_large(&values) {
                let what = format!("`{}` cannot be written in this type", place.name);
                return Err(Error::export(what)
                    .because(format!("one of its weights is {value}"))
                    .hint("`--type bf16` and `--type f32` have room for every finite number"));
            }
            self.put(output, first, values.clone())?;
        }
        let count = bytes.len().max(values.len()) / row;
        self.current = Some((outputs, first + count as u64));
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.end_tensor()
    }
}
