//! The formats of the factors of a product. Sums of products are always kept in 32 bits.

use half::bf16;

/// A number as it is kept in memory.
pub trait Number: Copy + Send + Sync + Default + 'static {
    /// Its value.
    fn wide(self) -> f32;
    /// Rounded to bfloat16, to nearest, ties to even.
    fn rounded(self) -> bf16;
}

impl Number for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    /// As `half` rounds, without its branch, so that loops become vector instructions.
    #[inline(always)]
    fn rounded(self) -> bf16 {
        let bits = self.to_bits();
        let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let quiet = bits | 0x0040_0000; // what is not a number stays none
        let bits = if self.is_nan() { quiet } else { up };
        bf16::from_bits((bits >> 16) as u16)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn rounded(self) -> bf16 {
        self
    }
}

/// What an instruction takes at once of a factor: 32 bits in every format.
pub trait Group: Copy + Send + Sync + Default + 'static {
    /// A number of it.
    type Stored;
    /// Its bits.
    fn bits(self) -> u32;
    /// The group of some bits.
    fn of_bits(bits: u32) -> Self;
    /// The group of some numbers; what it has no room for is left out.
    fn of_numbers(numbers: [Self::Stored; 2]) -> Self;
    /// Its numbers: the first ones, as many as there are in a group.
    fn numbers(self) -> [Self::Stored; 2];
}

impl Group for f32 {
    type Stored = Self;

    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }

    #[inline(always)]
    fn of_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }

    #[inline(always)]
    fn of_numbers([number, _]: [Self; 2]) -> Self {
        number
    }

    #[inline(always)]
    fn numbers(self) -> [Self; 2] {
        [self; 2]
    }
}

impl Group for [bf16; 2] {
    type Stored = bf16;

    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self[0].to_bits()) | u32::from(self[1].to_bits()) << 16
    }

    #[inline(always)]
    fn of_bits(bits: u32) -> Self {
        [bf16::from_bits(bits as u16), bf16::from_bits((bits >> 16) as u16)]
    }

    #[inline(always)]
    fn of_numbers(numbers: Self) -> Self {
        numbers
    }

    #[inline(always)]
    fn numbers(self) -> Self {
        self
    }
}

/// How factors are kept.
pub trait Format: Copy + Send + Sync + 'static {
    /// A number of a factor.
    type Stored: Number;
    /// Numbers next to each other along the inner dimension that an instruction takes at once;
    /// inner dimensions are padded with zeros to a multiple of it.
    const GROUP: usize;
    /// Whether numbers are rounded to bfloat16.
    const ROUNDS: bool;
    /// A group of numbers.
    type Group: Group<Stored = Self::Stored>;
    /// Converts.
    fn of(number: impl Number) -> Self::Stored;
    /// Converts a group; what it has no room for is left out.
    fn group<N: Number>(numbers: [N; 2]) -> Self::Group;
}

/// 32 bits.
#[derive(Debug, Clone, Copy)]
pub struct F32;

impl Format for F32 {
    type Stored = f32;
    const GROUP: usize = 1;
    const ROUNDS: bool = false;
    type Group = f32;

    #[inline(always)]
    fn of(number: impl Number) -> f32 {
        number.wide()
    }

    #[inline(always)]
    fn group<N: Number>([number, _]: [N; 2]) -> f32 {
        Self::of(number)
    }
}

/// bfloat16 in pairs, for processors that multiply them (AVX512-BF16).
#[derive(Debug, Clone, Copy)]
pub struct Bf16;

impl Format for Bf16 {
    type Stored = bf16;
    const GROUP: usize = 2;
    const ROUNDS: bool = true;
    type Group = [bf16; 2];

    #[inline(always)]
    fn of(number: impl Number) -> bf16 {
        number.rounded()
    }

    #[inline(always)]
    fn group<N: Number>(numbers: [N; 2]) -> [bf16; 2] {
        numbers.map(Number::rounded)
    }
}

/// Rounded to bfloat16 and kept in 32 bits: the same factors for processors that have no
/// instruction for them.
#[derive(Debug, Clone, Copy)]
pub struct F32RoundedToBf16;

impl Format for F32RoundedToBf16 {
    type Stored = f32;
    const GROUP: usize = 1;
    const ROUNDS: bool = true;
    type Group = f32;

    #[inline(always)]
    fn of(number: impl Number) -> f32 {
        number.rounded().wide()
    }

    #[inline(always)]
    fn group<N: Number>([number, _]: [N; 2]) -> f32 {
        Self::of(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn rounding_is_that_of_half() {
        let stream = Stream::new(1);
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, 1.003_906_3];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let drawn = (0..100_000)
            .map(|index| f32::from_bits((stream.uniform(index) * f64::from(u32::MAX)) as u32));
        for x in special.into_iter().chain(drawn) {
            let reference = bf16::from_f32(x);
            if x.is_nan() {
                assert!(x.rounded().to_f32().is_nan());
            } else {
                assert_eq!(x.rounded().to_bits(), reference.to_bits(), "{x}");
                assert_eq!(F32RoundedToBf16::of(x), reference.to_f32());
            }
        }
    }
}
