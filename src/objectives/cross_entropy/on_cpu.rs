//! The loss by the kernels of the CPU: rows of target positions, their scores, and back.

use burn::tensor::Tensor;

use super::{LossSum, Scales, Targets};
use crate::model::{Gradients, Model, TokenRows};
use crate::ops::cpu::{Head, HostTensor, Products};
use crate::ops::from_vec;

/// The output projection and what goes in.
pub(super) struct OnCpu<'a> {
    model: &'a Model,
    head: Head<'a>,
    x: HostTensor,
}

/// None where these kernels are not asked for, or do not know what is to be computed.
pub(super) fn head<'a>(model: &'a Model, x: &Tensor<2>, targets: Targets) -> Option<OnCpu<'a>> {
    let (norm, matrix) = (model.head.norm.on_cpu()?, model.projection());
    let head = Head {
        table: matrix.held()?,
        table_trainable: matrix.trainable(),
        rows_trainable: matrix.token_rows().map_or(&[], TokenRows::tokens),
        gain: norm.value,
        gain_trainable: norm.trainable,
        epsilon: norm.epsilon,
        logits: targets.logits(model.head.config),
        products: Products::of(model.computing)?,
    };
    Some(OnCpu { model, head, x: HostTensor::of(x)? })
}

impl OnCpu<'_> {
    /// Rows of the input at target positions, and the tokens wanted there.
    fn rows(&self, pairs: &[(u32, u32)]) -> (Vec<f32>, Vec<u32>) {
        let (x, width) = (self.x.single(), self.x.columns());
        let rows = pairs.iter().flat_map(|pair| &x[pair.0 as usize * width..][..width]);
        (rows.copied().collect(), pairs.iter().map(|pair| pair.1).collect())
    }

    /// Of each target, in nats, and whether it is the likeliest.
    pub(super) fn losses(&self, targets: Targets) -> Vec<(f64, bool)> {
        let chunks = targets.pairs.chunks(targets.chunk.max(1));
        let of = |pairs| {
            let (rows, wanted) = self.rows(pairs);
            self.head.losses(&rows, &wanted)
        };
        chunks.flat_map(of).map(|(loss, best)| (f64::from(loss), best)).collect()
    }

    /// The sum of the losses, with the gradient of the sum of each times its scale.
    pub(super) fn backward(
        &self,
        targets: Targets,
        scales: Scales,
        sums: &mut Gradients,
    ) -> (LossSum, Tensor<2>) {
        let device = &self.model.device;
        let (tokens, width) = (self.x.rows(), self.x.columns());
        let mut dx = vec![0.0; tokens * width];
        let (mut total, mut first) = (0.0, 0);
        for pairs in targets.pairs.chunks(targets.chunk.max(1)) {
            let (rows, wanted) = self.rows(pairs);
            let scales = scales.numbers(first, pairs.len());
            first += pairs.len();
            let (losses, gradients) = self.head.backward(&rows, &wanted, &scales);
            // In order, so that the sum is the same for any size of a chunk.
            total = losses.iter().fold(total, |sum, loss| sum + f64::from(*loss));
            for (pair, row) in pairs.iter().zip(gradients.x.chunks_exact(width)) {
                dx[pair.0 as usize * width..][..width].copy_from_slice(row);
            }
            let mut add = |path: &str, gradient: Vec<f32>| {
                if !gradient.is_empty() {
                    let shape = [gradient.len()];
                    sums.add(path, from_vec(gradient, shape, device));
                }
            };
            add(&self.model.head.norm.weight_path(None), gradients.gain);
            add(self.model.projection().path(), gradients.table);
            if let Some(rows) = self.model.projection().token_rows() {
                add(rows.path(), gradients.rows);
            }
        }
        (LossSum::Number(total), from_vec(dx, [tokens, width], device))
    }
}
