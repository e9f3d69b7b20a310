//! What a change of a setting does to a run that has begun. Each key says it, or its section does.

/// What a setting decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// How many steps there are.
    Length,
    /// Which tokens are trained on, in which order.
    Data,
    /// Where it is computed, and how numbers are rounded there.
    Device,
    /// Any other number of the weights.
    Weights,
    /// What is measured and asked beside training: no weight.
    Measures,
    /// How fast or how large it is: no weight.
    Speed,
    /// What the artifact says and holds beside the weights.
    Artifact,
    /// Its name, what is saved and when, where the result goes, who signs it, who vouches for what
    /// goes in: no weight.
    Aside,
}

impl Effect {
    /// Whether it decides the numbers of a run: one that has begun does not go on under another
    /// value unless that is allowed.
    pub fn decides(self) -> bool {
        matches!(self, Self::Length | Self::Data | Self::Device | Self::Weights)
    }

    /// Whether it decides a byte of the artifact, and is no matter of place or time alone.
    pub fn shapes_artifact(self) -> bool {
        self.decides() || matches!(self, Self::Measures | Self::Artifact)
    }
}
