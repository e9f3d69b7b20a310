//! The learning rate as a pure function of the step: nothing to save, nothing to drift.

/// How the rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Stays at the peak.
    Constant,
    /// Falls on a straight line to the end value.
    Linear,
    /// Falls on half a cosine to the end value (Loshchilov, Hutter 2016).
    Cosine,
    /// Stays at the peak, then falls on a straight line during the last share of the steps
    /// (warm-up–stable–decay, Hu et al. 2024).
    Wsd {
        /// Share of all steps spent falling, in (0, 1].
        decay_ratio: f64,
    },
}

/// A whole schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Steps on which the rate rises; step 1 already has peak / warm-up.
    pub warmup_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Rate at the end as a share of the peak.
    pub min_ratio: f64,
    /// What comes after the warm-up.
    pub shape: Shape,
}

/// The rate of `step`, counted from 1.
#[expect(clippy::cast_precision_loss)] // step counts stay far below 2^53
pub fn learning_rate(schedule: &Schedule, step: u64) -> f64 {
    let Schedule { peak, warmup_steps, total_steps, min_ratio, shape } = *schedule;
    if step <= warmup_steps {
        return peak * step as f64 / warmup_steps as f64;
    }
    let falling = |begin: f64| {
        let length = (total_steps as f64 - begin).max(1.0);
        // The first step of the fall still has the peak, as in transformers' schedules.
        ((step as f64 - 1.0 - begin) / length).clamp(0.0, 1.0)
    };
    let share = match shape {
        Shape::Constant => return peak,
        Shape::Linear => 1.0 - falling(warmup_steps as f64),
        Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * falling(warmup_steps as f64)).cos()),
        Shape::Wsd { decay_ratio } => {
            1.0 - falling((total_steps as f64 * (1.0 - decay_ratio)).max(warmup_steps as f64))
        }
    };
    peak * (min_ratio + (1.0 - min_ratio) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, warmup_steps: u64, min_ratio: f64) -> Vec<f64> {
        let schedule = Schedule { peak: 1.0, warmup_steps, total_steps: 10, min_ratio, shape };
        (1..=10).map(|step| (learning_rate(&schedule, step) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn shapes_are_as_documented() {
        assert_eq!(rates(Shape::Constant, 2, 0.0), [0.5, 1., 1., 1., 1., 1., 1., 1., 1., 1.]);
        assert_eq!(
            rates(Shape::Linear, 2, 0.0),
            [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
        );
        let cosine = rates(Shape::Cosine, 0, 0.1);
        assert!((cosine[0] - 1.0).abs() < 1e-9 && (cosine[5] - 0.55).abs() < 1e-6);
        assert!(cosine.windows(2).all(|pair| pair[0] > pair[1]) && cosine[9] > 0.1);
        assert_eq!(
            rates(Shape::Wsd { decay_ratio: 0.4 }, 0, 0.0),
            [1., 1., 1., 1., 1., 1., 1., 0.75, 0.5, 0.25]
        );
    }

    #[test]
    fn a_longer_constant_or_wsd_run_begins_the_same() {
        for shape in [Shape::Constant, Shape::Wsd { decay_ratio: 0.2 }] {
            let at = |total_steps, step| {
                let schedule =
                    Schedule { peak: 3e-4, warmup_steps: 3, total_steps, min_ratio: 0.0, shape };
                learning_rate(&schedule, step).to_bits()
            };
            assert!((1..=8).all(|step| at(10, step) == at(20, step)));
        }
    }
}
