//! Which validation is the best so far, and when a run stops because none was better for long.
//! All of it follows from the validations that a checkpoint has, so nothing more is saved.

use crate::event::Evaluation;

/// Validations of trained weights that compare with the newest: measured on as many target tokens.
fn comparable(evaluations: &[Evaluation]) -> impl Iterator<Item = &Evaluation> {
    let tokens = evaluations.last().map(|last| last.target_tokens);
    evaluations.iter().filter(move |found| found.step > 0 && Some(found.target_tokens) == tokens)
}

/// Validations of trained weights, the best first; of equal ones the newer.
pub fn best_first(evaluations: &[Evaluation]) -> Vec<&Evaluation> {
    let mut all: Vec<_> = comparable(evaluations).collect();
    all.sort_by(|a, b| a.criterion().total_cmp(&b.criterion()).then_with(|| b.step.cmp(&a.step)));
    all
}

/// When a run stops before its last step: as `EarlyStoppingCallback` of transformers decides it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// So many validations in a row without an improvement end the run.
    pub patience: u64,
    /// By how much the loss has to fall below the least before to be an improvement, or the reward
    /// to rise above the greatest.
    pub threshold: f64,
}

impl EarlyStopping {
    /// The step of the validation that ended the run; `None` if it goes on.
    pub fn stopped_at(&self, evaluations: &[Evaluation]) -> Option<u64> {
        let (mut least, mut waited) = (f64::INFINITY, 0);
        for found in comparable(evaluations) {
            waited = if found.criterion() < least - self.threshold { 0 } else { waited + 1 };
            least = least.min(found.criterion());
            if waited >= self.patience {
                return Some(found.step);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(list: &[f64]) -> Vec<Evaluation> {
        let found = |(step, eval_loss): (u64, &f64)| Evaluation {
            step,
            eval_loss: *eval_loss,
            target_tokens: 5,
            metrics: std::collections::BTreeMap::new(),
        };
        (0..).zip(list).map(found).collect()
    }

    #[test]
    fn the_best_is_the_least_loss_of_trained_weights_and_the_newer_of_two() {
        let steps = |list: &[f64]| -> Vec<u64> {
            best_first(&losses(list)).iter().map(|found| found.step).collect()
        };
        assert_eq!(steps(&[0.1, 3.0, 2.0, 2.0, 2.5]), [3, 2, 4, 1]);
        assert!(steps(&[0.1]).is_empty());
        // Measured on other records, a loss is another loss.
        let mut all = losses(&[9.0, 1.0, 3.0, 2.0]);
        all[1].target_tokens = 4;
        assert_eq!(best_first(&all).len(), 2);
    }

    #[test]
    fn a_run_stops_after_so_many_validations_without_improvement() {
        let stopped = |patience, threshold, list: &[f64]| {
            EarlyStopping { patience, threshold }.stopped_at(&losses(list))
        };
        let falling = [9.0, 5.0, 4.0, 3.0, 2.0];
        assert_eq!(stopped(1, 0.0, &falling), None);
        // Each after the first improves by one, which is not more than one.
        assert_eq!(stopped(1, 1.0, &falling), Some(2));
        assert_eq!(stopped(3, 1.0, &falling), Some(4));
        let list = [9.0, 5.0, 6.0, 4.9, 5.0, 4.9, 1.0];
        assert_eq!(stopped(1, 0.0, &list), Some(2));
        assert_eq!(stopped(2, 0.0, &list), Some(5), "equally good is no improvement");
        assert_eq!(stopped(3, 0.0, &list), None);
        // Below the threshold the least loss moves all the same, as in transformers.
        assert_eq!(stopped(2, 0.5, &[9.0, 5.0, 4.7, 4.4, 4.1]), Some(3));
    }
}
