//! Attention by the kernels of the CPU.

use crate::model::blocks::Setting;
use crate::model::blocks::joint::{JointNarrow, JointOnCpu};
use crate::model::blocks::norm::NormOnCpu;
use crate::ops::AttentionConfig;
use crate::ops::cpu::{
    AsLhs, Attention as Mixing, Back, HostTensor, Left, Mixed, Narrow, PathGradients, Projection,
    Rotation, View,
};

/// The block for the kernels of the CPU.
pub struct AttentionOnCpu {
    /// To queries, keys and values.
    pub qkv: JointOnCpu<3>,
    /// From what was mixed.
    pub output: Projection,
    /// Of queries and keys.
    pub norms: Option<[NormOnCpu; 2]>,
    /// Heads, scale and window.
    pub config: AttentionConfig,
    /// How queries and keys are rotated.
    pub rope: Option<[RotationOnCpu; 2]>,
    /// Scores of nothing.
    pub sinks: Option<SinksOnCpu>,
}

/// Cosines and sines.
pub struct RotationOnCpu(pub [HostTensor; 2]);

/// A score of nothing for each query head.
pub struct SinksOnCpu {
    /// Path within the layer.
    pub name: &'static str,
    /// `[queries]`.
    pub values: HostTensor,
    /// Whether their gradient is wanted.
    pub trainable: bool,
}

/// What its backward pass needs, in the format of factors.
pub struct SavedAttention<F: AsLhs> {
    qkv: [Left<F>; 3],
    /// Queries and keys before their norms.
    raw: [Option<Left<F>>; 2],
    mixed: Mixed<F>,
    narrow_qkv: JointNarrow<F, 3>,
    narrow_output: Narrow<F>,
}

/// Queries or keys, before their norm if they have one and as they are mixed.
type Turned<F> = (Option<Left<F>>, Left<F>);

impl RotationOnCpu {
    /// Of heads of a width.
    fn rotation(&self, width: usize) -> Rotation<'_> {
        let [cosines, sines] = &self.0;
        let rotated = cosines.columns();
        Rotation { cosines: cosines.single(), sines: sines.single(), width, rotated }
    }
}

impl AttentionOnCpu {
    fn rotations(&self) -> Option<[Rotation<'_>; 2]> {
        let width = self.config.heads.width;
        self.rope.as_ref().map(|both| both.each_ref().map(|one| one.rotation(width)))
    }

    /// Queries or keys of what their linear layer gave.
    fn turned<F: AsLhs>(&self, number: usize, y: View<f32>) -> Turned<F> {
        let mut normed = None;
        let raw = self.norms.as_ref().map(|norms| {
            let rows: Vec<f32> = (0..y.rows).flat_map(|row| y.row(row)).copied().collect();
            normed = Some(norms[number].operation().rows(&rows));
            Left::of(y)
        });
        let y = match &normed {
            Some(normed) => View::new(normed, y.rows, y.columns),
            None => y,
        };
        let turned = match self.rotations() {
            Some(rotations) => rotations[number].rows(y),
            None => Left::of(y),
        };
        (raw, turned)
    }

    /// Queries, keys and values of `x`.
    fn project<F: AsLhs>(&self, x: &Left<F>) -> ([Turned<F>; 2], Left<F>, JointNarrow<F, 3>) {
        let tokens = x.view().rows;
        match &self.qkv {
            JointOnCpu::Separate([to_q, to_k, to_v]) => {
                let turned = |number: usize, to: &Projection| {
                    let (y, narrow) = to.forward::<F>(x.view());
                    let columns = to.weight.rows();
                    (self.turned(number, View::new(&y, tokens, columns)), narrow)
                };
                let values = || to_v.forward_factor::<F>(x.view());
                let k_and_v = || rayon::join(|| turned(1, to_k), values);
                let (q, (k, v)) = rayon::join(|| turned(0, to_q), k_and_v);
                ([q.0, k.0], v.0, JointNarrow::Separate([q.1, k.1, v.1]))
            }
            JointOnCpu::Fused(to_all, widths) => {
                let (y, narrow) = to_all.forward::<F>(x.view());
                let y = View::new(&y, tokens, widths.iter().sum());
                let [q, k, v] = JointOnCpu::parts(y, *widths);
                let k_and_v = || rayon::join(|| self.turned(1, k), || Left::of(v));
                let (q, (k, v)) = rayon::join(|| self.turned(0, q), k_and_v);
                ([q, k], v, JointNarrow::Fused(narrow))
            }
        }
    }

    fn mixing<'a, F: AsLhs>(
        &'a self,
        [q, k, v]: &'a [Left<F>; 3],
        setting: Setting<'a>,
    ) -> Mixing<'a, F> {
        let Setting { documents, wanted } = setting;
        let sinks = self.sinks.as_ref().map(|sinks| sinks.values.single());
        Mixing { q, k, v, sinks, config: self.config, documents, wanted }
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedAttention<F> {
        let ([(raw_q, q), (raw_k, k)], v, narrow_qkv) = self.project(&x);
        drop(x);
        let qkv = [q, k, v];
        let mixed = self.mixing(&qkv, setting).forward();
        // What follows is done to each token by itself.
        let some = setting.wanted.map(|rows| mixed.output.picked(rows));
        let narrow_output =
            self.output.add::<F>(some.as_ref().unwrap_or(&mixed.output).view(), target);
        SavedAttention { qkv, raw: [raw_q, raw_k], mixed, narrow_qkv, narrow_output }
    }

    /// The gradient of the input, of all tokens, from that of what was added; `x` makes the input
    /// again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedAttention<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let factor = F::factor_of(d, self.output.weight.rows());
        let given = [(&self.output, factor.view(), &saved.narrow_output)];
        let some = setting.wanted.map(|rows| saved.mixed.output.picked(rows));
        let mixed = some.as_ref().unwrap_or(&saved.mixed.output);
        let mut d_mixed = Back::through(&given, mixed.view(), gradients).input_factor();
        drop((factor, some));
        if let Some(rows) = setting.wanted {
            d_mixed = d_mixed.spread(rows, saved.qkv[0].view().rows);
        }
        let mixing = self.mixing(&saved.qkv, setting);
        let d_given = mixing.backward(&saved.mixed, &d_mixed, self.rotations());
        drop(d_mixed);
        if let (Some(sinks), Some(d)) = (&self.sinks, d_given.sinks)
            && sinks.trainable
        {
            gradients.push((sinks.name.to_owned(), d));
        }
        let mut d_qkv = d_given.qkv;
        let norms = self.norms.iter().flatten().zip(&saved.raw);
        for ((norm, raw), d) in norms.zip(&mut d_qkv) {
            let raw = raw.as_ref().expect("it was kept for its norm");
            let mut d_raw = vec![0.0; raw.numbers().len()];
            norm.backward(raw, d.numbers(), &mut d_raw, gradients);
            *d = Left::of(View::new(&d_raw, raw.view().rows, raw.view().columns));
        }
        self.qkv.back(&d_qkv, &saved.narrow_qkv, x().view(), gradients)
    }
}
