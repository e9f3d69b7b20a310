//! GGUF, the format of llama.cpp and of the programs built on it.

mod about;
mod architecture;
mod blocks;
mod change;
mod checks;
mod file;
mod fit;
mod gemma4;
mod keys;
mod layout;
mod lora;
mod mixture;
mod modelfile;
mod numbers;
mod own;
mod qwen35;
mod shape;
mod splitting;
mod targets;
mod vocabulary;
mod writer;

use std::path::Path;

use about::{AboutFile, plain};
use file::Keys;
use layout::{Layout, WantedNumbers};
use mixture::{FileMixture, Mixture};
use modelfile::Served;
use numbers::NumberFormat;
use vocabulary::Vocabulary;
use writer::Writer;

use super::{Contents, Export, Source, Written};
use crate::artifact::merge::Weights;
use crate::error::Result;
use crate::model::families;
use crate::weights::Element;

pub use lora::GgufLora;

/// The format.
pub struct Gguf;

/// Numbers that a type of file has.
#[derive(Clone, Copy)]
enum FileNumbers {
    One(NumberFormat),
    Mixture(FileMixture),
}

/// Types by name, with what file names call them and the number that says so (`enum llama_ftype`).
const TYPES: [(&str, &str, FileNumbers, u32); 7] = [
    ("f16", "F16", FileNumbers::One(NumberFormat::Plain(Element::F16)), 1),
    ("q8_0", "Q8_0", FileNumbers::One(NumberFormat::Blocks(&blocks::Q8_0)), 7),
    ("q6_k", "Q6_K", FileNumbers::Mixture(FileMixture::Q6K), 18),
    ("q5_k_m", "Q5_K_M", FileNumbers::Mixture(FileMixture::Q5KM), 17),
    ("q4_k_m", "Q4_K_M", FileNumbers::Mixture(FileMixture::Q4KM), 15),
    ("bf16", "BF16", FileNumbers::One(NumberFormat::Plain(Element::BF16)), 32),
    ("f32", "F32", FileNumbers::One(NumberFormat::Plain(Element::F32)), 0),
];
const NAMES: [&str; TYPES.len()] = {
    let mut names = [""; TYPES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TYPES[at].0;
        at += 1;
    }
    names
};
impl Export for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn types(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn contents(&self) -> Contents {
        Contents::Model(write)
    }
}

fn write(source: &Source, weights: Weights, target: &Path) -> Result<Written> {
    let (_, label, numbers, file_type) = *TYPES
        .iter()
        .find(|(name, ..)| *name == source.number)
        .expect("the type was found among ours");
    let mut facts = families::describe(&source.config)?;
    facts.fit_names(weights.places().map(|place| place.name.as_str()));
    if let Some((_, other)) = facts.first_expert()
        && weights.places().any(|place| facts.names.path_of(&place.name) == Some(other.clone()))
    {
        facts = facts.with_other_experts();
    }
    let architecture = architecture::find(&facts)?;
    let mut keys = Keys::default();
    let about = AboutFile {
        architecture: architecture.name,
        kind: "model",
        name: source.name,
        origin: source.origin,
        parameters: facts.parameters,
    };
    let binding = about.write(&mut keys);
    keys.number("general.file_type", file_type);
    architecture.write_keys(&facts, &mut keys)?;
    Vocabulary::read(&source.tokenizer, facts.vocabulary)?.write(&source.codec, &mut keys)?;
    let wanted = match numbers {
        FileNumbers::One(format) => WantedNumbers::One(format),
        FileNumbers::Mixture(file) => {
            WantedNumbers::Mixture(Mixture::new(file, architecture, &facts)?)
        }
    };
    let layout = Layout::new(architecture, &facts, &weights, &wanted)
        .map_err(|error| error.at(&source.origin.base.path))?;
    let mut notes = Vec::new();
    if layout.kept > 0 {
        let instead = match wanted {
            WantedNumbers::One(_) => "stay in f16",
            WantedNumbers::Mixture(_) => "are in Q5_0, Q5_1, Q8_0 or f16",
        };
        notes.push(format!(
            "{} matrices {instead}: their rows are not whole blocks of {label}",
            layout.kept
        ));
    }
    if layout.left_out > 0 {
        let left_out = layout.left_out;
        notes.push(format!("{left_out} tensors that the text model does not use are left out"));
    }
    if layout.coded > 0 {
        notes.push(format!("{} tensors of experts stay in MXFP4", layout.coded));
    }
    notes.extend(architecture.note(&facts));
    let file = format!("{}-{label}.gguf", plain(source.name));
    let mut writer = Writer::begin(&target.join(&file), &keys, layout)?;
    let base_files = weights.read(&mut writer)?;
    let binding = Some(writer.keys_begin + binding);
    writer.finish()?;
    modelfile::write(&Served::Model(&file), Some(&source.codec), target)?;
    Ok(Written { file, base_files, binding, notes })
}
