//! Qwen3.5 as llama.cpp computes it (`src/models/qwen35.cpp`, `qwen35moe.cpp`): the gated delta
//! rule in some layers, attention with a gate in the others.

use super::file::Keys;
use super::own::OwnRules;
use super::shape::{attention, far_rope, first, near, residuals, root, size_of};
use crate::error::Result;
use crate::model::description::{
    AttentionDescription, BlockDescription, DeltaNetDescription, Description, ExpertsDescription,
    GatedMlpDescription, LayerDescription, NormDescription, NormGain, QkvDescription,
    ResidualDescription, RouterDescription, RouterWeights,
};
use crate::ops::{Activation, RopeScaling};

/// What it has of its own.
pub const RULES: OwnRules = OwnRules { refused, write, rope_factors: |_| None };
/// How positions in images are divided among so many planes: by turns among height, width and time.
/// In text all three are the same; what is in none of them would stand still.
fn sections(planes: usize) -> [i32; 4] {
    let share = |from: usize| planes.saturating_sub(from).div_ceil(3);
    [share(0), share(1), share(2), 0].map(|count| i32::try_from(count).unwrap_or(i32::MAX))
}

fn delta_net(layer: &LayerDescription) -> Option<&DeltaNetDescription> {
    match &layer.residuals.first()?.block {
        BlockDescription::DeltaNet(net) => Some(net),
        _ => None,
    }
}

/// The MLP of a layer, or its experts with the one that all tokens share.
fn thinks(layer: &LayerDescription) -> Option<(&GatedMlpDescription, Option<&ExpertsDescription>)> {
    match &residuals(layer)?[1].block {
        BlockDescription::GatedMlp(mlp) => Some((mlp, None)),
        BlockDescription::Sum(terms) => match &terms[..] {
            [experts, shared] if shared.gate.is_some() => match (&experts.block, &shared.block) {
                (BlockDescription::Experts(experts), BlockDescription::GatedMlp(mlp)) => {
                    Some((mlp, Some(experts)))
                }
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn refused(facts: &Description) -> Option<&'static str> {
    if !facts.layers.iter().all(is_layer) {
        return Some("layers of another kind");
    }
    let mut attentions = facts.layers.iter().filter_map(attention);
    let mut nets = facts.layers.iter().filter_map(delta_net);
    let (Some(first), Some(net)) = (attentions.next(), nets.next()) else {
        return Some("layers of one kind alone");
    };
    let Some(rope) = &first.rope else { return Some("such rotations of positions") };
    let turns = rope.scaling == RopeScaling::None && rope.query_scale.is_none();
    let same_thinking = facts.layers.iter().all(|of| thinks(of) == thinks(&facts.layers[0]));
    let same = attentions.all(|of| of == first) && nets.all(|of| of == net) && same_thinking;
    let mut parts = facts.layers.iter().flat_map(|layer| &layer.residuals);
    let biased = parts.any(|part| part.block.linears().iter().any(|of| of.bias));
    let multiplied = facts.embedding_scale != 1.0
        || facts.logits.scale != 1.0
        || !near(first.config.scale, 1.0 / root(first.config.heads.width), 1e-6);
    let wrong: &[(bool, &str)] = &[
        (!same, "layers of several kinds"),
        (biased, "biases"),
        (multiplied || facts.logits.soft_cap.is_some(), "such multipliers"),
        (!turns, "such rotations of positions"),
        (
            net.heads.key_width != net.heads.value_width,
            "heads of keys that are not as wide as those of values",
        ),
    ];
    wrong.iter().find_map(|(wrong, what)| wrong.then_some(*what))
}

fn is_layer(layer: &LayerDescription) -> bool {
    let Some([mixer, mlp]) = residuals(layer) else { return false };
    let one_more = |norm: NormDescription| norm.gain == NormGain::OnePlusWeight;
    let stands = |part: &ResidualDescription| {
        part.before.is_some_and(one_more) && part.after.is_none() && part.multiplier == 1.0
    };
    let mixes = match &mixer.block {
        BlockDescription::Attention(of) => {
            is_attention(of) && of.qk_norms.is_some_and(|of| of.into_iter().all(one_more))
        }
        BlockDescription::DeltaNet(net) => {
            !net.convolution.bias && net.norm.gain == NormGain::Weight
        }
        _ => false,
    };
    let thinks = thinks(layer).is_some_and(|(mlp, experts)| {
        let plain = |of: &ExpertsDescription| {
            let router = RouterDescription::new(of.router.scores, RouterWeights::OfChosen);
            of.router == router && of.before.is_none() && of.activation == Activation::Silu
        };
        mlp.activation == Activation::Silu && experts.is_none_or(plain)
    });
    layer.scalar.is_none() && stands(mixer) && stands(mlp) && mixes && thinks
}

fn is_attention(of: &AttentionDescription) -> bool {
    of.gated
        && of.sinks.is_none()
        && of.value_norm.is_none()
        && of.config.window.is_none()
        && of.config.soft_cap.is_none()
        && matches!(of.qkv, QkvDescription::Joint(_))
}

fn write(facts: &Description, architecture: &str, keys: &mut Keys) -> Result<()> {
    let name = |key: &str| format!("{architecture}.{key}");
    let (attends, rope) = (first(facts), far_rope(facts));
    let heads = attends.config.heads;
    let net = facts.layers.iter().find_map(delta_net).expect("others were refused").clone();
    let (mlp, experts) = thinks(&facts.layers[0]).expect("others were refused");
    let mut number = |key: &str, size: usize| -> Result<()> {
        keys.number(&name(key), size_of(key, size)?);
        Ok(())
    };
    for (key, size) in [
        ("vocab_size", facts.vocabulary),
        ("context_length", facts.positions_max),
        ("embedding_length", facts.hidden),
        ("block_count", facts.layers.len()),
        ("feed_forward_length", mlp.width()),
        ("attention.head_count", heads.queries),
        ("attention.head_count_kv", heads.kv_heads),
        ("attention.key_length", heads.width),
        ("attention.value_length", heads.width),
        ("rope.dimension_count", rope.rotated.unwrap_or(heads.width)),
        ("ssm.conv_kernel", net.convolution.width),
        ("ssm.state_size", net.heads.key_width),
        ("ssm.group_count", net.heads.keys),
        ("ssm.time_step_rank", net.heads.values),
        ("ssm.inner_size", net.heads.values_wide()),
    ] {
        number(key, size)?;
    }
    if let Some(experts) = experts {
        number("expert_count", experts.count)?;
        number("expert_used_count", experts.top_k)?;
        number("expert_feed_forward_length", experts.width)?;
        number("expert_shared_feed_forward_length", mlp.width())?;
    }
    let recurrent: Vec<bool> =
        facts.layers.iter().map(|layer| delta_net(layer).is_some()).collect();
    let interval = recurrent.iter().position(|is| !is).map_or(0, |first| first + 1);
    let regular = (1..).zip(&recurrent).all(|(number, is)| *is == (number % interval != 0));
    match regular {
        true => number("full_attention_interval", interval)?,
        false => keys.flags(&name("attention.recurrent_layers"), &recurrent),
    }
    let planes = rope.rotated.unwrap_or(heads.width) / 2;
    keys.numbers(&name("rope.dimension_sections"), &sections(planes));
    #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", facts.norm.epsilon as f32),
        ("rope.freq_base", rope.theta as f32),
    ] {
        keys.fraction(&name(key), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_those_of_the_models() {
        assert_eq!(sections(32), [11, 11, 10, 0]);
        assert_eq!(sections(8), [3, 3, 2, 0]);
        assert_eq!(sections(1), [1, 0, 0, 0]);
    }
}
