//! What a model has of mixtures of experts.

use super::{BlockDescription, Description, ExpertsDescription};

impl Description {
    /// Its mixtures of experts, each with the path of its decoder layer.
    pub fn experts(&self) -> impl Iterator<Item = (&str, &ExpertsDescription)> {
        self.layers.iter().flat_map(|layer| {
            let blocks = layer.residuals.iter().map(|residual| &residual.block);
            blocks.filter_map(|block| Some((layer.path.as_str(), block.experts()?)))
        })
    }

    /// The name that files should have for the first matrix of experts, and the name that stands
    /// there instead where they are arranged in the other of two ways: transformers reads both, and
    /// writes Qwen3.5 with all experts of a layer in a tensor and Qwen3 with a tensor for each.
    pub fn first_expert(&self) -> Option<(String, String)> {
        let (layer, experts) = self.experts().find(|(_, of)| of.storage.other().is_some())?;
        let other = ExpertsDescription { storage: experts.storage.other()?, ..experts.clone() };
        let name = |of: &ExpertsDescription| of.stored(layer).swap_remove(0).name;
        Some((name(experts), name(&other)))
    }

    /// The same with experts as files have them in the other of two ways.
    #[must_use]
    pub fn with_other_experts(mut self) -> Self {
        fn set(block: &mut BlockDescription) {
            match block {
                BlockDescription::Experts(of) => {
                    of.storage = of.storage.other().unwrap_or(of.storage);
                }
                BlockDescription::Sum(terms) => {
                    terms.iter_mut().for_each(|term| set(&mut term.block));
                }
                _ => {}
            }
        }
        let parts = self.layers.iter_mut().flat_map(|layer| &mut layer.residuals);
        parts.for_each(|part| set(&mut part.block));
        self
    }

    /// All matrices that inputs are multiplied with in the decoder layers, `[out, in]`.
    pub fn matrices(&self) -> impl Iterator<Item = &(String, [usize; 2])> {
        let others = self.target_parameters.iter().flat_map(|target| &target.linears);
        self.linears.iter().chain(others)
    }

    /// Numbers that the checkpoint has in a format that cannot be trained, and their bytes.
    pub fn coded(&self) -> (u64, u64) {
        let experts = self.experts().map(|(_, experts)| experts.coded());
        let linears = self.linears.iter().filter_map(|(path, dims)| {
            Some(((dims[0] * dims[1]) as u64, *self.coded_linears.get(path)?))
        });
        experts.chain(linears).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// How many of the weights compute a token; all of them where there are no experts.
    pub fn active_parameters(&self) -> u64 {
        let idle = self.experts().map(|(_, experts)| {
            (experts.count - experts.top_k) as u64 * experts.parameters_of_one()
        });
        self.parameters - idle.sum::<u64>()
    }
}
