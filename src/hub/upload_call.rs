//! What is asked of a hub with a body, and what its refusals mean to whoever uploads.

use std::path::Path;

use serde_json::Value;

use super::client::Hub;
use super::http::{Call, Sent};
use super::names::RepoName;
use super::refusal::stopped;
use super::retry::{End, Failure, Tries};
use crate::error::{Error, ErrorCode, Result};
use crate::files::{FileEntry, parse_json};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What is to be uploaded, and how.
pub struct Upload<'a> {
    /// The model's repository.
    pub repo: &'a RepoName,
    /// The branch.
    pub branch: &'a str,
    /// The folder.
    pub folder: &'a Path,
    /// All of its files, hashed.
    pub files: &'a [FileEntry],
    /// First line of the commit's message.
    pub message: &'a str,
    /// Whether a repository that is made is private.
    pub private: bool,
    /// Propose the commit, in place of making it.
    pub propose: bool,
    /// Delete what else is in the repository.
    pub replace: bool,
    /// Told of each large file: its name, its size, and how many bytes of it are there.
    pub progress: &'a dyn Fn(&str, u64, u64),
}

impl Hub {
    pub(super) fn call(&self, path: &str, kind: &str) -> Result<Call> {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Ok(Call { url: self.client.on_hub(path)?, puts: false, with_token: true, headers })
    }

    pub(super) fn post(&self, upload: &Upload, path: &str, body: &Value) -> Result<Value> {
        let call = self.call(path, "application/json")?;
        self.answered(upload, &call, &Sent::Text(body.to_string().into_bytes()), "the upload")
    }

    /// The JSON that a call is answered with.
    pub(super) fn answered(
        &self,
        upload: &Upload,
        call: &Call,
        body: &Sent,
        what: &str,
    ) -> Result<Value> {
        let within = self.settings.timing.answer;
        let answer = self.tried(|| {
            let answer = self.client.send(call, body)?;
            if answer.is_web_page() {
                return Err(answer.web_page_instead_of("what it was asked for"));
            }
            answer.read_all(ANSWER_BYTES_MAX, within)
        });
        let bytes = answer.map_err(|end| refused(upload, end, what))?;
        parse_json(&bytes).map_err(|error| {
            let why = error.causes.first().unwrap_or(&error.what).clone();
            Error::hub("the hub did not answer in JSON").because(why)
        })
    }

    /// Tries until it succeeds, or there is no use in another try.
    pub(super) fn tried<T>(&self, mut call: impl FnMut() -> Result<T, Failure>) -> Result<T, End> {
        let mut tries = Tries::new(&self.settings.timing, &*self.stop, &*self.notice);
        loop {
            match call() {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.wait(failure)?,
            }
        }
    }
}

/// What a refusal means to whoever uploads.
pub(super) fn refused(upload: &Upload, end: End, what: &str) -> Error {
    let (failure, tries) = match end {
        End::Stopped => return stopped(),
        End::Failed(failure, tries) => (failure, tries),
    };
    let repo = upload.repo;
    let mut cause = failure.cause.clone();
    if tries > 1 {
        cause.push_str(&format!("; that was try {tries} in a row"));
    }
    if failure.is_about_rights() {
        return Error::access(format!("the hub does not let you write to the model `{repo}`"))
            .because(cause)
            .hint("check the name, and that the token in `HF_TOKEN` may write there");
    }
    let error = Error::hub(format!("cannot upload {what} to `{repo}`")).because(cause);
    match (failure.status, failure.again) {
        (Some(412), _) => {
            error.hint("someone else changed the branch meanwhile: look, and try again")
        }
        (_, true) => error
            .code(ErrorCode::Network)
            .hint("run the same command again: what the hub has is not sent again"),
        _ => error,
    }
}
