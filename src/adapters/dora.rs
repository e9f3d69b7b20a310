//! DoRA (Liu et al. 2024): `m ⊙ (W + s·B·A) / ‖W + s·B·A‖`, a low-rank adapter with a trainable
//! magnitude of each output. The norm, over the inputs of each output, is a constant to gradients
//! (section 4.3), as in PEFT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::lora::{
    A, B, Branch, LoraSettings, LowRankChange, TRAINING_KEYS, describe, layers, read_peft,
    sample_settings, to_peft,
};
use super::{Adapter, AdapterKind, Label, WeightChange};
use crate::config::RunConfig;
use crate::document::key::{DefaultValue, Key, OwnedKeys, ValueKind};
use crate::error::{Error, Result};
use crate::model::{AdapterBranch, Description, Linear, Parameter, PassContext, Visitor};
use crate::ops::cpu::{HostTensor, LowRank, Magnitude};
use crate::ops::{from_vec, host};
use crate::random::Stream;

/// The magnitude's name, as PEFT has it in files.
const M: &str = "lora_magnitude_vector";

const KEYS: &[Key] = &[Key::new(
    "lora.use_dora",
    ValueKind::Boolean,
    DefaultValue::Value("false"),
    "DoRA: beside the low-rank factors, the magnitude of each output of a layer is trained. Often \
     better at small ranks; a step takes longer and more memory.",
)
.example("true")
.names(&[("axolotl", "peft_use_dora")])
.silent_default()];

/// The entry.
#[derive(Debug)]
pub(super) struct Entry;

impl AdapterKind for Entry {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn label(&self) -> Label {
        Label { title: "DoRA", tags: &["lora", "dora"] }
    }

    fn asked_by(&self) -> &'static str {
        "`use_dora = true` in `[lora]`"
    }

    fn keys(&self) -> Vec<OwnedKeys> {
        vec![OwnedKeys::within("lora", "lora.use_rslora", KEYS)]
    }

    fn parameters(&self) -> &'static [&'static str] {
        &[A, B, M]
    }

    fn of_run(&self, config: &RunConfig) -> Option<Arc<dyn Adapter>> {
        let settings = LoraSettings::of_run(&config.owned)?;
        config
            .owned
            .boolean("lora.use_dora")
            .then(|| Arc::new(Dora { settings }) as Arc<dyn Adapter>)
    }

    fn of_peft(&self, json: &Map<String, Value>) -> Result<Option<Arc<dyn Adapter>>> {
        if json.get("use_dora") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        Ok(read_peft(json)?.map(|settings| Arc::new(Dora { settings }) as Arc<dyn Adapter>))
    }

    fn sample(&self) -> Arc<dyn Adapter> {
        Arc::new(Dora { settings: sample_settings() })
    }
}

/// A DoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Dora {
    /// Rank, scale and layers.
    pub settings: LoraSettings,
}

impl Adapter for Dora {
    fn kind(&self) -> &'static dyn AdapterKind {
        &Entry
    }

    fn describe(&self) -> String {
        describe("DoRA", &self.settings)
    }

    fn layers(&self, description: &Description) -> Result<Vec<(String, [usize; 2])>> {
        if !self.settings.target_parameters.is_empty() {
            let what = "`lora.target_parameters` cannot be used with `use_dora`";
            return Err(Error::adapter(what).because("PEFT has no DoRA of parameters"));
        }
        if self.settings.init_lora_weights.changes_base() {
            let what = format!(
                "`lora.init_lora_weights = \"{}\"` cannot be used with `use_dora`",
                self.settings.init_lora_weights
            );
            return Err(Error::adapter(what).because(
                "the magnitudes of DoRA are those of whole weights, of which it takes a part out",
            ));
        }
        layers(&self.settings, description)
    }

    fn tensors(&self, path: &str, dims: [usize; 2]) -> Vec<(&'static str, Vec<usize>)> {
        let mut tensors = self.settings.factors(path, dims);
        tensors.push((M, vec![dims[0]]));
        tensors
    }

    fn settings(&self) -> &LoraSettings {
        &self.settings
    }

    fn with_settings(&self, settings: LoraSettings) -> Arc<dyn Adapter> {
        Arc::new(Self { settings })
    }

    /// Magnitudes begin as the norms of the weight, so that the layer computes what it did.
    fn beside(
        &self,
        path: &str,
        linear: &mut Linear,
        seed: Stream,
        device: &Device,
    ) -> Box<dyn AdapterBranch> {
        let [outputs, inputs] = linear.dims();
        let low = Branch::new(path, linear, &self.settings, seed, device);
        let weight = host(linear.values());
        let norms = weight.par_chunks(inputs).map(|row| norm(row.iter().copied().map(f64::from)));
        let value = from_vec(norms.collect(), [outputs], device);
        let magnitude = Parameter { value, trainable: true };
        Box::new(DoraBranch { low, magnitude, constants: None })
    }

    fn saved_per_token(&self, [outputs, _]: [usize; 2]) -> usize {
        outputs // what the magnitude multiplies
    }

    fn change(
        &self,
        path: &str,
        [_, inputs]: [usize; 2],
        mut tensors: BTreeMap<&'static str, Vec<f32>>,
    ) -> Box<dyn WeightChange> {
        let magnitude = tensors.remove(M).expect("all tensors are given");
        let low = LowRankChange::new(tensors, inputs, self.settings.of_layer(path));
        Box::new(DoraChange { low, magnitude, inputs })
    }

    fn training_keys(&self) -> &'static [&'static str] {
        TRAINING_KEYS
    }

    fn to_peft(&self, modules: &BTreeSet<String>) -> Map<String, Value> {
        let mut map = to_peft(&self.settings, modules);
        map.insert("use_dora".to_owned(), true.into());
        map
    }
}

/// The norm of a row, rounded once. Of zeros alone it is infinite: whatever such an output is
/// multiplied with, it stays zero, and its magnitude gets no gradient, where PEFT divides zero by
/// zero.
fn norm(row: impl Iterator<Item = f64>) -> f32 {
    #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
    let norm = row.map(|x| x * x).sum::<f64>().sqrt() as f32;
    if norm == 0.0 { f32::INFINITY } else { norm }
}

/// The factors beside one linear layer, and the magnitudes of its outputs.
#[derive(Clone)]
struct DoraBranch {
    low: Branch,
    /// `lora_magnitude_vector`, `[out]`.
    magnitude: Parameter<1>,
    /// The factors of which the norm is made where the others are leaves of a tape.
    constants: Option<(Tensor<2>, Tensor<2>)>,
}

impl DoraBranch {
    /// `m / ‖W + s·B·A‖`, `[1, out]`.
    fn factor(&self, linear: &Linear) -> Tensor<2> {
        let (a, b) = match &self.constants {
            Some(constants) => constants.clone(),
            None => (self.low.a.value.clone(), self.low.b.value.clone()),
        };
        let norm = linear.of_rows(|first, weight| {
            let rows = weight.dims()[0];
            let whole = rows == b.dims()[0];
            let b = if whole { b.clone() } else { b.clone().narrow(0, first, rows) };
            let weight = weight + b.matmul(a.clone()).mul_scalar(self.low.scale);
            weight.square().sum_dim(1).sqrt()
        });
        let norm = norm.transpose();
        let zero = norm.clone().equal_scalar(0.0);
        self.magnitude.value.clone().unsqueeze::<2>() / norm.mask_fill(zero, f32::INFINITY)
    }
}

impl AdapterBranch for DoraBranch {
    fn forward(&self, x: Tensor<2>, linear: &Linear, context: &PassContext) -> Tensor<2> {
        let factor = self.factor(linear);
        let adapted =
            |x: Tensor<2>| linear.frozen(x.clone(), context) + self.low.low_rank_of(x, context);
        match self.low.dropped(&x, context) {
            None => adapted(x) * factor,
            // The base sees all inputs, and what the magnitude changes of it those that are left:
            // x·Wᵀ + (f − 1)·(x̃·Wᵀ) + f·s·(x̃·Aᵀ)·Bᵀ.
            Some(left) => linear.frozen(x - left.clone(), context) + adapted(left) * factor,
        }
    }

    fn drops(&self) -> bool {
        self.low.drops()
    }

    fn low_rank(&self, weight: &HostTensor, context: &PassContext) -> Option<LowRank> {
        let low = self.low.low_rank(weight, context)?;
        let magnitude = HostTensor::of(&self.magnitude.value)?;
        let norm = norms(weight, &low);
        let factor = magnitude.single().iter().zip(&norm).map(|(m, norm)| m / norm).collect();
        Some(LowRank { magnitude: Some(Magnitude { name: M, factor, norm }), ..low })
    }

    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        self.low.visit(path, visitor);
        visitor.vector(&format!("{path}.{M}"), &mut self.magnitude);
    }

    fn tracked(&self) -> Box<dyn AdapterBranch> {
        let constants = Some((self.low.a.value.clone(), self.low.b.value.clone()));
        Box::new(Self {
            low: self.low.tracked_branch(),
            magnitude: self.magnitude.tracked(),
            constants,
        })
    }
}

/// `‖W + s·B·A‖`, `[out]`.
fn norms(weight: &HostTensor, low: &LowRank) -> Vec<f32> {
    let (a, b, numbers) = (low.a.single(), low.b.single(), weight.numbers());
    let (rank, inputs) = (low.a.rows(), low.a.columns());
    let mut norms = vec![0.0; weight.rows()];
    norms.par_iter_mut().enumerate().for_each(|(output, sum)| {
        let mut row = vec![0.0; inputs];
        numbers.read(output, &mut row);
        for (left, a) in b[output * rank..][..rank].iter().zip(a.chunks_exact(inputs)) {
            let left = low.scale * left;
            row.iter_mut().zip(a).for_each(|(sum, a)| *sum += left * a);
        }
        *sum = norm(row.into_iter().map(f64::from));
    });
    norms
}

/// `m ⊙ (W + s·B·A) / ‖W + s·B·A‖`.
struct DoraChange {
    low: LowRankChange,
    magnitude: Vec<f32>,
    inputs: usize,
}

impl WeightChange for DoraChange {
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]) {
        let rows = rows.par_chunks_mut(self.inputs).zip(added.par_chunks_mut(self.inputs));
        rows.enumerate().for_each(|(row, (values, added))| {
            let mut after = self.low.row(first + row);
            let unchanged = after.iter().all(|addition| *addition == 0.0);
            after.iter_mut().zip(&*values).for_each(|(sum, value)| *sum += f64::from(*value));
            let norm = norm(after.iter().copied());
            let factor = f64::from(self.magnitude[first + row]) / f64::from(norm);
            if unchanged && factor == 1.0 {
                return added.fill(0.0);
            }
            for ((value, added), after) in values.iter_mut().zip(added).zip(after) {
                let after = factor * after;
                #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
                let (sum, change) = (after as f32, (after - f64::from(*value)) as f32);
                (*value, *added) = (sum, change);
            }
        });
    }
}
