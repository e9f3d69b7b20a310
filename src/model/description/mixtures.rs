//! What a model has of mixtures of experts.

use super::{BlockDescription, Description, ExpertStorage, ExpertsDescription};

impl Description {
    /// Its mixtures of experts, each with the path of its decoder layer.
    pub fn experts(&self) -> impl Iterator<Item = (&str, &ExpertsDescription)> {
        self.layers.iter().flat_map(|layer| {
            let blocks = layer.residuals.iter().map(|residual| &residual.block);
            blocks.filter_map(|block| Some((layer.path.as_str(), block.experts()?)))
        })
    }

    /// Where files should have a tensor of all experts of a layer, its name, and that of a tensor
    /// of one expert that would stand there instead: transformers writes Qwen3.5 so, and the hub
    /// has the other form.
    pub fn stacked_expert(&self) -> Option<(String, String)> {
        let mut all = self.experts().filter(|(_, of)| of.storage == ExpertStorage::Stacked);
        let (layer, experts) = all.next()?;
        let apart = ExpertsDescription { storage: ExpertStorage::USUAL, ..experts.clone() };
        let name = |of: &ExpertsDescription| of.stored(layer).swap_remove(0).name;
        Some((name(experts), name(&apart)))
    }

    /// The same with tensors of each expert in place of those of all.
    #[must_use]
    pub fn with_experts_apart(mut self) -> Self {
        fn set(block: &mut BlockDescription) {
            match block {
                BlockDescription::Experts(of) if of.storage == ExpertStorage::Stacked => {
                    of.storage = ExpertStorage::USUAL;
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
