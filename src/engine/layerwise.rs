//! Backward one layer at a time, so that one layer's tape is alive at most (with recompute), and
//! gradients of a layer are final when its turn ends. The idea is gradient checkpointing at layer
//! boundaries (Chen et al. 2016) written as a loop instead of a tape.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use crate::config::Recompute;
use crate::data::Batch;
use crate::engine::{target_pairs, upload};
use crate::model::{Context, Dropout, Gradients, Layer, Model, OnCpu};
use crate::objective::{LossSum, Targets, next_token_backward};
use crate::ops::{Attended, attend, attend_backward, cpu};

/// How a micro-batch is differentiated.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Gradients are those of `scale · Σ loss`.
    pub scale: f64,
    /// What is kept from the forward pass: every layer's tape, or only its input.
    pub recompute: Recompute,
    /// Learnt positions per chunk of the loss.
    pub loss_chunk_tokens: usize,
    /// Which inputs of adapters are dropped.
    pub dropout: Dropout,
}

/// Adds the gradients of one micro-batch to `sums`; returns Σ loss in nats and the time that the
/// forward part took: of the host, on a device that it does not wait for.
pub fn forward_backward(
    model: &Model,
    batch: &Batch,
    pass: Pass,
    sums: &mut Gradients,
) -> (LossSum, Duration) {
    let began = Instant::now();
    let (tokens, mut context) = upload(model, batch);
    context.dropout = Some(pass.dropout);

    let mut x = model.embed(tokens.clone());
    let mut kept = Vec::with_capacity(model.layers.len());
    for layer in &model.layers {
        let (output, held) = match pass.recompute {
            Recompute::None => {
                let (output, differentiable) = Differentiable::run(layer.as_ref(), x, &context);
                (output, Kept::Layer(differentiable))
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
        let layer = match held {
            Kept::Layer(layer) => layer,
            Kept::Input(x) => Differentiable::run(model.layers[index].as_ref(), x, &context).1,
        };
        dx = layer.backward(&format!("model.layers.{index}"), &context, dx, sums);
    }
    if model.embedding.learns() {
        model.embedding.add_rows_gradient(sums, &tokens, &dx);
    }
    (loss, forward_time)
}

enum Kept<'a> {
    Input(Tensor<2>),
    Layer(Differentiable<'a>),
}

/// One layer's forward, with what its gradient needs.
enum Differentiable<'a> {
    /// By the kernels of the CPU.
    OnCpu(OnCpu<'a>, cpu::Taped),
    /// By tensor operations.
    Taped(Box<Taped>),
}

impl<'a> Differentiable<'a> {
    fn run(layer: &dyn Layer, x: Tensor<2>, context: &'a Context) -> (Tensor<2>, Self) {
        if let Some(here) = OnCpu::of(layer, &x, context) {
            let (output, taped) = here.forward(x);
            return (output, Self::OnCpu(here, taped));
        }
        let taped = Taped::run(layer, x, context);
        (taped.output.clone().inner(), Self::Taped(Box::new(taped)))
    }

    /// The gradient of the layer's input from that of its output.
    fn backward(
        self,
        path: &str,
        context: &Context,
        dx: Tensor<2>,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        match self {
            Self::OnCpu(here, taped) => here.backward(taped, dx, path, sums),
            Self::Taped(taped) => taped.backward(path, context, dx, sums),
        }
    }
}

/// One layer's forward: a tape for each half, attention between them by hand.
struct Taped {
    layer: Box<dyn Layer>,
    /// Input of the first half, and its three outputs.
    input: Tensor<2>,
    projected: [Tensor<2>; 3],
    attended: Attended,
    /// Inputs of the second half, and its output.
    residual: Tensor<2>,
    mixed: Tensor<2>,
    output: Tensor<2>,
}

impl Taped {
    fn run(layer: &dyn Layer, x: Tensor<2>, context: &Context) -> Self {
        let leaf = |x: Tensor<2>| x.autodiff().require_grad();
        let layer = layer.tracked();
        let input = leaf(x.clone());
        let projected = layer.project(input.clone(), context);
        let [q, k, v] = projected.clone().map(Tensor::inner);
        let attended = attend(&q, &k, &v, layer.heads(), &context.documents, context.computing);
        let (residual, mixed) = (leaf(x), leaf(attended.output.clone()));
        let output = layer.finish(residual.clone(), mixed.clone(), context);
        Self { layer, input, projected, attended, residual, mixed, output }
    }

    /// The gradient of the layer's input from that of its output.
    fn backward(
        mut self,
        path: &str,
        context: &Context,
        dx: Tensor<2>,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        let leaf = "it is a leaf of the tape";
        // The derivative of Σ output ⊙ dx is the vector-Jacobian product.
        let mut second = (self.output * dx).backward();
        let d_mixed = self.mixed.grad_remove(&mut second).expect(leaf);
        let d_residual = self.residual.grad_remove(&mut second).expect(leaf);

        let [q, k, v] = self.projected.clone().map(Tensor::inner);
        let heads = self.layer.heads();
        let inputs = [&q, &k, &v];
        let (documents, computing) = (&context.documents, context.computing);
        let d_projected =
            attend_backward(inputs, &self.attended, d_mixed, heads, documents, computing);
        let products = self.projected.into_iter().zip(d_projected).map(|(x, d)| (x * d).sum());
        let total = products.reduce(|a, b| a + b).expect("there are three of them");
        let first = total.backward();
        let mut tapes = [first, second];
        let d_input = self.input.grad_remove(&mut tapes[0]).expect(leaf);
        sums.collect(path, self.layer.as_mut(), &mut tapes);
        d_input + d_residual
    }
}
