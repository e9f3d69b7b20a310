//! Parquet: columns, coded and packed, in a fraction of the room of JSON Lines; `datasets` reads
//! them into Arrow's memory as they are.
//!
//! Numbers have 64 bits there, as those of JSON have once `datasets` has read them, so that the
//! columns are of the same types in either form.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::Int64Type;
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::{JobRow, RowsFormat, RowsWriter, WHAT};
use crate::error::{Error, Result};
use crate::files::{NewFile, failed};

pub(super) const FORMAT: RowsFormat = RowsFormat {
    name: "parquet",
    dataset: "parquet",
    begin: |path| Ok(Box::new(Groups::begin(path)?)),
};

/// A list of each row, under the name that it has in JSON Lines.
type Column = (&'static str, fn(&JobRow) -> Vec<i64>);

const COLUMNS: [Column; 5] = [
    ("input_ids", |row| wide(&row.input_ids)),
    ("labels", |row| row.labels.clone()),
    ("attention_mask", |row| wide(&row.attention_mask)),
    ("position_ids", |row| wide(&row.position_ids)),
    ("seq_lengths", |row| wide(&row.seq_lengths)),
];

fn wide<T: Copy + Into<i64>>(numbers: &[T]) -> Vec<i64> {
    numbers.iter().map(|number| (*number).into()).collect()
}

/// Rows are in memory until they have so many tokens, or are so many: they make a row group.
const GROUP_TOKENS: usize = 1 << 20;
const GROUP_ROWS: usize = 1 << 16;

/// A file whose last row group is not written yet.
struct Groups {
    path: PathBuf,
    file: SerializedFileWriter<NewFile>,
    rows: Vec<JobRow>,
    tokens: usize,
}

impl Groups {
    fn begin(path: &Path) -> Result<Self> {
        let file = NewFile::begin(path).map_err(|error| failed(WHAT, path, &error))?;
        let columns = COLUMNS.map(|(name, _)| {
            let list = "repeated group list { required int64 element; }";
            format!("required group {name} (LIST) {{ {list} }}")
        });
        let schema = parse_message_type(&format!("message schema {{ {} }}", columns.join(" ")));
        // Least and greatest numbers of tokens help nobody to find rows.
        let properties = WriterProperties::builder()
            .set_created_by(concat!("firebrand version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .build();
        let file = schema.and_then(|schema| {
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
        });
        let file = file.map_err(|error| not_written(path, error))?;
        Ok(Self { path: path.to_path_buf(), file, rows: Vec::new(), tokens: 0 })
    }

    /// Writes the rows in memory as a row group.
    fn write_group(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let written = write_rows(&mut self.file, &self.rows);
        self.rows.clear();
        self.tokens = 0;
        written.map_err(|error| not_written(&self.path, error))
    }
}

impl RowsWriter for Groups {
    fn put(&mut self, row: JobRow) -> Result<()> {
        self.tokens += row.input_ids.len();
        self.rows.push(row);
        if self.tokens >= GROUP_TOKENS || self.rows.len() >= GROUP_ROWS {
            self.write_group()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.write_group()?;
        self.file.finish().map_err(|error| not_written(&self.path, error))?;
        self.file.inner().sync().map_err(|error| failed(WHAT, &self.path, &error))
    }
}

/// Writes rows as one row group, a column after another.
fn write_rows(
    file: &mut SerializedFileWriter<NewFile>,
    rows: &[JobRow],
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    for (_, column) in COLUMNS {
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let list = column(row);
            // An empty list is a level, too, and no value.
            let levels = list.len().max(1);
            definitions.resize(definitions.len() + levels, i16::from(!list.is_empty()));
            repetitions.push(0); // a row begins
            repetitions.resize(repetitions.len() + levels - 1, 1);
            values.extend(list);
        }
        if let Some(mut writer) = group.next_column()? {
            let (definitions, repetitions) = (definitions.as_slice(), repetitions.as_slice());
            let column = writer.typed::<Int64Type>();
            column.write_batch(&values, Some(definitions), Some(repetitions))?;
            writer.close()?;
        }
    }
    group.close()?;
    Ok(())
}

/// The error of a file that could not be written; what the system said is in it.
fn not_written(path: &Path, error: ParquetError) -> Error {
    let cause = match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    };
    failed(WHAT, path, &cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::each_record;
    use serde_json::{Map, Value, json};

    /// Rows of all lengths, the shortest of all among them.
    fn rows() -> Vec<JobRow> {
        let row = |number: u32| {
            let length = number % 50 + 1;
            JobRow {
                input_ids: (0..length).map(|place| (number * 7 + place) % 300).collect(),
                labels: (0..length).map(|place| i64::from(place) * 3 - 100).collect(),
                attention_mask: vec![1; length as usize],
                position_ids: (0..length).collect(),
                seq_lengths: vec![length],
            }
        };
        let mut all: Vec<JobRow> = (0..4000).map(row).collect();
        all.push(JobRow { seq_lengths: vec![2, u32::MAX], ..JobRow::default() });
        all.push(JobRow::filler());
        all
    }

    fn written(path: &Path, rows: Vec<JobRow>, after: &[usize]) -> Vec<u8> {
        let mut file = Groups::begin(path).unwrap();
        for (number, row) in rows.into_iter().enumerate() {
            file.put(row).unwrap();
            if after.contains(&number) {
                file.write_group().unwrap();
            }
        }
        Box::new(file).finish().unwrap();
        std::fs::read(path).unwrap()
    }

    fn read(path: &Path) -> Vec<Map<String, Value>> {
        let mut all = Vec::new();
        let mut look = |records: &[crate::data::RawRecord]| {
            all.extend(records.iter().map(|record| record.fields.clone().unwrap()));
        };
        each_record(path, &mut look).unwrap();
        all
    }

    /// Over several row groups and over none; empty lists are lists.
    #[test]
    fn rows_are_read_back_in_their_order_as_json_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        written(&path("one.parquet"), rows(), &[]);
        written(&path("three.parquet"), rows(), &[9, 2500]);
        let twins: Vec<Value> = rows().iter().map(|row| json!(row)).collect();
        for name in ["one.parquet", "three.parquet"] {
            let found: Vec<Value> = read(&path(name)).into_iter().map(Value::Object).collect();
            assert_eq!(found.len(), twins.len(), "{name}");
            for (found, twin) in found.iter().zip(&twins) {
                assert_eq!(found, twin, "{name}");
            }
        }
        written(&path("none.parquet"), Vec::new(), &[]);
        assert!(read(&path("none.parquet")).is_empty());
    }

    #[test]
    fn the_same_rows_have_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |name: &str| written(&folder.path().join(name), rows(), &[]);
        assert!(bytes("a.parquet") == bytes("b.parquet"));
    }

    #[test]
    fn a_row_group_is_written_as_soon_as_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Groups::begin(&folder.path().join("a.parquet")).unwrap();
        let row = || JobRow { input_ids: vec![1; GROUP_TOKENS / 2], ..JobRow::default() };
        file.put(row()).unwrap();
        assert_eq!((file.rows.len(), file.file.flushed_row_groups().len()), (1, 0));
        file.put(row()).unwrap();
        assert_eq!((file.rows.len(), file.file.flushed_row_groups().len()), (0, 1));
        assert_eq!(file.file.flushed_row_groups()[0].num_rows(), 2);
        // Short rows fill one by their number.
        for _ in 1..GROUP_ROWS {
            file.put(JobRow::filler()).unwrap();
        }
        assert_eq!((file.rows.len(), file.file.flushed_row_groups().len()), (GROUP_ROWS - 1, 1));
        file.put(JobRow::filler()).unwrap();
        assert_eq!((file.rows.len(), file.file.flushed_row_groups().len()), (0, 2));
        assert_eq!(file.file.flushed_row_groups()[1].num_rows(), 1 << 16);
    }

    #[test]
    fn a_full_disk_is_told_as_one() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = not_written(Path::new("train.parquet"), full.into());
        assert_eq!(error.code, crate::error::ErrorCode::DiskFull);
    }
}
