//! Does the candidate's tokenizer give back the text, and are its tokens those of its base?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::checks::{Answer, sha256, training};
use super::decision::TestOutcome;
use crate::artifact::markup::code;
use crate::data::{Case, Tokenizer};
use crate::files::{Digest, hash_file};
use crate::hub::{RepoKind, RepoName, Supply, resolve};
use crate::verify::Ancestry;

/// So many records are written and read again.
const RECORDS_MAX: usize = 1000;
/// The tokenizer's file.
const FILE: &str = "tokenizer.json";

/// A tokenizer to compare with, and what people know it by.
pub struct Other<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
}

/// What the candidate's tokenizer must be.
pub struct Wanted<'a> {
    /// The digest of the file that the candidate was trained with, as its lineage tells.
    pub recorded: Option<Digest>,
    /// The base model's, where it is on this machine, and the baseline's.
    pub others: Vec<Other<'a>>,
    /// Tokens that the candidate's run added, as its lineage tells: no other needs to have them.
    pub added: BTreeSet<String>,
    /// Rows of the model's embedding.
    pub vocabulary: Option<usize>,
    /// Another one is no mistake.
    pub allow_change: bool,
}

/// Looks at a tokenizer.
pub fn check(tokenizer: &Tokenizer, cases: &[Case], wanted: &Wanted) -> Answer {
    let failed = |what: String| (TestOutcome::Failed, what);
    if let Some(problem) = ambiguous(tokenizer) {
        return failed(problem);
    }
    let size = tokenizer.vocabulary_size();
    if let Some(rows) = wanted.vocabulary.filter(|rows| size > *rows) {
        return failed(format!("it has {size} tokens, and the model knows {rows}"));
    }
    let texts = match round_trips(tokenizer, cases) {
        Ok(count) => count,
        Err(problem) => return failed(problem),
    };
    let fine = format!("{size} tokens, {texts} texts written and read again");
    if wanted.allow_change {
        return (TestOutcome::Passed, fine);
    }
    for other in &wanted.others {
        if let Some(problem) = difference(tokenizer, other, &wanted.added) {
            return failed(problem);
        }
    }
    match wanted.recorded {
        Some(recorded) if recorded == tokenizer.digest() => {
            (TestOutcome::Passed, format!("{fine}, the file that it was trained with"))
        }
        // Another file with the same tokens, compared above.
        Some(_)
            if wanted
                .others
                .iter()
                .any(|other| Some(other.tokenizer.digest()) == wanted.recorded) =>
        {
            (TestOutcome::Passed, format!("{fine}, the tokens that it was trained with"))
        }
        Some(_) if !wanted.added.is_empty() => {
            let what = "its run added tokens to those of its base, which is not on this machine to \
                        compare with";
            (TestOutcome::Undecided, what.to_owned())
        }
        Some(recorded) => failed(format!(
            "it is not the tokenizer that the model was trained with ({}), which is not on this \
             machine to compare",
            recorded.short()
        )),
        None => {
            let what = "the lineage does not say which tokenizer the model was trained with";
            (TestOutcome::Undecided, what.to_owned())
        }
    }
}

/// Two ids of one text, or two texts of one id.
fn ambiguous(tokenizer: &Tokenizer) -> Option<String> {
    let ids = 0..u32::try_from(tokenizer.vocabulary_size()).unwrap_or(u32::MAX);
    ids.filter_map(|id| Some((id, tokenizer.token_name(id)?))).find_map(|(id, name)| {
        let back = tokenizer.token_id(&name)?;
        (back != id).then(|| format!("{} has the ids {back} and {id}", code(&name)))
    })
}

/// The first token that another tokenizer has otherwise; those that were `added` it may lack.
fn difference(tokenizer: &Tokenizer, other: &Other, added: &BTreeSet<String>) -> Option<String> {
    if tokenizer.digest() == other.tokenizer.digest() {
        return None;
    }
    let size = tokenizer.vocabulary_size().max(other.tokenizer.vocabulary_size());
    let ids = 0..u32::try_from(size).unwrap_or(u32::MAX);
    let shown = |name: Option<String>| name.map_or("nothing".to_owned(), |name| code(&name));
    ids.map(|id| (id, tokenizer.token_name(id), other.tokenizer.token_name(id)))
        .find(|(_, ours, theirs)| {
            let is_added = ours.as_ref().is_some_and(|name| added.contains(name));
            ours != theirs && !(theirs.is_none() && is_added)
        })
        .map(|(id, ours, theirs)| {
            format!(
                "the id {id} stands for {}, and in {} for {}",
                shown(ours),
                other.name,
                shown(theirs)
            )
        })
}

/// Writes the texts of records as tokens and reads them again. A tokenizer that changes texts, as
/// some do with spaces or accents, must read its own text as the same tokens.
fn round_trips(tokenizer: &Tokenizer, cases: &[Case]) -> Result<usize, String> {
    let mut count = 0;
    for case in cases.iter().take(RECORDS_MAX) {
        let mut texts = Vec::new();
        super::ngrams::texts(&case.fields, &mut |text| texts.push(text.to_owned()));
        for text in texts {
            let read =
                |text: &str| tokenizer.encode_exactly(text).map_err(|error| error.into_what());
            let tokens = read(&text)?.tokens;
            let again = tokenizer.decode(&tokens, false).map_err(|error| error.into_what())?;
            if again != text && read(&again)?.tokens != tokens {
                return Err(format!(
                    "a text of {} does not come back: {} becomes {}",
                    case.record,
                    code(&start(&text)),
                    code(&start(&again))
                ));
            }
            count += 1;
        }
    }
    Ok(count)
}

/// The first characters of a text.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The digest of the tokenizer that a model was trained with.
pub fn recorded(family: &Ancestry) -> Option<Digest> {
    training(family)?
        .text
        .iter()
        .find(|item| item.role == "tokenizer" && item.name == FILE)
        .and_then(sha256)
}

/// Where the tokenizer of a model's base lies on this machine, if it is the recorded one.
pub fn base_directory(family: &Ancestry, supply: &Supply) -> Option<PathBuf> {
    let (wanted, base) = (recorded(family)?, &training(family)?.base);
    let here = resolve(&base.id).ok().map(|found| found.path);
    let of_hub = || {
        let repo = RepoName::parse(RepoKind::Model, &base.id).ok()?;
        Some(supply.hub().ok()?.snapshot_dir(&repo, base.revision.as_deref()?))
    };
    let is_it = |path: &PathBuf| digest(path).is_some_and(|found| found == wanted);
    here.filter(is_it).or_else(|| of_hub().filter(is_it))
}

fn digest(directory: &Path) -> Option<Digest> {
    Some(hash_file(&directory.join(FILE), FILE).ok()?.sha256)
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
