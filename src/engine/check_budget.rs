//! On how much of a run's data gradients are compared before its first step, and what that costs.

use crate::model::Description;

/// Tokens that are compared at least, and at most.
const TOKENS: [u64; 2] = [16, 256];
/// So much is computed about, where more than the fewest tokens are taken. A product and its sum
/// are two operations, and a token takes six for each parameter, forward and backward. Kernels and
/// tensor operations together do twenty to twenty-five billion of them a second on two slow cores
/// (64 tokens of SmolLM2-135M: 52 billion in 2.2 s), so that this is four to five seconds.
const OPERATIONS: u64 = 100_000_000_000;
/// In so many operations' time a number is read from codes, or turned to be multiplied with.
const READING: u64 = 25;
/// Both ways read a frozen matrix forward, again to go back, and on the way back; and once more
/// forward where they compare with the base model. What is not counted: DoRA reads matrices for
/// their norms, and where rounding to 16 bits takes more than may be, tensor operations are asked
/// in 32 bits as well, which costs half as much again.
const READINGS: u64 = 6;
/// Where it takes longer, it may take this part of the run: less than 3 %.
const PART_OF_RUN: u64 = 34;
/// In so many operations' time a number of a base is read from files, hashed, and written to disk
/// as it is kept there: assumed to be 8 to 10 ns.
const LOADING: u64 = 200;
/// A GPU does at most so many times what two slow cores do in the same time; a fast one does not
/// stand beside two slow cores.
const GPU: u64 = 2000;
/// Numbers of scores over the vocabulary that are made at once, for sixteen targets at least.
const SCORES: usize = 1 << 20;

/// Target positions that have logits at the same time where gradients are compared, for a model
/// with so many outputs.
pub fn checked_chunk(outputs: usize) -> usize {
    (SCORES / outputs.max(1)).clamp(16, 256)
}

/// What comparing gradients costs, and may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckBudget {
    /// Operations of a token.
    of_token: u64,
    /// Operations of reading what is kept as codes.
    of_codes: u64,
    /// Those that the comparison may take.
    most: u64,
}

impl CheckBudget {
    /// For a model of whose frozen weights so many numbers are kept as codes, and a run over so
    /// many tokens; `reference` where it compares with the base model, which is a forward pass
    /// more.
    pub fn new(description: &Description, coded: u64, tokens_of_run: u64, reference: bool) -> Self {
        let more = u64::from(reference);
        let active = (6 + 2 * more) * description.active_parameters().max(1);
        let head = (description.outputs() * description.hidden) as u64;
        let turned = (2 + more) * READING * head / checked_chunk(description.outputs()) as u64;
        let run = active.saturating_mul(tokens_of_run);
        Self {
            of_token: active + turned,
            of_codes: (READINGS + 2 * more) * READING * coded,
            most: OPERATIONS.max(run / PART_OF_RUN),
        }
    }

    /// The same where a GPU trains, and the model is put on the CPU for the comparison alone.
    #[must_use]
    pub fn beside_gpu(self, description: &Description) -> Self {
        Self {
            of_codes: self.of_codes.saturating_add(LOADING.saturating_mul(description.parameters)),
            most: OPERATIONS.max(self.most / GPU),
            ..self
        }
    }

    /// How many tokens are compared.
    pub fn tokens(&self) -> usize {
        let tokens = OPERATIONS.saturating_sub(self.of_codes) / self.of_token;
        usize::try_from(tokens.clamp(TOKENS[0], TOKENS[1])).unwrap_or(usize::MAX)
    }

    /// Whether so many tokens cost no more than the comparison may.
    pub fn allows(&self, tokens: usize) -> bool {
        let work = self.of_token.saturating_mul(tokens as u64);
        work.saturating_add(self.of_codes) <= self.most
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::ComputeConfig;
    use crate::engine::parity::small_model;

    fn budget(of_token: u64, coded: u64, tokens_of_run: u64) -> CheckBudget {
        CheckBudget {
            of_token,
            of_codes: READINGS * READING * coded,
            most: OPERATIONS.max(of_token.saturating_mul(tokens_of_run) / PART_OF_RUN),
        }
    }

    #[test]
    fn small_models_are_compared_on_256_tokens_and_large_ones_on_16() {
        let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
        let small = CheckBudget::new(&model.description, 0, 100, false);
        assert_eq!(small.tokens(), 256);
        assert!(small.allows(256) && small.allows(1024));
        // 135 million parameters in 32 bits, and the same with layers in codes.
        let (numbers, of_token) = (135_000_000, 6 * 135_000_000);
        assert_eq!(budget(of_token, 0, 0).tokens(), 123);
        assert_eq!(budget(of_token, numbers, 0).tokens(), 98);
        // 8 billion.
        let (numbers, of_token) = (8_000_000_000, 6 * 8_000_000_000);
        assert_eq!(budget(of_token, 0, 0).tokens(), 16);
        assert_eq!(budget(of_token, numbers, 0).tokens(), 16);
    }

    #[test]
    fn a_reference_is_a_forward_pass_more() {
        let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
        let [plain, beside] =
            [false, true].map(|it| CheckBudget::new(&model.description, 600, 0, it));
        let parameters = model.description.active_parameters();
        assert!(beside.of_token >= plain.of_token + 2 * parameters);
        assert!(2 * beside.of_token <= 3 * plain.of_token);
        assert_eq!(6 * beside.of_codes, 8 * plain.of_codes);
    }

    #[test]
    fn what_takes_longer_takes_a_small_part_of_the_run() {
        let (numbers, of_token) = (8_000_000_000, 6 * 8_000_000_000);
        let is_allowed = |coded, tokens_of_run| {
            let budget = budget(of_token, coded, tokens_of_run);
            budget.allows(budget.tokens())
        };
        assert!(!is_allowed(0, 512) && is_allowed(0, 544));
        assert!(!is_allowed(numbers, 1024) && is_allowed(numbers, 2048));
        // Nothing overflows where a run never ends.
        assert!(is_allowed(numbers, u64::MAX));
        assert!(!budget(u64::MAX / 8, 0, 0).allows(usize::MAX));
    }

    #[test]
    fn beside_a_gpu_loading_counts_and_the_run_is_shorter() {
        let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
        let small = CheckBudget::new(&model.description, 0, 100, false);
        let beside = small.beside_gpu(&model.description);
        assert_eq!(beside.of_codes, LOADING * model.description.parameters);
        assert_eq!((beside.tokens(), beside.most), (256, OPERATIONS));
        let long = CheckBudget { most: 3 * GPU * OPERATIONS, ..small };
        assert_eq!(long.beside_gpu(&model.description).most, 3 * OPERATIONS);
    }

    #[test]
    fn what_is_computed_at_once_stays_small_whatever_the_vocabulary() {
        assert_eq!(checked_chunk(2), 256);
        assert_eq!(checked_chunk(4096), 256);
        assert_eq!(checked_chunk(49_152), 21);
        assert_eq!(checked_chunk(262_144), 16);
    }
}
