//! The files of a directory beside the signed list: what was changed, what is missing, and what
//! nobody signed.

use crate::verify::files::Allowed;
use std::collections::BTreeSet;

use super::files::{Files, names};
use super::report::{Check, Report, Verdict};
use super::statement::Manifest;
use crate::artifact::signature;
use crate::hub;

/// Compares, and takes those files away that are none of the model's.
pub(super) fn check(manifest: &Manifest, files: &mut Files, allowed: Allowed, report: &mut Report) {
    leave_out(manifest, files, report);
    compare(manifest, files, allowed, report);
    let root = signature::root_digest(manifest.resources.iter().map(|(_, digest)| digest));
    if root == manifest.root {
        report.pass(Check::Root, root.to_string());
    } else {
        let detail = "it does not follow from the listed files";
        report.fail(Check::Root, Verdict::Tampered, detail, "");
    }
}

/// Files that other programs leave in every copy, and notes that the signer left out.
fn leave_out(manifest: &Manifest, files: &mut Files, report: &mut Report) {
    let signed = manifest.digests();
    let by_signer = |path: &str| {
        let inside = |root: &String| {
            path.strip_prefix(root.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        hub::is_note(path) && manifest.ignored.iter().any(inside)
    };
    let own: BTreeSet<String> = files
        .keys()
        .filter(|path| !signed.contains_key(path.as_str()) && *path != signature::FILE)
        .filter(|path| signature::is_leftover(path) || by_signer(path))
        .cloned()
        .collect();
    files.retain(|path, _| !own.contains(path));
    let git = signature::left_out(&report.directory);
    let left: BTreeSet<&str> = own.iter().map(String::as_str).chain(git).collect();
    match left.is_empty() {
        true => report.pass(Check::Ignored, "none: all are the model's"),
        false => {
            let detail = format!("no part of the model, not checked: {}", names(left));
            report.pass(Check::Ignored, detail);
        }
    }
}

fn compare(manifest: &Manifest, files: &Files, allowed: Allowed, report: &mut Report) {
    let signed = manifest.digests();
    let is_signature = |path: &str| path == signature::FILE;
    let absent: Vec<&str> = signed
        .keys()
        .copied()
        .filter(|path| !files.contains_key(*path) || is_signature(path))
        .collect();
    let (not_fetched, missing): (Vec<&str>, Vec<&str>) =
        absent.into_iter().partition(|path| allowed.not_fetched && !hub::is_essential(path));
    let changed = signed
        .iter()
        .filter(|(path, digest)| files.get(**path).is_some_and(|file| file.sha256 != **digest))
        .map(|(path, _)| *path);
    let mut problems = Vec::new();
    for (what, list) in [("changed", changed.collect::<Vec<_>>()), ("missing", missing)] {
        if !list.is_empty() {
            problems.push(format!("{what}: {}", names(list)));
        }
    }
    if !problems.is_empty() {
        let hint = "get the model again from where it was published";
        report.fail(Check::Manifest, Verdict::Tampered, problems.join("; "), hint);
    } else if not_fetched.is_empty() {
        report.pass(Check::Manifest, format!("all {} as signed", signed.len()));
    } else {
        let here = signed.len() - not_fetched.len();
        let detail = format!("{here} as signed; not fetched: {}", names(not_fetched));
        report.pass(Check::Manifest, detail);
    }
    let added: Vec<&str> = files
        .keys()
        .map(String::as_str)
        .filter(|path| !signed.contains_key(path) && !is_signature(path))
        .collect();
    report.unsigned = added.iter().map(|path| (*path).to_owned()).collect();
    if added.is_empty() {
        report.pass(Check::Unsigned, "every file is signed");
    } else if allowed.unsigned {
        report.skip(Check::Unsigned, format!("allowed, but not signed: {}", names(added)));
    } else {
        let hint = "remove what was added, or let it be with `firebrand verify \
                    --ignore-unsigned-files`: no signature says what it is";
        let detail = format!("not signed: {}", names(added));
        report.fail(Check::Unsigned, Verdict::UnsignedFiles, detail, hint);
    }
}
