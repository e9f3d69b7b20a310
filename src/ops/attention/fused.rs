//! Attention by kernels of a GPU that keep no scores, where they are better than products: queries,
//! keys and values of a token beside each other, as one product gives them.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "gpu")]
use burn::tensor::Int;
use burn::tensor::{Device, Tensor};

use super::{AttentionGradients, AttentionInputs, Documents};
use crate::device::{ComputeConfig, DeviceLimits};
use crate::ops::AttentionConfig;
#[cfg(feature = "gpu")]
use crate::ops::gpu;

/// Numbers of a head at most: a unit of a GPU has eight sums for 32 of them, twice in one kernel.
const WIDEST: usize = 128;
/// Operations of the kernel that has the most of them, the gradient of queries, for each token,
/// position of its row and number of its queries: five products, half of which no query sees.
const OPERATIONS: u64 = 5;

/// Whether rows of a length are computed so on GPUs: as long as no kernel has more to do than the
/// device takes at once. Products in blocks would use the units for matrices, but take 31 launches
/// for each 512 positions, and read and write scores.
pub fn keeps_no_scores(
    config: AttentionConfig,
    (rows, length): (usize, usize),
    limits: DeviceLimits,
) -> bool {
    let size = [rows, length, length, config.query_width()];
    let work = size.into_iter().fold(OPERATIONS, |all, size| all.saturating_mul(size as u64));
    config.heads.width <= WIDEST && work <= limits.dispatch_flops
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
            && keeps_no_scores(config, size, computing.limits)
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

/// Queries, keys and values of each token beside each other.
fn beside(qkv: [&Tensor<2>; 3]) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if gpu::holds(qkv[0]) {
        return gpu::joined_columns(qkv.map(Clone::clone).into());
    }
    Tensor::cat(qkv.map(Clone::clone).into(), 1)
}

/// And each by itself.
fn apart(qkv: Tensor<2>, config: AttentionConfig) -> [Tensor<2>; 3] {
    let (queries, keys) = (config.query_width(), config.key_width());
    #[cfg(feature = "gpu")]
    if gpu::holds(&qkv) {
        return gpu::columns_apart(qkv, [queries, keys, keys]);
    }
    let parts = [(0, queries), (queries, keys), (queries + keys, keys)];
    parts.map(|(first, count)| qkv.clone().narrow(1, first, count))
}

/// Attention, `[tokens, queries · width]`, of `qkv: [tokens, queries · keys · values]`.
pub fn attend_beside(
    qkv: Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Tensor<2> {
    if let Some(kernels) = Kernels::of(documents, config, computing, &qkv.device()) {
        return kernels.forward(qkv);
    }
    let qkv = apart(qkv, config);
    super::attend(qkv.each_ref(), config, documents, computing)
}

/// The gradient of `qkv` for that of what [`attend_beside`] gave.
pub fn attend_beside_backward(
    qkv: Tensor<2>,
    d_output: Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Tensor<2> {
    if let Some(kernels) = Kernels::of(documents, config, computing, &qkv.device()) {
        return kernels.backward(qkv, d_output);
    }
    let qkv = apart(qkv, config);
    let d = super::attend_backward(qkv.each_ref(), &d_output, config, documents, computing);
    beside(d.qkv.each_ref())
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
    Some(kernels.forward(beside(qkv)))
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
    let d_qkv = kernels.backward(beside(qkv), d_output.clone());
    Some(AttentionGradients { qkv: apart(d_qkv, config), sinks: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Heads, attend, attend_backward, from_vec, host};

    /// Of a model of 8 billion numbers, on cards with memory of their own and on others.
    #[test]
    fn rows_keep_no_scores_as_far_as_a_device_works_at_once() {
        let of = |width: usize| AttentionConfig::of(Heads { queries: 32, kv_heads: 8, width });
        let at_once = |flops| DeviceLimits { dispatch_flops: flops, ..DeviceLimits::NONE };
        let card = at_once(1_000_000_000_000);
        for (size, keeps) in [((1, 4096), true), ((2, 4096), true), ((1, 8192), false)] {
            assert_eq!(keeps_no_scores(of(128), size, card), keeps, "{size:?}");
        }
        assert!(!keeps_no_scores(of(128), (1, 2048), at_once(40_000_000_000)));
        assert!(keeps_no_scores(of(128), (4, 1 << 20), DeviceLimits::NONE));
        assert!(!keeps_no_scores(of(256), (1, 64), DeviceLimits::NONE), "heads are too wide");
    }

    /// Where no kernel takes them beside each other they are taken apart.
    #[test]
    fn what_lies_beside_each_other_is_attended_to_like_its_parts() {
        let config = AttentionConfig::of(Heads { queries: 4, kv_heads: 2, width: 6 });
        let documents = Documents::new(&[1, 1, 1, 2, 2], 1, 5);
        let random = |from: f32, width: usize| -> Tensor<2> {
            let numbers = (0..5 * width).map(|i| (from * i as f32).sin()).collect();
            from_vec(numbers, [5, width], &Device::flex())
        };
        let (all, d) = (random(0.7, 48), random(1.9, 24));
        let qkv = apart(all.clone(), config);
        assert_eq!(host(beside(qkv.each_ref())), host(all.clone()));
        let computing = ComputeConfig::default();
        let mixed = attend_beside(all.clone(), config, &documents, computing);
        let parts = attend(qkv.each_ref(), config, &documents, computing);
        assert_eq!(host(mixed), host(parts));
        let d_all = attend_beside_backward(all, d.clone(), config, &documents, computing);
        let d_parts = attend_backward(qkv.each_ref(), &d, config, &documents, computing);
        assert_eq!(host(d_all), host(beside(d_parts.qkv.each_ref())));
    }
}
