//! What the tests of the containers share: reading bytes as if they lay in a file.

use std::fs;
use std::path::Path;

use super::input::{Input, Packing};
use super::pieces::{Container, MAX_PIECE, Pieces};
use super::{Record, Records, open};
use crate::error::Result;
use crate::files::FileEntry;

/// All records of a reader, and the file.
pub fn drain(mut records: Box<dyn Records>) -> Result<(Vec<Record>, FileEntry)> {
    let mut all = Vec::new();
    loop {
        let batch = records.next_batch()?;
        if batch.is_empty() {
            return Ok((all, records.finish()?));
        }
        all.extend(batch);
    }
}

/// All records of a file.
pub fn read_file(path: &Path) -> Result<(Vec<Record>, FileEntry)> {
    drain(open(path)?)
}

/// The records of bytes in a file of this name.
pub fn open_bytes(name: &str, bytes: &[u8]) -> Vec<Record> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_file(&path).unwrap().0
}

/// The error that bytes in a file of this name lead to.
pub fn fails(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_file(&path).err().unwrap().to_string()
}

/// The records that a container finds in bytes, and the file that held them.
pub fn read_pieces<C: Container + 'static>(bytes: &[u8], container: C) -> (Vec<Record>, FileEntry) {
    read_pieces_up_to(bytes, container, MAX_PIECE)
}

/// With a limit on the bytes of a record.
pub fn read_pieces_up_to<C: Container + 'static>(
    bytes: &[u8],
    container: C,
    max: usize,
) -> (Vec<Record>, FileEntry) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, bytes).unwrap();
    let input = Input::open(&path, Packing::Plain).unwrap();
    drain(Box::new(Pieces::with_limit(input, container, max))).unwrap()
}

/// Why a record cannot be read.
pub fn reason(record: &Record) -> &str {
    record.content.as_ref().unwrap_err()
}
