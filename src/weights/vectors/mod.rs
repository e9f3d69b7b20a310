//! Codes of weights as numbers, with the vector instructions that the machine has: a compiler finds
//! few of them by itself, and text is written as fast as codes are read. Without such instructions
//! the same numbers are made in plain code.

mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

use pulp::Arch;

use self::plain::Plain;

/// Codes that are numbers at once.
pub const CODES: usize = 32;

/// What four bits stand for.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    numbers: [f32; 16],
    /// The first byte of each, then the second.
    bytes: [[u8; 16]; 4],
}

impl Table {
    /// Of these numbers.
    pub const fn new(numbers: [f32; 16]) -> Self {
        let mut bytes = [[0; 16]; 4];
        let mut at = 0;
        while at < 64 {
            bytes[at % 4][at / 4] = numbers[at / 4].to_le_bytes()[at % 4];
            at += 1;
        }
        Self { numbers, bytes }
    }

    /// The numbers.
    pub fn numbers(&self) -> &[f32; 16] {
        &self.numbers
    }
}

/// Which of the two codes of four bits in a byte comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// That of the upper bits.
    Upper,
    /// That of the lower bits.
    Lower,
}

/// What is done after a code has been multiplied with its scale.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// A number is added.
    Add(f32),
    /// A number is taken away.
    Less(f32),
}

/// Vector instructions, or plain code. To be called from what [`with_vectors`] calls.
pub trait Vectors: Copy {
    /// Codes of eight bits.
    type Codes: Copy;
    /// Bytes as they are.
    fn bytes(self, bytes: [u8; CODES]) -> Self::Codes;
    /// The lower four bits of bytes, and the upper ones behind them.
    fn halves(self, bytes: [u8; CODES / 2]) -> Self::Codes;
    /// The bits of a mask, of codes that have been shifted to the right by less than eight.
    fn bits(self, codes: Self::Codes, shift: usize, mask: u8) -> Self::Codes;
    /// Codes that are shifted to the left; no bit of them is lost.
    fn up<const SHIFT: i32>(self, codes: Self::Codes) -> Self::Codes;
    /// The bits of both.
    fn or(self, a: Self::Codes, b: Self::Codes) -> Self::Codes;
    /// Codes less a number.
    fn less(self, codes: Self::Codes, number: u8) -> Self::Codes;
    /// 16 for every bit that is set, from the lowest on.
    fn sixteens(self, bits: u32) -> Self::Codes;
    /// What codes of four bits stand for.
    fn look_up(self, codes: Self::Codes, table: [i8; 16]) -> Self::Codes;
    /// Writes codes with a sign, times the scale of their half, and what is done then.
    fn write(self, codes: Self::Codes, scales: [f32; 2], then: Then, out: &mut [f32; CODES]);
    /// Writes what the four bits of bytes stand for, times a scale.
    fn numbers(
        self,
        of: (&Table, f32),
        bytes: [u8; CODES / 2],
        first: First,
        out: &mut [f32; CODES],
    );
}

/// Work with vectors.
pub trait WithVectors {
    /// What is worked.
    fn work<V: Vectors>(self, vectors: V);
}

/// Does work with the instructions that the machine has.
#[inline]
pub fn with_vectors(work: impl WithVectors) {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(vectors) => Arch::V4(vectors).dispatch(
            #[inline(always)]
            || work.work(vectors),
        ),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(vectors) => Arch::V3(vectors).dispatch(
            #[inline(always)]
            || work.work(vectors),
        ),
        other => other.dispatch(
            #[inline(always)]
            || work.work(Plain),
        ),
    }
}

/// What the two codes of a byte stand for.
#[inline(always)]
pub fn pair(table: &Table, byte: u8, first: First) -> [f32; 2] {
    let [lower, upper] = [byte & 15, byte >> 4].map(|code| table.numbers[usize::from(code)]);
    match first {
        First::Upper => [upper, lower],
        First::Lower => [lower, upper],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table::new([
        -1.0, -0.7, -0.5, -0.4, -0.3, -0.2, -0.1, -0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.6, 0.7, 1.0,
    ]);

    /// Everything that can be made of some bytes, one vector of numbers after the other.
    struct All<'a>(&'a [u8; CODES], &'a mut Vec<[f32; CODES]>);

    impl WithVectors for All<'_> {
        #[inline(always)]
        fn work<V: Vectors>(self, v: V) {
            let Self(bytes, found) = self;
            let half = *bytes.first_chunk().unwrap();
            let bits = u32::from_le_bytes(*bytes.last_chunk().unwrap());
            let halves = v.halves(half);
            let mut codes = vec![
                v.bytes(*bytes),
                halves,
                v.sixteens(bits),
                v.or(halves, v.sixteens(bits)),
                v.less(v.or(halves, v.sixteens(bits)), 16),
                v.look_up(halves, [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]),
            ];
            for shift in 0..8 {
                codes.push(v.up::<4>(v.bits(v.bytes(*bytes), shift, 1)));
                codes.push(v.less(v.up::<4>(v.bits(v.bytes(*bytes), shift, 3)), 32));
            }
            for shift in [0, 4] {
                codes.push(v.bits(v.bytes(*bytes), shift, 15));
            }
            for codes in codes {
                for then in [Then::Nothing, Then::Add(0.7), Then::Less(0.3)] {
                    let mut out = [0.0; CODES];
                    v.write(codes, [0.1, -1.7e-3], then, &mut out);
                    found.push(out);
                }
            }
            for first in [First::Upper, First::Lower] {
                let mut out = [0.0; CODES];
                v.numbers((&TABLE, 0.3), half, first, &mut out);
                found.push(out);
            }
        }
    }

    #[test]
    fn every_instruction_makes_the_numbers_of_plain_code() {
        for seed in 0..64_u32 {
            let mut bytes = [0; CODES];
            for (at, byte) in (0..).zip(&mut bytes) {
                *byte = (seed * 8 + at).wrapping_mul(0x9e37_79b1).to_le_bytes()[3];
            }
            let (mut found, mut wanted) = (Vec::new(), Vec::new());
            with_vectors(All(&bytes, &mut found));
            All(&bytes, &mut wanted).work(Plain);
            assert_eq!(found.len(), wanted.len());
            for (number, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert_eq!(found.map(f32::to_bits), wanted.map(f32::to_bits), "{number}");
            }
        }
    }

    #[test]
    fn plain_code_makes_the_numbers_that_are_asked_for() {
        let mut out = [0.0; CODES];
        Plain.write(Plain.bytes([0x81; CODES]), [2.0, 4.0], Then::Less(1.0), &mut out);
        assert_eq!((out[15], out[16]), (-255.0, -509.0));
        let codes = Plain.less(Plain.or(Plain.halves([0x9f; 16]), Plain.sixteens(2)), 8);
        Plain.write(codes, [1.0; 2], Then::Nothing, &mut out);
        assert_eq!((out[0], out[1], out[16]), (7.0, 23.0, 1.0));
        Plain.write(
            Plain.up::<4>(Plain.bits([0x6d; CODES], 2, 3)),
            [1.0; 2],
            Then::Nothing,
            &mut out,
        );
        assert_eq!(out[31], 48.0);
        Plain.numbers((&TABLE, 2.0), [0xf1; 16], First::Upper, &mut out);
        assert_eq!(out[..2], [2.0, -1.4]);
        Plain.numbers((&TABLE, 2.0), [0xf1; 16], First::Lower, &mut out);
        assert_eq!(out[30..], [-1.4, 2.0]);
    }
}
