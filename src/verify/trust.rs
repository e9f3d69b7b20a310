//! Which keys the user trusts, for what, and how long. It is the reader's decision, never the
//! model's.

use crate::verify::trusted_keys::{Authority, TrustedIdentity, TrustedKey};
use std::path::Path;

use jiff::Timestamp;

use super::trusted_keys::{self, KeyLimits, Known};
use super::trusted_keys_table::Role;
use crate::artifact::certificate::Certificate;
use crate::artifact::keys::{self, PublicKey};
use crate::error::{Context, Result};

/// The keys and identities that may vouch for a model, and the authorities that say whose
/// certificates may.
#[derive(Debug, Clone)]
pub struct Trust {
    keys: Vec<TrustedKey>,
    authorities: Vec<Authority>,
    identities: Vec<TrustedIdentity>,
    now: Timestamp,
}

impl Default for Trust {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Trust {
    fn of(keys: Vec<TrustedKey>) -> Self {
        let (authorities, identities) = (Vec::new(), Vec::new());
        Self { keys, authorities, identities, now: Timestamp::now() }
    }

    /// Only the key of this PEM file.
    pub fn key_file(path: &Path) -> Result<Self> {
        Ok(Self::of(vec![unlimited(path)?]))
    }

    /// Only the keys of these PEM files, and whom those of them name that end in `.toml`: lists in
    /// the form of `trusted-keys.toml`. Who is in several of them counts as far as each allows.
    pub fn key_files(paths: &[String]) -> Result<Self> {
        let mut trust = Self::default();
        for path in paths.iter().map(Path::new) {
            if path.extension().is_none_or(|extension| extension != "toml") {
                trust.add_key(unlimited(path)?);
                continue;
            }
            let Known { keys, authorities, identities } = trusted_keys::read_list(path)?;
            keys.into_iter().for_each(|key| trust.add_key(key));
            authorities.into_iter().for_each(|authority| trust.add_authority(authority));
            identities.into_iter().for_each(|identity| trust.add_identity(identity));
        }
        Ok(trust)
    }

    fn add_key(&mut self, key: TrustedKey) {
        match self.keys.iter_mut().find(|known| known.key.hint() == key.key.hint()) {
            Some(known) => known.limits = known.limits.narrowed(&key.limits),
            None => self.keys.push(key),
        }
    }

    fn add_authority(&mut self, authority: Authority) {
        let same = |known: &&mut Authority| known.certificate == authority.certificate;
        match self.authorities.iter_mut().find(same) {
            Some(known) => known.limits = known.limits.narrowed(&authority.limits),
            None => self.authorities.push(authority),
        }
    }

    fn add_identity(&mut self, identity: TrustedIdentity) {
        let same = |known: &&mut TrustedIdentity| {
            known.is_named_as(&identity) && known.root == identity.root
        };
        match self.identities.iter_mut().find(same) {
            Some(known) => known.limits = known.limits.narrowed(&identity.limits),
            None => self.identities.push(identity),
        }
    }

    /// Only this key.
    pub fn only(key: &PublicKey, file: &Path) -> Self {
        let (key, file) = (key.clone(), file.to_path_buf());
        Self::of(vec![TrustedKey { key, file, limits: KeyLimits::default() }])
    }

    /// Nobody but whom the authorities of this PEM file vouch for, beside whom is trusted already.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn and_roots(mut self, path: &Path) -> Result<Self> {
        for certificate in Certificate::all_from_file(path)? {
            let (file, limits) = (path.to_path_buf(), KeyLimits::default());
            self.add_authority(Authority { certificate, file, limits });
        }
        Ok(self)
    }

    /// An identity beside whom is trusted already.
    #[must_use]
    pub fn and_identity(mut self, identity: TrustedIdentity) -> Self {
        self.add_identity(identity);
        self
    }

    /// The user's own key, every `.pem` file in `trusted-keys/` beside it, and the keys of
    /// `trusted-keys.toml`. What that file says of a key holds wherever else the key lies.
    pub fn of_user(config_home: &Path) -> Result<Self> {
        let Known { keys, authorities, identities } = trusted_keys::read(config_home)?;
        let mut trust = Self { authorities, ..Self::of(keys) };
        identities.into_iter().for_each(|identity| trust.add_identity(identity));
        let own = config_home.join(keys::PUBLIC_FILE);
        if own.exists() {
            trust.add_key(unlimited(&own)?);
        }
        let folder = config_home.join(keys::TRUSTED_FOLDER);
        if folder.exists() {
            let entries = folder.read_dir().context_at("cannot list the folder", &folder)?;
            let mut others = Vec::new();
            for entry in entries {
                let path = entry.context_at("cannot list the folder", &folder)?.path();
                if path.extension().is_some_and(|extension| extension == "pem") {
                    others.push(path);
                }
            }
            others.sort();
            for path in others {
                trust.add_key(unlimited(&path)?);
            }
        }
        Ok(trust)
    }

    /// Takes away what the user's `trusted-keys.toml` does not allow the keys, authorities and
    /// identities that are trusted here, and adds none; but one that was revoked is revoked,
    /// whoever vouches for it.
    ///
    /// # Errors
    /// When there is such a file and it cannot be read.
    pub fn limited_by(mut self, config_home: &Path) -> Result<Self> {
        let Known { keys, authorities, identities } = trusted_keys::read(config_home)?;
        for identity in &mut self.identities {
            let named = || identities.iter().filter(|known| known.is_named_as(identity));
            // What is said of it under another root counts where nothing is said under this one.
            let here: Vec<_> = named().filter(|known| known.root == identity.root).collect();
            let said = if here.is_empty() { named().collect() } else { here };
            identity.limits = said
                .into_iter()
                .fold(identity.limits.clone(), |limits, known| limits.narrowed(&known.limits));
        }
        for known in authorities {
            let same = |it: &&mut Authority| it.certificate == known.certificate;
            for authority in self.authorities.iter_mut().filter(same) {
                authority.limits = authority.limits.narrowed(&known.limits);
            }
        }
        for known in keys {
            let hint = known.key.hint();
            match self.keys.iter_mut().find(|key| key.key.hint() == hint) {
                Some(key) => key.limits = key.limits.narrowed(&known.limits),
                None if known.limits.revoked.is_some() => self.keys.push(known),
                None => {}
            }
        }
        Ok(self)
    }

    /// The same keys at another time than the present.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The key that a signature names.
    pub fn find(&self, hint: &str) -> Option<&TrustedKey> {
        self.keys.iter().find(|trusted| trusted.key.hint() == hint)
    }

    /// Why someone with these limits may not vouch now for what was finished at a time; `None` if
    /// it may.
    pub fn objection(
        &self,
        limits: &KeyLimits,
        role: Option<Role>,
        finished: Option<Timestamp>,
    ) -> Option<String> {
        limits.objection(role, self.now, finished)
    }

    /// Every trusted key.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// Every trusted identity.
    pub fn identities(&self) -> &[TrustedIdentity] {
        &self.identities
    }

    /// Every trusted authority.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }
}

fn unlimited(path: &Path) -> Result<TrustedKey> {
    let (key, file) = (PublicKey::from_file(path)?, path.to_path_buf());
    Ok(TrustedKey { key, file, limits: KeyLimits::default() })
}
