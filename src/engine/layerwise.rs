//! Backward one layer at a time, so that one layer's tape is alive at most (with recompute), and
//! gradients of a layer are final when its turn ends. The idea is gradient checkpointing at layer
//! boundaries (Chen et al. 2016) written as a loop instead of a tape.

use std::time::{Duration, Instant};

use burn::tensor::{Gradients as Tape, IndexingUpdateOp, Tensor};

use crate::config::Recompute;
use crate::data::Batch;
use crate::engine::{target_pairs, upload};
use crate::model::{EMBEDDING, Gradients, Layer, Model};
use crate::objective::{Targets, next_token_backward};
use crate::random::Stream;

/// How a micro-batch is differentiated.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Gradients are those of `scale · Σ loss`.
    pub scale: f64,
    /// What is kept from the forward pass: every layer's tape, or only its input.
    pub recompute: Recompute,
    /// Learnt positions per chunk of the loss.
    pub loss_chunk_tokens: usize,
    /// Names this step and micro-batch for dropout.
    pub dropout: Stream,
}

/// Adds the gradients of one micro-batch to `sums`; returns Σ loss in nats and the time that the
/// forward part took.
pub fn forward_backward(
    model: &Model,
    batch: &Batch,
    pass: Pass,
    sums: &mut Gradients,
) -> (f64, Duration) {
    let began = Instant::now();
    let (tokens, mut context) = upload(model, batch);
    context.dropout = Some(pass.dropout);

    let mut x = model.embed(tokens.clone());
    let mut kept = Vec::with_capacity(model.layers.len());
    for layer in &model.layers {
        let (output, held) = match pass.recompute {
            Recompute::None => {
                let taped = Taped::run(layer.as_ref(), x, &context);
                (taped.output.clone().inner(), Kept::Tape(taped))
            }
            Recompute::Layers => {
                let output = layer.forward(x.clone(), &context, None);
                (output, Kept::Input(x))
            }
        };
        x = output;
        kept.push(held);
    }
    let pairs = target_pairs(batch);
    let targets = Targets { pairs: &pairs, chunk: pass.loss_chunk_tokens };
    let (loss, mut dx) = next_token_backward(model, &x, targets, pass.scale, sums);
    let forward_time = began.elapsed();

    for (index, held) in kept.into_iter().enumerate().rev() {
        let taped = match held {
            Kept::Tape(taped) => taped,
            Kept::Input(x) => Taped::run(model.layers[index].as_ref(), x, &context),
        };
        dx = taped.backward(&format!("model.layers.{index}"), dx, sums);
    }
    if model.embedding.learns {
        let table = model.embedding.value.zeros_like();
        sums.add(EMBEDDING, table.select_assign(0, tokens, dx, IndexingUpdateOp::Add));
    }
    (loss, forward_time)
}

enum Kept {
    Input(Tensor<2>),
    Tape(Taped),
}

/// One layer's forward on a tape of its own.
struct Taped {
    input: Tensor<2>,
    layer: Box<dyn Layer>,
    output: Tensor<2>,
}

impl Taped {
    fn run(layer: &dyn Layer, x: Tensor<2>, context: &crate::model::Context) -> Self {
        let input = x.autodiff().require_grad();
        let layer = layer.tracked();
        let output = layer.forward(input.clone(), context, None);
        Self { input, layer, output }
    }

    /// The gradient of the layer's input from that of its output.
    fn backward(mut self, path: &str, dx: Tensor<2>, sums: &mut Gradients) -> Tensor<2> {
        // The derivative of Σ output ⊙ dx is the vector-Jacobian product.
        let mut tape: Tape = (self.output * dx).backward();
        sums.collect(path, self.layer.as_mut(), &mut tape);
        self.input.grad_remove(&mut tape).expect("the input is a leaf of the tape")
    }
}
