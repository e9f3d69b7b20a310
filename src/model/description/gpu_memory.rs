//! What a GPU takes for a pass through a layer: what is kept from the forward pass, and the most
//! that the backward pass works on beside that. Of attention and gated MLPs it is counted in the
//! code of their operations (`model/blocks`, `ops/gpu`) and compared with the memory that steps
//! take (`tests/it/device.rs`); other blocks are tensor operations, of which tapes are counted
//! about ([`BlockDescription::taped`]).

use super::pass_memory::F32;
use super::{
    AttentionDescription, BlockDescription, GatedMlpDescription, LayerDescription,
    LinearDescription, PassMemory, QkvDescription, ResidualDescription, TrainedLinear,
};

/// A pass through a layer.
pub struct GpuPass<'a> {
    /// All tokens of a micro-batch.
    pub tokens: u64,
    /// Bytes of a factor of a product.
    pub factor: u64,
    /// Tokens of which an MLP is computed at once; all of them where this is `None`.
    pub mlp_tile: Option<usize>,
    /// What is trained of a linear layer, by its module path.
    pub trained: &'a dyn Fn(&str) -> TrainedLinear,
}

/// What stays of a block: bytes of each token, and bytes however many there are.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    of_token: u64,
    fixed: u64,
}

/// Linear layers of one input, with what is trained of each.
struct Given(Vec<(LinearDescription, TrainedLinear)>);

impl GpuPass<'_> {
    fn given(&self, layer: &str, linears: &[LinearDescription]) -> Given {
        let one = |linear: &LinearDescription| {
            (*linear, (self.trained)(&format!("{layer}.{}", linear.name)))
        };
        Given(linears.iter().map(one).collect())
    }

    /// Bytes of what enters products: a factor, but where some of it is dropped.
    fn entering(&self, given: &Given) -> u64 {
        if given.0.iter().any(|(_, trained)| trained.kept > 0) { F32 } else { self.factor }
    }
}

impl Given {
    /// Whether anything of the input is needed for a gradient.
    fn learns(&self) -> bool {
        self.0.iter().any(|(_, trained)| trained.whole || trained.rank > 0)
    }

    /// Of additions: what their first factors give, and where one product is made of all, the
    /// factors below each other and in blocks.
    fn kept(&self) -> Kept {
        let ranks: usize = self.0.iter().map(|(_, trained)| trained.rank).sum();
        let besides: usize = self.0.iter().map(|(_, trained)| trained.kept).sum();
        let outputs: usize = self.0.iter().map(|(linear, _)| linear.dims[0]).sum();
        let inputs = self.0.first().map_or(0, |(linear, _)| linear.dims[1]);
        let first = self.0.first().map(|(_, trained)| trained.rank);
        let is_plain = |(linear, trained): &(LinearDescription, TrainedLinear)| {
            let alone = !linear.bias && !trained.whole && trained.kept == 0;
            alone && Some(trained.rank) == first
        };
        let together = self.0.len() > 1 && self.0.iter().all(is_plain);
        let factors = if together { ranks * (inputs + outputs) } else { 0 };
        Kept { of_token: (ranks + besides) as u64 * F32, fixed: factors as u64 * F32 }
    }
}

impl LayerDescription {
    /// What a pass through the layer takes, for a residual stream of `hidden` numbers.
    pub fn gpu_memory(&self, hidden: usize, pass: &GpuPass) -> PassMemory {
        let stream = hidden as u64 * F32;
        let (mut kept, mut most) = (0, 0);
        for residual in &self.residuals {
            let of_block = residual.gpu_memory(&self.path, hidden, pass);
            kept += of_block.kept;
            // What later parts kept is free by then.
            most = most.max(kept + of_block.backward);
        }
        // And the gradient of the stream.
        PassMemory { kept, backward: most - kept + pass.tokens * stream }
    }
}

impl ResidualDescription {
    fn gpu_memory(&self, layer: &str, hidden: usize, pass: &GpuPass) -> PassMemory {
        let stream = hidden as u64 * F32;
        let (inputs, (kept, backward)) = match &self.block {
            BlockDescription::Attention(block) => {
                (pass.given(layer, block.qkv.linears()), block.on_gpu(layer, pass))
            }
            BlockDescription::GatedMlp(block) => {
                (pass.given(layer, block.gate_up.linears()), block.on_gpu(layer, pass))
            }
            other => {
                let kept = pass.tokens * other.taped(hidden) as u64 * F32;
                return PassMemory { kept, backward: pass.tokens * stream };
            }
        };
        let normed = if self.before.is_some() { pass.entering(&inputs) * hidden as u64 } else { 0 };
        // What its last norm is of.
        let output = if self.after.is_some() { stream } else { 0 };
        let of_token = stream + normed + kept.of_token + output;
        // The gradients of its output and its input.
        let backward = backward + 2 * stream;
        let tokens = match (&self.block, pass.mlp_tile) {
            (BlockDescription::GatedMlp(_), Some(tile)) => pass.tokens.min(tile as u64),
            _ => pass.tokens,
        };
        if tokens == pass.tokens {
            let kept = tokens * of_token + kept.fixed;
            return PassMemory { kept, backward: tokens * backward };
        }
        // Of tiles the input alone, until one is computed again; and parts of both gradients.
        let again = tokens * (of_token + backward) + kept.fixed;
        PassMemory { kept: pass.tokens * stream, backward: again + 2 * pass.tokens * stream }
    }
}

impl GatedMlpDescription {
    /// What is kept beside its input, and bytes of a token that the backward pass works on.
    fn on_gpu(&self, layer: &str, pass: &GpuPass) -> (Kept, u64) {
        let width = self.width() as u64;
        let (gate_up, down) =
            (pass.given(layer, self.gate_up.linears()), pass.given(layer, &[self.down]));
        let through = if down.learns() { pass.entering(&down) * width } else { 0 };
        let (up, of_down) = (gate_up.kept(), down.kept());
        let kept = Kept {
            of_token: 2 * width * F32 + through + up.of_token + of_down.of_token,
            fixed: up.fixed + of_down.fixed,
        };
        // The gradients of what was let through, and of gate and up.
        (kept, 3 * width * F32)
    }
}

impl AttentionDescription {
    /// What is kept beside its input, and bytes of a token that the backward pass works on.
    fn on_gpu(&self, layer: &str, pass: &GpuPass) -> (Kept, u64) {
        let (query, all) = (self.config.query_width(), self.config.key_width());
        let is_own = !matches!(self.qkv, QkvDescription::Queries(..));
        let key = if is_own { all } else { 0 };
        let value_norms = match self.qkv {
            QkvDescription::Joint(_) => usize::from(self.value_norm.is_some()),
            // Both norms are of the same numbers.
            QkvDescription::KeysAsValues(_) | QkvDescription::Queries(..) => 0,
        };
        let normed = if self.qk_norms.is_some() { query + key } else { 0 };
        // The gate, its sigmoid, and what was mixed times that.
        let gate = if self.gated { 3 * query } else { 0 };
        let (qkv, output) =
            (pass.given(layer, self.qkv.linears()), pass.given(layer, &[self.output]));
        let (of_qkv, of_output) = (qkv.kept(), output.kept());
        let numbers = query + 2 * key + normed + value_norms * key + gate + query;
        let kept = Kept {
            of_token: numbers as u64 * F32 + of_qkv.of_token + of_output.of_token,
            fixed: of_qkv.fixed + of_output.fixed,
        };
        // The gradients of what was mixed, and of queries, keys and values, before they turned too.
        (kept, (query + 2 * (query + 2 * all)) as u64 * F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::small_llama;

    const RANK: usize = 4;

    fn memory(pass: &GpuPass) -> PassMemory {
        let description = small_llama();
        description.layers[0].gpu_memory(description.hidden, pass)
    }

    /// Counted by hand, in numbers of 32 bits: with adapters the stream before each part and what
    /// its norm makes of it, queries, keys and values, what was mixed, gate and up, what was let
    /// through, and what first factors give; beside that factors that lie together.
    #[test]
    fn a_layer_keeps_what_its_gradient_needs() {
        let description = small_llama();
        let (hidden, tokens) = (description.hidden, 1000);
        let [attention, mlp] = &description.layers[0].residuals[..] else { panic!() };
        let BlockDescription::Attention(attention) = &attention.block else { panic!() };
        let BlockDescription::GatedMlp(mlp) = &mlp.block else { panic!() };
        let (query, key) = (attention.config.query_width(), attention.config.key_width());
        let width = mlp.width();
        let adapted = |_: &str| TrainedLinear { rank: RANK, ..TrainedLinear::default() };
        let pass = GpuPass { tokens, factor: F32, mlp_tile: None, trained: &adapted };
        let found = memory(&pass);
        let numbers = 4 * hidden + 2 * query + 2 * key + 3 * width + 7 * RANK;
        let factors = 3 * RANK * (hidden + query + 2 * key) + 2 * RANK * (hidden + 2 * width);
        assert_eq!(found.kept, (tokens * numbers as u64 + factors as u64) * F32);
        // Factors of 16 bits are half of what enters products.
        let half = memory(&GpuPass { factor: 2, ..pass });
        assert_eq!(found.kept - half.kept, tokens * (2 * hidden + width) as u64 * 2);
        // Frozen matrices need nothing of what enters them; what was mixed is a leaf.
        let frozen = |_: &str| TrainedLinear::default();
        let nothing = memory(&GpuPass { trained: &frozen, ..pass });
        let numbers = 4 * hidden + 2 * query + 2 * key + 2 * width;
        assert_eq!(nothing.kept, tokens * numbers as u64 * F32);
        // In tiles an MLP keeps its input alone.
        let tiled = memory(&GpuPass { mlp_tile: Some(100), trained: &adapted, ..pass });
        let of_mlp = hidden + 3 * width + 3 * RANK;
        let of_mlp = tokens * of_mlp as u64 + (2 * RANK * (hidden + 2 * width)) as u64;
        assert_eq!(found.kept - tiled.kept, of_mlp * F32);
        assert!(found.kept + found.backward > tiled.kept + tiled.backward);
    }
}
