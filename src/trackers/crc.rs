//! Checksums of records.

/// A CRC of 32 bits with a polynomial, its bits the other way round; a bit at a time: what trackers
/// write is small.
pub fn crc32(bytes: &[u8], polynomial: u32) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { polynomial } else { 0 };
        }
    }
    !crc
}
