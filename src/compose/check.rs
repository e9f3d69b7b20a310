//! Does what lies here fit together, and is it what a composition states?

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::statement::{BASE, Composition, Part, UNQUANTISED, adapter};
use crate::artifact::base_adapters::BaseAdapter;
use crate::artifact::lineage::INPUTS_FILE;
use crate::artifact::past::Past;
use crate::artifact::peft::{CONFIG_FILE, WEIGHTS_FILE};
use crate::error::Result;
use crate::error::printable;
use crate::files::{Digest, hash_file, read_linked_tree};
use crate::hub::store_of;
use crate::verify::{CheckVerdict, Trust, Verdict, verify};

/// Endings of files that loaders read: one that is not stated must not be there.
const LOADED: [&str; 10] =
    [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".py", ".json", ".jinja", ".model", ".txt"];

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompositionFinding {
    /// The part that it is about, or the statement.
    pub part: String,
    /// What was checked.
    pub check: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for CompositionFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.holds { "ok" } else { "FAIL" };
        let detail = printable(&self.detail).replace(['\n', '\t'], " ");
        write!(f, "{mark:<4}  {:<10}  {:<9}  {detail}", self.part, self.check)
    }
}

/// Where the parts of a composition lie.
#[derive(Debug, Clone)]
pub struct Places {
    /// The base.
    pub base: PathBuf,
    /// The adapters, in order.
    pub adapters: Vec<PathBuf>,
}

/// What is asked of an adapter beside its base.
type AdapterCheck = fn(&Composition, &Part, &Path, &Trust) -> Result<(bool, String)>;

/// What is asked of every adapter, beside that its files are those that are stated.
static OF_ADAPTERS: [(&str, AdapterCheck); 3] =
    [("signature", signature), ("lineage", lineage), ("base", base)];

/// The digest of every file of a folder, but for hidden ones.
///
/// # Errors
/// When one cannot be read, or is none.
pub fn files_of(directory: &Path) -> Result<BTreeMap<String, Digest>> {
    let store = store_of(directory);
    let hidden = |name: &str| name.starts_with('.');
    let read = |path: &Path, name: &str| Ok((name.to_owned(), hash_file(path, name)?.sha256));
    Ok(read_linked_tree(directory, store.as_deref(), &hidden, &read)?.into_iter().collect())
}

/// Every check of a composition but that of its signature.
///
/// # Errors
/// When a part cannot be read.
pub fn check(
    composition: &Composition,
    places: &Places,
    trust: &Trust,
) -> Result<Vec<CompositionFinding>> {
    let mut findings = Vec::new();
    let mut add = |part: &str, check: &'static str, (holds, detail): (bool, String)| {
        findings.push(CompositionFinding { part: part.to_owned(), check, holds, detail });
    };
    add(BASE, "files", files(&composition.base, &places.base)?);
    for (number, (part, place)) in (1..).zip(composition.adapters.iter().zip(&places.adapters)) {
        let called = adapter(number);
        add(&called, "files", files(part, place)?);
        for (name, check) in &OF_ADAPTERS {
            add(&called, name, check(composition, part, place, trust)?);
        }
    }
    add(&composition.tokenizer, "tokenizer", tokenizer(composition));
    add("statement", "order", order(composition));
    Ok(findings)
}

/// Whether a folder has what is stated, and nothing besides that a loader would read.
fn files(part: &Part, place: &Path) -> Result<(bool, String)> {
    let found = files_of(place)?;
    for (name, stated) in &part.files {
        match found.get(name) {
            None => return Ok((false, format!("`{name}` is not in {}", place.display()))),
            Some(digest) if digest != stated => {
                let (found, stated) = (digest.short(), stated.short());
                return Ok((false, format!("`{name}` is {found}, and {stated} is stated")));
            }
            Some(_) => {}
        }
    }
    let loaded = |name: &&String| LOADED.iter().any(|ending| name.ends_with(ending));
    let more = found.keys().filter(loaded).find(|name| !part.files.contains_key(*name));
    Ok(match more {
        Some(name) => (false, format!("`{name}` is there and not stated")),
        None => (true, format!("{} files as stated", part.files.len())),
    })
}

fn signature(_: &Composition, _: &Part, place: &Path, trust: &Trust) -> Result<(bool, String)> {
    let report = verify(place, trust);
    let failed = report.checks.iter().find(|it| it.verdict != CheckVerdict::Pass);
    Ok(match (report.verdict, report.signer) {
        (Verdict::Verified, Some(signer)) => (true, format!("signed by {}", signer.short())),
        _ => {
            let why = failed.map_or("it is not signed", |finding| finding.detail.as_str());
            (false, why.to_owned())
        }
    })
}

/// That it is there; its signature covers it, and says whether it is about these files.
fn lineage(_: &Composition, part: &Part, place: &Path, _: &Trust) -> Result<(bool, String)> {
    let past = Past::read(place)?;
    Ok(match past.known && part.files.contains_key(INPUTS_FILE) {
        true => (true, format!("{} data files", past.datasets.len())),
        false => (false, "nothing says how it was made".to_owned()),
    })
}

/// Whether it was trained on the very base.
fn base(all: &Composition, part: &Part, place: &Path, _: &Trust) -> Result<(bool, String)> {
    let past = Past::read(place)?;
    let is_other = |(name, digest): &(&String, &Digest)| all.base.files.get(*name) != Some(*digest);
    let below = all.adapters.iter().take_while(|it| !std::ptr::eq(*it, part));
    let below: Vec<&Part> = below.collect();
    let stated = |(part, one): (&&Part, &BaseAdapter)| {
        let names = [CONFIG_FILE, WEIGHTS_FILE];
        names.iter().all(|name| part.files.get(*name) == one.files.get(*name))
    };
    let known = &past.base_adapters;
    if !known.is_empty() && (known.len() != below.len() || !below.iter().zip(known).all(stated)) {
        let names: Vec<String> = known.iter().map(|it| format!("`{}`", it.id)).collect();
        let names = names.join(", then ");
        return Ok((
            false,
            format!("it was trained on {names}, which is not what stands before it"),
        ));
    }
    let weights = past.base_files.keys().any(|name| name.ends_with(".safetensors"));
    Ok(match past.base_files.iter().find(is_other) {
        _ if !weights => (false, "its lineage names no weights of a base".to_owned()),
        Some((name, _)) => (false, format!("it was trained on a base with another `{name}`")),
        None => (true, format!("trained on these {} files of the base", past.base_files.len())),
    })
}

fn tokenizer(all: &Composition) -> (bool, String) {
    let part = all.parts().find(|(called, _)| *called == all.tokenizer);
    let own = part.and_then(|(_, part)| part.files.get("tokenizer.json"));
    let Some(own) = own else { return (false, "it has no `tokenizer.json`".to_owned()) };
    let others = all
        .parts()
        .filter(|(_, part)| part.files.get("tokenizer.json").is_some_and(|other| other != own));
    let others: Vec<String> = others.map(|(called, _)| called).collect();
    match others.as_slice() {
        [] => (true, format!("tokenizer.json {}", own.short())),
        others => (false, format!("another one is in {}", others.join(", "))),
    }
}

/// Tells the order, and what it is added to.
fn order(all: &Composition) -> (bool, String) {
    let names: Vec<String> = all.adapters.iter().map(|part| format!("`{}`", part.name)).collect();
    let other =
        |part: &&Part| part.trained_beside.as_deref().unwrap_or(UNQUANTISED) != all.quantisation;
    let others: Vec<&str> = all.adapters.iter().filter(other).map(|it| it.name.as_str()).collect();
    let note = match others.as_slice() {
        [] => String::new(),
        others => format!("; trained beside weights of another format: `{}`", others.join("`, `")),
    };
    let quantisation = &all.quantisation;
    (true, format!("{} on `{}` ({quantisation}){note}", names.join(", then "), all.base.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{KeyLimits, SigstoreRoot, TrustedIdentity};

    #[test]
    fn an_adapter_that_was_signed_keyless_has_the_name_of_its_signer() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keyless");
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("model");
        std::fs::create_dir_all(place.join("notes")).unwrap();
        for file in ["config.json", "notes/read.txt"] {
            std::fs::copy(fixture.join("model").join(file), place.join(file)).unwrap();
        }
        std::fs::copy(fixture.join("model.sigstore.json"), place.join("model.sig")).unwrap();
        let file = fixture.join("trusted_root.json");
        let trust = Trust::default().and_identity(TrustedIdentity {
            identity: "release@example.com".to_owned(),
            issuer: "https://accounts.example.com".to_owned(),
            root: SigstoreRoot::from_file(&file).unwrap(),
            file,
            limits: KeyLimits::default(),
        });
        let part = Part { name: String::new(), files: BTreeMap::new(), trained_beside: None };
        let composition = Composition {
            time: String::new(),
            base: part.clone(),
            quantisation: UNQUANTISED.to_owned(),
            tokenizer: BASE.to_owned(),
            adapters: vec![part.clone()],
        };
        let (holds, detail) = signature(&composition, &part, &place, &trust).unwrap();
        let name = "identity `release@example.com` (https://accounts.example.com)";
        assert_eq!((holds, detail), (true, format!("signed by {name}")));
    }
}
