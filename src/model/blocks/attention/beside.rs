//! Attention whose queries, keys and values stay beside each other on a GPU, from the product that
//! gives them to the kernel that mixes them: where nothing is done to them but to rotate them.

use burn::tensor::{Device, Gradients as Tape, Tensor};

use super::Attention;
use super::qkv::Qkv;
use crate::device::DeviceLimits;
use crate::model::PassContext;
use crate::ops::{GivenGradients, attend_beside, attend_beside_backward, rotate_beside};

/// What the gradient needs of a forward pass on tapes.
pub enum TapedAttention {
    /// Queries, keys and values by themselves.
    Apart(TapedApart),
    /// All beside each other.
    Beside(TapedBeside),
}

/// The same where they are by themselves.
pub struct TapedApart {
    /// On the first.
    pub(super) qkv: [Tensor<2>; 3],
    /// On the first, and as a leaf of the second.
    pub(super) gate: Option<(Tensor<2>, Tensor<2>)>,
    /// The leaf of the second.
    pub(super) mixed: Tensor<2>,
}

/// The same where they are beside each other.
pub struct TapedBeside {
    /// On the first.
    qkv: Tensor<2>,
    /// The leaf of the second.
    mixed: Tensor<2>,
}

impl Attention {
    /// Makes one product of queries, keys and values possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        self.qkv.place_together(limits);
    }

    /// Queries, keys and values of `x: [tokens, hidden]` beside each other, rotated.
    fn beside(&self, x: &Tensor<2>, context: &PassContext) -> Option<Tensor<2>> {
        let plain = self.norms.is_none() && self.value_norm.is_none();
        let own = self.shares.is_none() && self.sinks.is_none() && !self.gated;
        let (true, Qkv::Joint(joint)) = (plain && own, &self.qkv) else { return None };
        let rotary = &context.rotary[self.rope?];
        if *context.device() == Device::flex() {
            return None;
        }
        rotate_beside(&joint.beside(x, context)?, rotary, self.config.heads)
    }

    /// The block on plain tensors.
    pub(super) fn forward_beside(
        &self,
        x: &Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> Option<Tensor<2>> {
        let qkv = self.beside(x, context)?;
        let mixed = attend_beside(qkv, self.config, &context.documents, context.computing);
        let mixed = if picks { context.picked(mixed) } else { mixed };
        Some(self.leave(mixed, None, context))
    }

    /// The same for `x` on a tape, and what was mixed on another.
    pub(super) fn taped_beside(
        &self,
        x: &Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> Option<(Tensor<2>, TapedBeside)> {
        let qkv = self.beside(x, context)?;
        let plain = qkv.clone().inner();
        let mixed = attend_beside(plain, self.config, &context.documents, context.computing);
        let mixed = if picks { context.picked(mixed) } else { mixed };
        let mixed = mixed.autodiff().require_grad();
        Some((self.leave(mixed.clone(), None, context), TapedBeside { qkv, mixed }))
    }

    /// From the tape of the output to that of the input, which is added to them.
    pub(super) fn back_beside(
        &self,
        TapedBeside { qkv, mixed }: TapedBeside,
        (context, picks): (&PassContext, bool),
        tapes: &mut Vec<Tape>,
    ) {
        let after = tapes.last_mut().expect("that of the output");
        let d = mixed.grad_remove(after).expect("it is a leaf of the tape");
        let d = if picks { context.spread(d) } else { d };
        let (plain, documents) = (qkv.clone().inner(), &context.documents);
        let d = attend_beside_backward(plain, d, self.config, documents, context.computing);
        tapes.push(GivenGradients::of(qkv, d).backward());
    }
}
