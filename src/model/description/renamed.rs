//! A description with other names of modules, for families that have their own.

use super::{BlockDescription, Description, JointDescription, LinearDescription};

impl Description {
    /// The same with other module paths of norms and linear layers within a decoder layer: those of
    /// other families, and what they are here.
    #[must_use]
    pub fn renamed(mut self, names: &[(&'static str, &'static str)]) -> Self {
        let name = |usual: &'static str| {
            names.iter().find(|(other, _)| *other == usual).map_or(usual, |(_, own)| *own)
        };
        let linear = |linear: &mut LinearDescription| linear.name = name(linear.name);
        for part in self.layers.iter_mut().flat_map(|layer| &mut layer.residuals) {
            for norm in part.before.iter_mut().chain(&mut part.after) {
                norm.name = name(norm.name);
            }
            match &mut part.block {
                BlockDescription::Attention(attention) => {
                    attention.qkv.linears_mut().iter_mut().for_each(linear);
                    linear(&mut attention.output);
                    let norms = attention.qk_norms.iter_mut().flatten();
                    norms.for_each(|norm| norm.name = name(norm.name));
                    attention.sinks = attention.sinks.map(name);
                }
                BlockDescription::GatedMlp(mlp) => {
                    mlp.gate_up.linears_mut().iter_mut().for_each(linear);
                    linear(&mut mlp.down);
                }
                // Named by those who have them.
                _ => {}
            }
        }
        self.linears = self.all_linears();
        self
    }
}

impl<const N: usize> JointDescription<N> {
    pub(super) fn linears_mut(&mut self) -> &mut [LinearDescription] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(linear, _) => std::slice::from_mut(linear),
        }
    }
}
