//! What the headers inside a Parquet file claim, read before the library believes it.
//!
//! The library reserves memory for what a header claims and follows its nesting by recursion, so
//! claims that only harm would end the program. Here they become errors. Headers are written in
//! Thrift's compact protocol:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// Deeper schemas are refused: conversations need five levels.
const MAX_DEPTH: usize = 64;
/// All names of the columns with their paths, in bytes.
const MAX_NAMES: usize = 16 << 20;
/// A value that is only stepped over may nest this deep.
const MAX_SKIPPED: usize = 32;

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Bytes in the compact protocol; every answer is `None` where they end or make no sense.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(byte)
    }

    fn skip_bytes(&mut self, count: u64) -> Option<()> {
        self.bytes = self.bytes.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// The type and the number of a structure's next field; the type is `STOP` after the last.
    fn field(&mut self, last: i64) -> Option<(u8, i64)> {
        let byte = self.byte()?;
        let kind = byte & 0xf;
        match byte >> 4 {
            _ if kind == STOP => Some((STOP, 0)),
            0 => Some((kind, self.signed()?)),
            delta => Some((kind, last + i64::from(delta))),
        }
    }

    /// The type and the number of a list's elements.
    fn list(&mut self) -> Option<(u8, u64)> {
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => self.unsigned()?,
            count => u64::from(count),
        };
        // Each element takes a byte at least.
        (count <= self.bytes.len() as u64).then_some((byte & 0xf, count))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth == 0 {
            return None;
        }
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.skip_bytes(1),
            I16..=I64 => self.unsigned().map(drop),
            DOUBLE => self.skip_bytes(8),
            UUID => self.skip_bytes(16),
            BINARY => {
                let length = self.unsigned()?;
                self.skip_bytes(length)
            }
            LIST | SET => {
                let (kind, count) = self.list()?;
                // Whether these take a byte in a list is not agreed upon, and no footer has such.
                if kind == TRUE || kind == FALSE {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip(kind, depth - 1))
            }
            STRUCT => loop {
                let (kind, _) = self.field(0)?;
                if kind == STOP {
                    return Some(());
                }
                self.skip(kind, depth - 1)?;
            },
            MAP => None,
            _ => None,
        }
    }

    /// Goes through the fields of a structure. `read` reads those that it wants and says so.
    fn fields(&mut self, mut read: impl FnMut(&mut Self, i64, u8) -> Option<bool>) -> Option<()> {
        let mut last = 0;
        loop {
            let (kind, number) = self.field(last)?;
            if kind == STOP {
                return Some(());
            }
            if !read(self, number, kind)? {
                self.skip(kind, MAX_SKIPPED)?;
            }
            last = number;
        }
    }
}

/// Looks at the footer: is its schema one that can be followed?
pub fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let mut problem = Ok(());
    let read = Reader { bytes }.fields(|reader, number, kind| {
        // Field 2 is the schema, a list of structures.
        if number != 2 {
            return Some(false);
        }
        let (element, count) = reader.list().filter(|_| kind == LIST)?;
        problem = schema(reader, count).filter(|_| element == STRUCT)?;
        problem.is_ok().then_some(true)
    });
    problem?;
    read.ok_or_else(|| "its footer is damaged".to_owned())
}

/// Follows the schema, which is written as a list: each element says how many children follow.
fn schema(reader: &mut Reader, count: u64) -> Option<Result<(), String>> {
    // For each open group: how many children are to come, and the length of its path.
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut names = 0;
    for index in 0..count {
        let (name, children) = element(reader)?;
        if children >= count - index {
            return None;
        }
        let path = open.last().map_or(0, |&(_, path)| path) + name;
        if children == 0 {
            names += path;
        }
        if names > MAX_NAMES {
            return Some(Err(format!("the names of its columns take over {MAX_NAMES} bytes")));
        }
        if let Some((left, _)) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push((children, path));
        }
        while open.last().is_some_and(|&(left, _)| left == 0) {
            open.pop();
        }
        if open.len() > MAX_DEPTH {
            return Some(Err(format!("its columns are nested more than {MAX_DEPTH} deep")));
        }
    }
    Some(Ok(()))
}

/// The length of a schema element's name, and how many children it has.
fn element(reader: &mut Reader) -> Option<(usize, u64)> {
    let (mut name, mut children) = (0, 0);
    reader.fields(|reader, number, kind| match number {
        4 => {
            let length = reader.unsigned().filter(|_| kind == BINARY)?;
            name = usize::try_from(length).ok()?;
            reader.skip_bytes(length)?;
            Some(true)
        }
        5 => {
            children = reader.signed().filter(|_| (I16..=I64).contains(&kind))?.try_into().ok()?;
            Some(true)
        }
        _ => Some(false),
    })?;
    Some((name, children))
}

/// What the header of a page claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageHeader {
    /// How long the header itself is.
    pub length: usize,
    /// 1 is an index page, which is stepped over.
    pub kind: i64,
    /// Bytes after unpacking.
    pub unpacked: i64,
    /// Bytes in the file.
    pub packed: i64,
    /// Bytes of levels in front of the packed data; they are never packed.
    pub levels: i64,
}

/// The kind of a page that holds an index.
pub const INDEX_PAGE: i64 = 1;

/// Reads the header at the beginning of the bytes; `None` where it ends beyond them or is damaged.
pub fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut reader = Reader { bytes };
    let mut header = PageHeader::default();
    reader.fields(|reader, number, kind| {
        let value = match number {
            1 => &mut header.kind,
            2 => &mut header.unpacked,
            3 => &mut header.packed,
            8 if kind == STRUCT => {
                let mut levels = 0_i64;
                reader.fields(|reader, number, kind| {
                    let wanted = (number == 5 || number == 6) && (I16..=I64).contains(&kind);
                    if wanted {
                        levels = levels.saturating_add(reader.signed()?);
                    }
                    Some(wanted)
                })?;
                header.levels = levels;
                return Some(true);
            }
            _ => return Some(false),
        };
        *value = reader.signed().filter(|_| (I16..=I64).contains(&kind))?;
        Some(true)
    })?;
    header.length = bytes.len() - reader.bytes.len();
    Some(header)
}

/// How many values a run of packed differences claims to hold: the third number of its header.
pub fn delta_count(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader { bytes };
    reader.unsigned()?;
    reader.unsigned()?;
    reader.unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema of groups inside groups and one column, as a footer.
    fn nested(depth: usize, name: &str) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        let mut count = depth as u64 + 1;
        while count >= 0x80 {
            bytes.push(count as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        for level in 0..=depth {
            bytes.push(0x48);
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            if level < depth {
                bytes.extend([0x15, 2]);
            }
            bytes.push(STOP);
        }
        bytes.push(STOP);
        bytes
    }

    #[test]
    fn deep_schemas_are_refused_before_anyone_follows_them() {
        assert_eq!(check_footer(&nested(5, "a")), Ok(()));
        for depth in [65, 1000, 100_000] {
            let error = check_footer(&nested(depth, "a")).unwrap_err();
            assert!(error.contains("nested more than 64 deep"), "{error}");
        }
    }

    #[test]
    fn long_paths_of_many_columns_are_refused() {
        // One group with a name of 4000 bytes and 5000 columns: 20 MB of paths.
        let mut bytes = vec![0x19, 0xfc, 0x89, 0x27, 0x48, 0xa0, 0x1f];
        bytes[0] = 0x29;
        bytes.extend(vec![b'a'; 4000]);
        bytes.extend([0x15, 0x90, 0x4e, STOP]);
        for _ in 0..5000 {
            bytes.extend([0x48, 1, b'b', STOP]);
        }
        bytes.push(STOP);
        let error = check_footer(&bytes).unwrap_err();
        assert!(error.contains("names of its columns"), "{error}");
    }

    #[test]
    fn claims_that_cannot_be_are_damage() {
        let whole = nested(3, "name");
        for end in 0..whole.len() {
            assert!(check_footer(&whole[..end]).is_err(), "cut at {end}");
        }
        // A list longer than the bytes, and a group with more children than elements follow.
        assert!(check_footer(&[0x29, 0xfc, 0xff, 0xff, 0xff, 0x7f, 0]).is_err());
        assert!(check_footer(&[0x29, 0x1c, 0x48, 1, b'a', 0x15, 0x7e, 0, 0]).is_err());
    }

    #[test]
    fn page_headers_are_read_in_any_order() {
        // type 0, unpacked 300, packed 100, and a field that is stepped over.
        let bytes = [0x15, 0, 0x15, 0xd8, 4, 0x15, 0xc8, 1, 0x2c, 0x15, 2, 0, 0, 9, 9];
        let header = page_header(&bytes).unwrap();
        assert_eq!((header.kind, header.unpacked, header.packed), (0, 300, 100));
        assert_eq!(header.length, bytes.len() - 2);
        assert_eq!(page_header(&bytes[..10]), None);
    }
}
