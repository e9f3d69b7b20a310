//! The adapter that a run starts from (`model.adapter`) in place of a new one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::adapters::{self, Adapter};
use crate::artifact::adapter_directory::{AdapterDirectory, read_weights};
use crate::artifact::base_record::BaseRecord;
use crate::artifact::merge::other_base;
use crate::artifact::open;
use crate::artifact::past::Past;
use crate::artifact::peft;
use crate::config::RunConfig;
use crate::data::{AddedTokenId, BaseTokenizer, Tokenizer};
use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, FileEntry, has_file, hash_file};
use crate::hub::{ModelDirectory, Supply};
use crate::model::{Description, Model};
use crate::train::approval::Approval;
use crate::train::base_adapters::RunStack;
use crate::train::base_signature::{BaseSignature, base_signature, recorded};

/// The adapter of a run, and the one whose values it begins with.
///
/// # Errors
/// Those of [`StartAdapter::find`].
pub fn adapters_of(
    config: &RunConfig,
    supply: &Supply,
    (tokenizer, description): (&BaseTokenizer, &Description),
    approval: &Approval,
) -> Result<(Option<Arc<dyn Adapter>>, Option<StartAdapter>)> {
    let mut adapter = adapters::of_run_on(config, (tokenizer, description))?;
    let on = (tokenizer, description);
    let start = StartAdapter::find(config, supply, &mut adapter, on, approval)?;
    Ok((adapter, start))
}

/// An adapter that is there, with the settings of the run.
pub struct StartAdapter {
    directory: ModelDirectory,
    /// Its settings and its weights.
    files: Vec<FileEntry>,
    signed: BaseSignature,
    /// What is known of the run that made it.
    past: Past,
    record: BaseRecord,
}

impl StartAdapter {
    /// Finds the adapter that a configuration names, and compares its settings with those of the
    /// run, which has the same tokens in the same order then.
    ///
    /// # Errors
    /// When there is none, it is not allowed, or it is another than the run trains.
    fn find(
        config: &RunConfig,
        supply: &Supply,
        adapter: &mut Option<Arc<dyn Adapter>>,
        (tokenizer, description): (&BaseTokenizer, &Description),
        approval: &Approval,
    ) -> Result<Option<Self>> {
        let Some(name) = &config.model.adapter else { return Ok(None) };
        let Some(own) = adapter else {
            let what = "`model.adapter` requires adapters to be trained";
            return Err(Error::config(what)
                .because("without them all parameters of the base are trained")
                .hint(format!(
                    "add {}; `firebrand merge` makes a base of an adapter",
                    adapters::asked_by()
                )));
        };
        if own.changes_base() {
            let what = "`model.adapter` cannot be used with another start of the adapter";
            return Err(Error::config(what)
                .because("the settings say how a new one begins, and this one begins as it is")
                .hint("leave `init_lora_weights` out"));
        }
        let directory = supply.named(name)?;
        if !directory.adapter {
            let what = format!("`{name}` is a whole model, not an adapter");
            return Err(Error::config(what).at(&directory.path).hint("name it in `model.base`"));
        }
        let signed = base_signature(&directory.path)?;
        let (found, settings) = AdapterDirectory::read_hashed(&directory.path)?;
        *own = adapters::in_order_of(own.clone(), found.adapter.as_ref());
        refuse_other(own.as_ref(), found.adapter.as_ref(), description)
            .map_err(|error| error.at(directory.path.join(peft::CONFIG_FILE)))?;
        refuse_other_tokens(&directory.path, tokenizer)?;
        let weights = hash_file(&directory.path.join(peft::WEIGHTS_FILE), peft::WEIGHTS_FILE)?;
        let files = vec![settings, weights];
        let record = recorded(&directory, &files, &signed, approval)?;
        let past = Past::read(&directory.path)?;
        Ok(Some(Self { directory, files, signed, past, record }))
    }

    /// As the lineage has it.
    pub fn record(&self) -> &BaseRecord {
        &self.record
    }

    /// The digests of its files.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.files.iter().map(|file| file.sha256)
    }

    /// It must have been trained on the adapters that the run merges into its base, if on any.
    ///
    /// # Errors
    /// When it was trained on others.
    pub fn refuse_other_below(&self, stack: Option<&RunStack>) -> Result<()> {
        let stated = &self.past.base_adapters;
        let same = match stack {
            Some(of) => of.stack.is_of(stated) || !self.past.known,
            None => stated.is_empty(),
        };
        if same {
            return Ok(());
        }
        let names: Vec<String> = stated.iter().map(|it| format!("`{}`", it.id)).collect();
        let below = match names.as_slice() {
            [] => "the base alone".to_owned(),
            names => names.join(", then "),
        };
        let what = "`model.adapter` was trained on other adapters than `model.base_adapters`";
        Err(Error::refused(ErrorCode::Adapter, what)
            .at(&self.directory.path)
            .because(format!("by its lineage it stands on {below}"))
            .hint("name what it stands on, in this order"))
    }

    /// Gives its values to the adapter of a model that was made of the files `base`.
    ///
    /// # Errors
    /// When it does not fit, was changed meanwhile, or was trained on another base.
    pub fn put(&self, model: &mut Model, adapter: &dyn Adapter, base: &[FileEntry]) -> Result<()> {
        let trained_on = &self.past.base_files;
        let other = |file: &&FileEntry| {
            trained_on.get(&file.path).is_some_and(|digest| *digest != file.sha256)
        };
        if let Some(file) = base.iter().find(other) {
            let path = &self.directory.path;
            return Err(other_base(path, &file.path)
                .because("`model.adapter` was trained on a file of other bytes"));
        }
        let path = &self.directory.path;
        let shard = read_weights(path, adapter, &model.description)?;
        self.signed.expect(path, &shard.entry)?;
        if !self.digests().any(|digest| digest == shard.entry.sha256) {
            let what = "the file changed after it was checked";
            return Err(Error::refused(ErrorCode::Changed, what).at(path.join(&shard.entry.path)));
        }
        open::put_weights(model, &shard, adapter).map_err(|error| error.at(path))
    }
}

/// Rows are those of the same texts: tokens that the run adds have the ids that they had there.
fn refuse_other_tokens(adapter: &Path, tokenizer: &BaseTokenizer) -> Result<()> {
    if tokenizer.added().is_empty() || !has_file(&adapter.join("tokenizer.json"))? {
        return Ok(());
    }
    let (ours, theirs) = (tokenizer.get()?, Tokenizer::load(adapter)?);
    let differs = |token: &&AddedTokenId| theirs.token_id(&token.text) != Some(token.id);
    let Some(token) = ours.added().iter().find(differs) else { return Ok(()) };
    let (text, id) = (token.text.escape_debug(), token.id);
    let there = match theirs.token_name(id) {
        Some(name) => format!("there {id} is `{}`", name.escape_debug()),
        None => format!("there is no {id} there"),
    };
    Err(Error::adapter(format!("the adapter was trained with other tokens than `{text}` ({id})"))
        .at(adapter)
        .because(there)
        .hint("add the tokens that it has, in its order"))
}

/// Both must be of one kind, beside the same layers, with the same settings, as PEFT has them.
fn refuse_other(own: &dyn Adapter, found: &dyn Adapter, description: &Description) -> Result<()> {
    let (own_name, name) = (own.kind().label().title, found.kind().label().title);
    if own_name != name {
        let what = format!("the adapter is {name}, and the run trains {own_name}");
        return Err(
            Error::adapter(what).hint(format!("ask for it with {}", found.kind().asked_by()))
        );
    }
    let layers = |adapter: &dyn Adapter| -> Result<BTreeSet<String>> {
        Ok(adapter.layers(description)?.into_iter().map(|(path, _)| path).collect())
    };
    let (ours, theirs) = (layers(own)?, layers(found)?);
    if ours != theirs {
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).next().cloned();
        let why = match (only(&theirs, &ours), only(&ours, &theirs)) {
            (Some(path), _) => {
                format!("the adapter stands beside `{path}`, and the run's does not")
            }
            (None, path) => format!(
                "the run's adapter stands beside `{}`, and this one does not",
                path.unwrap_or_default()
            ),
        };
        let what = "the adapter stands beside other layers than the run asks for";
        return Err(Error::adapter(what)
            .because(why)
            .hint(format!("the adapter is: {}; write these settings", found.describe())));
    }
    let modules = BTreeSet::new();
    let (ours, theirs) = (own.to_peft(&modules), found.to_peft(&modules));
    let differ = |key: &&String| ours.get(*key) != theirs.get(*key);
    let compared = ours.keys().filter(|key| !own.training_keys().contains(&key.as_str()));
    let problems = compared.filter(differ).map(|key| {
        let shown = |map: &Map<String, Value>| map.get(key).unwrap_or(&Value::Null).to_string();
        let (ours, theirs) = (shown(&ours), shown(&theirs));
        Error::adapter(format!("`{key}` is {theirs} in the adapter, and {ours} in the run"))
            .hint("both must be the same: write it as the adapter has it")
    });
    Error::all(problems.collect()).map_or(Ok(()), Err)
}
