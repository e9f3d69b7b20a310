//! `firebrand sign-model`, `firebrand verify-model`: what the standard's conformance suite calls.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::artifact::certificate::Certificate;
use crate::cli::talk;
use crate::error::{Error, Result};
use crate::verify::conformance::{Signing, Verifying, Whom, sign_model, verify_model};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    Key,
    Certificate,
}

/// Sign as the OpenSSF Model Signing standard has it, for its conformance suite
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    #[arg(long)]
    method: Method,
    #[arg(long)]
    model_path: PathBuf,
    #[arg(long)]
    output_bundle: PathBuf,
    #[arg(long)]
    private_key: PathBuf,
    #[arg(long, required_if_eq("method", "certificate"))]
    signing_cert: Option<PathBuf>,
    #[arg(long)]
    cert_chain: Vec<PathBuf>,
    #[arg(long)]
    ignore_paths: Vec<PathBuf>,
}

/// Verify as the OpenSSF Model Signing standard has it, for its conformance suite
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[arg(long)]
    method: Method,
    #[arg(long)]
    model_path: PathBuf,
    #[arg(long)]
    bundle: PathBuf,
    #[arg(long, required_if_eq("method", "key"))]
    public_key: Option<PathBuf>,
    #[arg(long, required_if_eq("method", "certificate"))]
    cert_chain: Vec<PathBuf>,
    #[arg(long)]
    ignore_paths: Vec<PathBuf>,
    #[arg(long)]
    ignore_unsigned_files: bool,
}

pub fn sign(args: &SignArgs) -> Result<ExitCode> {
    let mut certificates = Vec::new();
    if args.method == Method::Certificate {
        for path in args.signing_cert.iter().chain(&args.cert_chain) {
            certificates.extend(Certificate::all_from_file(path)?);
        }
    }
    sign_model(&Signing {
        model: &args.model_path,
        private_key: &args.private_key,
        certificates,
        ignored: &args.ignore_paths,
        output: &args.output_bundle,
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let whom = match (args.method, &args.public_key) {
        (Method::Key, Some(path)) => Whom::Key(path.clone()),
        (Method::Key, None) => return Err(Error::usage("`--public-key` is missing")),
        (Method::Certificate, _) => {
            let mut authorities = Vec::new();
            for path in &args.cert_chain {
                authorities.extend(Certificate::all_from_file(path)?);
            }
            Whom::Authorities(authorities)
        }
    };
    verify_model(&Verifying {
        model: &args.model_path,
        bundle: &args.bundle,
        whom,
        ignored: &args.ignore_paths,
        ignore_unsigned: args.ignore_unsigned_files,
    })?;
    talk("verified");
    Ok(ExitCode::SUCCESS)
}
