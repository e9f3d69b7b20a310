//! The checks of one model directory, in order.

use crate::verify::files::Files;
use crate::verify::files::Metadata;
use crate::verify::files::read_hashed;
use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::files::Allowed;
use super::manifest;
use super::report::{Check, Report, Verdict};
use super::safetensors::Lint;
use super::statement::{self, Manifest, Problem};
use super::trust::Trust;
use super::trusted_keys_table::Role;
use super::{attestations, lineage, safetensors, signer};
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::signature;
use crate::error::{Context, Kind};
use crate::files::{self};
use crate::hub;

/// The largest signature file that is read; it suffices for some 200 000 files.
pub(super) const MAX_SIGNATURE_BYTES: u64 = 64 << 20;
/// Checks a model directory. Never fails: what could not be checked is part of the answer.
///
/// The snapshot of a hub's cache is a folder of links into the cache's own store, which are
/// followed, and to nowhere else.
pub fn verify(directory: &Path, trust: &Trust) -> Report {
    check(directory, trust, false)
}

/// The same, for whoever minds only the signed files: others beside them are told, and change
/// nothing.
pub fn verify_signed_files(directory: &Path, trust: &Trust) -> Report {
    check(directory, trust, true)
}

fn check(directory: &Path, trust: &Trust, unsigned: bool) -> Report {
    let store = hub::store_of(directory);
    let allowed = Allowed { unsigned, not_fetched: store.is_some() };
    let mut report = Report::new(directory.to_path_buf());
    let signed = directory.join(signature::FILE).symlink_metadata().is_ok();
    let Some((mut files, lints)) = check_files(directory, store.as_deref(), &mut report) else {
        if !signed && directory.is_dir() {
            report_unsigned(&mut report);
        }
        return report;
    };
    let bundle = if signed {
        check_bundle(directory, &files, &mut report)
    } else {
        report_unsigned(&mut report);
        None
    };
    let mut compared = false;
    if let Some(bundle) = bundle {
        let finished = lineage::finished_here(directory, &files);
        check_signature(&bundle, trust, finished, &mut report);
        if let Some(manifest) = check_statement(&bundle, &mut report) {
            manifest::check(&manifest, &mut files, allowed, &mut report);
            compared = true;
            report.root = Some(manifest.root);
            report.name = Some(manifest.name);
        }
    }
    if !compared {
        files.retain(|path, _| !signature::is_leftover(path));
    }
    report.files = files.values().cloned().collect();
    let lints = lints.into_iter().filter(|(name, _)| files.contains_key(name)).collect();
    let metadata = check_weights(lints, &mut report);
    lineage::check(directory, &files, &metadata, allowed, &mut report);
    attestations::check(directory, &files, trust, &mut report);
    report
}

/// What is wrong with each weights file.
type Lints = BTreeMap<String, Lint>;

/// Reads every file once: what is found in weights, and the digests, are of the same bytes.
fn check_files(
    directory: &Path,
    store: Option<&Path>,
    report: &mut Report,
) -> Option<(Files, Lints)> {
    let read = |path: &Path, name: &str| {
        if name.to_lowercase().ends_with(".safetensors") {
            return safetensors::lint_and_hash(path, name).map(|(entry, lint)| (entry, Some(lint)));
        }
        let file = files::Hashing::new(files::open_unlinked(path)?);
        let entry = files::hash_rest(file, name).context_at("cannot read the file", path)?;
        Ok((entry, None))
    };
    // Git's own files are none of a model's, and there may be many.
    let skip = |name: &str| signature::IGNORED.contains(&name) && name != signature::FILE;
    match files::read_linked_tree(directory, store, &skip, &read) {
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
        "ask the publisher for a signed copy",
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
        Err(defect) => {
            report.defect(defect);
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
    judged.tell(("needs the public key", "the key did not sign this statement"), report);
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
