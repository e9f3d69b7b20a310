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
    /// The same as often as said, each time from the peak again.
    CosineWithRestarts {
        /// How often it falls.
        cycles: u64,
    },
    /// Falls with a power of what is left of the steps, to the end value.
    Polynomial {
        /// The power.
        power: f64,
    },
    /// Falls with the inverse square root of the steps, from that of the warm-up's (Vaswani et al.
    /// 2017): it does not depend on how many there are.
    InverseSqrt,
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

/// Steps in which the inverse square root falls to 0.7 without a warm-up, as in transformers.
const INVERSE_SQRT_STEPS: f64 = 10_000.0;

/// From one to zero.
fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
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
        Shape::Cosine => half_cosine(falling(warmup_steps as f64)),
        Shape::CosineWithRestarts { cycles } => match falling(warmup_steps as f64) {
            1.0.. => 0.0,
            progress => half_cosine((progress * cycles as f64).fract()),
        },
        Shape::Polynomial { power } => (1.0 - falling(warmup_steps as f64)).powf(power),
        Shape::InverseSqrt => {
            let scale = if warmup_steps == 0 { INVERSE_SQRT_STEPS } else { warmup_steps as f64 };
            let shift = scale - warmup_steps as f64;
            return peak / ((step as f64 - 1.0 + shift) / scale).sqrt();
        }
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

    /// `tests/reference/schedules.py` made the file.
    #[test]
    fn rates_after_the_warm_up_are_those_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/schedules.json");
        let text = std::fs::read_to_string(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = [
            ("constant", Shape::Constant, 0.0),
            ("linear", Shape::Linear, 0.0),
            ("cosine", Shape::Cosine, 0.0),
            ("cosine-min", Shape::Cosine, 0.1),
            ("cosine-restarts-3", Shape::CosineWithRestarts { cycles: 3 }, 0.0),
            ("polynomial-2", Shape::Polynomial { power: 2.0 }, 0.1),
            ("inverse-sqrt", Shape::InverseSqrt, 0.0),
            ("wsd", Shape::Wsd { decay_ratio: 0.4 }, 0.1),
        ];
        assert_eq!(json.as_object().unwrap().len(), cases.len());
        for (name, shape, min_ratio) in cases {
            let schedule =
                Schedule { peak: 1.0, warmup_steps: 4, total_steps: 20, min_ratio, shape };
            let found: Vec<f64> = (5..=20).map(|step| learning_rate(&schedule, step)).collect();
            let wanted = json[name].as_array().unwrap();
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(wanted) {
                let wanted = wanted.as_f64().unwrap();
                assert!((found - wanted).abs() < 1e-9, "{name}: {found} and {wanted}");
            }
        }
    }

    #[test]
    fn a_longer_run_of_a_schedule_without_an_end_begins_the_same() {
        for shape in [Shape::Constant, Shape::Wsd { decay_ratio: 0.2 }, Shape::InverseSqrt] {
            let at = |total_steps, step| {
                let schedule =
                    Schedule { peak: 3e-4, warmup_steps: 3, total_steps, min_ratio: 0.0, shape };
                learning_rate(&schedule, step).to_bits()
            };
            assert!((1..=8).all(|step| at(10, step) == at(20, step)));
        }
    }
}
