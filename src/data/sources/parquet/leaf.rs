//! The values of one column for some rows, and what each is in JSON.

use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{AsBytes, ByteArray, FixedLenByteArray, Int96};
use parquet::errors::Result;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Number, Value};

use crate::files::parse_json;

/// What a value is to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Bool,
    /// Also dates and times: the numbers as which they are stored.
    Signed,
    Unsigned,
    Float,
    /// UTF-8.
    Text,
    /// JSON text, which means the value that it is written for.
    Json,
    /// A number of 16 bits.
    Half,
    /// The 16 bytes of a UUID.
    Uuid,
    /// Text where it is UTF-8, else Base64.
    Bytes,
    /// A number with so many digits after the point.
    Decimal(usize),
}

impl Meaning {
    fn of(descr: &ColumnDescriptor) -> Self {
        let (logical, converted) = (descr.logical_type_ref(), descr.converted_type());
        if converted == ConvertedType::DECIMAL || matches!(logical, Some(LogicalType::Decimal(_))) {
            return Self::Decimal(usize::try_from(descr.type_scale()).unwrap_or(0));
        }
        let text = [ConvertedType::UTF8, ConvertedType::ENUM];
        let unsigned = [
            ConvertedType::UINT_8,
            ConvertedType::UINT_16,
            ConvertedType::UINT_32,
            ConvertedType::UINT_64,
        ];
        match (descr.physical_type(), logical) {
            (Type::BOOLEAN, _) => Self::Bool,
            (Type::FLOAT | Type::DOUBLE, _) => Self::Float,
            (Type::INT32 | Type::INT64, Some(LogicalType::Integer(int))) if !int.is_signed => {
                Self::Unsigned
            }
            (Type::INT32 | Type::INT64, _) if unsigned.contains(&converted) => Self::Unsigned,
            (Type::INT32 | Type::INT64 | Type::INT96, _) => Self::Signed,
            (Type::BYTE_ARRAY, Some(LogicalType::Json)) => Self::Json,
            (Type::BYTE_ARRAY, _) if converted == ConvertedType::JSON => Self::Json,
            (Type::BYTE_ARRAY, Some(LogicalType::String | LogicalType::Enum)) => Self::Text,
            (Type::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16)) => Self::Half,
            (Type::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)) => Self::Uuid,
            (Type::BYTE_ARRAY, _) if text.contains(&converted) => Self::Text,
            (Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY, _) => Self::Bytes,
        }
    }
}

/// Values without the nulls between them.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// Does the same with whichever list of values there is.
macro_rules! each {
    ($values:expr, $list:ident => $what:expr) => {
        match $values {
            Values::Bool($list) => $what,
            Values::Int32($list) => $what,
            Values::Int64($list) => $what,
            Values::Int96($list) => $what,
            Values::Float($list) => $what,
            Values::Double($list) => $what,
            Values::Bytes($list) => $what,
            Values::Fixed($list) => $what,
        }
    };
}

/// The rows of a column that are in memory.
pub struct Leaf {
    name: String,
    meaning: Meaning,
    max_def: i16,
    repeated: bool,
    /// For each value and each null: how much of its path is there.
    def: Vec<i16>,
    /// For each value and each null: which list it goes on with; 0 begins a row.
    rep: Vec<i16>,
    values: Values,
    /// For each row, and the end of the last: its first level and its first value.
    starts: Vec<(usize, usize)>,
}

/// What a level costs in memory once it is JSON, beside its bytes.
const LEVEL: usize = 64;

impl Leaf {
    /// For the values of a column.
    pub fn new(descr: &ColumnDescriptor) -> Self {
        Self {
            name: descr.path().string(),
            meaning: Meaning::of(descr),
            max_def: descr.max_def_level(),
            repeated: descr.max_rep_level() > 0,
            def: Vec::new(),
            rep: Vec::new(),
            values: match descr.physical_type() {
                Type::BOOLEAN => Values::Bool(Vec::new()),
                Type::INT32 => Values::Int32(Vec::new()),
                Type::INT64 => Values::Int64(Vec::new()),
                Type::INT96 => Values::Int96(Vec::new()),
                Type::FLOAT => Values::Float(Vec::new()),
                Type::DOUBLE => Values::Double(Vec::new()),
                Type::BYTE_ARRAY => Values::Bytes(Vec::new()),
                Type::FIXED_LEN_BYTE_ARRAY => Values::Fixed(Vec::new()),
            },
            starts: Vec::new(),
        }
    }

    /// How many bytes of memory a value takes before it is JSON.
    pub fn width(&self) -> usize {
        fn of<T>(_: &[T]) -> usize {
            size_of::<T>()
        }
        each!(&self.values, list => of(list))
    }

    /// Forgets the rows in memory.
    pub fn clear(&mut self) {
        self.def.clear();
        self.rep.clear();
        self.starts.clear();
        each!(&mut self.values, list => list.clear());
    }

    /// Reads the next rows; says how many there were. Those before must have been forgotten.
    pub fn fill(&mut self, reader: &mut ColumnReader, rows: usize) -> Result<usize> {
        let levels = (Some(&mut self.def), Some(&mut self.rep));
        macro_rules! read {
            ($($column:ident => $values:ident),*) => {
                match (reader, &mut self.values) {
                    $((ColumnReader::$column(reader), Values::$values(list)) => {
                        reader.read_records(rows, levels.0, levels.1, list)
                    })*
                    _ => Err(parquet::errors::ParquetError::General(
                        "a column changes its type".to_owned(),
                    )),
                }
            };
        }
        let (records, _, _) = read!(
            BoolColumnReader => Bool,
            Int32ColumnReader => Int32,
            Int64ColumnReader => Int64,
            Int96ColumnReader => Int96,
            FloatColumnReader => Float,
            DoubleColumnReader => Double,
            ByteArrayColumnReader => Bytes,
            FixedLenByteArrayColumnReader => Fixed
        )?;
        Ok(records)
    }

    /// Finds where each row begins, and adds what it costs in memory; says how many bytes the
    /// values and levels have. `None` where the levels do not make as many rows.
    pub fn index(&mut self, costs: &mut [usize]) -> Option<u64> {
        let count = each!(&self.values, list => list.len());
        let levels = if self.max_def == 0 { count } else { self.def.len() };
        if self.repeated && self.rep.len() != levels {
            return None;
        }
        let (mut value, mut bytes) = (0, levels as u64);
        for level in 0..levels {
            if !self.repeated || self.rep[level] == 0 {
                self.starts.push((level, value));
            }
            let cost = costs.get_mut(self.starts.len().checked_sub(1)?)?;
            *cost = cost.saturating_add(LEVEL);
            // A damaged level can be higher than any that there is.
            if self.def(level) > self.max_def {
                return None;
            }
            if self.def(level) == self.max_def {
                let size = self.size(value)?;
                bytes += size as u64;
                *cost = cost.saturating_add(size);
                value += 1;
            }
        }
        self.starts.push((levels, value));
        (self.starts.len() == costs.len() + 1 && value == count).then_some(bytes)
    }

    /// Where the levels and values of a row begin, and where its levels end.
    pub fn row(&self, row: usize) -> (usize, usize, usize) {
        let (level, value) = self.starts[row];
        (level, value, self.starts[row + 1].0)
    }

    /// The definition level at a place.
    pub fn def(&self, level: usize) -> i16 {
        if self.max_def == 0 { 0 } else { self.def[level] }
    }

    /// The repetition level at a place.
    pub fn rep(&self, level: usize) -> i16 {
        if self.repeated { self.rep[level] } else { 0 }
    }

    /// The definition level of a value that is there.
    pub fn max_def(&self) -> i16 {
        self.max_def
    }

    fn size(&self, value: usize) -> Option<usize> {
        match &self.values {
            Values::Bytes(list) => list.get(value).map(ByteArray::len),
            Values::Fixed(list) => list.get(value).map(|bytes| bytes.len()),
            other => each!(other, list => (value < list.len()).then_some(0)),
        }
    }

    /// The bytes of a row's values, one after another.
    pub fn raw(&self, row: usize, out: &mut Vec<u8>) {
        let (from, to) = (self.starts[row].1, self.starts[row + 1].1);
        match &self.values {
            Values::Bytes(list) => list[from..to].iter().for_each(|v| out.extend(v.data())),
            Values::Fixed(list) => list[from..to].iter().for_each(|v| out.extend(v.data())),
            other => each!(other, list => {
                list[from..to].iter().for_each(|v| out.extend(v.as_bytes()));
            }),
        }
    }

    /// A value in JSON; `None` where JSON has no word for it, as for numbers that are none.
    pub fn json(&self, value: usize) -> std::result::Result<Option<Value>, String> {
        let signed = |integer: i64| match self.meaning {
            Meaning::Decimal(scale) => Value::String(decimal(i128::from(integer), scale)),
            _ => Value::from(integer),
        };
        Ok(match &self.values {
            Values::Bool(list) => Some(Value::Bool(list[value])),
            Values::Int32(list) if self.meaning == Meaning::Unsigned => {
                Some(list[value].cast_unsigned().into())
            }
            Values::Int64(list) if self.meaning == Meaning::Unsigned => {
                Some(list[value].cast_unsigned().into())
            }
            Values::Int32(list) => Some(signed(list[value].into())),
            Values::Int64(list) => Some(signed(list[value])),
            Values::Int96(list) => Some(list[value].to_millis().into()),
            Values::Float(list) => Number::from_f64(list[value].into()).map(Value::Number),
            Values::Double(list) => Number::from_f64(list[value]).map(Value::Number),
            Values::Bytes(list) => self.bytes(list[value].data())?,
            Values::Fixed(list) => self.bytes(list[value].data())?,
        })
    }

    fn bytes(&self, bytes: &[u8]) -> std::result::Result<Option<Value>, String> {
        let text = match self.meaning {
            Meaning::Decimal(scale) if bytes.len() <= 16 => decimal(big_endian(bytes), scale),
            Meaning::Text => self.text(bytes)?.to_owned(),
            Meaning::Json => return self.meant(bytes).map(Some),
            Meaning::Half if bytes.len() == 2 => {
                let number = half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64();
                return Ok(Number::from_f64(number).map(Value::Number));
            }
            Meaning::Uuid if bytes.len() == 16 => uuid(bytes),
            _ => match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => BASE64_STANDARD.encode(bytes),
            },
        };
        Ok(Some(Value::String(text)))
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> std::result::Result<&'a str, String> {
        std::str::from_utf8(bytes).map_err(|error| {
            let (name, byte) = (&self.name, error.valid_up_to() + 1);
            format!("not valid UTF-8 at byte {byte} of the column `{name}`")
        })
    }

    /// What JSON text means.
    fn meant(&self, bytes: &[u8]) -> std::result::Result<Value, String> {
        self.text(bytes)?;
        parse_json(bytes).map_err(|error| {
            let cause = error.causes.first().map_or("", String::as_str);
            let cause = cause.replace(" at line 1 column", " at column");
            format!("{} in the column `{}`: {cause}", error.what, self.name)
        })
    }
}

/// As UUIDs are written: groups of hex digits.
fn uuid(bytes: &[u8]) -> String {
    let hex = |range: Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [0..4, 4..6, 6..8, 8..10, 10..16].map(hex).join("-")
}

/// A number of at most 16 bytes in two's complement.
fn big_endian(bytes: &[u8]) -> i128 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |number, &byte| number << 8 | i128::from(byte))
}

/// A number whose last `scale` digits stand after the point.
fn decimal(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    match digits.split_at(digits.len() - scale) {
        (whole, "") => format!("{sign}{whole}"),
        (whole, part) => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(12345, 2), "123.45");
        assert_eq!(decimal(7, 0), "7");
        assert_eq!(big_endian(&[0xff, 0xfe]), -2);
        assert_eq!(big_endian(&[1, 0]), 256);
    }

    #[test]
    fn uuids_are_written_in_groups() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
