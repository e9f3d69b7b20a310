//! The way into a safetensors file: what is no such file, or not all of it, is refused here, before
//! memory is taken for anything that its header promises.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::event;
use crate::files::{lfs_pointer, lfs_refusal, open_regular, parse_json};
use crate::weights::Element;
use crate::weights::bitsandbytes::state_of;
use crate::weights::ggml::TensorType;

/// Where a tensor lies in its file, by order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlace {
    /// Hugging Face or PEFT name.
    pub name: String,
    /// Number format in the file; of blocks, the one in which they are read.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of all numbers in that format.
    pub bytes: u64,
    /// The type of its blocks, if it is in blocks.
    pub blocks: Option<&'static TensorType>,
}

impl TensorPlace {
    /// Bytes in the file.
    pub fn stored_bytes(&self) -> u64 {
        match self.blocks {
            None => self.bytes,
            Some(kind) => {
                self.bytes / (kind.block * self.element.size()) as u64 * kind.bytes as u64
            }
        }
    }
}

/// Largest header that is read. The format allows 100 MB; those of public models stay below 1 MiB.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Most tensors of one file.
const TENSORS_MAX: usize = 100_000;
/// Most dimensions of a tensor; those of decoders have two.
const DIMENSIONS_MAX: usize = 8;
/// Key of what is said of the file as a whole.
const METADATA: &str = "__metadata__";
/// What is said there of tensors in blocks of ggml: a text of JSON with the type of each, by name.
pub const BLOCKS_KEY: &str = "firebrand.blocks";

/// What every refusal of such a file begins with.
pub(super) const INVALID: &str = "not a valid safetensors file";

/// Opens a file for reading and returns its size.
///
/// # Errors
/// When it is a pipe, a device or a folder, or has holes in place of most of its bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    let file = open_regular(path)?;
    let size = file.metadata().context_at("cannot read the weights", path)?.len();
    Ok((file, size))
}

/// Reads the header at the beginning of a file of this size: its raw bytes, length included, and
/// the tensors in the order of their bytes.
///
/// # Errors
/// When it is not a header, or does not describe exactly the bytes that follow it.
pub(super) fn read(
    source: &mut impl Read,
    size: u64,
    path: &Path,
) -> Result<(Vec<u8>, Vec<TensorPlace>)> {
    let invalid = |why: String| Error::weights(INVALID).at(path).because(why);
    let mut begin = Vec::new();
    source.by_ref().take(8).read_to_end(&mut begin).context_at("cannot read the weights", path)?;
    if begin == POINTER {
        source.by_ref().take(POINTER_BYTES).read_to_end(&mut begin).context_at(INVALID, path)?;
        if lfs_pointer(&begin) {
            return Err(pointer(&begin, path));
        }
    }
    let Some(prefix) = begin.first_chunk::<8>().copied() else {
        return Err(invalid(format!("it has {size} bytes, too few for a header")));
    };
    let length = u64::from_le_bytes(prefix);
    if length > HEADER_BYTES_MAX {
        let what = format!("its header would have {length} bytes");
        return Err(invalid(format!("{what}, more than {HEADER_BYTES_MAX}")));
    }
    if length > size.saturating_sub(8) {
        return Err(invalid(format!("it is cut off within its header: it has {size} bytes"))
            .hint(INCOMPLETE));
    }
    let mut header = prefix.to_vec();
    source.by_ref().take(length).read_to_end(&mut header).context_at(INVALID, path)?;
    if header.len() as u64 != length + 8 {
        return Err(invalid("it became shorter while it was read".to_owned()));
    }
    let json = parse_json(&header[8..]).map_err(|error| {
        let why = error.causes.join(": ");
        invalid(format!("its header is {}: {why}", error.what))
    })?;
    let places = places(&json, size - length - 8).map_err(|error| error.at(path))?;
    Ok((header, places))
}

const INCOMPLETE: &str = "is the download complete?";
/// What a pointer of Git LFS begins with, where a header has its length.
const POINTER: &[u8] = b"version ";
/// More than a pointer has.
const POINTER_BYTES: u64 = 1024;

fn pointer(bytes: &[u8], path: &Path) -> Error {
    let text = String::from_utf8_lossy(bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
    match size.map(event::bytes) {
        Some(size) => lfs_refusal(path).because(format!("it stands for a file of {size}")),
        None => lfs_refusal(path),
    }
}

/// The tensors of a parsed header, checked against the number of bytes that follow it.
fn places(json: &Value, data: u64) -> Result<Vec<TensorPlace>> {
    let invalid = |why: String| Error::weights(INVALID).because(why);
    let Value::Object(map) = json else {
        return Err(invalid("its header is not a JSON object".to_owned()));
    };
    if map.len() > TENSORS_MAX {
        let count = map.len();
        return Err(invalid(format!("it names {count} tensors, more than {TENSORS_MAX}")));
    }
    let tensors = map.iter().filter(|(name, _)| name.as_str() != METADATA);
    let mut spans: BTreeMap<(u64, u64), TensorPlace> = BTreeMap::new();
    // Shards begin and end anywhere: the state of a matrix may be in another one than its codes.
    let coded = map.keys().any(|name| state_of(name).is_some());
    let blocks = block_types(map)?;
    for (name, value) in tensors {
        let (place, span) = tensor(name, value, coded, blocks.get(name).copied())?;
        if let Some(other) = spans.insert(span, place) {
            let other = other.name;
            return Err(invalid(format!("the tensors `{other}` and `{name}` overlap")));
        }
    }
    let mut end = 0;
    for (span, place) in &spans {
        if span.0 != end {
            let (name, what) =
                (&place.name, if span.0 < end { "overlaps" } else { "follows a gap" });
            return Err(invalid(format!(
                "the tensor `{name}` {what}: it begins at byte {}, not at {end}",
                span.0
            )));
        }
        end = span.1;
    }
    if end > data {
        return Err(Error::weights(format!("{INVALID}: it is cut off"))
            .because(format!(
                "its tensors have {end} bytes by its header, of which {data} are there"
            ))
            .hint(INCOMPLETE));
    }
    if end < data {
        let more = data - end;
        return Err(invalid(format!(
            "it is larger than its tensors: {more} bytes belong to none of them"
        )));
    }
    Ok(spans.into_values().collect())
}

/// The types of tensors that are in blocks.
fn block_types(map: &Map<String, Value>) -> Result<BTreeMap<String, &'static TensorType>> {
    let Some(text) = map.get(METADATA).and_then(|all| all[BLOCKS_KEY].as_str()) else {
        return Ok(BTreeMap::new());
    };
    let unknown = |what: String| Error::weights(INVALID).because(what);
    let types = parse_json(text.as_bytes()).ok();
    let types = types.as_ref().and_then(Value::as_object);
    let types = types.ok_or_else(|| unknown(format!("its `{BLOCKS_KEY}` names no types")))?;
    let of = |(name, kind): (&String, &Value)| {
        let found = kind.as_str().and_then(TensorType::quantised);
        let found = found.ok_or_else(|| unknown(format!("`{name}` is in unknown blocks, {kind}")));
        Ok((name.clone(), found?))
    };
    types.iter().map(of).collect()
}

/// A tensor of bytes as the numbers that its blocks stand for; none if they are not whole blocks.
fn in_blocks(place: TensorPlace, kind: &'static TensorType) -> Option<TensorPlace> {
    let mut shape = place.shape;
    let row = shape.last_mut().filter(|_| place.element == Element::U8)?;
    let whole = row.is_multiple_of(kind.bytes);
    *row = whole.then(|| (*row / kind.bytes).checked_mul(kind.block))??;
    let size = (kind.block * Element::F32.size()) as u64;
    let bytes = (place.bytes / kind.bytes as u64).checked_mul(size)?;
    Some(TensorPlace { shape, bytes, element: Element::F32, blocks: Some(kind), ..place })
}

/// One tensor, and where its bytes begin and end.
fn tensor(
    name: &str,
    value: &Value,
    coded: bool,
    blocks: Option<&'static TensorType>,
) -> Result<(TensorPlace, (u64, u64))> {
    let invalid = |why: String| Error::weights(INVALID).because(why);
    let empty = Map::new();
    let entry = value.as_object().unwrap_or(&empty);
    let dtype = entry.get("dtype").and_then(Value::as_str);
    let dtype = dtype.ok_or_else(|| invalid(format!("the tensor `{name}` has no `dtype`")))?;
    let element = Element::of_tensor(name, dtype, coded || blocks.is_some())
        .map_err(|error| error.because(format!("tensor `{name}`")))?;
    let numbers = |key: &str| -> Option<Vec<u64>> {
        entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
    };
    let shape = numbers("shape").filter(|shape| shape.len() <= DIMENSIONS_MAX);
    let shape = shape.and_then(|shape| {
        shape.into_iter().map(|size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>()
    });
    let shape =
        shape.ok_or_else(|| invalid(format!("the tensor `{name}` has no usable `shape`")))?;
    let offsets = numbers("data_offsets");
    let Some(&[begin, end]) = offsets.as_deref() else {
        return Err(invalid(format!("the tensor `{name}` has no usable `data_offsets`")));
    };
    let count = shape.iter().try_fold(1_u64, |count, size| count.checked_mul(*size as u64));
    let size = count.and_then(|count| count.checked_mul(element.size() as u64));
    let there = end.checked_sub(begin);
    match (size, there) {
        (Some(0), _) => Err(invalid(format!("the tensor `{name}` has no numbers: {shape:?}"))),
        (Some(size), Some(there)) if size == there => {
            let place =
                TensorPlace { name: name.to_owned(), element, shape, bytes: size, blocks: None };
            let whole = match blocks {
                None => Some(place),
                Some(kind) => in_blocks(place, kind),
            };
            let misfit = || invalid(format!("the tensor `{name}` is not made of whole blocks"));
            Ok((whole.ok_or_else(misfit)?, (begin, end)))
        }
        _ => Err(invalid(format!(
            "the tensor `{name}` of shape {shape:?} in {dtype} does not fit its bytes, {begin} to \
             {end}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshots::says;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        let found = read(&mut &bytes[..], bytes.len() as u64, Path::new("m.safetensors"));
        found.expect_err("it is to be refused").to_string()
    }

    fn entry(shape: Value, offsets: Value) -> Value {
        json!({"dtype": "F32", "shape": shape, "data_offsets": offsets})
    }

    #[test]
    fn tensors_in_blocks_have_the_numbers_that_these_stand_for() {
        let with = |types: &str, dtype: &str, shape: Value, size: u64| {
            let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": [0, size]});
            json!({"__metadata__": {BLOCKS_KEY: types}, "a": tensor}).to_string()
        };
        let types = r#"{"a":"Q8_0"}"#;
        let bytes = file(&with(types, "U8", json!([3, 68]), 204), 204);
        let (_, places) = read(&mut &bytes[..], bytes.len() as u64, Path::new("m")).unwrap();
        assert_eq!((&places[0].shape[..], places[0].element), (&[3, 64][..], Element::F32));
        assert_eq!((places[0].bytes, places[0].stored_bytes()), (3 * 64 * 4, 204));
        for (types, dtype, shape, size, why) in [
            (types, "U8", json!([3, 67]), 201, "the tensor `a` is not made of whole blocks"),
            (types, "F32", json!([3, 17]), 204, "the tensor `a` is not made of whole blocks"),
            (r#"{"a":"Q9_9"}"#, "U8", json!([34]), 34, "`a` is in unknown blocks, \"Q9_9\""),
            (r#"{"a":"F32"}"#, "U8", json!([34]), 34, "`a` is in unknown blocks, \"F32\""),
            ("[", "U8", json!([34]), 34, "its `firebrand.blocks` names no types"),
        ] {
            let told = refusal(&file(&with(types, dtype, shape, size), size as usize));
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_a_header_says_wrongly_is_named() {
        let two = |a: Value, b: Value| json!({"a": a, "b": b}).to_string();
        let one = |a: Value| json!({"a": a}).to_string();
        let whole = entry(json!([2]), json!([0, 8]));
        let mut messages = String::new();
        for (header, data) in [
            (two(whole.clone(), entry(json!([2]), json!([4, 12]))), 12),
            (two(whole.clone(), whole.clone()), 8),
            (two(whole.clone(), entry(json!([2]), json!([12, 20]))), 20),
            (one(whole.clone()), 7),
            (one(whole.clone()), 9),
            (one(entry(json!([3]), json!([0, 8]))), 8),
            (one(entry(json!([-2]), json!([0, 8]))), 8),
            (one(entry(json!([2.0]), json!([0, 8]))), 8),
            (one(entry(json!([1, 1, 1, 1, 1, 1, 1, 1, 2]), json!([0, 8]))), 8),
            (one(entry(json!([1_u64 << 40, 1_u64 << 40]), json!([0, 8]))), 8),
            (one(entry(json!([0, 5]), json!([0, 0]))), 0),
            (one(entry(json!([2]), json!([8, 0]))), 8),
            (one(entry(json!([2]), json!([0]))), 8),
            (one(json!({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]})), 8),
            (one(json!({"shape": [2], "data_offsets": [0, 8]})), 8),
            (one(json!(7)), 8),
            ("[]".to_owned(), 0),
            ("{".to_owned(), 0),
            (format!("{{\"a\":{whole},\"a\":{whole}}}"), 8),
        ] {
            let text = refusal(&file(&header, data));
            messages += &format!("{header}: {text}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `b` overlaps: it begins at byte 4, not at 8
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensors `a` and `b` overlap
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `b` follows a gap: it begins at byte 12, not at 8
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file: it is cut off
  at m.safetensors
  because its tensors have 8 bytes by its header, of which 7 are there

hint: is the download complete?
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because it is larger than its tensors: 1 bytes belong to none of them
{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` of shape [3] in F32 does not fit its bytes, 0 to 8
{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no usable `shape`
{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no usable `shape`
{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no usable `shape`
{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` of shape [1099511627776, 1099511627776] in F32 does not fit its bytes, 0 to 8
{"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no numbers: [0, 5]
{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` of shape [2] in F32 does not fit its bytes, 8 to 0
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no usable `data_offsets`
{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}: error[weights]: weights of type F8_E4M3 are not supported, only F32, F16 and BF16
  at m.safetensors
  because tensor `a`

hint: use the unquantised version of the model
{"a":{"shape":[2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no `dtype`
{"a":7}: error[weights]: not a valid safetensors file
  at m.safetensors
  because the tensor `a` has no `dtype`
[]: error[weights]: not a valid safetensors file
  at m.safetensors
  because its header is not a JSON object
{: error[weights]: not a valid safetensors file
  at m.safetensors
  because its header is not valid JSON: EOF while parsing an object at line 1 column 1
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}: error[weights]: not a valid safetensors file
  at m.safetensors
  because its header is not valid JSON: the key `a` appears twice at line 1 column 107

"#]],
        );
    }

    #[test]
    fn sizes_of_headers_are_bounded() {
        let mut bytes = file("{}", 0);
        bytes[..8].copy_from_slice(&(HEADER_BYTES_MAX + 1).to_le_bytes());
        says(
            refusal(&bytes),
            snapbox::str![[r#"
error[weights]: not a valid safetensors file
  at m.safetensors
  because its header would have 16777217 bytes, more than 16777216
"#]],
        );
        bytes[..8].copy_from_slice(&1000_u64.to_le_bytes());
        says(
            refusal(&bytes),
            snapbox::str![[r#"
error[weights]: not a valid safetensors file
  at m.safetensors
  because it is cut off within its header: it has 10 bytes

hint: is the download complete?
"#]],
        );
        says(
            refusal(b""),
            snapbox::str![[r#"
error[weights]: not a valid safetensors file
  at m.safetensors
  because it has 0 bytes, too few for a header
"#]],
        );
    }

    #[test]
    fn a_pointer_of_git_lfs_is_called_one() {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5530624\n";
        let text = refusal(text.as_bytes());
        says(
            &text,
            snapbox::str![[r#"
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at m.safetensors
  because it stands for a file of 5.5 MB

hint: run `git lfs pull` in its repository, or download the file itself
"#]],
        );
    }

    #[test]
    #[cfg(unix)]
    fn pipes_and_folders_are_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("p.safetensors");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let mut messages = String::new();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let error = open(path).unwrap_err().to_string();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at [FOLDER]/p.safetensors

hint: write what it gives into a file first
error[file]: a regular file is needed, and this is a folder
  at [FOLDER]

hint: name a file in it
error[file]: a regular file is needed, and this is a device
  at /dev/zero

hint: write what it gives into a file first

"#]],
        );
    }
}
