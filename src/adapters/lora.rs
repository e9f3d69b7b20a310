//! LoRA (Hu et al. 2021): `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`, with the names and initial values of PEFT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{Adapter, AdapterKind, Label, WeightChange, last_name};
use crate::config::{LoraConfig, RunConfig, TargetModules};
use crate::error::{Error, Result, nearest};
use crate::model::{AdapterBranch, Context, Dropout, Facts, Linear, Parameter, Visitor};
use crate::ops::cpu::{Held, LowRank};
use crate::ops::{from_vec, project};
use crate::random::Stream;

/// Names of the two matrices, as PEFT has them.
pub(super) const A: &str = "lora_A.weight";
pub(super) const B: &str = "lora_B.weight";

/// Limits of an `adapter_config.json`, as those of `[lora]`; its weights must fit them besides.
const RANK_MAX: usize = 65_536;
const ALPHA_MAX: f64 = 1e6;
const MODULES_MAX: usize = 4096;

/// The entry.
#[derive(Debug)]
pub(super) struct Kind;

impl AdapterKind for Kind {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn label(&self) -> Label {
        Label { title: "LoRA", tags: &["lora"] }
    }

    fn asked_by(&self) -> &'static str {
        "a `[lora]` section"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &[A, B]
    }

    fn of_run(&self, config: &RunConfig) -> Option<Arc<dyn Adapter>> {
        let settings = config.lora.clone()?;
        Some(Arc::new(Lora { settings }))
    }

    fn of_peft(&self, json: &Map<String, Value>) -> Result<Option<Arc<dyn Adapter>>> {
        match read_peft(json)? {
            Some(settings) => Ok(Some(Arc::new(Lora { settings }))),
            None => Ok(None),
        }
    }

    fn sample(&self) -> Arc<dyn Adapter> {
        Arc::new(Lora { settings: sample_settings() })
    }
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rank, scale and layers.
    pub settings: LoraConfig,
}

impl Adapter for Lora {
    fn kind(&self) -> &'static dyn AdapterKind {
        &Kind
    }

    fn describe(&self) -> String {
        describe("LoRA", &self.settings)
    }

    fn layers(&self, facts: &Facts) -> Result<Vec<(String, [usize; 2])>> {
        layers(&self.settings, facts)
    }

    fn tensors(&self, [outputs, inputs]: [usize; 2]) -> Vec<(&'static str, Vec<usize>)> {
        let rank = self.settings.r;
        vec![(A, vec![rank, inputs]), (B, vec![outputs, rank])]
    }

    fn beside(
        &self,
        path: &str,
        linear: &Linear,
        seed: Stream,
        device: &Device,
    ) -> Box<dyn AdapterBranch> {
        Box::new(Branch::new(path, linear.dims(), &self.settings, seed, device))
    }

    fn change(
        &self,
        [_, inputs]: [usize; 2],
        tensors: BTreeMap<&'static str, Vec<f32>>,
    ) -> Box<dyn WeightChange> {
        Box::new(LowRankChange::new(tensors, inputs, &self.settings))
    }

    fn to_peft(&self, modules: &BTreeSet<String>) -> Map<String, Value> {
        to_peft(&self.settings, modules)
    }
}

/// The factor `s`: `lora_alpha / r`, or `lora_alpha / √r` when rank-stabilised
/// (Kalajdzievski 2023).
#[expect(clippy::cast_precision_loss)] // ranks are small
pub(super) fn scale(settings: &LoraConfig) -> f64 {
    let rank = settings.r as f64;
    settings.lora_alpha / if settings.use_rslora { rank.sqrt() } else { rank }
}

pub(super) fn describe(title: &str, settings: &LoraConfig) -> String {
    let layers = match &settings.target_modules {
        TargetModules::AllLinear => "all linear layers".to_owned(),
        TargetModules::Names(names) => names.join(", "),
    };
    format!("{title} r {} on {layers}", settings.r)
}

pub(super) fn sample_settings() -> LoraConfig {
    LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: TargetModules::AllLinear,
        use_rslora: false,
    }
}

/// Does a name of `target_modules` mean the layer at `path`?
fn fits(path: &str, name: &str) -> bool {
    path == name || path.ends_with(&format!(".{name}"))
}

fn wants(settings: &LoraConfig, path: &str) -> bool {
    match &settings.target_modules {
        TargetModules::AllLinear => true,
        TargetModules::Names(names) => names.iter().any(|name| fits(path, name)),
    }
}

/// The layers that `target_modules` means. All names that fit none are reported.
pub(super) fn layers(settings: &LoraConfig, facts: &Facts) -> Result<Vec<(String, [usize; 2])>> {
    if let TargetModules::Names(names) = &settings.target_modules {
        let known: BTreeSet<&str> = facts.linears.iter().map(|(path, _)| last_name(path)).collect();
        let unused =
            |name: &&String| !facts.linears.iter().any(|(path, _)| fits(path, name.as_str()));
        let problems = names.iter().filter(unused).map(|name| {
            let error = Error::new(format!("`{name}` in `lora.target_modules` fits no layer"));
            match nearest(name, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the model has: {}", join(&known))),
            }
        });
        if let Some(error) = Error::all(problems.collect()) {
            return Err(error);
        }
    }
    Ok(facts.linears.iter().filter(|(path, _)| wants(settings, path)).cloned().collect())
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
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
}

impl Branch {
    /// A drawn from U(−1/√in, 1/√in), which is what PEFT's Kaiming initialisation with a = √5
    /// comes to; B zero, so that training starts at the base model.
    pub(super) fn new(
        path: &str,
        [outputs, inputs]: [usize; 2],
        settings: &LoraConfig,
        seed: Stream,
        device: &Device,
    ) -> Self {
        #[expect(clippy::cast_precision_loss)] // widths are small
        let bound = 1.0 / (inputs as f64).sqrt();
        let stream = seed.site("lora").site(path);
        #[expect(clippy::cast_possible_truncation)] // weights are f32
        let a = (0..(settings.r * inputs) as u64)
            .map(|index| ((2.0 * stream.uniform(index) - 1.0) * bound) as f32)
            .collect();
        let trainable = |value| Parameter { value, learns: true };
        Self {
            a: trainable(from_vec(a, [settings.r, inputs], device)),
            b: trainable(Tensor::zeros([outputs, settings.r], device)),
            scale: scale(settings),
            dropout: settings.lora_dropout,
            path: path.to_owned(),
        }
    }

    /// Zero for dropped inputs, 1 / (1 − p) for the others: a pure function of run, step,
    /// micro-batch and layer, so that a recomputed forward drops the same ones.
    fn dropout_mask(&self, dims: [usize; 2], dropout: &Dropout) -> Vec<f32> {
        let stream = dropout.stream.site(&self.path);
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let keep = (1.0 / (1.0 - self.dropout)) as f32;
        let mut mask = vec![0.0; dims[0] * dims[1]];
        mask.par_chunks_mut(dims[1].max(1)).enumerate().for_each(|(token, row)| {
            let Some(number) = dropout.number(token) else { return };
            for (kept, index) in row.iter_mut().zip((number * dims[1]) as u64..) {
                *kept = if stream.uniform(index) < self.dropout { 0.0 } else { keep };
            }
        });
        mask
    }

    /// The inputs of the factors, where some are dropped.
    pub(super) fn dropped(&self, x: &Tensor<2>, context: &Context) -> Option<Tensor<2>> {
        let dropout = context.dropout.as_ref().filter(|_| self.dropout > 0.0)?;
        let mask = self.dropout_mask(x.dims(), dropout);
        Some(x.clone() * from_vec(mask, x.dims(), &self.a.value.device().inner()))
    }

    /// `s·(x·Aᵀ)·Bᵀ`.
    pub(super) fn low_rank_of(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let hidden = project(x, self.a.value.clone(), context.computing); // [tokens, r]
        project(hidden, self.b.value.clone(), context.computing).mul_scalar(self.scale)
    }
}

impl AdapterBranch for Branch {
    fn forward(&self, x: Tensor<2>, linear: &Linear, context: &Context) -> Tensor<2> {
        let y = linear.frozen(x.clone(), context);
        let x = self.dropped(&x, context).unwrap_or(x);
        y + self.low_rank_of(x, context)
    }

    fn drops(&self) -> bool {
        self.dropout > 0.0
    }

    fn low_rank(&self, _: &Held, context: &Context) -> Option<LowRank> {
        let (a, b) = (Held::of(&self.a.value)?, Held::of(&self.b.value)?);
        let dims = [context.documents.rows * context.documents.length, a.columns()];
        let dropped = context.dropout.as_ref().filter(|_| self.dropout > 0.0);
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let scale = self.scale as f32;
        let mask = dropped.map(|dropout| self.dropout_mask(dims, dropout));
        Some(LowRank { names: [A, B], a, b, scale, mask })
    }

    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        visitor.matrix(&format!("{path}.{A}"), &mut self.a);
        visitor.matrix(&format!("{path}.{B}"), &mut self.b);
    }

    fn tracked(&self) -> Box<dyn AdapterBranch> {
        Box::new(Self { a: self.a.tracked(), b: self.b.tracked(), ..self.clone() })
    }
}

/// `W + s·B·A`.
pub(super) struct LowRankChange {
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
        settings: &LoraConfig,
    ) -> Self {
        let mut take = |name| tensors.remove(name).expect("both factors are given");
        Self { a: take(A), b: take(B), rank: settings.r, inputs, scale: scale(settings) }
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

/// PEFT's `LoraConfig`, without what every adapter has.
pub(super) fn to_peft(settings: &LoraConfig, modules: &BTreeSet<String>) -> Map<String, Value> {
    let value = json!({
        "peft_type": "LORA",
        "r": settings.r,
        "lora_alpha": number(settings.lora_alpha),
        "lora_dropout": settings.lora_dropout,
        "target_modules": modules,
        "use_rslora": settings.use_rslora,
        "exclude_modules": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_dora": false,
        "lora_bias": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "layer_replication": null,
        "trainable_token_indices": null,
        "target_parameters": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "loftq_config": {},
        "eva_config": null,
        "corda_config": null,
    });
    let Value::Object(map) = value else { unreachable!("it is written as an object") };
    map
}

/// PEFT declares `lora_alpha` as an integer; other readers insist on it where it is one.
fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)] // below 2^53 a whole number converts exactly
    if value.fract() == 0.0 && value.abs() < 9.0e15 { json!(value as i64) } else { json!(value) }
}

/// The settings in PEFT's `LoraConfig`; none if it is one of another type.
pub(super) fn read_peft(json: &Map<String, Value>) -> Result<Option<LoraConfig>> {
    let of = |key: &str| json.get(key).unwrap_or(&Value::Null);
    if of("peft_type") != "LORA" {
        return Ok(None);
    }
    let wrong = |what: &str| Err(Error::new(what));
    for key in ["use_dora", "fan_in_fan_out", "lora_bias"] {
        if *of(key) == true {
            return wrong(&format!("adapters with `{key}` are not supported"));
        }
    }
    if !(of("use_rslora").is_boolean() || of("use_rslora").is_null()) {
        return wrong("`use_rslora` must be true or false");
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        if of(key).as_object().is_some_and(|map| !map.is_empty()) {
            return wrong(&format!("adapters with a `{key}` are not supported"));
        }
    }
    let rank = of("r").as_u64().and_then(|r| usize::try_from(r).ok());
    let Some(r) = rank.filter(|r| (1..=RANK_MAX).contains(r)) else {
        let found = shown(of("r"));
        return wrong(&format!("`r` must be between 1 and {RANK_MAX}, and it {found}"));
    };
    let alpha = of("lora_alpha").as_f64().filter(|alpha| alpha.abs() <= ALPHA_MAX);
    let Some(lora_alpha) = alpha else {
        let found = shown(of("lora_alpha"));
        return wrong(&format!("`lora_alpha` must be a number up to {ALPHA_MAX}, and it {found}"));
    };
    let Some(target_modules) = target_modules(of("target_modules")) else {
        return wrong("`target_modules` is neither a list of names nor `all-linear`");
    };
    let use_rslora = *of("use_rslora") == true;
    // Dropout acts in training only.
    Ok(Some(LoraConfig { r, lora_alpha, lora_dropout: 0.0, target_modules, use_rslora }))
}

/// What stands in place of what is wanted.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "is missing".to_owned(),
        Value::Number(number) => format!("is {number}"),
        _ => "is no number".to_owned(),
    }
}

fn target_modules(value: &Value) -> Option<TargetModules> {
    match value {
        Value::String(name) if name == "all-linear" => Some(TargetModules::AllLinear),
        Value::Array(names) if names.len() <= MODULES_MAX => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<_>>().map(TargetModules::Names)
        }
        _ => None,
    }
}
