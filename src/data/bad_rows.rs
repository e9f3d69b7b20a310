//! Records that cannot be used: some may be skipped, more end the run.

use super::about::{About, SHOWN};
use super::ends_of_runs::line;
use super::example::RecordId;
use crate::error::{Error, Result};

/// Unusable records of all data files: a bounded number may be skipped.
pub struct BadRows {
    limit: u64,
    count: u64,
    problems: Vec<Error>,
    /// What holds for all records, with the problem that was the first to break it.
    rules: Vec<(usize, String)>,
}

impl BadRows {
    /// Up to `limit` records may be skipped.
    pub fn new(limit: u64) -> Self {
        Self { limit, count: 0, problems: Vec::new(), rules: Vec::new() }
    }

    /// Counts those of a file.
    ///
    /// # Errors
    /// Once there are more than the limit.
    pub fn add(&mut self, name: &str, about: &About) -> Result<()> {
        self.count += about.statistics.bad_rows;
        for problem in &about.problems {
            if self.problems.len() == SHOWN {
                break;
            }
            let known = |rule: &&String| !self.rules.iter().any(|(_, other)| other == *rule);
            if let Some(rule) = problem.rule.as_ref().filter(known) {
                self.rules.push((self.problems.len(), rule.clone()));
            }
            let record = RecordId { file: name.into(), line: problem.line };
            let error = Error::data(&problem.reason).at_position(name, line(&record), 1);
            self.problems.push(error);
        }
        if self.count <= self.limit {
            return Ok(());
        }
        let mut problems = std::mem::take(&mut self.problems);
        if let Some(last) = problems.pop() {
            let hint = match self.limit {
                0 => "correct them, or skip some with `data.max_bad_rows`".to_owned(),
                limit => format!("`data.max_bad_rows` lets {limit} unusable records pass"),
            };
            let rules = std::mem::take(&mut self.rules);
            let last = rules.into_iter().fold(last, |error, (_, rule)| error.hint(rule));
            let more = self.count - problems.len() as u64 - 1;
            let last = match more {
                0 => last,
                _ => {
                    last.hint(format!("{more} more records of the files read so far are unusable"))
                }
            };
            let all = "`firebrand data CONFIG --doctor` lists all";
            problems.push(last.hint(format!("{hint}; {all}")));
        }
        Err(Error::all(problems).unwrap_or_else(|| Error::data("too many unusable records")))
    }

    /// A sentence for each skipped record.
    pub fn warnings(&self) -> Vec<String> {
        let sentence = |(index, problem): (usize, &Error)| {
            let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
            let rules = self.rules.iter().filter(|(first, _)| *first == index);
            let rules: String = rules.map(|(_, rule)| format!("; {rule}")).collect();
            format!("{place}: skipped: {}{rules}", problem.what)
        };
        let mut all: Vec<String> = self.problems.iter().enumerate().map(sentence).collect();
        let more = self.count - self.problems.len() as u64;
        if more > 0 {
            all.push(format!("{more} more unusable records were skipped"));
        }
        all
    }
}
