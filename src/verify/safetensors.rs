//! A strict reading of safetensors headers: what the format text forbids is refused here, also
//! where the common readers let it pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Context, Result, printable};
use crate::files::{self, FileEntry, Hashing};

/// The header's largest size; the common readers allow 100 MB.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The largest number of tensors in one file.
pub const MAX_TENSORS: usize = 100_000;
/// How many problems are told of one file.
const MAX_PROBLEMS: usize = 20;
/// What the key `format` may say; loaders refuse metadata without it.
const FORMATS: [&str; 4] = ["pt", "tf", "flax", "mlx"];
const METADATA: &str = "__metadata__";
/// The one problem that is no danger to anyone.
pub const NO_FORMAT: &str = "the metadata has no `format` that loaders accept, such as `pt`";

/// What was found in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lint {
    /// How many tensors it holds.
    pub tensors: usize,
    /// Its metadata, as far as it could be read.
    pub metadata: BTreeMap<String, String>,
    /// Rows of the token embedding, if it is in this file.
    pub embedding_rows: Option<u64>,
    /// Everything that is wrong with it.
    pub problems: Vec<String>,
}

/// What the token embedding is called, in the families that there are.
const EMBEDDINGS: [&str; 5] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
];

impl Lint {
    fn problem(&mut self, text: impl Into<String>) {
        match self.problems.len() {
            MAX_PROBLEMS => self.problems.push("and more".to_owned()),
            count if count < MAX_PROBLEMS => self.problems.push(printable(&text.into())),
            _ => {}
        }
    }
}

/// Looks at a file's header; the data itself is not read.
///
/// # Errors
/// Only if the file cannot be read. What is wrong in it stands in the result.
pub fn lint(path: &Path) -> Result<Lint> {
    let read = || -> io::Result<Lint> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        lint_from(&mut file, size)
    };
    read().context_at("cannot read the file", path)
}

/// Looks at a file's header and takes the digest of the whole file, from one reading: the bytes
/// that are evaluated are the bytes that are hashed, whatever happens to the file meanwhile.
///
/// # Errors
/// Only if the file cannot be read.
pub fn lint_and_hash(path: &Path, name: &str) -> Result<(FileEntry, Lint)> {
    let file = files::open_unlinked(path)?;
    let size = file.metadata().context_at("cannot read the file", path)?.len();
    lint_and_hash_from(file, size, name).context_at("cannot read the file", path)
}

fn lint_and_hash_from(source: impl Read, size: u64, name: &str) -> io::Result<(FileEntry, Lint)> {
    let mut source = Hashing::new(source);
    let mut lint = lint_from(&mut source, size)?;
    let entry = files::hash_rest(source, name)?;
    if entry.size != size {
        lint.problem(format!("it had {size} bytes and then {}", entry.size));
    }
    Ok((entry, lint))
}

/// Reads the header at the begin of a file of this size.
fn lint_from(source: &mut impl Read, size: u64) -> io::Result<Lint> {
    let mut lint = Lint::default();
    match read_header(source, size)? {
        Ok(header) => check_header(&header, size - 8 - header.len() as u64, &mut lint),
        Err(problem) => lint.problem(problem),
    }
    Ok(lint)
}

fn read_header(file: &mut impl Read, size: u64) -> io::Result<Result<Vec<u8>, String>> {
    if size < 8 {
        return Ok(Err("the file is too short for a header".to_owned()));
    }
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > size - 8 {
        return Ok(Err("the header is longer than the file".to_owned()));
    }
    if length > MAX_HEADER_BYTES {
        return Ok(Err(format!("the header has {length} bytes, more than {MAX_HEADER_BYTES}")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    if header.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Ok(header))
}

fn check_header(header: &[u8], data: u64, lint: &mut Lint) {
    if header.first() != Some(&b'{') {
        return lint.problem("the header does not begin with `{`");
    }
    let end = header.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    if header[..end].last() != Some(&b'}') {
        return lint.problem("the header is not padded with spaces after its last `}`");
    }
    let map = match files::parse_json(&header[..end]) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return lint.problem("the header is not an object"),
        Err(error) => {
            return lint.problem(format!("the header is {}", super::report::describe(&error)));
        }
    };
    if map.len() > MAX_TENSORS + 1 {
        return lint.problem(format!("there are more than {MAX_TENSORS} tensors"));
    }
    let mut spans = Vec::new();
    for (name, value) in &map {
        if name == METADATA {
            check_metadata(value, lint);
            continue;
        }
        lint.tensors += 1;
        if EMBEDDINGS.iter().any(|end| name == end || name.ends_with(&format!(".{end}"))) {
            lint.embedding_rows = value["shape"][0].as_u64();
        }
        check_name(name, lint);
        match tensor_span(value) {
            Ok((begin, end)) => spans.push((begin, end, name)),
            Err(problem) => lint.problem(format!("tensor `{name}`: {problem}")),
        }
    }
    if lint.tensors == 0 {
        lint.problem("there is no tensor");
    }
    if spans.len() == lint.tensors {
        check_layout(spans, data, lint);
    }
}

fn check_metadata(value: &Value, lint: &mut Lint) {
    let Value::Object(map) = value else {
        return lint.problem("the metadata is not an object");
    };
    for (key, value) in map {
        match value {
            Value::String(text) => {
                lint.metadata.insert(key.clone(), text.clone());
            }
            _ => lint.problem(format!("the metadata `{key}` is not text")),
        }
    }
    if !lint.metadata.get("format").is_some_and(|format| FORMATS.contains(&format.as_str())) {
        lint.problem(NO_FORMAT);
    }
}

fn check_name(name: &str, lint: &mut Lint) {
    if name.is_empty() || name.chars().any(char::is_control) {
        lint.problem(format!("the tensor name `{}` has control characters", name.escape_debug()));
    } else if name.starts_with('/') || name.split(['/', '\\']).any(|part| part == "..") {
        lint.problem(format!("the tensor name `{name}` looks like a path"));
    }
}

/// Where a tensor's bytes lie, if its entry agrees with itself.
fn tensor_span(value: &Value) -> Result<(u64, u64), String> {
    let entry = value.as_object().ok_or("its entry is not an object")?;
    if let Some(key) =
        entry.keys().find(|key| !["dtype", "shape", "data_offsets"].contains(&key.as_str()))
    {
        return Err(format!("its entry has the unknown key `{key}`"));
    }
    let dtype = entry.get("dtype").and_then(Value::as_str).ok_or("`dtype` is missing")?;
    let bits = bits_of(dtype).ok_or_else(|| format!("`{dtype}` is not a known dtype"))?;
    let shape = numbers(entry, "shape")?;
    let offsets = numbers(entry, "data_offsets")?;
    let [begin, end] = offsets[..] else {
        return Err("`data_offsets` are not two numbers".to_owned());
    };
    let elements = shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    let total = elements.and_then(|count| count.checked_mul(bits)).ok_or("its shape overflows")?;
    if total % 8 != 0 {
        return Err("it does not fill whole bytes".to_owned());
    }
    if end.checked_sub(begin) != Some(total / 8) {
        let message = format!("{} bytes by shape, {begin} to {end} by offsets", total / 8);
        return Err(message);
    }
    Ok((begin, end))
}

fn numbers(entry: &Map<String, Value>, key: &str) -> Result<Vec<u64>, String> {
    let list = entry.get(key).and_then(Value::as_array);
    list.and_then(|list| list.iter().map(Value::as_u64).collect())
        .ok_or_else(|| format!("`{key}` is not a list of whole numbers"))
}

fn check_layout(mut spans: Vec<(u64, u64, &String)>, data: u64, lint: &mut Lint) {
    spans.sort();
    let mut expected = 0;
    for (begin, end, name) in spans {
        if begin != expected {
            let kind = if begin < expected { "overlaps the one before" } else { "leaves a hole" };
            lint.problem(format!("tensor `{name}` {kind}, at offset {begin}"));
        }
        expected = expected.max(end);
    }
    if expected != data {
        lint.problem(format!("the tensors have {expected} bytes, the file has {data}"));
    }
}

fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
