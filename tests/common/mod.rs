//! What several test programs share: reference files, tiny models, run folders, the program itself.
#![allow(dead_code)] // each test program uses a part of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use firebrand::data::{Batch, Target};
use safetensors::SafeTensors;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The cases of `tests/reference/tiny`, made by `make_tiny.py` from transformers and PEFT.
pub const CASES: [&str; 8] = [
    "gqa-tied",
    "mha-untied",
    "llama3-scaling",
    "linear-scaling",
    "biases",
    "head-dim",
    "classic-rope",
    "bf16-sharded",
];

pub fn case(name: &str) -> PathBuf {
    repository("tests/reference/tiny").join(name)
}

/// A file of reference tensors.
pub struct Expected {
    floats: BTreeMap<String, Vec<f32>>,
    integers: BTreeMap<String, Vec<u32>>,
    pub shapes: BTreeMap<String, Vec<usize>>,
}

impl Expected {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected =
            Self { floats: BTreeMap::new(), integers: BTreeMap::new(), shapes: BTreeMap::new() };
        for (name, view) in file.iter() {
            let words = view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
            expected.shapes.insert(name.to_owned(), view.shape().to_vec());
            if view.dtype() == safetensors::Dtype::I32 {
                expected.integers.insert(name.to_owned(), words.map(u32::from_le_bytes).collect());
            } else {
                assert_eq!(view.dtype(), safetensors::Dtype::F32);
                expected.floats.insert(name.to_owned(), words.map(f32::from_le_bytes).collect());
            }
        }
        expected
    }

    pub fn floats(&self, name: &str) -> &[f32] {
        self.floats.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    pub fn integers(&self, name: &str) -> &[u32] {
        &self.integers[name]
    }

    /// Every tensor whose name begins with `prefix`, by the rest of its name.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        self.floats.iter().filter_map(move |(name, values)| {
            Some((name.strip_prefix(prefix)?, values.as_slice()))
        })
    }

    /// The batch that the reference was computed on: two rows, the second one packed.
    pub fn batch(&self) -> Batch {
        let pairs = self.integers("target_index").iter().zip(self.integers("target_token"));
        Batch {
            rows: 2,
            length: 24,
            tokens: self.integers("tokens").to_vec(),
            positions: self.integers("positions").to_vec(),
            documents: self.integers("documents").to_vec(),
            targets: pairs.map(|(&index, &token)| Target { index, token }).collect(),
            sources: Vec::new(),
        }
    }
}

/// One row of a batch as a batch of its own, without the padding at its end.
pub fn row(batch: &Batch, number: usize) -> Batch {
    let all = number * batch.length..(number + 1) * batch.length;
    let length = batch.documents[all.clone()].iter().filter(|document| **document > 0).count();
    let places = all.start..all.start + length;
    let inside = |target: &&Target| places.contains(&(target.index as usize));
    let moved = |target: &Target| Target {
        index: target.index - u32::try_from(places.start).unwrap(),
        token: target.token,
    };
    Batch {
        rows: 1,
        length,
        tokens: batch.tokens[places.clone()].to_vec(),
        positions: batch.positions[places.clone()].to_vec(),
        documents: batch.documents[places.clone()].to_vec(),
        targets: batch.targets.iter().filter(inside).map(moved).collect(),
        sources: Vec::new(),
    }
}

pub fn cpu() -> Device {
    Device::flex()
}

/// ‖a − b‖ / ‖b‖.
pub fn relative(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len(), "different sizes");
    let square = |x: f64| x * x;
    let difference: f64 =
        ours.iter().zip(reference).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = reference.iter().map(|b| square(f64::from(*b))).sum();
    (difference / size.max(1e-30)).sqrt()
}

/// Fails unless two lists are equal within `limit`, relative to the reference's norm.
pub fn assert_near(what: &str, ours: &[f32], reference: &[f32], limit: f64) {
    let found = relative(ours, reference);
    assert!(found <= limit, "{what}: relative difference {found:.2e}, at most {limit:.0e}");
}
