//! The labels that a data set has, where the settings name none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::classified::{LABEL, names};
use super::corpus_file::Role;
use super::formats::map_columns;
use super::sources;
use crate::config::{DataConfig, ProblemType, ScoreHead};
use crate::error::{Error, Result};
use crate::hub::Supply;

/// The head of a run with all of its labels: those of the settings or, where these have none, those
/// of its training data, in alphabetical order or, where all are whole numbers, in theirs. Numbers
/// to be predicted have no names: there is one.
///
/// # Errors
/// When the data cannot be read, or has no labels.
pub fn score_head(config: &DataConfig, supply: &Arc<Supply>) -> Result<Option<ScoreHead>> {
    let Some(head) = &config.score_head else { return Ok(None) };
    let problem = match head.problem_type {
        Some(problem) if head.labels.is_empty() => problem,
        _ => return Ok(Some(head.clone())),
    };
    if problem == ProblemType::Regression {
        return Ok(Some(ScoreHead { labels: vec![ScoreHead::generic(0)], ..head.clone() }));
    }
    let mut found = BTreeSet::new();
    for set in &config.train {
        let column = set.columns.get(LABEL).map_or(LABEL, String::as_str);
        let columns = BTreeMap::from([(LABEL.to_owned(), column.to_owned())]);
        for file in &supply.set(set, Role::Train.name())?.files {
            let mut records = sources::open(&supply.fetch(file)?)?;
            loop {
                let batch = records.next_batch()?;
                if batch.is_empty() {
                    break;
                }
                for fields in batch.into_iter().filter_map(|record| record.content.ok()) {
                    let value = map_columns(fields, &columns).ok();
                    let value = value.and_then(|mut fields| fields.remove(LABEL));
                    found.extend(value.into_iter().flat_map(|value| names(problem, &value)));
                }
            }
            records.finish()?;
        }
    }
    if found.is_empty() {
        let error = Error::data("the training data has no labels").because(format!(
            "no record has a column `{LABEL}` with the name of a label, or a list of names"
        ));
        return Err(error.hint(
            "name the column in `columns = { label = \"…\" }` of the data set, or all \
             labels in the settings of the objective",
        ));
    }
    Ok(Some(ScoreHead { labels: in_order(found), ..head.clone() }))
}

/// The settings of a run with all labels in them.
///
/// # Errors
/// Those of [`score_head`].
pub fn with_labels(config: &DataConfig, supply: &Arc<Supply>) -> Result<DataConfig> {
    Ok(DataConfig { score_head: score_head(config, supply)?, ..config.clone() })
}

fn in_order(found: BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> = found.into_iter().collect();
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if numbers.is_some() {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_own_order() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(in_order(set(&["10", "9", "-1"])), ["-1", "9", "10"]);
        assert_eq!(in_order(set(&["10", "9", "a"])), ["10", "9", "a"]);
        assert_eq!(in_order(set(&["true", "false"])), ["false", "true"]);
    }
}
