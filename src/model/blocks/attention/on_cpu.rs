//! Attention by the kernels of the CPU.

use burn::tensor::Tensor;

use super::cache::KeyValueCache;
use super::output_gate::{joined, passed, passed_backward, split_on_cpu};
use super::qkv::{QkvNarrow, QkvOnCpu};
use crate::model::SideStreams;
use crate::model::blocks::Setting;
use crate::model::blocks::joint::{JointNarrow, JointOnCpu};
use crate::model::blocks::norm::NormOnCpu;
use crate::ops::cpu::{
    AsLhs, Attention as Mixing, Back, HostTensor, Left, Mixed, Narrow, Number, PathGradients,
    Projection, Rotation, View,
};
use crate::ops::{AttentionConfig, host};

/// The block for the kernels of the CPU.
pub struct AttentionOnCpu {
    /// To queries, keys and values.
    pub qkv: QkvOnCpu,
    /// From what was mixed.
    pub output: Projection,
    /// Of queries, keys and values.
    pub norms: [Option<NormOnCpu>; 3],
    /// Whether what is mixed goes through a gate.
    pub gated: bool,
    /// Heads, scale and window.
    pub config: AttentionConfig,
    /// How queries and keys are rotated.
    pub rope: Option<[RotationOnCpu; 2]>,
    /// Scores of nothing.
    pub sinks: Option<SinksOnCpu>,
    /// Whose keys and values are seen here, and who sees these.
    pub elsewhere: Option<KeysElsewhere>,
}

/// Keys and values of another layer, and for others.
pub struct KeysElsewhere {
    /// Those of an earlier layer, and their number.
    pub borrowed: Option<(usize, [HostTensor; 2])>,
    /// The number under which later layers see those of this one.
    pub shares: Option<usize>,
    /// How they get there, and their gradients back.
    pub side: SideStreams,
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
    pub(super) q: Left<F>,
    /// None where they are another layer's.
    pub(super) kv: Option<[Left<F>; 2]>,
    /// Queries, keys and values before their norms; values that are keys are kept there.
    raw: [Option<Left<F>>; 3],
    pub(super) gate: Option<Left<F>>,
    pub(super) mixed: Mixed<F>,
    narrow_qkv: QkvNarrow<F>,
    narrow_output: Narrow<F>,
}

/// Queries, keys or values, before their norm if they have one and as they are mixed.
type Turned<F> = (Option<Left<F>>, Left<F>);

/// Queries, and the gate beside them.
type Queries<F> = (Turned<F>, Option<Left<F>>);

/// Queries, and keys and values where they are the layer's own.
type Projected<F> = (Queries<F>, Option<[Turned<F>; 2]>, QkvNarrow<F>);

impl RotationOnCpu {
    /// Of heads of a width.
    fn rotation(&self, width: usize) -> Rotation<'_> {
        let [cosines, sines] = &self.0;
        let rotated = cosines.columns();
        Rotation { cosines: cosines.single(), sines: sines.single(), width, rotated }
    }
}

impl AttentionOnCpu {
    fn rotations(&self) -> [Option<Rotation<'_>>; 2] {
        let width = self.config.heads.width;
        let [q, k] = self.rope.as_ref().map_or([None; 2], |[q, k]| [Some(q), Some(k)]);
        [q, k].map(|of| of.map(|of| of.rotation(width)))
    }

    /// Queries, keys or values of what their linear layer gave.
    pub(super) fn turned<F: AsLhs>(&self, number: usize, y: View<f32>) -> Turned<F> {
        let mut normed = None;
        let raw = self.norms[number].as_ref().map(|norm| {
            let rows: Vec<f32> = (0..y.rows).flat_map(|row| y.row(row)).copied().collect();
            normed = Some(norm.operation().rows(&rows));
            Left::of(y)
        });
        let y = match &normed {
            Some(normed) => View::new(normed, y.rows, y.columns),
            None => y,
        };
        let turned = match self.rotations().get(number).copied().flatten() {
            Some(rotation) => rotation.rows(y),
            None => Left::of(y),
        };
        (raw, turned)
    }

    /// The same of a linear layer.
    fn through<F: AsLhs>(
        &self,
        number: usize,
        to: &Projection,
        x: View<F::Stored>,
    ) -> (Turned<F>, Narrow<F>) {
        let plain = self.norms[number].is_none() && number == 2;
        if plain {
            let (y, narrow) = to.forward_factor::<F>(x);
            return ((None, y), narrow);
        }
        let (y, narrow) = to.forward::<F>(x);
        (self.turned(number, View::new(&y, x.rows, to.weight.rows())), narrow)
    }

    /// Queries of what their linear layer gave, and the gate beside them.
    fn queries<F: AsLhs>(&self, y: View<f32>) -> Queries<F> {
        if !self.gated {
            return (self.turned(0, y), None);
        }
        let (queries, gate) = split_on_cpu(y, self.config.heads);
        let columns = self.config.query_width();
        (self.turned(0, View::new(&queries, y.rows, columns)), Some(gate))
    }

    /// The same of the linear layer.
    fn to_queries<F: AsLhs>(&self, to: &Projection, x: View<F::Stored>) -> (Queries<F>, Narrow<F>) {
        let (y, narrow) = to.forward::<F>(x);
        (self.queries(View::new(&y, x.rows, to.weight.rows())), narrow)
    }

    /// Queries, keys and values of `x`.
    fn project<F: AsLhs>(&self, x: View<F::Stored>) -> Projected<F> {
        match &self.qkv {
            QkvOnCpu::Joint(JointOnCpu::Separate([to_q, to_k, to_v])) => {
                let k_and_v =
                    || rayon::join(|| self.through(1, to_k, x), || self.through(2, to_v, x));
                let (q, (k, v)) = rayon::join(|| self.to_queries::<F>(to_q, x), k_and_v);
                let narrow = JointNarrow::Separate([q.1, k.1, v.1]);
                (q.0, Some([k.0, v.0]), QkvNarrow::Joint(narrow))
            }
            QkvOnCpu::Joint(JointOnCpu::Fused(to_all, widths)) => {
                let (y, narrow) = to_all.forward::<F>(x);
                let y = View::new(&y, x.rows, widths.iter().sum());
                let [q, k, v] = JointOnCpu::parts(y, *widths);
                let k_and_v = || rayon::join(|| self.turned(1, k), || self.turned(2, v));
                let (q, (k, v)) = rayon::join(|| self.queries(q), k_and_v);
                (q, Some([k, v]), QkvNarrow::Joint(JointNarrow::Fused(narrow)))
            }
            QkvOnCpu::KeysAsValues(JointOnCpu::Separate([to_q, to_k])) => {
                let twice = || {
                    let (y, narrow) = to_k.forward::<F>(x);
                    (self.keys_as_values(View::new(&y, x.rows, to_k.weight.rows())), narrow)
                };
                let (q, (kv, narrow)) = rayon::join(|| self.to_queries::<F>(to_q, x), twice);
                (q.0, Some(kv), QkvNarrow::KeysAsValues(JointNarrow::Separate([q.1, narrow])))
            }
            QkvOnCpu::KeysAsValues(JointOnCpu::Fused(to_both, widths)) => {
                let (y, narrow) = to_both.forward::<F>(x);
                let y = View::new(&y, x.rows, widths.iter().sum());
                let [q, k] = JointOnCpu::parts(y, *widths);
                let kv = self.keys_as_values(k);
                (self.queries(q), Some(kv), QkvNarrow::KeysAsValues(JointNarrow::Fused(narrow)))
            }
            QkvOnCpu::Queries(to_q) => {
                let (q, narrow) = self.to_queries::<F>(to_q, x);
                (q, None, QkvNarrow::Queries(narrow))
            }
        }
    }

    /// Keys and values of the same numbers, which are kept once.
    pub(super) fn keys_as_values<F: AsLhs>(&self, y: View<f32>) -> [Turned<F>; 2] {
        let (raw, k) = self.turned(1, y);
        let raw = raw.or_else(|| self.norms[2].is_some().then(|| Left::of(y)));
        [(raw, k), (None, self.turned(2, y).1)]
    }

    /// Keys and values of the layer that shares them.
    pub(super) fn borrowed<F: AsLhs>(&self) -> [Left<F>; 2] {
        let elsewhere = self.elsewhere.as_ref().and_then(|keys| keys.borrowed.as_ref());
        let (_, keys_values) = elsewhere.expect("it has none of its own");
        keys_values.each_ref().map(|x| x.numbers().converted())
    }

    fn mixing<'a, F: AsLhs>(
        &'a self,
        q: &'a Left<F>,
        [k, v]: &'a [Left<F>; 2],
        setting: Setting<'a>,
    ) -> Mixing<'a, F> {
        let Setting { documents, branches, wanted } = setting;
        let sinks = self.sinks.as_ref().map(|sinks| sinks.values.single());
        Mixing { q, k, v, sinks, config: self.config, documents, branches, wanted }
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedAttention<F> {
        let (((raw_q, q), gate), own, narrow_qkv) = self.project::<F>(x.view());
        drop(x);
        let (raw_kv, own) = match own {
            Some([(raw_k, k), (raw_v, v)]) => ([raw_k, raw_v], Some([k, v])),
            None => ([None, None], None),
        };
        if let (Some(own), Some(elsewhere)) = (&own, &self.elsewhere) {
            elsewhere.share(own, self.config.key_width());
        }
        let (is_own, kv) = (own.is_some(), own.unwrap_or_else(|| self.borrowed()));
        let mixed = self.mixing(&q, &kv, setting).forward();
        // What follows is done to each token by itself.
        let some = Self::leaving(&mixed, gate.as_ref(), setting);
        let narrow_output =
            self.output.add::<F>(some.as_ref().unwrap_or(&mixed.output).view(), target);
        let [raw_k, raw_v] = raw_kv;
        let (kv, raw) = (is_own.then_some(kv), [raw_q, raw_k, raw_v]);
        SavedAttention { q, kv, raw, gate, mixed, narrow_qkv, narrow_output }
    }

    /// Keeps keys and values, if they are its own.
    pub fn keep<F: AsLhs>(&self, saved: &SavedAttention<F>, cache: &mut KeyValueCache) {
        let Some(own) = &saved.kv else { return };
        let heads = self.config.heads;
        if self.elsewhere.is_none() {
            return cache.push_prompt(own, self.config);
        }
        let [k, v] = own.each_ref().map(|x| {
            let rows = x.view().rows;
            x.to_tensor(self.config.key_width()).reshape([1, rows, heads.kv_heads, heads.width])
        });
        cache.extend(k, v, self.config.window);
    }

    /// What the last linear layer gets, if it is not what was mixed.
    pub(super) fn leaving<F: AsLhs>(
        mixed: &Mixed<F>,
        gate: Option<&Left<F>>,
        setting: Setting,
    ) -> Option<Left<F>> {
        match (gate, setting.wanted) {
            (Some(gate), _) => Some(passed(&mixed.output, gate, setting)),
            (None, Some(rows)) => Some(mixed.output.picked(rows)),
            (None, None) => None,
        }
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
        let SavedAttention { q, kv, raw, gate, mixed, narrow_qkv, narrow_output } = saved;
        let factor = F::factor_of(d, self.output.weight.rows());
        let given = [(&self.output, factor.view(), &narrow_output)];
        let some = Self::leaving(&mixed, gate.as_ref(), setting);
        let output = some.as_ref().unwrap_or(&mixed.output);
        let mut d_mixed = Back::through(&given, output.view(), gradients).input_factor();
        drop((factor, some));
        let mut d_gate = None;
        if let Some(gate) = &gate {
            let [d, of_gate] = passed_backward(&mixed.output, gate, &d_mixed, setting);
            (d_mixed, d_gate) = (d, Some(of_gate));
        } else if let Some(rows) = setting.wanted {
            d_mixed = d_mixed.spread(rows, q.view().rows);
        }
        let is_own = kv.is_some();
        let kv = kv.unwrap_or_else(|| self.borrowed());
        let [of_queries, of_keys] = self.rotations();
        // What comes back from other layers, and goes there, is of rotated keys.
        let turned_back = if self.elsewhere.is_some() { None } else { of_keys };
        let mixing = self.mixing(&q, &kv, setting);
        let d_given = mixing.backward(&mixed, &d_mixed, [of_queries, turned_back]);
        drop((d_mixed, mixed, kv));
        if let (Some(sinks), Some(d)) = (&self.sinks, d_given.sinks)
            && sinks.trainable
        {
            gradients.push((sinks.name.to_owned(), d));
        }
        let mut d_qkv = d_given.qkv;
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.exchange(&mut d_qkv, self.config.key_width(), of_keys);
        }
        self.through_norms(&raw, &mut d_qkv, is_own, gradients);
        let [mut d_q, d_k, d_v] = d_qkv;
        if let Some(gate) = d_gate {
            d_q = joined(&d_q, &gate, self.config.heads);
        }
        let d_kv = match &self.qkv {
            QkvOnCpu::Joint(_) => [Some(d_k), Some(d_v)],
            QkvOnCpu::KeysAsValues(_) => [Some(sum(d_k, &d_v)), None],
            QkvOnCpu::Queries(_) => [None, None],
        };
        self.qkv.back(d_q, d_kv, (&narrow_qkv, x().view()), gradients)
    }

    /// Makes the gradients of what norms are of from those of what they gave.
    fn through_norms<F: AsLhs>(
        &self,
        raw: &[Option<Left<F>>; 3],
        d_qkv: &mut [Left<F>; 3],
        is_own: bool,
        gradients: &mut PathGradients,
    ) {
        let [q, k, v] = raw;
        let raw = [q, k, if matches!(self.qkv, QkvOnCpu::KeysAsValues(_)) { k } else { v }];
        let there = if is_own { 3 } else { 1 };
        for ((norm, raw), d) in self.norms.iter().zip(raw).zip(d_qkv).take(there) {
            let Some(norm) = norm else { continue };
            let raw = raw.as_ref().expect("it was kept for its norm");
            let mut d_raw = vec![0.0; raw.numbers().len()];
            norm.backward(raw, d.numbers(), &mut d_raw, gradients);
            *d = Left::of(View::new(&d_raw, raw.view().rows, raw.view().columns));
        }
    }
}

/// The sum of two factors.
fn sum<F: AsLhs>(mut a: Left<F>, b: &Left<F>) -> Left<F> {
    let numbers = a.numbers_mut().iter_mut().zip(b.numbers());
    numbers.for_each(|(a, b)| *a = F::of(a.wide() + b.wide()));
    a
}

impl KeysElsewhere {
    /// Shows keys and values of a width to later layers.
    fn share<F: AsLhs>(&self, keys_values: &[Left<F>; 2], width: usize) {
        if let Some(number) = self.shares {
            self.side.share(number, keys_values.each_ref().map(|x| x.to_tensor(width)));
        }
    }

    /// Gives the gradients of borrowed keys and values back, or adds what was given back to those
    /// of shared ones, and turns keys back.
    fn exchange<F: AsLhs>(
        &self,
        [_, d_k, d_v]: &mut [Left<F>; 3],
        width: usize,
        of_keys: Option<Rotation>,
    ) {
        if let Some((number, _)) = &self.borrowed {
            self.side.give_back(*number, [&*d_k, &*d_v].map(|x| x.to_tensor(width)));
            return;
        }
        let given = self.shares.and_then(|number| self.side.take_back(number));
        if let Some(given) = given {
            let total = |d: &Left<F>, more: Tensor<2>| host(d.to_tensor(width) + more);
            let [more_k, more_v] = given;
            let rows = d_k.view().rows;
            let [k, v] = [total(d_k, more_k), total(d_v, more_v)];
            *d_v = Left::of(View::new(&v, rows, width));
            *d_k = turned_back(&k, rows, of_keys);
        } else {
            let k = host(d_k.to_tensor(width));
            *d_k = turned_back(&k, d_k.view().rows, of_keys);
        }
    }
}

/// Rows of heads as they were before their rotation.
fn turned_back<F: AsLhs>(x: &[f32], rows: usize, by: Option<Rotation>) -> Left<F> {
    let width = x.len() / rows.max(1);
    Left::with(rows, width, |row, target| {
        let x = &x[row * width..][..width];
        match by {
            Some(rotation) => rotation.back::<F>(row, x, target),
            None => target.iter_mut().zip(x).for_each(|(to, x)| *to = F::of(*x)),
        }
    })
}
