//! Qwen3.5 in files: the gated delta rule in some layers, attention with a gate in the others.

use serde_json::{Map, Value};

use super::facts::{Facts, set};

/// Every so many layers there is attention, where nothing is said.
const INTERVAL: u64 = 4;

pub(super) fn qwen35(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    // Layers that guess further tokens come last; they are left out.
    let further = facts.optional("nextn_predict_layers")?.unwrap_or(0);
    let layers = facts.size("block_count")?.checked_sub(further);
    let layers = layers.ok_or("it has more layers that guess tokens than layers")?;
    set(config, "num_hidden_layers", layers);
    set(config, "mtp_num_hidden_layers", further);
    let interval = facts.optional("full_attention_interval")?.unwrap_or(INTERVAL).max(1);
    let recurrent = facts.pattern("attention.recurrent_layers", interval)?;
    let kind = |is: &bool| if *is { "linear_attention" } else { "full_attention" };
    let layers = usize::try_from(layers).unwrap_or(usize::MAX);
    set(config, "layer_types", recurrent.iter().take(layers).map(kind).collect::<Vec<_>>());
    let width = facts.size("ssm.state_size")?;
    let values = facts.size("ssm.time_step_rank")?;
    if facts.size("ssm.inner_size")? != width * values {
        return Err(format!("`{}` is not that of its heads", facts.key("ssm.inner_size")));
    }
    set(config, "linear_key_head_dim", width);
    set(config, "linear_value_head_dim", width);
    set(config, "linear_num_key_heads", facts.size("ssm.group_count")?);
    set(config, "linear_num_value_heads", values);
    set(config, "linear_conv_kernel_dim", facts.size("ssm.conv_kernel")?);
    let rotated = facts.optional("rope.dimension_count")?.unwrap_or(facts.head);
    #[expect(clippy::cast_precision_loss)] // heads are small
    set(config, "partial_rotary_factor", rotated as f64 / facts.head as f64);
    set(config, "attention_bias", false);
    // How positions in images are divided among the planes: those of a text are all the same.
    facts.metadata.get(&facts.key("rope.dimension_sections"));
    Ok(())
}

pub(super) fn qwen35_moe(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    qwen35(facts, config)?;
    config.remove("intermediate_size");
    set(config, "num_experts", facts.size("expert_count")?);
    set(config, "num_experts_per_tok", facts.size("expert_used_count")?);
    let width = facts.size("expert_feed_forward_length")?;
    let shared = facts.optional("expert_shared_feed_forward_length")?;
    set(config, "moe_intermediate_size", width);
    set(config, "shared_expert_intermediate_size", shared.unwrap_or(width));
    Ok(())
}
