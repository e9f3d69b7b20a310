//! About how long steps take, by their products.

use super::memory_plan::MemoryPlan;
use crate::config::{ActivationOffload, OptimizerOffload, Recompute};
use crate::model::{Description, Streamed};

/// What a chunk of the loss takes beside its tokens, as so many of them: the output projection is
/// read and packed once more. And what reading weights again from the system's cache adds to a
/// step. These are rough, of two cores (`benches/memory_plans.py`).
const CHUNK_OVERHEAD: f64 = 30.0;
const STREAMED: f64 = 1.05;
/// What packing matrices once more for each tile of tokens adds, as a share of a forward pass.
const TILE_OVERHEAD: f64 = 0.02;
const STREAMED_TABLES: f64 = 1.02;
/// What bringing a byte of the optimizer's state to an update or back takes, or of a layer's
/// input, as so many products: a CPU makes some 50·10⁹ a second beside a disk of 1 GB/s, a GPU
/// some 20·10¹² beside a bus and a host that convert and copy 5 GB/s. Rough as well, and not
/// measured.
const BYTE_ON_CPU: f64 = 50.0;
const BYTE_ON_GPU: f64 = 4000.0;
/// Bytes of a number of the residual stream.
const F32: usize = 4;
/// The share of the speed of large products that a step reaches: 0.67 to 0.77 of SmolLM2-135M, and
/// up to 0.87 of a Llama of a billion numbers (`benches/README.md`, "Products, and the peak of the
/// processor").
const STEP_SHARE: f64 = 0.7;

/// What decides the products of a step beside its plan.
pub(super) struct StepProducts<'a> {
    pub description: &'a Description,
    /// Whether weights are frozen, beside an adapter.
    pub adapted: bool,
    /// Whether another model goes through the rows as well, forward alone.
    pub reference: bool,
    /// Tokens that are differentiated at the same time.
    pub tokens: usize,
    /// Tokens of a step.
    pub step_tokens: usize,
    /// Bytes that the optimizer keeps.
    pub state_bytes: u64,
    /// Whether a GPU computes it.
    pub on_gpu: bool,
}

impl StepProducts<'_> {
    /// Multiplications with addition of a token: forward, backward, and what is computed again.
    #[expect(clippy::cast_precision_loss)] // what comes of it has two digits
    pub fn of_token(&self, plan: MemoryPlan) -> f64 {
        let size = |dims: [usize; 2]| (dims[0] * dims[1]) as f64;
        let tables = self.description.tables().map(|(_, dims)| size(dims));
        let layers = self.description.active_parameters() as f64 - tables.sum::<f64>();
        let forward = layers.max(0.0);
        // Frozen weights have no gradient of their own.
        let backward = if self.adapted { forward } else { 2.0 * forward };
        let again = if plan.recompute == Recompute::Layers { forward } else { 0.0 };
        let tiles = match plan.tiled_mlp {
            true => TILE_OVERHEAD * forward + self.description.mlp_products_again() as f64,
            false => 0.0,
        };
        let chunk = plan.loss_chunk_tokens.min(self.tokens) as f64;
        let head = size([self.description.outputs(), self.description.hidden]);
        let head = head * (1.0 + CHUNK_OVERHEAD / chunk.max(1.0));
        let reference = if self.reference { forward + head } else { 0.0 };
        // Forward, the gradient of its input, and that of a table that is trained.
        let of_head = if self.adapted { 2.0 } else { 3.0 };
        let all = forward + backward + again + tiles + of_head * head + reference;
        let all = match plan.streamed {
            None => all,
            Some(Streamed::Tables) => all * STREAMED_TABLES,
            Some(Streamed::All) => all * STREAMED,
        };
        let byte = if self.on_gpu { BYTE_ON_GPU } else { BYTE_ON_CPU };
        // There and back.
        let moved = match plan.optimizer_offload {
            OptimizerOffload::None => 0.0,
            OptimizerOffload::Host | OptimizerOffload::Disk => 2.0 * self.state_bytes as f64,
        };
        let inputs = match plan.activation_offload {
            ActivationOffload::None => 0.0,
            ActivationOffload::Host | ActivationOffload::Disk => {
                2.0 * (F32 * self.description.layers.len() * self.description.hidden) as f64
            }
        };
        all + inputs * byte + moved * byte / self.step_tokens.max(1) as f64
    }
}

/// About how many tokens a second: so many products each, where products alone reach 10⁹ times
/// `gflops` operations in a second.
pub(super) fn tokens_per_second(products: f64, gflops: f64) -> f64 {
    rounded(STEP_SHARE * gflops * 1e9 / (2.0 * products.max(1.0)))
}

/// Two digits, and no more.
pub(super) fn rounded(number: f64) -> f64 {
    format!("{number:.1e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::small_llama;

    fn products(adapted: bool, reference: bool, plan: MemoryPlan) -> f64 {
        let description = &small_llama();
        let (step_tokens, state_bytes, on_gpu) = (1200, 60_000, false);
        StepProducts {
            description,
            adapted,
            reference,
            tokens: 600,
            step_tokens,
            state_bytes,
            on_gpu,
        }
        .of_token(plan)
    }

    const PLAN: MemoryPlan = MemoryPlan {
        recompute: Recompute::None,
        tiled_mlp: false,
        loss_chunk_tokens: 30,
        rows: 1,
        streamed: None,
        optimizer_offload: OptimizerOffload::None,
        activation_offload: ActivationOffload::None,
    };

    /// The products of all layers, as the numbers of their weights and norms are, and those of the
    /// head, whose chunks of 30 tokens take as long again.
    #[test]
    fn a_step_has_a_forward_and_a_backward_pass_and_what_its_plan_adds() {
        let head = 2.0 * 64_000.0;
        let layer = 2 * 64 * (64 + 32) + 3 * 64 * 256 + 2 * 64;
        let layers = f64::from(2 * layer + 64);
        assert_eq!(products(true, false, PLAN), 2.0 * layers + 2.0 * head);
        assert_eq!(products(false, false, PLAN), 3.0 * layers + 3.0 * head);
        assert_eq!(products(true, true, PLAN), 3.0 * layers + 3.0 * head);
        let again = MemoryPlan { recompute: Recompute::Layers, ..PLAN };
        assert_eq!(products(true, false, again), 3.0 * layers + 2.0 * head);
        // The layer ends with its MLP, which a tile computes in the place of the layer.
        let tiles = MemoryPlan { tiled_mlp: true, ..again };
        let apart = products(true, false, tiles) - (3.02 * layers + 2.0 * head);
        assert!(apart.abs() < 1e-3, "{apart}");
        let large = MemoryPlan { loss_chunk_tokens: 300, ..PLAN };
        assert_eq!(products(true, false, large), 2.0 * layers + 1.1 * head);
        // Never more than there are tokens.
        let whole = MemoryPlan { loss_chunk_tokens: 600, ..PLAN };
        let larger = MemoryPlan { loss_chunk_tokens: 6000, ..PLAN };
        assert_eq!(products(true, false, larger), products(true, false, whole));
        let streamed = |which| MemoryPlan { streamed: Some(which), ..PLAN };
        let all = [Streamed::Tables, Streamed::All].map(|it| products(true, false, streamed(it)));
        assert!(products(true, false, PLAN) < all[0] && all[0] < all[1], "{all:?}");
        // 60,000 bytes there and back, of 1,200 tokens.
        let optimizer_offload = OptimizerOffload::Disk;
        let offloaded = products(true, false, MemoryPlan { optimizer_offload, ..PLAN });
        assert_eq!(offloaded, products(true, false, PLAN) + 100.0 * BYTE_ON_CPU);
        // Of each token 64 numbers of four bytes for each of two layers, there and back.
        let activation_offload = ActivationOffload::Disk;
        let offloaded = products(true, false, MemoryPlan { activation_offload, ..again });
        assert_eq!(offloaded, products(true, false, again) + 1024.0 * BYTE_ON_CPU);
    }

    #[test]
    fn a_speed_follows_from_products_and_has_two_digits() {
        // 0.7 of 10¹¹ operations, two of each of 10⁸ products.
        assert_eq!(tokens_per_second(1e8, 100.0), 350.0);
        assert_eq!(tokens_per_second(1e8, 200.0), 700.0);
        let slow = tokens_per_second(8e9, 100.0);
        assert_eq!(format!("about {slow} tokens/s"), "about 4.4 tokens/s");
        assert_eq!([1234.0, 0.0567, 99.6].map(rounded), [1200.0, 0.057, 100.0]);
    }
}
