//! A checkpoint of a run directory by a name: `RUN@best`, `RUN@last`, `RUN@step-200`.

use std::path::{Path, PathBuf};

use crate::checkpoint::{RestoredCheckpoint, best_first, newest};
use crate::error::{Error, Result};

/// A checkpoint that a user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCheckpoint {
    /// The run directory.
    pub run: PathBuf,
    which: Which,
}

/// Which one of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// With the least validation loss.
    Best,
    /// The newest.
    Last,
    /// After this step.
    Step(u64),
}

impl NamedCheckpoint {
    /// Reads a name; `None` if it is none of a checkpoint of a run directory that is here.
    ///
    /// # Errors
    /// When what stands behind `@` names no checkpoint.
    pub fn parse(name: &str) -> Result<Option<Self>> {
        let Some((run, which)) = name.rsplit_once('@') else { return Ok(None) };
        let folder = Path::new(run);
        if Path::new(name).exists() || !folder.join("run.lock").is_file() {
            return Ok(None);
        }
        let step = which.strip_prefix("step-").and_then(|digits| digits.parse().ok());
        let which = match (which, step) {
            ("best", _) => Which::Best,
            ("last", _) => Which::Last,
            (_, Some(step)) => Which::Step(step),
            _ => {
                return Err(Error::usage(format!("`@{which}` names no checkpoint of a run"))
                    .at(folder)
                    .hint(format!("`{run}@best`, `{run}@last`, or {}", listed(folder)?)));
            }
        };
        Ok(Some(Self { run: folder.to_owned(), which }))
    }

    /// The checkpoint, every byte of it checked.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(&self) -> Result<RestoredCheckpoint> {
        let all = newest(&self.run)?;
        if all.is_empty() {
            return Err(Error::checkpoint("this run has no checkpoint").at(&self.run));
        }
        if let Which::Step(step) = self.which {
            return match all.iter().find(|(found, _)| *found == step) {
                Some((_, folder)) => RestoredCheckpoint::open(folder),
                None => {
                    Err(Error::checkpoint(format!("this run has no checkpoint of step {step}"))
                        .at(&self.run)
                        .hint(format!("it has {}", listed(&self.run)?)))
                }
            };
        }
        let mut damaged = Error::checkpoint("this run has no intact checkpoint").at(&self.run);
        let mut whole = Vec::new();
        for (_, folder) in &all {
            match RestoredCheckpoint::open(folder) {
                Ok(found) => whole.push(found),
                Err(error) => damaged = damaged.because(error.into_what()),
            }
            if self.which == Which::Last && !whole.is_empty() {
                break;
            }
        }
        let Some(last) = whole.first() else { return Err(damaged) };
        let best = best_first(&last.state.evaluations).into_iter().map(|found| found.step);
        let best = best.into_iter().find_map(|at| whole.iter().position(|it| it.state.step == at));
        match (self.which, best) {
            (Which::Best, Some(place)) => Ok(whole.swap_remove(place)),
            (Which::Best, None) => {
                let what = "no checkpoint of this run has a validation loss";
                Err(Error::checkpoint(what).at(&self.run).hint(format!(
                    "`eval.every_steps` measures it, and `eval.load_best_model_at_end` saves the \
                     best; there are {}",
                    listed(&self.run)?
                )))
            }
            _ => Ok(whole.swap_remove(0)),
        }
    }
}

/// Which checkpoints there are, as they are named, oldest first.
fn listed(run: &Path) -> Result<String> {
    let name = |(step, _): &(u64, PathBuf)| format!("`{}@step-{step}`", run.display());
    let names: Vec<String> = newest(run)?.iter().rev().map(name).collect();
    Ok(if names.is_empty() { "no checkpoint yet".to_owned() } else { names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn a_name_is_that_of_a_checkpoint_only_where_a_run_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let name = |which: &str| format!("{}@{which}", run.display());
        assert_eq!(NamedCheckpoint::parse(&name("best")).unwrap(), None);
        assert_eq!(NamedCheckpoint::parse("owner/name@main").unwrap(), None);
        std::fs::write(run.join("run.lock"), "").unwrap();
        let found = |which| NamedCheckpoint::parse(&name(which)).unwrap().unwrap().which;
        assert_eq!(found("best"), Which::Best);
        assert_eq!(found("last"), Which::Last);
        assert_eq!(
            (found("step-200"), found("step-00000200")),
            (Which::Step(200), found("step-200"))
        );
        for step in [20, 40] {
            std::fs::create_dir(run.join(crate::checkpoint::folder_name(step))).unwrap();
        }
        let error = NamedCheckpoint::parse(&name("newest")).unwrap_err();
        says(
            &error,
            snapbox::str![[r#"
error[usage]: `@newest` names no checkpoint of a run
  at [FOLDER]/run

hint: `[FOLDER]/run@best`, `[FOLDER]/run@last`, or `[FOLDER]/run@step-20`, `[FOLDER]/run@step-40`
"#]],
        );
        let missing = NamedCheckpoint::parse(&name("step-30")).unwrap().unwrap().open();
        says(
            missing.err().unwrap(),
            snapbox::str![[r#"
error[checkpoint]: this run has no checkpoint of step 30
  at [FOLDER]/run

hint: it has `[FOLDER]/run@step-20`, `[FOLDER]/run@step-40`
"#]],
        );
    }
}
