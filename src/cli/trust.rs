//! `firebrand trust`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::artifact::keys::{self, PublicKey};
use crate::cli::{data_json, data_line, talk};
use crate::error::{Context, Error, Result};
use crate::files::write_atomic;
use crate::verify::{KeyLimits, Trust, TrustedKey};

/// Whose signatures count here: list the keys, add one, take one away
///
/// They are your own key, the files in `trusted-keys/` of your settings, and the keys, authorities
/// and keyless identities of `trusted-keys.toml` there, which also says what each may vouch for and
/// how long. A fingerprint is the SHA-256 of the public key as `openssl pkey -pubin -in KEY
/// -outform DER | openssl dgst -sha256 -c` prints it: compare it with what its owner tells you by
/// another way.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List whom you trust, for what, and where it says so
    List {
        /// One JSON object per key, authority or identity
        #[arg(long)]
        json: bool,
    },
    /// Trust a public key from now on, for everything
    Add {
        /// The public key (PEM)
        key: PathBuf,
        /// What to call it; else as its file
        #[arg(long)]
        name: Option<String>,
    },
    /// Trust a key no more that was added
    Remove {
        /// What it is called, or at least 8 digits of how signatures name it
        key: String,
    },
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let home = keys::config_home()?;
    match &args.command {
        Command::List { json } => list(&home, *json)?,
        Command::Add { key, name } => add(&home, key, name.as_deref())?,
        Command::Remove { key } => remove(&home, key)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What bounds a key, for people.
fn bounds(limits: &KeyLimits) -> String {
    let mut all = Vec::new();
    if let Some(reason) = &limits.revoked {
        all.push(if reason.is_empty() { "revoked".into() } else { format!("revoked: {reason}") });
    }
    match &limits.roles {
        Some(roles) => {
            let roles: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
            all.push(format!("for {}", roles.join(" and ")));
        }
        None => all.push("for everything".to_owned()),
    }
    all.extend(limits.not_before.map(|time| format!("from {time}")));
    all.extend(limits.not_after.map(|time| format!("until {time}")));
    all.join(", ")
}

fn list(home: &Path, as_json: bool) -> Result<()> {
    let trust = Trust::of_user(home)?;
    for TrustedKey { key, file, limits } in trust.keys() {
        let (hint, file) = (key.hint(), file.display().to_string());
        if as_json {
            let line = json!({"key": hint, "fingerprint": key.fingerprint()?, "file": file,
                "limits": bounds(limits)});
            data_json(&line.to_string())?;
            continue;
        }
        data_line(&format!("key {}, {}", &hint[..12], bounds(limits)))?;
        data_line(&format!("  {}\n  {file}", key.fingerprint()?))?;
    }
    for authority in trust.authorities() {
        let (name, file) = (authority.certificate.subject(), authority.file.display().to_string());
        if as_json {
            let limits = bounds(&authority.limits);
            data_json(&json!({"authority": name, "file": file, "limits": limits}).to_string())?;
            continue;
        }
        data_line(&format!("authority `{name}`, {}\n  {file}", bounds(&authority.limits)))?;
    }
    for it in trust.identities() {
        let (file, limits) = (it.file.display().to_string(), bounds(&it.limits));
        if as_json {
            let line = json!({"identity": it.identity, "issuer": it.issuer, "file": file,
                "limits": limits});
            data_json(&line.to_string())?;
            continue;
        }
        data_line(&format!("identity `{}` ({}), {limits}\n  {file}", it.identity, it.issuer))?;
    }
    let nobody = trust.keys().is_empty() && trust.authorities().is_empty();
    if nobody && trust.identities().is_empty() {
        talk(&format!("you trust nobody yet: no key lies in {}", home.display()));
    }
    Ok(())
}

fn add(home: &Path, path: &Path, name: Option<&str>) -> Result<()> {
    let key = PublicKey::from_file(path)?;
    if let Some(known) = Trust::of_user(home)?.find(key.hint()) {
        return Err(Error::exists("this key is known already").at(&known.file).because(format!(
            "it is key {}, {}",
            &key.hint()[..12],
            bounds(&known.limits)
        )));
    }
    let file = path.file_name().map(|file| file.to_string_lossy().into_owned());
    let file = file.unwrap_or_default();
    let name = name.unwrap_or_else(|| file.split('.').next().unwrap_or_default());
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Error::usage("a key is called by letters, digits, `-` and `_`")
            .because(format!("`{name}` has others"))
            .hint("name it with `--name`"));
    }
    let target = home.join(keys::TRUSTED_FOLDER).join(format!("{name}.pem"));
    if target.exists() {
        return Err(Error::exists("another key is called so")
            .at(&target)
            .hint("name it otherwise with `--name`"));
    }
    std::fs::create_dir_all(home.join(keys::TRUSTED_FOLDER))
        .context_at("cannot make the folder", home)?;
    write_atomic(&target, key.pem().as_bytes())?;
    talk(&format!("key {} counts for everything from now on", &key.hint()[..12]));
    talk("its fingerprint, to compare with what its owner tells you by another way:");
    talk(&format!("  {}", key.fingerprint()?));
    data_line(&target.display().to_string())
}

fn remove(home: &Path, wanted: &str) -> Result<()> {
    let trust = Trust::of_user(home)?;
    let folder = home.join(keys::TRUSTED_FOLDER);
    let is_named = |key: &TrustedKey| {
        let stem = key.file.file_stem().is_some_and(|stem| stem == wanted);
        (stem && key.file.parent() == Some(&folder))
            || (wanted.len() >= 8 && key.key.hint().starts_with(wanted))
    };
    let found: Vec<&TrustedKey> = trust.keys().iter().filter(|key| is_named(key)).collect();
    let [key] = found[..] else {
        let what = if found.is_empty() { "no such key is trusted" } else { "several keys fit" };
        return Err(
            Error::key(format!("{what}: `{wanted}`")).hint("`firebrand trust list` shows them all")
        );
    };
    if key.file.parent() != Some(&folder) {
        return Err(Error::key("this key was not added to a list").at(&key.file).hint(format!(
            "your own key goes with its file; one of `{}` is revoked or removed there",
            crate::verify::TRUSTED_KEYS_FILE
        )));
    }
    std::fs::remove_file(&key.file).context_at("cannot remove the file", &key.file)?;
    talk(&format!("key {} counts no more", &key.key.hint()[..12]));
    data_line(&key.file.display().to_string())
}
