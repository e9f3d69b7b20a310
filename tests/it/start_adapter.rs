//! Training that starts from an adapter that is there (`model.adapter`).

use serde_json::Value;
use snapbox::str;

use crate::common::{Run, says, weights_digest};

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
    let stderr = run.fails(1, &second("name=other", &[]));
    assert!(stderr.contains("error[signature]"), "{stderr}");
}

#[test]
fn an_adapter_must_be_what_the_settings_say() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    let fails = |more: &[&str], expected: snapbox::Data| {
        run.fails_with(2, &second("name=second", more), expected);
    };
    let set = ["--set", "lora.r=8", "--set", "lora.use_rslora=true"];
    fails(&set, str![]);
    fails(&["--set", "lora.target_modules=[\"q_proj\"]"], str![]);
    fails(&["--set", "lora.use_dora=true"], str![]);
    fails(&["--set", "model.adapter=checkpoints/tiny"], str![]);
    fails(&["--set", "model.adapter=nowhere"], str![]);
    run.fails_with(2, &["train", "tiny.toml", "--quiet", "--set", FROM_FIRST], str![]);
    // What is of training alone may be another.
    run.succeeds(&second("name=second", &["--set", "lora.lora_dropout=0"]));
}

#[test]
fn the_adapter_of_another_base_is_refused() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=first"]);
    let base = run.path("checkpoints/tiny/model.safetensors");
    let mut bytes = std::fs::read(&base).unwrap();
    let end = bytes.len() - 2;
    bytes[end] ^= 1;
    std::fs::write(&base, bytes).unwrap();
    let stderr = run.fails(1, &second("name=second", &[]));
    says(stderr, str![]);
}
