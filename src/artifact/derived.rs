//! What merges and exports have in common: a new directory with its lineage, card, bill of
//! materials and signature, made from a finished model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::base_record::BaseRecord;
use super::bundle;
use super::card::{Card, Relation, Sample, id_of};
use super::keys::SigningKey;
use super::lineage::{ADAPTER_KEY, Inputs, RunRecord};
use super::logit_diff::LogitDiff;
use super::merge::other_base;
use super::origin::Origin;
use super::parent::{Parent, ParentSignature};
use super::past::LossChange;
use super::provenance::{Lineage, RunFacts};
use super::ready::{ReadyWeights, WeightParts};
use super::sbom;
use super::score_head;
use super::stack::gguf_of;
use crate::config::ScoreHead;
use crate::error::{Error, Result};
use crate::files::{FileEntry, hash_file, remove_dir};
use crate::hub::{InputTrust, Supply};
use crate::weights::formats::WeightFormat;

/// What is asked for, whatever is made.
pub struct Derivation<'a> {
    /// The model to begin with: an artifact, a run that has one, a directory, or one of a hub.
    pub model: &'a str,
    /// The base of an adapter, if it is not where the adapter says.
    pub base: Option<&'a str>,
    /// The directory to make.
    pub out: &'a Path,
    /// Who signs; nobody without one.
    pub key: Option<&'a SigningKey>,
    /// The state of the model's own signature.
    pub parent: ParentSignature,
    /// Whether a bill of materials goes along.
    pub sbom: bool,
    /// The present time, RFC 3339.
    pub time: &'a str,
    /// Where models come from.
    pub supply: &'a Arc<Supply>,
    /// Hears of what takes long.
    pub tell: &'a dyn Fn(&str),
}

/// What was made, for lineage and card.
pub struct Made {
    /// `merge` or `export`.
    pub method: &'static str,
    /// What it is to its base.
    pub relation: Relation,
    /// What the command line asked for besides the model.
    pub asked: BTreeMap<String, String>,
    /// The base's files, as read.
    pub base_files: Vec<FileEntry>,
    /// The adapter's weights, as read; those of several in the order in which they were added, and
    /// then the statement that says so.
    pub adapter_files: Vec<FileEntry>,
    /// How far a merged model is from its adapter, if it was looked at.
    pub logit_diff: Option<LogitDiff>,
    /// Validation loss of the base and of what was made, and on which data, if it was measured.
    pub loss: Option<LossChange>,
    /// The prompts of the run with the answers of the base and of what was made, likewise.
    pub samples: Vec<Sample>,
    /// What is told of a merged model beside its adapter, for people.
    pub beside: Vec<(String, String)>,
    /// Numbers by name, for the lineage.
    pub metrics: BTreeMap<String, f64>,
    /// What it scores in the place of tokens, if it does.
    pub head: Option<ScoreHead>,
    /// The file that an export is.
    pub exported: Option<String>,
}

impl Derivation<'_> {
    /// Makes the directory: `make` fills a scratch folder, which becomes `out` in one step, or is
    /// removed if anything fails.
    pub fn carry_out<T>(
        &self,
        make: impl FnOnce(&Path) -> Result<(Origin, Inputs, Made, T)>,
    ) -> Result<T> {
        let scratch = bundle::scratch(self.out)?;
        let result = make(&scratch).and_then(|(origin, inputs, made, value)| {
            self.seal(&scratch, &origin, &inputs, made)?;
            Ok(value)
        });
        if result.is_err() {
            let _ = remove_dir(&scratch);
        }
        result
    }

    /// Refuses to make what is there already.
    pub fn refuse_existing(&self) -> Result<()> {
        if self.out.symlink_metadata().is_ok() {
            return Err(Error::exists("refusing to replace what is already there").at(self.out));
        }
        Ok(())
    }

    /// The inputs of what is made.
    pub fn inputs(&self, origin: &Origin, made: &Made) -> Result<Inputs> {
        let mut overrides = made.asked.clone();
        let mut files = base_files_of(origin, made);
        let mut config = None;
        if let Some((_, settings)) = &origin.adapter {
            // Where the parent lies; the base is the adapter's own.
            overrides.insert(ADAPTER_KEY.to_owned(), self.model.to_owned());
            files.extend(made.adapter_files.clone());
            config = Some(settings);
        }
        // What decided the result: the adapter's settings, or else those of the model.
        let of_model = || files.iter().find(|file| file.path == "config.json");
        let config = config.or_else(of_model).expect("every model has its settings");
        Ok(Inputs::as_asked(&RunRecord {
            config: (config.path.clone(), config.sha256),
            overrides,
            method: made.method.to_owned(),
            base: BaseRecord {
                id: origin.base.id.clone(),
                revision: origin.base.commit().map(str::to_owned),
                parent: Parent::of(&origin.model.path, self.parent)?,
                gguf: gguf_of(origin.stack.as_ref(), &origin.base)?,
                files,
                trust: InputTrust::Tofu,
            },
            base_adapters: base_adapters_of(origin)?,
            start_adapter: None,
            teacher: None,
            datasets: Vec::new(),
            templates: Vec::new(),
            tokenizer: Vec::new(),
            resolved: BTreeMap::new(),
            settings: BTreeMap::new(),
            seed: 0,
            device: BTreeMap::new(),
            arithmetic: BTreeMap::new(),
            deterministic: true,
            lock: None,
            allowlist: None,
            source: None,
        }))
    }

    fn seal(&self, scratch: &Path, origin: &Origin, inputs: &Inputs, made: Made) -> Result<()> {
        let name = self.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let card = self.card(name, origin, inputs, &made)?;
        let logit_diff = made.logit_diff.iter().flat_map(LogitDiff::metrics);
        let metrics = logit_diff.chain(made.metrics.clone()).collect();
        let log = made.adapter_files.first().or(made.base_files.first());
        let facts = RunFacts {
            invocation_id: bundle::invocation_id(self.out),
            started: self.time.to_owned(),
            finished: self.time.to_owned(),
            versions: BTreeMap::new(),
            metrics,
            metrics_log: log.expect("a model has files").clone(),
            rollouts_log: None,
            checkpoints: Vec::new(),
            resumed: Vec::new(),
            reused: Vec::new(),
            gradient_check: None,
            result: None,
            changes: Vec::new(),
        };
        // The name of the model that it is made of is asked for and kept as it was given.
        let lineage = Lineage { inputs: inputs.clone(), asked: inputs.clone(), facts };
        if self.sbom {
            sbom::write(scratch, &card, &lineage)?;
        }
        bundle::seal(scratch, self.out, &card, &lineage, self.key)
    }

    fn card(&self, name: String, origin: &Origin, inputs: &Inputs, made: &Made) -> Result<Card> {
        let mut settings: Vec<_> = made.asked.clone().into_iter().collect();
        if origin.adapter.is_some() {
            settings.insert(0, (ADAPTER_KEY.to_owned(), self.model.to_owned()));
        }
        if origin.past.known {
            let text = match made.relation {
                Relation::Merge(_) => "data are those of the adapter's training, by its lineage",
                _ => "data and numbers are those of its training, as its lineage tells them",
            };
            settings.push(("training".to_owned(), text.to_owned()));
        }
        Ok(Card {
            name,
            relation: made.relation,
            base: origin.base.id.clone(),
            base_id: id_of(origin.named_base(), &origin.base),
            revision: origin.base.commit().map(str::to_owned),
            base_files: base_files_of(origin, made),
            base_adapters: base_adapters_of(origin)?,
            license: origin.past.license.clone(),
            datasets: origin.past.datasets.clone(),
            settings,
            loss: made.loss.clone(),
            judged: None,
            samples: made.samples.clone(),
            logit_diff: made.logit_diff.clone(),
            beside: made.beside.clone(),
            head: made.head.clone(),
            exported: made.exported.clone(),
            inputs: inputs.digest(),
            signer: self.key.map(|key| key.public().hint().to_owned()),
            versions: vec![("firebrand".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        })
    }
}

/// The files of the base without the adapters below.
fn base_files_of(origin: &Origin, made: &Made) -> Vec<FileEntry> {
    origin.stack.as_ref().map_or_else(|| made.base_files.clone(), |it| it.base_files.clone())
}

/// The adapters below.
fn base_adapters_of(origin: &Origin) -> Result<Vec<BaseRecord>> {
    let all = origin.stack.iter().flat_map(|stack| &stack.adapters);
    all.map(|it| it.record(InputTrust::Tofu, ParentSignature::Unchecked)).collect()
}

/// Opens the weights of a model, with its adapter if it is one and then `further` ones on top;
/// those of linear layers are what `linears` makes of them.
///
/// # Errors
/// When the base cannot be loaded, by its headers, or the adapter's file is broken.
pub fn open_weights(
    origin: &Origin,
    further: &[Origin],
    linears: Option<&'static dyn WeightFormat>,
) -> Result<ReadyWeights> {
    let all = std::iter::once(origin).chain(further);
    let of = |origin: &Origin| {
        let (adapter, _) = origin.adapter.as_ref()?;
        Some((origin.model.path.clone(), adapter.clone()))
    };
    let parts = WeightParts {
        base: &origin.base.path,
        expected: origin.expected(),
        adapters: all.filter_map(of).collect(),
        head: score_head::find(&origin.model.path)?,
    };
    let ready = parts.open(linears)?;
    let note = match (ready.note.clone(), origin.other_weights(linears)) {
        (Some(note), Some(more)) => Some(format!("{note}; {more}")),
        (note, more) => note.or(more),
    };
    Ok(ReadyWeights { note, ..ready })
}

/// The digest of a file of the base that is used besides its weights; it must be what the adapter's
/// lineage says, and what a hub listed.
pub fn hash_base_file(origin: &Origin, directory: &Path, name: &str) -> Result<FileEntry> {
    let file = hash_file(&directory.join(name), name)?;
    if origin.expected().get(name).is_some_and(|digest| *digest != file.sha256) {
        return Err(other_base(&origin.base.path, name));
    }
    Ok(file)
}
