//! How fast a run is, over its newest steps.

use std::collections::VecDeque;

/// What the newest steps cost.
#[derive(Debug, Default)]
pub struct RecentSteps {
    /// Tokens and seconds of each.
    steps: VecDeque<(u64, f64)>,
}

impl RecentSteps {
    /// So many steps are averaged.
    pub const MAX: usize = 20;

    /// Adds a step of so many tokens, which took so many seconds.
    pub fn add(&mut self, tokens: u64, seconds: f64) {
        self.steps.push_back((tokens, seconds));
        if self.steps.len() > Self::MAX {
            self.steps.pop_front();
        }
    }

    fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.1).sum()
    }

    /// How fast they were; nothing before the first.
    #[expect(clippy::cast_precision_loss)] // for display
    pub fn tokens_per_second(&self) -> Option<f64> {
        let tokens: u64 = self.steps.iter().map(|step| step.0).sum();
        let seconds = self.seconds();
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }

    /// Seconds that so many steps will take at that speed.
    #[expect(clippy::cast_precision_loss)] // for display
    pub fn seconds_of(&self, steps: u64) -> Option<f64> {
        let each = (!self.steps.is_empty()).then(|| self.seconds() / self.steps.len() as f64)?;
        Some(each * steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_newest_steps() {
        let mut recent = RecentSteps::default();
        assert_eq!((recent.tokens_per_second(), recent.seconds_of(3)), (None, None));
        recent.add(1000, 100.0);
        (0..RecentSteps::MAX).for_each(|_| recent.add(30, 2.0));
        assert_eq!((recent.tokens_per_second(), recent.seconds_of(3)), (Some(15.0), Some(6.0)));
    }
}
