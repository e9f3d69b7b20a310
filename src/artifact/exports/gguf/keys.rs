//! Keys of a file that say sizes and constants of a model.

use super::architecture::{Architecture, Mixture};
use super::file::Keys;
use super::shape::{
    attention, far_rope, first, gate_width, head_width, near, residuals, ropes, size_of,
};
use crate::error::{Error, Result};
use crate::model::description::{AttentionDescription, BlockDescription, Description, Rope};
use crate::ops::RopeScaling;

/// How experts are weighted (`llama_expert_gating_func_type`).
const SIGMOID: usize = 2;

impl Architecture {
    /// Sizes and constants of the model.
    pub fn write_keys(&self, facts: &Description, keys: &mut Keys) -> Result<()> {
        if let Some(own) = self.own {
            return (own.write)(facts, self.name, keys);
        }
        let name = |key: &str| format!("{}.{key}", self.name);
        let (of_first, rope) = (first(facts), far_rope(facts));
        let heads = of_first.config.heads;
        let mut number = |key: &str, size: usize| {
            keys.number(&name(key), size_of(key, size)?);
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
        if self.mixture == Mixture::Sigmoid {
            let has =
                |of: &&_| residuals(of).is_some_and(|parts| parts[1].block.experts().is_none());
            number("leading_dense_block_count", facts.layers.iter().take_while(has).count())?;
            number("expert_gating_func", SIGMOID)?;
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
        self.write_scaling(rope, keys);
        Ok(())
    }

    /// How positions are stretched.
    fn write_scaling(&self, rope: &Rope, keys: &mut Keys) {
        let name = |key: &str| format!("{}.{key}", self.name);
        if let Some(scale) = rope.query_scale {
            keys.fraction(&name("attention.temperature_scale"), scale.beta);
        }
        match &rope.scaling {
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
                if self.scales_queries && near(*attention_factor, 1.0, 1e-6) {
                    // Its share of the usual one, by which it is divided.
                    keys.fraction(&name("rope.scaling.yarn_log_multiplier"), 1.0);
                    return;
                }
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
        if self.any_turning {
            let turns = |of: Option<&AttentionDescription>| of.is_some_and(|of| of.rope.is_some());
            let pattern: Vec<bool> = layers().map(turns).collect();
            keys.flags(&name("attention.rope_pattern"), &pattern);
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
        if let Some(own) = self.own {
            let factors = (own.rope_factors)(facts);
            return factors.map(|factors| ("rope_freqs.weight", factors)).into_iter().collect();
        }
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
