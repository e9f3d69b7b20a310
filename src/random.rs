//! Numbers from (seed, stream, counter): pure functions, so there is nothing to save.
//!
//! The generator is SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
//! number generators") applied to a key and a counter. It is not for cryptography.

/// Mixes 64 bits so that every input bit touches every output bit.
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One stream of numbers; two streams with different keys are unrelated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of a run's seed.
    pub const fn new(seed: u64) -> Self {
        Self { key: mix(seed ^ 0x9e37_79b9_7f4a_7c15) }
    }

    /// The stream for one place in the program, named.
    #[must_use]
    pub fn site(self, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
        });
        self.number(hash)
    }

    /// The stream for one step, epoch, window, layer, …
    #[must_use]
    pub const fn number(self, number: u64) -> Self {
        Self { key: mix(self.key.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(number)) }
    }

    /// 64 bits at a counter.
    pub const fn bits(self, counter: u64) -> u64 {
        mix(self.key.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number in [0, 1) with 53 random bits.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit a double exactly
    pub const fn uniform(self, counter: u64) -> f64 {
        (self.bits(counter) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A number from the standard normal distribution (Box–Muller, the cosine half).
    pub fn normal(self, counter: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * counter)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * counter + 1)).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pure_and_distinct() {
        let a = Stream::new(1).site("lora").number(3);
        assert_eq!(a.bits(7), Stream::new(1).site("lora").number(3).bits(7));
        assert_ne!(a.bits(7), Stream::new(2).site("lora").number(3).bits(7));
        assert_ne!(a.bits(7), Stream::new(1).site("drop").number(3).bits(7));
        assert_ne!(a.bits(7), a.bits(8));
    }

    #[test]
    fn moments_are_right() {
        let stream = Stream::new(5);
        let n = 100_000;
        let mean = (0..n).map(|i| stream.uniform(i)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let (sum, square) =
            (0..n).map(|i| stream.normal(i)).fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        assert!((sum / n as f64).abs() < 0.02);
        assert!((square / n as f64 - 1.0).abs() < 0.03);
    }
}
