//! What a hub's refusal means to the user, and what to do about it.

use super::names::RepoName;
use super::retry::{End, Failure};
use crate::error::{Error, ErrorCode};

/// What was being asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub repo: &'a RepoName,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// A file, or the repository as a whole.
    pub file: Option<&'a str>,
    pub endpoint: &'a str,
    pub has_token: bool,
}

impl Asked<'_> {
    /// The error for the end of all tries; `had` tells how much of the file is kept.
    pub fn error(&self, end: End, had: Option<String>) -> Error {
        let (failure, tries) = match end {
            End::Stopped => return stopped(),
            End::Failed(failure, tries) => (failure, tries),
        };
        let mut cause = failure.cause.clone();
        if tries > 1 {
            cause.push_str(&format!("; that was try {tries} in a row without progress"));
        }
        if let Some(had) = had {
            cause.push_str(&format!("; {had}"));
        }
        match self.plain(&failure) {
            Some((what, hint)) => {
                let code =
                    if failure.is_about_rights() { ErrorCode::Access } else { ErrorCode::Hub };
                Error::hub(what).code(code).because(cause).hint(hint)
            }
            None => self.general(&failure, cause),
        }
    }

    fn general(&self, failure: &Failure, cause: String) -> Error {
        let kind = self.repo.kind();
        let error = Error::hub(match self.file {
            Some(file) => format!("cannot download `{file}` of the {kind} `{}`", self.repo),
            None => format!("cannot ask the hub about the {kind} `{}`", self.repo),
        })
        .because(cause);
        if failure.again {
            error.code(ErrorCode::Network).hint(
                "try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what \
                 the cache has",
            )
        } else {
            error
        }
    }

    /// Refusals that the user can do something about.
    fn plain(&self, failure: &Failure) -> Option<(String, String)> {
        let Self { repo, revision, endpoint, .. } = self;
        let kind = repo.kind();
        if !failure.at_hub {
            return None;
        }
        let missing = || {
            let hint = if self.has_token {
                "check its spelling, and that the account of your token may read it".to_owned()
            } else {
                "check its spelling; a private one needs an access token in `HF_TOKEN`".to_owned()
            };
            (format!("the hub has no {kind} `{repo}`, or it is private"), hint)
        };
        match (failure.code.as_deref(), failure.status?) {
            (Some("GatedRepo"), _) => {
                let page = match kind {
                    super::RepoKind::Model => format!("{endpoint}/{repo}"),
                    super::RepoKind::Dataset => format!("{endpoint}/datasets/{repo}"),
                };
                let token = if self.has_token {
                    "with the account of your token"
                } else {
                    "and put an access token of that account into `HF_TOKEN`"
                };
                Some((
                    format!("the {kind} `{repo}` is open only to those who accept its terms"),
                    format!("accept them at {page} {token}"),
                ))
            }
            (Some("RevisionNotFound"), _) => Some((
                format!("the {kind} `{repo}` has no branch, tag or commit `{revision}`"),
                "it may have been renamed or deleted; see its list of commits on the hub"
                    .to_owned(),
            )),
            (Some("EntryNotFound"), _) => Some((
                format!(
                    "the {kind} `{repo}` has no `{}` at `{revision}`",
                    self.file.unwrap_or("such thing")
                ),
                "see its list of files on the hub".to_owned(),
            )),
            (Some("RepoNotFound"), _) | (_, 404) => Some(missing()),
            (_, 401) if self.has_token => Some((
                "the hub does not accept the access token".to_owned(),
                "it may have expired: make a new one at the hub and put it into `HF_TOKEN`"
                    .to_owned(),
            )),
            (_, 401) => Some(missing()),
            (_, 403) => Some((
                format!("the hub does not let you read the {kind} `{repo}`"),
                "check the rights of the access token in `HF_TOKEN`".to_owned(),
            )),
            _ => None,
        }
    }
}

/// The user asked to stop.
pub(super) fn stopped() -> Error {
    Error::interrupted("the download was stopped")
        .hint("what was received is kept; the next start continues from there")
}

#[cfg(test)]
mod tests {
    use super::super::names::RepoKind;
    use super::*;
    use crate::snapshots::says;

    fn said(code: Option<&str>, status: u16, has_token: bool) -> String {
        let repo = RepoName::parse(RepoKind::Dataset, "o/n").unwrap();
        let asked = Asked {
            repo: &repo,
            revision: "v9",
            file: Some("a.txt"),
            endpoint: "https://hub.example",
            has_token,
        };
        let failure = Failure {
            status: Some(status),
            code: code.map(str::to_owned),
            at_hub: true,
            ..Failure::for_good("https://hub.example/x answered".to_owned())
        };
        asked
            .error(End::Failed(failure, 1), Some("3 of 9 bytes were received".to_owned()))
            .to_string()
    }

    #[test]
    fn refusals_are_said_in_plain_words_with_what_to_do() {
        let text = said(Some("GatedRepo"), 403, false);
        says(
            &text,
            snapbox::str![[r#"
error[hub-access]: the data set `o/n` is open only to those who accept its terms
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: accept them at https://hub.example/datasets/o/n and put an access token of that account into `HF_TOKEN`
"#]],
        );
        says(
            said(Some("RepoNotFound"), 404, false),
            snapbox::str![[r#"
error[hub]: the hub has no data set `o/n`, or it is private
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: check its spelling; a private one needs an access token in `HF_TOKEN`
"#]],
        );
        says(
            said(None, 401, false),
            snapbox::str![[r#"
error[hub-access]: the hub has no data set `o/n`, or it is private
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: check its spelling; a private one needs an access token in `HF_TOKEN`
"#]],
        );
        says(
            said(None, 401, true),
            snapbox::str![[r#"
error[hub-access]: the hub does not accept the access token
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: it may have expired: make a new one at the hub and put it into `HF_TOKEN`
"#]],
        );
        says(
            said(Some("RevisionNotFound"), 404, false),
            snapbox::str![[r#"
error[hub]: the data set `o/n` has no branch, tag or commit `v9`
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: it may have been renamed or deleted; see its list of commits on the hub
"#]],
        );
        says(
            said(Some("EntryNotFound"), 404, false),
            snapbox::str![[r#"
error[hub]: the data set `o/n` has no `a.txt` at `v9`
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: see its list of files on the hub
"#]],
        );
        says(
            said(None, 403, true),
            snapbox::str![[r#"
error[hub-access]: the hub does not let you read the data set `o/n`
  because https://hub.example/x answered; 3 of 9 bytes were received

hint: check the rights of the access token in `HF_TOKEN`
"#]],
        );
        says(
            said(None, 400, true),
            snapbox::str![[r#"
error[hub]: cannot download `a.txt` of the data set `o/n`
  because https://hub.example/x answered; 3 of 9 bytes were received
"#]],
        );
    }
}
