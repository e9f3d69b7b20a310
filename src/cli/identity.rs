//! Whose signatures count: the same options for every command that has them.

use std::path::{Path, PathBuf};

use crate::artifact::keys;
use crate::error::Result;
use crate::verify::{KeyLimits, SigstoreRoot, Trust, TrustedIdentity};

/// Whose keyless signatures count.
#[derive(Debug, Default, clap::Args)]
pub struct IdentityArgs {
    /// Trust keyless signatures (Sigstore) that this trusted root proves, by `--identity` and
    /// nobody else; without a network
    #[arg(long, value_name = "JSON", requires_all = ["identity", "identity_provider"])]
    trusted_root: Option<PathBuf>,
    /// Whom the certificate must name: an e-mail address, or the URI of a workload
    #[arg(long, value_name = "NAME", requires = "trusted_root")]
    identity: Option<String>,
    /// The identity provider that must have said so, a URL
    #[arg(long, value_name = "URL", alias = "identity_provider", requires = "trusted_root")]
    identity_provider: Option<String>,
}

impl IdentityArgs {
    /// The identity, if one is named.
    ///
    /// # Errors
    /// When the trusted root cannot be used.
    pub fn identity(&self) -> Result<Option<TrustedIdentity>> {
        let (Some(file), Some(identity), Some(issuer)) =
            (&self.trusted_root, &self.identity, &self.identity_provider)
        else {
            return Ok(None);
        };
        Ok(Some(TrustedIdentity {
            identity: identity.clone(),
            issuer: issuer.clone(),
            root: SigstoreRoot::from_file(file)?,
            file: file.clone(),
            limits: KeyLimits::default(),
        }))
    }
}

/// Whom to trust: the key, the authorities and the identity that were named, within the limits that
/// the user has set, or whom the user trusts.
pub fn trust(key: Option<&Path>, roots: Option<&Path>, identity: &IdentityArgs) -> Result<Trust> {
    let identity = identity.identity()?;
    if key.is_none() && roots.is_none() && identity.is_none() {
        return Trust::of_user(&keys::config_home()?);
    }
    let mut named = match key {
        Some(key) => Trust::key_file(key)?,
        None => Trust::default(),
    };
    if let Some(roots) = roots {
        named = named.and_roots(roots)?;
    }
    if let Some(identity) = identity {
        named = named.and_identity(identity);
    }
    match keys::config_home() {
        Ok(home) => named.limited_by(&home),
        Err(_) => Ok(named), // a machine without a home has no such settings
    }
}
