//! Attention by kernels of a GPU that keep no scores, where they are better than products: queries,
//! keys and values of a token beside each other, as one product gives them.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "gpu")]
use burn::tensor::Int;
use burn::tensor::{Device, Tensor};

use super::{AttentionGradients, AttentionInputs, Documents};
use crate::device::ComputeConfig;
use crate::ops::AttentionConfig;
#[cfg(feature = "gpu")]
use crate::ops::gpu;

/// Numbers of a head at most: a unit of a GPU has eight sums for 32 of them, twice in one kernel.
const WIDEST: usize = 128;
/// Tokens · positions of a row · numbers of queries at most: about half a millisecond, forward and
/// backward, of a GPU that computes 20 TFLOP/s in 32 bits. It is estimated, and was not measured.
const MOST_WORK: u64 = 1 << 30;

/// Whether rows of a length are computed so on GPUs. The kernels multiply with ordinary units;
/// where there is more to do, products by the units for matrices are faster, and their launches do
/// not count.
pub fn keeps_no_scores(config: AttentionConfig, (rows, length): (usize, usize)) -> bool {
    let work = (rows * length) as u64 * length as u64 * config.query_width() as u64;
    config.heads.width <= WIDEST && work <= MOST_WORK
}

/// The kernels for documents, made once for all layers of a kind; nothing where they are not used.
pub(super) type MadeKernels = Arc<Mutex<Vec<(AttentionConfig, Option<Kernels>)>>>;

/// The kernels, with what they look up of documents.
#[cfg(feature = "gpu")]
#[derive(Debug, Clone)]
pub(super) struct Kernels {
    seen: Tensor<1, Int>,
    config: AttentionConfig,
    /// Rows, and positions in each.
    size: (usize, usize),
}

/// There are none without a GPU.
#[cfg(not(feature = "gpu"))]
#[derive(Debug, Clone)]
pub(super) enum Kernels {}

#[cfg(feature = "gpu")]
impl Kernels {
    fn made(
        documents: &Documents,
        config: AttentionConfig,
        computing: ComputeConfig,
        device: &Device,
    ) -> Option<Self> {
        let (size, wide) = ((documents.rows, documents.length), config.query_width());
        let numbers = size.0 * size.1 * (wide + 2 * config.key_width());
        let fits = *device != Device::flex()
            && documents.branches.is_empty()
            && computing.limits.holds(numbers as u64)
            && keeps_no_scores(config, size)
            && gpu::fused::fits(device);
        let seen = || gpu::fused::seen(&documents.numbers, size.1, config.window, device);
        fits.then(|| Self { seen: seen(), config, size })
    }

    fn forward(&self, qkv: Tensor<2>) -> Tensor<2> {
        gpu::fused::forward(qkv, &self.seen, self.config, self.size)
    }

    fn backward(&self, qkv: Tensor<2>, d: Tensor<2>) -> Tensor<2> {
        gpu::fused::backward(qkv, d, &self.seen, self.config, self.size)
    }

    fn beside(&self, qkv: [&Tensor<2>; 3]) -> Tensor<2> {
        gpu::joined_columns(qkv.map(Clone::clone).into())
    }

    fn apart(&self, d: Tensor<2>) -> [Tensor<2>; 3] {
        let (queries, keys) = (self.config.query_width(), self.config.key_width());
        gpu::columns_apart(d, [queries, keys, keys])
    }
}

#[cfg(not(feature = "gpu"))]
impl Kernels {
    fn made(_: &Documents, _: AttentionConfig, _: ComputeConfig, _: &Device) -> Option<Self> {
        None
    }

    fn forward(&self, _: Tensor<2>) -> Tensor<2> {
        match *self {}
    }

    fn backward(&self, _: Tensor<2>, _: Tensor<2>) -> Tensor<2> {
        match *self {}
    }

    fn beside(&self, _: [&Tensor<2>; 3]) -> Tensor<2> {
        match *self {}
    }

    fn apart(&self, _: Tensor<2>) -> [Tensor<2>; 3] {
        match *self {}
    }
}

impl Kernels {
    /// Those of documents on a device, if attention is computed so there.
    fn of(
        documents: &Documents,
        config: AttentionConfig,
        computing: ComputeConfig,
        device: &Device,
    ) -> Option<Self> {
        let mut known = documents.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().find(|(of, _)| *of == config) {
            return found.clone();
        }
        let found = Self::made(documents, config, computing, device);
        known.push((config, found.clone()));
        found
    }
}

/// Whether attention on a device takes queries, keys and values beside each other.
pub fn attends_beside(
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
    device: &Device,
) -> bool {
    Kernels::of(documents, config, computing, device).is_some()
}

/// Attention, `[tokens, queries · width]`, of `qkv: [tokens, queries · keys · values]`, where
/// [`attends_beside`] says so.
pub fn attend_beside(
    qkv: Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    Some(Kernels::of(documents, config, computing, &qkv.device())?.forward(qkv))
}

/// The gradient of `qkv` for that of what [`attend_beside`] gave.
pub fn attend_beside_backward(
    qkv: Tensor<2>,
    d_output: Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    Some(Kernels::of(documents, config, computing, &qkv.device())?.backward(qkv, d_output))
}

/// The same of queries, keys and values that are apart.
pub(super) fn attend(
    AttentionInputs { qkv, sinks }: AttentionInputs,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    if sinks.is_some() {
        return None;
    }
    let kernels = Kernels::of(documents, config, computing, &qkv[0].device())?;
    Some(kernels.forward(kernels.beside(qkv)))
}

/// And their gradients.
pub(super) fn attend_backward(
    AttentionInputs { qkv, sinks }: AttentionInputs,
    d_output: &Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Option<AttentionGradients> {
    if sinks.is_some() {
        return None;
    }
    let kernels = Kernels::of(documents, config, computing, &qkv[0].device())?;
    let d_qkv = kernels.backward(kernels.beside(qkv), d_output.clone());
    Some(AttentionGradients { qkv: kernels.apart(d_qkv), sinks: None })
}
