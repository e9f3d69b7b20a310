//! LoRA adapters by themselves, as llama.cpp puts them beside a model (`--lora`): names and
//! metadata of its `convert_lora_to_gguf.py`. It multiplies a product with `alpha` over the rank,
//! one alpha for all; where layers have other factors, or there is a root of the rank, B has what
//! is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use super::about::{AboutFile, plain};
use super::architecture::{self, Architecture};
use super::change::{NumberChange, Target, TensorOrder};
use super::file::{ALIGNMENT, Keys, Tensor, header};
use super::modelfile::{self, Served};
use super::numbers::NumberFormat;
use super::shape::head_width;
use crate::adapters::{file_name, layer_of, replaces};
use crate::artifact::exports::{AdapterSource, Contents, Export, Written};
use crate::data::Codec;
use crate::error::{Error, Result};
use crate::files::{NewFile, failed, has_file};
use crate::gguf;
use crate::model::Description;
use crate::weights::{Element, to_f32};

/// The format.
pub struct GgufLora;

/// What llama.cpp multiplies with as it is, whatever is loaded beside it: inputs of the layers of
/// Gemma 4 (`project_per_layer_inputs`).
const NOT_ADDED_TO: &str = "per_layer_model_proj";
/// Types by name, and what file names call them.
const TYPES: [(&str, &str, Element); 3] =
    [("f32", "F32", Element::F32), ("f16", "F16", Element::F16), ("bf16", "BF16", Element::BF16)];

impl Export for GgufLora {
    fn name(&self) -> &'static str {
        "gguf-lora"
    }

    fn types(&self) -> &'static [&'static str] {
        &["f32", "f16", "bf16"]
    }

    fn contents(&self) -> Contents {
        Contents::Adapter(write)
    }
}

/// The two factors beside a layer, as the file has them.
struct Factors {
    /// Of the tensor beside which they stand.
    name: String,
    rank: usize,
    /// `[rank, in]` and `[out, rank]`.
    numbers: [Vec<f32>; 2],
    /// What their product is multiplied with.
    scale: f64,
}

fn write(source: AdapterSource, target: &Path) -> Result<Written> {
    let AdapterSource { origin, adapter, base, addition, name, number } = source;
    let (_, label, element) =
        *TYPES.iter().find(|(name, ..)| *name == number).expect("the type was found among ours");
    let refused = |why: String| {
        Error::export("llama.cpp cannot put this adapter beside a model")
            .at(&origin.model.path)
            .because(why)
            .hint("`--format gguf` writes its base with it")
    };
    let architecture = architecture::find(base)?;
    if let Some(more) = replaces(adapter) {
        return Err(refused(format!("it is saved with {more}")));
    }
    let mut tensors = addition.into_tensors();
    let layers: BTreeSet<String> =
        tensors.keys().filter_map(|name| layer_of(adapter.kind(), name)).map(Into::into).collect();
    let mut all = Vec::new();
    for layer in &layers {
        let scale = adapter.low_rank_scale(layer).ok_or_else(|| {
            refused(format!("{} is more than two factors", adapter.kind().label().title))
        })?;
        let places = places_of(architecture, layer, base).map_err(refused)?;
        let [a, b] = adapter.kind().parameters() else {
            return Err(refused("it has other parameters than two factors".to_owned()));
        };
        let factors = [a, b].map(|part| tensors.remove(&file_name(layer, part)));
        let [Some(a), Some(b)] = factors else {
            return Err(refused(format!("it lacks a factor beside `{layer}`")));
        };
        let factors = [&a, &b].map(|of| to_f32(of.element, &of.bytes));
        let sizes = [a.shape[0], a.shape[1]];
        let place = |place| factors_of(place, factors.clone(), sizes, (scale, head_width(base)));
        all.extend(places.into_iter().map(place));
    }
    if let Some(name) = tensors.keys().next() {
        return Err(refused(format!("it has no place for its tensor `{name}`")));
    }
    let alpha = one_alpha(&mut all);
    let mut keys = Keys::default();
    let parameters = all.iter().flat_map(|of| &of.numbers).map(|one| one.len() as u64).sum();
    let architecture = architecture.name;
    let about = AboutFile { architecture, kind: "adapter", name, origin, parameters };
    let binding = about.write(&mut keys);
    keys.text("adapter.type", adapter.kind().name()); // the only one that has such factors
    keys.fraction("adapter.lora.alpha", alpha);
    let file = format!("{}-{label}-LoRA.gguf", plain(name));
    let begin = write_file(&target.join(&file), &keys, &all, element)?;
    let codec = match has_file(&target.join("tokenizer.json"))? {
        true => Some(Codec::load(target, None)?),
        false => None,
    };
    let base_file = base_file(&origin.base.id, gguf::source_of(&origin.base.path)?);
    let served = Served::Adapter { file: &file, base: &base_file };
    modelfile::write(&served, codec.as_ref(), target)?;
    let notes = Vec::new();
    Ok(Written { file, base_files: Vec::new(), binding: Some(begin + binding), notes })
}

/// What the file of the base is called: as it is, or as an export of it would be.
fn base_file(id: &str, source: Option<crate::files::FileEntry>) -> String {
    match source {
        Some(file) => plain(file.path.rsplit('/').next().unwrap_or(&file.path)),
        None => {
            let name = id.strip_suffix("/artifact").unwrap_or(id);
            format!("{}-F16.gguf", plain(name.rsplit('/').next().unwrap_or(name)))
        }
    }
}

/// Where the weight of a layer stands in the file of a model, or its halves, or why nothing can
/// stand beside it.
fn places_of(
    architecture: &Architecture,
    layer: &str,
    base: &Description,
) -> std::result::Result<Vec<Target>, String> {
    let known = architecture.targets(&format!("{layer}.weight"), base).ok();
    let of_experts = || format!("it stands beside `{layer}`, which is a matrix of experts there");
    let targets = known.ok_or_else(of_experts)?;
    let Some(first) = targets.first() else {
        return Err(format!("it stands beside `{layer}`, which is the embedding there"));
    };
    if first.name.starts_with(NOT_ADDED_TO) {
        return Err(format!("it stands beside `{layer}`, to which llama.cpp adds nothing"));
    }
    if first.order == TensorOrder::Vector {
        return Err(format!("it stands beside `{layer}`, which is a vector there"));
    }
    let alone = targets.len() == first.order.matrices();
    let linear = |of: &Target| {
        let order = matches!(
            of.order,
            TensorOrder::Same
                | TensorOrder::Turned
                | TensorOrder::Rows(_)
                | TensorOrder::Columns(_)
                | TensorOrder::Half(_)
        );
        order && of.part.is_none() && of.change == NumberChange::None
    };
    match alone && targets.iter().all(linear) {
        true => Ok(targets),
        false => Err(of_experts()),
    }
}

/// Factors in the order in which the file has the rows and columns of their product; halves of its
/// rows have the same factor A.
fn factors_of(
    place: Target,
    [mut a, mut b]: [Vec<f32>; 2],
    [rank, inputs]: [usize; 2],
    (scale, head): (f64, usize),
) -> Factors {
    match place.order {
        TensorOrder::Rows(heads) => {
            let mut rows = vec![0.0; b.len()];
            for (row, numbers) in b.chunks_exact(rank.max(1)).enumerate() {
                rows[heads.place(row) * rank..][..rank].copy_from_slice(numbers);
            }
            b = rows;
        }
        TensorOrder::Half(which) => {
            let half = b.len() / 2;
            b = b[which * half..][..half].to_vec();
        }
        TensorOrder::Columns(_) => a = place.order.apply(NumberChange::None, (head, inputs), a),
        order => b = order.apply(NumberChange::None, (head, rank), b),
    }
    Factors { name: place.name, rank, numbers: [a, b], scale }
}

/// The alpha of the file, with which every layer gets its scale: B is changed where it must be.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // ranks are small
fn one_alpha(all: &mut [Factors]) -> f32 {
    let wanted = |of: &Factors| of.scale * of.rank as f64;
    // Zero would be taken for a scale of one.
    let alpha = all.iter().map(wanted).find(|alpha| *alpha as f32 != 0.0).unwrap_or(1.0) as f32;
    for of in all {
        let wanted = wanted(of);
        if wanted as f32 != alpha {
            let missing = (wanted / f64::from(alpha)) as f32;
            of.numbers[1].iter_mut().for_each(|number| *number *= missing);
        }
    }
    alpha
}

/// Writes the file; tells where its keys begin.
fn write_file(path: &Path, keys: &Keys, all: &[Factors], element: Element) -> Result<u64> {
    let format = NumberFormat::Plain(element);
    let mut tensors: BTreeMap<String, (Vec<usize>, &[f32])> = BTreeMap::new();
    for of in all {
        let ([a, b], rank) = (&of.numbers, of.rank);
        tensors.insert(format!("{}.lora_a", of.name), (vec![rank, a.len() / rank], a));
        tensors.insert(format!("{}.lora_b", of.name), (vec![b.len() / rank, rank], b));
    }
    if let Some((name, number)) =
        tensors.iter().find_map(|(name, (_, all))| Some((name, format.too_large(all)?)))
    {
        return Err(Error::export(format!("`{name}` cannot be written in this type"))
            .because(format!("one of its numbers is {number}"))
            .hint("`--type bf16` and `--type f32` have room for every finite number"));
    }
    let heads = tensors.iter().map(|(name, (shape, numbers))| Tensor {
        name: name.clone(),
        shape: shape.clone(),
        kind: format.kind(),
        bytes: format.bytes(numbers.len() as u64),
    });
    let (mut bytes, begin) = header(keys, &heads.collect::<Vec<_>>());
    for (_, numbers) in tensors.values() {
        bytes.extend(format.encode(numbers));
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    }
    let write = || -> io::Result<()> {
        let mut file = NewFile::begin(path)?;
        file.write_all(&bytes)?;
        file.sync()
    };
    write().map_err(|error| failed("cannot write the export", path, &error))?;
    Ok(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(rank: usize, scale: f64) -> Factors {
        let numbers = [vec![1.0; rank], vec![2.0; rank]];
        Factors { name: "x".to_owned(), rank, numbers, scale }
    }

    /// What llama.cpp makes of it: alpha over the rank, times B.
    #[test]
    #[expect(clippy::cast_precision_loss)]
    fn every_layer_keeps_its_scale_under_one_alpha() {
        for scales in [[2.0, 2.0, 2.0], [2.0, 0.5, 3.0], [0.0, 1.0, 4.0], [0.0, 0.0, 0.0]] {
            let mut all: Vec<_> =
                scales.iter().zip([4, 8, 4]).map(|(scale, rank)| factors(rank, *scale)).collect();
            let alpha = one_alpha(&mut all);
            assert!(alpha != 0.0, "llama.cpp takes 0 for a scale of 1");
            for (of, scale) in all.iter().zip(scales) {
                let found = f64::from(alpha) / of.rank as f64 * f64::from(of.numbers[1][0]);
                assert!((found - 2.0 * scale).abs() < 1e-6, "{scales:?} {found}");
            }
        }
        let mut same = [factors(4, 2.0), factors(8, 1.0)];
        assert_eq!((one_alpha(&mut same), same[1].numbers[1][0]), (8.0, 2.0), "nothing is changed");
    }
}
