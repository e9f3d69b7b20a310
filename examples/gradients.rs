//! Writes loss and LoRA gradients of the first micro-batch, so that another program can compare.
//!
//! `cargo run --release --example gradients -- ADAPTER BATCHES.jsonl OUT.safetensors [BASE]`

use std::collections::BTreeMap;
use std::path::Path;

use firebrand::adapters::file_name_of;
use firebrand::artifact::open::{BaseChoice, open};
use firebrand::checkpoint::learning_specs;
use firebrand::config::Recompute;
use firebrand::data::{Batch, Target};
use firebrand::engine::{Pass, forward_backward};
use firebrand::error::{Context, Error, Result};
use firebrand::hub::Policy;
use firebrand::model::Gradients;
use firebrand::objectives;
use firebrand::ops::host;
use firebrand::train::Access;
use firebrand::weights::{Element, TensorSpec, write_safetensors};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [adapter, batches, out, base @ ..] = arguments.as_slice() else {
        return Err(Error::usage("usage: gradients ADAPTER BATCHES.jsonl OUT.safetensors [BASE]"));
    };
    let device = firebrand::device::open(firebrand::config::DeviceChoice::Cpu, 0)?.device;
    let supply = Access::default().supply(Policy::default())?;
    let base = BaseChoice { instead: base.first().map(String::as_str), ..BaseChoice::default() };
    let mut opened = open(adapter, base, &device, &supply)?;
    let text = std::fs::read_to_string(batches).context_at("cannot read the batches", batches)?;
    let line = text.lines().next().ok_or_else(|| Error::data("there is no batch"))?;
    let json: serde_json::Value = serde_json::from_str(line).context("not a batch")?;
    let list = |key: &str| -> Vec<u32> {
        serde_json::from_value(json[key].clone()).expect("a list of numbers")
    };
    let targets: Vec<[u32; 2]> =
        serde_json::from_value(json["targets"].clone()).expect("pairs of numbers");
    let batch = Batch {
        rows: json["rows"].as_u64().expect("a size") as usize,
        length: json["length"].as_u64().expect("a size") as usize,
        tokens: list("tokens"),
        positions: list("positions"),
        documents: list("documents"),
        targets: targets.iter().map(|&[index, token]| Target { index, token }).collect(),
        ..Batch::default()
    };
    let count = batch.targets.len() as f64;
    let pass = Pass {
        scale: 1.0 / count,
        recompute: Recompute::None,
        loss_chunk_tokens: 512,
        dropout: None,
        noise: None,
    };
    let mut sums = Gradients::default();
    let (loss, _) =
        forward_backward(&opened.model, &*objectives::by_default(), &batch, pass, &mut sums);

    let (mut specs, _) = learning_specs(&mut opened.model, file_name_of, |_| Element::F32);
    let mut values = BTreeMap::from([("loss".to_owned(), vec![(loss.number() / count) as f32])]);
    for (path, gradient) in sums.into_sums() {
        values.insert(format!("grad.{}", file_name_of(&path)), host(gradient));
    }
    specs.iter_mut().for_each(|spec| spec.name = format!("grad.{}", spec.name));
    specs.push(TensorSpec { name: "loss".to_owned(), element: Element::F32, shape: vec![1] });
    let take = |spec: &TensorSpec| Ok(values[&spec.name].clone());
    write_safetensors(Path::new(out), specs, &BTreeMap::new(), take)?;
    println!("{out}");
    Ok(())
}
