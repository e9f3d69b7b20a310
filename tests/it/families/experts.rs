//! Families with mixtures of experts: what only they have.

use firebrand::adapters;
use firebrand::model::{ModelJson, families};
use serde_json::{Value, json};
use snapbox::str;

use super::{Case, KERNELS, gradients, pass};
use crate::common::{cpu, relative, says};

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

/// How many of the weights compute a token.
#[test]
fn parameters_of_experts_are_counted_all_and_active() {
    let describe = |config| families::describe(&ModelJson::from_value(config)).unwrap();
    let active = [qwen3_moe(), gpt_oss()].map(|config| describe(config).active_parameters());
    assert_eq!(active, [3_353_032_704, 4_187_440_704]);
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

/// A software adapter stands for a GPU: choices are made on the host, all else is done there.
#[cfg(feature = "gpu")]
#[test]
fn experts_on_another_device_have_the_gradients_of_the_cpu() {
    use std::io::Write;

    use firebrand::config::DeviceChoice;
    use firebrand::model::{Init, load};

    let Ok(opened) = firebrand::device::open(DeviceChoice::Software, 0) else {
        // Past the harness, which keeps what passing tests say to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: experts on wgpu are not tested");
        return;
    };
    for name in ["qwen3-moe", "gpt-oss"] {
        let case = Case::read(name);
        let batch = case.batch();
        let found = [&opened.device, &cpu()].map(|device| {
            let mut model = load(case.folder.path(), Init::Pretrained, device).unwrap().model;
            adapters::unfreeze_all(&mut model);
            gradients(&model, &batch, pass(&batch))
        });
        let [(there, sums), (here, wanted)] = &found;
        assert!((there / here - 1.0).abs() < 1e-4, "{name}: {there} for {here}");
        assert!(sums.keys().eq(wanted.keys()));
        for (path, sum) in sums {
            let found = relative(sum, &wanted[path]);
            assert!(found < 1e-3, "{name} {path}: {found}");
        }
    }
}

/// Sums over the experts of a token have one order, whoever computes them.
#[test]
fn experts_give_the_same_bits_for_any_number_of_threads() {
    for name in ["qwen3-moe", "qwen3-moe-step", "gpt-oss"] {
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
