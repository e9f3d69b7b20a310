//! What of a model llama.cpp would compute otherwise, and the keys that say the rest.

use super::architecture::Architecture;
use super::file::Keys;
use crate::error::{Error, Result};
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, ExpertStorage, LayerDescription,
    NormDescription, QkvDescription, ResidualDescription, Rope, RouterDescription, RouterWeights,
};
use crate::ops::{Activation, AttentionConfig, RopeScaling};

/// What is added first in a layer, and then.
fn residuals(layer: &LayerDescription) -> Option<[&ResidualDescription; 2]> {
    match layer.residuals.as_slice() {
        [mixer, mlp] => Some([mixer, mlp]),
        _ => None,
    }
}

fn attention(layer: &LayerDescription) -> Option<&AttentionDescription> {
    match &residuals(layer)?[0].block {
        BlockDescription::Attention(attention) => Some(attention),
        _ => None,
    }
}

/// Those of a model that [`super::architecture::find`] let through.
fn first(facts: &Description) -> &AttentionDescription {
    facts.layers.iter().find_map(attention).expect("others were refused")
}

/// Width of a head.
pub fn head_width(facts: &Description) -> usize {
    first(facts).config.heads.width
}

/// The rotation of layers that see everything, and of those with a window where it is another.
fn ropes(facts: &Description) -> [Option<&Rope>; 2] {
    let of = |windowed: bool| {
        let layers = facts.layers.iter().filter_map(attention);
        let mut layers = layers.filter(|of| of.config.window.is_some() == windowed);
        layers.find_map(|of| of.rope.as_ref())
    };
    [of(false), of(true)]
}

fn far_rope(facts: &Description) -> &Rope {
    let [far, near] = ropes(facts);
    far.or(near).expect("others were refused")
}

/// Numbers that the gate of an MLP lets through, or of an expert's.
fn gate_width(facts: &Description) -> usize {
    let of = |layer: &LayerDescription| match &residuals(layer)?[1].block {
        BlockDescription::GatedMlp(mlp) => Some(mlp.width()),
        BlockDescription::Experts(experts) => Some(experts.width),
        _ => None,
    };
    facts.layers.iter().find_map(of).expect("others were refused")
}

/// Nearly the same, as numbers in 32 bits.
fn near(one: f32, other: f32, share: f32) -> bool {
    (one - other).abs() <= share * other.abs()
}

impl Architecture {
    /// What of a model llama.cpp would not compute, if there is something.
    pub(super) fn refused(&self, facts: &Description) -> Option<&'static str> {
        let usual = facts.layer_inputs.is_none()
            && facts.buffers().next().is_none()
            && facts.layers.iter().all(|layer| self.is_layer(layer));
        let Some(first) = facts.layers.iter().find_map(attention).filter(|_| usual) else {
            return Some("layers of another kind");
        };
        let heads = first.config.heads;
        let attentions = || facts.layers.iter().filter_map(attention);
        let same = |of: &AttentionDescription| {
            let config = AttentionConfig { window: None, ..of.config };
            let first_config = AttentionConfig { window: None, ..first.config };
            let alike = AttentionDescription { rope: None, config, ..of.clone() };
            alike == AttentionDescription { rope: None, config: first_config, ..first.clone() }
        };
        let mlp = |layer: &LayerDescription| Some(residuals(layer)?[1].block.clone());
        let mlps = facts.layers.iter().all(|layer| mlp(layer) == mlp(&facts.layers[0]));
        #[expect(clippy::cast_precision_loss)] // widths are small
        let root = |width: usize| (width as f32).sqrt();
        let scale = match self.wide_scale_at == Some(facts.layers.len()) {
            true => 1.0 / root(facts.hidden / heads.queries),
            false => 1.0 / root(heads.width),
        };
        let parts = || facts.layers.iter().flat_map(|layer| &layer.residuals);
        let embedding = if self.scales_embedding { root(facts.hidden) } else { 1.0 };
        let multiplied = !near(facts.embedding_scale, embedding, 1.0 / 128.0)
            || facts.logits.scale != 1.0
            || !near(first.config.scale, scale, 1e-6)
            || parts().any(|part| part.multiplier != 1.0);
        let one_multiplier =
            parts().all(|part| part.multiplier == facts.layers[0].residuals[0].multiplier);
        let biased = parts().any(|part| part.block.linears().iter().any(|of| of.bias));
        let caps = [first.config.soft_cap, facts.logits.soft_cap].map(|cap| cap.is_some());
        let wide = heads.queries * heads.width == facts.hidden;
        let wrong: &[(bool, &str)] = &[
            (!attentions().all(same) || !mlps || !one_multiplier, "layers of several kinds"),
            (!self.has_windows(facts), "such sliding windows"),
            (first.sinks.is_some(), "sinks of attention"),
            (caps != [self.capped; 2], "such caps of scores"),
            (multiplied && !self.multipliers, "such multipliers"),
            (biased && !self.biases, "biases"),
            (!self.turns(facts), "such rotations of positions"),
            (self.name == "olmo2" && !wide, "heads of such a width"),
            (
                self.tied.is_some_and(|tied| tied != facts.tied),
                match facts.tied {
                    true => "an output projection that is the embedding",
                    false => "an output projection of its own",
                },
            ),
        ];
        wrong.iter().find_map(|(wrong, what)| wrong.then_some(*what))
    }

    /// Whether a layer is made of what those of the family are made of.
    fn is_layer(&self, layer: &LayerDescription) -> bool {
        let Some([mixer, mlp]) = residuals(layer) else { return false };
        let gains = |part: &ResidualDescription| {
            let norms = part.before.into_iter().chain(part.after).chain(part.block.norms());
            norms.into_iter().all(|norm: NormDescription| norm.gain == self.gain)
        };
        let stand = |part: &ResidualDescription| {
            [part.before.is_some(), part.after.is_some()] == self.norms && gains(part)
        };
        let mixes = match &mixer.block {
            BlockDescription::Attention(of) => {
                matches!(of.qkv, QkvDescription::Joint(_))
                    && of.value_norm.is_none()
                    && of.shares.is_none()
                    && !of.gated
            }
            BlockDescription::ShortConv(conv) => self.convolutions && !conv.convolution.bias,
            _ => false,
        };
        let activation = |of: Activation| of == self.activation;
        let thinks = match &mlp.block {
            BlockDescription::GatedMlp(of) => !self.experts && activation(of.activation),
            BlockDescription::Experts(of) => {
                self.experts
                    && activation(of.activation)
                    && of.storage == ExpertStorage::USUAL
                    && of.before.is_none()
                    && !of.bias
                    && !of.router.scores.bias
                    && of.router
                        == RouterDescription::new(of.router.scores, RouterWeights::OfChosen)
            }
            _ => false,
        };
        stand(mixer) && stand(mlp) && mixes && thinks
    }

    /// Whether windows are where llama.cpp has them.
    fn has_windows(&self, facts: &Description) -> bool {
        // One that does not end within the contexts of a model is none.
        let within = |window: &usize| *window < facts.positions_max;
        let windows: Vec<_> =
            facts.layers.iter().filter_map(attention).map(|of| of.config.window).collect();
        let Some(period) = self.windows else {
            return windows.iter().all(|window| window.filter(within).is_none());
        };
        let mut widths = windows.iter().flatten();
        let one = widths.next();
        let regular =
            (1..).zip(&windows).all(|(number, window)| window.is_some() == (number % period != 0));
        match one {
            None => self.name == "olmo2", // those of the second generation have none
            Some(one) => widths.all(|width| width == one) && (regular || self.any_pattern),
        }
    }

    /// Whether llama.cpp rotates so.
    fn turns(&self, facts: &Description) -> bool {
        let [far, near] = ropes(facts);
        let (Some(far), near) = (far.or(near), near) else { return false };
        let layers = facts.layers.iter().enumerate();
        let mut layers = layers.filter_map(|(index, layer)| Some((index, attention(layer)?)));
        let all = layers.all(|(index, of)| {
            let turned = self.unturned_every.is_none_or(|every| !(index + 1).is_multiple_of(every));
            let wanted = match (of.config.window.is_some() && self.windows.is_some(), near) {
                (true, Some(near)) => near,
                _ => far,
            };
            of.rope.as_ref() == turned.then_some(wanted)
        });
        let two = self.windows.is_none()
            || near.is_none_or(|near| {
                let plain = near.scaling == RopeScaling::None;
                match self.name {
                    "gemma2" => near == far && plain,
                    "gemma3" => plain,
                    _ => plain && near.theta == far.theta,
                }
            });
        all && two && self.rotates(far)
    }

    /// Whether llama.cpp knows this rotation of all layers.
    fn rotates(&self, rope: &Rope) -> bool {
        let of_old = !(self.experts || self.convolutions || self.windows.is_some());
        let known = match &rope.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { .. } => !self.convolutions,
            RopeScaling::Llama3 { .. } => of_old,
            RopeScaling::LongRope { .. } => self.name == "phi3",
            // Its ramps begin and end at whole planes.
            RopeScaling::Yarn { ramp, .. } => {
                self.yarn && ramp.iter().all(|plane| plane.fract() < 0.01)
            }
            _ => false,
        };
        known && rope.query_scale.is_none() && (rope.rotated.is_none() || self.name == "phi3")
    }

    /// Sizes and constants of the model.
    pub fn write_keys(&self, facts: &Description, keys: &mut Keys) -> Result<()> {
        let name = |key: &str| format!("{}.{key}", self.name);
        let (of_first, rope) = (first(facts), far_rope(facts));
        let heads = of_first.config.heads;
        let mut number = |key: &str, size: usize| {
            let size =
                u32::try_from(size).map_err(|_| Error::export(format!("`{key}` is too large")))?;
            keys.number(&name(key), size);
            Ok::<_, Error>(())
        };
        for (key, size) in [
            ("vocab_size", facts.vocabulary),
            ("context_length", facts.positions_max),
            ("embedding_length", facts.hidden),
            ("block_count", facts.layers.len()),
            ("feed_forward_length", gate_width(facts)),
            ("attention.head_count", heads.queries),
            ("attention.key_length", heads.width),
            ("attention.value_length", heads.width),
            ("rope.dimension_count", rope.rotated.unwrap_or(heads.width)),
        ] {
            number(key, size)?;
        }
        if !self.convolutions {
            number("attention.head_count_kv", heads.kv_heads)?;
        }
        let windows = || facts.layers.iter().filter_map(|of| attention(of)?.config.window);
        if self.name == "phi3" || self.windows.is_some() && windows().next().is_some() {
            // Phi-3 must have it; zero says that there is none.
            number("attention.sliding_window", windows().next().unwrap_or(0))?;
        }
        if let RopeScaling::LongRope { original, .. } | RopeScaling::Yarn { original, .. } =
            &rope.scaling
        {
            number("rope.scaling.original_context_length", *original as usize)?;
        }
        if let Some((_, experts)) = facts.experts().next() {
            number("expert_count", experts.count)?;
            number("expert_used_count", experts.top_k)?;
            number("expert_feed_forward_length", experts.width)?;
        }
        self.write_layers(facts, keys);
        #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
        for (key, value) in [
            ("attention.layer_norm_rms_epsilon", facts.norm.epsilon as f32),
            ("rope.freq_base", rope.theta as f32),
        ] {
            keys.fraction(&name(key), value);
        }
        if self.multipliers {
            let residual = facts.layers[0].residuals[0].multiplier;
            keys.fraction(&name("attention.scale"), of_first.config.scale);
            keys.fraction(&name("embedding_scale"), facts.embedding_scale);
            keys.fraction(&name("residual_scale"), residual);
            keys.fraction(&name("logit_scale"), 1.0 / facts.logits.scale);
        }
        self.write_scaling(&rope.scaling, keys);
        Ok(())
    }

    /// How positions are stretched.
    fn write_scaling(&self, scaling: &RopeScaling, keys: &mut Keys) {
        let name = |key: &str| format!("{}.{key}", self.name);
        match scaling {
            RopeScaling::Linear { factor } => {
                keys.text(&name("rope.scaling.type"), "linear");
                keys.fraction(&name("rope.scaling.factor"), *factor);
            }
            RopeScaling::LongRope { attention_factor, .. } => {
                keys.fraction(&name("rope.scaling.attn_factor"), *attention_factor);
            }
            RopeScaling::Yarn { factor, betas, attention_factor, .. } => {
                keys.text(&name("rope.scaling.type"), "yarn");
                keys.fraction(&name("rope.scaling.factor"), *factor);
                keys.fraction(&name("rope.scaling.yarn_beta_fast"), betas[0]);
                keys.fraction(&name("rope.scaling.yarn_beta_slow"), betas[1]);
                // llama.cpp multiplies with the usual one, too.
                let beside = attention_factor / usual_attention_factor(*factor);
                if !near(beside, 1.0, 1e-6) {
                    keys.fraction(&name("rope.scaling.attn_factor"), beside);
                }
            }
            _ => {}
        }
    }

    /// What is said of each layer, and of caps.
    fn write_layers(&self, facts: &Description, keys: &mut Keys) {
        let name = |key: &str| format!("{}.{key}", self.name);
        let layers = || facts.layers.iter().map(attention);
        if self.convolutions {
            let groups = |of: Option<&AttentionDescription>| {
                of.map_or(0, |of| i32::try_from(of.config.heads.kv_heads).unwrap_or(i32::MAX))
            };
            let groups: Vec<i32> = layers().map(groups).collect();
            keys.numbers(&name("attention.head_count_kv"), &groups);
            let width = facts.layers.iter().find_map(|layer| match &residuals(layer)?[0].block {
                BlockDescription::ShortConv(conv) => u32::try_from(conv.convolution.width).ok(),
                _ => None,
            });
            keys.number(&name("shortconv.l_cache"), width.unwrap_or(3));
        }
        let windowed =
            |of: Option<&AttentionDescription>| of.is_some_and(|of| of.config.window.is_some());
        if self.any_pattern && layers().any(windowed) {
            let pattern: Vec<bool> = layers().map(windowed).collect();
            keys.flags(&name("attention.sliding_window_pattern"), &pattern);
        }
        if let ("gemma3", [_, Some(rope)]) = (self.name, ropes(facts)) {
            #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
            keys.fraction(&name("rope.freq_base_swa"), rope.theta as f32);
        }
        if let Some(cap) = first(facts).config.soft_cap {
            keys.fraction(&name("attn_logit_softcapping"), cap);
        }
        if let Some(cap) = facts.logits.soft_cap {
            keys.fraction(&name("final_logit_softcapping"), cap);
        }
    }

    /// Divisors of the rotary frequencies, where they are not all the same, by the names of their
    /// tensors.
    pub fn rope_factors(&self, facts: &Description) -> Vec<(&'static str, Vec<f32>)> {
        let (rope, width) = (far_rope(facts), head_width(facts));
        match &rope.scaling {
            // As the model does.
            RopeScaling::Llama3 { .. } => {
                vec![("rope_freqs.weight", rope.frequencies(width).stretches(0))]
            }
            RopeScaling::LongRope { short, long, .. } => vec![
                ("rope_factors_long.weight", long.clone()),
                ("rope_factors_short.weight", short.clone()),
            ],
            _ => Vec::new(),
        }
    }
}

/// What yarn multiplies cosines and sines with where nothing is said.
pub fn usual_attention_factor(factor: f32) -> f32 {
    if factor > 1.0 { 0.1f32.mul_add(factor.ln(), 1.0) } else { 1.0 }
}
