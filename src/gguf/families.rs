//! What files of each architecture say besides what all say.

use serde_json::{Map, Value};

use super::facts::{Facts, set, usual_attention_factor};
use super::metadata::MetadataValue;

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

/// What is said of experts and of layers of Mamba, also where there are none.
const OF_HYBRIDS: [&str; 7] = [
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
];

pub(super) fn granite(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    if facts.optional("expert_count")?.unwrap_or(0) > 0 {
        return Err("it is a mixture of experts".to_owned());
    }
    if !facts.metadata.flag(&facts.key("rope.scaling.finetuned"), true)? {
        return Err("positions turn nothing in its layers".to_owned());
    }
    // Files of the dense models of Granite 4.0 have sizes of what hybrid ones have besides.
    for key in OF_HYBRIDS {
        facts.metadata.get(&facts.key(key));
    }
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

/// In layers where positions turn nothing, the base of the rotation is zero.
pub(super) fn granite_swa(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    granite(facts, config)?;
    let layers = facts.depth()?;
    // Where nothing says which layers have a window, others count every fourth from another one.
    let key = facts.key("attention.sliding_window_pattern");
    if facts.metadata.get(&key).is_none() {
        return Err(format!("it has no `{key}`"));
    }
    if !facts.windows(4, config)? {
        return Err("it has no sliding window".to_owned());
    }
    let key = facts.key("attention.rope_pattern");
    let Some(turns) = facts.metadata.list(&key)? else { return Ok(()) };
    if turns.len() as u64 != layers {
        return Err(format!("`{key}` must have a flag for each layer"));
    }
    let theta = config["rope_theta"].clone();
    let of_layer = |turns: &MetadataValue| match turns {
        MetadataValue::Flag(false) | MetadataValue::Integer(0) => Value::from(0),
        _ => theta.clone(),
    };
    set(config, "layer_rope_theta", turns.iter().map(of_layer).collect::<Vec<_>>());
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

/// Queries are scaled by their positions; without that it is a Mistral.
pub(super) fn mistral3(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    llama(facts, config)?;
    for key in ["attention_bias", "mlp_bias"] {
        if config.remove(key) == Some(true.into()) {
            return Err("it has biases".to_owned());
        }
    }
    set(config, "sliding_window", Value::Null);
    let beta = facts.optional_number("attention.temperature_scale")?.filter(|beta| *beta != 0.0);
    let share = facts.optional_number("rope.scaling.yarn_log_multiplier")?;
    let length = facts.optional("attention.temperature_length")?;
    let Some(Value::Object(scaling)) = config.get_mut("rope_scaling") else {
        set(config, "model_type", "mistral");
        return match beta {
            None => Ok(()),
            Some(_) => Err("it scales queries, and does not stretch positions".to_owned()),
        };
    };
    if length.is_some() && length != scaling["original_max_position_embeddings"].as_u64() {
        return Err("it scales queries beyond another length than positions".to_owned());
    }
    if let (Some(share), Some(factor)) = (share.filter(|it| *it != 0.0), scaling["factor"].as_f64())
    {
        let usual = scaling["attention_factor"].as_f64().unwrap_or(1.0);
        let all = 1.0 + share * (usual_attention_factor(factor) - 1.0);
        scaling.insert("attention_factor".to_owned(), (usual / all).into());
    }
    match beta {
        Some(beta) => drop(scaling.insert("llama_4_scaling_beta".to_owned(), beta.into())),
        None => set(config, "model_type", "mistral"),
    }
    Ok(())
}

pub(super) fn lfm2_moe(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    /// `llama_expert_gating_func_type`.
    const SIGMOID: u64 = 2;
    lfm2(facts, config)?;
    config.remove("block_auto_adjust_ff_dim");
    if facts.optional("expert_gating_func")?.unwrap_or(SIGMOID) != SIGMOID {
        return Err("its experts are not weighted by sigmoids".to_owned());
    }
    let factor = facts.optional_number("expert_weights_scale")?.unwrap_or(1.0);
    let normalised = facts.metadata.flag(&facts.key("expert_weights_norm"), true)?;
    if factor != 1.0 || !normalised {
        return Err("its experts are weighted as llama.cpp does not do it".to_owned());
    }
    set(config, "num_experts", facts.size("expert_count")?);
    set(config, "num_experts_per_tok", facts.size("expert_used_count")?);
    set(config, "moe_intermediate_size", facts.size("expert_feed_forward_length")?);
    set(config, "num_dense_layers", facts.optional("leading_dense_block_count")?.unwrap_or(0));
    set(config, "use_expert_bias", true); // what llama.cpp does
    set(config, "norm_topk_prob", true);
    Ok(())
}

pub(super) fn gpt_oss(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    if !facts.windows(2, config)? {
        return Err(format!("it has no `{}`", facts.key("attention.sliding_window")));
    }
    let theta = config["rope_theta"].as_f64();
    if facts.optional_number("rope.freq_base_swa")?.is_some_and(|other| Some(other) != theta) {
        return Err("it rotates layers with a window otherwise".to_owned());
    }
    if let Some(Value::Object(scaling)) = config.get_mut("rope_scaling") {
        // llama.cpp rounds the planes between which positions are stretched; the models do not.
        scaling.insert("truncate".to_owned(), false.into());
    } else {
        set(config, "rope_scaling", serde_json::json!({ "rope_type": "default" }));
    }
    config.remove("hidden_act");
    set(config, "attention_bias", facts.has("blk.0.attn_q.bias"));
    set(config, "num_local_experts", facts.size("expert_count")?);
    set(config, "num_experts_per_tok", facts.size("expert_used_count")?);
    set(config, "intermediate_size", facts.size("expert_feed_forward_length")?);
    let coded = facts.tensors.get("blk.0.ffn_gate_exps.weight");
    if coded.is_some_and(|tensor| tensor.kind.name == "MXFP4") {
        set(config, "quantization_config", serde_json::json!({ "quant_method": "mxfp4" }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::architectures::GgufArchitecture;
    use super::super::metadata::{Metadata, MetadataValue};

    /// What llama.cpp's converter writes of a dense model of Granite 4.0, with some changes.
    fn granite(name: &str, change: &[(&str, MetadataValue)]) -> Result<serde_json::Value, String> {
        use MetadataValue::{Flag, Integer, List, Number, Text};
        let of_granite = [
            ("attention.head_count", Integer(16)),
            ("attention.head_count_kv", List(vec![Integer(4); 28])),
            ("attention.layer_norm_rms_epsilon", Number(1e-5)),
            ("attention.scale", Number(0.015_625)),
            ("block_count", Integer(28)),
            ("context_length", Integer(32768)),
            ("embedding_length", Integer(1024)),
            ("embedding_scale", Number(12.0)),
            ("expert_count", Integer(0)),
            ("expert_shared_feed_forward_length", Integer(2048)),
            ("expert_used_count", Integer(0)),
            ("feed_forward_length", Integer(2048)),
            ("logit_scale", Number(4.0)),
            ("residual_scale", Number(0.25)),
            ("rope.dimension_count", Integer(64)),
            ("rope.freq_base", Number(1e7)),
            ("rope.scaling.finetuned", Flag(true)),
            ("ssm.conv_kernel", Integer(4)),
            ("ssm.group_count", Integer(1)),
            ("ssm.inner_size", Integer(2048)),
            ("ssm.state_size", Integer(256)),
            ("ssm.time_step_rank", Integer(128)),
            ("vocab_size", Integer(0)),
        ];
        let values = of_granite.iter().chain(change);
        let mut values: BTreeMap<_, _> =
            values.map(|(key, value)| (format!("{name}.{key}"), value.clone())).collect();
        values.insert("general.architecture".to_owned(), Text(name.to_owned()));
        let metadata = Metadata::new(values);
        let architecture = GgufArchitecture::of(&metadata)?;
        architecture.config(&metadata, &BTreeMap::new(), BTreeMap::new())
    }

    #[test]
    fn dense_models_of_granite_4_are_granite_in_files() {
        let config = granite("granite", &[]).unwrap();
        let wanted = json!({
            "model_type": "granite", "hidden_size": 1024, "intermediate_size": 2048,
            "num_key_value_heads": 4, "head_dim": 64, "attention_multiplier": 0.015_625,
            "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "logits_scaling": 4.0,
        });
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(config[key], *value, "{key}");
        }
        let refused = |key, value| granite("granite", &[(key, value)]).unwrap_err();
        assert_eq!(
            [
                refused("expert_count", MetadataValue::Integer(64)),
                refused("rope.scaling.finetuned", MetadataValue::Flag(false)),
                refused("ssm.version", MetadataValue::Integer(2)),
            ],
            [
                "it is a mixture of experts",
                "positions turn nothing in its layers",
                "its key `granite.ssm.version` is not understood",
            ]
        );
    }

    #[test]
    fn layers_of_granite_say_whether_they_have_a_window_and_positions_turn_something() {
        use MetadataValue::{Flag, Integer, List};
        let windows = List([false, true, true].map(Flag).into());
        let read = |turns: MetadataValue| {
            granite(
                "granite_swa",
                &[
                    ("attention.head_count_kv", Integer(4)),
                    ("attention.sliding_window", Integer(128)),
                    ("attention.sliding_window_pattern", windows.clone()),
                    ("attention.rope_pattern", turns),
                    ("block_count", Integer(3)),
                ],
            )
        };
        for turns in [[false, true, true].map(Flag), [0, 1, 1].map(Integer)] {
            let config = read(List(turns.into())).unwrap();
            assert_eq!(config["layer_rope_theta"], json!([0, 1e7, 1e7]));
            assert_eq!(config["sliding_window"], 128);
            assert_eq!(
                config["layer_types"],
                json!(["full_attention", "sliding_attention", "sliding_attention"])
            );
        }
        assert_eq!(
            read(List(vec![Flag(true)])).unwrap_err(),
            "`granite_swa.attention.rope_pattern` must have a flag for each layer"
        );
        let no_pattern = granite("granite_swa", &[]).unwrap_err();
        assert_eq!(no_pattern, "it has no `granite_swa.attention.sliding_window_pattern`");
        let pattern = ("attention.sliding_window_pattern", List(vec![Flag(true); 28]));
        let no_window = granite("granite_swa", &[pattern]).unwrap_err();
        assert_eq!(no_window, "it has no sliding window");
    }

    /// A few bytes must not make lists that no memory holds.
    #[test]
    fn more_layers_than_models_have_are_refused() {
        for layers in [1025, 1 << 50, u64::MAX] {
            assert_eq!(
                granite("granite", &[("block_count", MetadataValue::Integer(layers))]).unwrap_err(),
                format!("`granite.block_count` is {layers}, and models have 1024 layers at most")
            );
        }
        let most = granite("granite", &[("block_count", MetadataValue::Integer(1024))]).unwrap();
        assert_eq!(most["num_hidden_layers"], 1024);
    }
}
