//! Where much of a batch is no target, the last layer need not finish it.

use crate::data::Batch;
use crate::model::PassContext;

/// The last layer's context where much is not trained on: its output is wanted at target positions
/// alone, which `pairs` then count. Not where inputs of adapters are dropped, which is by the
/// numbers of tokens; nor where kernels are compiled for each size of a tensor.
pub fn only_targets(
    pairs: &mut [(u32, u32)],
    batch: &Batch,
    context: &PassContext,
) -> Option<PassContext> {
    let much = !pairs.is_empty() && pairs.len() * 8 < batch.tokens.len() * 7;
    if !much || context.dropout.is_some() || context.computing.pad_multiple > 1 {
        return None;
    }
    let targets = pairs.iter().map(|pair| pair.0).collect();
    for (pair, number) in pairs.iter_mut().zip(0..) {
        pair.0 = number;
    }
    Some(context.only(targets))
}
