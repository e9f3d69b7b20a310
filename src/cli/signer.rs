//! Who signs what a command makes: the same choice for all of them.

use std::path::{Path, PathBuf};

use crate::artifact::keys::{self, KeyOrigin, SigningKey};
use crate::cli::sign::command;
use crate::cli::talk;
use crate::error::Result;

/// Who signs the result.
#[derive(Debug, clap::Args)]
pub struct SignerArgs {
    /// Do not sign the result
    #[arg(long)]
    no_sign: bool,
    /// Sign with this private key (PEM), in place of FIREBRAND_SIGNING_KEY or the user's own
    #[arg(long, value_name = "PEM", alias = "signing-key", conflicts_with = "no_sign")]
    key: Option<PathBuf>,
    /// Let this program sign: a name, or program and arguments as in `output.signer`
    #[arg(
        long,
        value_name = "PROGRAM",
        conflicts_with_all = ["key", "no_sign"],
        requires = "public_key"
    )]
    signer: Option<String>,
    /// The public key (PEM) that the program's signature must fit
    #[arg(long, value_name = "PEM", requires = "signer")]
    public_key: Option<PathBuf>,
}

impl SignerArgs {
    /// Whether anything was said about it.
    pub fn is_given(&self) -> bool {
        self.no_sign || self.key.is_some() || self.signer.is_some()
    }

    /// The key, and where it is; `None` where nothing is to be signed.
    pub fn signer(&self) -> Result<Option<(SigningKey, KeyOrigin)>> {
        if self.no_sign {
            return Ok(None);
        }
        if let (Some(signer), Some(public)) = (&self.signer, &self.public_key) {
            return keys::held_by(&command(signer)?, public, Vec::new()).map(Some);
        }
        let explicit = self.key.as_ref().map(|path| path.to_string_lossy().into_owned());
        let environment = std::env::var(keys::ENVIRONMENT).ok();
        let home = keys::config_home()?;
        let environment = environment.as_deref();
        keys::load_or_create(&home, explicit.as_deref(), environment, Vec::new()).map(Some)
    }
}

/// Says who signed what was made, and how to check it.
pub fn tell(signer: Option<&(SigningKey, KeyOrigin)>, made: &Path) {
    match signer {
        Some((key, origin)) => {
            talk(&format!("signed by {} ({origin})", key.name()));
        }
        None => talk("not signed (`--no-sign`)"),
    }
    talk(&format!("check it:  firebrand verify {}", made.display()));
}
