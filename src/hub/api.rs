//! What the hub's API is asked: the commit of a branch, and the pages of a list of files.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use super::client::Hub;
use super::file::RemoteFile;
use super::header_text::header;
use super::names::{RepoName, is_commit};
use super::refusal::Asked;
use super::retry::{Failure, Tries};
use super::tree;
use super::url::{Url, encode};
use crate::error::{Error, Result};
use crate::files::parse_json;

/// Largest answer of the API that is read, in bytes: lists without paging are this long.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Pages of one list; the hub puts up to a thousand files on each.
const PAGES_MAX: usize = 10_000;

/// All pages of one list, in bytes: a million files have half of that.
const LIST_BYTES_MAX: usize = 1 << 30;

/// An answer of the API.
struct Page {
    value: Value,
    /// Where the next one is.
    next: Option<Url>,
    /// How long it was.
    bytes: usize,
}

impl Hub {
    /// The commit that a branch, tag or shortened commit is now.
    pub(super) fn commit_at_hub(&self, repo: &RepoName, revision: &str) -> Result<String> {
        let path = format!("{}/revision/{}", api(repo), encode(revision, false));
        let asked = self.asked(repo, revision, None);
        let Page { value: answer, .. } = self.json(&self.client.on_hub(&path)?, &asked)?;
        let commit = answer.get("sha").and_then(Value::as_str).filter(|sha| is_commit(sha));
        let Some(commit) = commit else {
            return Err(Error::hub(format!("the hub did not say which commit `{revision}` is"))
                .because(format!("its answer about the {} `{repo}` has no `sha`", repo.kind())));
        };
        if let Some(id) = answer.get("id").and_then(Value::as_str)
            && !id.eq_ignore_ascii_case(&repo.id())
        {
            self.tell(format!("the {} `{repo}` is now called `{id}`", repo.kind()));
        }
        Ok(commit.to_owned())
    }

    /// All pages of the list of files.
    pub(super) fn listed(&self, repo: &RepoName, commit: &str) -> Result<Vec<RemoteFile>> {
        let asked = self.asked(repo, commit, None);
        let path = format!("{}/tree/{commit}?recursive=true&expand=false", api(repo));
        let mut page = self.client.on_hub(&path)?;
        let mut files = Vec::new();
        let whose = |error: Error| error.because(format!("from {} `{repo}`", repo.kind()));
        let useless =
            |why: String| whose(Error::hub("the list of files cannot be used").because(why));
        let (begun, mut bytes) = (Instant::now(), 0);
        let mut seen = BTreeSet::from([page.as_str().to_owned()]);
        while seen.len() <= PAGES_MAX {
            let found = self.json(&page, &asked)?;
            bytes += found.bytes;
            tree::read_page(&found.value, &mut files).map_err(whose)?;
            let Some(next) = found.next else { return tree::finish(files).map_err(whose) };
            let why = if !self.client.is_hub(&next) {
                format!("its next page is said to be at {}", next.shown())
            } else if !seen.insert(next.as_str().to_owned()) {
                format!("its pages go round in a circle: {} comes again", next.shown())
            } else if found.value.as_array().is_some_and(Vec::is_empty) {
                "a page of it is empty, and not the last one".to_owned()
            } else if bytes > LIST_BYTES_MAX {
                format!("it has more than {}", crate::event::bytes(LIST_BYTES_MAX as u64))
            } else if begun.elapsed() > self.settings.timing.listing {
                format!("it did not end in {:.0} s", self.settings.timing.listing.as_secs_f64())
            } else {
                page = next;
                continue;
            };
            return Err(useless(why));
        }
        Err(useless(format!("it has more than {PAGES_MAX} pages")))
    }

    /// An answer of the API.
    fn json(&self, url: &Url, asked: &Asked) -> Result<Page> {
        let mut tries = Tries::new(&self.settings.timing, &*self.stop, &*self.notice);
        self.watched(|| {
            loop {
                match self.json_once(url) {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => {
                        tries
                            .wait(failure)
                            .map_err(|end| self.with_last(asked.error(end, None), asked))?;
                    }
                }
            }
        })
    }

    fn json_once(&self, url: &Url) -> Result<Page, Failure> {
        let answer = self.client.get(url, None)?;
        if answer.is_web_page() {
            return Err(answer.web_page_instead_of("what it was asked for"));
        }
        let shown = answer.url.shown().to_owned();
        let next = header(&answer.headers, "link").and_then(next_page).map(str::to_owned);
        let next = next.map(|next| answer.url.join(&next)).transpose();
        let next = next.map_err(|error| Failure::for_good(format!("{shown}: {}", error.what)))?;
        let bytes = answer.read_all(ANSWER_BYTES_MAX, self.settings.timing.answer)?;
        let value = parse_json(&bytes).map_err(|error| {
            let why = error.causes.first().unwrap_or(&error.what);
            Failure::again(format!("{shown} did not answer in JSON: {why}"))
        })?;
        Ok(Page { value, next, bytes: bytes.len() })
    }

    /// A branch that could not be asked for may be known from before.
    fn with_last(&self, error: Error, asked: &Asked) -> Error {
        match self.cache.reference(asked.repo, asked.revision) {
            Some(last) => error.hint(format!(
                "when it was last asked for, `{}` was {last}: that commit needs no question",
                asked.revision
            )),
            None => error,
        }
    }
}

fn api(repo: &RepoName) -> String {
    format!("api/{}/{repo}", repo.kind().plural())
}

/// The address that a `Link` header gives for `rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (address, relation) = part.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |text: &str| matches!(text.trim(), "rel=\"next\"" | "rel=next");
        relation.split(';').any(is_next).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        let link = "<http://h/a?x=1>; rel=\"prev\", <http://h/b?cursor=2>; rel=\"next\"";
        assert_eq!(next_page(link), Some("http://h/b?cursor=2"));
        assert_eq!(next_page("<http://h/a>; rel=\"last\""), None);
        assert_eq!(next_page("rubbish"), None);
    }
}
