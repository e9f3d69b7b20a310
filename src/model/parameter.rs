//! A tensor with a name that outlives the process: its Hugging Face path.

use burn::tensor::Tensor;

use crate::model::Model;

/// One weight; plain values, lifted onto a tape only while its layer is differentiated.
#[derive(Debug, Clone)]
pub struct Parameter<const D: usize> {
    /// The master values, f32.
    pub value: Tensor<D>,
    /// Does training change it?
    pub trainable: bool,
}

impl<const D: usize> Parameter<D> {
    /// A weight that stays as it is.
    pub fn frozen(value: Tensor<D>) -> Self {
        Self { value, trainable: false }
    }

    /// A copy whose value is a leaf of a new tape if it learns; a constant otherwise.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let value = self.value.clone();
        let value = if self.trainable { value.autodiff().require_grad() } else { value };
        Self { value, trainable: self.trainable }
    }
}

/// Something done to every parameter. All weights of decoders have one or two dimensions.
pub trait Visitor {
    /// A bias or a norm's gain.
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>);
    /// A projection or an embedding, `[out, in]`.
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>);
    /// Whether it may change what it is shown.
    fn changes(&self) -> bool {
        true
    }
}

/// How many numbers learn, and how many there are.
pub fn count_trainable(model: &mut Model) -> (u64, u64) {
    #[derive(Default)]
    struct Count(u64, u64);
    impl Count {
        fn add(&mut self, count: usize, trainable: bool) {
            self.1 += count as u64;
            if trainable {
                self.0 += count as u64;
            }
        }
    }
    impl Visitor for Count {
        fn vector(&mut self, _: &str, parameter: &mut Parameter<1>) {
            self.add(parameter.value.shape().num_elements(), parameter.trainable);
        }
        fn matrix(&mut self, _: &str, parameter: &mut Parameter<2>) {
            self.add(parameter.value.shape().num_elements(), parameter.trainable);
        }
    }
    let mut count = Count::default();
    model.visit(&mut count);
    (count.0, count.1)
}
