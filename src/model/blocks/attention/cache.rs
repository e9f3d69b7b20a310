//! Keys and values of the tokens so far, with which text is written token by token.

use burn::tensor::Tensor;

use crate::ops::cpu::{AsLhs, CachedKeys, Left, Number};
use crate::ops::{AttentionConfig, Heads, from_vec, host};

/// Keys and values of the tokens so far, of one block; only the last of them where there is a
/// window.
#[derive(Default, Clone)]
pub struct KeyValueCache(Held);

/// In the form in which they were used last.
#[derive(Default, Clone)]
enum Held {
    #[default]
    Nothing,
    /// `[rows, tokens, kv_heads, head_dim]` each.
    Tensors(Tensor<4>, Tensor<4>),
    /// For the kernels of the CPU.
    OnCpu(CachedKeys),
}

impl KeyValueCache {
    /// Appends, and returns all keys and values that the last token sees.
    pub fn extend(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        window: Option<usize>,
    ) -> (Tensor<4>, Tensor<4>) {
        let [_, _, kv_heads, width] = keys.dims();
        let join = |held: Tensor<4>, new: Tensor<4>| Tensor::cat(vec![held, new], 1);
        let last = |all: Tensor<4>| {
            let count = all.dims()[1];
            match window {
                Some(window) if window < count => all.narrow(1, count - window, window),
                _ => all,
            }
        };
        let (keys, values) = match std::mem::take(&mut self.0) {
            Held::Nothing => (keys, values),
            Held::Tensors(k, v) => (join(k, keys), join(v, values)),
            Held::OnCpu(cached) => {
                let [k, v] = cached.seen().map(|x| {
                    let shape = [1, x.len() / (kv_heads * width), kv_heads, width];
                    from_vec(x, shape, &keys.device())
                });
                (join(k, keys), join(v, values))
            }
        };
        let (keys, values) = (last(keys), last(values));
        self.0 = Held::Tensors(keys.clone(), values.clone());
        (keys, values)
    }

    /// Appends keys and values of all tokens of a prompt for the kernels of the CPU.
    pub fn push_prompt<F: AsLhs>(&mut self, keys_values: &[Left<F>; 2], config: AttentionConfig) {
        let cached = self.on_cpu(config.heads, F::ROUNDS);
        for row in 0..keys_values[0].view().rows {
            let numbers = |x: &Left<F>| -> Vec<f32> {
                x.view().row(row).iter().map(|number| number.wide()).collect()
            };
            let [key, value] = keys_values.each_ref().map(numbers);
            cached.push(&key, &value, config.window);
        }
    }

    /// Keys and values of one text for the kernels of the CPU; new ones are rounded to bfloat16
    /// where factors of products are.
    pub fn on_cpu(&mut self, heads: Heads, rounds: bool) -> &mut CachedKeys {
        if let Held::Tensors(..) | Held::Nothing = self.0 {
            let mut cached = CachedKeys::new(heads.kv_heads, heads.width, rounds);
            if let Held::Tensors(keys, values) = std::mem::take(&mut self.0) {
                let (keys, values) = (host(keys), host(values));
                let tokens = |x| <[f32]>::chunks_exact(x, heads.kv_heads * heads.width);
                for (key, value) in tokens(&keys).zip(tokens(&values)) {
                    cached.push(key, value, None);
                }
            }
            self.0 = Held::OnCpu(cached);
        }
        match &mut self.0 {
            Held::OnCpu(cached) => cached,
            _ => unreachable!("it was made just now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn both_forms_hold_the_same_tokens() {
        let token =
            |number: f32| -> Tensor<4> { from_vec(vec![number; 4], [1, 1, 2, 2], &Device::flex()) };
        let mut cache = KeyValueCache::default();
        let heads = Heads { queries: 2, kv_heads: 2, width: 2 };
        cache.on_cpu(heads, false).push(&[1.0; 4], &[-1.0; 4], Some(2));
        cache.extend(token(2.0), token(-2.0), Some(2));
        cache.on_cpu(heads, false).push(&[3.0; 4], &[-3.0; 4], Some(2));
        let (keys, values) = cache.extend(token(4.0), token(-4.0), Some(2));
        assert_eq!(host(keys), [3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0]);
        assert_eq!(host(values), [-3.0, -3.0, -3.0, -3.0, -4.0, -4.0, -4.0, -4.0]);
    }
}
