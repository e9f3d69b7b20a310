//! `firebrand push`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use serde_json::json;

use crate::artifact::keys;
use crate::cli::place::model_directory;
use crate::cli::{data_json, data_line, talk};
use crate::error::{Error, Result};
use crate::event::{Transfers as _, bytes};
use crate::files::hash_tree;
use crate::hub::{Hub, RepoKind, RepoName, Settings, Upload};
use crate::report::Transfers;
use crate::verify::{Trust, Verdict, verify};

/// Upload a model to a hub: an adapter, a merged model or an export, with signature and lineage
///
/// The repository is made if there is none. Only what verifies here is uploaded; what the hub has
/// already is not sent again, so that a push that broke off goes on when it is started again; and
/// the commit is read back and compared with what is here, file by file. The access token is that
/// of `HF_TOKEN`, or of the file where Hugging Face's tools keep it; it needs the right to write.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, or an export
    model: PathBuf,
    /// `owner/name` on the hub
    #[arg(value_name = "OWNER/NAME")]
    repo: String,
    /// The branch, which is made if there is none
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    revision: String,
    /// First line of the commit's message
    #[arg(long, value_name = "TEXT", default_value = "Upload a model with Firebrand")]
    message: String,
    /// Make the repository a private one, if it is made
    #[arg(long)]
    private: bool,
    /// Propose the commit as a pull request
    #[arg(long)]
    create_pr: bool,
    /// Delete what else is in the repository: a signature is of all files of a model
    #[arg(long)]
    replace: bool,
    /// Upload what nobody signed, too
    #[arg(long)]
    unsigned: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let folder = model_directory(&args.model);
    if !folder.is_dir() {
        return Err(Error::file("there is no such run or artifact").at(&args.model));
    }
    let repo = RepoName::parse(RepoKind::Model, &args.repo)?;
    refuse_unverified(&folder, args)?;
    let files = hash_tree(&folder)?;
    let transfers = Transfers::new(args.quiet || args.json);
    let hub = Hub::new(Settings::from_env()?)?.with_notice(|text| talk(&text));
    let numbers: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let progress = |name: &str, size: u64, there: u64| {
        let mut numbers = numbers.lock().expect("no thread panics with it");
        let number = *numbers.entry(name.to_owned()).or_insert_with(|| transfers.begin(name, size));
        transfers.advance(number, there);
        if there == size {
            transfers.end(number, false);
        }
    };
    let done = hub.upload(&Upload {
        repo: &repo,
        branch: &args.revision,
        folder: &folder,
        files: &files,
        message: &args.message,
        private: args.private,
        propose: args.create_pr,
        replace: args.replace,
        progress: &progress,
    })?;
    if args.json {
        let line = json!({"repository": repo.id(), "commit": done.commit, "page": done.page,
            "sent": done.sent, "there": done.there, "deleted": done.deleted});
        data_json(&line.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.quiet {
        let size: u64 = files.iter().map(|file| file.size).sum();
        let sent = done.sent.len();
        talk(&format!(
            "{} files, {}: {sent} sent, {} were there, {} deleted; read back, all as they are here",
            files.len(),
            bytes(size),
            done.there,
            done.deleted.len()
        ));
        talk(&format!("check it: firebrand verify {repo}@{}", done.commit));
    }
    data_line(&done.page)?;
    Ok(ExitCode::SUCCESS)
}

/// What does not hold here holds nowhere.
fn refuse_unverified(folder: &std::path::Path, args: &Args) -> Result<()> {
    let report = verify(folder, &Trust::of_user(&keys::config_home()?)?);
    match report.verdict {
        Verdict::Verified => Ok(()),
        Verdict::Unsigned if args.unsigned => Ok(()),
        // Somebody else's model stays as they signed it.
        Verdict::Untrusted => {
            talk("note: it is signed by a key that you do not trust");
            Ok(())
        }
        Verdict::Unsigned => Err(Error::signature("nobody signed it")
            .at(folder)
            .hint("`firebrand sign` signs it, `--unsigned` uploads it as it is")),
        verdict => Err(Error::signature(format!("it does not verify: {verdict}"))
            .at(folder)
            .hint(format!("`firebrand verify {}` says what is wrong", folder.display()))),
    }
}
