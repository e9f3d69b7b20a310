//! Adapters merged into their base: how near that is, and what the result says of itself.

use super::*;

#[test]
fn generation_ends_where_answers_were_trained_to_end() {
    let run = Run::new();
    // The base ends at another token than the turns that it is trained on.
    let named = json!({"bos_token_id": 3, "eos_token_id": 0, "top_p": 0.5});
    run.write("base/generation_config.json", &named.to_string());
    let run = run.with_base();
    let config = |folder: &str| -> Value {
        serde_json::from_str(&run.read(&format!("{folder}/generation_config.json"))).unwrap()
    };
    let expected = json!({"bos_token_id": 3, "eos_token_id": [0, 2], "top_p": 0.5});
    assert_eq!(config("checkpoints/tiny/artifact"), expected);
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    // The adapter says it too, and whoever names it already is left as it is.
    let text = run.read("checkpoints/tiny/artifact/generation_config.json");
    for folder in ["checkpoints/lora/artifact", "merged"] {
        assert_eq!(run.read(&format!("{folder}/generation_config.json")), text, "{folder}");
    }
    run.succeeds(&["verify", "merged", "--key", "settings/firebrand/signing.pub.pem"]);

    // An adapter for a base that does not, whose merge is another than the base as well.
    let run = Run::new().with_base();
    let path = "checkpoints/tiny/artifact/generation_config.json";
    assert_eq!(run.read(path), "{\n  \"eos_token_id\": 2\n}\n");
    fs::create_dir(run.path("own")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let from = run.path("checkpoints/tiny/artifact").join(name);
        fs::copy(from, run.path("own").join(name)).unwrap();
    }
    run.write("own/generation_config.json", r#"{"eos_token_id": [0]}"#);
    // Its templates have names.
    let template = run.read("base/chat_template.jinja");
    fs::create_dir(run.path("own/additional_chat_templates")).unwrap();
    run.write("own/additional_chat_templates/tool_use.jinja", &template);
    run.write("own/chat_template.jinja", &template);
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "model.base=own"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    for folder in ["checkpoints/lora/artifact", "merged"] {
        let stops: Value =
            serde_json::from_str(&run.read(&format!("{folder}/generation_config.json"))).unwrap();
        assert_eq!(stops["eos_token_id"], json!([0, 2]), "{folder}");
        let named = format!("{folder}/additional_chat_templates/tool_use.jinja");
        assert_eq!(run.read(&named), template);
    }
    let lineage = run.read("checkpoints/lora/artifact/lineage.inputs.json");
    assert!(lineage.contains("own/additional_chat_templates/tool_use.jinja"), "{lineage}");
    // A template that is given takes the place of all.
    run.write("given.jinja", &template);
    let given = ["--set", "model.base=own", "--set", "data.chat_template=given.jinja"];
    run.succeeds(&[&["train", "lora.toml", "--quiet", "--resume", "never"], &given[..]].concat());
    let folder = run.path("checkpoints/lora/artifact/additional_chat_templates");
    assert!(!folder.exists(), "transformers would take it for records with tools");
}

/// The number behind a text in what a command said.
fn number_after(stderr: &str, text: &str) -> f64 {
    let (_, rest) = stderr.split_once(text).unwrap_or_else(|| panic!("{text}\n{stderr}"));
    let end = rest.find(|c: char| !c.is_ascii_digit() && !"e.-".contains(c)).unwrap();
    rest[..end].trim_end_matches('.').parse().unwrap()
}

/// Logits of a model for a prompt of its run, by the model's own functions.
fn logits(model: &firebrand::model::Model, codec: &Path, prompt: &str) -> Vec<f32> {
    use firebrand::model::PassContext;
    use firebrand::ops::{host, indices};
    let tokens = firebrand::data::Codec::load(codec, None).unwrap().prompt(prompt).unwrap();
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let (length, device) = (tokens.len(), &model.device);
    let ones = vec![1; length];
    let context = PassContext::packed(1, length, &positions, &ones, &model.frequencies, device);
    host(model.logits(model.hidden(indices(tokens.into_iter(), device), &context)))
}

/// A loss against the base model is measured against the same base of all three: a merged model does
/// not have its base within it any more.
#[test]
fn losses_against_the_base_are_measured_of_merged_models_too() {
    let run = Run::new().with_base();
    for (objective, file) in [("dpo", "preference"), ("kto", "labels")] {
        let data = crate::common::repository(&format!("datasets/{file}.jsonl"));
        let data = format!("data.train.0.path={}", data.display());
        let (name, choice) = (format!("name={objective}"), format!("train.objective={objective}"));
        let settings = [
            &*data,
            &name,
            &choice,
            "data.validation=[]",
            "data.val_size=3",
            "data.max_seq_len=256",
        ];
        let sets = settings.into_iter().flat_map(|set| ["--set", set]);
        let train: Vec<&str> = ["train", "lora.toml", "--quiet"].into_iter().chain(sets).collect();
        run.succeeds(&train);
        let (from, to) = (format!("checkpoints/{objective}"), format!("merged-{objective}"));
        let merge = ["merge", &from, "--out", &to, "--dtype", "f32"];
        let output = run.command(&merge).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let (_, losses) = stderr.split_once("validation loss on").unwrap();
        let of = |which: &str| number_after(losses, &format!("{which} "));
        let [base, adapter, merged] = ["tokens: base", ", adapter", ", merged"].map(of);
        let at_start = if objective == "dpo" { std::f64::consts::LN_2 } else { 0.5 };
        assert!((base - at_start).abs() < 1e-4, "{stderr}");
        assert!((adapter - base).abs() > 1e-3, "{stderr}");
        assert!((adapter - merged).abs() < 1e-3, "{stderr}");
        // What a card says of it is no perplexity.
        for folder in [format!("{from}/artifact"), to] {
            let card = run.read(&format!("{folder}/README.md"));
            assert!(card.contains("| validation loss |"), "{card}");
            assert!(!card.contains("perplexity"), "{card}");
        }
    }
}

#[test]
fn a_merge_tells_how_far_it_is_from_its_adapter() {
    use firebrand::artifact::open::{BaseChoice, open};
    use firebrand::model::{Init, load};
    let run = run_with_adapter();
    let merge = |out: &str, more: &[&str]| {
        let all = [&["merge", "checkpoints/lora", "--out", out], more].concat();
        run.stderr_of(&all)
    };
    let told = merge("merged", &[]);
    let told = number_after(&told, "largest difference of a logit ");
    // The same, computed here.
    let supply = firebrand::train::Access::default().supply(Default::default()).unwrap();
    let adapter = run.path("checkpoints/lora").display().to_string();
    let base = run.path("checkpoints/tiny").display().to_string();
    let base = BaseChoice { instead: Some(&base), ..BaseChoice::default() };
    let adapter = open(&adapter, base, &cpu(), &supply).unwrap();
    let prompt = "What is 3 plus 4?";
    let difference = || {
        let merged = load(&run.path("merged"), Init::Pretrained, &cpu()).unwrap();
        let [one, other] =
            [&adapter.model, &merged.model].map(|m| logits(m, &adapter.codec, prompt));
        let pairs = one.iter().zip(&other);
        pairs.fold(0.0_f64, |max, (a, b)| max.max(f64::from((a - b).abs())))
    };
    let found = difference();
    assert!((found - told).abs() <= 1e-3 * told, "{found} is not the {told} that was told");
    assert!(found > 0.0, "bf16 cannot hold the sum exactly");
    // It stands in the card and in the lineage, and another model is further away.
    assert!(run.read("merged/README.md").contains("| largest difference of a logit |"));
    let statement: Value =
        serde_json::from_str(&run.read("merged/lineage.statement.json")).unwrap();
    let notes = &statement["predicate"]["runDetails"]["byproducts"][0]["annotations"];
    let noted = notes["adapter_logit_difference"].as_f64().unwrap();
    assert!((noted - found).abs() <= 1e-6 * found, "{noted} {found}");
    let path = run.path("merged/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x04; // the exponent of one weight
    fs::write(&path, bytes).unwrap();
    assert!(difference() > 10.0 * found, "{} and {found}", difference());

    let told = merge("unchecked", &["--no-check"]);
    says(
        &told,
        str![[r#"
not compared with the adapter (`--no-check`)
in BF16 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify unchecked

"#]],
    );
    assert!(!run.read("unchecked/README.md").contains("largest difference"));
    // Without prompts, on tokens drawn at random.
    run.succeeds(&[
        "train",
        "lora.toml",
        "--quiet",
        "--set",
        "name=mute",
        "--set",
        "eval.prompts=[]",
    ]);
    let told = run.stderr_of(&["merge", "checkpoints/mute", "--out", "mute"]);
    says(
        &told,
        str![[r#"
measuring base, adapter and merged model on 337 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 128 of 128 positions; on 4 rows of 32 tokens drawn from the vocabulary with seed 0
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in BF16 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify mute

"#]],
    );
}

#[test]
fn a_base_in_f32_loses_nothing_but_the_last_bits() {
    let run = Run::new();
    run.write("base/config.json", &{
        let mut config = crate::common::model_config();
        config["dtype"] = json!("float32");
        config.to_string()
    });
    let run = run.with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "train.learning_rate=0.05"]);
    let stderr = run.stderr_of(&["merge", "checkpoints/lora", "--out", "merged"]);
    let difference = number_after(&stderr, "largest difference of a logit ");
    let largest = number_after(&stderr, "(largest logit ");
    assert!(difference <= 1e-5 * largest, "{stderr}");
    let expected = adapted(
        &run.path("checkpoints/tiny/artifact"),
        &run.path("checkpoints/lora/artifact"),
        2.0,
    );
    let merged = weights(&run.path("merged"));
    assert!(merged == expected, "rounded once, from f64 to f32");
    // Metadata of the base tells of the base alone.
    let header = fs::read(run.path("merged/model.safetensors")).unwrap();
    let size = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&header[8..8 + size]).unwrap();
    assert_eq!(header["__metadata__"], json!({"format": "pt"}));
}

#[test]
fn a_dora_adapter_is_published_merged_and_used_as_any_other() {
    let run = Run::new().with_base();
    let train = ["train", "lora.toml", "--quiet", "--set", "lora.use_dora=true"];
    run.succeeds(&train);
    let folder = "checkpoints/lora/artifact";
    let config: Value =
        serde_json::from_str(&run.read(&format!("{folder}/adapter_config.json"))).unwrap();
    assert_eq!((&config["peft_type"], &config["use_dora"]), (&json!("LORA"), &json!(true)));
    let magnitudes = weights(&run.path(folder));
    let magnitudes = magnitudes.iter().filter(|(name, _)| name.ends_with(".lora_magnitude_vector"));
    assert_eq!(magnitudes.count(), 2 * 7);
    let card = run.read(&format!("{folder}/README.md"));
    assert!(card.contains("A DoRA adapter for") && card.contains("\n- dora\n"), "{card}");
    let lineage = run.read(&format!("{folder}/lineage.inputs.json"));
    assert!(lineage.contains("\"method\": \"dora\""), "{lineage}");
    run.succeeds(&["verify", folder]);
    let said = run.stderr_of(&["merge", "checkpoints/lora", "--out", "merged"]);
    let difference = number_after(&said, "largest difference of a logit ");
    assert!(difference < 0.2, "bf16 rounds no more than that: {said}");
    assert!(run.read("merged/README.md").contains("A DoRA adapter merged into"));
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "4", "--temperature", "0"];
    run.succeeds(&[&["generate", "checkpoints/lora"], &prompt[..]].concat());
    run.succeeds(&["export", "checkpoints/lora", "--out", "gguf"]);
    // Without the section it means nothing, and other tools' names are explained.
    run.fails_with(
        2,
        &[&train[..], &["--set", "lora.peft_use_dora=true"]].concat(),
        str![[r#"
error[config]: unknown key `peft_use_dora` in `[lora]`
  at --set lora.peft_use_dora

hint: `peft_use_dora` is axolotl's name for `lora.use_dora`

"#]],
    );
}

#[test]
fn an_adapter_trained_beside_int8_weights_says_so() {
    let run = Run::new().with_base();
    let int8 = ["--set", "model.weight_format=int8"];
    run.fails_with(
        2,
        &[&["plan", "tiny.toml"], &int8[..]].concat(),
        str![[r#"
error[out-of-memory]: `model.weight_format = "int8"` keeps weights that are frozen
  because without an adapter every weight is trained

hint: add a `[lora]` section, or leave the format out

"#]],
    );
    let plan = run.stderr_of(&[&["plan", "lora.toml"], &int8[..]].concat());
    assert!(plan.contains("linear layers of the base in int8"), "{plan}");
    let weights = |more: &[&str]| {
        let plan = run.succeeds(&[&["plan", "lora.toml", "--json"], more].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        plan["memory"]["weights"].as_u64().unwrap()
    };
    assert!(weights(&int8) < weights(&[]));
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &int8[..]].concat());
    let lineage: Value =
        serde_json::from_str(&run.read("checkpoints/lora/artifact/lineage.inputs.json")).unwrap();
    let found = &lineage["internalParameters"];
    assert_eq!(found["resolvedConfig"]["model.weight_format"], "int8");
    assert_eq!(found["device"]["frozen weights"], "int8");
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "2"];
    for (command, message) in [
        (
            &[&["generate", "checkpoints/lora"], &prompt[..]].concat()[..],
            str![[r#"
note: the adapter was trained beside weights in int8, and goes onto those of the base's files: what it adapted to in the rounding is of no use there (`eval`, `generate` and `merge` take the former with `--weight-format int8`)
prompt 13 tokens, [SPEED]; 2 tokens, [SPEED] on CPU, [DEVICE]; stopped at `--max-tokens`

"#]],
        ),
        (
            &["merge", "checkpoints/lora", "--out", "merged"],
            str![[r#"
measuring base, adapter and merged model on 337 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
note: the adapter was trained beside weights in int8, and goes onto those of the base's files: what it adapted to in the rounding is of no use there (`eval`, `generate` and `merge` take the former with `--weight-format int8`)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in BF16 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify merged

"#]],
        ),
    ] {
        says(run.stderr_of(command), message);
    }
    let card = run.read("merged/README.md");
    assert!(card.contains("| weights beside which the adapter was trained | `int8` |"), "{card}");
    assert!(card.contains("| validation loss of the adapter in training |"), "{card}");
    run.fails_with(
        2,
        &["plan", "lora.toml", "--set", "load_in_8bit=true"],
        str![[r#"
error[config]: unknown key `load_in_8bit` at the top level
  at --set load_in_8bit

hint: `load_in_8bit` is axolotl and TRL's name for `model.weight_format`

"#]],
    );
}

/// Its template refuses to write anything without what the run hands to it.
#[test]
fn the_template_arguments_of_a_run_reach_whoever_writes_prompts_with_its_model() {
    let run = Run::new().with_base();
    run.write(
        "tone.jinja",
        "{% if tone is not defined %}{{ raise_exception('there is no tone') }}{% endif %}\
         tone {{ tone }}.{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
         <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let set = [
        "--set",
        "data.chat_template=\"tone.jinja\"",
        "--set",
        "data.template_args={ tone = \"kind\" }",
        "--set",
        "eval.prompts=[\"What is 3 plus 4?\"]",
    ];
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &set[..]].concat());
    let asked = ["--chat", "--prompt", "What is 3 plus 4?", "--max-tokens", "2"];
    run.succeeds(&[&["generate", "checkpoints/lora"], &asked[..]].concat());
    says(
        run.stderr_of(&["merge", "checkpoints/lora", "--out", "merged"]),
        str![[r#"
measuring base, adapter and merged model on 397 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 32 of 32 positions; on the first 32 tokens of 1 of the run's prompts, 39 tokens
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in BF16 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify merged

"#]],
    );
    assert!(run.read("merged/README.md").contains("What is 3 plus 4?"));
}
