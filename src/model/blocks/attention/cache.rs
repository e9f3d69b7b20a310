//! Keys and values of the tokens so far, with which text is written token by token.

use burn::tensor::Tensor;

/// Keys and values of the tokens so far, of one block: `[rows, tokens, kv_heads, head_dim]`; only
/// the last of them where there is a window.
#[derive(Default)]
pub struct KeyValueCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl KeyValueCache {
    /// Appends, and returns all keys and values that the last token sees.
    pub fn extend(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        window: Option<usize>,
    ) -> (Tensor<4>, Tensor<4>) {
        let join = |held: Option<Tensor<4>>, new: Tensor<4>| {
            let all = match held {
                Some(held) => Tensor::cat(vec![held, new], 1),
                None => new,
            };
            let count = all.dims()[1];
            match window {
                Some(window) if window < count => all.narrow(1, count - window, window),
                _ => all,
            }
        };
        let keys = join(self.keys.take(), keys);
        let values = join(self.values.take(), values);
        self.keys = Some(keys.clone());
        self.values = Some(values.clone());
        (keys, values)
    }
}
