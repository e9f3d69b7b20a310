//! On a software adapter, whose allocator is that of every GPU, steps take what was planned.

use serde_json::{Value, json};

use super::{checkpoint, config};
use crate::common::say_not_tested;

/// Parts of what is planned that a GPU holds.
const ON_DEVICE: [&str; 5] = ["weights", "optimizer", "activations", "attention", "logits"];

#[test]
fn a_gpu_takes_the_memory_that_was_planned() {
    let software = firebrand::config::DeviceChoice::Software;
    if firebrand::device::open(software, 0).is_err() {
        return say_not_tested("memory of a GPU: there is no software adapter");
    }
    let run = checkpoint(&config(json!({ "model_type": "llama", "num_hidden_layers": 4 })));
    for (name, settings) in
        [("kept", &["train.recompute=none"][..]), ("again", &["train.recompute=layers"])]
    {
        let name_set = format!("name={name}");
        let all = ["device.name=software", "train.precision=f32"];
        let all = [&name_set[..], "train.max_steps=1"].into_iter().chain(all);
        let set: Vec<_> =
            all.chain(settings.iter().copied()).flat_map(|text| ["--set", text]).collect();
        let plan = run.succeeds(&[&["plan", "run.toml", "--json"], &set[..]].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let part = |name: &&str| plan["memory"][*name].as_u64().unwrap();
        let planned = ON_DEVICE.iter().map(part).sum::<u64>();
        run.succeeds(&[&["train", "run.toml", "--quiet"], &set[..]].concat());
        let timings = super::json_of(&run.path(&format!("checkpoints/{name}/timings.jsonl")));
        let taken = timings["device_bytes_reserved"].as_u64().unwrap();
        let ratio = planned as f64 / taken as f64;
        assert!((0.87..=1.15).contains(&ratio), "{name}: {planned} planned, {taken} taken");
    }
}
