//! A folder becomes a commit of a repository on a hub: small files within the commit, large ones
//! before it. The calls are those of Python's `huggingface_hub`. What the hub has already is not
//! sent again, and the commit is read back: every file of it must be the one that is here.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::checked::check;
use super::client::Hub;
use super::file::RemoteFile;
use super::http::Sent;
use super::names::{RepoKind, RepoName, check_path, is_commit};
use super::retry::End;
use super::upload_call::{Upload, refused};
use super::upload_large::FILES_AT_ONCE;
use super::url::encode;
use crate::error::{Context, Error, Result};
use crate::files::FileEntry;

/// What the hub looks at to tell text from what goes through LFS.
const SAMPLE_BYTES: u64 = 512;
/// Largest file that is carried within a commit, whatever the hub says.
const WITHIN_COMMIT_MAX: u64 = 32 << 20;
/// What the hub itself puts into a repository.
const OF_THE_HUB: [&str; 2] = [".gitattributes", ".gitignore"];

/// What an upload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The commit that has exactly these files.
    pub commit: String,
    /// Where people see it.
    pub page: String,
    /// Files that were sent.
    pub sent: Vec<String>,
    /// Files that the hub had.
    pub there: usize,
    /// Files that were deleted.
    pub deleted: Vec<String>,
}

/// How the hub wants a file.
struct Wanted<'a> {
    file: &'a FileEntry,
    large: bool,
}

impl Hub {
    /// Makes the folder a commit, and the repository if there is none.
    ///
    /// # Errors
    /// Without a token that may write there, and where the repository has other files and is not to
    /// be replaced. Nothing of the repository is changed then.
    pub fn upload(&self, upload: &Upload) -> Result<Uploaded> {
        let Upload { repo, branch, files, .. } = *upload;
        if self.settings.offline {
            return Err(Error::offline("offline, and an upload needs a connection"));
        }
        if !self.client.has_token() {
            return Err(Error::access("an upload needs an access token with the right to write")
                .hint("make one at the hub, and put it into `HF_TOKEN`"));
        }
        files.iter().try_for_each(|file| check_path(&file.path))?;
        self.watched(|| {
            self.make(upload)?;
            let head = self.commit_at_hub(repo, branch)?;
            let before = self.listed(repo, &head)?;
            let others = others(upload, &before)?;
            let new: Vec<&FileEntry> = files
                .iter()
                .filter_map(|file| match self.is_there(upload, file, &before) {
                    Ok(true) => None,
                    Ok(false) => Some(Ok(file)),
                    Err(error) => Some(Err(error)),
                })
                .collect::<Result<_>>()?;
            if new.is_empty() && others.is_empty() {
                return Ok(self.done(upload, head, Vec::new(), Vec::new()));
            }
            let wanted = self.wanted(upload, &new)?;
            let large: Vec<&FileEntry> =
                wanted.iter().filter(|wanted| wanted.large).map(|wanted| wanted.file).collect();
            self.send_large(upload, &large)?;
            let commit = self.commit(upload, &head, &wanted, &others)?;
            self.compare(upload, &commit)?;
            let sent = new.iter().map(|file| file.path.clone()).collect();
            Ok(self.done(upload, commit, sent, others))
        })
    }

    fn done(
        &self,
        upload: &Upload,
        commit: String,
        sent: Vec<String>,
        deleted: Vec<String>,
    ) -> Uploaded {
        let page = format!("{}/{}/tree/{commit}", self.settings.endpoint, upload.repo);
        let there = upload.files.len() - sent.len();
        Uploaded { commit, page, sent, there, deleted }
    }

    /// Makes the repository and the branch, if they are not there.
    fn make(&self, upload: &Upload) -> Result<()> {
        let id = upload.repo.id();
        let (owner, name) = id.split_once('/').expect("names have two parts");
        let mut settings = json!({"name": name, "organization": owner});
        if upload.private {
            settings["visibility"] = "private".into();
        }
        self.post_unless_there(upload, "api/repos/create", &settings)?;
        if upload.branch != "main" {
            let path = format!("{}/branch/{}", api(upload.repo), encode(upload.branch, false));
            self.post_unless_there(upload, &path, &json!({}))?;
        }
        Ok(())
    }

    /// 409 says that it is there.
    fn post_unless_there(&self, upload: &Upload, path: &str, body: &Value) -> Result<()> {
        let call = self.call(path, "application/json")?;
        let body = Sent::Text(body.to_string().into_bytes());
        match self.tried(|| self.client.send(&call, &body)) {
            Ok(_) => Ok(()),
            Err(End::Failed(failure, _)) if failure.status == Some(409) => Ok(()),
            Err(end) => Err(refused(upload, end, "the repository")),
        }
    }

    /// Is the file in a commit as it is here?
    fn is_there(&self, upload: &Upload, file: &FileEntry, listed: &[RemoteFile]) -> Result<bool> {
        let Some(remote) = listed.iter().find(|remote| remote.path == file.path) else {
            return Ok(false);
        };
        if remote.is_large() {
            // Both sides know its digest: it need not be read once more.
            return Ok(remote.size == file.size && remote.sha256 == Some(file.sha256));
        }
        Ok(check(&upload.folder.join(&file.path), remote, None, &*self.stop)?.is_some())
    }

    /// Asks which files go through LFS.
    fn wanted<'a>(&self, upload: &Upload, files: &[&'a FileEntry]) -> Result<Vec<Wanted<'a>>> {
        let mut all = Vec::with_capacity(files.len());
        for files in files.chunks(FILES_AT_ONCE) {
            let mut asked = Vec::with_capacity(files.len());
            for file in files {
                let path = upload.folder.join(&file.path);
                let sample = read_part(&path, SAMPLE_BYTES)?;
                asked.push(json!({
                    "path": file.path,
                    "sample": STANDARD.encode(sample),
                    "size": file.size,
                }));
            }
            let query = if upload.propose { "?create_pr=1" } else { "" };
            let branch = encode(upload.branch, false);
            let path = format!("{}/preupload/{branch}{query}", api(upload.repo));
            let answer = self.post(upload, &path, &json!({"files": asked}))?;
            for file in files {
                all.push(Wanted { file, large: goes_through_lfs(&answer, file)? });
            }
        }
        Ok(all)
    }

    /// Makes the commit.
    fn commit(
        &self,
        upload: &Upload,
        parent: &str,
        wanted: &[Wanted],
        others: &[String],
    ) -> Result<String> {
        let mut lines = vec![json!({"key": "header", "value": {
            "summary": upload.message, "description": "", "parentCommit": parent,
        }})];
        for Wanted { file, large } in wanted {
            lines.push(match large {
                true => json!({"key": "lfsFile", "value": {
                    "path": file.path, "algo": "sha256", "oid": file.sha256.to_string(),
                    "size": file.size,
                }}),
                false => {
                    let content = read_part(&upload.folder.join(&file.path), file.size)?;
                    json!({"key": "file", "value": {
                        "content": STANDARD.encode(content), "path": file.path,
                        "encoding": "base64",
                    }})
                }
            });
        }
        lines.extend(
            others.iter().map(|path| json!({"key": "deletedFile", "value": {"path": path}})),
        );
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let query = if upload.propose { "?create_pr=1" } else { "" };
        let branch = encode(upload.branch, false);
        let path = format!("{}/commit/{branch}{query}", api(upload.repo));
        let call = self.call(&path, "application/x-ndjson")?;
        let answer = self.answered(upload, &call, &Sent::Text(body.into_bytes()), "the commit")?;
        let commit = answer["commitOid"].as_str().filter(|commit| is_commit(commit));
        commit.map(str::to_owned).ok_or_else(|| {
            Error::hub("the hub did not say which commit was made")
                .because("its answer has no `commitOid`")
        })
    }

    /// Fails unless a commit has exactly these files, and what the hub itself puts there.
    fn compare(&self, upload: &Upload, commit: &str) -> Result<()> {
        let listed = self.listed(upload.repo, commit)?;
        let other = |what: String| {
            Error::hub("the commit is not what was sent").because(what).hint(format!(
                "it is {commit} of `{}`: do not use it, and run the same command again",
                upload.repo
            ))
        };
        for file in upload.files {
            if !self.is_there(upload, file, &listed)? {
                return Err(other(format!("`{}` is not there as it is here", file.path)));
            }
        }
        match self::others(&Upload { replace: true, ..*upload }, &listed)?.first() {
            Some(path) => Err(other(format!("`{path}` is there as well"))),
            None => Ok(()),
        }
    }
}

/// Files of a commit that are not among those to upload, which are to be deleted.
fn others(upload: &Upload, listed: &[RemoteFile]) -> Result<Vec<String>> {
    let is_ours = |path: &str| upload.files.iter().any(|file| file.path == path);
    let others = listed.iter().map(|remote| remote.path.as_str());
    let others = others.filter(|path| !is_ours(path) && !OF_THE_HUB.contains(path));
    let others: Vec<String> = others.map(str::to_owned).collect();
    if upload.replace || others.is_empty() {
        return Ok(others);
    }
    let some: Vec<String> = others.iter().take(5).map(|path| format!("`{path}`")).collect();
    let more = others.len() - some.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::exists(format!("`{}` has files that are not here", upload.repo))
        .because(format!("{}{more}", some.join(", ")))
        .hint("a signature is of all files of a model: `--replace` deletes these there"))
}

fn goes_through_lfs(answer: &Value, file: &FileEntry) -> Result<bool> {
    let unusable =
        |why: String| Error::hub(format!("the hub does not take `{}`", file.path)).because(why);
    let told = answer["files"].as_array().into_iter().flatten();
    let told = told.clone().find(|told| told["path"].as_str() == Some(&file.path));
    let told = told.ok_or_else(|| unusable("its answer does not name the file".to_owned()))?;
    if told["shouldIgnore"] == true {
        return Err(unusable("a `.gitignore` of the repository names it".to_owned()));
    }
    match told["uploadMode"].as_str() {
        // A store takes no empty object.
        _ if file.size == 0 => Ok(false),
        Some("lfs") => Ok(true),
        Some("regular") if file.size <= WITHIN_COMMIT_MAX => Ok(false),
        other => Err(unusable(format!("it wants it in the way `{}`", other.unwrap_or_default()))),
    }
}

fn read_part(path: &PathBuf, length: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).context_at("cannot read the file", path)?;
    file.take(length).read_to_end(&mut bytes).context_at("cannot read the file", path)?;
    Ok(bytes)
}

fn api(repo: &RepoName) -> String {
    format!("api/{}/{repo}", RepoKind::Model.plural())
}
