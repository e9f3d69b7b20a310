//! Families with mixtures of experts: what only they have.

use std::collections::BTreeMap;

use firebrand::adapters;
use firebrand::config::Kernels;
use firebrand::coverage::{BitSet, CoveragePass, LayerCoverage, Thresholds};
use firebrand::data::{Batch, Example, RecordId, Target};
use firebrand::device::Arithmetic;
use firebrand::engine::Pass;
use firebrand::files::Digest;
use firebrand::model::{Model, ModelJson, families};
use serde_json::{Value, json};
use snapbox::str;

use super::{Case, KERNELS, gradients, pass};
use crate::common::says;

/// The bytes of a tensor of a name, and their type: codes of MXFP4 are made of numbers as
/// `make_families.py` makes them.
pub fn bytes_of(name: &str, numbers: Vec<f32>) -> (safetensors::Dtype, Vec<u8>) {
    let codes = |least: u8, count: f64| {
        let code = |x: f32| {
            let place = ((f64::from(x) / 0.7 + 0.5) * count).floor().clamp(0.0, count - 1.0);
            least + place as u8
        };
        (safetensors::Dtype::U8, numbers.iter().copied().map(code).collect())
    };
    match name {
        _ if name.ends_with("_blocks") => codes(0, 256.0),
        _ if name.ends_with("_scales") => codes(121, 4.0),
        _ => {
            let bytes = numbers.iter().flat_map(|x| x.to_le_bytes());
            (safetensors::Dtype::F32, bytes.collect())
        }
    }
}

/// Qwen3-30B-A3B as it is on the hub.
pub fn qwen3_moe() -> Value {
    json!({
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": false, "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 2048,
        "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
        "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": true,
        "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false,
        "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1_000_000.0,
        "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
        "use_sliding_window": false, "vocab_size": 151_936,
    })
}

/// gpt-oss-20b, with its experts in bfloat16.
pub fn gpt_oss() -> Value {
    let kinds: Vec<_> =
        (0..24).map(|n| if n % 2 == 0 { "sliding_attention" } else { "full_attention" }).collect();
    json!({
        "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "attention_bias": true,
        "experts_per_token": 4, "head_dim": 64, "hidden_size": 2880, "initial_context_length": 4096,
        "intermediate_size": 2880, "layer_types": kinds, "max_position_embeddings": 131_072,
        "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
        "num_key_value_heads": 8, "num_local_experts": 32, "output_router_logits": false,
        "rms_norm_eps": 1e-5, "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0,
            "factor": 32.0, "original_max_position_embeddings": 4096, "rope_type": "yarn",
            "truncate": false},
        "rope_theta": 150_000, "router_aux_loss_coef": 0.9, "sliding_window": 128,
        "swiglu_limit": 7.0, "tie_word_embeddings": false, "vocab_size": 201_088,
    })
}

/// Qwen3.5-35B-A3B.
pub fn qwen3_5_moe() -> Value {
    let text = json!({
        "attention_bias": false, "attention_dropout": 0.0, "attn_output_gate": true,
        "dtype": "bfloat16", "eos_token_id": 248_044, "full_attention_interval": 4,
        "head_dim": 256, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262_144, "mlp_only_layers": [],
        "model_type": "qwen3_5_moe_text", "moe_intermediate_size": 512, "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": false, "num_attention_heads": 16, "num_experts": 256,
        "num_experts_per_tok": 8, "num_hidden_layers": 40, "num_key_value_heads": 2,
        "output_router_logits": false, "rms_norm_eps": 1e-6, "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 512, "use_cache": true, "vocab_size": 248_320,
        "rope_parameters": {"mrope_interleaved": true, "mrope_section": [11, 11, 10],
            "partial_rotary_factor": 0.25, "rope_theta": 10_000_000, "rope_type": "default"},
    });
    json!({
        "model_type": "qwen3_5_moe", "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "image_token_id": 248_056, "text_config": text, "tie_word_embeddings": false,
        "video_token_id": 248_057, "vision_config": {"model_type": "qwen3_5_moe"},
        "vision_end_token_id": 248_054, "vision_start_token_id": 248_053,
    })
}

/// Gemma 4 26B-A4B.
pub fn gemma4_moe() -> Value {
    super::gemma4(
        "gemma4",
        json!({
            "model_type": "gemma4_text", "attention_k_eq_v": true, "enable_moe_block": true,
            "hidden_size": 2816, "hidden_size_per_layer_input": 0, "intermediate_size": 2112,
            "layer_types": super::kinds(30, 6), "max_position_embeddings": 262_144,
            "moe_intermediate_size": 704, "num_attention_heads": 16, "num_experts": 128,
            "num_global_key_value_heads": 2, "num_hidden_layers": 30, "num_key_value_heads": 8,
            "num_kv_shared_layers": 0, "sliding_window": 1024, "top_k_experts": 8,
            "use_bidirectional_attention": "vision", "use_double_wide_mlp": false,
        }),
    )
}

/// LFM2-8B-A1B.
pub fn lfm2_moe() -> Value {
    let kind =
        |layer| if [2, 6, 10, 14, 18, 21].contains(&layer) { "full_attention" } else { "conv" };
    json!({
        "model_type": "lfm2_moe", "architectures": ["Lfm2MoeForCausalLM"], "conv_L_cache": 3,
        "conv_bias": false, "dtype": "bfloat16", "eos_token_id": 7, "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 7168,
        "layer_types": (0..24).map(kind).collect::<Vec<_>>(), "max_position_embeddings": 128_000,
        "moe_intermediate_size": 1792, "norm_eps": 1e-5, "norm_topk_prob": true,
        "num_attention_heads": 32, "num_dense_layers": 2, "num_experts": 32,
        "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
        "rope_theta": 1_000_000.0, "routed_scaling_factor": 1.0, "tie_embedding": true,
        "use_cache": true, "use_expert_bias": true, "vocab_size": 65536,
    })
}

/// How many weights there are, as transformers counts them, and how many compute a token.
#[test]
fn parameters_of_experts_are_counted_all_and_active() {
    let describe = |config| families::describe(&ModelJson::from_value(config)).unwrap();
    let active = [qwen3_moe(), gpt_oss()].map(|config| describe(config).active_parameters());
    assert_eq!(active, [3_353_032_704, 4_187_440_704]);
    let counts = [qwen3_5_moe(), gemma4_moe(), lfm2_moe()].map(|config| {
        let description = describe(config);
        [description.parameters, description.active_parameters()]
    });
    let wanted = [
        [34_660_610_688, 3_454_988_928],
        [25_233_141_760, 3_822_530_560],
        [8_339_929_856, 1_557_740_288],
    ];
    assert_eq!(counts, wanted);
}

/// The text model by itself is the one inside, and where it is silent it has the sizes of 35B-A3B.
#[test]
fn qwen3_5_moe_means_the_same_alone_and_where_it_is_silent() {
    let describe = |config| families::describe(&ModelJson::from_value(config)).unwrap();
    let mut text = qwen3_5_moe()["text_config"].clone();
    let alone = describe(text.clone());
    assert_eq!(alone.layers.len(), 40);
    assert_eq!(alone.parameters, describe(qwen3_5_moe()).parameters);
    for key in [
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "num_key_value_heads",
        "shared_expert_intermediate_size",
        "head_dim",
        "full_attention_interval",
    ] {
        text.as_object_mut().unwrap().remove(key);
    }
    // A width of MLPs means nothing: there are none.
    text["intermediate_size"] = json!(77);
    assert_eq!(describe(text), alone);
}

#[test]
fn options_of_new_mixtures_that_are_not_understood_are_refused() {
    let refused = |config: Value, change: Value| {
        let mut config = config;
        let inside = config.get("text_config").is_some();
        let place = if inside { &mut config["text_config"] } else { &mut config };
        place.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config)).unwrap_err().to_string()
    };
    let mut said = String::new();
    for (config, change) in [
        (qwen3_5_moe(), json!({"norm_topk_prob": false})),
        (qwen3_5_moe(), json!({"mlp_only_layers": [1]})),
        (qwen3_5_moe(), json!({"output_router_logits": true})),
        (qwen3_5_moe(), json!({"num_experts": 4})),
        (gemma4_moe(), json!({"top_k_experts": 129})),
        (gemma4_moe(), json!({"num_experts": 4096})),
        (gemma4_moe(), json!({"moe_intermediate_size": null})),
        (lfm2_moe(), json!({"layer_types": null})),
        (lfm2_moe(), json!({"num_dense_layers": -1})),
        (lfm2_moe(), json!({"routed_scaling_factor": 0.0})),
        (lfm2_moe(), json!({"block_ff_dim": 512})),
        (lfm2_moe(), json!({"n_group": 4})),
    ] {
        said += &format!("{}\n", refused(config, change));
    }
    says(
        said,
        str![[r#"
error[model]: `text_config.norm_topk_prob` must be true
  at config.json
error[model]: `text_config.mlp_only_layers` asks for something that models of `qwen3_5_moe_text` here do not have
  at config.json
  because it is [1]

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`
error[model]: `text_config.output_router_logits` asks for the auxiliary loss of the router, which is not supported
  at config.json

hint: set it to false in `config.json`: the router is then trained by the loss of the tokens alone, or stays as it is beside an adapter
error[model]: `text_config.num_experts_per_tok` is 8, and there are 4 experts
  at config.json
error[model]: `text_config.top_k_experts` is 129, and there are 128 experts
  at config.json
error[model]: `text_config.num_experts` must be between 1 and 1024
  at config.json
error[model]: `text_config.moe_intermediate_size` is missing
  at config.json
error[model]: `layer_types` is missing
  at config.json
error[model]: `num_dense_layers` must be a number of layers
  at config.json
error[model]: `routed_scaling_factor` must be a number above 0, within 32 bits
  at config.json
error[model]: `block_ff_dim` asks for something that models of `lfm2_moe` here do not have
  at config.json
  because it is 512

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`
error[model]: `n_group` asks for something that models of `lfm2_moe` here do not have
  at config.json
  because it is 4

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`

"#]],
    );
}

/// What would be computed otherwise than asked is refused by the name of its key.
#[test]
fn options_of_experts_that_are_not_understood_are_refused() {
    let refused = |config: Value, change: Value| {
        let mut config = config;
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config)).unwrap_err().to_string()
    };
    says(
        refused(qwen3_moe(), json!({"output_router_logits": true})),
        str![[r#"
error[model]: `output_router_logits` asks for the auxiliary loss of the router, which is not supported
  at config.json

hint: set it to false in `config.json`: the router is then trained by the loss of the tokens alone, or stays as it is beside an adapter
"#]],
    );
    says(
        refused(qwen3_moe(), json!({"mlp_only_layers": [48]})),
        str![[r#"
error[model]: `mlp_only_layers` has 48, and there is no such layer
  at config.json
"#]],
    );
    says(
        refused(qwen3_moe(), json!({"num_experts_per_tok": 129})),
        str![[r#"
error[model]: `num_experts_per_tok` is 129, and there are 128 experts
  at config.json
"#]],
    );
    says(
        refused(qwen3_moe(), json!({"num_local_experts": 64})),
        str![[r#"
error[model]: `num_experts` is 128, but `num_local_experts` is 64
  at config.json
"#]],
    );
    let mxfp4 = json!({"quantization_config": {"quant_method": "mxfp4"}});
    says(
        refused(qwen3_moe(), mxfp4),
        str![[r#"
error[model]: `quantization_config` asks for something that models of `qwen3_moe` here do not have
  at config.json
  because it is {"quant_method":"mxfp4"}

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`
"#]],
    );
    let narrow = json!({"quantization_config": {"quant_method": "mxfp4"}, "hidden_size": 2900});
    says(
        refused(gpt_oss(), narrow),
        str![[r#"
error[model]: `hidden_size` is 2900, and MXFP4 has blocks of 32 numbers
  at config.json
"#]],
    );
    says(
        refused(gpt_oss(), json!({"experts_per_token": 2})),
        str![[r#"
error[model]: `experts_per_token` is another number than `num_experts_per_tok`
  at config.json
"#]],
    );
}

/// The experts of a text of one token, by layer: those with a gradient.
fn chosen(model: &Model, token: u32) -> Vec<Vec<u64>> {
    let target = Target { index: 0, token: 7 };
    let batch = Batch {
        rows: 1,
        length: 1,
        tokens: vec![token],
        positions: vec![0],
        documents: vec![1],
        targets: vec![target],
        ..Batch::default()
    };
    let (_, sums) = gradients(model, &batch, Pass { dropout: None, ..pass(&batch) });
    let mut layers: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (path, sum) in sums {
        let Some((before, after)) = path.split_once(".experts.") else { continue };
        let (number, matrix) = after.split_once('.').unwrap();
        if matrix != "down_proj.weight" || sum.iter().all(|number| *number == 0.0) {
            continue;
        }
        let layer = before.split('.').find_map(|part| part.parse().ok()).unwrap();
        layers.entry(layer).or_default().push(number.parse().unwrap());
    }
    layers
        .into_values()
        .map(|mut experts| {
            experts.sort_unstable();
            experts
        })
        .collect()
}

/// Scores are computed in 32 bits of inputs that are rounded to 16: who leads by more than that is
/// chosen as by transformers in f32; of two that are closer either may be the last. That happens to
/// 4 of 600 choices, and to 3 by transformers in bfloat16, where scores themselves are rounded. What
/// the layers before make of the rounding is part of it: the largest lead that turned was 0.06, after
/// two layers of the gated delta rule, the next 0.005.
#[test]
fn experts_in_mixed_bf16_are_those_that_transformers_chooses() {
    const CLEAR: f64 = 0.1;
    const OTHERS_MAX: usize = 6;
    let path = crate::common::repository("tests/reference/expert_choices.json");
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(stored["tokens"].clone()).unwrap();
    let (mut compared, mut others) = (0, 0);
    for (name, of_case) in stored.as_object().unwrap() {
        if name == "tokens" {
            continue;
        }
        let mut model = Case::read(name).model(Kernels::Fast);
        adapters::unfreeze_all(&mut model);
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16] {
            model.computing.arithmetic = arithmetic;
            for (number, token) in tokens.iter().enumerate() {
                for (layer, found) in chosen(&model, *token).into_iter().enumerate() {
                    let of = |key: &str| &of_case[key][number][layer];
                    let clear = of("lead").as_f64().unwrap() > CLEAR;
                    let exact = clear || arithmetic == Arithmetic::F32;
                    let wanted: Vec<u64> = serde_json::from_value(of("f32").clone()).unwrap();
                    let common = found.iter().filter(|expert| wanted.contains(expert)).count();
                    assert!(
                        found == wanted || !exact && common + 1 == wanted.len(),
                        "{name}, {arithmetic:?}, {token} in layer {layer}: {found:?} for {wanted:?}"
                    );
                    compared += 1;
                    others += usize::from(found != wanted);
                }
            }
        }
    }
    assert!(compared == 2 * 600 && others <= OTHERS_MAX, "{compared}, {others}");
}

/// Sums over the experts of a token have one order, whoever computes them.
#[test]
fn experts_give_the_same_bits_for_any_number_of_threads() {
    for name in ["qwen3-moe", "qwen3-moe-step", "gpt-oss", "qwen3.5-moe", "gemma4-moe", "lfm2-moe"]
    {
        let case = Case::read(name);
        let batch = case.batch();
        for kernels in KERNELS {
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut model = case.adapted(kernels, 0.0);
                    adapters::unfreeze_all(&mut model);
                    gradients(&model, &batch, pass(&batch))
                })
            };
            let (loss, sums) = with(1);
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for threads in [2, 5] {
                let (other, found) = with(threads);
                assert_eq!(loss.to_bits(), other.to_bits(), "{name} {kernels}");
                for (path, sum) in &sums {
                    assert_eq!(bits(sum), bits(&found[path]), "{name} {kernels} {path}");
                }
            }
        }
    }
}

/// Also where other blocks stand beside the mixture, or in layers without one.
#[test]
fn experts_that_are_covered_are_those_that_are_chosen() {
    for name in ["qwen3-moe", "gpt-oss", "qwen3.5-moe", "gemma4-moe", "lfm2-moe"] {
        let mut model = Case::read(name).model(Kernels::Fast);
        adapters::unfreeze_all(&mut model);
        for token in [3, 17, 40] {
            let layers = covered(&model, vec![token]);
            let covered = layers.iter().filter_map(|layer| {
                let tokens = layer.experts.as_ref()?.tokens.clone();
                let set: Vec<u64> = layer.set("experts")?.numbers().map(|n| n as u64).collect();
                let used: Vec<u64> =
                    (0..).zip(tokens).filter(|it| it.1 == 1).map(|it| it.0).collect();
                assert_eq!(set, used, "{name}");
                Some(set)
            });
            assert_eq!(covered.collect::<Vec<_>>(), chosen(&model, token), "{name}, {token}");
        }
    }
}

/// What a text exercises, layer by layer.
fn covered(model: &Model, tokens: Vec<u32>) -> Vec<LayerCoverage> {
    let mut pass = CoveragePass::new(model, Thresholds::default(), None);
    let (mut set, mut numbers) = (BitSet::new(pass.space.total), pass.no_numbers());
    let loss_mask = vec![true; tokens.len()];
    let text = firebrand::data::Case {
        record: RecordId { file: "a".into(), line: 1 },
        digest: Digest::of(b""),
        fields: serde_json::Map::new(),
        examples: vec![Example { tokens, loss_mask }],
        question: None,
    };
    pass.run(&[text], (8, 1), &mut numbers, &mut |_| (), &mut |_, it| set.add(it)).unwrap();
    let layers = pass.space.layers.iter().zip(&numbers);
    layers.map(|(space, numbers)| LayerCoverage::new(space, &set, numbers)).collect()
}

#[test]
fn units_of_experts_are_those_that_pytorch_exercises() {
    let path = crate::common::repository("tests/reference/expert_units.json");
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(stored["unit_threshold"], Thresholds::default().unit_threshold);
    let model = Case::read(stored["case"].as_str().unwrap()).model(Kernels::Fast);
    let found = covered(&model, serde_json::from_value(stored["text"].clone()).unwrap());
    let wanted = stored["layers"].as_array().unwrap();
    assert_eq!(found.len(), wanted.len());
    for (layer, wanted) in found.iter().zip(wanted) {
        let experts = layer.experts.as_ref().unwrap();
        assert_eq!(json!(experts.tokens), wanted["experts"], "{}", layer.path);
        assert_eq!(json!(experts.unit_tokens), wanted["units"], "{}", layer.path);
        let used = experts.unit_tokens.iter().enumerate().filter(|(_, count)| **count > 0);
        let used: Vec<usize> = used.map(|(unit, _)| unit).collect();
        let set = layer.set("expert_units").unwrap();
        assert_eq!(set.numbers().collect::<Vec<_>>(), used, "{}", layer.path);
        assert!(used.len() < experts.unit_tokens.len() / 2, "most are not active");
    }
}
