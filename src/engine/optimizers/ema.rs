//! An exponential moving average of the trained weights beside any rule of the update, as
//! `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn` makes it. The average is what
//! is measured, saved for use and published.

use burn::tensor::Tensor;

use super::parameter::{Kept, StateSpec, UpdatedParameter};
use super::{Moving, Optimizer, UpdateStep};

/// A rule, with the average of the weights that it makes.
#[derive(Debug)]
pub struct Averaging {
    /// The rule.
    pub rule: Box<dyn Optimizer>,
    /// How much of the average stays in each step.
    pub decay: f64,
}

impl Averaging {
    /// The average after a step; that of the first is what it made.
    fn after(&self, average: Kept, value: &Tensor<1>, step: UpdateStep) -> Kept {
        let value = value.clone();
        Kept::Numbers(match step.number {
            1 => value,
            _ => average.numbers().mul_scalar(self.decay) + value.mul_scalar(1.0 - self.decay),
        })
    }
}

impl Optimizer for Averaging {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        let mut specs = self.rule.state(parameter);
        specs.extend(StateSpec::each(&["ema"], parameter));
        specs
    }

    fn initial(&self, parameter: &UpdatedParameter, value: &Tensor<1>) -> Vec<Kept> {
        let mut state = self.rule.initial(parameter, value);
        state.push(Kept::Numbers(value.clone()));
        state
    }

    fn update(&self, mut moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let average = moving.state.pop().expect("the average is the last that is kept");
        let (value, mut state) = self.rule.update(moving, step);
        state.push(self.after(average, &value, step));
        (value, state)
    }

    fn update_together(
        &self,
        mut all: Vec<Moving>,
        factor: &Tensor<1>,
        step: UpdateStep,
    ) -> Vec<(Tensor<1>, Vec<Kept>)> {
        let averages: Vec<Option<Kept>> = all.iter_mut().map(|moving| moving.state.pop()).collect();
        let mut moved = self.rule.update_together(all, factor, step);
        for ((value, state), average) in moved.iter_mut().zip(averages) {
            state.extend(average.map(|average| self.after(average, value, step)));
        }
        moved
    }

    fn averages(&self) -> bool {
        true
    }

    fn averaged(&self, value: Tensor<1>, state: &[Kept]) -> Tensor<1> {
        state.last().map_or(value, |average| average.clone().numbers())
    }
}
