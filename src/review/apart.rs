//! Is what models are evaluated on apart from what they are trained on? By record and by words in a
//! row, before anything is trained.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::scene::{Answer, PolicySubject, RunSubject, Scene};
use crate::config::DataSetConfig;
use crate::data::{RawRecord, each_record};
use crate::error::Result;
use crate::files::Digest;
use crate::gate::NgramRuns;
use crate::hub::Supply;

/// Compares the data of a suite with that of every configuration, one answer for each.
pub fn evaluation_apart(scene: &Scene, subject: &PolicySubject) -> Result<Vec<Answer>> {
    if scene.runs.is_empty() {
        return Ok(vec![Answer::undecided(
            "no configuration of a run is here, so that the training data is not known",
            "name it in `review.configs`",
        )]);
    }
    let suite = &subject.policy.suite;
    let mut evaluated: Vec<(Digest, Map<String, Value>)> = Vec::new();
    let read = each_of(&scene.supply, &suite.data, "validation", &mut |records| {
        let whole = records.iter().filter_map(|it| Some((it.digest, it.fields.clone()?)));
        evaluated.extend(whole);
    });
    if let Err(error) = read {
        let what = "what is evaluated on cannot be read here";
        return Ok(vec![Answer::of_error(what, &error)]);
    }
    // Of more records than are wanted, an evaluation has those with the smallest digests.
    if suite.max_records > 0 {
        evaluated.sort_by_key(|(digest, _)| *digest);
        evaluated.truncate(usize::try_from(suite.max_records).unwrap_or(usize::MAX));
    }
    let of = |run: &RunSubject| match beside(run, subject, &evaluated) {
        Ok(answer) => answer,
        Err(error) => {
            let what = format!("the data of `{}` cannot be read here", run.path.display());
            let mut answer = Answer::of_error(&what, &error);
            answer.advice = Some(format!("`firebrand pull {}` gets it", run.path.display()));
            answer
        }
    };
    Ok(scene.runs.iter().map(of).collect())
}

fn beside(
    run: &RunSubject,
    subject: &PolicySubject,
    evaluated: &[(Digest, Map<String, Value>)],
) -> Result<Answer> {
    let checks = &subject.policy.checks;
    let data = &run.loaded.config.data;
    let wanted: HashSet<Digest> = evaluated.iter().map(|(digest, _)| *digest).collect();
    // What a run only measures itself on is kept out of what it is trained on.
    let mut held_out: HashSet<Digest> = HashSet::new();
    for set in &data.validation {
        each_of(&run.supply, set, "validation", &mut |records| {
            held_out.extend(records.iter().map(|record| record.digest));
        })?;
    }
    let mut runs = NgramRuns::new(evaluated.iter().map(|(_, fields)| fields), checks.ngram);
    let (mut seen, mut hits) = (0_usize, HashSet::new());
    for set in &data.train {
        each_of(&run.supply, set, "train", &mut |records| {
            let trained: Vec<&RawRecord> =
                records.iter().filter(|it| !held_out.contains(&it.digest)).collect();
            seen += trained.len();
            hits.extend(trained.iter().map(|it| it.digest).filter(|it| wanted.contains(it)));
            let fields: Vec<_> = trained.iter().filter_map(|it| it.fields.as_ref()).collect();
            runs.look(&fields);
        })?;
    }
    let shares = runs.shares();
    let copied = shares.iter().flatten().filter(|share| **share > checks.ngram_share).count();
    let count = evaluated.len();
    let detail = format!(
        "{} of {count} records stand among {seen} training records of `{}`, {copied} have more \
         than {:.0} % of their {}-grams there",
        hits.len(),
        run.path.display(),
        100.0 * checks.ngram_share,
        checks.ngram
    );
    #[expect(clippy::cast_precision_loss)] // counts of records
    let too_many = hits.len().max(copied) as f64 > checks.max_overlap * count as f64;
    Ok(match (count, too_many) {
        (0, _) => Answer::undecided("there are no records to evaluate on", "add some"),
        (_, true) => Answer::failed(detail, "take them out of one of the two"),
        (_, false) => Answer::passed(detail),
    })
}

/// Shows the records of a data set, from this machine alone.
fn each_of(
    supply: &Supply,
    set: &DataSetConfig,
    split: &str,
    look: &mut dyn FnMut(&[RawRecord]),
) -> Result<()> {
    for file in &supply.set(set, split)?.files {
        each_record(&supply.fetch(file)?, look)?;
    }
    Ok(())
}
