//! What files of each architecture say besides what all say.

use serde_json::{Map, Value};

use super::facts::{Facts, set};

pub(super) fn llama(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    if facts.optional("expert_count")?.unwrap_or(0) > 0 {
        return Err("it is a mixture of experts".to_owned());
    }
    set(config, "attention_bias", facts.has("blk.0.attn_q.bias"));
    set(config, "mlp_bias", facts.has("blk.0.ffn_up.bias"));
    Ok(())
}

#[expect(clippy::unnecessary_wraps)] // a line of the table
pub(super) fn qwen2(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "use_sliding_window", false);
    Ok(())
}

#[expect(clippy::unnecessary_wraps)]
pub(super) fn qwen3(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "use_sliding_window", false);
    set(config, "attention_bias", false);
    Ok(())
}

pub(super) fn phi3(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    let rotated = facts.optional("rope.dimension_count")?.unwrap_or(facts.head);
    if rotated != facts.head {
        #[expect(clippy::cast_precision_loss)] // heads are small
        set(config, "partial_rotary_factor", rotated as f64 / facts.head as f64);
    }
    let window = facts.optional("attention.sliding_window")?.filter(|window| *window > 0);
    set(config, "sliding_window", window.map_or(Value::Null, Value::from));
    config.remove("head_dim");
    Ok(())
}

#[expect(clippy::unnecessary_wraps)]
pub(super) fn smollm3(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "no_rope_layer_interval", 4);
    Ok(())
}

pub(super) fn granite(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "attention_bias", facts.has("blk.0.attn_q.bias"));
    set(config, "mlp_bias", facts.has("blk.0.ffn_up.bias"));
    for (theirs, ours) in [
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        set(config, ours, facts.number(theirs)?);
    }
    Ok(())
}

pub(super) fn gemma2(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    gemma(facts, (2, 46), config)?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        set(config, key, facts.number(key)?);
    }
    Ok(())
}

pub(super) fn gemma3(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    gemma(facts, (6, 62), config)?;
    facts.two_rotations(facts.optional_number("rope.freq_base_swa")?.unwrap_or(1e4), config);
    Ok(())
}

/// What both generations have: every so many layers sees everything; models of so many layers have
/// another scale of scores.
pub(super) fn gemma(
    facts: &Facts,
    (period, wide_at): (u64, u64),
    config: &mut Map<String, Value>,
) -> Result<(), String> {
    if !facts.windows(period, config)? {
        return Err(format!("it has no `{}`", facts.key("attention.sliding_window")));
    }
    facts.score_scale(wide_at, config)?;
    config.remove("hidden_act");
    set(config, "hidden_activation", "gelu_pytorch_tanh");
    set(config, "attention_bias", false);
    Ok(())
}

pub(super) fn olmo(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "attention_bias", false);
    config.remove("head_dim");
    if !facts.windows(4, config)? {
        set(config, "model_type", "olmo2");
        return Ok(());
    }
    let theta = config["rope_theta"].as_f64().unwrap_or_default();
    facts.two_rotations(facts.optional_number("rope.freq_base_swa")?.unwrap_or(theta), config);
    Ok(())
}

pub(super) fn lfm2(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    let groups = facts.layers("attention.head_count_kv");
    let kind = |groups: &u64| if *groups == 0 { "conv" } else { "full_attention" };
    let groups = groups.ok_or("it does not say which layers have attention")?;
    set(config, "layer_types", groups.iter().map(kind).collect::<Vec<_>>());
    set(config, "conv_L_cache", facts.size("shortconv.l_cache")?);
    set(config, "conv_bias", false);
    set(config, "block_auto_adjust_ff_dim", false);
    let epsilon = config.remove("rms_norm_eps").unwrap_or_default();
    set(config, "norm_eps", epsilon);
    for key in ["head_dim", "hidden_act"] {
        config.remove(key);
    }
    Ok(())
}

pub(super) fn qwen3_moe(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    qwen3(facts, config)?;
    set(config, "num_experts", facts.size("expert_count")?);
    set(config, "num_experts_per_tok", facts.size("expert_used_count")?);
    set(config, "moe_intermediate_size", facts.size("expert_feed_forward_length")?);
    set(config, "norm_topk_prob", true); // llama.cpp does it
    Ok(())
}
