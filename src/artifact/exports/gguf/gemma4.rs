//! Gemma 4 as llama.cpp computes it (`src/models/gemma4.cpp`): heads of two widths, keys and values
//! of earlier layers, inputs of layers, experts beside MLPs.

use super::file::Keys;
use super::own::OwnRules;
use super::shape::{attention, near, root, ropes, size_of};
use crate::error::Result;
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, ExpertsDescription, GatedMlpDescription,
    LayerDescription, NormGain, QkvDescription, ResidualDescription, RouterWeights,
};
use crate::ops::{Activation, Heads, RopeScaling};

/// What it has of its own.
pub const RULES: OwnRules = OwnRules { refused, write, rope_factors };
/// What the speeds of planes that stand still are divided by.
const STILL: f32 = 1e30;
/// How near multipliers of embeddings are, which are rounded.
const ROUNDED: f32 = 1.0 / 128.0;

/// The MLP of a layer, and the experts beside it.
fn thinks(layer: &LayerDescription) -> Option<(&GatedMlpDescription, Option<&ExpertsDescription>)> {
    match &layer.residuals.get(1)?.block {
        BlockDescription::GatedMlp(mlp) => Some((mlp, None)),
        BlockDescription::Sum(terms) => match &terms[..] {
            [mlp, experts] if mlp.gate.is_none() && experts.gate.is_none() => {
                match (&mlp.block, &experts.block) {
                    (BlockDescription::GatedMlp(mlp), BlockDescription::Experts(experts)) => {
                        Some((mlp, Some(experts)))
                    }
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

fn attentions(facts: &Description) -> impl DoubleEndedIterator<Item = &AttentionDescription> {
    facts.layers.iter().filter_map(attention)
}

fn is_own(of: &AttentionDescription) -> bool {
    !matches!(of.qkv, QkvDescription::Queries(..))
}

/// Layers at the end that see keys and values of earlier ones.
fn shared(facts: &Description) -> usize {
    attentions(facts).rev().take_while(|of| !is_own(of)).count()
}

fn refused(facts: &Description) -> Option<&'static str> {
    let inputs = facts.layer_inputs.as_ref();
    if !facts.layers.iter().all(|layer| is_layer(layer, inputs.is_some())) {
        return Some("layers of another kind");
    }
    let multiplied = !near(facts.embedding_scale, root(facts.hidden), ROUNDED)
        || facts.logits.scale != 1.0
        || attentions(facts).any(|of| of.config.scale != 1.0);
    let given = inputs.is_none_or(|inputs| {
        inputs.vocabulary == facts.vocabulary
            && near(inputs.table_scale, root(inputs.width), ROUNDED)
    });
    let parts = || facts.layers.iter().flat_map(|layer| &layer.residuals);
    let biased = parts().any(|part| part.block.linears().iter().any(|of| of.bias));
    let mut widths = attentions(facts).filter_map(|of| of.config.window);
    let first = widths.next();
    let windows = first.is_some() && widths.all(|width| Some(width) == first);
    let all: Vec<_> = facts.layers.iter().filter_map(|of| Some(thinks(of)?.1)).collect();
    let experts = |of: &Option<&ExpertsDescription>| {
        all[0].zip(*of).map(|(a, b)| (a.count, a.top_k, a.width) == (b.count, b.top_k, b.width))
    };
    let wrong: &[(bool, &str)] = &[
        (!windows, "such sliding windows"),
        (multiplied || parts().any(|part| part.multiplier != 1.0), "such multipliers"),
        (!given, "such inputs of layers"),
        (biased, "biases"),
        (!same_heads(facts), "such heads"),
        (!turns(facts), "such rotations of positions"),
        (!shares(facts), "keys and values of other layers than the last two with their own"),
        (!all.iter().all(|of| of.is_some() == all[0].is_some()), "experts in some layers"),
        (all.iter().any(|of| experts(of) == Some(false)), "other experts in some layers"),
    ];
    wrong.iter().find_map(|(wrong, what)| wrong.then_some(*what))
}

fn is_layer(layer: &LayerDescription, has_input: bool) -> bool {
    let weighted = |part: &ResidualDescription| {
        let norms = part.before.into_iter().chain(part.after);
        norms.into_iter().all(|norm| norm.gain == NormGain::Weight)
    };
    let (Some(of), Some((mlp, experts))) = (attention(layer), thinks(layer)) else { return false };
    let attends = of.sinks.is_none()
        && !of.gated
        && of.config.soft_cap.is_none()
        && of.value_norm.is_some() == is_own(of)
        && of.qk_norms.is_some_and(|norms| norms.iter().all(|of| of.gain == NormGain::Weight));
    let routed = experts.is_none_or(|of| {
        of.router.weights == RouterWeights::OfChosen
            && of.router.input.is_some()
            && of.router.expert_scale.is_some()
            && of.before.is_some()
            && !of.bias
            && of.activation == Activation::GeluTanh
    });
    let input = layer.residuals.get(2).map(|part| &part.block);
    let is_input = matches!(input, Some(BlockDescription::LayerInput(of))
        if of.activation == Activation::GeluTanh);
    layer.scalar.is_some()
        && layer.residuals.len() == 2 + usize::from(has_input)
        && is_input == has_input
        && layer.residuals.iter().all(weighted)
        && mlp.activation == Activation::GeluTanh
        && attends
        && routed
}

/// Heads of layers without a window, and of those with one.
fn heads(facts: &Description, windowed: bool) -> Option<Heads> {
    attentions(facts).find(|of| of.config.window.is_some() == windowed).map(|of| of.config.heads)
}

fn same_heads(facts: &Description) -> bool {
    let queries = facts.layers.first().and_then(attention).map(|of| of.config.heads.queries);
    attentions(facts).all(|of| {
        Some(of.config.heads) == heads(facts, of.config.window.is_some())
            && Some(of.config.heads.queries) == queries
    })
}

/// llama.cpp rotates all layers with a window alike, and all others with their divisors.
fn turns(facts: &Description) -> bool {
    let [Some(far), Some(near)] = ropes(facts) else { return false };
    let same = attentions(facts)
        .all(|of| of.rope.as_ref() == Some(if of.config.window.is_some() { near } else { far }));
    let plain = [far, near].iter().all(|of| of.query_scale.is_none());
    let stretched = matches!(far.scaling, RopeScaling::None | RopeScaling::Proportional { .. });
    same && plain && near.scaling == RopeScaling::None && far.rotated.is_none() && stretched
}

/// Layers that share see the last one of their own with a window, or the one after it.
fn shares(facts: &Description) -> bool {
    let own = facts.layers.len() - shared(facts);
    if own == facts.layers.len() {
        return true;
    }
    let all: Vec<_> = attentions(facts).collect();
    let windowed = |back: usize| Some(all[own.checked_sub(back)?].config.window.is_some());
    all[..own].iter().all(|of| is_own(of))
        && windowed(2) == Some(true)
        && windowed(1) == Some(false)
}

fn rope_factors(facts: &Description) -> Option<Vec<f32>> {
    let planes = heads(facts, false)?.width / 2;
    let factors = match ropes(facts)[0]?.scaling {
        RopeScaling::Proportional { planes: turning, factor } => {
            let of = |plane| if plane < turning { factor } else { STILL };
            (0..planes).map(of).collect()
        }
        _ => vec![1.0; planes],
    };
    Some(factors)
}

fn write(facts: &Description, architecture: &str, keys: &mut Keys) -> Result<()> {
    let name = |key: &str| format!("{architecture}.{key}");
    let expect = "others were refused";
    let (far, near) = (heads(facts, false).expect(expect), heads(facts, true).expect(expect));
    let [Some(far_rope), Some(near_rope)] = ropes(facts) else { unreachable!("{expect}") };
    let window = attentions(facts).find_map(|of| of.config.window).unwrap_or(0);
    for (key, size) in [
        ("vocab_size", facts.vocabulary),
        ("context_length", facts.positions_max),
        ("embedding_length", facts.hidden),
        ("block_count", facts.layers.len()),
        ("attention.head_count", far.queries),
        ("attention.key_length", far.width),
        ("attention.value_length", far.width),
        ("attention.key_length_swa", near.width),
        ("attention.value_length_swa", near.width),
        ("attention.sliding_window", window),
        ("attention.shared_kv_layers", shared(facts)),
        ("embedding_length_per_layer_input", facts.layer_inputs.map_or(0, |inputs| inputs.width)),
        ("rope.dimension_count", far.width),
        ("rope.dimension_count_swa", near_rope.rotated.unwrap_or(near.width)),
    ] {
        keys.number(&name(key), size_of(key, size)?);
    }
    if let Some((_, experts)) = facts.experts().next() {
        for (key, size) in [
            ("expert_count", experts.count),
            ("expert_used_count", experts.top_k),
            ("expert_feed_forward_length", experts.width),
        ] {
            keys.number(&name(key), size_of(key, size)?);
        }
    }
    let mut of_layers = |key: &str, sizes: Vec<usize>| -> Result<()> {
        let same = sizes.iter().all(|size| *size == sizes[0]);
        let as_key = |size: &usize| Ok(size_of(key, *size)?.try_into().unwrap_or(i32::MAX));
        match same {
            true => keys.number(&name(key), size_of(key, sizes[0])?),
            false => {
                let all: Result<Vec<i32>> = sizes.iter().map(as_key).collect();
                keys.numbers(&name(key), &all?);
            }
        }
        Ok(())
    };
    let widths = facts.layers.iter().filter_map(|of| Some(thinks(of)?.0.width()));
    of_layers("feed_forward_length", widths.collect())?;
    let groups = attentions(facts).map(|of| of.config.heads.kv_heads);
    of_layers("attention.head_count_kv", groups.collect())?;
    let pattern: Vec<bool> = attentions(facts).map(|of| of.config.window.is_some()).collect();
    keys.flags(&name("attention.sliding_window_pattern"), &pattern);
    #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", facts.norm.epsilon as f32),
        ("rope.freq_base", far_rope.theta as f32),
        ("rope.freq_base_swa", near_rope.theta as f32),
    ] {
        keys.fraction(&name(key), value);
    }
    if let Some(cap) = facts.logits.soft_cap {
        keys.fraction(&name("final_logit_softcapping"), cap);
    }
    Ok(())
}
