//! Inputs of layers that are computed again, off the device until the backward pass.

use super::*;

const AGAIN: &str = "train.recompute=layers";
const DISK: &str = "train.activation_offload=disk";
const LORA: &str = "[lora]\nr = 8\nlora_alpha = 8\ntarget_modules = \"all-linear\"\n";

/// The same run without an adapter.
fn with_full(run: &Run) {
    let text = run.read("run.toml");
    assert!(text.contains(LORA));
    run.write("full.toml", &text.replace(LORA, ""));
}

/// What full training computes, the artifact with it.
fn full(run: &Run, name: &str, settings: &[&str]) -> BTreeMap<String, Vec<u8>> {
    run.succeeds(&borrowed(&arguments(&["train", "full.toml", "--quiet"], name, settings)));
    let folder = run.path(&format!("checkpoints/{name}"));
    let mut all = files_of(&folder.join("artifact"));
    for file in ["step-00000002/model.safetensors", "metrics.jsonl"] {
        all.insert(file.to_owned(), fs::read(folder.join(file)).unwrap());
    }
    all
}

/// Layers see inputs of their own, and later ones keys of earlier ones.
fn gemma4() -> Value {
    let (sliding, full) = ("sliding_attention", "full_attention");
    json!({
        "model_type": "gemma4_text", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "global_head_dim": 32, "sliding_window": 16, "num_kv_shared_layers": 3,
        "layer_types": [sliding, sliding, full, sliding, sliding, full],
        "use_double_wide_mlp": true, "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 512, "final_logit_softcapping": 30.0, "pad_token_id": 0,
        "rope_parameters": {
            full: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e6},
            sliding: {"rope_type": "default", "rope_theta": 1e4},
        },
    })
}

/// Packed and padded, of an adapter and of all weights, with several micro-batches at once, and of
/// a family with streams beside the residual one.
#[test]
fn inputs_of_layers_on_disk_give_the_same_bytes() {
    let llama = json!({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 64,
        "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2});
    for (family, own) in [("llama", llama), ("gemma4", gemma4())] {
        let run = checkpoint(&config(own));
        with_full(&run);
        for (number, more) in [
            &["train.precision=f32"][..],
            &["data.packing=false", "train.micro_batch_size=3", "lora.lora_dropout=0.2"],
            &["train.gradient_accumulation_steps=4", "device.parallel_micro_batches=2"],
            &["train.precision=mixed-bf16"],
        ]
        .into_iter()
        .enumerate()
        {
            let train = |name: &str, settings: &[&str]| {
                let name = format!("{name}-{number}");
                trained(&run, &name, &[more, settings].concat())
            };
            let straight = train("straight", &[]);
            for (name, settings) in [
                ("disk", &[AGAIN, DISK][..]),
                ("plan", &["train.memory=activations-offloaded"]),
                ("streamed", &["train.memory=streamed", DISK]),
            ] {
                let found = train(name, settings);
                assert_same(&format!("{family} {more:?} {name}"), &found, &straight);
            }
        }
        let straight = full(&run, "full", &[]);
        let settings = [&[AGAIN, DISK][..], &["train.memory=all-offloaded"]];
        for (number, settings) in settings.into_iter().enumerate() {
            let found = full(&run, &format!("full-{number}"), settings);
            assert_same(&format!("{family} {settings:?}"), &found, &straight);
        }
    }
}

#[test]
fn a_run_goes_on_with_inputs_of_layers_elsewhere() {
    let run = plans();
    let straight = trained(&run, "straight", &[]);
    let there = [AGAIN, DISK];
    for (name, before, after) in [("there", &there[..], &[][..]), ("back", &[], &there)] {
        let first = arguments(&["train", "run.toml", "--quiet"], name, before);
        run.succeeds(&[&borrowed(&first)[..], &["--stop-after-steps", "1"]].concat());
        assert_same(name, &trained(&run, name, after), &straight);
    }
}

/// Of many narrow layers the inputs are most of what a step takes.
#[test]
fn inputs_of_layers_on_disk_leave_the_peak_and_auto_moves_them() {
    const MANY_ROWS: &str = "train.micro_batch_size=32";
    const LAYERS: u64 = 40;
    let run = checkpoint(&config(json!({
        "model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": 256,
        "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
    })));
    run.write("data.jsonl", &conversations(500));
    let all = planned(&run, &[MANY_ROWS]);
    let input = 32 * 128 * 256 * 4;
    // All but the one that is computed again and the next one.
    let [tiled, moved] = ["tiled-mlp", "activations-offloaded"].map(|name| size_of(&all, name));
    let less = (LAYERS - 2) * input;
    assert!(tiled - moved >= less * 9 / 10 && tiled - moved <= less, "{tiled} {moved} {less}");
    let [here, there] = ["tiled-mlp", "activations-offloaded"].map(|name| {
        let memory = format!("train.memory={name}");
        planned_and_peak(&run, "run.toml", name, &[MANY_ROWS, "train.precision=f32", &memory])
    });
    // What the allocator has for itself differs between runs.
    assert!(here.1 - there.1 >= less * 3 / 4, "{here:?} {there:?} {less}");
    for (planned, peak) in [here, there] {
        let ratio = planned as f64 / peak as f64;
        assert!((0.5..=1.4).contains(&ratio), "{planned} planned, {peak} at the peak");
    }
    let limit = format!("device.memory_limit={moved}");
    let auto = [MANY_ROWS, "train.memory=auto", &limit];
    assert_eq!(chosen(&planned(&run, &auto)), "activations-offloaded");
    let found = trained(&run, "auto", &auto);
    assert_same("auto", &found, &trained(&run, "straight", &[MANY_ROWS]));
    let build = &run.provenance("auto")["predicate"]["buildDefinition"];
    let plan = "auto: layers computed again, MLPs 2048 tokens at a time, logits of 32 target \
                tokens and 32 rows at once, inputs of layers on disk";
    assert_eq!(build["internalParameters"]["device"]["memory plan"], plan);
    // Who asks for it gets plans that have it alone, and who asks for none of it gets none.
    let moved = planned(&run, &[MANY_ROWS, "train.memory=auto", DISK]);
    assert!(moved.iter().all(|plan| plan["activation_offload"] == "disk"), "{moved:?}");
    assert_eq!(chosen(&moved), "recompute");
    let none = planned(&run, &[MANY_ROWS, "train.activation_offload=none"]);
    assert!(none.iter().all(|plan| plan["activation_offload"] == "none"), "{none:?}");
}

#[test]
fn inputs_that_are_not_kept_cannot_be_moved() {
    let run = plans();
    let refused = |settings: &[&str], errors: Inline| {
        let all = arguments(&["plan", "run.toml"], "refused", settings);
        says(without_progress(&run.fails(2, &borrowed(&all))), errors);
    };
    refused(
        &[DISK],
        str![[r#"
error[run]: `train.activation_offload = "disk"` moves inputs of layers off the device
  because nothing is computed again, and layers keep more than that

hint: add `train.recompute = "layers"`, or `train.memory = "auto"`

"#]],
    );
    refused(
        &[DISK, "train.memory=offloaded"],
        str![[r#"
error[run]: `train.activation_offload = "disk"` moves inputs of layers off the device
  because with `train.memory = "offloaded"` nothing is computed again, and layers keep more than that

hint: take a plan that computes layers again, such as `train.memory = "recompute"`

"#]],
    );
    refused(
        &[AGAIN, "train.activation_offload=host"],
        str![[r#"
error[run]: `train.activation_offload = "host"` moves inputs of layers off the device
  because on the CPU they are in host memory already (`"host"`)

hint: `train.activation_offload = "disk"` moves them to disk

"#]],
    );
    refused(
        &["train.activation_offload=none", "train.memory=activations-offloaded"],
        str![[r#"
error[run]: `train.memory = "activations-offloaded"` moves inputs of layers off the device
  because `train.activation_offload = "none"` leaves them there

hint: leave one of the two out

"#]],
    );
}
