//! What blocks keep of the tokens so far, with which text is written token by token.

use burn::tensor::Tensor;

use super::KeyValueCache;

/// What a block keeps of one text: that of its own kind, and nothing of the others.
#[derive(Default, Clone)]
pub struct BlockCache {
    /// Of attention.
    pub key_values: KeyValueCache,
    /// Of what goes through the text from its beginning.
    pub recurrent: RecurrentCache,
}

/// What a recurrent block keeps.
#[derive(Default, Clone)]
pub struct RecurrentCache {
    /// What a convolution saw last, `[tokens, channels]`: one token less than it sees.
    window: Option<Tensor<2>>,
    /// The state after the last token, `[1, heads, key width, value width]`.
    pub state: Option<Tensor<4>>,
}

impl RecurrentCache {
    /// Appends what a convolution of a width is given, `[tokens, channels]`; returns what it sees
    /// of it at the last token, `[1, width, channels]`, with zeros before the beginning.
    pub fn extend(&mut self, x: Tensor<2>, width: usize) -> Tensor<3> {
        let [_, channels] = x.dims();
        let zeros = || Tensor::zeros([width - 1, channels], &x.device());
        let held = self.window.take().or_else(|| (width > 1).then(zeros));
        let all = match held {
            Some(held) => Tensor::cat(vec![held, x], 0),
            None => x,
        };
        let first = all.dims()[0] - width;
        let window = all.narrow(0, first, width);
        if width > 1 {
            self.window = Some(window.clone().narrow(0, 1, width - 1));
        }
        window.reshape([1, width, channels])
    }
}
