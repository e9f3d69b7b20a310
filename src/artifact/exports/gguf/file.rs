//! The bytes of a GGUF file of version 3 before its numbers: keys with values, then names, shapes
//! and places of the tensors. Source: `docs/gguf.md` of ggml.

/// What files begin with.
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Tensors begin at multiples of this many bytes: what readers assume where nothing is said.
pub const ALIGNMENT: u64 = 32;

/// Types of values.
const UINT32: u32 = 4;
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Keys with their values, in the order in which they are put.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    count: u64,
}

impl Keys {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }

    /// A text; returns where its letters begin among the keys.
    pub fn text(&mut self, key: &str, text: &str) -> u64 {
        self.key(key, STRING);
        string(&mut self.bytes, text);
        (self.bytes.len() - text.len()) as u64
    }

    /// A number.
    pub fn number(&mut self, key: &str, number: u32) {
        self.key(key, UINT32);
        self.bytes.extend(number.to_le_bytes());
    }

    /// A fraction.
    pub fn fraction(&mut self, key: &str, fraction: f32) {
        self.key(key, FLOAT32);
        self.bytes.extend(fraction.to_le_bytes());
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &str, flag: bool) {
        self.key(key, BOOL);
        self.bytes.push(u8::from(flag));
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) {
        self.array(key, STRING, texts.len());
        texts.iter().for_each(|text| string(&mut self.bytes, text.as_ref()));
    }

    /// A list of numbers.
    pub fn numbers(&mut self, key: &str, numbers: &[i32]) {
        self.array(key, INT32, numbers.len());
        numbers.iter().for_each(|number| self.bytes.extend(number.to_le_bytes()));
    }

    /// A list of flags.
    pub fn flags(&mut self, key: &str, flags: &[bool]) {
        self.array(key, BOOL, flags.len());
        self.bytes.extend(flags.iter().map(|flag| u8::from(*flag)));
    }

    /// A list of fractions.
    pub fn fractions(&mut self, key: &str, fractions: &[f32]) {
        self.array(key, FLOAT32, fractions.len());
        fractions.iter().for_each(|fraction| self.bytes.extend(fraction.to_le_bytes()));
    }
}

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Dimensions, outermost first (the file has them the other way round).
    pub shape: Vec<usize>,
    /// The number of its type in ggml.
    pub kind: u32,
    /// Its bytes.
    pub bytes: u64,
}

/// Everything before the numbers, padded, and where in it the keys begin.
pub fn header(keys: &Keys, tensors: &[Tensor]) -> (Vec<u8>, u64) {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(keys.count.to_le_bytes());
    let begin = bytes.len() as u64;
    bytes.extend(&keys.bytes);
    let mut offset = 0_u64;
    for tensor in tensors {
        string(&mut bytes, &tensor.name);
        let dimensions = u32::try_from(tensor.shape.len()).expect("tensors have few dimensions");
        bytes.extend(dimensions.to_le_bytes());
        for size in tensor.shape.iter().rev() {
            bytes.extend((*size as u64).to_le_bytes());
        }
        bytes.extend(tensor.kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    (bytes, begin)
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
