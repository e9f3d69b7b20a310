//! Codes as numbers in plain code.

use super::{CODES, First, Table, Then, Vectors, pair};

/// Plain code, which compilers make vectors of where numbers have 32 bits.
#[derive(Clone, Copy)]
pub struct Plain;

impl Vectors for Plain {
    type Codes = [i32; CODES];

    #[inline(always)]
    fn bytes(self, bytes: [u8; CODES]) -> Self::Codes {
        let mut codes = [0; CODES];
        for at in 0..CODES {
            codes[at] = i32::from(bytes[at].cast_signed());
        }
        codes
    }

    #[inline(always)]
    fn halves(self, bytes: [u8; CODES / 2]) -> Self::Codes {
        let mut codes = [0; CODES];
        for at in 0..CODES / 2 {
            codes[at] = i32::from(bytes[at] & 15);
            codes[at + CODES / 2] = i32::from(bytes[at] >> 4);
        }
        codes
    }

    #[inline(always)]
    fn bits(self, mut codes: Self::Codes, shift: usize, mask: u8) -> Self::Codes {
        for code in &mut codes {
            *code = (*code & 0xff) >> shift & i32::from(mask);
        }
        codes
    }

    #[inline(always)]
    fn up<const SHIFT: i32>(self, mut codes: Self::Codes) -> Self::Codes {
        for code in &mut codes {
            *code <<= SHIFT;
        }
        codes
    }

    #[inline(always)]
    fn or(self, mut a: Self::Codes, b: Self::Codes) -> Self::Codes {
        for at in 0..CODES {
            a[at] |= b[at];
        }
        a
    }

    #[inline(always)]
    fn less(self, mut codes: Self::Codes, number: u8) -> Self::Codes {
        for code in &mut codes {
            *code -= i32::from(number);
        }
        codes
    }

    #[inline(always)]
    fn sixteens(self, bits: u32) -> Self::Codes {
        let mut codes = [0; CODES];
        for (at, code) in codes.iter_mut().enumerate() {
            *code = i32::from(bits >> at & 1 == 1) << 4;
        }
        codes
    }

    #[inline(always)]
    fn look_up(self, mut codes: Self::Codes, table: [i8; 16]) -> Self::Codes {
        for code in &mut codes {
            *code = i32::from(table[(*code & 15) as usize]);
        }
        codes
    }

    #[inline(always)]
    #[expect(clippy::cast_precision_loss)] // they have eight bits
    fn write(self, codes: Self::Codes, scales: [f32; 2], then: Then, out: &mut [f32; CODES]) {
        let halves = out.as_chunks_mut::<{ CODES / 2 }>().0.iter_mut();
        for ((out, codes), scale) in halves.zip(codes.as_chunks().0).zip(scales) {
            let codes: &[i32; CODES / 2] = codes;
            for (out, code) in out.iter_mut().zip(codes) {
                let number = *code as f32 * scale;
                *out = match then {
                    Then::Nothing => number,
                    Then::Add(more) => number + more,
                    Then::Less(less) => number - less,
                };
            }
        }
    }

    #[inline(always)]
    fn numbers(
        self,
        (table, scale): (&Table, f32),
        bytes: [u8; CODES / 2],
        first: First,
        out: &mut [f32; CODES],
    ) {
        for (numbers, byte) in out.as_chunks_mut().0.iter_mut().zip(bytes) {
            *numbers = pair(table, byte, first).map(|number| number * scale);
        }
    }
}
