//! The ancestry of an artifact: its own lineage, and that of the artifacts it was made from.
//!
//! A lineage records the digest of its parent's statement. A parent is looked for where it lay at
//! the time, and counts only if its statement has that digest: a name alone proves nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::report::Verdict;
use super::{Trust, verify};
use crate::artifact::base_adapters;
use crate::artifact::lineage::{ADAPTER_KEY, PREDICATE_TYPE};
use crate::artifact::parent::STATEMENT_FILE;
use crate::artifact::provenance;
use crate::artifact::signature::STATEMENT_TYPE;
use crate::error::{Context, Error, Result};
use crate::files::{self, Digest};
use crate::hub::{self, Hub, RepoKind, RepoName, Settings};

/// The largest statement that is read.
const MAX_BYTES: u64 = 64 << 20;
/// How many generations are followed.
const MAX_GENERATIONS: usize = 16;
/// How many folders above an artifact a relative name is tried from.
const MAX_ABOVE: usize = 8;

/// An artifact, as its lineage tells of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ancestry {
    /// Where it lies.
    pub directory: PathBuf,
    /// The digest of its statement.
    pub statement: Digest,
    /// What its signature is worth, by the keys that the user trusts.
    pub signature: Verdict,
    /// The kind of adapter, `full`, `from-random-weights`, `merge` or `export`.
    pub method: String,
    /// The model that it was made from.
    pub base: Base,
    /// What it was trained on.
    pub datasets: Vec<Item>,
    /// The configuration, and what the command line changed in it.
    pub config: Vec<Item>,
    /// What was changed on the command line.
    pub overrides: Map<String, Value>,
    /// The state of the user's repository.
    pub source: Vec<Item>,
    /// Where it was computed.
    pub device: Map<String, Value>,
    /// Whether the same inputs give the same bytes there.
    pub deterministic: Option<bool>,
    /// The seed of all random numbers.
    pub seed: Option<String>,
    /// Tokenizer and chat template.
    pub text: Vec<Item>,
    /// Which programs made it.
    pub versions: Map<String, Value>,
    /// When it was begun and finished.
    pub time: [Option<String>; 2],
    /// Its last numbers.
    pub metrics: Map<String, Value>,
    /// Checkpoints written, resumed from and reused, and changes on the way.
    pub events: Vec<Item>,
    /// The artifact that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Parent>>,
}

/// The model that a run began with.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Base {
    /// As the user named it.
    pub id: String,
    /// The commit, if it came from a hub.
    pub revision: Option<String>,
    /// Its files.
    pub files: Vec<Item>,
}

/// Something with a digest, and what is noted of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is in the lineage.
    pub role: String,
    /// Its digests, by algorithm.
    pub digest: Map<String, Value>,
    /// Everything else that is noted.
    pub notes: Map<String, Value>,
}

/// The parent, as recorded and as found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parent {
    /// The name that the artifact had.
    pub name: String,
    /// The digest that its statement had.
    pub statement: String,
    /// What its signature was worth then.
    pub signature: Option<String>,
    /// Whether it was found, and is the one that was recorded.
    pub found: ParentState,
    /// Why it is not shown, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its own family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Ancestry>,
}

/// What became of a recorded parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParentState {
    /// The very one that was recorded.
    Same,
    /// Another statement lies in its place.
    Other,
    /// Nothing lies there.
    Missing,
    /// It was not looked for: the tree is too deep, or turns in a circle.
    NotFollowed,
}

impl Ancestry {
    /// Whether all that was found is what was recorded and signed.
    pub fn is_sound(&self) -> bool {
        let own = self.signature != Verdict::Tampered;
        own && self.parent.as_ref().is_none_or(|parent| {
            parent.found != ParentState::Other
                && parent.problem.as_ref().is_none_or(|_| parent.found != ParentState::Same)
                && parent.family.as_ref().is_none_or(Self::is_sound)
        })
    }
}

/// Reads the family of the artifact in a directory.
///
/// # Errors
/// When it has no lineage, or a damaged one. What is wrong with its parents is part of the answer.
pub fn family(directory: &Path, trust: &Trust) -> Result<Ancestry> {
    read(directory, trust, &mut Vec::new())
}

/// `seen` are the statements on the way here.
fn read(directory: &Path, trust: &Trust, seen: &mut Vec<Digest>) -> Result<Ancestry> {
    let (digest, own) = statement(directory)?;
    let wrong = |what: &str| {
        Error::lineage(format!("the lineage is damaged: {what}")).at(directory.join(STATEMENT_FILE))
    };
    if own["_type"] != STATEMENT_TYPE || own["predicateType"] != PREDICATE_TYPE {
        return Err(wrong("it is not an in-toto statement with SLSA provenance"));
    }
    let build = &own["predicate"]["buildDefinition"];
    let listed = |list: &Value| items(list).is_some();
    if !listed(&build["resolvedDependencies"]) {
        return Err(wrong("`resolvedDependencies` is not a list of files with digests"));
    }
    if !listed(&own["predicate"]["runDetails"]["byproducts"]) {
        return Err(wrong("`byproducts` is not a list of files with digests"));
    }
    if !build["externalParameters"]["method"].is_string() {
        return Err(wrong("`method` is missing"));
    }
    // The words of the user, places and times stand beside the artifact, if at all.
    let statement = provenance::beside(directory, &own).unwrap_or(own);
    let build = &statement["predicate"]["buildDefinition"];
    let run = &statement["predicate"]["runDetails"];
    let asked = &build["externalParameters"];
    let items = items(&build["resolvedDependencies"])
        .ok_or_else(|| wrong("`resolvedDependencies` is not a list of files with digests"))?;
    let byproducts = self::items(&run["byproducts"])
        .ok_or_else(|| wrong("`byproducts` is not a list of files with digests"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let method = text(&asked["method"]).ok_or_else(|| wrong("`method` is missing"))?;
    let id = text(&asked["baseModel"]["id"]).ok_or_else(|| wrong("`baseModel` is missing"))?;
    let of = |roles: &[&str]| -> Vec<Item> {
        items.iter().filter(|item| roles.contains(&item.role.as_str())).cloned().collect()
    };
    let (events, other): (Vec<Item>, Vec<Item>) =
        byproducts.into_iter().partition(|item| !item.role.is_empty());
    // Whoever asks where the values of a model are from asks of the adapter's and teacher's, too.
    let files = of(&["base-model", base_adapters::ROLE, "start-adapter", "teacher"]);
    let base = Base { revision: text(&asked["baseModel"]["revision"]), files, id };
    seen.push(digest);
    let recorded = of(&["base-lineage"]).into_iter().next();
    // A merge, and perhaps an export, is made from an adapter; its base is that of the adapter.
    let named = asked["overrides"][ADAPTER_KEY].as_str().unwrap_or(&base.id);
    let revision = base.revision.as_deref();
    let places = |name: &str| places(directory, (named, revision), name);
    let parent = recorded.map(|item| Box::new(parent(&places, &item, trust, seen)));
    seen.pop();
    let internal = &build["internalParameters"];
    Ok(Ancestry {
        directory: directory.to_path_buf(),
        statement: digest,
        signature: verify(directory, trust).verdict,
        method,
        base,
        datasets: of(&["dataset"]),
        config: of(&["config", "lockfile"]),
        overrides: object(&asked["overrides"]),
        source: of(&["source", "source-diff"]),
        device: object(&internal["device"]),
        deterministic: internal["deterministic"].as_bool(),
        seed: text(&asked["seed"]),
        text: of(&["tokenizer", "chat-template"]),
        versions: object(&run["builder"]["version"]),
        time: ["startedOn", "finishedOn"].map(|key| text(&run["metadata"][key])),
        metrics: other.into_iter().next().map(|item| item.notes).unwrap_or_default(),
        events,
        parent,
    })
}

/// The statement of an artifact and its digest.
fn statement(directory: &Path) -> Result<(Digest, Value)> {
    let mut path = directory.join(STATEMENT_FILE);
    if let Some(store) = hub::store_of(directory)
        && let Ok(file) = path.canonicalize()
        && file.parent() == Some(store.as_path())
    {
        path = file; // a hub's cache has links into its store
    }
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Error::lineage(format!("there is no lineage: `{STATEMENT_FILE}` is not here"))
            .at(directory)
            .hint("artifacts that `firebrand train` and `merge` make have one"));
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .context_at("cannot read the lineage", &path)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::lineage(format!("a lineage of more than {MAX_BYTES} bytes")).at(&path));
    }
    let value = files::parse_json(&bytes).map_err(|error| {
        let damaged = Error::lineage("the lineage is damaged").at(&path).because(&error.what);
        error.causes.iter().fold(damaged, |error, cause| error.because(cause))
    })?;
    Ok((Digest::of(&bytes), value))
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn items(list: &Value) -> Option<Vec<Item>> {
    let item = |value: &Value| {
        let mut notes = object(&value["annotations"]);
        if let Some(uri) = value.get("uri") {
            notes.insert("uri".to_owned(), uri.clone());
        }
        let role = notes.remove("role").and_then(|role| role.as_str().map(str::to_owned));
        Some(Item {
            name: value["name"].as_str()?.to_owned(),
            role: role.unwrap_or_default(),
            digest: value["digest"].as_object()?.clone(),
            notes,
        })
    };
    list.as_array()?.iter().map(item).collect()
}

fn parent(
    places: &dyn Fn(&str) -> Vec<Place>,
    recorded: &Item,
    trust: &Trust,
    seen: &mut Vec<Digest>,
) -> Parent {
    let sha256 = recorded.digest.get("sha256").and_then(Value::as_str).unwrap_or_default();
    let name = recorded.name.strip_suffix(&format!("/{STATEMENT_FILE}"));
    let mut parent = Parent {
        name: name.unwrap_or(&recorded.name).to_owned(),
        statement: sha256.to_owned(),
        signature: recorded.notes.get("signature").and_then(Value::as_str).map(str::to_owned),
        found: ParentState::NotFollowed,
        problem: None,
        family: None,
    };
    let Ok(wanted) = sha256.parse::<Digest>() else {
        parent.problem = Some("the lineage records no digest of its statement".to_owned());
        return parent;
    };
    if seen.contains(&wanted) {
        parent.problem = Some("the tree turns in a circle".to_owned());
        return parent;
    }
    if seen.len() >= MAX_GENERATIONS {
        parent.problem = Some(format!("only {MAX_GENERATIONS} generations are followed"));
        return parent;
    }
    let mut other = None;
    for place in places(&parent.name) {
        match statement(&place.path) {
            Ok((digest, _)) if digest == wanted => {
                parent.found = ParentState::Same;
                match read(&place.path, trust, seen) {
                    Ok(family) if family.statement == wanted => parent.family = Some(family),
                    Ok(_) => parent.problem = Some("it changed while it was read".to_owned()),
                    Err(error) => parent.problem = Some(super::report::describe(&error)),
                }
                return parent;
            }
            Ok(_) if place.named => other = other.or(Some(place.path)),
            _ => {}
        }
    }
    match other {
        Some(place) => {
            parent.found = ParentState::Other;
            let place = place.display();
            parent.problem = Some(format!("`{place}` has another lineage than was recorded"));
        }
        None => {
            parent.found = ParentState::Missing;
            parent.problem = Some("nothing with that lineage lies where it lay".to_owned());
        }
    }
    parent
}

/// Where a parent may lie.
struct Place {
    path: PathBuf,
    /// Whether this is where the lineage says that it lay, and not only a folder of that name.
    named: bool,
}

/// Where a parent may lie: as it was named, seen from here or from a folder above the artifact, in
/// the hub's cache, and near the artifact under the name that its folder had.
fn places(directory: &Path, (base, revision): (&str, Option<&str>), name: &str) -> Vec<Place> {
    let mut roots = vec![PathBuf::new()];
    let own = directory.canonicalize().unwrap_or_default();
    roots.extend(own.ancestors().skip(1).take(MAX_ABOVE).map(Path::to_path_buf));
    // The same folder under two names is looked at once, and the child is not its own parent.
    let mut seen = BTreeSet::from([own]);
    let mut places = Vec::new();
    if let Some(path) = revision.and_then(|revision| in_cache(base, revision)) {
        places.push(Place { path, named: true });
    }
    for (text, named) in [(base, true), (name, false)].into_iter().filter(|(t, _)| !t.is_empty()) {
        for root in &roots {
            let path = root.join(text);
            for path in [path.clone(), path.join("artifact")] {
                if path.canonicalize().is_ok_and(|real| seen.insert(real)) {
                    places.push(Place { path, named });
                }
            }
        }
    }
    places
}

/// Where a commit of a model on a hub lies on this machine, if it does. Nobody is asked.
fn in_cache(id: &str, commit: &str) -> Option<PathBuf> {
    let repo = RepoName::parse(RepoKind::Model, id).ok()?;
    let settings = Settings { offline: true, ..Settings::from_env().ok()? };
    let path = Hub::new(settings).ok()?.cached_snapshot(&repo, commit)?;
    path.is_dir().then_some(path)
}

#[cfg(test)]
#[path = "ancestry_tests.rs"]
mod tests;
