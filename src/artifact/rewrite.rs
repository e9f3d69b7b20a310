//! Writes the weights of a model with an adapter added, in the number format of its base or in
//! another, and measures what rounding took of the addition.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::merge::{Change, Rows, Sink, Weights};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{FileEntry, NewFile, failed};
use crate::model::{CheckpointNames, SCORE};
use crate::weights::{Element, OwnedTensor, ShardStream, TensorPlace, to_f32};

const FAILED: &str = "cannot write the merged weights";
/// Numbers that are summed up together: sums must not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// What became of an adapter's change to the weights when they were rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rounding {
    /// `Σ (rounded − before) · added`.
    along: f64,
    /// `Σ added²`.
    size: f64,
    /// `Σ (rounded − after)²`.
    error: f64,
}

impl Rounding {
    /// The share of the change that is still there: the projection of what rounding left of it on
    /// the change itself. None if the adapter changes nothing.
    pub fn kept(&self) -> Option<f64> {
        (self.size > 0.0).then(|| self.along / self.size)
    }

    /// How large the errors of rounding are beside the change, as the ratio of their norms.
    pub fn noise(&self) -> Option<f64> {
        (self.size > 0.0).then(|| (self.error / self.size).sqrt())
    }

    fn add(&mut self, change: Change, rounded: &[f32]) {
        let chunks = (change.before.par_chunks(CHUNK), change.added.par_chunks(CHUNK));
        let after = change.after.par_chunks(CHUNK).zip(rounded.par_chunks(CHUNK));
        let of_chunk =
            |((before, added), (after, rounded)): ((&[f32], &[f32]), (&[f32], &[f32]))| {
                let mut sum = Self::default();
                for (((before, added), after), rounded) in
                    before.iter().zip(added).zip(after).zip(rounded)
                {
                    let [before, added, after, rounded] =
                        [before, added, after, rounded].map(|number| f64::from(*number));
                    sum.along += (rounded - before) * added;
                    sum.size += added * added;
                    sum.error += (rounded - after) * (rounded - after);
                }
                sum
            };
        let sums: Vec<Self> = chunks.0.zip(chunks.1).zip(after).map(of_chunk).collect();
        for sum in sums {
            self.along += sum.along;
            self.size += sum.size;
            self.error += sum.error;
        }
    }
}

/// What was written.
pub struct Rewritten {
    /// The base's files, as read.
    pub base_files: Vec<FileEntry>,
    /// What rounding took.
    pub rounding: Rounding,
    /// Bytes of all weights.
    pub bytes: u64,
    /// The shortest number format in which a changed weight was written.
    pub element: Option<Element>,
    /// A tensor that the base lacks: its name, and that of the file.
    pub added: Option<(&'static str, String)>,
}

/// How a class of models that score labels calls the tensors of a model.
pub struct Renaming<'a> {
    /// The name of each, by the one that it has here; none of one that the class lacks.
    pub name: &'a dyn Fn(&str) -> Option<String>,
    /// What stands behind the head, with the name that it has there.
    pub behind_head: (&'static str, OwnedTensor),
}

/// Writes the merged weight files of a base into a directory, under their own names. With the
/// base's number formats their headers are the base's own, too, where no head is added; `format` is
/// another for all tensors that are of the text model by these names.
pub fn write_merged(
    weights: Weights,
    target: &Path,
    format: Option<(Element, CheckpointNames)>,
) -> Result<Rewritten> {
    write(weights, target, format, None)
}

/// The same for a class of models with other names of tensors.
pub fn write_renamed(
    weights: Weights,
    target: &Path,
    format: Option<(Element, CheckpointNames)>,
    renaming: &Renaming,
) -> Result<Rewritten> {
    write(weights, target, format, Some(renaming))
}

fn write(
    weights: Weights,
    target: &Path,
    format: Option<(Element, CheckpointNames)>,
    renaming: Option<&Renaming>,
) -> Result<Rewritten> {
    let mut copy = Copy {
        target,
        format,
        renaming,
        open: None,
        begins: BTreeMap::new(),
        left_out: false,
        adds_head: false,
        rounding: Rounding::default(),
        bytes: 0,
        shortest: None,
        more: Vec::new(),
        added: None,
    };
    let base_files = weights.read(&mut copy)?;
    let Copy { rounding, bytes, shortest, added, .. } = copy;
    Ok(Rewritten { base_files, rounding, bytes, element: shortest, added })
}

/// A copy of the files in which only adapted numbers differ, and the format if another is wanted.
struct Copy<'a> {
    target: &'a Path,
    format: Option<(Element, CheckpointNames)>,
    renaming: Option<&'a Renaming<'a>>,
    open: Option<(PathBuf, BufWriter<NewFile>)>,
    /// Where the tensors of the open file begin, by the names that are written; empty where they
    /// stand one after the other as in the base.
    begins: BTreeMap<String, u64>,
    /// Whether the tensor that comes is not written.
    left_out: bool,
    rounding: Rounding,
    bytes: u64,
    shortest: Option<Element>,
    /// Tensors of the next file that the base's lacks, by the names that are written.
    more: Vec<(String, OwnedTensor)>,
    /// Whether a head is one of them.
    adds_head: bool,
    /// Where a head went that the base lacks: its name, and that of the file.
    added: Option<(&'static str, String)>,
}

impl Copy<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (path, file) = self.open.as_mut().expect("a file was begun");
        file.write_all(bytes).map_err(|error| failed(FAILED, path, &error))
    }

    fn seek(&mut self, begin: u64) -> Result<()> {
        let (path, file) = self.open.as_mut().expect("a file was begun");
        let begun = file.seek(SeekFrom::Start(begin));
        begun.map(|_| ()).map_err(|error| failed(FAILED, path, &error))
    }

    fn format(&self, place: &TensorPlace) -> Element {
        match self.format {
            Some((element, names)) if is_number(place) && names.path_of(&place.name).is_some() => {
                element
            }
            _ => place.element,
        }
    }

    /// What a tensor is called in the files that are written, if it is written.
    fn name(&self, name: &str) -> Option<String> {
        self.renaming.map_or_else(|| Some(name.to_owned()), |renaming| (renaming.name)(name))
    }

    /// Every tensor of a file as it is written; first those of the base's file.
    fn tensors<'s>(&'s self, shard: &'s ShardStream) -> Vec<Placed<'s>> {
        let of_base = shard.places().iter().filter_map(|place| {
            let (name, element) = (self.name(&place.name)?, self.format(place));
            let bytes = place.bytes / place.element.size() as u64 * element.size() as u64;
            Some(Placed { name, element, shape: &place.shape, bytes })
        });
        let more = self.more.iter().map(|(name, tensor)| Placed {
            name: name.clone(),
            element: tensor.element,
            shape: &tensor.shape,
            bytes: tensor.bytes.len() as u64,
        });
        of_base.chain(more).collect()
    }
}

/// A tensor of a file that is written.
struct Placed<'a> {
    name: String,
    element: Element,
    shape: &'a [usize],
    bytes: u64,
}

/// Codes of quantised numbers stay as they are.
fn is_number(place: &TensorPlace) -> bool {
    place.element != Element::U8
}

impl Sink for Copy<'_> {
    fn more(&mut self, name: &'static str, tensor: OwnedTensor) {
        if name == SCORE {
            self.adds_head = true;
        }
        self.more.extend(self.name(name).map(|name| (name, tensor)));
    }

    fn shard(&mut self, shard: &ShardStream) -> Result<()> {
        let adds_head = std::mem::take(&mut self.adds_head);
        if adds_head {
            self.added = Some((SCORE, shard.name().to_owned()));
        }
        let has_head = adds_head || shard.places().iter().any(|place| place.name == SCORE);
        if let Some(renaming) = self.renaming.filter(|_| has_head) {
            let (name, tensor) = &renaming.behind_head;
            self.more.push(((*name).to_owned(), tensor.clone()));
        }
        let tensors = self.tensors(shard);
        if tensors.is_empty() && !shard.places().is_empty() {
            return Ok(()); // nothing of it has a place: no file
        }
        let data: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        // The sums have no place in blocks, and take that of the numbers that they stand for.
        let in_blocks = shard.places().iter().any(|place| place.blocks.is_some());
        let another = self.format.is_some() || self.renaming.is_some() || !self.more.is_empty();
        let (header, begins) = match another || in_blocks || shard.grows() {
            false => (without_binding(shard.header())?, BTreeMap::new()),
            true => with_tensors(shard.header(), tensors)?,
        };
        self.begins = begins;
        self.bytes += data;
        let path = self.target.join(shard.name());
        let begin = || -> io::Result<NewFile> {
            let file = NewFile::begin(&path)?;
            file.reserve(header.len() as u64 + data)?;
            Ok(file)
        };
        let file = begin().map_err(|error| failed(FAILED, &path, &error))?;
        self.open = Some((path, BufWriter::with_capacity(1 << 20, file)));
        self.write(&header)
    }

    fn tensor(&mut self, place: &TensorPlace) -> Result<usize> {
        let name = self.name(&place.name);
        self.left_out = name.is_none();
        if let Some(begin) = name.and_then(|name| self.begins.get(&name).copied()) {
            self.seek(begin)?;
        }
        Ok(1)
    }

    fn rows(&mut self, place: &TensorPlace, rows: Rows) -> Result<()> {
        if self.left_out {
            return Ok(());
        }
        let element = self.format(place);
        match rows {
            Rows::Unchanged(bytes) if element == place.element => self.write(bytes),
            Rows::Unchanged(bytes) => {
                let values = to_f32(place.element, bytes);
                self.write(&fitting(&place.name, element, &values)?)
            }
            Rows::Changed(change) => {
                let bytes = fitting(&place.name, element, change.after)?;
                self.rounding.add(change, &to_f32(element, &bytes));
                let shorter =
                    |held: Element| if held.size() <= element.size() { held } else { element };
                self.shortest = Some(self.shortest.map_or(element, shorter));
                self.write(&bytes)
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        for (name, tensor) in std::mem::take(&mut self.more) {
            self.seek(self.begins[&name])?;
            self.write(&tensor.bytes)?;
        }
        let Some((path, file)) = self.open.take() else { return Ok(()) };
        let end = || -> io::Result<()> { file.into_inner().map_err(|e| e.into_error())?.sync() };
        end().map_err(|error| failed(FAILED, &path, &error))
    }
}

/// Values in a number format.
///
/// # Errors
/// When one is too large for it: half precision ends at 65504.
fn fitting(name: &str, element: Element, values: &[f32]) -> Result<Vec<u8>> {
    let bytes = element.encode(values);
    if element.not_finite(&bytes) > 0 {
        let is_lost = |value: &&f32| element.not_finite(&element.encode(&[**value])) > 0;
        let value = values.iter().find(is_lost).copied().unwrap_or_default();
        return Err(Error::export(format!("`{name}` becomes too large for {}", element.name()))
            .because(format!("one of its weights would be {value}")));
    }
    Ok(bytes)
}

/// The header of the base; one made by Firebrand tells of another lineage, and those entries must
/// not be carried over.
fn without_binding(header: &[u8]) -> Result<Vec<u8>> {
    let Value::Object(mut json) = parsed(header)? else { return Ok(header.to_vec()) };
    let Some(Value::Object(metadata)) = json.get_mut("__metadata__") else {
        return Ok(header.to_vec());
    };
    let before = metadata.len();
    unbind(metadata);
    if metadata.len() == before {
        return Ok(header.to_vec());
    }
    Ok(with_length(&json))
}

/// The header of a file with these tensors in the place of those that it had, and where each begins
/// in the file. Those with the longest numbers come first, so that all lie at multiples of their
/// size.
fn with_tensors(
    header: &[u8],
    mut tensors: Vec<Placed>,
) -> Result<(Vec<u8>, BTreeMap<String, u64>)> {
    let mut json = Map::new();
    if let Some(Value::Object(metadata)) = parsed(header)?.get_mut("__metadata__") {
        unbind(metadata);
        json.insert("__metadata__".to_owned(), Value::Object(metadata.clone()));
    }
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.element.size()));
    let (mut begin, mut begins) = (0, BTreeMap::new());
    for Placed { name, element, shape, bytes } in tensors {
        let end = begin + bytes;
        let entry = json!({
            "dtype": element.name(),
            "shape": shape,
            "data_offsets": [begin, end],
        });
        json.insert(name.clone(), entry);
        begins.insert(name, begin);
        begin = end;
    }
    let header = with_length(&json);
    begins.values_mut().for_each(|begin| *begin += header.len() as u64);
    Ok((header, begins))
}

fn parsed(header: &[u8]) -> Result<Value> {
    serde_json::from_slice(&header[8..])
        .context_code(ErrorCode::Weights, "the header of the base model cannot be read")
}

fn unbind(metadata: &mut Map<String, Value>) {
    metadata.retain(|key, _| !key.starts_with("firebrand."));
}

fn with_length(json: &Map<String, Value>) -> Vec<u8> {
    let mut text = Value::Object(json.clone()).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;
    use crate::weights::{INDEX_FILE, TensorSpec, read_tensors, write_safetensors};

    #[test]
    fn what_rounding_keeps_is_measured_along_the_change() {
        let (before, added) = ([1.0_f32; 4], [0.25, 0.25, 1e-4, 1e-4]);
        let after: Vec<f32> = before.iter().zip(added).map(|(a, b)| a + b).collect();
        let change = Change { before: &before, added: &added, after: &after };
        let mut whole = Rounding::default();
        whole.add(change, &after);
        assert!((whole.kept().unwrap() - 1.0).abs() < 1e-6 && whole.noise() == Some(0.0));
        // bfloat16 holds 1.25, and 1.0001 becomes 1.
        let rounded = to_f32(Element::BF16, &Element::BF16.encode(&after));
        let small = Change { before: &before[2..], added: &added[2..], after: &after[2..] };
        let mut lost = Rounding::default();
        lost.add(small, &rounded[2..]);
        assert_eq!(lost.kept(), Some(0.0));
        assert!((lost.noise().unwrap() - 1.0).abs() < 1e-3);
        assert_eq!(Rounding::default().kept(), None);
    }

    /// A base in bfloat16 of two files, of which the second has an output projection alone.
    fn classifier_in_two_files(folder: &Path) -> Weights {
        let files: [(&str, &[(&str, &[usize])]); 2] = [
            ("a.safetensors", &[("model.norm.weight", &[3]), ("score.weight", &[2, 3])]),
            ("b.safetensors", &[("lm_head.weight", &[2, 3])]),
        ];
        let mut index = Map::new();
        for (file, tensors) in files {
            let specs = tensors.iter().map(|(name, shape)| TensorSpec {
                name: (*name).to_owned(),
                element: Element::BF16,
                shape: shape.to_vec(),
            });
            index.extend(tensors.iter().map(|(name, _)| ((*name).to_owned(), file.into())));
            let ones = |spec: &TensorSpec| Ok(vec![1.0; spec.shape.iter().product()]);
            let metadata = BTreeMap::new();
            write_safetensors(&folder.join(file), specs.collect(), &metadata, ones).unwrap();
        }
        let index = json!({ "weight_map": index }).to_string();
        std::fs::write(folder.join(INDEX_FILE), index).unwrap();
        Weights::open(folder, CheckpointNames::USUAL, Vec::new(), BTreeMap::new()).unwrap()
    }

    #[test]
    fn what_another_class_has_or_lacks_leaves_no_gaps() {
        let (base, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let numbers = [0.5, -0.5];
        let bias = OwnedTensor {
            element: Element::F32,
            shape: vec![2],
            bytes: Element::F32.encode(&numbers),
        };
        let renaming = Renaming {
            name: &|name| match name {
                "score.weight" => Some("proj.weight".to_owned()),
                "lm_head.weight" => None,
                other => Some(other.to_owned()),
            },
            behind_head: ("proj.bias", bias),
        };
        let weights = classifier_in_two_files(base.path());
        let written = write_renamed(weights, target.path(), None, &renaming).unwrap();
        assert_eq!((written.base_files.len(), written.bytes), (2, 8 + 6 + 12));
        assert!(!target.path().join("b.safetensors").exists());
        let (tensors, _) = read_tensors(target.path(), "a.safetensors").unwrap();
        let names: Vec<_> = tensors.keys().map(String::as_str).collect();
        assert_eq!(names, ["model.norm.weight", "proj.bias", "proj.weight"]);
        assert_eq!(to_f32(Element::F32, &tensors["proj.bias"].bytes), numbers);
        assert_eq!(to_f32(Element::BF16, &tensors["proj.weight"].bytes), [1.0; 6]);
        // The bias has the longest numbers.
        let header = ShardStream::open(target.path(), "a.safetensors").unwrap().header().to_vec();
        assert_eq!(parsed(&header).unwrap()["proj.bias"]["data_offsets"], json!([0, 8]));
    }

    #[test]
    fn what_does_not_fit_a_format_is_named() {
        assert!(fitting("w", Element::BF16, &[7e4]).is_ok());
        let error = fitting("w", Element::F16, &[1.0, 7e4]).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[export]: `w` becomes too large for F16
  because one of its weights would be 70000
"#]],
        );
        assert!(fitting("w", Element::F32, &[f32::INFINITY]).is_err());
    }
}
