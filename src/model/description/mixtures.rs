//! What a model has of mixtures of experts.

use super::{BlockDescription, Description, ExpertsDescription};

impl Description {
    /// Its mixtures of experts, each with the path of its decoder layer.
    pub fn experts(&self) -> impl Iterator<Item = (&str, &ExpertsDescription)> {
        self.layers.iter().flat_map(|layer| {
            layer.residuals.iter().filter_map(|residual| match &residual.block {
                BlockDescription::Experts(experts) => Some((layer.path.as_str(), experts)),
                _ => None,
            })
        })
    }

    /// All matrices that inputs are multiplied with in the decoder layers, `[out, in]`.
    pub fn matrices(&self) -> impl Iterator<Item = &(String, [usize; 2])> {
        let others = self.target_parameters.iter().flat_map(|target| &target.linears);
        self.linears.iter().chain(others)
    }

    /// Numbers that the checkpoint has in a format that cannot be trained, and their bytes.
    pub fn coded(&self) -> (u64, u64) {
        let all = self.experts().map(|(_, experts)| experts.coded());
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// How many of the weights compute a token; all of them where there are no experts.
    pub fn active_parameters(&self) -> u64 {
        let idle = self.experts().map(|(_, experts)| {
            (experts.count - experts.top_k) as u64 * experts.parameters_of_one()
        });
        self.parameters - idle.sum::<u64>()
    }
}
