//! NEFTune (Jain et al. 2023): in training, uniform noise is added to what enters the first layer.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::model::Dropout;
use crate::ops::{Documents, from_vec};

/// The noise of a micro-batch: a pure function of its stream, whatever parts it is worked on in.
#[derive(Debug, Clone)]
pub struct EmbeddingNoise {
    /// How much: numbers are at most `alpha / √(tokens of the document · features)`.
    pub alpha: f64,
    /// Names step and micro-batch, and the numbers of tokens in it.
    pub tokens: Dropout,
}

impl EmbeddingNoise {
    /// Adds it to `x: [tokens, features]`.
    pub fn add(&self, x: Tensor<2>, documents: &Documents) -> Tensor<2> {
        let dims = x.dims();
        let noise = self.numbers(dims, documents);
        let noise = from_vec(noise, dims, &x.device());
        x + noise
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // f32 is wanted
    fn numbers(&self, [tokens, features]: [usize; 2], documents: &Documents) -> Vec<f32> {
        let mut most = vec![0.0; tokens];
        for (first, count) in documents.spans() {
            let most_here = self.alpha / ((count * features) as f64).sqrt();
            most[*first..first + count].fill(most_here);
        }
        let mut noise = vec![0.0; tokens * features];
        let rows = noise.par_chunks_mut(features).zip(&most).enumerate();
        rows.for_each(|(token, (row, most))| {
            // Padding has none: nothing sees it.
            let Some(number) = self.tokens.number(token).filter(|_| *most > 0.0) else { return };
            let stream = self.tokens.stream.number(number as u64);
            for (counter, number) in (0..).zip(row) {
                *number = ((2.0 * stream.uniform(counter) - 1.0) * most) as f32;
            }
        });
        noise
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::host;
    use crate::random::Stream;

    fn noise(alpha: f64, seed: u64) -> EmbeddingNoise {
        EmbeddingNoise { alpha, tokens: Stream::new(seed).into() }
    }

    /// As the hook of transformers: uniform between ± alpha / √(L · d), here for each document.
    #[test]
    fn noise_is_uniform_and_follows_the_length_of_the_document() {
        let mut of: Vec<u32> = vec![1; 400];
        of.extend([2; 100]);
        of.extend([0; 12]);
        let documents = Documents::new(&of, 1, of.len());
        let x = Tensor::zeros([512, 64], &Device::flex());
        let made = host(noise(5.0, 1).add(x, &documents));
        for (tokens, count) in [(0..400, 400.0_f64), (400..500, 100.0)] {
            let most = 5.0 / (count * 64.0).sqrt();
            let part: Vec<f64> =
                made[tokens.start * 64..tokens.end * 64].iter().map(|x| f64::from(*x)).collect();
            let numbers = part.len() as f64;
            let largest = part.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            let mean = part.iter().sum::<f64>() / numbers;
            let square = part.iter().map(|x| x * x).sum::<f64>() / numbers;
            assert!(largest <= most * 1.000_001 && largest > 0.99 * most, "{largest} {most}");
            assert!(mean.abs() < 0.03 * most, "{mean}");
            assert!((square / (most * most / 3.0) - 1.0).abs() < 0.05, "{square}");
        }
        assert!(made[500 * 64..].iter().all(|x| *x == 0.0), "padding has none");
    }

    #[test]
    fn parts_of_a_micro_batch_have_the_noise_of_the_whole() {
        let documents = Documents::new(&[1, 1, 1, 2, 2, 2], 2, 3);
        let whole = noise(5.0, 3).numbers([6, 4], &documents);
        assert_eq!(whole, noise(5.0, 3).numbers([6, 4], &documents));
        assert_ne!(whole, noise(5.0, 4).numbers([6, 4], &documents));
        // The second row by itself, with padding at its end.
        let numbers = Some([Some(3), Some(4), Some(5), None].into());
        let tokens = Dropout { stream: Stream::new(3), numbers };
        let part = EmbeddingNoise { alpha: 5.0, tokens };
        let part = part.numbers([4, 4], &Documents::new(&[2, 2, 2, 0], 1, 4));
        assert_eq!(part[..12], whole[12..]);
        assert!(part[12..].iter().all(|x| *x == 0.0));
    }
}
