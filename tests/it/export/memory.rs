//! Large models are merged and exported a piece at a time.

use super::*;

/// A model with one large file and an adapter for it, both made here.
fn large(run: &Run) -> u64 {
    let (hidden, wide, rows) = (512, 65536, 65536);
    let shapes = [
        ("model.embed_tokens.weight", vec![rows, hidden]),
        ("model.norm.weight", vec![hidden]),
        ("model.layers.0.self_attn.q_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.k_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.v_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.o_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.mlp.gate_proj.weight", vec![wide, hidden]),
        ("model.layers.0.mlp.up_proj.weight", vec![wide, hidden]),
        ("model.layers.0.mlp.down_proj.weight", vec![hidden, wide]),
        ("model.layers.0.input_layernorm.weight", vec![hidden]),
        ("model.layers.0.post_attention_layernorm.weight", vec![hidden]),
    ];
    fs::create_dir(run.path("large")).unwrap();
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for (name, shape) in &shapes {
        let end = offset + 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]});
        header.insert((*name).to_owned(), entry);
        offset = end;
    }
    let text = Value::Object(header).to_string();
    let path = run.path("large/model.safetensors");
    fs::write(&path, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()).unwrap();
    let size = (8 + text.len() + offset) as u64;
    // Zeros that take no room on the disk.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
    let mut config = crate::common::model_config();
    for (key, value) in [
        ("hidden_size", hidden),
        ("intermediate_size", wide),
        ("vocab_size", rows),
        ("num_hidden_layers", 1),
        ("num_key_value_heads", 4),
    ] {
        config[key] = json!(value);
    }
    run.write("large/config.json", &config.to_string());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let from = repository("tests/fixtures/tokenizer").join(name);
        fs::copy(from, run.path("large").join(name)).unwrap();
    }
    fs::create_dir(run.path("adapter")).unwrap();
    let spec = |matrix: &str, shape: [usize; 2]| TensorSpec {
        name: format!("base_model.model.model.layers.0.mlp.gate_proj.lora_{matrix}.weight"),
        element: Element::F32,
        shape: shape.to_vec(),
    };
    let specs = vec![spec("A", [1, hidden]), spec("B", [wide, 1])];
    let weights = run.path("adapter/adapter_model.safetensors");
    write_safetensors(&weights, specs, &BTreeMap::new(), |spec| {
        Ok(vec![1.0; spec.shape.iter().product()])
    })
    .unwrap();
    let settings = json!({"peft_type": "LORA", "base_model_name_or_path": "large", "r": 1,
        "lora_alpha": 2, "target_modules": ["gate_proj"]});
    run.write("adapter/adapter_config.json", &settings.to_string());
    size
}

/// What a command's memory came to at most, looked at while it ran.
#[cfg(target_os = "linux")]
fn peak_of(run: &Run, arguments: &[&str]) -> u64 {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_firebrand"))
        .args(arguments)
        .current_dir(run.path("."))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(found.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments:?}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_never_held_whole() {
    let run = Run::new();
    let size = large(&run);
    let limit = size / 2;
    let merge = ["merge", "adapter", "--out", "merged", "--no-check", "--no-sign"];
    let export = ["export", "adapter", "--out", "file", "--type", "f16", "--no-sign"];
    for arguments in [&merge[..], &export[..]] {
        let peak = peak_of(&run, arguments);
        assert!(peak > 0 && peak < limit, "{arguments:?}: {peak} of {size}");
    }
    let shard = firebrand::weights::ShardStream::open(&run.path("merged"), "model.safetensors");
    let mut shard = shard.unwrap();
    let mut buffer = Vec::new();
    while let Some(place) = shard.begin() {
        let changed = place.name.contains("gate_proj");
        loop {
            let bytes = shard.read(&mut buffer, 1 << 20).unwrap();
            if bytes.is_empty() {
                break;
            }
            // s·B·A = 2·1·1, in bf16.
            let wanted: [u8; 2] = if changed { [0x00, 0x40] } else { [0, 0] };
            assert!(bytes.chunks_exact(2).all(|pair| pair == wanted), "{}", place.name);
        }
    }
}
