//! Rotary position embedding (Su et al. 2021) in the half-rotation form of transformers.

use burn::tensor::{Device, Tensor};

use crate::ops::{RopeScaling, from_vec};

/// Angular speed of each of the `head_dim / 2` planes.
#[derive(Debug, Clone)]
pub struct Frequencies {
    speeds: Vec<f32>,
}

impl Frequencies {
    /// Speeds `theta^(−2i / head_dim)`, scaled; f32 arithmetic, as the reference has it.
    pub fn new(theta: f32, head_dim: usize, scaling: RopeScaling) -> Self {
        let speeds = (0..head_dim / 2)
            .map(|plane| {
                #[expect(clippy::cast_precision_loss)] // head sizes are small
                let exponent = (2 * plane) as f32 / head_dim as f32;
                scaled(1.0 / theta.powf(exponent), scaling)
            })
            .collect();
        Self { speeds }
    }

    /// How many times slower each plane turns than without scaling.
    pub fn stretches(theta: f32, head_dim: usize, scaling: RopeScaling) -> Vec<f32> {
        let plain = Self::new(theta, head_dim, RopeScaling::None);
        let slow = Self::new(theta, head_dim, scaling);
        plain.speeds.iter().zip(slow.speeds).map(|(plain, slow)| plain / slow).collect()
    }

    /// Cosines and sines for each position, `[tokens, 1, head_dim]` each; both halves are equal.
    pub fn tables(&self, positions: &[u32], device: &Device) -> (Tensor<3>, Tensor<3>) {
        let width = 2 * self.speeds.len();
        let mut cosines = Vec::with_capacity(positions.len() * width);
        let mut sines = Vec::with_capacity(positions.len() * width);
        for &position in positions {
            for _ in 0..2 {
                for speed in &self.speeds {
                    #[expect(clippy::cast_precision_loss)] // the reference rounds here too
                    let angle = position as f32 * speed;
                    cosines.push(angle.cos());
                    sines.push(angle.sin());
                }
            }
        }
        let shape = [positions.len(), 1, width];
        (from_vec(cosines, shape, device), from_vec(sines, shape, device))
    }
}

fn scaled(speed: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => speed,
        RopeScaling::Linear { factor } => speed / factor,
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original } => {
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
    }
}

/// Rotates `x: [tokens, heads, head_dim]` by the angles of its positions.
pub fn rotate(x: Tensor<3>, cosines: &Tensor<3>, sines: &Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let [left, right] = [x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half)];
    let turned = Tensor::cat(vec![right.neg(), left], 2);
    x * cosines.clone() + turned * sines.clone()
}
