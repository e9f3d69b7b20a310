//! LoRA (Hu et al. 2021) as a side path `s·(x·Aᵀ)·Bᵀ`, with the names and initial values of PEFT.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::config::{LoraConfig, TargetModules};
use crate::error::{Error, Result, nearest};
use crate::model::{Context, Dropout, Facts, Linear, Model, Parameter, SidePath, Visitor};
use crate::ops::cpu::{Held, LowRank};
use crate::ops::{from_vec, project};
use crate::random::Stream;

/// Names of the two matrices, as PEFT has them.
const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";

/// The factor `s`: `lora_alpha / r`, or `lora_alpha / √r` when rank-stabilised
/// (Kalajdzievski 2023).
#[expect(clippy::cast_precision_loss)] // ranks are small
pub fn scale(settings: &LoraConfig) -> f64 {
    let rank = settings.r as f64;
    settings.lora_alpha / if settings.use_rslora { rank.sqrt() } else { rank }
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

/// Low-rank addition beside one linear layer.
#[derive(Debug, Clone)]
pub struct Lora {
    /// `lora_A.weight`, `[r, in]`.
    pub a: Parameter<2>,
    /// `lora_B.weight`, `[out, r]`.
    pub b: Parameter<2>,
    /// The factor `s`.
    pub scale: f64,
    dropout: f64,
    /// Module path of the linear layer, which names the dropout's random stream.
    path: String,
}

impl Lora {
    /// A drawn from U(−1/√in, 1/√in), which is what PEFT's Kaiming initialisation with a = √5
    /// comes to; B zero, so that training starts at the base model.
    pub fn new(
        path: &str,
        dims: [usize; 2],
        settings: &LoraConfig,
        seed: Stream,
        device: &Device,
    ) -> Self {
        let [outputs, inputs] = dims;
        #[expect(clippy::cast_precision_loss)] // widths are small
        let bound = 1.0 / (inputs as f64).sqrt();
        let stream = seed.site("lora").site(path);
        #[expect(clippy::cast_possible_truncation)] // weights are f32
        let a = (0..(settings.r * inputs) as u64)
            .map(|index| ((2.0 * stream.uniform(index) - 1.0) * bound) as f32)
            .collect();
        let learning = |value| Parameter { value, learns: true };
        Self {
            a: learning(from_vec(a, [settings.r, inputs], device)),
            b: learning(Tensor::zeros([outputs, settings.r], device)),
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
}

impl SidePath for Lora {
    fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let x = match &context.dropout {
            Some(dropout) if self.dropout > 0.0 => {
                let mask = self.dropout_mask(x.dims(), dropout);
                x.clone() * from_vec(mask, x.dims(), &self.a.value.device().inner())
            }
            _ => x,
        };
        let narrow = project(x, self.a.value.clone(), context.computing); // [tokens, r]
        project(narrow, self.b.value.clone(), context.computing).mul_scalar(self.scale)
    }

    fn drops(&self) -> bool {
        self.dropout > 0.0
    }

    fn low_rank(&self, context: &Context) -> Option<LowRank> {
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

    fn tracked(&self) -> Box<dyn SidePath> {
        Box::new(Self { a: self.a.tracked(), b: self.b.tracked(), ..self.clone() })
    }
}

/// The linear layers that get a side path, with their `[out, in]`.
///
/// # Errors
/// When a name of `target_modules` fits no layer; all such names are reported.
pub fn targets(facts: &Facts, settings: &LoraConfig) -> Result<Vec<(String, [usize; 2])>> {
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

/// How many numbers an adapter has: `r · (in + out)` beside each of its layers.
pub fn size(targets: &[(String, [usize; 2])], settings: &LoraConfig) -> u64 {
    targets.iter().map(|(_, [outputs, inputs])| (settings.r * (inputs + outputs)) as u64).sum()
}

/// Puts an adapter beside every wanted linear layer; returns their module names, sorted.
pub fn attach(model: &mut Model, settings: &LoraConfig, seed: Stream) -> Result<Vec<String>> {
    let targets = targets(&model.facts, settings)?;
    let names: BTreeSet<_> = targets.iter().map(|(path, _)| last_name(path).to_owned()).collect();
    let device = model.device.clone();
    model.linears(&mut |path, linear: &mut Linear| {
        if wants(settings, path) {
            let dims = linear.weight.value.dims();
            linear.side = Some(Box::new(Lora::new(path, dims, settings, seed, &device)));
        }
    });
    Ok(names.into_iter().collect())
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
