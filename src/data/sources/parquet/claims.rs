//! What the headers inside a Parquet file claim, looked at before the library believes it.
//!
//! The library reserves memory for what a header claims and follows its nesting by recursion, so
//! claims that only harm would end the program. Here they become errors. Headers are read with
//! Apache's own library for Thrift, which keeps to limits.

use thrift::TConfiguration;
use thrift::protocol::{TCompactInputProtocol, TInputProtocol, TType};

/// Deeper schemas are refused: conversations need five levels.
const MAX_DEPTH: usize = 64;
/// Columns, with the groups around them: each costs some kilobytes while it is read.
const MAX_COLUMNS: usize = 20_000;
/// The name of a column, in bytes; it stands in every record.
const MAX_NAME: usize = 1024;
/// All names of the columns with their paths, in bytes.
const MAX_NAMES: usize = 16 << 20;
/// Structures inside structures, and lists inside lists.
const MAX_NESTED: usize = 32;

/// A reader of headers, whose lists and texts are no longer than the bytes.
fn reader<'a, 'b>(bytes: &'a mut &'b [u8]) -> TCompactInputProtocol<&'a mut &'b [u8]> {
    let most = Some(bytes.len());
    let limits = TConfiguration::builder()
        .max_recursion_depth(Some(MAX_NESTED))
        .max_container_size(most)
        .max_string_size(most)
        .build()
        .expect("the usual limits on messages fit together");
    TCompactInputProtocol::with_config(bytes, limits)
}

fn damaged<E>(_: E) -> String {
    "its footer is damaged".to_owned()
}

/// Reads a field by its number and its type, or says that it did not.
type ReadField<'a> = &'a mut dyn FnMut(&mut dyn TInputProtocol, i16, TType) -> Result<bool, String>;

/// Goes through the fields of a structure; those that are not wanted are stepped over.
fn fields(headers: &mut dyn TInputProtocol, read: ReadField) -> Result<(), String> {
    headers.read_struct_begin().map_err(damaged)?;
    loop {
        let field = headers.read_field_begin().map_err(damaged)?;
        if field.field_type == TType::Stop {
            return headers.read_struct_end().map_err(damaged);
        }
        if !read(headers, field.id.unwrap_or_default(), field.field_type)? {
            step_over(headers, field.field_type, MAX_NESTED)?;
        }
    }
}

fn step_over(headers: &mut dyn TInputProtocol, kind: TType, depth: usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or_else(|| damaged(()))?;
    match kind {
        TType::Struct => fields(headers, &mut |headers, _, kind| {
            step_over(headers, kind, depth)?;
            Ok(true)
        }),
        TType::List | TType::Set => {
            let list = headers.read_list_begin().map_err(damaged)?;
            match list.element_type {
                // Whether these take a byte in a list is not agreed upon, and no header has such.
                TType::Bool => Err(damaged(())),
                element => (0..list.size).try_for_each(|_| step_over(headers, element, depth)),
            }
        }
        TType::Map => Err(damaged(())),
        other => headers.skip(other).map_err(damaged),
    }
}

/// A number of at most 32 bits, however wide it is written.
fn number(headers: &mut dyn TInputProtocol, kind: TType) -> Result<i32, String> {
    match kind {
        TType::I16 | TType::I32 | TType::I64 => {
            headers.read_i64().map_err(damaged)?.try_into().map_err(damaged)
        }
        _ => Err(damaged(())),
    }
}

/// Looks at the footer: is its schema one that can be followed?
pub fn check_footer(mut bytes: &[u8]) -> Result<(), String> {
    fields(&mut reader(&mut bytes), &mut |headers, number, kind| {
        // Field 2 is the schema, a list of structures.
        if number != 2 {
            return Ok(false);
        }
        if kind != TType::List {
            return Err(damaged(()));
        }
        let list = headers.read_list_begin().map_err(damaged)?;
        if list.element_type != TType::Struct {
            return Err(damaged(()));
        }
        schema(headers, usize::try_from(list.size).map_err(damaged)?)?;
        Ok(true)
    })
}

/// Follows the schema, which is written as a list: each element says how many children follow.
fn schema(headers: &mut dyn TInputProtocol, count: usize) -> Result<(), String> {
    if count > MAX_COLUMNS {
        return Err(format!("it has {count} columns, and at most {MAX_COLUMNS} are read"));
    }
    // For each open group: how many children are to come, and the length of its path.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut names = 0;
    for index in 0..count {
        let (name, children) = element(headers)?;
        if children >= count - index {
            return Err(damaged(()));
        }
        if name > MAX_NAME {
            return Err(format!("the name of a column has {name} bytes, over {MAX_NAME}"));
        }
        let path = open.last().map_or(0, |&(_, path)| path) + name;
        if children == 0 {
            names += path;
        }
        if names > MAX_NAMES {
            return Err(format!("the names of its columns take over {MAX_NAMES} bytes"));
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
            return Err(format!("its columns are nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

/// The length of a schema element's name, and how many children it has.
fn element(headers: &mut dyn TInputProtocol) -> Result<(usize, usize), String> {
    let (mut name, mut children) = (0, 0);
    fields(headers, &mut |headers, field, kind| {
        match field {
            4 if kind == TType::String => name = headers.read_bytes().map_err(damaged)?.len(),
            5 => children = number(headers, kind)?.try_into().map_err(damaged)?,
            4 => return Err(damaged(())),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((name, children))
}

/// What the header of a page claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageHeader {
    /// How long the header itself is.
    pub length: usize,
    /// 1 is an index page, which is stepped over.
    pub kind: i32,
    /// Bytes after unpacking.
    pub unpacked: i32,
    /// Bytes in the file.
    pub packed: i32,
    /// Bytes of levels in front of the packed data; they are never packed.
    pub levels: i64,
}

/// The kind of a page that holds an index.
pub const INDEX_PAGE: i32 = 1;

/// Reads the header at the beginning of the bytes; `None` where it ends beyond them or is damaged.
pub fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut rest = bytes;
    let mut header = PageHeader::default();
    let read = fields(&mut reader(&mut rest), &mut |headers, field, kind| {
        match field {
            1 => header.kind = number(headers, kind)?,
            2 => header.unpacked = number(headers, kind)?,
            3 => header.packed = number(headers, kind)?,
            8 if kind == TType::Struct => header.levels = levels(headers)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    read.ok()?;
    header.length = bytes.len() - rest.len();
    Some(header)
}

/// The bytes of levels that the second kind of a page's header claims.
fn levels(headers: &mut dyn TInputProtocol) -> Result<i64, String> {
    let (mut definition, mut repetition) = (0, 0);
    fields(headers, &mut |headers, field, kind| {
        match field {
            5 => definition = number(headers, kind)?,
            6 => repetition = number(headers, kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(i64::from(definition) + i64::from(repetition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    const STOP: u8 = 0;

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
    fn deep_and_wide_schemas_are_refused_before_anyone_follows_them() {
        assert_eq!(check_footer(&nested(5, "a")), Ok(()));
        let mut messages = String::new();
        for depth in [65, 1000, 10_000] {
            let error = check_footer(&nested(depth, "a")).unwrap_err();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
its columns are nested more than 64 deep
its columns are nested more than 64 deep
its columns are nested more than 64 deep

"#]],
        );
        let error = check_footer(&nested(100_000, "a")).unwrap_err();
        says(&error, snapbox::str!["it has 100001 columns, and at most 20000 are read"]);
    }

    /// Groups inside groups with names of 1000 bytes, and so many columns in the innermost.
    fn long_paths(groups: usize, columns: u16) -> Vec<u8> {
        let mut bytes = vec![0x29, 0xfc];
        let varint = |number: u16| [number as u8 | 0x80, (number >> 7) as u8];
        bytes.extend(varint(groups as u16 + columns));
        for group in 1..=groups {
            bytes.extend([0x48, 0xe8, 0x07]);
            bytes.extend(vec![b'a'; 1000]);
            bytes.push(0x15);
            bytes.extend(varint(2 * if group == groups { columns } else { 1 }));
            bytes.push(STOP);
        }
        for _ in 0..columns {
            bytes.extend([0x48, 1, b'b', STOP]);
        }
        bytes.push(STOP);
        bytes
    }

    #[test]
    fn long_names_and_long_paths_of_many_columns_are_refused() {
        assert_eq!(check_footer(&long_paths(1, 5000)), Ok(()));
        // 20 MB of paths in 25 kB.
        let error = check_footer(&long_paths(4, 5000)).unwrap_err();
        says(&error, snapbox::str!["the names of its columns take over 16777216 bytes"]);
        let mut long = vec![0x29, 0x1c, 0x48, 0x81, 0x08];
        long.extend(vec![b'a'; 1025]);
        long.extend([STOP, STOP]);
        let error = check_footer(&long).unwrap_err();
        says(&error, snapbox::str!["the name of a column has 1025 bytes, over 1024"]);
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
        // Lists of lists of truths, of which the library believes that none takes a byte.
        let truths = [0x99, 0xf2, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0];
        assert!(check_footer(&truths).is_err());
        assert_eq!(page_header(&truths), None);
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
