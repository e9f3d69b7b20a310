//! `firebrand allowlist`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::artifact::keys::{self, SigningKey};
use crate::artifact::signature;
use crate::cli::{data_json, data_line, talk};
use crate::error::{Error, Result};
use crate::files::{FileEntry, hash_file, hash_tree};
use crate::hub::{DataLock, Locked};
use crate::verify::allowlist::{Allowlist, Approved, ApprovedFile, InputKind, OpenedAllowlist};
use crate::verify::{Seen, Trust};

/// Approve base models and data sets in a signed list
///
/// A configuration with `trust.allowlist` uses nothing else. The list counts with its signature,
/// up to its date, and never again once a higher serial number of it was seen.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Approve(Approve),
    Withdraw(Withdraw),
    Show(Show),
}

/// Add or renew entries, and sign; without INPUT, only renew the date
#[derive(Debug, clap::Args)]
struct Approve {
    /// The list; made if it is not there
    allowlist: PathBuf,
    /// A lock (everything that it pins), a model directory, or a data file
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// What a new list is called; else as its file
    #[arg(long)]
    name: Option<String>,
    /// For how long it counts
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    key: KeyArgs,
}

/// Take entries away, and sign
#[derive(Debug, clap::Args)]
struct Withdraw {
    /// The list
    allowlist: PathBuf,
    /// As the list names them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// Check a list and show what it approves
#[derive(Debug, clap::Args)]
struct Show {
    /// The list
    allowlist: PathBuf,
    /// The public key (PEM) that must have signed it, in place of those that you trust
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// Sign with this private key (PEM); else FIREBRAND_SIGNING_KEY, else your own
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
}

impl KeyArgs {
    pub(super) fn load(&self) -> Result<SigningKey> {
        let explicit = self.key.as_ref().map(|path| path.to_string_lossy().into_owned());
        let environment = std::env::var(keys::ENVIRONMENT).ok();
        let home = keys::config_home()?;
        let environment = environment.as_deref();
        keys::load_or_create(&home, explicit.as_deref(), environment, Vec::new()).map(|it| it.0)
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Approve(args) => approve(args)?,
        Command::Withdraw(args) => withdraw(args)?,
        Command::Show(args) => show(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn approve(args: &Approve) -> Result<()> {
    let key = args.key.load()?;
    let expires = Timestamp::now().checked_add((i64::from(args.days) * 24).hours());
    let expires = expires.map_err(|error| Error::usage("not a valid date").because(error))?;
    let mut allowlist = match args.allowlist.exists() {
        true => {
            // What is signed again must have been good before. The date may have passed.
            let mut found = existing(&args.allowlist, &key)?;
            if args.name.as_ref().is_some_and(|name| *name != found.name) {
                let name = found.name;
                return Err(Error::usage(format!(
                    "the allowlist is named `{name}`, and its name cannot change"
                ))
                .at(&args.allowlist)
                .hint("leave `--name` out, or start another allowlist"));
            }
            found.expires = expires;
            found
        }
        false => {
            let stem = args.allowlist.file_stem().unwrap_or_default().to_string_lossy();
            Allowlist::new(args.name.as_deref().unwrap_or(&stem), expires)
        }
    };
    for input in &args.inputs {
        for entry in entries(input)? {
            talk(&format!("{} `{}`: {} files", entry.kind.name(), entry.name, entry.files.len()));
            allowlist.put(entry);
        }
    }
    publish(&mut allowlist, &args.allowlist, &key)
}

fn withdraw(args: &Withdraw) -> Result<()> {
    let key = args.key.load()?;
    let mut allowlist = existing(&args.allowlist, &key)?;
    for name in &args.names {
        let gone = [InputKind::Model, InputKind::Dataset].map(|kind| allowlist.remove(kind, name));
        if gone == [false, false] {
            return Err(Error::usage(format!("the list has no `{name}`")).at(&args.allowlist));
        }
    }
    publish(&mut allowlist, &args.allowlist, &key)
}

fn publish(allowlist: &mut Allowlist, path: &Path, key: &SigningKey) -> Result<()> {
    allowlist.publish(path, key)?;
    talk(&format!(
        "`{}` has the serial number {} and counts until {:.0}; signed by key {}",
        allowlist.name,
        allowlist.serial,
        allowlist.expires,
        &key.public().hint()[..12]
    ));
    data_line(&path.display().to_string())
}

/// A list that is there: signed by the key at hand, or one that the user trusts with it.
fn existing(path: &Path, key: &SigningKey) -> Result<Allowlist> {
    let own = Trust::only(key.public(), path);
    let open = |trust: Trust| Allowlist::open(path, &trust.at(Timestamp::MIN), None);
    let opened = open(own).or_else(|_| open(Trust::of_user(&keys::config_home()?)?));
    Ok(opened?.allowlist)
}

fn show(args: &Show) -> Result<()> {
    let home = keys::config_home()?;
    let trust = match &args.key {
        Some(path) => Trust::key_file(path)?.limited_by(&home)?,
        None => Trust::of_user(&home)?,
    };
    let OpenedAllowlist { allowlist, sha256, hint, .. } =
        Allowlist::open(&args.allowlist, &trust, Some(&Seen::of_user(&home)))?;
    if args.json {
        let line = json!({"allowlist": allowlist, "sha256": sha256, "signer": hint});
        return data_json(&line.to_string());
    }
    data_line(&format!(
        "{}, serial number {}, counts until {:.0}, signed by key {}",
        allowlist.name,
        allowlist.serial,
        allowlist.expires,
        &hint[..12]
    ))?;
    for entry in &allowlist.artifacts {
        let commit = entry.commit.as_deref().map(|commit| format!(" at {commit}"));
        let bytes: u64 = entry.files.iter().map(|file| file.size).sum();
        data_line(&format!(
            "{} {}{}: {} files, {}",
            entry.kind.name(),
            entry.name,
            commit.unwrap_or_default(),
            entry.files.len(),
            crate::event::bytes(bytes)
        ))?;
    }
    Ok(())
}

/// What an argument stands for.
fn entries(input: &Path) -> Result<Vec<Approved>> {
    let name = input.to_string_lossy().into_owned();
    if input.extension().is_some_and(|extension| extension == "lock") {
        let lock =
            DataLock::read(input)?.ok_or_else(|| Error::lock("there is no lock").at(input))?;
        let of = |(kind, entry): (InputKind, &Locked)| locked(kind, entry, input);
        let models = lock.model.iter().map(|entry| (InputKind::Model, entry));
        let data = lock.data.iter().map(|entry| (InputKind::Dataset, entry));
        return models.chain(data).map(of).collect();
    }
    let one = |kind, files: Vec<FileEntry>| {
        let file = |file: FileEntry| ApprovedFile {
            path: file.path,
            size: file.size,
            sha256: file.sha256,
        };
        let files = files.into_iter().map(file).collect();
        Approved { name: name.clone(), kind, commit: None, files }
    };
    if input.is_dir() {
        let mut files = hash_tree(input)?;
        files.retain(|file| file.path != signature::FILE);
        let model = input.join("config.json").is_file();
        return Ok(vec![one(if model { InputKind::Model } else { InputKind::Dataset }, files)]);
    }
    Ok(vec![one(InputKind::Dataset, vec![hash_file(input, &name)?])])
}

fn locked(kind: InputKind, entry: &Locked, path: &Path) -> Result<Approved> {
    let mut files = Vec::new();
    for file in &entry.files {
        let sha256 = file.sha256.ok_or_else(|| {
            Error::lock(format!("the lock has no digest of `{}` of `{}`", file.path, entry.name))
                .at(path)
                .hint("`firebrand pull` fetches and pins every byte")
        })?;
        files.push(ApprovedFile { path: file.path.clone(), size: file.size, sha256 });
    }
    Ok(Approved { name: entry.title(), kind, commit: entry.commit.clone(), files })
}
