//! Bytes of a step by what they are for: those that it moves, and those of one that is perfectly
//! fused.

use super::{F32, Launched, ModelShape, StepShape};

/// Bytes of what a step does, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parts {
    /// Linear layers and what stands between them, of all layers.
    pub linear: usize,
    /// Attention, of all layers.
    pub attention: usize,
    /// The norm of the gradients, and AdamW.
    pub update: usize,
    /// Embedding and loss.
    pub beside: usize,
}

impl StepShape {
    /// Bytes that a step moves, by what they are for.
    pub fn moved(&self) -> Parts {
        let bytes = |all: Vec<Launched>| all.iter().map(|one| one.bytes).sum::<usize>();
        let (layers, attention) = (self.model.layers, bytes(self.of_attention()));
        Parts {
            linear: layers * (bytes(self.layer()) - attention),
            attention: layers * attention,
            update: bytes(self.update()),
            beside: bytes(self.beside()),
        }
    }

    /// Bytes that a perfectly fused step would move. Norms, rotation, gate, residual sums and
    /// additions of low rank are computed while products read and write, scores and logits are kept
    /// nowhere; weights are read once forward and once backward; what is kept between kernels is
    /// in the format of factors, the residual stream and its gradient in 32 bits.
    pub fn ideal(&self) -> Parts {
        let ModelShape { layers, hidden, intermediate, vocabulary, .. } = self.model;
        let (tokens, factor) = (self.tokens(), self.factor());
        let stream = F32 * tokens * hidden;
        let (qkv, mixed) = (self.model.qkv(), self.model.queries());
        let [qkv, mixed, gate_up] =
            [qkv, mixed, 2 * intermediate].map(|width| factor * tokens * width);
        let matrices: usize =
            self.products().into_iter().map(|product| product.inner * product.outer).sum();
        // Both factors forward, and backward with their gradients.
        let weights = 2 * factor * matrices + 3 * F32 * self.adapters();
        let forward =
            (stream + qkv) + (mixed + 2 * stream) + (stream + gate_up) + (gate_up + 2 * stream);
        let down = stream + 2 * gate_up;
        let back_gate_up = gate_up + 3 * stream;
        let output = stream + 2 * mixed;
        let back_qkv = qkv + 3 * stream;
        let seen = F32 * self.seen();
        let rows: usize = self.chunks().iter().map(|(rows, _)| rows).sum();
        Parts {
            linear: layers * (weights + forward + down + back_gate_up + output + back_qkv),
            attention: layers * (3 * qkv + 2 * mixed + 2 * seen),
            update: layers * 7 * F32 * self.adapters(),
            beside: (factor + F32) * tokens * hidden
                + F32 * rows * hidden
                + 2 * factor * vocabulary * hidden
                + stream,
        }
    }
}

impl Parts {
    /// All together.
    pub fn total(&self) -> usize {
        self.linear + self.attention + self.update + self.beside
    }

    /// How many times the others these are: name and quotient, of each part and of all.
    pub fn over(&self, others: &Self) -> [(&'static str, f64); 5] {
        #[expect(clippy::cast_precision_loss)] // for people
        let times = |ours: usize, theirs: usize| ours as f64 / theirs.max(1) as f64;
        [
            ("linear layers and what stands between", times(self.linear, others.linear)),
            ("attention", times(self.attention, others.attention)),
            ("norm of the gradients and update", times(self.update, others.update)),
            ("embedding and loss", times(self.beside, others.beside)),
            ("the step", times(self.total(), others.total())),
        ]
    }
}
