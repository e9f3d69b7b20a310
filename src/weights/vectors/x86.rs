//! Codes as numbers with AVX2, and with AVX-512 where that has longer vectors for it.

use std::arch::x86_64::{__m128i, __m256i};

use pulp::cast;
use pulp::x86::{V3, V4};

use super::{CODES, First, Table, Then, Vectors};

impl Vectors for V3 {
    type Codes = __m256i;

    #[inline(always)]
    fn bytes(self, bytes: [u8; CODES]) -> __m256i {
        cast(bytes)
    }

    #[inline(always)]
    fn halves(self, bytes: [u8; CODES / 2]) -> __m256i {
        let bytes: __m128i = cast(bytes);
        let both = [bytes, self.sse2._mm_srli_epi16::<4>(bytes)];
        self.avx2._mm256_and_si256(cast(both), self.avx._mm256_set1_epi8(15))
    }

    #[inline(always)]
    fn bits(self, codes: __m256i, shift: usize, mask: u8) -> __m256i {
        // Bits of a neighbour come in above, and the mask has none of them.
        let mask = mask & (0xff >> shift);
        let shifted = self.avx2._mm256_srl_epi16(codes, cast([shift as u64, 0]));
        self.avx2._mm256_and_si256(shifted, self.avx._mm256_set1_epi8(mask.cast_signed()))
    }

    #[inline(always)]
    fn up<const SHIFT: i32>(self, codes: __m256i) -> __m256i {
        self.avx2._mm256_slli_epi16::<SHIFT>(codes)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn less(self, codes: __m256i, number: u8) -> __m256i {
        self.avx2._mm256_sub_epi8(codes, self.avx._mm256_set1_epi8(number.cast_signed()))
    }

    #[inline(always)]
    fn sixteens(self, bits: u32) -> __m256i {
        /// The byte that has the bit of each code, in both halves of a vector.
        const BYTES: [[u8; 8]; 4] = [[0; 8], [1; 8], [2; 8], [3; 8]];
        const BITS: [[u8; 8]; 4] = [[1, 2, 4, 8, 16, 32, 64, 128]; 4];
        let bytes = self.avx2._mm256_shuffle_epi8(cast([bits; 8]), cast(BYTES));
        let found = self.avx2._mm256_and_si256(bytes, cast(BITS));
        let set = self.avx2._mm256_cmpeq_epi8(found, cast(BITS));
        self.avx2._mm256_and_si256(set, self.avx._mm256_set1_epi8(16))
    }

    #[inline(always)]
    fn look_up(self, codes: __m256i, table: [i8; 16]) -> __m256i {
        self.avx2._mm256_shuffle_epi8(cast([table; 2]), codes)
    }

    #[inline(always)]
    fn write(self, codes: __m256i, scales: [f32; 2], then: Then, out: &mut [f32; CODES]) {
        let halves: [__m128i; 2] = cast(codes);
        let (eights, _) = out.as_chunks_mut::<8>();
        for half in 0..2 {
            let scale = self.avx._mm256_set1_ps(scales[half]);
            let codes = [halves[half], self.sse2._mm_srli_si128::<8>(halves[half])];
            for eight in 0..2 {
                let wide = self.avx2._mm256_cvtepi8_epi32(codes[eight]);
                let number = self.avx._mm256_mul_ps(self.avx._mm256_cvtepi32_ps(wide), scale);
                let number = match then {
                    Then::Nothing => number,
                    Then::Add(x) => self.avx._mm256_add_ps(number, self.avx._mm256_set1_ps(x)),
                    Then::Less(x) => self.avx._mm256_sub_ps(number, self.avx._mm256_set1_ps(x)),
                };
                eights[2 * half + eight] = cast(number);
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
        /// Fours of codes, so that what is unpacked twice within halves of vectors is in order.
        const ORDER: [u32; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let (sse, avx) = (self.sse2, self.avx2);
        let bytes: __m128i = cast(bytes);
        let (upper, lower) = (sse._mm_srli_epi16::<4>(bytes), bytes);
        let [a, b] = if first == First::Upper { [upper, lower] } else { [lower, upper] };
        let codes = cast([sse._mm_unpacklo_epi8(a, b), sse._mm_unpackhi_epi8(a, b)]);
        let codes = avx._mm256_and_si256(codes, self.avx._mm256_set1_epi8(15));
        let codes = avx._mm256_permutevar8x32_epi32(codes, cast(ORDER));
        let mut of = [codes; 4];
        for (of, bytes) in of.iter_mut().zip(table.bytes) {
            *of = avx._mm256_shuffle_epi8(cast([bytes; 2]), codes);
        }
        let scale = self.avx._mm256_set1_ps(scale);
        let (eights, _) = out.as_chunks_mut::<8>();
        let halves = [
            [avx._mm256_unpacklo_epi8(of[0], of[1]), avx._mm256_unpacklo_epi8(of[2], of[3])],
            [avx._mm256_unpackhi_epi8(of[0], of[1]), avx._mm256_unpackhi_epi8(of[2], of[3])],
        ];
        for half in 0..2 {
            let [a, b] = halves[half];
            let numbers = [avx._mm256_unpacklo_epi16(a, b), avx._mm256_unpackhi_epi16(a, b)];
            for eight in 0..2 {
                let number = self.avx._mm256_mul_ps(cast(numbers[eight]), scale);
                eights[2 * half + eight] = cast(number);
            }
        }
    }
}

impl Vectors for V4 {
    type Codes = __m256i;

    #[inline(always)]
    fn bytes(self, bytes: [u8; CODES]) -> __m256i {
        (*self).bytes(bytes)
    }

    #[inline(always)]
    fn halves(self, bytes: [u8; CODES / 2]) -> __m256i {
        (*self).halves(bytes)
    }

    #[inline(always)]
    fn bits(self, codes: __m256i, shift: usize, mask: u8) -> __m256i {
        (*self).bits(codes, shift, mask)
    }

    #[inline(always)]
    fn up<const SHIFT: i32>(self, codes: __m256i) -> __m256i {
        (*self).up::<SHIFT>(codes)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        (*self).or(a, b)
    }

    #[inline(always)]
    fn less(self, codes: __m256i, number: u8) -> __m256i {
        (*self).less(codes, number)
    }

    #[inline(always)]
    fn sixteens(self, bits: u32) -> __m256i {
        (*self).sixteens(bits)
    }

    #[inline(always)]
    fn look_up(self, codes: __m256i, table: [i8; 16]) -> __m256i {
        (*self).look_up(codes, table)
    }

    #[inline(always)]
    fn write(self, codes: __m256i, scales: [f32; 2], then: Then, out: &mut [f32; CODES]) {
        let avx = self.avx512f;
        let halves: [__m128i; 2] = cast(codes);
        let (sixteens, _) = out.as_chunks_mut::<16>();
        for half in 0..2 {
            let wide = avx._mm512_cvtepi32_ps(avx._mm512_cvtepi8_epi32(halves[half]));
            let number = avx._mm512_mul_ps(wide, avx._mm512_set1_ps(scales[half]));
            let number = match then {
                Then::Nothing => number,
                Then::Add(more) => avx._mm512_add_ps(number, avx._mm512_set1_ps(more)),
                Then::Less(less) => avx._mm512_sub_ps(number, avx._mm512_set1_ps(less)),
            };
            sixteens[half] = cast(number);
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
        let (sse, avx) = (self.sse2, self.avx512f);
        let bytes: __m128i = cast(bytes);
        let (upper, lower) = (sse._mm_srli_epi16::<4>(bytes), bytes);
        let [a, b] = if first == First::Upper { [upper, lower] } else { [lower, upper] };
        let codes = [sse._mm_unpacklo_epi8(a, b), sse._mm_unpackhi_epi8(a, b)];
        let scale = avx._mm512_set1_ps(scale);
        let (sixteens, _) = out.as_chunks_mut::<16>();
        for half in 0..2 {
            // The instruction looks at the lowest four bits.
            let wide = avx._mm512_cvtepu8_epi32(codes[half]);
            let numbers = avx._mm512_permutexvar_ps(wide, cast(table.numbers));
            sixteens[half] = cast(avx._mm512_mul_ps(numbers, scale));
        }
    }
}
