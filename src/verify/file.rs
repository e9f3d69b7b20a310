//! Is one file what its bundle says: a data set, say, that somebody signed by itself (`cosign
//! sign-blob`, `sigstore sign`), or that an in-toto statement is about?

use std::path::Path;

use serde_json::Value;

use super::keyless::SignedContent;
use super::report::{Check, CheckVerdict, Report, Verdict, describe};
use super::signer;
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::envelope::{Bundle, Defect, IN_TOTO, Keyless, parse_message_bundle};
use crate::artifact::signature::STATEMENT_TYPE;
use crate::error::{Error, ErrorCode, Result};
use crate::files::{self, Digest, FileEntry, hash_file};

/// The largest bundle of a file that is read; statements about many files are the largest.
const BUNDLE_BYTES_MAX: u64 = 16 << 20;

/// What is said of a signature that was not looked at.
const NOT_CHECKED: &str = "needs a signer who counts";
/// That, and what is said of one that is not over the file.
const TOLD: (&str, &str) = (NOT_CHECKED, "it is not over what is here");

/// What a bundle holds.
enum FileBundle {
    /// A signature over the file's bytes.
    Message(Box<Keyless>),
    /// A signed statement about files.
    Statement(Bundle),
}

/// Checks a file against its bundle. Never fails: what could not be checked is part of the answer.
pub fn verify_file(file: &Path, bundle: &Path, trust: &Trust) -> Report {
    let mut report = Report::new(file.to_path_buf());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let entry = match hash_file(file, &name) {
        Ok(entry) => entry,
        Err(error) => {
            report.error(Check::Files, &error);
            return report;
        }
    };
    report.pass(Check::Files, format!("{} bytes, SHA-256 {}", entry.size, entry.sha256));
    check(&entry.sha256, bundle, (trust, None), &mut report);
    report.files = vec![entry];
    report
}

/// Whether somebody with a role signed a file that was read, by the digest of what was read.
///
/// # Errors
/// Refuses a file that nobody signed, or nobody who counts.
pub fn demand_signed(file: &FileEntry, bundle: &Path, trust: &Trust, role: Role) -> Result<()> {
    let refused = |what: String| Error::refused(ErrorCode::Untrusted, what).at(&file.path);
    if !bundle.is_file() {
        return Err(refused("the file is not signed".to_owned())
            .because(format!("there is no {}", bundle.display())));
    }
    let mut report = Report::new(bundle.to_path_buf());
    check(&file.sha256, bundle, (trust, Some(role)), &mut report);
    if report.verdict == Verdict::Verified {
        return Ok(());
    }
    let failed = report.checks.iter().filter(|it| it.verdict != CheckVerdict::Pass);
    let failed = failed.filter(|finding| finding.detail != NOT_CHECKED);
    let error = refused("the file's signature does not count".to_owned());
    Err(failed.fold(error, |error, it| error.because(&it.detail)))
}

fn check(
    sha256: &Digest,
    bundle: &Path,
    (trust, role): (&Trust, Option<Role>),
    report: &mut Report,
) {
    match read(bundle) {
        Err(error) => report.error(Check::Bundle, &error),
        Ok(Err(defect)) => report.defect(defect),
        Ok(Ok(FileBundle::Message(keyless))) => {
            report.pass(Check::Bundle, "sigstore bundle v0.3 with the signature of a file");
            let content = SignedContent::File(sha256);
            let judged = signer::judge_keyless(&keyless, content, trust, role, None);
            judged.tell(TOLD, report);
        }
        Ok(Ok(FileBundle::Statement(bundle))) => {
            report.pass(Check::Bundle, "sigstore bundle v0.3 with a signed statement");
            signer::judge(&bundle, trust, role, None).tell(TOLD, report);
            match about(&bundle, sha256) {
                Ok(predicate) => report.pass(Check::Statement, format!("{predicate}, about it")),
                Err(why) => report.fail(Check::Statement, Verdict::Tampered, why, ""),
            }
        }
    }
}

fn read(bundle: &Path) -> Result<Result<FileBundle, Defect>> {
    let bytes = files::read_bytes(bundle, BUNDLE_BYTES_MAX)?;
    let value = match files::parse_json(&bytes) {
        Ok(value) => value,
        Err(error) => return Ok(Err(Defect::Malformed(error.with_causes()))),
    };
    if value.get("messageSignature").is_some() {
        let message = parse_message_bundle(&value);
        return Ok(message.map(|it| FileBundle::Message(Box::new(it))));
    }
    Ok(Bundle::parse(&bytes).map(FileBundle::Statement))
}

/// The predicate of a statement of which a file of these bytes is a subject.
fn about(bundle: &Bundle, sha256: &Digest) -> Result<String, String> {
    if bundle.payload_type != IN_TOTO {
        return Err(format!("`payloadType` is not `{IN_TOTO}`"));
    }
    let statement = files::parse_json(&bundle.payload).map_err(|error| describe(&error))?;
    if statement["_type"] != STATEMENT_TYPE {
        return Err(format!("`_type` is not `{STATEMENT_TYPE}`"));
    }
    let predicate = statement["predicateType"].as_str().ok_or("`predicateType` is missing")?;
    let subjects = statement["subject"].as_array().ok_or("`subject` is not a list")?;
    let wanted = sha256.to_string();
    let names_it = |subject: &Value| subject["digest"]["sha256"].as_str() == Some(wanted.as_str());
    match subjects.iter().any(names_it) {
        true => Ok(predicate.to_owned()),
        false => Err("the statement is about other files".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn nobody_waits_at_a_pipe_in_place_of_a_bundle() {
        use std::sync::mpsc::channel;
        use std::time::Duration;
        let folder = tempfile::tempdir().unwrap();
        let [file, pipe] = ["data.jsonl", "pipe"].map(|name| folder.path().join(name));
        std::fs::write(&file, "{}\n").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (sender, answer) = channel();
        std::thread::spawn(move || {
            let _ = sender.send(verify_file(&file, &pipe, &Trust::default()));
        });
        let report = answer.recv_timeout(Duration::from_secs(20)).expect("it does not wait");
        assert_eq!(report.verdict, Verdict::CouldNotCheck, "{report:#?}");
        let found = report.checks.iter().find(|it| it.check == Check::Bundle).unwrap();
        assert!(found.detail.contains("this is a pipe"), "{}", found.detail);
    }
}
