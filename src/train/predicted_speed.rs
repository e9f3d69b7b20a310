//! How fast a run is about to be here. What is measured is shown to people and enters no record of
//! a run.

use std::sync::OnceLock;

use super::prepare::Prepared;
use super::step_time::rounded;
use crate::data::{Batch, Cursor};
use crate::device::ComputeConfig;
use crate::error::Result;
use crate::objectives;
use crate::ops::cpu::{Products, brief_gflops};

/// How fast products are now, measured once in a process.
fn gflops_of(products: Products) -> f64 {
    static FOUND: [OnceLock<f64>; 3] = [const { OnceLock::new() }; 3];
    let found = match products {
        Products::F32 => &FOUND[0],
        Products::Bf16 => &FOUND[1],
        Products::F32RoundedToBf16 => &FOUND[2],
    };
    *found.get_or_init(|| brief_gflops(products))
}

impl Prepared<'_> {
    /// Predicts for each memory plan how fast it is here, which takes a measurement of tens of
    /// milliseconds.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub fn predict_speed(&mut self) -> std::result::Result<(), &'static str> {
        let objective = objectives::chosen(&self.config.owned);
        if self.on_gpu() {
            return Err("not predicted on a GPU");
        }
        if objective.rollouts().is_some() || objective.on_policy().is_some() {
            return Err("not predicted where the model writes texts in a step");
        }
        let (kernels, arithmetic) = (self.config.device.kernels, self.precision.arithmetic);
        let computing = ComputeConfig { kernels, arithmetic, ..self.opened.computing() };
        let products = Products::of(computing).ok_or("not predicted by tensor operations")?;
        self.memory_plans.expect_products(gflops_of(products));
        Ok(())
    }

    /// About how many seconds all steps take with the plan that was chosen, if they all have as
    /// many tokens as the first; nothing where that cannot be known.
    ///
    /// # Errors
    /// When data cannot be read.
    #[expect(clippy::cast_precision_loss)] // what comes of it has two digits
    pub fn predict_seconds(&mut self) -> Result<Option<f64>> {
        let _ = self.predict_speed(); // nothing is known then
        let Some(speed) = self.memory_plans.chosen().tokens_per_second else { return Ok(None) };
        let (micro_batches, rows) =
            (self.config.train.gradient_accumulation_steps, self.config.train.micro_batch_size);
        let first = self.plan.take(&mut Cursor::default(), micro_batches, rows)?;
        let tokens: u64 = first.iter().map(Batch::tokens_without_padding).sum();
        Ok(Some(rounded(self.total_steps as f64 * tokens as f64 / speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats are told apart, and each is measured once: a second question gets the same answer.
    #[test]
    fn products_are_measured_once_in_a_process() {
        let all = [Products::F32, Products::F32RoundedToBf16];
        assert_eq!(all.map(gflops_of), all.map(gflops_of));
    }
}
