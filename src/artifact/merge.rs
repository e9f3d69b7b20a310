//! Merges an adapter into its base, shard by shard: `W + s·B·A` in f32, rounded once to the
//! base's format. Headers are kept as they are, so a zero adapter gives back the same bytes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::lineage::{INPUTS_FILE, INPUTS_KEY};
use super::open::Adapter;
use super::peft::{self, peft_key};
use crate::adapters::lora_scale;
use crate::config::LoraConfig;
use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, read_json};
use crate::weights::{Shard, TensorBytes, shard_names, to_f32};

/// The two factors beside one linear layer, on the host.
struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

/// Writes the merged weight files of `base` into `target`; returns the base's files, as read.
///
/// # Errors
/// When the base is not the one that the adapter's lineage names, or does not fit the adapter.
pub fn merge_weights(adapter: &Path, base: &Path, target: &Path) -> Result<Vec<FileEntry>> {
    let settings = Adapter::read(adapter)?.lora;
    let expected = expected_base(adapter)?;
    let mut factors = read_factors(adapter, &settings)?;
    let mut files = Vec::new();
    for name in shard_names(base)? {
        let shard = Shard::read(base, &name)?;
        if let Some(digest) = expected.get(&name)
            && *digest != shard.entry.sha256
        {
            return Err(Error::refused(format!(
                "`{name}` is not the base model that the adapter was trained on"
            ))
            .at(base)
            .because(format!(
                "its digest is {}, the lineage says {}",
                shard.entry.sha256.short(),
                digest.short()
            )));
        }
        write_merged(&shard, &target.join(&name), &mut factors, lora_scale(&settings))?;
        files.push(shard.entry.clone());
    }
    match factors.keys().next() {
        None => Ok(files),
        Some(path) => Err(Error::new(format!("the base has no layer `{path}`")).at(base)),
    }
}

/// Digests of the base's weights, from the adapter's lineage if it has one.
fn expected_base(adapter: &Path) -> Result<BTreeMap<String, Digest>> {
    const LINEAGE_BYTES_MAX: u64 = 64 << 20;
    let path = adapter.join(INPUTS_FILE);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let json = read_json(&path, LINEAGE_BYTES_MAX)?;
    let mut expected = BTreeMap::new();
    for entry in json["resolvedDependencies"].as_array().into_iter().flatten() {
        if entry["annotations"]["role"] == "base-model"
            && let (Some(name), Some(digest)) =
                (entry["name"].as_str(), entry["digest"]["sha256"].as_str())
        {
            expected.insert(name.to_owned(), digest.parse()?);
        }
    }
    Ok(expected)
}

fn read_factors(adapter: &Path, settings: &LoraConfig) -> Result<BTreeMap<String, Factors>> {
    let shard = Shard::read(adapter, peft::WEIGHTS_FILE)?;
    let mut tensors: BTreeMap<String, TensorBytes> =
        shard.tensors()?.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let paths: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(".lora_A.weight")?.strip_prefix("base_model.model."))
        .map(str::to_owned)
        .collect();
    let mut factors = BTreeMap::new();
    for path in paths {
        let mut take = |matrix: &str| {
            tensors
                .remove(&peft_key(&path, matrix))
                .ok_or_else(|| Error::new(format!("`{path}` has no `{matrix}`")).at(adapter))
        };
        let (a, b) = (take("lora_A")?, take("lora_B")?);
        let (&[r, inputs], &[outputs, rank]) = (&a.shape[..], &b.shape[..]) else {
            return Err(Error::new(format!("the factors of `{path}` are no matrices")).at(adapter));
        };
        if r != settings.r || rank != settings.r {
            let what = format!("the factors of `{path}` have rank {r}, not {}", settings.r);
            return Err(Error::new(what).at(adapter));
        }
        let (a, b) = (to_f32(a.element, a.bytes), to_f32(b.element, b.bytes));
        factors.insert(path, Factors { a, b, outputs, inputs });
    }
    match tensors.keys().next() {
        None => Ok(factors),
        Some(name) => Err(Error::new(format!("cannot merge the tensor `{name}`")).at(adapter)),
    }
}

/// Copies a shard, replacing only the numbers of adapted weights.
fn write_merged(
    shard: &Shard,
    path: &Path,
    factors: &mut BTreeMap<String, Factors>,
    scale: f64,
) -> Result<()> {
    let failed = "cannot write the merged weights";
    let (header, data) = shard.header_and_data()?;
    let mut tensors = shard.tensors()?;
    // In the order of the file, which the header fixes.
    tensors.sort_by_key(|tensor| tensor.bytes.as_ptr() as usize);
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut out = BufWriter::with_capacity(1 << 20, file.context_at(failed, path)?);
    out.write_all(&without_binding(header)?).context_at(failed, path)?;
    let mut written = 0;
    for tensor in tensors {
        let layer = tensor.name.strip_suffix(".weight").unwrap_or_default();
        match factors.remove(layer) {
            Some(factors) => {
                if tensor.shape != [factors.outputs, factors.inputs] {
                    let what = format!("the adapter does not fit `{}`", tensor.name);
                    return Err(Error::new(what).at(path));
                }
                let merged = merged(&tensor, &factors, scale);
                out.write_all(&merged).context_at(failed, path)?;
            }
            None => out.write_all(tensor.bytes).context_at(failed, path)?,
        }
        written += tensor.bytes.len();
    }
    assert_eq!(written, data.len(), "safetensors has no holes");
    let file = out.into_inner().context_at(failed, path)?;
    file.sync_all().context_at(failed, path)
}

/// The header of the base; one made by Firebrand names the inputs of another lineage, and that
/// entry must not be carried over.
fn without_binding(header: &[u8]) -> Result<Vec<u8>> {
    let Value::Object(mut json) = serde_json::from_slice(&header[8..])
        .context("the header of the base model cannot be read")?
    else {
        return Ok(header.to_vec());
    };
    let Some(Value::Object(metadata)) = json.get_mut("__metadata__") else {
        return Ok(header.to_vec());
    };
    let before = metadata.len();
    metadata.retain(|key, _| key != INPUTS_KEY);
    if metadata.len() == before {
        return Ok(header.to_vec());
    }
    let mut text = Value::Object(json).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

/// The bytes of `W + scale · B·A`. Where the addition is exactly zero, the bytes stay as they are
/// (adding zero would turn −0 into +0).
fn merged(tensor: &TensorBytes, factors: &Factors, scale: f64) -> Vec<u8> {
    let Factors { a, b, inputs, .. } = factors;
    let rank = a.len() / inputs;
    let mut values = to_f32(tensor.element, tensor.bytes);
    values.par_chunks_mut(*inputs).enumerate().for_each(|(row, values)| {
        let mut addition = vec![0.0_f64; *inputs];
        for k in 0..rank {
            let left = f64::from(b[row * rank + k]);
            for (sum, right) in addition.iter_mut().zip(&a[k * inputs..(k + 1) * inputs]) {
                *sum += left * f64::from(*right);
            }
        }
        for (value, addition) in values.iter_mut().zip(addition) {
            if addition != 0.0 {
                #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
                let sum = (f64::from(*value) + scale * addition) as f32;
                *value = sum;
            }
        }
    });
    tensor.element.encode(&values)
}
