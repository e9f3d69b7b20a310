//! Where the tape of a part of a layer begins: at its input, or behind its norm, of which the
//! gradient is taken by hand then, together with the sum of what goes past the part.

use burn::tensor::{Gradients as Tape, Tensor};

use super::Residual;
use crate::model::{Norm, PassContext};

/// The beginning of a tape.
pub enum TapeStart {
    /// The input is a leaf.
    Input(Tensor<2>),
    /// What its norm makes of the input is a leaf.
    Normed {
        /// The input, on no tape.
        input: Tensor<2>,
        /// The leaf.
        normed: Tensor<2>,
    },
}

impl Residual {
    /// What enters the block, on a tape that begins there or before.
    pub(super) fn enter_tape(&self, x: Tensor<2>, context: &PassContext) -> (Tensor<2>, TapeStart) {
        if self.before.as_ref().is_some_and(|norm| norm.has_gradient_by_hand(&x)) {
            let normed = self.entering(x.clone(), context).autodiff().require_grad();
            return (normed.clone(), TapeStart::Normed { input: x, normed });
        }
        let input = x.autodiff().require_grad();
        (self.entering(input.clone(), context), TapeStart::Input(input))
    }
}

impl TapeStart {
    /// The gradient of the input, to which that of what goes past the part is added.
    pub fn gradient(self, norm: Option<&Norm>, tape: &mut Tape, past: Tensor<2>) -> Tensor<2> {
        let of = |leaf: &Tensor<2>, tape: &mut Tape| {
            leaf.grad_remove(tape).expect("it is a leaf of the tape")
        };
        match (self, norm) {
            (Self::Normed { input, normed }, Some(norm)) => {
                norm.backward_with(input, of(&normed, tape), past)
            }
            (Self::Normed { normed, .. }, None) => of(&normed, tape) + past,
            (Self::Input(input), _) => of(&input, tape) + past,
        }
    }
}
