//! LoRA (Hu et al. 2021): `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`, with the names and initial values of PEFT.

mod biases;
mod describe;
mod layers;
mod parameters;
mod patterns;
mod peft;
mod settings;
mod singular;
mod start;
mod tables;
mod tokens;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Tensor};
use rayon::prelude::*;
use serde_json::{Map, Value};

pub use biases::{LoraBias, names_in_files, saved_names};
pub(super) use biases::{trained_biases, unfreeze_biases};
pub(super) use describe::describe;
pub(super) use layers::layers;
pub use patterns::{ModulePatterns, expression};
pub use peft::peft_token_indices;
pub(super) use peft::{read_peft, to_peft};
pub(super) use settings::sample_settings;
pub use settings::{InitLoraWeights, LayerSettings, LoraSettings, TargetModules};
pub use tables::{
    EMBEDDING_FACTORS, FactoredTable, embedding_change, factored_tables, is_copy_of_table,
};
pub(super) use tables::{names_tables, put_beside_tables, table_factors};
pub use tokens::{ReplacedRows, changed_tables, in_order_of, resized};
pub(super) use tokens::{token_rows, train_rows, with_token_rows};
pub(super) use whole::unfreeze;
pub use whole::{Replaced, not_tied, tied_copy, whole_weights};

use start::{Factors, drawn, taken_out};

use super::{Adapter, AdapterKind, Label, WeightChange};
use crate::config::RunConfig;
use crate::document::key::OwnedKeys;
use crate::error::{Error, Result};
use crate::model::description::StackedTensor;
use crate::model::{
    AdapterBranch, Description, Dropout, Linear, Matrix, Parameter, PassContext, Visitor,
};
use crate::ops::cpu::{HostTensor, InputMask, LowRank};
use crate::ops::{LowRankFactors, from_vec, host, low_rank, project};
use crate::random::Stream;

/// Names of the two matrices, as PEFT has them.
pub(super) const A: &str = "lora_A.weight";
pub(super) const B: &str = "lora_B.weight";
/// Keys of `adapter_config.json` that are of training alone.
pub(super) const TRAINING_KEYS: &[&str] = &["lora_dropout"];

/// The entry.
#[derive(Debug)]
pub(super) struct Entry;

impl AdapterKind for Entry {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn label(&self) -> Label {
        Label { title: "LoRA", tags: &["lora"] }
    }

    fn asked_by(&self) -> &'static str {
        "a `[lora]` section"
    }

    fn keys(&self) -> Vec<OwnedKeys> {
        vec![settings::keys()]
    }

    fn parameters(&self) -> &'static [&'static str] {
        &[A, B]
    }

    fn of_run(&self, config: &RunConfig) -> Option<Arc<dyn Adapter>> {
        let settings = LoraSettings::of_run(&config.owned)?;
        Some(Arc::new(Lora { settings }))
    }

    fn of_peft(&self, json: &Map<String, Value>) -> Result<Option<Arc<dyn Adapter>>> {
        let Some(settings) = read_peft(json)? else { return Ok(None) };
        if json.get("use_dora") == Some(&Value::Bool(true)) {
            return Err(Error::adapter("adapters with `use_dora` are not supported"));
        }
        Ok(Some(Arc::new(Lora { settings })))
    }

    fn sample(&self) -> Arc<dyn Adapter> {
        Arc::new(Lora { settings: sample_settings() })
    }
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rank, scale and layers.
    pub settings: LoraSettings,
}

impl Adapter for Lora {
    fn kind(&self) -> &'static dyn AdapterKind {
        &Entry
    }

    fn describe(&self) -> String {
        describe("LoRA", &self.settings)
    }

    fn layers(&self, description: &Description) -> Result<Vec<(String, [usize; 2])>> {
        layers(&self.settings, description)
    }

    fn stacked(&self, description: &Description) -> Vec<StackedTensor> {
        parameters::stacked(&self.settings, description)
    }

    fn tensors(&self, path: &str, dims: [usize; 2]) -> Vec<(&'static str, Vec<usize>)> {
        self.settings.factors(path, dims)
    }

    fn settings(&self) -> &LoraSettings {
        &self.settings
    }

    fn with_settings(&self, settings: LoraSettings) -> Arc<dyn Adapter> {
        Arc::new(Self { settings })
    }

    fn changes_base(&self) -> bool {
        self.settings.init_lora_weights.changes_base()
    }

    fn published(&self) -> Option<Arc<dyn Adapter>> {
        self.changes_base()
            .then(|| Arc::new(Self { settings: self.settings.doubled() }) as Arc<dyn Adapter>)
    }

    fn beside(
        &self,
        path: &str,
        linear: &mut Linear,
        seed: Stream,
        device: &Device,
    ) -> Box<dyn AdapterBranch> {
        Box::new(Branch::new(path, linear, &self.settings, seed, device))
    }

    fn change(
        &self,
        path: &str,
        [_, inputs]: [usize; 2],
        tensors: BTreeMap<&'static str, Vec<f32>>,
    ) -> Box<dyn WeightChange> {
        Box::new(LowRankChange::new(tensors, inputs, self.settings.of_layer(path)))
    }

    fn low_rank_scale(&self, path: &str) -> Option<f64> {
        Some(self.settings.of_layer(path).scale)
    }

    fn training_keys(&self) -> &'static [&'static str] {
        TRAINING_KEYS
    }

    fn to_peft(&self, modules: &BTreeSet<String>) -> Map<String, Value> {
        to_peft(&self.settings, modules)
    }
}

/// The two factors beside one linear layer.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// `lora_A.weight`, `[r, in]`.
    pub(super) a: Parameter<2>,
    /// `lora_B.weight`, `[out, r]`.
    pub(super) b: Parameter<2>,
    /// The factor `s`.
    pub(super) scale: f64,
    dropout: f64,
    /// Module path of the linear layer, which names the dropout's random stream.
    path: String,
    /// What they began with, where that was taken out of the weight.
    taken_out: Option<Arc<Factors>>,
}

impl Branch {
    /// B is zero, or the product is taken out of the weight: training starts at the base model.
    pub(super) fn new(
        path: &str,
        linear: &mut Linear,
        settings: &LoraSettings,
        seed: Stream,
        device: &Device,
    ) -> Self {
        let ([outputs, inputs], layer) = (linear.dims(), settings.of_layer(path));
        let LayerSettings { rank, scale } = layer;
        let stream = seed.site("lora").site(path);
        let (a, b, taken_out) = match &mut linear.weight {
            Matrix::Tensor(weight) if settings.init_lora_weights.changes_base() => {
                let before = host(weight.value.clone());
                let (factors, rest) = taken_out(&before, inputs, (settings, layer), stream);
                let rest = from_vec(rest, [outputs, inputs], device);
                // The CPU has it as exactly as the factors; a GPU in the format of the weight.
                weight.value = match *device == Device::flex() {
                    true => rest,
                    false => rest.cast(FloatDType::from(weight.value.dtype())),
                };
                let b = from_vec(factors.b.clone(), [outputs, rank], device);
                (factors.a.clone(), b, Some(Arc::new(factors)))
            }
            _ => {
                let a = drawn(settings, rank, inputs, stream);
                (a, Tensor::zeros([outputs, rank], device), None)
            }
        };
        let trainable = |value| Parameter { value, trainable: true };
        Self {
            a: trainable(from_vec(a, [rank, inputs], device)),
            b: trainable(b),
            scale,
            dropout: settings.lora_dropout,
            path: path.to_owned(),
            taken_out,
        }
    }

    /// Which inputs are dropped.
    fn masks(&self, columns: usize, dropout: &Dropout) -> InputMask {
        let (stream, numbers) = (dropout.stream.site(&self.path), dropout.numbers.clone());
        InputMask { stream, numbers, rate: self.dropout, columns }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    pub(super) fn tracked_branch(&self) -> Self {
        Self { a: self.a.tracked(), b: self.b.tracked(), ..self.clone() }
    }

    /// The inputs of the factors, where some are dropped.
    pub(super) fn dropped(&self, x: &Tensor<2>, context: &PassContext) -> Option<Tensor<2>> {
        let dropout = context.dropout.as_ref().filter(|_| self.dropout > 0.0)?;
        let [tokens, columns] = x.dims();
        let mask = self.masks(columns, dropout).of_tokens(0, tokens);
        Some(x.clone() * from_vec(mask, x.dims(), &self.a.value.device().inner()))
    }

    /// `s·(x·Aᵀ)·Bᵀ`.
    pub(super) fn low_rank_of(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let hidden = project(x, self.a.value.clone(), context.computing); // [tokens, r]
        project(hidden, self.b.value.clone(), context.computing).mul_scalar(self.scale)
    }
}

impl AdapterBranch for Branch {
    fn forward(&self, x: Tensor<2>, linear: &Linear, context: &PassContext) -> Tensor<2> {
        let dropped = self.dropped(&x, context);
        if let (Some(weight), None) = (linear.constant(), &dropped) {
            let factors = (&self.a.value, &self.b.value, self.scale);
            if let Some(y) = low_rank(&x, &weight, factors, context.computing) {
                return y;
            }
        }
        let y = linear.frozen(x.clone(), context);
        let x = dropped.unwrap_or(x);
        y + self.low_rank_of(x, context)
    }

    fn factors(&self, context: &PassContext) -> Option<LowRankFactors> {
        let whole = context.dropout.is_none() || self.dropout == 0.0;
        let factors = [&self.a, &self.b].map(|factor| factor.value.clone());
        whole.then_some(LowRankFactors { factors, scale: self.scale })
    }

    fn drops(&self) -> bool {
        self.dropout > 0.0
    }

    fn low_rank(&self, _: &HostTensor, context: &PassContext) -> Option<LowRank> {
        let (a, b) = (HostTensor::of(&self.a.value)?, HostTensor::of(&self.b.value)?);
        let dropped = context.dropout.as_ref().filter(|_| self.dropout > 0.0);
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let scale = self.scale as f32;
        let masks = dropped.map(|dropout| self.masks(a.columns(), dropout));
        let (mask, masks) = match masks {
            Some(masks) if !context.masks_by_tile => {
                let tokens = context.documents.rows * context.documents.length;
                (Some(masks.of_tokens(0, tokens)), None)
            }
            masks => (None, masks),
        };
        Some(LowRank { names: [A, B], a, b, scale, mask, masks, magnitude: None })
    }

    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        visitor.matrix(&format!("{path}.{A}"), &mut self.a);
        visitor.matrix(&format!("{path}.{B}"), &mut self.b);
    }

    fn tracked(&self) -> Box<dyn AdapterBranch> {
        Box::new(self.tracked_branch())
    }

    /// `W + s·[B −B₀]·[A A₀]` is `(W − s·B₀·A₀) + s·B·A`.
    fn published(&self) -> Option<Box<dyn AdapterBranch>> {
        let Factors { a, b } = &**self.taken_out.as_ref()?;
        let (own_a, own_b) = (&self.a.value, &self.b.value);
        let device = own_a.device();
        let a = from_vec(a.clone(), own_a.dims(), &device);
        let b = from_vec(b.clone(), own_b.dims(), &device);
        let trainable = |value| Parameter { value, trainable: true };
        Some(Box::new(Self {
            a: trainable(Tensor::cat(vec![own_a.clone(), a], 0)),
            b: trainable(Tensor::cat(vec![own_b.clone(), -b], 1)),
            taken_out: None,
            ..self.clone()
        }))
    }
}

/// `W + s·B·A`.
pub struct LowRankChange {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    inputs: usize,
    scale: f64,
}

impl LowRankChange {
    pub(super) fn new(
        mut tensors: BTreeMap<&'static str, Vec<f32>>,
        inputs: usize,
        LayerSettings { rank, scale }: LayerSettings,
    ) -> Self {
        let mut take = |name| tensors.remove(name).expect("both factors are given");
        Self { a: take(A), b: take(B), rank, inputs, scale }
    }

    /// `s·B·A` of one row of the weight.
    pub(super) fn row(&self, row: usize) -> Vec<f64> {
        let Self { a, b, rank, inputs, scale } = self;
        let mut addition = vec![0.0_f64; *inputs];
        for k in 0..*rank {
            let left = f64::from(b[row * rank + k]);
            for (sum, right) in addition.iter_mut().zip(&a[k * inputs..(k + 1) * inputs]) {
                *sum += left * f64::from(*right);
            }
        }
        addition.iter_mut().for_each(|addition| *addition *= scale);
        addition
    }
}

impl WeightChange for LowRankChange {
    /// Where the addition is exactly zero the value stays as it is: adding zero would turn −0 into
    /// +0.
    fn apply(&self, first: usize, values: &mut [f32], added: &mut [f32]) {
        let rows = values.par_chunks_mut(self.inputs).zip(added.par_chunks_mut(self.inputs));
        rows.enumerate().for_each(|(row, (values, added))| {
            let additions = self.row(first + row);
            for ((value, added), addition) in values.iter_mut().zip(added).zip(additions) {
                *added = 0.0;
                if addition != 0.0 {
                    #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
                    let (sum, change) = ((f64::from(*value) + addition) as f32, addition as f32);
                    *value = sum;
                    *added = change;
                }
            }
        });
    }
}
