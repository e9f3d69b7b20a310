//! Numbers of four bits in blocks of 32 (E2M1 of the Open Compute Project's Microscaling Formats),
//! as checkpoints of gpt-oss and files of ggml have them.

/// Numbers of a block.
pub const BLOCK: usize = 32;
/// Bytes of the numbers of a block.
pub const BLOCK_BYTES: usize = BLOCK / 2;

/// Twice what four bits stand for, as whole numbers, as ggml has them: zero has no sign there.
pub const TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of two to the power of the scale less 127.
#[inline(always)]
pub fn half_power(scale: u8) -> f32 {
    match scale {
        0 | 1 => f32::from_bits(0x0020_0000 << scale), // below the smallest normal number
        _ => f32::from_bits(u32::from(scale - 1) << 23),
    }
}
