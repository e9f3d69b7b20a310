//! Writes the logits of packed batches, so that another program can compare its own.
//!
//! `cargo run --release --example logits -- MODEL BATCHES.jsonl OUT.safetensors [BASE]`, where each
//! line of BATCHES is a micro-batch as `firebrand data --json` prints it.

use std::collections::BTreeMap;
use std::path::Path;

use firebrand::artifact::open::{BaseChoice, open};
use firebrand::error::{Context, Error, Result};
use firebrand::hub::Policy;
use firebrand::model::PassContext;
use firebrand::ops::{host, indices};
use firebrand::train::Access;
use firebrand::weights::{Element, TensorSpec, write_safetensors};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, batches, out, base @ ..] = arguments.as_slice() else {
        return Err(Error::usage("usage: logits MODEL BATCHES.jsonl OUT.safetensors [BASE]"));
    };
    let device = firebrand::device::open(firebrand::config::DeviceChoice::Cpu, 0)?.device;
    let supply = Access::default().supply(Policy::default())?;
    let base = BaseChoice { instead: base.first().map(String::as_str), ..BaseChoice::default() };
    let opened = open(model, base, &device, &supply)?;
    let text = std::fs::read_to_string(batches).context_at("cannot read the batches", batches)?;
    let mut specs = Vec::new();
    let mut logits = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let batch: serde_json::Value = serde_json::from_str(line).context("not a batch")?;
        let list = |key: &str| -> Vec<u32> {
            serde_json::from_value(batch[key].clone()).expect("a list of numbers")
        };
        let size = |key: &str| batch[key].as_u64().expect("a size") as usize;
        let (rows, length) = (size("rows"), size("length"));
        let context = PassContext::packed(
            rows,
            length,
            &list("positions"),
            &list("documents"),
            &opened.model.frequencies,
            &device,
        );
        let x = opened.model.hidden(indices(list("tokens").into_iter(), &device), &context);
        let name = format!("logits.{number}");
        let shape = vec![rows, length, opened.model.description.vocabulary];
        specs.push(TensorSpec { name: name.clone(), element: Element::F32, shape });
        logits.insert(name, host(opened.model.logits(x)));
    }
    write_safetensors(Path::new(out), specs, &BTreeMap::new(), |spec| {
        Ok(logits[&spec.name].clone())
    })?;
    println!("{out}");
    Ok(())
}
