//! Numbers of 16 bits (binary16) in 32: without a call, which the conversion of `half` is where the
//! processor has an instruction for it, since a scale is read for every few numbers.

/// Where sign, exponent and fraction stand in 32 bits.
const SIGN_AND_SIZE: u32 = 0x8fff_e000;
/// What the exponents of both formats differ by.
const BIAS: u32 = (127 - 15) << 23;

/// The number of some bits. What is not a number is a quiet one.
#[inline(always)]
pub fn single(bits: u16) -> f32 {
    let wide = (i32::from(bits.cast_signed()) << 13).cast_unsigned() & SIGN_AND_SIZE;
    // One more than the exponent is 0 or 1 in five bits, of which these are the upper four.
    if (wide + (1 << 23)) & (0xf << 24) == 0 {
        return small_or_none(bits);
    }
    f32::from_bits(wide + BIAS)
}

/// Of those below the smallest normal number, which are whole multiples of two to the power of -24,
/// and of what is no finite number.
#[cold]
#[inline(never)]
fn small_or_none(bits: u16) -> f32 {
    let (sign, size) = (u32::from(bits & 0x8000) << 16, bits & 0x7fff);
    let size = match size {
        ..0x0400 => (f32::from(size) * f32::from_bits((127 - 24) << 23)).to_bits(),
        0x7c00 => f32::INFINITY.to_bits(),
        _ => f32::NAN.to_bits() | u32::from(size) << 13,
    };
    f32::from_bits(sign | size)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_number_is_that_of_half() {
        for bits in 0..=u16::MAX {
            let wanted = f16::from_bits(bits).to_f32();
            assert_eq!(single(bits).to_bits(), wanted.to_bits(), "{bits:#x}");
        }
    }
}
