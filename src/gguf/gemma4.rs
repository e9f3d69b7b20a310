//! Gemma 4 in files: heads of two widths, keys and values of earlier layers, inputs of layers,
//! experts beside MLPs.

use serde_json::{Map, Value, json};

use super::facts::{Facts, ROPE_FREQS, set};

/// Speeds of planes are divided by at least this where they stand still.
const STILL: f32 = 1e29;

pub(super) fn gemma4(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    if !facts.windows(6, config)? {
        return Err(format!("it has no `{}`", facts.key("attention.sliding_window")));
    }
    let pattern = facts.pattern("attention.sliding_window_pattern", 6)?;
    let near = facts.optional("attention.key_length_swa")?.unwrap_or(facts.head);
    if facts.optional("attention.value_length_swa")?.unwrap_or(near) != near {
        return Err("its values have heads of another width than its keys".to_owned());
    }
    set(config, "head_dim", near);
    set(config, "global_head_dim", facts.head);
    let shared = facts.optional("attention.shared_kv_layers")?.unwrap_or(0);
    set(config, "num_kv_shared_layers", shared);
    heads(facts, &pattern, config)?;
    widths(facts, shared, config)?;
    inputs(facts, config)?;
    rotations(facts, near, config)?;
    if let Some(count) = facts.optional("expert_count")?.filter(|count| *count > 0) {
        set(config, "enable_moe_block", true);
        set(config, "num_experts", count);
        set(config, "top_k_experts", facts.size("expert_used_count")?);
        set(config, "moe_intermediate_size", facts.size("expert_feed_forward_length")?);
    }
    if let Some(cap) = facts.optional_number("final_logit_softcapping")? {
        set(config, "final_logit_softcapping", cap);
    }
    config.remove("hidden_act");
    set(config, "hidden_activation", "gelu_pytorch_tanh");
    set(config, "attention_bias", false);
    Ok(())
}

/// Heads of keys in layers of both kinds, and whether keys are values in those that see everything.
fn heads(facts: &Facts, pattern: &[bool], config: &mut Map<String, Value>) -> Result<(), String> {
    let full = pattern.iter().position(|windowed| !windowed);
    let keys_as_values =
        full.is_some_and(|layer| !facts.has(&format!("blk.{layer}.attn_v.weight")));
    set(config, "attention_k_eq_v", keys_as_values);
    let Some(groups) = facts.layers("attention.head_count_kv") else { return Ok(()) };
    let of = |kind: bool| {
        let mut of_kind = groups.iter().zip(pattern).filter(|(_, is)| **is == kind);
        let first = of_kind.next().map(|(groups, _)| *groups);
        (first, of_kind.all(|(groups, _)| Some(*groups) == first))
    };
    let ((near, same_near), (far, same_far)) = (of(true), of(false));
    let (Some(near), Some(far), true) = (near, far, same_near && same_far) else {
        return Err("its heads of keys differ within a kind of layers".to_owned());
    };
    set(config, "num_key_value_heads", near);
    if near == far {
        return Ok(());
    }
    if keys_as_values {
        set(config, "num_global_key_value_heads", far);
        return Ok(());
    }
    let of_layer = |(layer, windowed): (usize, &bool)| {
        let own = json!({ "head_dim": facts.head, "num_key_value_heads": far });
        (!windowed).then(|| (layer.to_string(), own))
    };
    let layers: Map<String, Value> = pattern.iter().enumerate().filter_map(of_layer).collect();
    set(config, "per_layer_config", layers);
    Ok(())
}

/// Layers that see keys of others may have an MLP that is twice as wide.
fn widths(facts: &Facts, shared: u64, config: &mut Map<String, Value>) -> Result<(), String> {
    let Some(widths) = facts.layers("feed_forward_length") else { return Ok(()) };
    let usual = config["intermediate_size"].as_u64().unwrap_or_default();
    let own = widths.len().saturating_sub(usize::try_from(shared).unwrap_or(usize::MAX));
    let wide = widths[own..].iter().all(|width| *width == 2 * usual) && own < widths.len();
    let expected = |layer: usize| if wide && layer >= own { 2 * usual } else { usual };
    if widths.iter().enumerate().any(|(layer, width)| *width != expected(layer)) {
        return Err(format!("`{}` differs between layers", facts.key("feed_forward_length")));
    }
    set(config, "use_double_wide_mlp", wide);
    Ok(())
}

fn inputs(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    let width = facts.optional("embedding_length_per_layer_input")?.unwrap_or(0);
    set(config, "hidden_size_per_layer_input", width);
    if width > 0 {
        let rows = facts.rows("per_layer_token_embd.weight");
        set(config, "vocab_size_per_layer_input", rows.ok_or("it has no inputs of layers")?);
    }
    Ok(())
}

fn rotations(facts: &Facts, near: u64, config: &mut Map<String, Value>) -> Result<(), String> {
    for (key, width) in [("rope.dimension_count", facts.head), ("rope.dimension_count_swa", near)] {
        if facts.optional(key)?.unwrap_or(width) != width {
            return Err(format!("`{}` is not the width of a head", facts.key(key)));
        }
    }
    let factors = facts.factors.get(ROPE_FREQS).map_or(&[][..], Vec::as_slice);
    let turning = factors.iter().take_while(|factor| **factor < STILL).count();
    let known = factors[..turning].iter().all(|factor| *factor == 1.0)
        && factors[turning..].iter().all(|factor| *factor >= STILL);
    if !known {
        return Err(format!("its `{ROPE_FREQS}` are not those of whole planes"));
    }
    let theta = config.remove("rope_theta").unwrap_or_default();
    #[expect(clippy::cast_precision_loss)] // heads are small
    let share = match factors.is_empty() {
        true => 1.0,
        false => (2 * turning) as f64 / facts.head as f64,
    };
    let swa = facts.optional_number("rope.freq_base_swa")?.unwrap_or(1e4);
    let both = json!({
        "full_attention": {
            "rope_type": "proportional", "partial_rotary_factor": share, "rope_theta": theta,
        },
        "sliding_attention": { "rope_type": "default", "rope_theta": swa },
    });
    set(config, "rope_parameters", both);
    Ok(())
}
