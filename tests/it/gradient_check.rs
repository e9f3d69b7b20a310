//! Before its first step a run compares loss and gradients of its own model on its own data with
//! those of tensor operations, whatever its weights are kept in, and says so where it does not.

use serde_json::{Value, json};

use crate::common::Run;

/// What stands in the folder of a run that was trained with these settings.
fn found(run: &Run, name: &str, settings: &[&str]) -> Value {
    let name_set = format!("name={name}");
    let mut arguments = vec!["train", "lora.toml", "--quiet", "--set", &name_set];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let command = run.command(&arguments).env(firebrand::document::key::INTERNAL_KEYS, "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = run.read(&format!("checkpoints/{name}/gradient-check.json"));
    serde_json::from_str(&json).unwrap()
}

#[test]
fn bases_in_codes_and_on_disk_are_compared_as_others_are() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    let plain = found(&run, "plain", &[]);
    for (name, settings) in [
        ("int8", &["model.weight_format=int8"][..]),
        ("nf4", &["model.weight_format=nf4"]),
        ("nf4-mixed", &["model.weight_format=nf4", "train.precision=mixed-bf16"]),
        ("nf4-streamed", &["model.weight_format=nf4", "train.memory=streamed"]),
        ("streamed", &["train.memory=streamed"]),
        ("streamed-tables", &["train.memory=streamed-tables"]),
        ("blocks", &["model.base=out/out-Q8_0.gguf"]),
        ("blocks-streamed", &["model.base=out/out-Q8_0.gguf", "train.memory=streamed"]),
    ] {
        let found = found(&run, name, settings);
        for key in ["tokens", "tensors"] {
            assert_eq!(found[key], plain[key], "{name}: {found}");
        }
        let [difference, tolerance] = ["difference", "tolerance"].map(|key| found[key].as_f64());
        assert!(difference.unwrap() <= tolerance.unwrap(), "{name}: {found}");
        assert!(found["left_out"].is_null(), "{name}: {found}");
        assert!(found["seconds"].as_f64().unwrap() < 5.0, "{name}: {found}");
    }
    // More than sixty-four tokens, since the model is small.
    assert!(plain["tokens"].as_u64().unwrap() > 64, "{plain}");
}

#[test]
fn why_nothing_was_compared_stands_in_the_record() {
    let run = Run::new().with_base();
    let told = found(&run, "portable", &["device.kernels=portable"]);
    assert_eq!(told, json!({"left_out": "the run is computed by tensor operations itself"}));
}
