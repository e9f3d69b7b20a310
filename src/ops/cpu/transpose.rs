//! Squares of 16 by 16 numbers of 32 bits, transposed: what most of packing is.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m512i;

#[cfg(target_arch = "x86_64")]
use pulp::{Arch, cast, x86::V4};

#[cfg(target_arch = "x86_64")]
use crate::device::arch;

/// Rows of a square, and numbers of each.
pub const SIDE: usize = 16;

/// Row after row.
pub type Square = [[u32; SIDE]; SIDE];

/// How squares are transposed on this processor.
#[derive(Clone, Copy)]
pub struct Transpose16x16 {
    #[cfg(target_arch = "x86_64")]
    vectors: Option<V4>,
}

impl Transpose16x16 {
    /// With the instructions that are used.
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            vectors: match arch() {
                Arch::V4(vectors) => Some(vectors),
                _ => None,
            },
        }
    }

    /// The transpose. To be called from code that is compiled for these instructions.
    #[inline(always)]
    pub fn square(self, rows: Square) -> Square {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = self.vectors {
            return transposed(vectors, rows);
        }
        twin(rows)
    }
}

/// In plain code.
#[inline(always)]
fn twin(rows: Square) -> Square {
    let mut columns = [[0; SIDE]; SIDE];
    for (row, numbers) in rows.iter().enumerate() {
        for (column, number) in numbers.iter().enumerate() {
            columns[column][row] = *number;
        }
    }
    columns
}

/// Four rounds, each of which doubles how many numbers of a column lie side by side. In loops: what
/// takes a closure may be compiled apart, for processors without these instructions.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transposed(vectors: V4, rows: Square) -> Square {
    let avx = vectors.avx512f;
    let rows: [__m512i; SIDE] = cast(rows);
    // Within quarters of a vector: numbers of two rows, then of four.
    let mut two = rows;
    for i in (0..SIDE).step_by(2) {
        two[i] = avx._mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        two[i + 1] = avx._mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut four = two;
    for i in (0..SIDE).step_by(4) {
        four[i] = avx._mm512_unpacklo_epi64(two[i], two[i + 2]);
        four[i + 1] = avx._mm512_unpackhi_epi64(two[i], two[i + 2]);
        four[i + 2] = avx._mm512_unpacklo_epi64(two[i + 1], two[i + 3]);
        four[i + 3] = avx._mm512_unpackhi_epi64(two[i + 1], two[i + 3]);
    }
    // Between quarters: the even ones of two vectors, and the odd ones.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut eight = four;
    for half in [0, 8] {
        for i in half..half + 4 {
            eight[i] = avx._mm512_shuffle_i32x4::<EVEN>(four[i], four[i + 4]);
            eight[i + 4] = avx._mm512_shuffle_i32x4::<ODD>(four[i], four[i + 4]);
        }
    }
    let mut all = eight;
    for i in 0..8 {
        all[i] = avx._mm512_shuffle_i32x4::<EVEN>(eight[i], eight[i + 8]);
        all[i + 8] = avx._mm512_shuffle_i32x4::<ODD>(eight[i], eight[i + 8]);
    }
    cast(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_turn_squares_as_plain_code_does() {
        let count = |row: usize, column: usize| u32::try_from(row * SIDE + column).unwrap();
        let rows: Square = std::array::from_fn(|r| std::array::from_fn(|c| count(r, c)));
        let columns: Square = std::array::from_fn(|c| std::array::from_fn(|r| count(r, c)));
        assert_eq!(twin(rows), columns);
        assert_eq!(Transpose16x16::new().square(rows), columns);
    }
}
