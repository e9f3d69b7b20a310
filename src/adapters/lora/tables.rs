//! Low-rank factors beside matrices with a row for each token, which `target_modules` may name:
//! the embedding (`embed_tokens`) and an output head of its own (`lm_head`).

use burn::tensor::{Device, Tensor};

use super::settings::{InitLoraWeights, LoraSettings, TargetModules, fits};
use super::start::drawn;
use super::tokens::tables_of_rows;
use super::whole::whole_weights;
use super::{A, B, LowRankChange};
use crate::adapters::{Adapter, adapter_file_name, last_name};
use crate::error::{Error, Result};
use crate::model::{Description, LM_HEAD, Model, TableFactors, TableKind, token_rows_path};
use crate::ops::from_vec;
use crate::random::Stream;

/// Names of both factors beside an embedding, as PEFT has them.
pub const EMBEDDING_FACTORS: [&str; 2] = ["lora_embedding_A", "lora_embedding_B"];

/// A matrix that has factors beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoredTable {
    /// Its module.
    pub module: String,
    /// Which of the two it is.
    pub kind: TableKind,
    /// `[vocabulary, hidden]`.
    pub dims: [usize; 2],
}

/// What a name of `target_modules` may mean besides linear layers: modules of matrices with a row
/// for each token.
pub fn table_modules(description: &Description) -> [(&'static str, TableKind); 2] {
    let embedding = description.names.embedding;
    [(embedding, TableKind::Embedding), (LM_HEAD, TableKind::Head)].map(|(weight, kind)| {
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        (module, kind)
    })
}

/// Whether `target_modules` names a module.
pub fn names_module(settings: &LoraSettings, module: &str) -> bool {
    match &settings.target_modules {
        TargetModules::Names(names) => names.iter().any(|name| fits(module, name)),
        _ => false,
    }
}

/// Paths of both factors beside the matrix of a module.
pub fn factor_names(module: &str, kind: TableKind) -> [String; 2] {
    let names = match kind {
        TableKind::Head => [A, B],
        TableKind::Embedding => EMBEDDING_FACTORS,
    };
    names.map(|name| format!("{module}.{name}"))
}

/// The matrices with factors.
///
/// # Errors
/// When one that is named cannot have them.
pub fn factored_tables(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<FactoredTable>> {
    let mut tables = Vec::new();
    for (module, kind) in table_modules(description) {
        if names_module(adapter.settings(), module) {
            refuse(adapter, description, module)?;
            let dims = [description.vocabulary, description.hidden];
            tables.push(FactoredTable { module: module.to_owned(), kind, dims });
        }
    }
    Ok(tables)
}

fn refuse(adapter: &dyn Adapter, description: &Description, module: &str) -> Result<()> {
    let settings = adapter.settings();
    let name = last_name(module);
    let error = Error::adapter(format!("`{name}` in `lora.target_modules` cannot have an adapter"));
    let weight = format!("{module}.weight");
    if description.labels.is_some() {
        return Err(error.because("this model scores labels, not tokens"));
    }
    if description.tied {
        return Err(error
            .because("the output head of this model is its embedding, which factors would untie")
            .hint("train both with `lora.modules_to_save`, or rows with `lora.trainable_tokens`"));
    }
    if adapter.kind().name() != "lora" {
        let title = adapter.kind().label().title;
        return Err(error.because(format!("{title} is of linear layers alone here")));
    }
    if !matches!(settings.init_lora_weights, InitLoraWeights::Default | InitLoraWeights::Gaussian) {
        return Err(
            error.because("`lora.init_lora_weights` takes parts out of linear layers alone")
        );
    }
    if !settings.layers_to_transform.is_empty() {
        return Err(
            error.because("`lora.layers_to_transform` names decoder layers, and it is none")
        );
    }
    if settings.lora_dropout > 0.0 {
        return Err(error
            .because("`lora.lora_dropout` drops inputs of linear layers alone")
            .hint("set `lora.lora_dropout = 0`"));
    }
    if settings.loraplus_lr_ratio > 1.0 && weight != LM_HEAD {
        return Err(error.because("LoRA+ has a learning rate of its own for embeddings in PEFT"));
    }
    let whole = whole_weights(adapter, description)?.iter().any(|(path, _)| *path == weight);
    let rows = tables_of_rows(adapter, description)?.iter().any(|(path, _)| *path == weight);
    match whole || rows {
        true => Err(error.because("all of it, or rows of it, are trained already")),
        false => Ok(()),
    }
}

/// Paths and dimensions of the factors.
///
/// # Errors
/// Those of [`factored_tables`].
pub fn table_factors(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(String, [usize; 2])>> {
    let mut all = Vec::new();
    for FactoredTable { module, kind, dims } in factored_tables(adapter, description)? {
        let rank = adapter.settings().of_layer(&module).rank;
        all.extend(factor_names(&module, kind).into_iter().zip(kind.dims(dims, rank)));
    }
    Ok(all)
}

/// Puts factors beside them, as PEFT draws them: those of a head as of any linear layer, of the
/// embedding A zero and B normal.
pub fn put_beside_tables(model: &mut Model, adapter: &dyn Adapter, seed: Stream) -> Result<()> {
    for FactoredTable { module, kind, dims } in factored_tables(adapter, &model.description)? {
        let settings = adapter.settings();
        let layer = settings.of_layer(&module);
        let stream = seed.site("lora").site(&module);
        let factors = begin(settings, (kind, dims, layer.rank), stream, &model.device);
        let paths = factor_names(&module, kind);
        let factors = TableFactors::new(paths, kind, factors, layer.scale);
        let matrix = match (kind, &mut model.head.matrix) {
            (TableKind::Head, Some(matrix)) => matrix,
            _ => &mut model.embedding.matrix,
        };
        matrix.factors = Some(factors);
    }
    Ok(())
}

fn begin(
    settings: &LoraSettings,
    (kind, dims, rank): (TableKind, [usize; 2], usize),
    stream: Stream,
    device: &Device,
) -> [Tensor<2>; 2] {
    let [of_a, of_b] = kind.dims(dims, rank);
    match kind {
        TableKind::Head => {
            let a = drawn(settings, rank, dims[1], stream);
            [from_vec(a, of_a, device), Tensor::zeros(of_b, device)]
        }
        #[expect(clippy::cast_possible_truncation)] // weights are f32
        TableKind::Embedding => {
            let count = (of_b[0] * of_b[1]) as u64;
            let b = (0..count).map(|index| stream.normal(index) as f32).collect();
            [Tensor::zeros(of_a, device), from_vec(b, of_b, device)]
        }
    }
}

/// Whether `target_modules` names one of them, by its usual name.
pub fn names_tables(settings: &LoraSettings) -> bool {
    let TargetModules::Names(names) = &settings.target_modules else { return false };
    names.iter().any(|name| ["embed_tokens", "lm_head"].contains(&last_name(name)))
}

/// What merging makes of an embedding `[vocabulary, hidden]`, for its factors as files have them.
pub fn embedding_change(
    settings: &LoraSettings,
    module: &str,
    [rows, width]: [usize; 2],
    [a, b]: [&[f32]; 2],
) -> LowRankChange {
    let layer = settings.of_layer(module);
    let swapped = |values: &[f32], columns: usize| -> Vec<f32> {
        let column = |index| values.iter().skip(index).step_by(columns).copied();
        (0..columns).flat_map(column).collect()
    };
    let tensors = [(A, swapped(b, layer.rank)), (B, swapped(a, rows))];
    LowRankChange::new(tensors.into(), width, layer)
}

/// Whether a tensor of an adapter's file says once more what is elsewhere: the base's embedding or
/// head, which PEFT saves along where these have factors or more rows (`save_embedding_layers`), or
/// rows of a head that is the embedding.
pub fn is_copy_of_table(name: &str, description: &Description) -> bool {
    let within = [".embed_tokens", ".lm_head"];
    let copies = [".base_layer.weight", ".token_adapter.base_layer.weight"];
    let is_base = copies
        .iter()
        .filter_map(|end| name.strip_suffix(end))
        .any(|module| within.iter().any(|table| module.ends_with(table)));
    is_base || description.tied && name == adapter_file_name(&token_rows_path(LM_HEAD))
}
