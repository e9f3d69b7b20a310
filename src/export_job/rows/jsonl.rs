//! JSON Lines: a row a line, which people read as well.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{JobRow, RowsFormat, RowsWriter, WHAT};
use crate::error::{Context, Result};
use crate::files::{NewFile, failed};

pub(super) const FORMAT: RowsFormat =
    RowsFormat { name: "jsonl", dataset: "json", begin: |path| Ok(Box::new(Lines::begin(path)?)) };

struct Lines {
    path: PathBuf,
    file: BufWriter<NewFile>,
}

impl Lines {
    fn begin(path: &Path) -> Result<Self> {
        let file = NewFile::begin(path).map_err(|error| failed(WHAT, path, &error))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file) })
    }
}

impl RowsWriter for Lines {
    fn put(&mut self, row: JobRow) -> Result<()> {
        let mut line = serde_json::to_vec(&row).context("cannot encode a row")?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| failed(WHAT, &self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync());
        done.map_err(|error| failed(WHAT, &self.path, &error))
    }
}
