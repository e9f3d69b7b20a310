//! An adapter that is trained on top of others (`model.base_adapters`).

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::common::adapters::{goes_on_to_the_same_bytes, likeliest};
use crate::common::{Run, weights_digest};

const FIRST: &str = "model.base_adapters=[\"checkpoints/first/artifact\"]";
const BOTH: &str =
    "model.base_adapters=[\"checkpoints/first/artifact\", \"checkpoints/second/artifact\"]";

fn json(run: &Run, path: &str) -> Value {
    serde_json::from_str(&run.read(path)).unwrap()
}

fn with_first() -> Run {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    run
}

fn on<'a>(below: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let start = ["train", "lora.toml", "--quiet", "--set", below, "--set", name];
    [&start[..], more].concat()
}

fn digest(run: &Run, name: &str) -> String {
    weights_digest(&run.path(&format!("checkpoints/{name}/artifact")))
}

fn merge(run: &Run, name: &str, out: &str) {
    run.succeeds(&["merge", &format!("checkpoints/{name}"), "--out", out, "--no-check"]);
}

#[test]
fn training_on_adapters_is_training_on_the_merged_model() {
    let run = with_first();
    run.succeeds(&on(FIRST, "name=second", &[]));
    merge(&run, "first", "merged");
    run.succeeds(&on("model.base=merged", "name=beside", &[]));
    assert_eq!(digest(&run, "second"), digest(&run, "beside"));
    assert_ne!(digest(&run, "second"), digest(&run, "first"));
    let answers = ["second", "beside"].map(|name| likeliest(&run, &format!("checkpoints/{name}")));
    assert_eq!(answers[0], answers[1]);

    // A third one, on both; merging the second gives what that one begins with.
    run.succeeds(&on(BOTH, "name=third", &[]));
    merge(&run, "second", "merged-twice");
    run.succeeds(&on("model.base=merged-twice", "name=beside-third", &[]));
    assert_eq!(digest(&run, "third"), digest(&run, "beside-third"));

    // Merged before they are quantised.
    let coded = ["--set", "model.weight_format=nf4"];
    run.succeeds(&on(FIRST, "name=coded", &coded));
    run.succeeds(&on("model.base=merged", "name=beside-coded", &coded));
    assert_eq!(digest(&run, "coded"), digest(&run, "beside-coded"));
}

#[test]
fn a_run_on_adapters_goes_on_to_the_same_bytes_however_often_it_stops() {
    let run = with_first();
    let train = |name, more: &[&'static str]| on(FIRST, name, more);
    goes_on_to_the_same_bytes(&run, ["name=straight", "name=often"], train);
    // Nor does it go on when one of them is another.
    run.succeeds(&on(FIRST, "name=other", &["--stop-after-steps", "1"]));
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=new", "--set", "seed=7"]);
    fs::remove_dir_all(run.path("checkpoints/first/artifact")).unwrap();
    fs::rename(run.path("checkpoints/new/artifact"), run.path("checkpoints/first/artifact"))
        .unwrap();
    run.fails(1, &on(FIRST, "name=other", &[]));
}

#[test]
fn the_lineage_has_them_and_whoever_loads_the_artifact_finds_them() {
    let run = with_first();
    run.succeeds(&on(FIRST, "name=second", &[]));
    run.succeeds(&on(BOTH, "name=third", &[]));
    let inputs = json(&run, "checkpoints/third/artifact/lineage.inputs.json");
    let named = inputs["externalParameters"]["baseAdapters"].as_array().unwrap();
    let names: Vec<&str> = named.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["checkpoints/first/artifact", "checkpoints/second/artifact"]);
    let all = inputs["resolvedDependencies"].as_array().unwrap();
    let of = |role: &str| -> Vec<&Value> {
        all.iter().filter(|it| it["annotations"]["role"] == role).collect()
    };
    let sha256 =
        |path: &str| firebrand::files::hash_file(&run.path(path), "").unwrap().sha256.to_string();
    let has = |role: &str, name: &str, path: &str| {
        let entry = of(role).into_iter().find(|it| it["name"] == name).unwrap();
        assert_eq!(entry["digest"]["sha256"].as_str().unwrap(), sha256(path), "{name}");
    };
    for (number, name) in [(1, "first"), (2, "second")] {
        let place = format!("checkpoints/{name}/artifact");
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let entry = format!("base-adapters/{number}/{file}");
            has("base-adapter", &entry, &format!("{place}/{file}"));
        }
    }
    // The base is that which all of them have.
    has("base-model", "model.safetensors", "checkpoints/tiny/artifact/model.safetensors");
    let config = json(&run, "checkpoints/third/artifact/adapter_config.json");
    assert_eq!(config["base_model_name_or_path"], "checkpoints/tiny/artifact");
    let card = run.read("checkpoints/third/artifact/README.md");
    let merged = ["first", "second"].map(|name| {
        let place = format!("checkpoints/{name}/artifact");
        format!("model = PeftModel.from_pretrained(model, \"{place}\").merge_and_unload()\n")
    });
    assert!(card.contains(&merged.concat()), "{card}");

    run.succeeds(&["verify", "--effect", "checkpoints/third"]);
    let made = run.succeeds(&["reproduce", "checkpoints/third", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["outcome"], "same-bytes", "{made:#}");

    // A merged model says what it does; its base is not one that anybody has.
    run.succeeds(&["merge", "checkpoints/third", "--out", "whole"]);
    run.succeeds(&["verify", "--effect", "whole", "--base", "checkpoints/tiny"]);

    // They are found beside it by their names, wherever one stands.
    let answer = likeliest(&run, "checkpoints/third");
    fs::remove_dir_all(run.path("cache/stacks")).unwrap();
    assert_eq!(likeliest(&run, "checkpoints/third"), answer);

    fs::rename(run.path("checkpoints/first"), run.path("moved")).unwrap();
    run.fails_with(2, &["generate", "checkpoints/third", "--prompt", "What?"], str![[r#"
error[adapter]: there is no adapter `checkpoints/first/artifact`

hint: `checkpoints/third/artifact` was trained on the adapter `checkpoints/first/artifact`, which must be there as well: put it where it lay, or beside it by this name

"#]]);
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first", "--set", "seed=7"]);
    run.fails_with(
        1,
        &["generate", "checkpoints/third", "--prompt", "What?"],
        str![[r#"
error[adapter]: the adapter was trained on other adapters than those below it
  at checkpoints/second/artifact
  because by its lineage it stands on `checkpoints/first/artifact`
  because `checkpoints/second/artifact` is number 2 of the adapters below

hint: name these before it, in this order

"#]],
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let run = with_first();
    run.succeeds(&on(FIRST, "name=second", &[]));
    let refused = |code, (setting, more): (&str, &[&str]), said: snapbox::data::Inline| {
        run.fails_with(code, &on(setting, "name=new", more), said);
    };
    // It stands on the first one.
    let alone = "model.base_adapters=[\"checkpoints/second/artifact\"]";
    refused(
        1,
        (alone, &[]),
        str![[r#"
error[adapter]: the adapter was trained on other adapters than those below it
  at checkpoints/second/artifact
  because by its lineage it stands on `checkpoints/first/artifact`
  because `checkpoints/second/artifact` is number 1 of the adapters below

hint: name these before it, in this order

"#]],
    );
    // Of another base.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=2"]);
    let other = ["--set", "model.base=checkpoints/other"];
    refused(
        1,
        (FIRST, &other),
        str![[r#"
error[adapter]: `model.safetensors` is not the base model that the adapter was trained on
  at checkpoints/first/artifact
  because it was trained on a file of other bytes
  because `checkpoints/first/artifact` is number 1 of the adapters below

"#]],
    );
    // A whole model, and one that is not there.
    let whole = "model.base_adapters=[\"checkpoints/tiny\"]";
    refused(
        2,
        (whole, &[]),
        str![[r#"
error[adapter]: `checkpoints/tiny/artifact` is a whole model, not an adapter
  at checkpoints/tiny/artifact
  because `checkpoints/tiny/artifact` is number 1 of the adapters below

"#]],
    );
    let missing = "model.base_adapters=[\"nowhere\"]";
    refused(
        2,
        (missing, &[]),
        str![[r#"
error[model]: there is no model `nowhere`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub

"#]],
    );
    // Of a kind that is not supported, and with a rank that its tensors do not have.
    let copy = |name: &str, key: &str, value: Value| {
        fs::create_dir(run.path(name)).unwrap();
        let mut config = json(&run, "checkpoints/first/artifact/adapter_config.json");
        config[key] = value;
        run.write(&format!("{name}/adapter_config.json"), &config.to_string());
        let weights = "adapter_model.safetensors";
        let from = run.path("checkpoints/first/artifact").join(weights);
        fs::copy(from, run.path(name).join(weights)).unwrap();
    };
    copy("prompts", "peft_type", "PROMPT_TUNING".into());
    copy("ranked", "r", 2.into());
    let prompts = "model.base_adapters=[\"prompts\"]";
    refused(
        2,
        (prompts, &[]),
        str![[r#"
error[adapter]: adapters of the type `PROMPT_TUNING` are not supported
  at prompts/adapter_config.json
  because `prompts` is number 1 of the adapters below

hint: supported are LoRA, DoRA

"#]],
    );
    let ranked = "model.base_adapters=[\"ranked\"]";
    run.fails_with(2, &on(ranked, "name=new", &[]), str![[r#"
error[adapter]: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` has shape [4, 64], but [2, 64] is expected
  at ranked/adapter_model.safetensors
  because the base and the adapter's settings (LoRA r 2 on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj) make it so
  because `ranked` is number 1 of the adapters below

"#]]);
    // Without an adapter to train.
    let full = ["train", "tiny.toml", "--quiet", "--set", "name=new", "--set", FIRST, "--set"];
    let full = [&full[..], &["model.base=checkpoints/tiny", "--set", "model.init=pretrained"]];
    run.fails_with(
        2,
        &full.concat(),
        str![[r#"
error[config]: `model.base_adapters` requires adapters to be trained
  because without them all parameters are trained, those that adapters change too

hint: add a `[lora]` section; `firebrand merge` makes a base of adapters

"#]],
    );
    // Nothing was written for any of them.
    assert!(!run.path("checkpoints/new/config.toml").exists());
    assert!(!run.path("cache/stacks").exists() || only_the_first(&run));
}

/// Only what the second one was trained on is in the cache.
fn only_the_first(run: &Run) -> bool {
    fs::read_dir(run.path("cache/stacks")).unwrap().count() == 1
}

#[test]
fn an_adapter_goes_on_only_on_what_it_stands_on() {
    let run = with_first();
    run.succeeds(&on(FIRST, "name=second", &[]));
    let start = ["--set", "model.adapter=checkpoints/second/artifact"];
    run.succeeds(&on(FIRST, "name=further", &start));
    run.fails_with(
        1,
        &on("seed=1", "name=new", &start),
        str![[r#"
error[adapter]: `model.adapter` was trained on other adapters than `model.base_adapters`
  at checkpoints/second/artifact
  because by its lineage it stands on `checkpoints/first/artifact`

hint: name what it stands on, in this order

"#]],
    );
}

#[test]
fn a_composition_states_what_an_adapter_stands_on_before_it() {
    let run = with_first();
    run.succeeds(&on(FIRST, "name=second", &[]));
    let compose = |adapters: &[&'static str]| {
        let mut all = vec!["compose", "c.json", "--base", "checkpoints/tiny"];
        all.extend(adapters.iter().flat_map(|name| ["--adapter", name]));
        all
    };
    let [first, second] = ["checkpoints/first", "checkpoints/second"];
    run.fails_with(1, &compose(&[second]), str![[r#"
error[adapter]: these parts cannot be composed
  because adapters/1, base: it was trained on `checkpoints/first/artifact`, which is not what stands before it

"#]]);
    run.fails_with(1, &compose(&[second, first]), str![[r#"
error[adapter]: these parts cannot be composed
  because adapters/1, base: it was trained on `checkpoints/first/artifact`, which is not what stands before it

"#]]);
    run.succeeds(&compose(&[first, second]));
    run.succeeds(&["merge", "--composition", "c.json", "--out", "composed"]);
}

/// Where an adapter lay is no part of the artifact; what stands beside it says so.
#[test]
fn an_adapter_that_is_named_by_its_place_is_found_there() {
    let run = with_first();
    let place = run.path("checkpoints/first/artifact").display().to_string();
    let below = format!("model.base_adapters=[\"{place}\"]");
    run.succeeds(&on(&below, "name=placed", &[]));
    let text = run.read("checkpoints/placed/artifact/lineage.inputs.json");
    assert!(!text.contains(&place), "{text}");
    let inputs: Value = serde_json::from_str(&text).unwrap();
    let settings = &inputs["internalParameters"]["resolvedConfig"];
    assert_eq!(settings["model.base_adapters"], "[\"first/artifact\"]");
    assert_eq!(inputs["externalParameters"]["baseAdapters"][0]["id"], "first/artifact");
    likeliest(&run, "checkpoints/placed");
    let made = run.succeeds(&["reproduce", "checkpoints/placed", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["outcome"], "same-bytes", "{made:#}");
}
