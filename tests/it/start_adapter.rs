//! Training that starts from an adapter that is there (`model.adapter`).

use serde_json::Value;
use snapbox::str;

use crate::common::{Run, weights_digest};

fn json(run: &Run, path: &str) -> Value {
    serde_json::from_str(&run.read(path)).unwrap()
}

/// Validation losses of a run by step, as its last checkpoint has them.
fn evaluations(run: &Run, name: &str, step: u64) -> Vec<(u64, f64)> {
    let state = json(run, &format!("checkpoints/{name}/step-{step:08}/state.json"));
    let all = state["evaluations"].as_array().unwrap().iter();
    all.map(|it| (it["step"].as_u64().unwrap(), it["eval_loss"].as_f64().unwrap())).collect()
}

const FROM_FIRST: &str = "model.adapter=checkpoints/first/artifact";

fn second<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let start = ["train", "lora.toml", "--quiet", "--set", name, "--set", FROM_FIRST];
    [&start[..], more].concat()
}

#[test]
fn training_goes_on_from_an_adapter_to_the_same_bytes_however_often_it_stops() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    run.succeeds(&second("name=straight", &[]));
    let (first, straight) = (evaluations(&run, "first", 5), evaluations(&run, "straight", 5));
    let (end, start) = (first.last().unwrap(), straight.first().unwrap());
    assert_eq!((end.0, start.0), (5, 0));
    assert_eq!(end.1.to_bits(), start.1.to_bits(), "it begins where the other one ended");
    assert!(straight.last().unwrap().1 < start.1, "{straight:?}");

    for steps in ["0", "1", "2"] {
        run.succeeds(&second("name=often", &["--stop-after-steps", steps]));
    }
    run.succeeds(&second("name=often", &[]));
    let digest = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(digest("often"), digest("straight"));
    assert_ne!(digest("first"), digest("straight"));

    // The lineage has the adapter's bytes, and the statement of its own lineage.
    let inputs = json(&run, "checkpoints/straight/artifact/lineage.inputs.json");
    assert_eq!(inputs["externalParameters"]["startAdapter"]["id"], "checkpoints/first/artifact");
    let all = inputs["resolvedDependencies"].as_array().unwrap();
    let of = |role: &str| -> Vec<&Value> {
        all.iter().filter(|it| it["annotations"]["role"] == role).collect()
    };
    let files = of("start-adapter");
    let names: Vec<&str> = files.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    let sha256 =
        |path: &str| firebrand::files::hash_file(&run.path(path), "").unwrap().sha256.to_string();
    for (file, name) in files.iter().zip(names) {
        assert_eq!(
            file["digest"]["sha256"].as_str().unwrap(),
            sha256(&format!("checkpoints/first/artifact/{name}"))
        );
    }
    let statement = sha256("checkpoints/first/artifact/lineage.statement.json");
    assert_eq!(of("adapter-lineage")[0]["digest"]["sha256"].as_str().unwrap(), statement);

    // Nor does it go on from another adapter's values.
    run.succeeds(&second("name=other", &["--stop-after-steps", "1"]));
    let weights = run.path("checkpoints/first/artifact/adapter_model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    run.fails(1, &second("name=other", &[]));
}

#[test]
fn an_adapter_must_be_what_the_settings_say() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    let fails = |more: &[&str], expected: snapbox::data::Inline| {
        run.fails_with(2, &second("name=second", more), expected);
    };
    let set = ["--set", "lora.r=8", "--set", "lora.use_rslora=true"];
    fails(
        &set,
        str![[r#"
error[adapter]: `r` is 4 in the adapter, and 8 in the run
  at checkpoints/first/artifact/adapter_config.json

hint: both must be the same: write it as the adapter has it

error[adapter]: `use_rslora` is false in the adapter, and true in the run

hint: both must be the same: write it as the adapter has it

"#]],
    );
    fails(
        &["--set", "lora.target_modules=[\"q_proj\"]"],
        str![[r#"
error[adapter]: the adapter stands beside other layers than the run asks for
  at checkpoints/first/artifact/adapter_config.json
  because the adapter stands beside `model.layers.0.mlp.down_proj`, and the run's does not

hint: the adapter is: LoRA r 4 on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; write these settings

"#]],
    );
    fails(
        &["--set", "lora.use_dora=true"],
        str![[r#"
error[adapter]: the adapter is LoRA, and the run trains DoRA
  at checkpoints/first/artifact/adapter_config.json

hint: ask for it with a `[lora]` section

"#]],
    );
    fails(
        &["--set", "model.adapter=checkpoints/tiny"],
        str![[r#"
error[config]: `checkpoints/tiny` is a whole model, not an adapter
  at checkpoints/tiny/artifact

hint: name it in `model.base`

"#]],
    );
    fails(
        &["--set", "model.adapter=nowhere"],
        str![[r#"
error[model]: there is no model `nowhere`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub

"#]],
    );
    let whole = ["train", "tiny.toml", "--quiet", "--set", "name=whole", "--set", FROM_FIRST];
    run.fails_with(
        2,
        &whole,
        str![[r#"
error[config]: `model.adapter` requires adapters to be trained
  because without them all parameters of the base are trained

hint: add a `[lora]` section; `firebrand merge` makes a base of an adapter

"#]],
    );
    // What is of training alone may be another.
    run.succeeds(&second("name=second", &["--set", "lora.lora_dropout=0"]));
}

#[test]
fn the_adapter_of_another_base_is_refused() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=2"]);
    let other = ["--set", "model.base=checkpoints/other"];
    run.fails_with(
        1,
        &second("name=second", &other),
        str![[r#"
error[adapter]: `model.safetensors` is not the base model that the adapter was trained on
  at checkpoints/first/artifact
  because `model.adapter` was trained on a file of other bytes

"#]],
    );
}
