//! Blocks of MXFP4 as ggml has them, and as checkpoints of gpt-oss have them: the same codes in
//! another order. Source: `block_mxfp4` of `ggml-common.h`, and `modeling_gpt_oss.py`'s format.

/// Numbers in a block.
pub const CODES: usize = 32;
/// Bytes of the codes of a block.
pub const CODE_BYTES: usize = 16;
/// Bytes of a block in a GGUF file: the scale, then the codes.
pub const BLOCK_BYTES: usize = 1 + CODE_BYTES;

/// The codes of a block in the order of ggml, where a byte has number `i` and number `i + 16`, of
/// those of a checkpoint, where it has two neighbours; the first of both in the lower half.
pub fn to_ggml(codes: &[u8]) -> [u8; CODE_BYTES] {
    let code = |at: usize| codes[at / 2] >> (at % 2 * 4) & 15;
    std::array::from_fn(|at| code(at) | code(at + CODE_BYTES) << 4)
}

/// The other way round.
pub fn from_ggml(codes: &[u8]) -> [u8; CODE_BYTES] {
    let code = |at: usize| codes[at % CODE_BYTES] >> (at / CODE_BYTES * 4) & 15;
    std::array::from_fn(|at| code(2 * at) | code(2 * at + 1) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_change_places_and_come_back() {
        // Number i has the code i mod 16.
        let codes: [u8; 16] = std::array::from_fn(|at| {
            let low = u8::try_from(2 * at % 16).unwrap();
            low | (low + 1) << 4
        });
        assert_eq!(to_ggml(&codes), std::array::from_fn(|at| u8::try_from(at * 17).unwrap()));
        assert_eq!(from_ggml(&to_ggml(&codes)), codes);
    }
}
