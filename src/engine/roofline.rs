//! How long a step would take on a card that computes and moves as its data sheet says: a bound for
//! each launch by what it moves and computes (Williams et al. 2009), and what the host needs to
//! launch. Nothing of it is measured on a card.

use serde::Serialize;

use super::step_work::{Launched, ModelShape, StepShape};
use crate::device::{Arithmetic, DeviceLimits};
use crate::ops::Heads;

/// A card, as its maker describes it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Card {
    /// Its name.
    pub name: &'static str,
    /// Bytes of its memory.
    pub memory: f64,
    /// Bytes a second to and from it.
    pub bandwidth: f64,
    /// Operations a second by ordinary units, in 32 bits.
    pub vector: f64,
    /// Operations a second by units that multiply matrices of 16 bits and sum in 32, of matrices
    /// without zeros that are left out.
    pub matrix: f64,
    /// Where the numbers are from.
    pub source: &'static str,
}

/// The cards.
pub const CARDS: [Card; 5] = [
    Card {
        name: "RTX 3060 12 GB",
        memory: 12e9,
        bandwidth: 360e9,
        vector: 12.7e12,
        matrix: 25.5e12,
        source: "NVIDIA, GeForce RTX 3060 specifications; matrices: 112 units of 128 operations a \
                 clock at 1.78 GHz, as the Ampere GA102 whitepaper counts those of its cards",
    },
    Card {
        name: "RTX 4090",
        memory: 24e9,
        bandwidth: 1008e9,
        vector: 82.6e12,
        matrix: 165.2e12,
        source: "NVIDIA, Ada GPU architecture whitepaper",
    },
    Card {
        name: "H100 SXM",
        memory: 80e9,
        bandwidth: 3350e9,
        vector: 67e12,
        matrix: 989.4e12,
        source: "NVIDIA, H100 data sheet",
    },
    Card {
        name: "RX 7900 XTX",
        memory: 24e9,
        bandwidth: 960e9,
        vector: 61.4e12,
        matrix: 122.8e12,
        source: "AMD, Radeon RX 7900 XTX specifications",
    },
    Card {
        name: "Apple M1 Max",
        memory: 64e9,
        bandwidth: 400e9,
        vector: 10.4e12,
        matrix: 10.4e12,
        source: "Apple, M1 Max at its presentation; products by the ordinary units",
    },
];

/// A model and the rows of a step.
#[derive(Debug, Clone, Copy)]
pub struct PredictedModel {
    /// Its name.
    pub name: &'static str,
    /// How wide it is.
    pub shape: ModelShape,
    /// Rows of a micro-batch, and tokens in each.
    pub rows: (usize, usize),
}

/// Models of three sizes, with a few rows of 512 tokens.
pub const PREDICTED_MODELS: [PredictedModel; 3] = [
    PredictedModel {
        name: "SmolLM2-135M",
        shape: ModelShape {
            layers: 30,
            hidden: 576,
            intermediate: 1536,
            heads: Heads { queries: 9, kv_heads: 3, width: 64 },
            vocabulary: 49_152,
            tied: true,
        },
        rows: (4, 512),
    },
    PredictedModel {
        name: "Llama-3.2-1B",
        shape: ModelShape {
            layers: 16,
            hidden: 2048,
            intermediate: 8192,
            heads: Heads { queries: 32, kv_heads: 8, width: 64 },
            vocabulary: 128_256,
            tied: true,
        },
        rows: (2, 512),
    },
    PredictedModel {
        name: "Llama-3.1-8B",
        shape: ModelShape {
            layers: 32,
            hidden: 4096,
            intermediate: 14_336,
            heads: Heads { queries: 32, kv_heads: 8, width: 128 },
            vocabulary: 128_256,
            tied: false,
        },
        rows: (1, 512),
    },
];

/// Rank of the adapters, and positions whose logits are made at once.
const RANK: usize = 16;
const CHUNK: usize = 1024;
/// Numbers of a card's tensors are counted in 32 bits, and products stay below a TFLOP.
const CARD_LIMITS: DeviceLimits =
    DeviceLimits { tensor_bytes: 4 * i32::MAX as u64, dispatch_flops: 1_000_000_000_000 };
/// Buffers of a kernel: those of cards are many.
const BINDINGS: usize = 128;
/// Seconds that the host needs to launch a kernel: 11 to 16 µs were measured on a driver that does
/// nothing.
const LAUNCH: f64 = 15e-6;

/// A step on a card, predicted.
#[derive(Debug, Clone, Serialize)]
pub struct PredictedStep {
    /// The model.
    pub model: &'static str,
    /// Rows of the micro-batch, and tokens in each.
    pub rows: (usize, usize),
    /// The card.
    pub card: &'static str,
    /// How is multiplied.
    pub arithmetic: &'static str,
    /// Launches of a step.
    pub launches: usize,
    /// Bytes that its kernels move.
    pub bytes: usize,
    /// Of a perfectly fused step.
    pub ideal_bytes: usize,
    /// Operations.
    pub flops: usize,
    /// Whether frozen weights alone leave room in the card's memory.
    pub fits: bool,
    /// Seconds that the card needs for its kernels.
    pub device_seconds: f64,
    /// Seconds that the host needs to launch them.
    pub host_seconds: f64,
    /// Both together: nothing is done at the same time.
    pub step_seconds: f64,
    /// Tokens a second at that.
    pub tokens_per_second: f64,
}

impl PredictedModel {
    /// A step of it on a card, where every position has a target.
    pub fn step(&self) -> StepShape {
        StepShape {
            model: self.shape,
            rank: RANK,
            rows: self.rows,
            targets: self.rows.0 * self.rows.1,
            chunk: CHUNK,
            pad_multiple: 64,
            arithmetic: Arithmetic::MixedF16,
            limits: CARD_LIMITS,
            bindings: BINDINGS,
        }
    }

    #[expect(clippy::cast_precision_loss)] // they are predictions
    fn on(&self, card: &Card) -> PredictedStep {
        let step = self.step();
        let all = step.step();
        let sum = |of: fn(&Launched) -> usize| all.iter().map(of).sum::<usize>();
        let launches = sum(|one| one.count);
        let device_seconds = all.iter().map(|one| card.seconds(one, step.arithmetic)).sum();
        let host_seconds = launches as f64 * LAUNCH;
        let step_seconds = device_seconds + host_seconds;
        let weights = self.shape.numbers() * step.arithmetic.factors().size();
        PredictedStep {
            model: self.name,
            rows: self.rows,
            card: card.name,
            arithmetic: step.arithmetic.name(),
            launches,
            bytes: sum(|one| one.bytes),
            ideal_bytes: step.ideal().total(),
            flops: sum(|one| one.flops),
            fits: (weights as f64) < card.memory,
            device_seconds,
            host_seconds,
            step_seconds,
            tokens_per_second: step.tokens() as f64 / step_seconds,
        }
    }
}

impl Card {
    /// What some launches take, each as long as its bytes or its operations do.
    #[expect(clippy::cast_precision_loss)] // they are predictions
    fn seconds(&self, work: &Launched, arithmetic: Arithmetic) -> f64 {
        let by_matrices = work.kernel == "MatmulEntry" && arithmetic != Arithmetic::F32;
        let peak = if by_matrices { self.matrix } else { self.vector };
        (work.bytes as f64 / self.bandwidth).max(work.flops as f64 / peak)
    }
}

/// A step of each model on each card.
pub fn predicted_steps() -> Vec<PredictedStep> {
    let of = |model: &PredictedModel| CARDS.map(|card| model.on(&card));
    PREDICTED_MODELS.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_takes_as_long_as_what_there_is_more_of() {
        let card = Card { bandwidth: 100.0, vector: 10.0, matrix: 1000.0, ..CARDS[0] };
        let work = |kernel, bytes, flops| Launched { kernel, count: 1, bytes, flops };
        let seconds = |work, arithmetic| card.seconds(&work, arithmetic);
        let (f32, f16) = (Arithmetic::F32, Arithmetic::MixedF16);
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-12, "{found}");
        near(seconds(work("NormForward", 200, 10), f16), 2.0);
        near(seconds(work("NormForward", 200, 40), f16), 4.0);
        near(seconds(work("MatmulEntry", 200, 40), f16), 2.0);
        near(seconds(work("MatmulEntry", 200, 40), f32), 4.0);
    }

    /// Otherwise what is predicted is of other kernels than those that would run.
    #[test]
    fn the_formula_holds_for_what_is_predicted() {
        for model in PREDICTED_MODELS {
            assert!(model.step().holds(), "{}", model.name);
        }
        let numbers = PREDICTED_MODELS.map(|model| model.shape.numbers());
        // As their cards say, without norms.
        assert_eq!(numbers, [134_479_872, 1_235_746_816, 8_029_995_008]);
        assert!(predicted_steps().iter().all(|step| step.bytes > step.ideal_bytes));
    }

    /// Longer rows than 2048 tokens take no more launches of a layer than short ones.
    #[test]
    fn long_rows_stay_within_the_launches_of_a_layer() {
        const MOST: usize = 60; // as `tests/fixtures/launches.json` has it
        let count = |all: Vec<Launched>| all.iter().map(|one| one.count).sum::<usize>();
        for model in PREDICTED_MODELS {
            let step = StepShape { rows: (1, 4096), ..model.step() };
            assert!(step.holds(), "{}", model.name);
            assert_eq!(count(step.layer()), count(model.step().layer()), "{}", model.name);
            let of_update = count(step.update()).div_ceil(step.model.layers);
            let found = count(step.layer()) + of_update;
            assert!(found <= MOST, "{}: {found} launches of a layer", model.name);
        }
    }

    /// What is above one and a half times is fused too little; more than today it is not to be.
    #[test]
    fn steps_move_a_few_times_the_bytes_of_perfectly_fused_ones() {
        let most = [
            [3.85, 2.80, 1.50, 11.6, 3.87],
            [2.80, 2.80, 1.50, 3.61, 2.83],
            [1.81, 2.80, 1.50, 2.46, 1.84],
        ];
        for (model, most) in PREDICTED_MODELS.iter().zip(most) {
            let step = model.step();
            for ((part, times), most) in step.moved().over(&step.ideal()).into_iter().zip(most) {
                assert!((1.0..=most).contains(&times), "{}, {part}: {times}", model.name);
            }
        }
    }

    #[test]
    fn weights_that_are_larger_than_the_memory_do_not_fit() {
        let all = predicted_steps();
        let fits = |model, card| {
            all.iter().find(|step| step.model == model && step.card == card).unwrap().fits
        };
        assert!(!fits("Llama-3.1-8B", "RTX 3060 12 GB") && fits("Llama-3.1-8B", "RTX 4090"));
    }
}
