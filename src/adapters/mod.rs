//! What learns: everything, or a small addition beside frozen weights.

mod lora;

pub use lora::{Lora, attach as attach_lora, scale as lora_scale, size as lora_size, targets};

use crate::model::{Model, Parameter, Visitor};

/// Full training: every weight learns.
pub fn learn_everything(model: &mut Model) {
    struct Learn;
    impl Visitor for Learn {
        fn vector(&mut self, _: &str, parameter: &mut Parameter<1>) {
            parameter.learns = true;
        }
        fn matrix(&mut self, _: &str, parameter: &mut Parameter<2>) {
            parameter.learns = true;
        }
    }
    model.visit(&mut Learn);
}
