//! What gives each token its experts.

use super::{LinearDescription, NormDescription, TargetParameter};

/// A router.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouterDescription {
    /// To a score for each expert.
    pub scores: LinearDescription,
    /// Whether it is a linear layer to PEFT; otherwise its matrix is a parameter.
    pub is_linear: bool,
    /// Of its input.
    pub input: Option<NormDescription>,
    /// What the outputs of a token's experts are weighted with.
    pub weights: RouterWeights,
    /// Path of a number for each expert that is added to what experts are chosen by, and to nothing
    /// else; nothing trains it.
    pub choice_bias: Option<&'static str>,
    /// Path of a number for each expert that its weight is multiplied with.
    pub expert_scale: Option<&'static str>,
}

/// What the outputs of a token's experts are weighted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RouterWeights {
    /// The softmax of the scores of the chosen: also that of all scores, divided by their sum.
    OfChosen,
    /// The softmax of all scores, of which only those of the chosen are used: their sum is less
    /// than one.
    OfAll,
    /// The sigmoid of each score. Experts are chosen by it.
    Sigmoid {
        /// Whether those of a token are divided by their sum, to which 1e-6 is added.
        normalised: bool,
        /// What they are then multiplied with.
        factor: f32,
    },
}

impl RouterDescription {
    /// A linear layer that is a parameter to PEFT, and nothing besides.
    pub fn new(scores: LinearDescription, weights: RouterWeights) -> Self {
        let (input, choice_bias, expert_scale) = (None, None, None);
        Self { scores, is_linear: false, input, weights, choice_bias, expert_scale }
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.scores.dims[0]
    }

    /// Names and dimensions of its tensors within the decoder layer, but for norms, buffers and
    /// linear layers.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let LinearDescription { name, dims, bias } = self.scores;
        let mut tensors = Vec::new();
        if !self.is_linear {
            tensors.push((format!("{name}.weight"), dims.to_vec()));
            if bias {
                tensors.push((format!("{name}.bias"), vec![dims[0]]));
            }
        }
        tensors.extend(self.expert_scale.map(|name| (name.to_owned(), vec![dims[0]])));
        tensors
    }

    /// The parameter that an adapter may be put beside, in the decoder layer of a path.
    pub(super) fn target(&self, layer: &str) -> Option<TargetParameter> {
        let path = format!("{layer}.{}", self.scores.name);
        (!self.is_linear).then(|| TargetParameter {
            path: format!("{path}.weight"),
            linears: vec![(path, self.scores.dims)],
            stacked: false,
            alternating: false,
        })
    }
}
