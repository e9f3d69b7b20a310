//! Blocks by the kernels of the CPU where text is written: one more token of each of several texts,
//! a row for each.

use super::{Block, BlockCache, BlockOnCpu, decode_attention};
use crate::ops::cpu::View;

/// Whether [`decode`] knows a block. What is recurrent, or takes another layer's keys, goes on by
/// tensor operations.
pub fn decodes(block: &Block) -> bool {
    match block {
        Block::Attention(block) => block.keeps_to_itself(),
        Block::GatedMlp(_) | Block::Experts(_) => true,
        _ => false,
    }
}

/// Adds what a block that it [`decodes`] gives for `x: [texts, hidden]` to a target, one cache for
/// each text; factors of products are rounded to bfloat16 where that is asked for.
pub fn decode(
    block: &BlockOnCpu,
    x: View<f32>,
    target: &mut [f32],
    caches: &mut [&mut BlockCache],
    rounds: bool,
) {
    match block {
        BlockOnCpu::Attention(block) => {
            let heads = block.config.heads;
            let caches: Vec<_> =
                caches.iter_mut().map(|cache| cache.key_values.on_cpu(heads, rounds)).collect();
            decode_attention(block, x, target, caches, rounds);
        }
        BlockOnCpu::GatedMlp(block) => block.decode(x, target, rounds),
        BlockOnCpu::Experts(block) => block.decode(x, target, rounds),
        _ => unreachable!("it is not among those that are decoded"),
    }
}
