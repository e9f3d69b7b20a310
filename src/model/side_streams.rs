//! What goes through the layers of one pass beside the residual stream: inputs that each layer has
//! of its own, and keys and values of a layer that later ones see, too; and their gradients, which
//! come back the same way. A pass of a model without such things leaves it empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

/// The side streams of a pass. Copies are the same ones.
#[derive(Debug, Clone, Default)]
pub struct SideStreams(Arc<Mutex<Streams>>);

#[derive(Debug, Default)]
struct Streams {
    inputs: Option<LayerInputTensors>,
    shared: BTreeMap<usize, SharedKeys>,
}

/// Inputs of all layers.
#[derive(Debug)]
struct LayerInputTensors {
    /// `[tokens, layers · width]`.
    all: Tensor<2>,
    width: usize,
    /// Whether a gradient is wanted.
    learns: bool,
    /// Of each layer, `[tokens, width]`.
    gradients: BTreeMap<usize, Tensor<2>>,
}

/// Keys and values of one layer.
#[derive(Debug, Default)]
struct SharedKeys {
    /// As they are mixed, `[tokens, kv_heads · width]`.
    packed: Option<[Tensor<2>; 2]>,
    /// Of one text each, with what came before: `[1, tokens, kv_heads, width]`.
    of_texts: Vec<[Tensor<4>; 2]>,
    /// Of `packed`, from the layers that saw them.
    gradient: Option<[Tensor<2>; 2]>,
}

impl SideStreams {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inputs of all layers, `[tokens, layers · width]`; whether their gradient is wanted.
    pub fn set_inputs(&self, all: Tensor<2>, width: usize, learns: bool) {
        let gradients = BTreeMap::new();
        self.streams().inputs = Some(LayerInputTensors { all, width, learns, gradients });
    }

    /// The input of a layer, `[tokens, width]`.
    pub fn input(&self, layer: usize) -> Tensor<2> {
        let streams = self.streams();
        let inputs = streams.inputs.as_ref().expect("they are made before the first layer");
        inputs.all.clone().narrow(1, layer * inputs.width, inputs.width)
    }

    /// Whether the gradient of these inputs is wanted.
    pub fn inputs_learn(&self) -> bool {
        self.streams().inputs.as_ref().is_some_and(|inputs| inputs.learns)
    }

    /// Keeps the gradient of a layer's input.
    pub fn set_input_gradient(&self, layer: usize, d: Tensor<2>) {
        if let Some(inputs) = &mut self.streams().inputs {
            inputs.gradients.insert(layer, d);
        }
    }

    /// The gradient of the inputs of all layers, once every layer has given its own.
    pub fn take_input_gradient(&self) -> Option<Tensor<2>> {
        let mut streams = self.streams();
        let inputs = streams.inputs.as_mut().filter(|inputs| inputs.learns)?;
        let gradients: Vec<_> = std::mem::take(&mut inputs.gradients).into_values().collect();
        let all = inputs.all.dims()[1] / inputs.width;
        assert_eq!(gradients.len(), all, "every layer has an input of its own");
        Some(Tensor::cat(gradients, 1))
    }

    /// Lets later layers see keys and values, `[tokens, kv_heads · width]` each, under a number.
    pub fn share(&self, number: usize, keys_values: [Tensor<2>; 2]) {
        self.streams().shared.entry(number).or_default().packed = Some(keys_values);
    }

    /// Keys and values that an earlier layer shares.
    pub fn shared(&self, number: usize) -> [Tensor<2>; 2] {
        let streams = self.streams();
        let found = streams.shared.get(&number).and_then(|shared| shared.packed.clone());
        found.expect("a description has the layer that shares them before those that see them")
    }

    /// The same for one more token of each of several texts.
    pub fn share_of_texts(&self, number: usize, keys_values: Vec<[Tensor<4>; 2]>) {
        self.streams().shared.entry(number).or_default().of_texts = keys_values;
    }

    /// What [`Self::share_of_texts`] was given.
    pub fn shared_of_texts(&self, number: usize) -> Vec<[Tensor<4>; 2]> {
        self.streams().shared.get(&number).map(|shared| shared.of_texts.clone()).unwrap_or_default()
    }

    /// Adds the gradient of what [`Self::shared`] gave.
    pub fn give_back(&self, number: usize, d: [Tensor<2>; 2]) {
        let mut streams = self.streams();
        let shared = streams.shared.entry(number).or_default();
        shared.gradient = Some(match shared.gradient.take() {
            Some([keys, values]) => {
                let [d_keys, d_values] = d;
                [keys + d_keys, values + d_values]
            }
            None => d,
        });
    }

    /// The sum of what was given back; none if nothing was.
    pub fn take_back(&self, number: usize) -> Option<[Tensor<2>; 2]> {
        self.streams().shared.get_mut(&number)?.gradient.take()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::{from_vec, host};

    fn row(values: &[f32]) -> Tensor<2> {
        from_vec(values.to_vec(), [1, values.len()], &Device::flex())
    }

    #[test]
    fn gradients_of_shared_keys_are_summed_and_taken_once() {
        let side = SideStreams::default();
        side.share(1, [row(&[1.0]), row(&[2.0])]);
        let copy = side.clone();
        assert_eq!(copy.shared(1).map(host), [[1.0], [2.0]]);
        assert!(side.take_back(1).is_none() && side.take_back(0).is_none());
        side.give_back(1, [row(&[3.0]), row(&[4.0])]);
        copy.give_back(1, [row(&[0.5]), row(&[0.25])]);
        assert_eq!(side.take_back(1).unwrap().map(host), [[3.5], [4.25]]);
        assert!(side.take_back(1).is_none());
        assert!(side.shared_of_texts(1).is_empty());
    }

    #[test]
    fn inputs_are_those_of_a_layer_and_their_gradients_come_in_the_order_of_layers() {
        let side = SideStreams::default();
        assert!(!side.inputs_learn() && side.take_input_gradient().is_none());
        side.set_inputs(row(&[1.0, 2.0, 3.0, 4.0]), 2, true);
        assert_eq!(host(side.input(1)), [3.0, 4.0]);
        side.set_input_gradient(1, row(&[7.0, 8.0]));
        side.set_input_gradient(0, row(&[5.0, 6.0]));
        assert_eq!(host(side.take_input_gradient().unwrap()), [5.0, 6.0, 7.0, 8.0]);
        // Where nothing learns none is kept.
        side.set_inputs(row(&[1.0]), 1, false);
        assert!(!side.inputs_learn() && side.take_input_gradient().is_none());
    }
}
