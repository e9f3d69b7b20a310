//! `firebrand sign`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::artifact::certificate::Certificate;
use crate::artifact::keys::{self, KeyOrigin, SigningKey};
use crate::artifact::program::Program;
use crate::artifact::signature::{self, Signed};
use crate::cli::identity::IdentityArgs;
use crate::cli::place::model_directory;
use crate::cli::{data_line, talk};
use crate::document::{Value, value_of};
use crate::error::{Error, ErrorCode, Result, printable};
use crate::files::FileEntry;
use crate::settings::KEYS;
use crate::verify::{CheckVerdict, Role, Trust, verify, who_signed};

/// Sign a model directory, made by Firebrand or not
///
/// Writes `model.sig` over every file in the OpenSSF Model Signing format. Signs with the key that
/// `--key` or FIREBRAND_SIGNING_KEY names, else the user's own, which is made on first use; or lets
/// a program sign. With `--method certificate` the signature carries the signer's certificate, and
/// who trusts the authority that issued it need not know the key. With `--method sigstore` a
/// program signs keyless: it gets the statement on stdin and prints a Sigstore bundle around it,
/// with the certificate of an identity, its entry in a transparency log and a time. Links, special
/// files, bad weights' headers and a lineage that is about other files are refused, since nobody
/// would accept the result. Git's own files and what downloads leave behind are not signed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model directory, or a run whose artifact it is
    directory: PathBuf,
    /// Sign with this private key (PEM)
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Let this program sign: a name, or program and arguments as in `output.signer`, e.g.
    /// `["openssl", "dgst", "-sha256", "-sign", "release.pem"]`
    #[arg(long, value_name = "PROGRAM", conflicts_with = "key")]
    signer: Option<String>,
    /// The public key (PEM) that the program's signature must fit; not with `--method sigstore`
    #[arg(long, value_name = "PEM", requires = "signer")]
    public_key: Option<PathBuf>,
    /// What the signature names its signer by
    #[arg(long, value_name = "METHOD", default_value = "key")]
    method: Method,
    /// The signer's certificate, then those of the authorities above it (PEM)
    #[arg(long, value_name = "PEM")]
    cert_chain: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Replace a signature that is there; attestations beside the model are set aside
    #[arg(long)]
    force: bool,
}

/// What a signature names its signer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// A public key
    Key,
    /// A certificate (X.509)
    Certificate,
    /// An identity, whose certificate is of minutes (Sigstore); `--signer` makes the bundle
    Sigstore,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let directory = model_directory(&args.directory);
    let present = directory.join(signature::FILE);
    if present.symlink_metadata().is_ok() && !args.force {
        return Err(Error::exists("the model is signed already")
            .at(&present)
            .hint("`--force` replaces the signature"));
    }
    let seen = fit_files(&directory)?;
    if args.method == Method::Sigstore {
        return run_keyless(args, &directory, &seen);
    }
    if args.identity.identity()?.is_some() {
        return Err(Error::usage("`--trusted-root` requires `--method sigstore`"));
    }
    let (key, origin) = signing_key(args)?;
    if let KeyOrigin::Created(path) = &origin {
        talk(&format!("made a key pair to sign with: {}", path.display()));
    }
    // Where they could not be read, the error of signing says it best.
    let signed = match seen.as_slice() {
        [] => signature::sign(&directory, &key)?,
        seen => signature::sign_seen(&directory, seen, &key)?,
    };
    told(args, &directory, &signed, &format!("{} ({origin})", key.name()))
}

/// Lets the program make the whole bundle.
fn run_keyless(args: &Args, directory: &Path, seen: &[FileEntry]) -> Result<ExitCode> {
    if args.public_key.is_some() || args.cert_chain.is_some() || args.key.is_some() {
        let what = "`--method sigstore` takes no key and no certificate: the program has them";
        return Err(Error::usage(what).hint("leave out `--key`, `--public-key`, `--cert-chain`"));
    }
    let signer = args.signer.as_ref().ok_or_else(|| {
        Error::usage("`--method sigstore` requires `--signer`")
            .hint("name the program that gets the statement on stdin and prints a Sigstore bundle")
    })?;
    let program = Program::keyless(&command(signer)?)?;
    let identity = args.identity.identity()?;
    let mut who = String::new();
    let checked = identity.is_some();
    let trust = identity.into_iter().fold(Trust::default(), Trust::and_identity);
    let signed = signature::sign_seen_keyless(directory, seen, &program, |bundle| {
        let found = who_signed(bundle, &trust, Role::Train, None);
        who = printable(&found.name);
        match found.objection.filter(|_| checked) {
            Some(why) => Err(Error::key("the program's signature does not count").because(why)),
            None => Ok(()),
        }
    })?;
    let how = match checked {
        true => "as the trusted root proves",
        false => "not proven without `--trusted-root`",
    };
    told(args, directory, &signed, &format!("{who}, {how} ({})", program.name()))
}

fn told(args: &Args, directory: &Path, signed: &Signed, who: &str) -> Result<ExitCode> {
    let bytes: u64 = signed.files.iter().map(|file| file.size).sum();
    talk(&format!("{} files, {bytes} bytes, root digest {}", signed.files.len(), signed.root));
    if !signed.unsigned.is_empty() {
        let names = signed.unsigned.join("`, `");
        talk(&format!("not signed, being no part of the model: `{names}`"));
    }
    talk(&format!("signed by {who}"));
    if args.force
        && let Some(aside) = signature::set_attestations_aside(directory)?
    {
        let name = aside.display();
        talk(&format!("attestations about the model as it was before are now {name}"));
    }
    data_line(&directory.join(signature::FILE).display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn signing_key(args: &Args) -> Result<(SigningKey, KeyOrigin)> {
    let certificates = match (args.method, &args.cert_chain) {
        (Method::Key | Method::Sigstore, None) => Vec::new(),
        (Method::Certificate, Some(path)) => Certificate::all_from_file(path)?,
        (Method::Key | Method::Sigstore, Some(_)) => {
            return Err(Error::usage("`--cert-chain` requires `--method certificate`"));
        }
        (Method::Certificate, None) => {
            return Err(Error::usage("`--method certificate` requires `--cert-chain`")
                .hint("name the file with the signer's certificate, and those above it (PEM)"));
        }
    };
    if let (Some(signer), Some(public)) = (&args.signer, &args.public_key) {
        return keys::held_by(&command(signer)?, public, certificates);
    }
    if args.signer.is_some() {
        return Err(Error::usage("`--signer` requires `--public-key`")
            .hint("name the public key (PEM) that its signatures fit, or `--method sigstore`"));
    }
    let explicit = args.key.as_ref().map(|path| path.to_string_lossy().into_owned());
    let environment = std::env::var(keys::ENVIRONMENT).ok();
    let home = keys::config_home()?;
    keys::load_or_create(&home, explicit.as_deref(), environment.as_deref(), certificates)
}

/// A program without arguments, or an array as the configuration has it.
pub(super) fn command(text: &str) -> Result<Vec<String>> {
    if !text.trim_start().starts_with('[') {
        return Ok(vec![text.to_owned()]);
    }
    match value_of(&KEYS, "output.signer", text) {
        Some(Value::Texts(command)) => Ok(command),
        _ => Err(Error::usage("`--signer` is not an array of strings")
            .hint("write it as `[\"program\", \"argument\"]`")),
    }
}

/// The files, as they were looked at; what `verify` would refuse whoever signs it is refused.
fn fit_files(directory: &Path) -> Result<Vec<FileEntry>> {
    let report = verify(directory, &Trust::default());
    let unfit = report
        .checks
        .iter()
        .filter(|finding| finding.check.is_of_contents() && finding.verdict == CheckVerdict::Fail);
    let problems: Vec<String> =
        unfit.map(|finding| format!("{}: {}", finding.check.label(), finding.detail)).collect();
    if problems.is_empty() {
        return Ok(report.files);
    }
    let error = Error::refused(
        ErrorCode::Signature,
        "this model cannot be signed: no verifier would accept it",
    )
    .at(directory);
    Err(problems.iter().fold(error, |error, problem| error.because(problem)))
}
