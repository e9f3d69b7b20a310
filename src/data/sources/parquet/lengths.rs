//! Lengths that a page writes as packed differences, added up before the library believes them.
//!
//! The library reserves memory for as many lengths as are claimed, and for texts that repeat the
//! beginning of the one before, each as long as its length says: few bytes can claim very many.
//! <https://github.com/apache/parquet-format/blob/master/Encodings.md>, "Delta Encoding".

/// Lengths that stand together in a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Lengths<'a> {
    /// How many there are.
    pub count: u64,
    /// What they add up to.
    pub sum: u64,
    /// The bytes after them.
    pub rest: &'a [u8],
}

/// Lengths of the longest blocks that are read; writers make blocks of 128.
const MAX_BLOCK: u64 = 1 << 20;

/// Adds up the lengths at the beginning of the bytes, when there are `most` of them or fewer;
/// `None` where there are more, or they make no sense.
pub fn lengths(mut bytes: &[u8], most: u64) -> Option<Lengths<'_>> {
    let (block, parts) = (unsigned(&mut bytes)?, unsigned(&mut bytes)?);
    let count = unsigned(&mut bytes).filter(|&count| count <= most)?;
    let mut length = signed(&mut bytes)?;
    if parts == 0 || block > MAX_BLOCK || block % parts != 0 || block / parts % 32 != 0 {
        return None;
    }
    let part = block / parts;
    let mut sum = 0;
    let mut left = count;
    if left > 0 {
        sum += u64::try_from(length).ok()?;
        left -= 1;
    }
    while left > 0 && part > 0 {
        let least = signed(&mut bytes)?;
        let (widths, after) = bytes.split_at_checked(usize::try_from(parts).ok()?)?;
        bytes = after;
        for &width in widths {
            // What a block does not need is left out at its end.
            if left == 0 {
                break;
            }
            let size = u64::from(width) * part / 8;
            let (packed, after) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
            bytes = after;
            if width > 32 {
                return None;
            }
            for index in 0..left.min(part) {
                let difference = bits(packed, index as usize * usize::from(width), width);
                length = length.wrapping_add(least).wrapping_add(difference.cast_signed());
                sum += u64::try_from(length).ok()?;
            }
            left = left.saturating_sub(part);
        }
    }
    (left == 0).then_some(Lengths { count, sum, rest: bytes })
}

/// A number of `width` bits, at most 32, that begins at a bit.
fn bits(bytes: &[u8], at: usize, width: u8) -> u32 {
    let bytes = bytes.get(at / 8..).unwrap_or_default();
    let mut word = [0; 8];
    let count = bytes.len().min(word.len());
    word[..count].copy_from_slice(&bytes[..count]);
    let mask = (1_u64 << width) - 1;
    ((u64::from_le_bytes(word) >> (at % 8)) & mask) as u32
}

fn unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A length or a difference of two: all are of 32 bits.
fn signed(bytes: &mut &[u8]) -> Option<i32> {
    let value = unsigned(bytes)?;
    i32::try_from((value >> 1).cast_signed() ^ -((value & 1).cast_signed())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_standard() {
        // Its two examples: 1 to 5, and 7, 5, 3, 1, 2, 3, 4, 5 with differences of 2 bits from -2.
        let ascending = [128, 1, 4, 5, 2, 2, 0, 0, 0, 0, 9];
        let read = lengths(&ascending, 5).unwrap();
        assert_eq!(read, Lengths { count: 5, sum: 15, rest: &[9] });
        assert_eq!(lengths(&ascending, 4), None);
        let mut turning = vec![128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111];
        turning.extend([0; 6]);
        turning.push(9);
        assert_eq!(lengths(&turning, 8), Some(Lengths { count: 8, sum: 30, rest: &[9] }));
        for end in 0..turning.len() - 1 {
            assert_eq!(lengths(&turning[..end], 8), None, "cut at {end}");
        }
    }

    #[test]
    fn one_length_and_none_have_no_block() {
        assert_eq!(lengths(&[128, 1, 4, 1, 8, 7], 1).unwrap().sum, 4);
        assert_eq!(lengths(&[128, 1, 4, 0, 0, 7], 1).unwrap().rest, [7]);
    }

    #[test]
    fn lengths_below_zero_and_blocks_without_end_make_no_sense() {
        assert_eq!(lengths(&[128, 1, 4, 1, 1], 1), None);
        assert_eq!(lengths(&[128, 1, 4, 2, 0, 1, 0, 0, 0, 0], 2), None);
        assert_eq!(lengths(&[0, 1, 2, 0, 0], 9), None);
        assert_eq!(lengths(&[128, 1, 0, 2, 0, 0], 9), None);
        assert_eq!(lengths(&[0x80, 0x80, 0x80, 0x80, 8, 1, 2, 0, 0], 9), None);
    }
}
