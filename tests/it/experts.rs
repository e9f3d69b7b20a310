//! Mixtures of experts from configuration to artifact: names and shapes in files, merges, and what
//! is refused.

use std::collections::BTreeMap;
use std::fs;

use crate::common::Run;
use firebrand::model::{Description, ModelJson, families};
use firebrand::weights::{Element, OwnedTensor, TensorSpec, read_tensors, write_safetensors};
use serde_json::{Value, json};
use snapbox::str;

const FILE: &str = "model.safetensors";

fn common() -> Value {
    json!({
        "torch_dtype": "float32", "initializer_range": 0.02, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "vocab_size": 512, "num_experts_per_tok": 2, "max_position_embeddings": 256,
    })
}

fn config(own: Value) -> Value {
    let mut config = common();
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

fn qwen3_moe() -> Value {
    config(json!({
        "model_type": "qwen3_moe", "num_experts": 5, "moe_intermediate_size": 24,
        "intermediate_size": 64, "norm_topk_prob": true,
    }))
}

/// With a shared expert and the gated delta rule in every other layer.
fn qwen3_5_moe() -> Value {
    config(json!({
        "model_type": "qwen3_5_moe_text", "num_experts": 5, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 16, "full_attention_interval": 2,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }))
}

/// With MLPs beside the experts.
fn gemma4_moe() -> Value {
    let mut config = config(json!({
        "model_type": "gemma4_text", "num_experts": 4, "top_k_experts": 2, "intermediate_size": 48,
        "enable_moe_block": true, "moe_intermediate_size": 24, "hidden_size_per_layer_input": 0,
        "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"],
        "global_head_dim": 16, "attention_k_eq_v": true,
    }));
    config.as_object_mut().unwrap().remove("num_experts_per_tok");
    config
}

/// With an MLP and a short convolution in the first layer.
fn lfm2_moe() -> Value {
    config(json!({
        "model_type": "lfm2_moe", "num_experts": 4, "moe_intermediate_size": 24,
        "intermediate_size": 48, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1,
    }))
}

/// What adapters stand beside besides linear layers.
fn parameters(config: &Value) -> Vec<&'static str> {
    let usual = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"];
    match config["model_type"].as_str().unwrap() {
        "gpt_oss" => [&usual[..], &["mlp.router.weight"]].concat(),
        "gemma4_text" => vec!["experts.gate_up_proj", "experts.down_proj"],
        "lfm2_moe" => vec![
            "feed_forward.experts.gate_up_proj",
            "feed_forward.experts.down_proj",
            "feed_forward.gate.weight",
        ],
        _ => [&usual[..], &["mlp.gate.weight"]].concat(),
    }
}

fn gpt_oss(more: Value) -> Value {
    let mut config = config(json!({
        "model_type": "gpt_oss", "num_local_experts": 4, "intermediate_size": 32,
        "sliding_window": 16,
    }));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn mxfp4() -> Value {
    gpt_oss(json!({"quantization_config": {"quant_method": "mxfp4"}}))
}

fn value(name: &str, place: usize) -> f32 {
    let spread = (name.len() * 31 + place * 7919) % 1009;
    let uniform = spread as f32 / 1009.0 - 0.5;
    match name {
        _ if name.ends_with("_blocks") => (spread % 256) as f32,
        _ if name.ends_with("_scales") => (120 + spread % 4) as f32,
        _ if name.contains("norm") || name.contains("scal") => 1.0 + 0.2 * uniform,
        _ => 0.6 * uniform,
    }
}

/// A checkpoint `mixture`, and configurations that train it.
fn checkpoint(config: &Value) -> Run {
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    checkpoint_of(config, &description)
}

fn checkpoint_of(config: &Value, description: &Description) -> Run {
    let run = Run::new();
    run.model_folder("mixture", config);
    let specs = description.tensors().into_iter().map(|(name, shape)| {
        let codes = name.ends_with("_blocks") || name.ends_with("_scales");
        TensorSpec { name, element: if codes { Element::U8 } else { Element::F32 }, shape }
    });
    write_safetensors(&run.path("mixture").join(FILE), specs.collect(), &BTreeMap::new(), |spec| {
        let count = spec.shape.iter().product();
        Ok((0..count).map(|place| value(&spec.name, place)).collect())
    })
    .unwrap();
    let common = "[model]\nbase = \"mixture\"\n[data]\nmax_seq_len = 96\n[[data.train]]\n\
                  path = \"data.jsonl\"\n[train]\nmax_steps = 2\nmicro_batch_size = 2\n\
                  learning_rate = 1e-2\n[checkpoint]\nreuse = \"never\"\nevery_steps = 1\n\
                  [device]\nname = \"cpu\"\n";
    let parameters = format!("target_parameters = {}\n", json!(parameters(config)));
    run.write("full.toml", common);
    run.write("attention.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n"));
    run.write("adapter.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n{parameters}"));
    run
}

fn tensors(run: &Run, folder: &str, file: &str) -> BTreeMap<String, OwnedTensor> {
    read_tensors(&run.path(folder), file).unwrap().0
}

/// Names of tensors that are not what they are in the base.
fn changed(run: &Run, folder: &str) -> Vec<String> {
    let (before, after) = (tensors(run, "mixture", FILE), tensors(run, folder, FILE));
    assert!(before.keys().eq(after.keys()), "{folder}");
    let differs = |name: &&String| before[*name].bytes != after[*name].bytes;
    before.keys().filter(differs).cloned().collect()
}

/// Shapes are PEFT's: `tests/reference/family_artifacts.py` loads such adapters there.
#[test]
fn adapters_of_experts_have_the_tensors_of_peft_and_merge_into_those_of_the_base() {
    let cases = [(qwen3_moe(), [5, 24], 5 * 3 + 1), (gpt_oss(json!({})), [4, 32], 2 + 1)];
    for (config, [experts, width], of_layer) in cases {
        let run = checkpoint(&config);
        run.succeeds(&["train", "adapter.toml", "--quiet"]);
        let artifact = "checkpoints/adapter/artifact";
        let adapter = tensors(&run, artifact, "adapter_model.safetensors");
        let shape = |name: &str| {
            let path = "base_model.model.model.layers.1.mlp";
            adapter[&format!("{path}.{name}.weight")].shape.clone()
        };
        assert_eq!(shape("experts.base_layer.lora_A"), [experts * 4, 32]);
        assert_eq!(shape("experts.base_layer.lora_B"), [2 * width, experts * 4]);
        assert_eq!(shape("experts.lora_A"), [experts * 4, width]);
        assert_eq!(shape("experts.lora_B"), [32, experts * 4]);
        assert_eq!(adapter.len(), 2 * (2 * 4 + 2 * 2 + 2));
        let settings = run.read(&format!("{artifact}/adapter_config.json"));
        let settings: Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["target_modules"], json!(["k_proj", "o_proj", "q_proj", "v_proj"]));
        assert_eq!(settings["target_parameters"].as_array().unwrap().len(), 3);

        run.succeeds(&["merge", artifact, "--out", "merged"]);
        let changed = changed(&run, "merged");
        assert_eq!(changed.len(), 2 * (4 + of_layer), "{changed:?}");
        let of_base = run.answer("mixture");
        assert_eq!(run.answer("merged"), run.answer(artifact));
        assert_ne!(run.answer("merged"), of_base);
    }
}

/// Experts beside MLPs, shared experts and mixers with states: all of them get an adapter.
#[test]
fn adapters_of_experts_beside_other_blocks_merge_into_the_tensors_of_the_base() {
    let describe =
        |config: &Value| families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let [qwen, gemma, lfm] = [qwen3_5_moe(), gemma4_moe(), lfm2_moe()].map(|config| {
        let description = describe(&config);
        (config, description)
    });
    // As transformers writes it: a tensor for each expert.
    let apart = (qwen.0.clone(), qwen.1.clone().with_other_experts());
    assert!(apart.1.tensors().len() > qwen.1.tensors().len());
    for (config, description) in [qwen, apart, gemma, lfm] {
        let run = checkpoint_of(&config, &description);
        run.succeeds(&["train", "adapter.toml", "--quiet"]);
        let artifact = "checkpoints/adapter/artifact";
        run.succeeds(&["merge", artifact, "--out", "merged"]);
        let changed = changed(&run, "merged");
        let learns = |name: &&String| {
            let others =
                ["norm", "embed", "lm_head", "scal", "bias", "conv1d", "conv.conv", "A_log"];
            !others.iter().any(|other| name.contains(other))
        };
        let all = tensors(&run, "mixture", FILE);
        let wanted: Vec<_> = all.keys().filter(learns).cloned().collect();
        assert_eq!(changed, wanted);
        assert_eq!(run.answer("merged"), run.answer(artifact));
        assert_ne!(run.answer("merged"), run.answer("mixture"));
    }
}

/// transformers has them so in memory since version 5, and some files have them as they are there.
#[test]
fn experts_of_qwen3_in_one_tensor_are_those_with_a_tensor_each() {
    let run = checkpoint(&qwen3_moe());
    let answer = run.answer("mixture");
    let each = tensors(&run, "mixture", FILE);
    let (experts, others): (Vec<_>, Vec<_>) =
        each.iter().partition(|(name, _)| name.contains(".experts."));
    let mut all: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (name, tensor) in others {
        all.insert(name.clone(), (tensor.shape.clone(), values(tensor)));
    }
    // `down`, `gate`, `up` of each expert, in the order of their names.
    for of_expert in experts.chunks(3) {
        let (layer, _) = of_expert[0].0.split_once(".experts.").unwrap();
        let of = |place: usize| (&of_expert[place].1.shape, values(of_expert[place].1));
        let [down, gate, up] = [of(0), of(1), of(2)];
        let gate_up = (vec![0, 2 * gate.0[0], gate.0[1]], [gate.1, up.1].concat());
        let down = (vec![0, down.0[0], down.0[1]], down.1);
        for (name, (shape, values)) in [("gate_up_proj", gate_up), ("down_proj", down)] {
            let stacked = all.entry(format!("{layer}.experts.{name}")).or_insert((shape, vec![]));
            stacked.0[0] += 1;
            stacked.1.extend(values);
        }
    }
    let spec = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| TensorSpec {
        name: name.clone(),
        element: Element::F32,
        shape: shape.clone(),
    };
    let specs = all.iter().map(spec).collect();
    fs::remove_file(run.path("mixture").join(FILE)).unwrap();
    write_safetensors(&run.path("mixture").join(FILE), specs, &BTreeMap::new(), |spec| {
        Ok(all[&spec.name].1.clone())
    })
    .unwrap();
    assert_eq!(run.answer("mixture"), answer);
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    let artifact = "checkpoints/adapter/artifact";
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    let learnt = changed(&run, "merged");
    assert_eq!(learnt.iter().filter(|name| name.contains(".experts.")).count(), 2 * 2);
    assert_eq!(run.answer("merged"), run.answer(artifact));
    let export = ["export", "mixture", "--type", "f32", "--no-sign", "--out", "out"];
    run.succeeds(&export);
    assert_eq!(run.answer("out/out-F32.gguf"), answer);
}

/// llama.cpp reads such files, too (`tests/reference/gguf_check.py families`).
#[test]
fn gguf_files_of_mixtures_are_the_models_that_they_were_made_of() {
    for config in [
        qwen3_moe(),
        qwen3_5_moe(),
        gemma4_moe(),
        lfm2_moe(),
        gpt_oss(json!({"torch_dtype": "bfloat16"})),
        mxfp4(),
    ] {
        let run = checkpoint(&config);
        let export = ["export", "mixture", "--type", "f32", "--no-sign", "--out", "out"];
        let said = run.stderr_of(&export);
        let stays = said.lines().any(|line| line.contains("stay in MXFP4"));
        assert_eq!(stays, config.get("quantization_config").is_some());
        assert_eq!(run.answer("out/out-F32.gguf"), run.answer("mixture"), "{config}");
        let mut folders = fs::read_dir(run.path("cache/gguf")).unwrap();
        let folder = folders.next().unwrap().unwrap().path();
        let (read, _) = read_tensors(&folder, FILE).unwrap();
        let mut compared = 0;
        for (name, tensor) in tensors(&run, "mixture", FILE) {
            let Some(found) = read.get(&name) else { continue };
            assert_eq!(found.shape, tensor.shape, "{name}");
            compared += 1;
            // Rates of decay go by way of their exponentials, gains by way of one more.
            if ["A_log", "norm"].iter().any(|part| name.contains(part)) {
                continue;
            }
            assert!(found.bytes == tensor.bytes, "{name}");
        }
        assert!(compared * 2 > read.len() || config["model_type"] != "gpt_oss", "{compared}");
    }
}

fn values(tensor: &OwnedTensor) -> Vec<f32> {
    let bytes = tensor.bytes.chunks_exact(4);
    bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn numbers(tensor: &OwnedTensor) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// `W + 2·B·A` of the tensors that are in files, added up by hand: `lora_alpha / r` is 2.
fn by_hand(weight: &OwnedTensor, a: &OwnedTensor, b: &OwnedTensor) -> Vec<f64> {
    let ([outputs, rank], inputs) = ([b.shape[0], b.shape[1]], a.shape[1]);
    assert_eq!((&weight.shape[..], a.shape[0]), (&[outputs, inputs][..], rank));
    let (mut sum, a, b) = (numbers(weight), numbers(a), numbers(b));
    for (place, sum) in sum.iter_mut().enumerate() {
        let (row, column) = (place / inputs, place % inputs);
        let of_rank = |k: usize| b[row * rank + k] * a[k * inputs + column];
        *sum += 2.0 * (0..rank).map(of_rank).sum::<f64>();
    }
    sum
}

/// The names are those of vLLM, and what they hold added to the base's tensors is what a merge
/// makes.
#[test]
fn an_adapter_of_experts_is_written_with_a_name_for_each_expert() {
    let usual = ["gate_proj", "up_proj", "down_proj"];
    for (config, module, names, experts) in [
        (qwen3_moe(), "mlp.experts", usual, 5),
        (lfm2_moe(), "feed_forward.experts", ["w1", "w3", "w2"], 4),
    ] {
        let run = checkpoint(&config);
        run.succeeds(&["train", "adapter.toml", "--quiet"]);
        let artifact = "checkpoints/adapter/artifact";
        run.succeeds(&["merge", artifact, "--out", "merged"]);
        run.succeeds(&["export", artifact, "--format", "vllm", "--out", "served"]);
        let [base, merged] = ["mixture", "merged"].map(|folder| tensors(&run, folder, FILE));
        let served = tensors(&run, "served", "adapter_model.safetensors");
        let prefix = "base_model.model.";
        for expert in 0..experts {
            for name in names {
                let layer = format!("model.layers.1.{module}.{expert}.{name}");
                let of = |part: &str| &served[&format!("{prefix}{layer}.{part}.weight")];
                let sum = by_hand(&base[&format!("{layer}.weight")], of("lora_A"), of("lora_B"));
                let found = numbers(&merged[&format!("{layer}.weight")]);
                assert!(found.iter().zip(sum).all(|(a, b)| (a - b).abs() < 1e-6), "{layer}");
            }
        }
        let peft = tensors(&run, artifact, "adapter_model.safetensors");
        let of_linears = |all: &BTreeMap<String, OwnedTensor>| -> Vec<String> {
            all.keys().filter(|name| !name.contains("experts")).cloned().collect()
        };
        assert_eq!(of_linears(&served), of_linears(&peft));
        let layers = 2 - usize::from(config["num_dense_layers"] == 1);
        assert_eq!(served.len() - of_linears(&served).len(), layers * experts * 3 * 2);
        let settings: Value =
            serde_json::from_str(&run.read("served/adapter_config.json")).unwrap();
        assert_eq!(settings["target_parameters"], Value::Null);
        let modules = settings["target_modules"].as_array().unwrap();
        assert!(names.iter().all(|name| modules.contains(&json!(name))), "{modules:?}");
        run.succeeds(&["verify", "served"]);
    }
}

/// Beside experts in four bits, too; a matrix that has no adapter gets one that changes nothing.
#[test]
fn what_experts_lack_for_vllm_is_zero_and_what_is_not_of_experts_is_refused() {
    let run = checkpoint(&mxfp4());
    let down = "lora.target_parameters=[\"mlp.experts.down_proj\"]";
    run.succeeds(&["train", "adapter.toml", "--quiet", "--set", down]);
    run.succeeds(&["export", "checkpoints/adapter", "--format", "vllm", "--out", "served"]);
    let served = tensors(&run, "served", "adapter_model.safetensors");
    let largest = |name: &str| {
        let of = &served[&format!("base_model.model.model.layers.0.mlp.experts.3.{name}.weight")];
        numbers(of).into_iter().fold(0.0, |most, x| x.abs().max(most))
    };
    assert_eq!((largest("gate_proj.lora_B"), largest("up_proj.lora_B")), (0.0, 0.0));
    assert!(largest("down_proj.lora_B") > 0.0);
    run.succeeds(&["train", "attention.toml", "--quiet"]);
    run.fails_with(
        2,
        &["export", "checkpoints/attention", "--format", "vllm", "--out", "none"],
        str![[r#"
error[export]: the adapter has nothing beside experts
  at checkpoints/attention/artifact
  because all that it holds has the names of vLLM already

"#]],
    );
    run.fails_with(
        2,
        &["export", "mixture", "--format", "vllm", "--out", "none"],
        str![[r#"
error[export]: the format `vllm` is for adapters, and this is a whole model
  at mixture

"#]],
    );
}

#[test]
fn full_training_writes_the_tensors_of_the_base_and_goes_on_where_it_stopped() {
    let new = [qwen3_5_moe(), gemma4_moe(), lfm2_moe()];
    for config in [qwen3_moe(), gpt_oss(json!({}))].into_iter().chain(new) {
        let run = checkpoint(&config);
        run.succeeds(&["train", "full.toml", "--quiet"]);
        let changed = changed(&run, "checkpoints/full/artifact");
        let all = tensors(&run, "mixture", FILE);
        // Every number has a gradient or decays, but for biases of keys that are not rotated much.
        assert!(changed.len() > all.len() * 9 / 10, "{} of {}", changed.len(), all.len());
        assert!(changed.iter().any(|name| name.contains("experts")));
        let whole = run.answer("checkpoints/full/artifact");
        // The checkpoint of the last step is the same model.
        fs::rename(run.path("checkpoints/full/artifact"), run.path("moved")).unwrap();
        assert_eq!(run.answer("checkpoints/full"), whole);
        fs::remove_dir_all(run.path("checkpoints/full/step-00000002")).unwrap();
        run.succeeds(&["train", "full.toml", "--quiet"]);
        let again = tensors(&run, "checkpoints/full/artifact", FILE);
        let before = tensors(&run, "moved", FILE);
        assert!(again.keys().eq(before.keys()));
        assert!(again.iter().all(|(name, tensor)| tensor.bytes == before[name].bytes));
    }
}

#[test]
fn experts_in_four_bits_stay_as_they_are() {
    let run = checkpoint(&mxfp4());
    run.succeeds(&["train", "attention.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/attention", "--out", "merged"]);
    let attention = changed(&run, "merged");
    assert_eq!(attention.len(), 2 * 4);
    assert!(attention.iter().all(|name| name.contains("self_attn")));
    assert_eq!(run.answer("merged"), run.answer("checkpoints/attention"));
    run.succeeds(&["merge", "checkpoints/attention", "--dtype", "bf16", "--out", "half"]);
    let half = tensors(&run, "half", FILE);
    let elements = half.iter().map(|(name, tensor)| (name.ends_with("s_blocks"), tensor.element));
    assert!(elements.into_iter().all(|(_, element)| element != Element::F32));

    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    run.answer("checkpoints/adapter");
    run.fails_with(
        2,
        &["merge", "checkpoints/adapter", "--out", "experts"],
        str![[r#"
error[adapter]: an adapter of experts cannot be merged into a base in MXFP4
  at checkpoints/adapter/artifact
  because sums of its numbers have no place in four bits

hint: name the same model in bfloat16 with `--base DIR`

"#]],
    );
    run.fails_with(
        2,
        &["train", "full.toml"],
        str![[r#"
error[model]: the experts of the base model are in MXFP4, which cannot be trained

hint: add a `[lora]` section, or take the same model in bfloat16 as `model.base`

"#]],
    );
}

/// Numbers and codes of experts, one by one or many in a tensor, are read from disk as they are in
/// memory.
#[test]
fn experts_that_are_left_on_disk_give_the_same_adapters() {
    let describe =
        |config: &Value| families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let apart = describe(&qwen3_5_moe()).with_other_experts();
    let all = [gpt_oss(json!({})), gemma4_moe(), lfm2_moe()].map(|it| (describe(&it), it));
    let all = all.into_iter().chain([(apart, qwen3_5_moe()), (describe(&mxfp4()), mxfp4())]);
    for (description, config) in all {
        let run = checkpoint_of(&config, &description);
        let [memory, disk] = ["small", "streamed"].map(|plan| {
            let set = [format!("name={plan}"), format!("train.memory={plan}")];
            run.succeeds(&["train", "adapter.toml", "--quiet", "--set", &set[0], "--set", &set[1]]);
            fs::read(run.path(&format!("checkpoints/{plan}/step-00000002/adapter.safetensors")))
                .unwrap()
        });
        assert!(memory == disk, "{}", config["model_type"]);
    }
}

#[test]
fn what_adapters_of_parameters_cannot_be_is_said() {
    let run = checkpoint(&qwen3_moe());
    let refused = |set: &[&str], message| {
        let mut arguments = vec!["plan", "adapter.toml"];
        set.iter().for_each(|set| arguments.extend(["--set", set]));
        run.fails_with(2, &arguments, message);
    };
    refused(
        &["lora.lora_dropout=0.1"],
        str![[r#"
error[adapter]: `lora.target_parameters` requires `lora.lora_dropout = 0`
  because PEFT cannot drop inputs of parameters

"#]],
    );
    refused(
        &["lora.use_dora=true"],
        str![[r#"
error[adapter]: `lora.target_parameters` cannot be used with `use_dora`
  because PEFT has no DoRA of parameters

"#]],
    );
    refused(
        &["lora.target_parameters=[\"mlp.experts.gate_up\", \"router\"]"],
        str![[r#"
error[adapter]: `mlp.experts.gate_up` in `lora.target_parameters` fits no parameter

hint: did you mean `mlp.experts.gate_up_proj`?

error[adapter]: `router` in `lora.target_parameters` fits no parameter

hint: the model has: mlp.experts.down_proj, mlp.experts.gate_up_proj, mlp.gate.weight

"#]],
    );
    let run = checkpoint(&config(json!({
        "model_type": "qwen3_moe", "num_experts": 5, "moe_intermediate_size": 24,
        "intermediate_size": 64, "mlp_only_layers": [0],
    })));
    run.fails_with(
        2,
        &["plan", "adapter.toml"],
        str![[r#"
error[adapter]: `model.layers.0.mlp.gate_proj` cannot have an adapter
  because PEFT takes its name for that of experts, which other layers have

hint: name the others: `lora.target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]`

"#]],
    );
}
