//! Backward one layer at a time, so that one layer's tape is alive at most (with recompute), and
//! gradients of a layer are final when its turn ends. The idea is gradient checkpointing at layer
//! boundaries (Chen et al. 2016) written as a loop instead of a tape.

use std::time::{Duration, Instant};

use crate::config::Recompute;
use crate::data::Batch;
use crate::engine::activations::{ActivationStore, LayerInput};
use crate::engine::output_rows::only_targets;
use crate::engine::reference::reference_log_probs;
use crate::engine::shared_prompts::arranged;
use crate::engine::{target_pairs, upload};
use crate::error::Result;
use crate::model::{Dropout, EmbeddingNoise, Gradients, LayerSaved, Model};
use crate::objectives::{Loss, Objective, Supervised, Targets};

/// How a micro-batch is differentiated.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Gradients are those of `scale · Σ loss`.
    pub scale: f64,
    /// What is kept from the forward pass: every layer's tape, or only its input.
    pub recompute: Recompute,
    /// Target positions per chunk of the loss.
    pub loss_chunk_tokens: usize,
    /// Which inputs of adapters are dropped, if any are.
    pub dropout: Option<Dropout>,
    /// What is added to embeddings, if anything is.
    pub noise: Option<EmbeddingNoise>,
}

/// Adds the gradients of one micro-batch to `sums`; returns the summed loss and the time that the
/// forward part took: of the host, on a device that it does not wait for.
pub fn forward_backward(
    model: &Model,
    objective: &dyn Objective,
    batch: &Batch,
    pass: Pass,
    sums: &mut Gradients,
) -> (Loss, Duration) {
    let done = forward_backward_beside(model, objective, batch, pass, None, sums);
    done.expect("nothing is written to a disk")
}

/// The same, with inputs of layers that are computed again in a store, if there is one.
///
/// # Errors
/// When the store's disk is full, or fails.
pub fn forward_backward_beside(
    model: &Model,
    objective: &dyn Objective,
    batch: &Batch,
    pass: Pass,
    store: Option<&ActivationStore>,
    sums: &mut Gradients,
) -> Result<(Loss, Duration)> {
    let began = Instant::now();
    // What is dropped, and what is added, is of each token where it stands.
    let shares = pass.dropout.is_none() && pass.noise.is_none();
    let batch = &*arranged(model, objective, batch, shares);
    // First, so that nothing is kept of this pass while that one goes on.
    let reference = reference_log_probs(model, objective, batch, pass.loss_chunk_tokens);
    let (tokens, mut context) = upload(model, batch);
    context.dropout = pass.dropout;
    context.noise = pass.noise;
    let mut pairs = target_pairs(batch);
    let only = only_targets(&mut pairs, batch, &context);
    let last = |index| index + 1 == model.layers.len();
    let context_of = |index| only.as_ref().filter(|_| last(index)).unwrap_or(&context);

    let mut x = model.embed(&tokens, &context);
    let mut kept = Vec::with_capacity(model.layers.len());
    for (index, layer) in model.layers.iter().enumerate() {
        let context = context_of(index);
        let (output, held) = match pass.recompute {
            Recompute::None => {
                let (output, saved) = layer.differentiable(x, context);
                (output, LayerTape::Layer(saved))
            }
            Recompute::Layers => {
                let output = layer.forward(x.clone(), context);
                (output, LayerTape::Input(LayerInput::kept(x, store)?))
            }
        };
        x = output;
        kept.push(held);
    }
    let temperature = objective.temperature();
    let targets = Targets { temperature, ..Targets::new(&pairs, pass.loss_chunk_tokens) };
    let supervised = Supervised { model, x: &x, batch, targets, reference: reference.as_deref() };
    let (loss, mut dx) = objective.backward(supervised, pass.scale, sums);
    drop(x);
    let forward_time = began.elapsed();

    while let Some(held) = kept.pop() {
        let index = kept.len();
        let (layer, context) = (&model.layers[index], context_of(index));
        let saved = match held {
            LayerTape::Layer(saved) => saved,
            LayerTape::Input(input) => {
                let x = input.brought_to(&model.device)?;
                // That of the layer before it comes while this one is computed.
                if let Some(LayerTape::Input(next)) = kept.last_mut() {
                    next.expect();
                }
                layer.again(x, context)
            }
        };
        dx = saved.backward(layer, context, dx, sums);
    }
    model.embed_backward(&tokens, dx, &context, sums);
    Ok((loss, forward_time))
}

enum LayerTape<'a> {
    Input(LayerInput),
    Layer(LayerSaved<'a>),
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::adapters::unfreeze_all;
    use crate::config::Kernels;
    use crate::data::Target;
    use crate::device::ComputeConfig;
    use crate::engine::parity::small_model;
    use crate::ops::host;
    use crate::random::Stream;

    /// A row of two documents and padding; a part of each document is trained on.
    fn mostly_prompts() -> Batch {
        let lengths = [300, 80];
        let mut batch = Batch { rows: 1, length: 400, ..Batch::default() };
        for (number, length) in (1..).zip(lengths) {
            for place in 0..length {
                let index = u32::try_from(batch.tokens.len()).unwrap();
                batch.tokens.push((index * 37 + 11) % 320);
                batch.documents.push(number);
                batch.positions.push(place);
                if place > length - 40 && place + 1 < length {
                    batch.targets.push(Target { index, token: (index * 53 + 7) % 320 });
                }
            }
        }
        batch.tokens.resize(400, 0);
        batch.documents.resize(400, 0);
        batch.positions.resize(400, 0);
        batch
    }

    /// An adapter that drops nothing is one that may drop: all tokens go through the last layer.
    #[test]
    fn the_last_layer_needs_target_positions_alone() {
        let batch = mostly_prompts();
        let all_tokens = Dropout::from(Stream::new(1));
        for kernels in [Kernels::Fast, Kernels::Portable] {
            for recompute in [Recompute::None, Recompute::Layers] {
                for everything in [false, true] {
                    let computing = ComputeConfig { kernels, ..ComputeConfig::default() };
                    let mut model = small_model(&Device::flex(), computing).unwrap();
                    let sft = crate::objectives::with("sft", &[]);
                    if everything {
                        unfreeze_all(&mut model);
                    }
                    let [some, all] = [None, Some(all_tokens.clone())].map(|dropout| {
                        let noise = None;
                        let loss_chunk_tokens = 50;
                        let pass =
                            Pass { scale: 0.01, recompute, loss_chunk_tokens, dropout, noise };
                        let mut sums = Gradients::default();
                        let (loss, _) = forward_backward(&model, &*sft, &batch, pass, &mut sums);
                        (loss.number(), sums.into_sums())
                    });
                    assert!((some.0 - all.0).abs() < 1e-5 * all.0, "{} {}", some.0, all.0);
                    assert!(some.1.keys().eq(all.1.keys()));
                    for ((path, some), all) in some.1.into_iter().zip(all.1.into_values()) {
                        let (some, all) = (host(some), host(all));
                        let most = all.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                        assert!(most > 0.0, "{path}");
                        for (a, b) in some.iter().zip(&all) {
                            assert!((a - b).abs() < 1e-4 * most, "{path}: {a} {b}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn where_nearly_all_is_target_all_tokens_go_through() {
        let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
        let mut batch = mostly_prompts();
        let (_, context) = upload(&model, &batch);
        let mut pairs = target_pairs(&batch);
        let last = only_targets(&mut pairs, &batch, &context).unwrap();
        let targets: Vec<u32> = batch.targets.iter().map(|target| target.index).collect();
        assert_eq!(last.wanted.unwrap().tokens, targets);
        assert!(pairs.iter().map(|pair| pair.0).eq(0..u32::try_from(targets.len()).unwrap()));

        let graphics =
            context.clone().computed(ComputeConfig { pad_multiple: 64, ..context.computing });
        assert!(only_targets(&mut pairs, &batch, &graphics).is_none());
        assert!(only_targets(&mut [], &batch, &context).is_none());
        batch.targets = (0..390).map(|index| Target { index, token: 1 }).collect();
        let mut pairs = target_pairs(&batch);
        assert!(only_targets(&mut pairs, &batch, &context).is_none());
        assert_eq!(pairs, target_pairs(&batch));
    }
}
