//! A table for spreadsheets and pandas: a row a point, a column a name; what a point does not have
//! is empty.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::point::Point;
use super::{Tracker, TrackerEntry};
use crate::error::{Context, Result};
use crate::files::write_atomic;

const FILE: &str = "metrics.csv";

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn place(&self) -> &'static str {
        FILE
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let mut table = Table { path: run.join(FILE), columns: Vec::new(), rows: None };
        table.rewrite("")?;
        Ok(Box::new(table))
    }
}

struct Table {
    path: PathBuf,
    /// Beside the step.
    columns: Vec<String>,
    rows: Option<BufWriter<File>>,
}

impl Table {
    /// Replaces the file by the columns of now and rows that stand under them.
    fn rewrite(&mut self, rows: &str) -> Result<()> {
        let names = self.columns.iter().map(|name| format!(",{}", field(name)));
        let head: String = std::iter::once("step".to_owned()).chain(names).collect();
        write_atomic(&self.path, format!("{head}\n{rows}").as_bytes())?;
        let file = OpenOptions::new().append(true).open(&self.path);
        self.rows = Some(BufWriter::new(file.context_at("cannot write the table", &self.path)?));
        Ok(())
    }

    /// Adds columns that a point has for the first time; rows before have nothing there.
    fn widen(&mut self, point: &Point) -> Result<()> {
        let new = point.values.iter().map(|(name, _)| name);
        let new: Vec<String> = new.filter(|name| !self.columns.contains(name)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let text = std::fs::read_to_string(&self.path)
            .context_at("cannot read the table again", &self.path)?;
        let empty = ",".repeat(new.len());
        let rows: String = text.lines().skip(1).map(|row| format!("{row}{empty}\n")).collect();
        self.columns.extend(new);
        self.rewrite(&rows)
    }
}

/// A name as a field (RFC 4180).
fn field(name: &str) -> String {
    match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    }
}

impl Tracker for Table {
    fn add(&mut self, point: &Point) -> Result<()> {
        self.widen(point)?;
        let value = |column: &String| {
            let found = point.values.iter().find(|(name, _)| name == column);
            found.map_or_else(|| ",".to_owned(), |(_, value)| format!(",{value}"))
        };
        let row: String = self.columns.iter().map(value).collect();
        let Some(rows) = &mut self.rows else { return Ok(()) };
        writeln!(rows, "{}{row}", point.step).context_at("cannot write the table", &self.path)
    }

    fn flush(&mut self) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        rows.flush().context_at("cannot write the table", &self.path)
    }
}
