//! NumPy arrays, HDF5, GGUF, and Keras models: data that may hold code.

use memchr::memmem;

use super::kinds::{self, Class};
use super::report::Report;
use super::rules::{GGUF, HDF5, KERAS_LAMBDA, NUMPY, NUMPY_OBJECT};
use super::sample::Sample;

/// How much of an HDF5 file is searched for the description of its layers.
const MAX_SEARCHED: usize = 16 << 20;

/// Looks at a file by what its first bytes say.
pub(super) fn look(sample: &Sample, report: &mut Report) {
    let Some(kind) = kinds::kind(&sample.head).filter(|_| !sample.is_safetensors()) else {
        return;
    };
    let name = &sample.name;
    match kind.class {
        Class::Numpy if holds_objects(&sample.head) => {
            report.add(&NUMPY_OBJECT, name, "it is a NumPy array of objects");
        }
        Class::Numpy => report.add(&NUMPY, name, "it is a NumPy array of plain numbers"),
        Class::Gguf => report.add(&GGUF, name, "it is GGUF"),
        Class::Hdf5 => {
            report.add(&HDF5, name, "it is HDF5");
            match sample.read_at(0, MAX_SEARCHED) {
                Ok(bytes) if names_lambda(&bytes) || names_lambda(&sample.tail) => {
                    report.add(&KERAS_LAMBDA, name, "it describes a Lambda layer");
                }
                Ok(_) => {}
                Err(error) => report.unread(name, error),
            }
        }
        _ => {}
    }
}

/// Whether the header of a NumPy array says that its elements are Python objects.
pub(super) fn holds_objects(bytes: &[u8]) -> bool {
    let header = match bytes.get(6) {
        Some(1) => bytes.get(10..),
        _ => bytes.get(12..),
    };
    let header = header.unwrap_or_default();
    let end = memchr::memchr(b'\n', header).unwrap_or(header.len());
    // In `'descr'` a type is one of letters and digits, and only that of objects has an `O`.
    let from = memmem::find(&header[..end], b"descr").map_or(0, |at| at + 5);
    let to = memmem::find(&header[..end], b"fortran_order").filter(|to| *to > from).unwrap_or(end);
    let types = header[from..to].split(|byte| b"'\"".contains(byte)).skip(1);
    types.filter(|text| text.len() <= 8).any(|text| {
        let text = text.strip_prefix(b"|").or(text.strip_prefix(b"<")).unwrap_or(text);
        text.first() == Some(&b'O') && text[1..].iter().all(u8::is_ascii_digit)
    })
}

/// Whether a description of a Keras model has a Lambda layer.
pub(super) fn names_lambda(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"\"class_name\"").any(|at| {
        let rest = &bytes[at + 12..bytes.len().min(at + 40)];
        let value = rest.trim_ascii_start().strip_prefix(b":").unwrap_or_default();
        value.trim_ascii_start().starts_with(b"\"Lambda\"")
    })
}
