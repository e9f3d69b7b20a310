//! Rotary position embedding (Su et al. 2021) in the half-rotation form of transformers. How long
//! contexts change the frequencies is that of its `modeling_rope_utils.py`, in f32 as there.

use burn::tensor::{Device, Tensor};

#[cfg(feature = "gpu")]
use crate::ops::gpu;
use crate::ops::{Heads, QueryScale, RopeScaling, from_vec};

/// Cosines and sines by position, `[tokens, 1, width]` each; both halves are equal.
pub type Angles = (Tensor<3>, Tensor<3>);

/// How the tokens of a micro-batch are rotated.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Queries.
    pub queries: Angles,
    /// Keys.
    pub keys: Angles,
}

/// Angular speeds of the planes of a head, and what cosines and sines are multiplied with.
#[derive(Debug, Clone)]
pub struct Frequencies {
    theta: f32,
    width: usize,
    scaling: RopeScaling,
    query_scale: Option<QueryScale>,
}

impl Frequencies {
    /// Speeds `theta^(−2i / width)`, scaled, of heads of which `width` numbers are rotated.
    pub fn new(theta: f32, width: usize, scaling: RopeScaling) -> Self {
        Self { theta, width, scaling, query_scale: None }
    }

    /// The same, with queries that are scaled by their positions.
    #[must_use]
    pub fn scaled(self, query_scale: Option<QueryScale>) -> Self {
        Self { query_scale, ..self }
    }

    /// How many times slower each plane turns than without scaling, in documents of a length.
    pub fn stretches(&self, length: u32) -> Vec<f32> {
        let plain = Self::new(self.theta, self.width, RopeScaling::None);
        let speeds = plain.speeds(length).into_iter().zip(self.speeds(length));
        speeds.map(|(plain, slow)| plain / slow).collect()
    }

    /// Whether texts of two lengths are rotated by other speeds.
    pub fn differ(&self, one: u32, other: u32) -> bool {
        match &self.scaling {
            RopeScaling::Dynamic { trained, .. } => one.max(*trained) != other.max(*trained),
            RopeScaling::LongRope { original, .. } => (one > *original) != (other > *original),
            _ => false,
        }
    }

    /// Whether the speeds follow from the length of a document.
    pub fn depend_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. } | RopeScaling::LongRope { .. })
    }

    /// What cosines and sines are multiplied with.
    pub fn attention_factor(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn { attention_factor, .. }
            | RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        }
    }

    /// Speeds of all planes in a document of a length.
    fn speeds(&self, length: u32) -> Vec<f32> {
        #[expect(clippy::cast_precision_loss)] // head sizes are small
        let plane = |theta: f32, i: usize| {
            let exponent = (2 * i) as f32 / self.width as f32;
            theta.powf(exponent)
        };
        let planes = 0..self.width / 2;
        let inverse = |theta: f32| planes.clone().map(move |i| 1.0 / plane(theta, i));
        match &self.scaling {
            RopeScaling::None => inverse(self.theta).collect(),
            RopeScaling::Linear { factor } => {
                inverse(self.theta).map(|speed| speed / factor).collect()
            }
            RopeScaling::Dynamic { factor, trained } => {
                inverse(self.dynamic_base(*factor, *trained, length)).collect()
            }
            RopeScaling::Llama3 { .. } => {
                inverse(self.theta).map(|speed| llama3(speed, &self.scaling)).collect()
            }
            RopeScaling::Yarn { factor, ramp, .. } => {
                let slow = planes.clone().map(|i| {
                    let period = plane(self.theta, i);
                    let kept = 1.0 - ramp_at(*ramp, i);
                    1.0 / (factor * period) * (1.0 - kept) + 1.0 / period * kept
                });
                slow.collect()
            }
            RopeScaling::LongRope { short, long, original, .. } => {
                let factors = if length > *original { long } else { short };
                let planes = planes.clone().zip(factors);
                planes.map(|(i, factor)| 1.0 / (factor * plane(self.theta, i))).collect()
            }
            RopeScaling::Proportional { planes, factor } => {
                let speeds = inverse(self.theta).enumerate();
                let turns = |i| if i < *planes { 1.0 } else { 0.0 };
                speeds.map(|(i, speed)| turns(i) * speed / factor).collect()
            }
        }
    }

    /// The base of documents that are longer than those of the training.
    #[expect(clippy::cast_precision_loss)] // as the reference has it
    fn dynamic_base(&self, factor: f32, trained: u32, length: u32) -> f32 {
        if length <= trained {
            return self.theta;
        }
        let longer = factor * length as f32 / trained as f32 - (factor - 1.0);
        let width = self.width as f32;
        self.theta * longer.powf(width / (width - 2.0))
    }

    /// Cosines and sines for each position. `lengths` are those of the document of each token,
    /// where speeds depend on them.
    pub fn tables(&self, positions: &[u32], lengths: &[u32], device: &Device) -> Rotary {
        let factor = self.attention_factor();
        let keys = self.angles(positions, lengths, |_| factor, device);
        let queries = match self.query_scale {
            None => keys.clone(),
            Some(scale) => {
                self.angles(positions, lengths, |position| factor * scale.at(position), device)
            }
        };
        Rotary { queries, keys }
    }

    fn angles(
        &self,
        positions: &[u32],
        lengths: &[u32],
        factor: impl Fn(u32) -> f32,
        device: &Device,
    ) -> Angles {
        let width = 2 * (self.width / 2);
        let mut cosines = Vec::with_capacity(positions.len() * width);
        let mut sines = Vec::with_capacity(positions.len() * width);
        let mut speeds = self.speeds(0);
        let mut known = 0;
        for (token, &position) in positions.iter().enumerate() {
            let length = lengths.get(token).copied().unwrap_or(0);
            if self.differ(length, known) {
                (speeds, known) = (self.speeds(length), length);
            }
            let factor = factor(position);
            for _ in 0..2 {
                for speed in &speeds {
                    #[expect(clippy::cast_precision_loss)] // the reference rounds here too
                    let angle = position as f32 * speed;
                    cosines.push(angle.cos() * factor);
                    sines.push(angle.sin() * factor);
                }
            }
        }
        let shape = [positions.len(), 1, width];
        (from_vec(cosines, shape, device), from_vec(sines, shape, device))
    }
}

impl QueryScale {
    /// What the queries at a position are multiplied with.
    #[expect(clippy::cast_precision_loss)] // as the reference has it
    fn at(self, position: u32) -> f32 {
        1.0 + self.beta * (1.0 + (position as f32 / self.original).floor()).ln()
    }
}

/// Frequencies that turn often within the original context stay, those that never do are slowed
/// down by the factor, with a ramp between.
fn llama3(speed: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original } =
        scaling
    else {
        return speed;
    };
    let wavelength = std::f32::consts::TAU / speed;
    if wavelength < original / high_frequency_factor {
        speed
    } else if wavelength > original / low_frequency_factor {
        speed / factor
    } else {
        let ramp = (original / wavelength - low_frequency_factor)
            / (high_frequency_factor - low_frequency_factor);
        (1.0 - ramp) * speed / factor + ramp * speed
    }
}

/// From zero at the first end of a ramp to one at the other.
#[expect(clippy::cast_precision_loss)] // head sizes are small
fn ramp_at([low, high]: [f32; 2], plane: usize) -> f32 {
    ((plane as f32 - low) / (high - low)).clamp(0.0, 1.0)
}

/// Rotates `x: [tokens, heads, head_dim]` by the angles of its positions: the first numbers of each
/// head, as many as there are angles.
pub fn rotate(x: Tensor<3>, (cosines, sines): &Angles) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    if gpu::holds(&x) {
        return gpu::rotate(x, cosines.clone(), sines.clone());
    }
    let (all, width) = (x.dims()[2], cosines.dims()[2]);
    if width < all {
        let kept = x.clone().narrow(2, width, all - width);
        let turned = rotate(x.narrow(2, 0, width), &(cosines.clone(), sines.clone()));
        return Tensor::cat(vec![turned, kept], 2);
    }
    let half = width / 2;
    let [left, right] = [x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half)];
    let turned = Tensor::cat(vec![right.neg(), left], 2);
    x * cosines.clone() + turned * sines.clone()
}

/// The same of queries and keys that lie beside each other and before values, which stay as they
/// are: `[tokens, queries · keys · values]`, on a GPU; none elsewhere.
pub fn rotate_beside(qkv: &Tensor<2>, rotary: &Rotary, heads: Heads) -> Option<Tensor<2>> {
    #[cfg(feature = "gpu")]
    if gpu::holds(qkv) {
        let Rotary { queries, keys } = rotary.clone();
        return Some(gpu::rotate_beside(qkv.clone(), queries, keys, heads));
    }
    let _ = (qkv, rotary, heads);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_the_length_of_a_document() {
        let longrope = RopeScaling::LongRope {
            short: vec![1.0, 2.0],
            long: vec![4.0, 8.0],
            original: 10,
            attention_factor: 1.2,
        };
        let longrope = Frequencies::new(100.0, 4, longrope);
        assert_eq!(longrope.speeds(10), [1.0, 0.05]);
        assert_eq!(longrope.speeds(11), [0.25, 0.0125]);
        let [short, long] = [10, 11];
        assert!(longrope.differ(short, long) && !longrope.differ(11, 12));
        let dynamic = RopeScaling::Dynamic { factor: 2.0, trained: 10 };
        let dynamic = Frequencies::new(100.0, 4, dynamic);
        assert_eq!(dynamic.speeds(10), [1.0, 0.1]);
        // 100 · (2 · 20 / 10 − 1)²
        assert!((dynamic.speeds(20)[1] - 900.0_f32.powf(-0.5)).abs() < 1e-7);
        assert!(dynamic.differ(11, 12) && !dynamic.differ(3, 10));
        // Tokens of documents of both kinds in one row.
        let positions = [0, 1, 0, 1];
        let rotary = longrope.tables(&positions, &[11, 11, 10, 10], &Device::flex());
        let cosines = crate::ops::host(rotary.keys.0);
        for (token, speeds) in [(1, [0.25_f32, 0.0125]), (3, [1.0, 0.05])] {
            for (plane, speed) in speeds.into_iter().enumerate() {
                assert!((cosines[4 * token + plane] - 1.2 * speed.cos()).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn only_the_first_numbers_of_heads_are_rotated() {
        let device = Device::flex();
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let x: Tensor<3> = from_vec(numbers.clone(), [2, 1, 6], &device);
        let rotary = Frequencies::new(10.0, 4, RopeScaling::None).tables(&[0, 3], &[], &device);
        let turned = crate::ops::host(rotate(x, &rotary.keys));
        assert_eq!(turned[..6], numbers[..6]);
        assert_eq!(turned[10..], numbers[10..]);
        let (cosine, sine) = (3.0_f32.cos(), 3.0_f32.sin());
        assert!((turned[6] - (6.0 * cosine - 8.0 * sine)).abs() < 1e-5);
        assert!((turned[8] - (8.0 * cosine + 6.0 * sine)).abs() < 1e-5);
    }
}
