//! What was checked, with what result, and what that comes to.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::artifact::envelope::Defect;
use crate::error::{Error, printable};
use crate::files::{Digest, FileEntry};

/// One thing that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Nothing but regular files.
    Files,
    /// `model.sig` is there and well formed.
    Bundle,
    /// A trusted key is named.
    Key,
    /// That key made the signature.
    Signature,
    /// The signed statement is one over a model directory.
    Statement,
    /// What is none of the model's: git's own files, and what downloads leave behind.
    Ignored,
    /// Every signed file is here, as it was signed.
    Manifest,
    /// No file is here that nobody signed.
    Unsigned,
    /// The digest over all digests.
    Root,
    /// The weights' headers.
    Safetensors,
    /// The lineage's inputs are those that the weights name.
    LineageInputs,
    /// The lineage statement is well formed and about these inputs.
    LineageStatement,
    /// The lineage statement is about these files.
    LineageSubjects,
    /// One line of the attestations beside the model.
    Attestation,
    /// Others made it again and got the same bytes.
    Reproduced,
    /// It does what it did where it was made.
    Effect,
}

impl Check {
    /// What it is called on screen.
    pub fn label(self) -> &'static str {
        match self {
            Self::Files => "regular files",
            Self::Bundle => "signature file",
            Self::Key => "trusted key",
            Self::Signature => "signature",
            Self::Statement => "signed statement",
            Self::Ignored => "other files",
            Self::Manifest => "files unchanged",
            Self::Unsigned => "nothing added",
            Self::Root => "root digest",
            Self::Safetensors => "weights' headers",
            Self::LineageInputs => "lineage inputs",
            Self::LineageStatement => "lineage statement",
            Self::LineageSubjects => "lineage files",
            Self::Attestation => "attestation",
            Self::Reproduced => "reproduced",
            Self::Effect => "effect",
        }
    }

    /// Whether it is about what a model is, whoever signed it: no signature mends it.
    pub fn is_of_contents(self) -> bool {
        matches!(
            self,
            Self::Safetensors
                | Self::LineageInputs
                | Self::LineageStatement
                | Self::LineageSubjects
        )
    }
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It was not checked; the detail says why.
    Unchecked,
}

/// One check with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: Check,
    /// With what result.
    pub verdict: CheckVerdict,
    /// What was found.
    pub detail: String,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            CheckVerdict::Pass => "ok",
            CheckVerdict::Fail => "FAIL",
            CheckVerdict::Unchecked => "-",
        };
        let detail = printable(&self.detail).replace(['\n', '\t'], " ");
        write!(f, "{mark:<4}  {:<17}  {detail}", self.check.label())
    }
}

/// What all checks come to. A later one outweighs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Signed by a trusted key, complete and unchanged.
    Verified,
    /// Signed by a trusted key and unchanged, but with files that nobody signed.
    UnsignedFiles,
    /// Signed, but by no key that the user trusts.
    Untrusted,
    /// Something that had to be checked could not be.
    CouldNotCheck,
    /// Not what was signed, or not well formed.
    Tampered,
    /// Nobody signed it.
    Unsigned,
}

impl Verdict {
    /// How the process ends.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::UnsignedFiles | Self::Untrusted | Self::Tampered | Self::Unsigned => 1,
            Self::CouldNotCheck => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::UnsignedFiles => {
                "unsigned files: what was signed is unchanged, and files were added to it"
            }
            Self::Untrusted => "untrusted: signed by a key that you do not trust",
            Self::CouldNotCheck => "could not check",
            Self::Tampered => "tampered: the files are not those that were signed",
            Self::Unsigned => "unsigned: no key attests this model",
        })
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// SHA-256 of the public key's PEM text; of an identity, whose keys are of minutes, that of its
    /// issuer and itself.
    pub hint: String,
    /// Whom the key's certificate is for, if it signs in the name of one: its subject, or the
    /// identity that it proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The identity provider that vouches for the identity, if it signed keyless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The file with the trusted key or authority; none if the signer is not trusted.
    pub key_file: Option<PathBuf>,
}

impl Signer {
    /// A key that signs in its own name.
    pub(super) fn of_key(hint: &str, key_file: Option<PathBuf>) -> Self {
        Self { hint: hint.to_owned(), certificate: None, issuer: None, key_file }
    }

    /// Who it is: the identity, the subject of the certificate, or the key.
    pub fn name(&self) -> String {
        match (&self.certificate, &self.issuer) {
            (Some(identity), Some(issuer)) => format!("identity `{identity}` ({issuer})"),
            (Some(subject), None) => format!("certificate `{subject}`"),
            (None, _) => format!("key {}", self.hint),
        }
    }

    /// The same for one line: of a key, how its name begins. The hint of who signed with a
    /// certificate is the name of no key that anybody could know.
    pub fn short(&self) -> String {
        match self.certificate {
            Some(_) => self.name(),
            None => format!("key {}", self.hint.get(..12).unwrap_or_default()),
        }
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was checked.
    pub directory: PathBuf,
    /// What it comes to.
    pub verdict: Verdict,
    /// The key that the signature names.
    pub signer: Option<Signer>,
    /// The name under which it was signed.
    pub name: Option<String>,
    /// The digest over all digests, as signed.
    pub root: Option<Digest>,
    /// One line for each check.
    pub checks: Vec<Finding>,
    /// Names of files that nobody signed, sorted; empty if the whole is unsigned.
    pub unsigned: Vec<String>,
    /// Every file with the digest of the bytes that were checked, sorted by name; none if they
    /// could not be read. Who uses the files later compares.
    #[serde(skip)]
    pub files: Vec<FileEntry>,
}

impl Report {
    /// The report for machines.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a report has text keys only")
    }

    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            verdict: Verdict::Verified,
            signer: None,
            name: None,
            root: None,
            checks: Vec::new(),
            unsigned: Vec::new(),
            files: Vec::new(),
        }
    }

    fn push(&mut self, check: Check, verdict: CheckVerdict, detail: String, hint: Option<String>) {
        self.checks.push(Finding { check, verdict, detail, hint });
    }

    /// The check holds.
    pub(super) fn pass(&mut self, check: Check, detail: impl Into<String>) {
        self.push(check, CheckVerdict::Pass, detail.into(), None);
    }

    /// The check does not hold, which leads to `verdict`.
    pub(super) fn fail(
        &mut self,
        check: Check,
        verdict: Verdict,
        detail: impl Into<String>,
        hint: &str,
    ) {
        self.verdict = self.verdict.max(verdict);
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.push(check, CheckVerdict::Fail, detail.into(), hint);
    }

    /// There is nothing to check, and that is fine.
    pub(super) fn skip(&mut self, check: Check, detail: impl Into<String>) {
        self.push(check, CheckVerdict::Unchecked, detail.into(), None);
    }

    /// The check was needed and could not be made.
    pub(super) fn stuck(&mut self, check: Check, detail: impl Into<String>) {
        self.verdict = self.verdict.max(Verdict::CouldNotCheck);
        self.push(check, CheckVerdict::Unchecked, detail.into(), None);
    }

    /// A bundle that cannot be checked.
    pub(super) fn defect(&mut self, defect: Defect) {
        match defect {
            Defect::Unsigned => {
                let detail = "the envelope holds no signature";
                self.fail(Check::Bundle, Verdict::Unsigned, detail, "");
            }
            Defect::Unsupported(why) => {
                self.stuck(Check::Bundle, format!("{why}, which cannot be checked yet"));
            }
            Defect::Malformed(why) => self.fail(Check::Bundle, Verdict::Tampered, why, ""),
        }
    }

    /// An error while looking.
    pub(super) fn error(&mut self, check: Check, error: &Error) {
        self.stuck(check, describe(error));
    }
}

/// An error on one line.
pub(super) fn describe(error: &Error) -> String {
    let mut text = error.what.clone();
    if let Some(place) = &error.place {
        text = format!("{text} (`{place}`)");
    }
    for cause in &error.causes {
        text = format!("{text}: {cause}");
    }
    text
}
