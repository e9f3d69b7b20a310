//! Decision models of transformers, made of classifiers: what the folder holds.
//! `tests/reference/jev.py` has transformers answer questions with one.

use super::*;
use firebrand::weights::INDEX_FILE;

const CLASSIFY: [&str; 5] = [
    "train.objective=classification",
    "data.train.0.path=labelled.jsonl",
    "data.validation.0.path=held.jsonl",
    "eval.prompts=[]",
    "classification.calibrate=true",
];

/// A tiny base, and texts about sums: whether one is large, in these words.
fn sums(yes: &str, no: &str) -> Run {
    let run = Run::new().with_base();
    let line = |number: usize, of: &str| {
        let (a, b) = (number % 7, (number * 3) % 5);
        let label = if a + b > 5 { yes } else { no };
        format!("{}\n", json!({ "text": format!("{a} {of} {b} is what?"), "label": label }))
    };
    run.write("labelled.jsonl", &(0..40).map(|it| line(it, "plus")).collect::<String>());
    run.write("held.jsonl", &(0..40).map(|it| line(it, "and")).collect::<String>());
    run
}

fn train<'a>(config: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = CLASSIFY.iter().chain(more).chain([&name]).flat_map(|set| ["--set", *set]);
    ["train", config, "--quiet"].into_iter().chain(all).collect()
}

fn object(run: &Run, path: &str) -> Value {
    serde_json::from_str(&run.read(path)).unwrap()
}

/// The weights of a classifier under the names that they have in a decision model.
fn renamed(classifier: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = weights(classifier);
    all.remove("lm_head.weight");
    let head = all.remove("score.weight").unwrap();
    let labels = head.0[0];
    all.insert("proj.weight".to_owned(), head);
    all.insert("proj.bias".to_owned(), (vec![labels], vec![0.0; labels]));
    all
}

#[test]
fn a_classifier_becomes_a_decision_model_of_transformers() {
    let run = sums("large", "small");
    run.succeeds(&train("lora.toml", "name=sums", &[]));
    let adapter = "checkpoints/sums/artifact";
    let call = ["export", "checkpoints/sums", "--format", "jev", "--type", "f32", "--out", "out"];
    let output = run.command(&call).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out/decision.json\n");
    says(
        String::from_utf8_lossy(&output.stderr),
        str![[r#"
note: it answers questions of the type `choice`, whose options are the labels in the order of `labels.choice` in `decision.json`
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify out

"#]],
    );

    // The model is that of a merge.
    run.succeeds(&["merge", adapter, "--out", "merged", "--dtype", "f32", "--no-check"]);
    assert!(weights(&run.path("out")) == renamed(&run.path("merged")), "other weights");
    let config = object(&run, "out/config.json");
    let mut base = object(&run, "checkpoints/tiny/artifact/config.json");
    base["dtype"] = json!("float32");
    assert_eq!(
        config,
        json!({
            "architectures": ["JevForDecision"], "model_type": "jev", "dtype": "float32",
            "hidden_size": 32, "num_verbalizers": 2, "softcap": null,
            "offsets": {"noul": 0, "score": 0, "choice": 0}, "text_config": base,
        })
    );
    let head = object(&run, "out/score_head.json");
    assert_eq!(head, object(&run, &format!("{adapter}/score_head.json")));
    assert_eq!(
        object(&run, "out/decision.json"),
        json!({
            "labels": {"choice": ["large", "small"]}, "temperature": {"choice": head["temperature"]},
            "noul_options": ["true", "false"], "sanitize_control_tokens": false,
        })
    );
    says(
        run.read("out/decision_template.jinja"),
        str![[r#"
{%- set decision_labels = ["large", "small"] -%}
{%- if question.type not in ["choice"] -%}
{{- raise_exception("the model answers questions of the type `choice` alone") -}}
{%- elif question.type == "choice" and question.options != decision_labels -%}
{{- raise_exception("the options must be all labels in their order: " ~ decision_labels|tojson) -}}
{%- endif -%}
{%- if state is string -%}
{{- state -}}
{%- elif state is sequence and state is not mapping -%}
{%- set messages = state %}{%- set add_generation_prompt = false %}
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- if tools %}
    {{- '<|im_start|>tools\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\n' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if message.content %}
            {{- message.content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '\n<tool_call>' + call.function | tojson + '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}{{ "" -}}
{%- else -%}
{{- raise_exception("the state must be a text or a list of messages") -}}
{%- endif -%}
{{- "<|mark|>" -}}

"#]],
    );
    assert_eq!(object(&run, "out/tokenizer_config.json")["tokenizer_class"], "TokenizersBackend");
    assert_eq!(run.read("out/tokenizer.json"), run.read(&format!("{adapter}/tokenizer.json")));

    // It is signed, and tells what it is made of.
    run.succeeds(&["verify", "out"]);
    run.succeeds(&["scan", "out"]);
    let inputs = run.read("out/lineage.inputs.json");
    for part in ["\"export.format\"", "\"jev\"", "score_head.json", "adapter_model.safetensors"] {
        assert!(inputs.contains(part), "{part}: {inputs}");
    }
    let card = run.read("out/README.md");
    for part in ["pipeline(\"decision\", model=\".\")", "pipeline_tag: text-classification"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // In the numbers of the base, its head is as exact as before.
    run.succeeds(&["export", adapter, "--format", "jev", "--out", "kept"]);
    run.succeeds(&["merge", adapter, "--out", "rounded", "--no-check"]);
    assert!(weights(&run.path("kept")) == renamed(&run.path("rounded")), "other weights");
    assert_eq!(object(&run, "kept/config.json")["dtype"], "bfloat16");
}

#[test]
fn a_whole_classifier_of_no_and_yes_answers_questions() {
    let run = sums("yes", "no");
    let args = "data.template_args={ state = \"x y\" }";
    run.succeeds(&train("tiny.toml", "name=sums", &[args]));
    run.succeeds(&["export", "checkpoints/sums", "--format", "jev", "--out", "out"]);
    let whole = run.path("checkpoints/sums/artifact");
    assert!(weights(&run.path("out")) == renamed(&whole), "other weights");
    let temperature = &object(&run, "checkpoints/sums/artifact/score_head.json")["temperature"];
    assert_eq!(
        object(&run, "out/decision.json"),
        json!({
            "labels": {"choice": ["no", "yes"], "noul": ["no", "yes"]},
            "temperature": {"choice": temperature, "noul": temperature},
            "noul_options": ["false", "true"], "sanitize_control_tokens": false,
        })
    );
    let template = run.read("out/decision_template.jinja");
    assert!(template.contains("question.type not in [\"choice\", \"noul\"]"), "{template}");
    // What its run handed to the chat template is a part of it, and of what it is made of.
    assert!(template.contains("{%- set state = \"x y\" %}"), "{template}");
    let inputs = run.read("out/lineage.inputs.json");
    assert!(inputs.contains("\"export.template_args\""), "{inputs}");
    run.succeeds(&["verify", "out"]);
    run.succeeds(&["scan", "out"]);
}

#[test]
fn a_classifier_in_several_files_keeps_them() {
    let run = Run::new();
    foreign(&run, "bf16-sharded", "sharded");
    let line = |number: usize| {
        let (a, b) = (number % 7, (number * 3) % 5);
        let label = if a + b > 5 { "large" } else { "small" };
        format!("{}\n", json!({ "text": format!("{a}+{b}=?"), "label": label }))
    };
    run.write("labelled.jsonl", &(0..40).map(line).collect::<String>());
    run.write("held.jsonl", &(0..8).map(line).collect::<String>());
    run.succeeds(&train("lora.toml", "name=sums", &["model.base=sharded"]));
    let adapter = "checkpoints/sums/artifact";
    for kind in ["base", "f32"] {
        let (out, merged) = (format!("jev-{kind}"), format!("merged-{kind}"));
        let call = ["export", adapter, "--format", "jev", "--type", kind, "--out", &out];
        run.succeeds(&call);
        run.succeeds(&["merge", adapter, "--dtype", kind, "--out", &merged, "--no-check"]);
        assert!(weights(&run.path(&out)) == renamed(&run.path(&merged)), "{kind}: other weights");
        let index = object(&run, &format!("{out}/{INDEX_FILE}"));
        let (mut named, mut bytes) = (BTreeMap::new(), 0);
        for entry in fs::read_dir(run.path(&out)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if file.ends_with(".safetensors") {
                for (name, tensor) in read_tensors(&run.path(&out), &file).unwrap().0 {
                    bytes += tensor.bytes.len();
                    named.insert(name, file.clone());
                }
            }
        }
        assert_eq!(index["weight_map"], json!(named), "{kind}");
        assert_eq!(index["metadata"]["total_size"], json!(bytes), "{kind}");
    }
}

#[test]
fn what_gives_a_text_no_single_label_is_no_decision_model() {
    let run = sums("large", "small");
    let several = |number: usize| {
        let labels = if number.is_multiple_of(2) { json!(["even"]) } else { json!(["odd"]) };
        format!("{}\n", json!({ "text": format!("{number} is what?"), "label": labels }))
    };
    run.write("several.jsonl", &(0..20).map(several).collect::<String>());
    let pairs = repository("datasets/preference.jsonl");
    run.write("pairs.jsonl", &fs::read_to_string(pairs).unwrap());
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let common = ["data.validation=[]", "eval.prompts=[]", "data.max_seq_len=256"];
    let of = |more: &[&'static str]| -> Vec<&str> {
        let sets = common.iter().chain(more).flat_map(|set| ["--set", *set]);
        ["train", "lora.toml", "--quiet"].into_iter().chain(sets).collect()
    };
    run.succeeds(&of(&[
        "name=several",
        "train.objective=classification",
        "classification.problem_type=multi_label_classification",
        "data.train.0.path=several.jsonl",
    ]));
    run.succeeds(&of(&["name=reward", "train.objective=reward", "data.train.0.path=pairs.jsonl"]));
    let export = |model: &'static str| ["export", model, "--format", "jev", "--out", "out"];
    run.fails_with(
        2,
        &export("checkpoints/lora/artifact"),
        str![[r#"
error[export]: the format `jev` is for models that give a text one of several labels
  at checkpoints/lora/artifact
  because this one scores tokens

hint: `train.objective = "classification"` trains one

"#]],
    );
    run.fails_with(
        2,
        &export("checkpoints/several/artifact"),
        str![[r#"
error[export]: the format `jev` is for models that give a text one of several labels
  at checkpoints/several/artifact
  because this one scores labels of the kind `multi_label_classification`

hint: `train.objective = "classification"` trains one

"#]],
    );
    run.fails_with(
        2,
        &export("checkpoints/reward/artifact"),
        str![[r#"
error[export]: the format `jev` is for models that give a text one of several labels
  at checkpoints/reward/artifact
  because this one scores rewards

hint: `train.objective = "classification"` trains one

"#]],
    );
    let wrong = ["export", "checkpoints/lora", "--format", "jev", "--type", "q8_0", "--out", "out"];
    run.fails_with(
        2,
        &wrong,
        str![[r#"
error[export]: the format `jev` has no type `q8_0`

hint: supported: `base`, `f32`, `bf16`, `f16`

"#]],
    );
    assert!(!run.path("out").exists());
}
