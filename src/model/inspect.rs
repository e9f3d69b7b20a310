//! A model directory, looked at without reading its weights: whatever cannot be loaded is refused
//! here, before anything is allocated for it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::event::bytes;
use crate::model::{Description, LM_HEAD, ModelJson, SCORE, families};
use crate::weights::ggml::TensorType;
use crate::weights::{Headers, TensorPlace};

/// A model whose weights are there, whole, and those that its configuration asks for.
pub struct Inspected {
    /// Its `config.json`, as the weights have it: see [`ModelJson::untied`].
    pub config: ModelJson,
    /// What it is made of.
    pub description: Description,
    /// What its weight files hold.
    pub headers: Headers,
}

impl Inspected {
    /// What a user should know about the model.
    pub fn note(&self) -> Option<String> {
        let untied = self.config.untied.then(|| {
            format!(
                "`config.json` says that the output projection is the embedding, but the weights \
                 hold another one, `{LM_HEAD}`: it is used, as transformers does"
            )
        });
        let names = self.description.names;
        let others = self.headers.others().iter().map(|found| &found.place);
        let (unused, others): (Vec<_>, Vec<_>) =
            others.partition(|place| names.is_unused(&place.name));
        let size = |places: &[&TensorPlace]| bytes(places.iter().map(|place| place.bytes).sum());
        let rest = (!others.is_empty()).then(|| {
            let (count, size, names) = (others.len(), size(&others), names.others.join("`, `"));
            format!(
                "the checkpoint holds more than a text model: {count} tensors ({size}) of \
                 `{names}` are not trained and stay as they are"
            )
        });
        let unused = (!unused.is_empty()).then(|| {
            let size = size(&unused);
            format!("keys and values that no layer uses stay as they are, too: tensors of {size}")
        });
        let of_config = [self.config.own_code_note(), self.config.dropout_note()];
        let notes: Vec<String> =
            of_config.into_iter().flatten().chain(untied).chain(rest).chain(unused).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// Looks at a model directory.
///
/// A stored output projection that equals the embedding is a copy of it, as some exporters write
/// one; one that differs is used, whatever `config.json` says, as transformers does since 5.8
/// (`PreTrainedModel.tie_weights`).
///
/// # Errors
/// Names the file and the tensor, what was expected and what was found.
pub fn inspect(directory: &Path) -> Result<Inspected> {
    inspect_for(directory, None)
}

/// The same of a model that is to score so many labels, whether its weights have a head for that or
/// not.
///
/// # Errors
/// Those of [`inspect`], and where its head scores another number of labels.
pub fn inspect_for(directory: &Path, labels: Option<usize>) -> Result<Inspected> {
    let mut config = ModelJson::read(directory)?;
    if let Some(labels) = labels {
        config.score(labels)?;
    }
    let mut description = families::describe(&config)?;
    let headers = Headers::read(directory)?;
    description.fit_names(headers.names());
    let names = description.names;
    let headers = headers.renamed(|name| names.path_of(name))?.joined()?;
    let other_experts = description
        .first_expert()
        .is_some_and(|(one, other)| headers.get(&one).is_none() && headers.get(&other).is_some());
    if other_experts {
        description = description.with_other_experts();
    }
    // Shapes first: what is compared after that is as large as the files are.
    let mut needed = description.tensors();
    if description.tied && headers.get(LM_HEAD).is_some() {
        needed.push((LM_HEAD.to_owned(), vec![description.vocabulary, description.hidden]));
    }
    if labels.is_some() && headers.get(SCORE).is_none() {
        needed.retain(|(name, _)| name != SCORE); // it begins with the run
    }
    let scores = description.labels.is_some();
    headers.fit(&needed, |name| is_buffer(name) || (scores && name == LM_HEAD))?;
    if description.tied
        && headers.get(LM_HEAD).is_some()
        && !headers.equal(names.embedding, LM_HEAD)?
    {
        config.untie();
        description = families::describe(&config)?;
        if other_experts {
            description = description.with_other_experts();
        }
    }
    for (name, state) in headers.coded() {
        let path = name.strip_suffix(".weight").unwrap_or(name);
        if !description.linears.iter().any(|(linear, _)| linear == path) {
            let what = format!("`{name}` is in four bits of bitsandbytes");
            return Err(Error::model(what)
                .at(directory)
                .because("only linear layers of the decoder may be coded so")
                .hint("use the unquantised version of the model"));
        }
        description.coded_linears.insert(path.to_owned(), state.bytes());
    }
    description.in_blocks = in_blocks(&headers, &description);
    Ok(Inspected { config, description, headers })
}

/// The matrices that may be kept in blocks.
fn in_blocks(
    headers: &Headers,
    description: &Description,
) -> BTreeMap<String, (&'static TensorType, u64)> {
    let blocks = |path: &str| {
        let place = &headers.get(path)?.place;
        Some((place.blocks?, place.shape.iter().product::<usize>() as u64))
    };
    let all = headers.names().filter_map(|path| Some((path.to_owned(), blocks(path)?)));
    all.filter(|(path, _)| description.keeps_blocks_of(path)).collect()
}

/// A buffer of old exports that the configuration already determines.
pub(super) fn is_buffer(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}
