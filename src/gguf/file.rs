//! The header of a GGUF file: metadata, and where the tensors are. It is read with limits, and
//! nothing of a tensor is read before all of the file was found to be there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::metadata::{Metadata, MetadataValue};
use crate::error::{Context, Error, Result};
use crate::files::open_regular;
use crate::weights::ggml::{TYPES, TensorType};

const MAGIC: &[u8; 4] = b"GGUF";
/// Version 2 differs from 3 in nothing that little-endian files have.
const VERSIONS: [u32; 2] = [2, 3];
/// Metadata of large vocabularies takes some ten megabytes.
const HEADER_BYTES_MAX: u64 = 256 << 20;
const KEYS_MAX: u64 = 4096;
const TENSORS_MAX: u64 = 100_000;
const TEXT_BYTES_MAX: u64 = 16 << 20;
const ITEMS_MAX: u64 = 16 << 20;
const DIMENSIONS_MAX: u32 = 4;
const ALIGNMENT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;

/// A GGUF file, of which the header was read.
pub struct GgufFile {
    /// What it says of the model.
    pub metadata: Metadata,
    /// Its tensors, by name.
    pub tensors: BTreeMap<String, GgufTensor>,
    path: PathBuf,
    file: File,
}

/// A tensor in the file.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// How its numbers are written.
    pub kind: &'static TensorType,
    /// Dimensions, outermost first (the file has them the other way round).
    pub shape: Vec<usize>,
    /// Where it begins in the file.
    begin: u64,
    bytes: u64,
}

impl GgufTensor {
    /// One of the parts of equal size that it is made of, with the dimensions that it has by
    /// itself; none where it is not made of so many.
    pub fn part(&self, number: usize, count: usize) -> Option<Self> {
        let (first, rest) = self.shape.split_first()?;
        let bytes = self.bytes.checked_div(count as u64)?;
        let whole = *first == count && number < count && bytes * count as u64 == self.bytes;
        let begin = self.begin + number as u64 * bytes;
        whole.then(|| Self { kind: self.kind, shape: rest.to_vec(), begin, bytes })
    }
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it is no such file or not all of one, when it is larger than any real one, or has
    /// numbers of a type that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let size = file.metadata().context_at("cannot read the file", path)?.len();
        let mut reader = Reader {
            source: BufReader::with_capacity(1 << 16, file),
            left: size.min(HEADER_BYTES_MAX),
            read: 0,
        };
        let header = reader
            .header()
            .map_err(|why| Error::weights("not a valid GGUF file").at(path).because(why))?;
        let Header { metadata, places } = header;
        let wrong = |why: String| Error::weights("not a valid GGUF file").at(path).because(why);
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => value
                .integer()
                .filter(|size| size.is_power_of_two() && (1..=ALIGNMENT_MAX).contains(size))
                .ok_or_else(|| wrong("`general.alignment` is no alignment".to_owned()))?,
        };
        let data = reader.read.next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for place in places {
            let (name, tensor) = place.tensor(data, size).map_err(wrong)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(wrong(format!("it has the tensor `{name}` twice")));
            }
        }
        let (path, file) = (path.to_owned(), reader.source.into_inner());
        Ok(Self { metadata, tensors, path, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers of a tensor.
    pub fn values(&mut self, tensor: &GgufTensor) -> Result<Vec<f32>> {
        Ok(tensor.kind.values(&self.bytes(tensor)?))
    }

    /// The bytes of a tensor.
    pub fn bytes(&mut self, tensor: &GgufTensor) -> Result<Vec<u8>> {
        let mut read = || {
            self.file.seek(SeekFrom::Start(tensor.begin))?;
            let mut bytes = Vec::new();
            (&self.file).take(tensor.bytes).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let bytes = read().context_at("cannot read the weights", &self.path)?;
        if bytes.len() as u64 != tensor.bytes {
            return Err(Error::changed("the file became shorter while it was read").at(&self.path));
        }
        Ok(bytes)
    }
}

struct Header {
    metadata: Metadata,
    places: Vec<Place>,
}

/// A tensor as the header has it.
struct Place {
    name: String,
    /// Innermost first.
    sizes: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Place {
    fn tensor(self, data: u64, size: u64) -> Result<(String, GgufTensor), String> {
        let Self { name, sizes, kind, offset } = self;
        let of_kind = TensorType::find(kind);
        let kind = of_kind.ok_or_else(|| {
            let known = TYPES.each_ref().map(|one| one.name).join(", ");
            format!("the tensor `{name}` has numbers of type {kind} of ggml; read are {known}")
        })?;
        let numbers = sizes.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
        let row = sizes.first().copied().unwrap_or(1);
        let bytes = numbers.and_then(|numbers| kind.size(row, numbers));
        let end = bytes.and_then(|bytes| data.checked_add(offset)?.checked_add(bytes));
        let shape: Option<Vec<usize>> =
            sizes.iter().rev().map(|size| usize::try_from(*size).ok()).collect();
        let (Some(bytes), Some(end), Some(shape)) = (bytes, end, shape) else {
            return Err(format!("the tensor `{name}` cannot have the sizes {sizes:?}"));
        };
        if end > size || bytes == 0 {
            return Err(format!("it has {size} bytes, and the tensor `{name}` ends at {end}"));
        }
        Ok((name, GgufTensor { kind, shape, begin: data + offset, bytes }))
    }
}

struct Reader {
    source: BufReader<File>,
    /// Bytes that the header may still take.
    left: u64,
    read: u64,
}

impl Reader {
    fn header(&mut self) -> Result<Header, String> {
        if self.bytes(4)? != MAGIC {
            return Err("it does not begin with `GGUF`".to_owned());
        }
        let version = self.number::<4>().map(u32::from_le_bytes)?;
        if !VERSIONS.contains(&version) {
            return Err(format!("it has version {version}; read are 2 and 3, little-endian"));
        }
        let tensors = self.integer()?;
        let keys = self.integer()?;
        if tensors > TENSORS_MAX || keys > KEYS_MAX {
            return Err(format!("it would have {tensors} tensors and {keys} keys"));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text()?;
            let kind = self.number::<4>().map(u32::from_le_bytes)?;
            let value = self.value(kind).map_err(|why| format!("`{key}`: {why}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("it has the key `{key}` twice"));
            }
        }
        let mut places = Vec::new();
        for _ in 0..tensors {
            let name = self.text()?;
            let dimensions = self.number::<4>().map(u32::from_le_bytes)?;
            if dimensions > DIMENSIONS_MAX {
                return Err(format!("the tensor `{name}` has {dimensions} dimensions"));
            }
            let sizes = (0..dimensions).map(|_| self.integer()).collect::<Result<_, _>>()?;
            let kind = self.number::<4>().map(u32::from_le_bytes)?;
            let offset = self.integer()?;
            places.push(Place { name, sizes, kind, offset });
        }
        Ok(Header { metadata: Metadata::new(metadata), places })
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, String> {
        if count > self.left {
            return Err("it is cut off within its header, or that is too large".to_owned());
        }
        self.left -= count;
        self.read += count;
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(count).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == count => Ok(bytes),
            Ok(_) => Err("it became shorter while it was read".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.bytes(N as u64)?.first_chunk().expect("so many were read"))
    }

    fn integer(&mut self) -> Result<u64, String> {
        self.number::<8>().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.integer()?;
        if length > TEXT_BYTES_MAX {
            return Err(format!("a text would have {length} bytes"));
        }
        String::from_utf8(self.bytes(length)?).map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn value(&mut self, kind: u32) -> Result<MetadataValue, String> {
        use MetadataValue as Value;
        Ok(match kind {
            0 => Value::Integer(self.number::<1>()?[0].into()),
            1 => Value::signed(i8::from_le_bytes(self.number()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.number()?).into()),
            3 => Value::signed(i16::from_le_bytes(self.number()?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.number()?).into()),
            5 => Value::signed(i32::from_le_bytes(self.number()?).into()),
            6 => Value::Number(f32::from_le_bytes(self.number()?).into()),
            7 => Value::Flag(self.number::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => return self.list(),
            10 => Value::Integer(self.integer()?),
            11 => Value::signed(i64::from_le_bytes(self.number()?)),
            12 => Value::Number(f64::from_le_bytes(self.number()?)),
            other => return Err(format!("there is no type {other} of values")),
        })
    }

    fn list(&mut self) -> Result<MetadataValue, String> {
        let kind = self.number::<4>().map(u32::from_le_bytes)?;
        let length = self.integer()?;
        if kind == 9 {
            return Err("lists of lists are not read".to_owned());
        }
        if length > ITEMS_MAX.min(self.left) {
            return Err(format!("a list would have {length} items"));
        }
        (0..length).map(|_| self.value(kind)).collect::<Result<_, _>>().map(MetadataValue::List)
    }
}
