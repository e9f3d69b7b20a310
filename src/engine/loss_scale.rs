//! What the loss is multiplied with, so that small gradients are not lost when they are rounded to
//! f16 (Micikevicius et al. 2017): a pure transition from step to step, kept in checkpoints.

use serde::{Deserialize, Serialize};

/// The scale of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// A power of two: multiplying with it rounds nothing.
    pub scale: f64,
    /// Steps since the scale changed.
    pub good_steps: u32,
}

/// Where a run begins; as `torch.amp.GradScaler` does, which also halves and doubles.
const FIRST: f64 = 65_536.0;
/// It doubles after so many steps without overflow. PyTorch waits for 2000, longer than most
/// fine-tuning takes.
const GROW_AFTER: u32 = 500;
/// Beyond it nothing is gained: f32 sums keep smaller gradients anyway.
const LARGEST: f64 = 16_777_216.0;
/// Below it a product that is too large was so before it was scaled.
pub const SMALLEST: f64 = 1.0 / 65_536.0;

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: FIRST, good_steps: 0 }
    }
}

impl LossScale {
    /// The scale of the next step; `overflow` when this one's gradient was not finite.
    #[must_use]
    pub fn after(self, overflow: bool) -> Self {
        match overflow {
            true => Self { scale: self.scale / 2.0, good_steps: 0 },
            false if self.good_steps + 1 >= GROW_AFTER => {
                Self { scale: (self.scale * 2.0).min(LARGEST), good_steps: 0 }
            }
            false => Self { good_steps: self.good_steps + 1, ..self },
        }
    }

    /// Whether halving it again is hopeless.
    pub fn is_exhausted(self) -> bool {
        self.scale < SMALLEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_once_and_doubles_after_many_good_steps() {
        let start = LossScale::default();
        let halved = start.after(true);
        assert_eq!(halved, LossScale { scale: FIRST / 2.0, good_steps: 0 });
        let almost = (1..GROW_AFTER).fold(halved, |scale, _| scale.after(false));
        assert_eq!(almost.scale, FIRST / 2.0);
        assert_eq!(almost.after(false), start, "back again");
        // One overflow in between, and the count restarts.
        assert_eq!(almost.after(true).after(false).good_steps, 1);
    }

    #[test]
    fn it_stays_a_power_of_two_within_bounds() {
        let mut scale = LossScale::default();
        for _ in 0..20 * GROW_AFTER {
            scale = scale.after(false);
        }
        assert_eq!(scale.scale, LARGEST);
        let mut halvings = 0;
        while !scale.is_exhausted() {
            scale = scale.after(true);
            assert_eq!(scale.scale.log2().fract(), 0.0);
            halvings += 1;
        }
        assert_eq!(halvings, 41, "from 2^24 to 2^-17");
    }

    #[test]
    fn it_comes_back_from_a_file_as_it_was() {
        let scale = LossScale { scale: 0.5, good_steps: 7 };
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
