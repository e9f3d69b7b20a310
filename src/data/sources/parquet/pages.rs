//! Limits on the pages of a column: the library reads them, but each is looked at before it is
//! unpacked, and again before its values are read.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli_decompressor::Decompressor as BrotliDecoder;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::expansion::Expansion;
use super::claims::{INDEX_PAGE, PageHeader, page_header};
use super::lengths::lengths;

/// The largest page, unpacked. Writers aim at 1 MiB; a page of a few very long texts has more.
pub const MAX_PAGE: usize = 256 << 20;
/// All pages and dictionaries that are held at once, over all columns.
const MAX_HELD: usize = 1 << 30;
/// What the values of lists and their levels take, when rows are read together.
const MAX_LISTS: usize = 768 << 20;
/// The lengths of a page's texts where they stand together; no bytes need stand behind them.
const MAX_LENGTHS: usize = 16 << 20;
/// A page's header is looked for in so many bytes, then in so many.
const HEADER: [u64; 2] = [4 << 10, 1 << 20];
/// What is unpacked at once only to see how much comes out.
const BUFFER: usize = 64 << 10;

/// What is held at this moment, over all columns of a row group.
pub struct Budget {
    /// What came out of the pages so far, over all row groups.
    unpacked: Expansion,
    pages: AtomicUsize,
    /// Of these, pages that were read to their end. The rows at hand still point into them.
    done: AtomicUsize,
    lists: AtomicUsize,
}

impl Budget {
    /// For a file of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            unpacked: Expansion::of(size),
            pages: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
        }
    }

    /// Whether more came out of the file than may.
    pub fn is_exceeded(&self) -> bool {
        self.unpacked.is_exceeded()
    }

    fn take(&self, bytes: usize) -> Result<()> {
        match self.pages.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) {
            ..=MAX_HELD => Ok(()),
            _ => Err(wrong(format!("its pages take more than {MAX_HELD} bytes at once"))),
        }
    }

    fn take_lists(&self, bytes: usize) -> Result<()> {
        match self.lists.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) {
            ..=MAX_LISTS => Ok(()),
            _ => Err(wrong(format!("the lists of a few rows take more than {MAX_LISTS} bytes"))),
        }
    }

    fn free(&self, bytes: usize) {
        self.pages.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The rows at hand are gone, and others will be read.
    pub fn begin_rows(&self) {
        self.free(self.done.swap(0, Ordering::Relaxed));
        self.lists.store(0, Ordering::Relaxed);
    }
}

/// The pages of one column in one row group.
pub struct Pages {
    inner: SerializedPageReader<File>,
    file: Arc<File>,
    budget: Arc<Budget>,
    packing: Compression,
    /// Bytes of a value in memory, and the fewest that it has in a page.
    width: usize,
    least: usize,
    max_def: i16,
    max_rep: i16,
    /// Where the next page begins, and where the last one ends.
    at: u64,
    end: u64,
    /// What of the budget this column uses: its page and its dictionary.
    page: usize,
    dictionary: usize,
}

fn wrong(reason: impl Into<String>) -> ParquetError {
    ParquetError::General(reason.into())
}

impl Pages {
    /// Of a column chunk in a file of `size` bytes; `width` is what a value takes in memory.
    pub fn new(
        file: &Arc<File>,
        size: u64,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        width: usize,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        let (at, length) = chunk.byte_range();
        let end = at.checked_add(length).filter(|&end| end <= size);
        let end = end.ok_or_else(|| wrong("it reaches beyond the end of the file"))?;
        let unpacked = u64::try_from(chunk.uncompressed_size())?;
        budget.unpacked.allows(unpacked).map_err(|reason| {
            wrong(format!("it claims to unpack to {unpacked} bytes: {reason}"))
        })?;
        // The fallback for an old framing unpacks without a bound.
        let properties = ReaderProperties::builder().set_backward_compatible_lz4(false).build();
        let (inner, descr) = (Arc::clone(file), chunk.column_descr());
        Ok(Self {
            inner: SerializedPageReader::new_with_properties(
                inner,
                chunk,
                rows,
                None,
                Arc::new(properties),
            )?,
            file: Arc::clone(file),
            budget: Arc::clone(budget),
            packing: chunk.compression(),
            width,
            least: match descr.physical_type() {
                Type::BOOLEAN => 1,
                Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
                Type::INT64 | Type::DOUBLE => 8,
                Type::INT96 => 12,
                Type::FIXED_LEN_BYTE_ARRAY => usize::try_from(descr.type_length())?.max(1),
            },
            max_def: descr.max_def_level(),
            max_rep: descr.max_rep_level(),
            at,
            end,
            page: 0,
            dictionary: 0,
        })
    }

    /// Looks at the header of the page that comes next.
    fn admit(&mut self) -> Result<()> {
        while self.at < self.end {
            let header = self.header()?;
            let sizes = (u64::try_from(header.packed), usize::try_from(header.unpacked));
            let (Ok(packed), Ok(unpacked)) = sizes else {
                return Err(wrong("a page has a size below zero"));
            };
            let start = self.at + header.length as u64;
            let end = start.checked_add(packed).filter(|&end| end <= self.end);
            self.at = end.ok_or_else(|| wrong("a page reaches beyond its column"))?;
            if header.kind == INDEX_PAGE {
                continue;
            }
            if unpacked > MAX_PAGE {
                return Err(wrong(format!(
                    "a page claims to unpack to {unpacked} bytes, and at most {MAX_PAGE} are read"
                )));
            }
            if packed > MAX_PAGE as u64 {
                return Err(wrong(format!(
                    "a page of {packed} bytes, and at most {MAX_PAGE} are read"
                )));
            }
            self.hold(unpacked)?;
            self.check_packed(start, packed, header)?;
            break;
        }
        Ok(())
    }

    /// Steps over pages without values. Some writers make such, and the library takes them for the
    /// end of the column.
    fn step_over_empty(&mut self) -> Result<()> {
        let empty = |page: PageMetadata| !page.is_dict && page.num_levels == Some(0);
        while self.inner.peek_next_page()?.is_some_and(empty) {
            self.admit()?;
            self.inner.get_next_page()?;
        }
        Ok(())
    }

    fn header(&self) -> Result<PageHeader> {
        let left = self.end - self.at;
        for most in HEADER {
            let bytes = self.read(self.at, most.min(left))?;
            if let Some(header) = page_header(&bytes) {
                return Ok(header);
            }
            if most >= left {
                break;
            }
        }
        Err(wrong("the header of a page is damaged"))
    }

    fn read(&self, at: u64, count: u64) -> Result<Vec<u8>> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The library unpacks some kinds to their end, whatever size was claimed.
    fn check_packed(&self, start: u64, packed: u64, header: PageHeader) -> Result<()> {
        let unpacked: fn(Cursor<Vec<u8>>) -> Box<dyn Read> = match self.packing {
            Compression::GZIP(_) => |bytes| Box::new(MultiGzDecoder::new(bytes)),
            Compression::BROTLI(_) => |bytes| Box::new(BrotliDecoder::new(bytes, BUFFER)),
            _ => return Ok(()),
        };
        let levels = u64::try_from(header.levels)?.min(packed);
        let bytes = Cursor::new(self.read(start + levels, packed - levels)?);
        let claimed = u64::try_from(header.unpacked)?;
        // An error in the data is reported where it is read.
        let mut bounded = unpacked(bytes).take(claimed + 1);
        let count = std::io::copy(&mut bounded, &mut std::io::sink()).unwrap_or(0);
        if count > claimed {
            return Err(wrong(format!(
                "a page unpacks to more than the {claimed} bytes it claims"
            )));
        }
        Ok(())
    }

    /// Another page takes the place of the one before it.
    fn hold(&mut self, page: usize) -> Result<()> {
        self.budget.done.fetch_add(std::mem::replace(&mut self.page, page), Ordering::Relaxed);
        self.budget.unpacked.add(page as u64).map_err(wrong)?;
        self.budget.take(page)
    }

    /// Looks at what was unpacked.
    fn inspect(&mut self, page: &Page) -> Result<()> {
        let values = page.num_values() as usize;
        if page.is_dictionary_page() {
            if values.saturating_mul(self.least) > page.buffer().len() {
                return Err(wrong("a dictionary claims more values than it has bytes for"));
            }
            // From now on it is held beside every page of the column.
            self.dictionary = std::mem::take(&mut self.page);
            let list = values.saturating_mul(self.width);
            self.dictionary += list;
            return self.budget.take(list);
        }
        match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                self.check_lengths(page, values)?;
            }
            Encoding::DELTA_BYTE_ARRAY => {
                let texts = self.check_lengths(page, values)?;
                if texts > MAX_PAGE as u64 {
                    return Err(wrong(format!(
                        "the texts of a page take {texts} bytes, and at most {MAX_PAGE} are read"
                    )));
                }
                // They are put together beside the page.
                self.budget.unpacked.add(texts).map_err(wrong)?;
                self.page += texts as usize;
                self.budget.take(texts as usize)?;
            }
            _ => {}
        }
        // Of a flat column no more is read at once than was asked for.
        let levels = 2 * size_of::<i16>();
        match self.max_rep {
            0 => Ok(()),
            _ => self.budget.take_lists(values.saturating_mul(self.width + levels)),
        }
    }

    /// Adds up the lengths of a page's texts: of what they repeat of the text before, if they may,
    /// and of what they have of their own.
    fn check_lengths(&self, page: &Page, values: usize) -> Result<u64> {
        if values > MAX_LENGTHS {
            return Err(wrong(format!(
                "a page claims {values} lengths, and {MAX_LENGTHS} are the most"
            )));
        }
        let bytes = self.values_of(page);
        let all = || {
            let first = lengths(bytes?, values as u64)?;
            match page.encoding() {
                Encoding::DELTA_BYTE_ARRAY => {
                    let own = lengths(first.rest, values as u64)?;
                    (own.count == first.count).then_some(first.sum + own.sum)
                }
                _ => Some(first.sum),
            }
        };
        all().ok_or_else(|| wrong("the lengths of a page's texts make no sense"))
    }

    /// What follows the levels in a page.
    fn values_of<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        let mut bytes: &[u8] = page.buffer();
        match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                bytes.get(*def_levels_byte_len as usize..)?.get(*rep_levels_byte_len as usize..)
            }
            Page::DataPage { def_level_encoding, rep_level_encoding, .. } => {
                let both = [(self.max_rep, rep_level_encoding), (self.max_def, def_level_encoding)];
                for (_, encoding) in both.into_iter().filter(|(max, _)| *max > 0) {
                    if *encoding != Encoding::RLE {
                        return None;
                    }
                    let (length, rest) = bytes.split_first_chunk()?;
                    bytes = rest.get(u32::from_le_bytes(*length) as usize..)?;
                }
                Some(bytes)
            }
            Page::DictionaryPage { .. } => None,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.budget.free(self.page + self.dictionary);
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.step_over_empty()?;
        self.admit()?;
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            self.inspect(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(wrong("pages are read, never skipped"))
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.step_over_empty()?;
        self.inner.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn pages_count_until_the_rows_in_them_are_gone() {
        let budget = Budget::new(0);
        budget.take(MAX_HELD / 2).unwrap();
        budget.done.fetch_add(MAX_HELD / 2, Ordering::Relaxed);
        budget.take(MAX_HELD / 2).unwrap();
        assert!(budget.take(1).is_err());
        budget.free(1);
        budget.begin_rows();
        budget.take(MAX_HELD / 2).unwrap();
        says(
            budget.take(1).unwrap_err(),
            snapbox::str!["Parquet error: its pages take more than 1073741824 bytes at once"],
        );
    }
}
