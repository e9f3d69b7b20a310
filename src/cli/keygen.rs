//! `firebrand keygen`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::keys;
use crate::cli::{data_line, talk};
use crate::error::Result;

/// Make a key pair to sign artifacts with (ECDSA P-256, PEM)
///
/// The private key gets mode 0600; its public half lies beside it and goes to those who verify.
/// Point `output.signing_key` or FIREBRAND_SIGNING_KEY at the private key. The password of an
/// encrypted key is asked for wherever the key is used, or taken from FIREBRAND_KEY_PASSWORD.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file for the private key, e.g. `release.pem`; an existing one is never replaced
    path: PathBuf,
    /// Encrypt the private key under a password (PKCS#8: scrypt and AES-256)
    #[arg(long)]
    encrypt: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let (key, public) = keys::keygen(&args.path, args.encrypt)?;
    talk(&format!("private key: {} (keep it secret)", args.path.display()));
    talk(&format!("public key:  {} (give it to those who verify)", public.display()));
    data_line(key.public().hint())?;
    Ok(ExitCode::SUCCESS)
}
