//! The checks of one model directory, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::report::{Check, Report, Verdict};
use super::safetensors::Lint;
use super::statement::{self, Manifest, Problem};
use super::trust::Trust;
use super::trusted_keys::Role;
use super::{attestations, lineage, safetensors, signer};
use crate::artifact::envelope::{Bundle, Defect, IN_TOTO};
use crate::artifact::signature;
use crate::error::{Context, Error, Kind, Result};
use crate::files::{self, Digest, FileEntry};

/// The largest signature file that is read; it suffices for some 200 000 files.
pub(super) const MAX_SIGNATURE_BYTES: u64 = 64 << 20;
/// How many file names one line shows.
const MAX_NAMES: usize = 5;

/// Files by name.
pub(super) type Files = BTreeMap<String, FileEntry>;
/// The metadata of each weights file.
pub(super) type Metadata = BTreeMap<String, BTreeMap<String, String>>;

/// Checks a model directory. Never fails: what could not be checked is part of the answer.
pub fn verify(directory: &Path, trust: &Trust) -> Report {
    let mut report = Report::new(directory.to_path_buf());
    let signed = directory.join(signature::FILE).symlink_metadata().is_ok();
    let Some((files, lints)) = check_files(directory, &mut report) else {
        if !signed && directory.is_dir() {
            report_unsigned(&mut report);
        }
        return report;
    };
    report.files = files.values().cloned().collect();
    let bundle = if signed {
        check_bundle(directory, &files, &mut report)
    } else {
        report_unsigned(&mut report);
        None
    };
    if let Some(bundle) = bundle {
        let finished = lineage::finished_here(directory, &files);
        check_signature(&bundle, trust, finished, &mut report);
        if let Some(manifest) = check_statement(&bundle, &mut report) {
            check_manifest(&manifest, &files, &mut report);
            report.root = Some(manifest.root);
            report.name = Some(manifest.name);
        }
    }
    let metadata = check_weights(lints, &mut report);
    lineage::check(directory, &files, &metadata, &mut report);
    attestations::check(directory, &files, trust, &mut report);
    report
}

/// Reads a file whose digest is known; it must not have changed since.
pub(super) fn read_hashed(directory: &Path, entry: &FileEntry, limit: u64) -> Result<Vec<u8>> {
    let path = directory.join(&entry.path);
    if entry.size > limit {
        return Err(Error::new(format!("the file has more than {limit} bytes")).at(path));
    }
    let bytes = fs::read(&path).context_at("cannot read the file", &path)?;
    if Digest::of(&bytes) != entry.sha256 {
        return Err(Error::new("the file changed while it was checked").at(path));
    }
    Ok(bytes)
}

/// Names for one line, the first few of them.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What is wrong with each weights file.
type Lints = BTreeMap<String, Lint>;

/// Reads every file once: what is found in weights, and the digests, are of the same bytes.
fn check_files(directory: &Path, report: &mut Report) -> Option<(Files, Lints)> {
    let read = |path: &Path, name: &str| {
        if name.to_lowercase().ends_with(".safetensors") {
            return safetensors::lint_and_hash(path, name).map(|(entry, lint)| (entry, Some(lint)));
        }
        let file = files::Hashing::new(files::open_unlinked(path)?);
        let entry = files::hash_rest(file, name).context_at("cannot read the file", path)?;
        Ok((entry, None))
    };
    match files::read_tree(directory, &|_| false, &read) {
        Ok(list) => {
            let bytes: u64 = list.iter().map(|(entry, _)| entry.size).sum();
            report.pass(Check::Files, format!("{} files, {bytes} bytes", list.len()));
            let mut lints = Lints::new();
            let mut files = Files::new();
            for (entry, lint) in list {
                lints.extend(lint.map(|lint| (entry.path.clone(), lint)));
                files.insert(entry.path.clone(), entry);
            }
            Some((files, lints))
        }
        Err(error) if error.kind == Kind::Refused => {
            let detail = super::report::describe(&error);
            let hint = "links and special files are never part of a signed model";
            report.fail(Check::Files, Verdict::Tampered, detail, hint);
            None
        }
        Err(error) => {
            report.error(Check::Files, &error);
            None
        }
    }
}

fn report_unsigned(report: &mut Report) {
    report.fail(
        Check::Bundle,
        Verdict::Unsigned,
        format!("there is no `{}`", signature::FILE),
        "ask whoever made the model for a signed copy",
    );
}

fn check_bundle(directory: &Path, files: &Files, report: &mut Report) -> Option<Bundle> {
    let Some(entry) = files.get(signature::FILE) else {
        report.fail(
            Check::Bundle,
            Verdict::Unsigned,
            format!("`{}` is not a file", signature::FILE),
            "",
        );
        return None;
    };
    let bytes = match read_hashed(directory, entry, MAX_SIGNATURE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.error(Check::Bundle, &error);
            return None;
        }
    };
    match Bundle::parse(&bytes) {
        Ok(bundle) if bundle.payload_type == IN_TOTO => {
            report.pass(Check::Bundle, "sigstore bundle v0.3 with one signature");
            Some(bundle)
        }
        Ok(_) => {
            let detail = format!("`payloadType` is not `{IN_TOTO}`");
            report.fail(Check::Bundle, Verdict::Tampered, detail, "");
            None
        }
        Err(Defect::Unsigned) => {
            let detail = "the envelope holds no signature";
            report.fail(Check::Bundle, Verdict::Unsigned, detail, "");
            None
        }
        Err(Defect::Unsupported(detail)) => {
            report.stuck(Check::Bundle, format!("{detail}, which cannot be checked yet"));
            None
        }
        Err(Defect::Malformed(detail)) => {
            report.fail(Check::Bundle, Verdict::Tampered, detail, "");
            None
        }
    }
}

fn check_signature(
    bundle: &Bundle,
    trust: &Trust,
    finished: Option<Timestamp>,
    report: &mut Report,
) {
    let judged = signer::judge(bundle, trust, Some(Role::Train), finished);
    match &judged.objection {
        None => report.pass(Check::Key, judged.name.trim_start_matches("key ")),
        Some(why) => {
            let detail = format!("the {} {why}", judged.name);
            report.fail(Check::Key, Verdict::Untrusted, detail, judged.hint);
        }
    }
    match judged.signed {
        None => report.skip(Check::Signature, "needs the public key"),
        Some(true) => report.pass(Check::Signature, judged.algorithm),
        Some(false) => {
            let detail = "the key did not sign this statement";
            report.fail(Check::Signature, Verdict::Tampered, detail, "");
        }
    }
    report.signer = Some(judged.signer);
}

fn check_statement(bundle: &Bundle, report: &mut Report) -> Option<Manifest> {
    match statement::parse(&bundle.payload) {
        Ok(manifest) => {
            let count = manifest.resources.len();
            report.pass(Check::Statement, format!("OpenSSF Model Signing v1.0, {count} files"));
            Some(manifest)
        }
        Err(Problem::Malformed(detail)) => {
            report.fail(Check::Statement, Verdict::Tampered, detail, "");
            None
        }
        Err(Problem::Unsupported(detail)) => {
            report.stuck(Check::Statement, detail);
            None
        }
    }
}

fn check_manifest(manifest: &Manifest, files: &Files, report: &mut Report) {
    let mut ignored: BTreeSet<&str> = manifest.ignored.iter().map(String::as_str).collect();
    ignored.extend(signature::IGNORED); // never signed, whether or not the signer says so
    let foreign: Vec<_> =
        ignored.iter().copied().filter(|path| !signature::IGNORED.contains(path)).collect();
    let left_out: Vec<_> = files
        .keys()
        .map(String::as_str)
        .filter(|path| signature::is_ignored(path) && *path != signature::FILE)
        .collect();
    if !foreign.is_empty() {
        let detail = format!("the signature leaves out {}", names(foreign));
        report.fail(Check::Ignored, Verdict::Tampered, detail, "");
    } else if left_out.is_empty() {
        report.pass(Check::Ignored, "every file is covered");
    } else {
        let detail = format!("no signature covers {}", names(left_out));
        let hint = "move git's files out of the model directory";
        report.fail(Check::Ignored, Verdict::Tampered, detail, hint);
    }
    compare(manifest, files, report);
    let root = signature::root_digest(manifest.resources.iter().map(|(_, digest)| digest));
    if root == manifest.root {
        report.pass(Check::Root, root.to_string());
    } else {
        let detail = "it does not follow from the listed files";
        report.fail(Check::Root, Verdict::Tampered, detail, "");
    }
}

fn compare(manifest: &Manifest, files: &Files, report: &mut Report) {
    let signed = manifest.digests();
    let present = |path: &str| files.contains_key(path) && !signature::is_ignored(path);
    let missing = signed.keys().copied().filter(|path| !present(path));
    let changed = signed
        .iter()
        .filter(|(path, digest)| files.get(**path).is_some_and(|file| file.sha256 != **digest))
        .map(|(path, _)| *path);
    let added = files
        .keys()
        .map(String::as_str)
        .filter(|path| !signed.contains_key(path) && !signature::is_ignored(path));
    let mut problems = Vec::new();
    for (what, list) in [
        ("changed", changed.collect::<Vec<_>>()),
        ("missing", missing.collect()),
        ("not signed", added.collect()),
    ] {
        if !list.is_empty() {
            problems.push(format!("{what}: {}", names(list)));
        }
    }
    if problems.is_empty() {
        report.pass(Check::Manifest, format!("all {} as signed", signed.len()));
    } else {
        let hint = "get the model again from where it was published";
        report.fail(Check::Manifest, Verdict::Tampered, problems.join("; "), hint);
    }
}

/// What was found in every weights file; gives back the metadata of each.
fn check_weights(lints: Lints, report: &mut Report) -> Metadata {
    let mut metadata = Metadata::new();
    let (mut tensors, mut problems) = (0, Vec::new());
    for (name, lint) in lints {
        tensors += lint.tensors;
        problems.extend(lint.problems.iter().map(|problem| format!("`{name}`: {problem}")));
        metadata.insert(name, lint.metadata);
    }
    if !problems.is_empty() {
        let hint = "do not load this file";
        report.fail(Check::Safetensors, Verdict::Tampered, problems.join("; "), hint);
    } else if metadata.is_empty() {
        report.skip(Check::Safetensors, "there is no `.safetensors` file");
    } else {
        report.pass(Check::Safetensors, format!("{} files, {tensors} tensors", metadata.len()));
    }
    metadata
}
