//! How many records a file holds and which columns they have, for the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::sources;
use crate::error::Result;
use crate::files::FileEntry;

/// Records whose columns are looked at; those of a large data set are alike.
const SAMPLE: u64 = 1000;
/// Deeper types are shown as `…`.
const DEPTH: usize = 3;
/// Objects with more fields than this are shown as `object`.
const FIELDS: usize = 16;

/// A file that was read to its end.
pub struct Counted {
    /// Size and digest of the bytes that were read.
    pub file: FileEntry,
    /// Its records, unreadable ones included.
    pub rows: u64,
}

/// Reads a file to its end; the types of its first records are added to `columns`.
pub fn count(
    path: &Path,
    name: &str,
    columns: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<Counted> {
    let named = |mut error: crate::error::Error| {
        if let Some(place) = &mut error.place {
            place.file = name.into();
        }
        error
    };
    let mut records = sources::open(path).map_err(named)?;
    let mut rows = 0;
    loop {
        let batch = records.next_batch().map_err(named)?;
        if batch.is_empty() {
            let file = records.finish().map_err(named)?;
            return Ok(Counted { file, rows });
        }
        for record in &batch {
            rows += 1;
            if let (true, Ok(fields)) = (rows <= SAMPLE, &record.content) {
                for (column, value) in fields {
                    columns.entry(column.clone()).or_default().insert(type_of(value, DEPTH));
                }
            }
        }
    }
}

/// The type of a value, in words: `list of {content: string, role: string}`.
fn type_of(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) | Value::Object(_) if depth == 0 => "…".to_owned(),
        Value::Array(items) => match items.first() {
            // The first stands for all: a longer type would change with every record.
            Some(first) => format!("list of {}", type_of(first, depth - 1)),
            None => "list".to_owned(),
        },
        Value::Object(fields) if fields.len() > FIELDS => "object".to_owned(),
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{name}: {}", type_of(value, depth - 1)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Digest;

    #[test]
    fn rows_and_columns_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let text = "{\"id\":1,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\nbroken\n\
                    {\"id\":\"b\",\"tags\":[]}\n";
        std::fs::write(&path, text).unwrap();
        let mut columns = BTreeMap::new();
        let counted = count(&path, "a", &mut columns).unwrap();
        assert_eq!((counted.rows, counted.file.sha256), (3, Digest::of(text.as_bytes())));
        let types = |name: &str| columns[name].iter().cloned().collect::<Vec<_>>().join("|");
        assert_eq!(types("id"), "number|string");
        assert_eq!(types("messages"), "list of {content: string, role: string}");
        assert_eq!(types("tags"), "list");
    }
}
