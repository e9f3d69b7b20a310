//! From the residual stream to scores over the vocabulary, or over labels: a norm, the output
//! projection, and what is done to scores. The loss takes their gradient by hand
//! (`objectives/cross_entropy`).

use burn::tensor::{Int, Tensor};

use super::Norm;
use crate::device::ComputeConfig;
use crate::error::Result;
use crate::model::LM_HEAD;
use crate::model::description::Description;
use crate::model::{VocabularyMatrix, WeightSource};
use crate::ops::{LogitConfig, soft_cap, soft_cap_slope};

/// The weights.
pub struct Head {
    /// After the last layer.
    pub norm: Norm,
    /// The output projection, `[vocabulary, hidden]`, or what scores labels, `[labels, hidden]`;
    /// `None` where it is the embedding.
    pub matrix: Option<VocabularyMatrix>,
    /// What is done to scores.
    pub config: LogitConfig,
}

/// The derivatives of scores after their cap for those before, where there is one.
pub struct CapSlopes {
    /// `[tokens, vocabulary]`.
    pub all: Tensor<2>,
    /// Of one token of the vocabulary each, `[tokens, 1]`.
    pub of_targets: Tensor<2>,
}

impl Head {
    /// Takes its weights.
    pub fn read(description: &Description, weights: &mut WeightSource) -> Result<Self> {
        let norm = Norm::read(None, &description.norm, weights)?;
        let matrix = match description.own_head() {
            Some((path, rows)) => Some(weights.table(path, [rows, description.hidden])?),
            None => {
                weights.ignore(LM_HEAD); // a copy: one that differs unties the model before this
                None
            }
        };
        Ok(Self { norm, matrix, config: description.logits })
    }

    /// A copy whose norm is on a tape if it is trainable; without a matrix of its own.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { norm: self.norm.tracked(), matrix: None, config: self.config }
    }

    /// What the output projection is multiplied with, for `x: [tokens, hidden]` as it leaves the
    /// layers: normalised, and times the scale of scores.
    pub fn hidden(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = self.norm.forward(x);
        if self.config.scale == 1.0 { hidden } else { hidden.mul_scalar(self.config.scale) }
    }

    /// Scores over the vocabulary, `[tokens, vocabulary]`, of what [`Self::hidden`] gave.
    pub fn scores(
        &self,
        hidden: &Tensor<2>,
        matrix: &VocabularyMatrix,
        computing: ComputeConfig,
    ) -> Tensor<2> {
        let scores = matrix.scores(hidden, computing);
        match self.config.soft_cap {
            Some(cap) => soft_cap(scores, cap),
            None => scores,
        }
    }

    /// How [`Self::scores`] follow those before their cap.
    pub fn cap_slopes(&self, scores: &Tensor<2>, targets: &Tensor<1, Int>) -> Option<CapSlopes> {
        let all = soft_cap_slope(scores.clone(), self.config.soft_cap?);
        let count = targets.dims()[0];
        let of_targets = all.clone().gather(1, targets.clone().reshape([count, 1]));
        Some(CapSlopes { all, of_targets })
    }
}
