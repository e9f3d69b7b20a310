//! Weights that are drawn, as transformers draws them.

use rayon::prelude::*;

use crate::random::Stream;

/// How they are distributed.
#[derive(Clone, Copy)]
pub enum Fill {
    /// Normal numbers.
    Normal,
    /// Ones.
    Ones,
    /// Zeros.
    Zeros,
    /// Logarithms of uniform rates of decay.
    LogRates,
}

impl Fill {
    /// So many; normal ones times `range`.
    pub fn values(self, count: usize, stream: Stream, range: f64) -> Vec<f32> {
        match self {
            Self::Ones => vec![1.0; count],
            Self::Zeros => vec![0.0; count],
            #[expect(clippy::cast_possible_truncation)] // weights are f32
            Self::LogRates => {
                let rate = |index| stream.uniform(index).mul_add(15.99, 0.01);
                (0..count as u64).map(|index| rate(index).ln() as f32).collect()
            }
            #[expect(clippy::cast_possible_truncation)] // weights are f32
            Self::Normal => (0..count as u64)
                .into_par_iter()
                .map(|index| (range * stream.normal(index)) as f32)
                .collect(),
        }
    }
}
