//! Which inputs a run may use: those that a signed allowlist lists, base models and data files that
//! a trusted key has signed, or, where neither is asked for, whatever the configuration names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::artifact::envelope::bundle_beside;
use crate::artifact::keys;
use crate::artifact::lineage::AllowlistRecord;
use crate::config::RunConfig;
use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, FileEntry};
use crate::hub::{InputTrust, Locked, LockedFile, ModelDirectory};
use crate::verify::allowlist::{self, Allowlist};
use crate::verify::{Role, Seen, Trust, demand_signed, signed_files};

/// Says of every file that is about to be used whether it may be, and why.
pub struct Approval {
    allowlist: Option<(String, allowlist::OpenedAllowlist)>,
    /// Name and digest of the base model's files, as someone signed them who was asked for.
    signed: Option<BTreeMap<String, Digest>>,
    /// What the locks held when the run began, if that is enough.
    pinned: BTreeSet<Digest>,
    data: Option<SignedData>,
}

/// Data files that somebody must have signed.
struct SignedData {
    trust: Trust,
    /// Those of which it is known, by digest: they are asked for at every step.
    known: Mutex<BTreeSet<Digest>>,
}

impl SignedData {
    fn check(&self, file: &FileEntry) -> Result<InputTrust> {
        if !self.knows(&file.sha256) {
            let bundle = bundle_beside(Path::new(&file.path));
            demand_signed(file, &bundle, &self.trust, Role::Allowlist)
                .map_err(|error| error.hint("`trust.data_keys` asks for a signature"))?;
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(file.sha256);
        }
        Ok(InputTrust::Signature)
    }

    fn knows(&self, sha256: &Digest) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(sha256)
    }
}

impl Approval {
    /// With the settings of a run. `pinned` are the digests that its locks hold.
    ///
    /// # Errors
    /// When the allowlist does not count.
    pub fn of(config: &RunConfig, pinned: BTreeSet<Digest>) -> Result<Self> {
        let settings = &config.trust;
        let allowlist = match &settings.allowlist {
            Some(path) => {
                let home = keys::config_home()?;
                let trust = match settings.allowlist_keys.as_slice() {
                    [] => Trust::of_user(&home)?,
                    files => Trust::key_files(files)?.limited_by(&home)?,
                };
                let seen = Seen::of_user(&home);
                Some((path.clone(), Allowlist::open(Path::new(path), &trust, Some(&seen))?))
            }
            None if !settings.allowlist_keys.is_empty() || settings.tofu => {
                let key = if settings.tofu { "tofu" } else { "allowlist_keys" };
                let what = format!("`trust.{key}` requires `trust.allowlist`");
                return Err(Error::untrusted(what).hint("name the allowlist, or leave it out"));
            }
            None => None,
        };
        let pinned = if settings.tofu { pinned } else { BTreeSet::new() };
        let data = match settings.data_keys.as_slice() {
            [] => None,
            files => {
                let trust = Trust::key_files(files)?.limited_by(&keys::config_home()?)?;
                Some(SignedData { trust, known: Mutex::default() })
            }
        };
        Ok(Self { allowlist, signed: None, pinned, data })
    }

    /// Reads the base model's signature, if the configuration says whose it must be.
    ///
    /// # Errors
    /// When it is not there, does not hold, or is another's.
    pub fn read_signature(&mut self, config: &RunConfig, base: &ModelDirectory) -> Result<()> {
        if config.model.trusted_keys.is_empty() {
            return Ok(());
        }
        let home = keys::config_home()?;
        let trust = Trust::key_files(&config.model.trusted_keys)?.limited_by(&home)?;
        let signed = signed_files(&base.path, &trust)
            .map_err(|error| error.hint("`model.trusted_keys` asks for a signature"))?;
        self.signed = Some(signed);
        Ok(())
    }

    /// Why files of the base model may be used.
    ///
    /// # Errors
    /// Refuses the first that may not.
    pub fn model(&self, base: &ModelDirectory, files: &[FileEntry]) -> Result<InputTrust> {
        if let Some(signed) = &self.signed {
            for file in files {
                if signed.get(&file.path) != Some(&file.sha256) {
                    let why = match signed.contains_key(&file.path) {
                        true => "has other bytes than were signed",
                        false => "is not among the signed files",
                    };
                    return Err(Error::refused(
                        ErrorCode::Untrusted,
                        format!("`{}` of the base model {why}", file.path),
                    )
                    .at(&base.path));
                }
            }
            return Ok(InputTrust::Signature);
        }
        self.adapter(base, files)
    }

    /// Why files of an adapter may be used that the run starts from.
    ///
    /// # Errors
    /// Refuses the first that may not.
    pub fn adapter(&self, adapter: &ModelDirectory, files: &[FileEntry]) -> Result<InputTrust> {
        let mut all = InputTrust::Allowlist;
        for file in files {
            all = all.min(self.listed(allowlist::InputKind::Model, &adapter.id, file)?);
        }
        Ok(all)
    }

    /// Why a data file may be used; `set` is what people know it by.
    ///
    /// # Errors
    /// Refuses one that may not.
    pub fn data(&self, set: &str, file: &FileEntry) -> Result<InputTrust> {
        if let Some(signed) = &self.data {
            return signed.check(file);
        }
        self.listed(allowlist::InputKind::Dataset, set, file)
    }

    /// Why a file that may be used may be used.
    pub fn reason(&self, kind: allowlist::InputKind, sha256: &Digest) -> InputTrust {
        let signed = |it: &SignedData| kind == allowlist::InputKind::Dataset && it.knows(sha256);
        if self.data.as_ref().is_some_and(signed) {
            return InputTrust::Signature;
        }
        let found = self.allowlist.as_ref().and_then(|(_, opened)| opened.find(kind, sha256));
        if found.is_some() { InputTrust::Allowlist } else { InputTrust::Tofu }
    }

    /// Why the files of a data set may be used; of those that were not read, nobody knows.
    pub fn of_set(&self, entry: &Locked) -> InputTrust {
        let of = |file: &LockedFile| match &file.sha256 {
            Some(sha256) => self.reason(allowlist::InputKind::Dataset, sha256),
            None => InputTrust::Tofu,
        };
        entry.files.iter().map(of).min().unwrap_or(InputTrust::Tofu)
    }

    fn listed(&self, kind: allowlist::InputKind, of: &str, file: &FileEntry) -> Result<InputTrust> {
        let reason = self.reason(kind, &file.sha256);
        let Some((path, _)) = &self.allowlist else { return Ok(reason) };
        if reason == InputTrust::Allowlist {
            return Ok(reason);
        }
        if self.pinned.contains(&file.sha256) {
            return Ok(InputTrust::Tofu);
        }
        let what = match kind {
            allowlist::InputKind::Model => {
                format!("no trusted allowlist has `{}` of `{of}`", file.path)
            }
            allowlist::InputKind::Dataset => format!("no trusted allowlist has `{of}`"),
        };
        Err(Error::refused(ErrorCode::Untrusted, what)
            .because(format!(
                "{path} lists no {} file with the digest {}",
                kind.name(),
                file.sha256
            ))
            .hint(format!(
                "someone with an approval key runs: `firebrand allowlist approve {path} …`"
            )))
    }

    /// The allowlist, for the lineage.
    pub fn record(&self) -> Option<AllowlistRecord> {
        let (path, opened) = self.allowlist.as_ref()?;
        Some(AllowlistRecord {
            path: path.clone(),
            sha256: opened.sha256,
            name: opened.allowlist.name.clone(),
            serial: opened.allowlist.serial,
            signer: opened.hint.clone(),
        })
    }
}
