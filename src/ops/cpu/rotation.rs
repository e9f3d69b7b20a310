//! Rotation of queries and keys by their positions.

use pulp::NullaryFnOnce;

use super::element::Format;
use super::packed::{Left, View};
use crate::device::arch;

/// Cosines and sines by position, `[tokens, rotated]` each: how the first numbers of heads are
/// rotated, whose two halves are the coordinates of `rotated / 2` planes.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Cosines.
    pub cosines: &'a [f32],
    /// Sines.
    pub sines: &'a [f32],
    /// Numbers of a head.
    pub width: usize,
    /// How many of them are rotated.
    pub rotated: usize,
}

impl Rotation<'_> {
    /// Rotates the heads of every token, `x: [tokens, heads · width]`.
    pub fn rows<F: Format>(self, x: View<f32>) -> Left<F> {
        Left::with(x.rows, x.columns, |token, target| {
            let x = x.row(token);
            arch().dispatch(Rotate::<F> { rotation: self, token, sign: 1.0, x, target });
        })
    }

    /// Rotates some heads of a token back.
    pub fn back<F: Format>(self, token: usize, x: &[f32], target: &mut [F::Stored]) {
        arch().dispatch(Rotate::<F> { rotation: self, token, sign: -1.0, x, target });
    }
}

struct Rotate<'a, F: Format> {
    rotation: Rotation<'a>,
    token: usize,
    sign: f32,
    x: &'a [f32],
    target: &'a mut [F::Stored],
}

impl<F: Format> NullaryFnOnce for Rotate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rotation, token, sign, x, target } = self;
        let Rotation { width, rotated, .. } = rotation;
        let cosines = &rotation.cosines[token * rotated..][..rotated];
        let sines = &rotation.sines[token * rotated..][..rotated];
        for (head, target) in x.chunks_exact(width).zip(target.chunks_exact_mut(width)) {
            let ((head, kept), (target, rest)) =
                (head.split_at(rotated), target.split_at_mut(rotated));
            rest.iter_mut().zip(kept).for_each(|(to, number)| *to = F::of(*number));
            let (left, right) = head.split_at(rotated / 2);
            let (to_left, to_right) = target.split_at_mut(rotated / 2);
            let numbers = left.iter().zip(right).zip(cosines.iter().zip(sines));
            for (((a, b), (cosine, sine)), to) in numbers.zip(to_left.iter_mut().zip(to_right)) {
                let sine = sine * sign;
                *to.0 = F::of(a * cosine - b * sine);
                *to.1 = F::of(b * cosine + a * sine);
            }
        }
    }
}
