//! Which checkpoints are kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::checkpoint::{best_first, folder_name, newest};
use crate::error::{Error, Result};
use crate::event::{Evaluation, bytes};
use crate::files::{remove_dir, rename_new, size_of_dir};

/// What the user wants to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest ones; at least two.
    pub keep_last: usize,
    /// Those of every so many steps, for ever; 0 for none.
    pub keep_every: u64,
    /// Those with the least validation loss.
    pub keep_best: usize,
    /// Whether the best one is to be the result: nothing removes it then.
    pub best_is_result: bool,
    /// Bytes that all of them together may take.
    pub budget: Option<u64>,
}

impl Retention {
    /// The steps that are kept, of those that are there (newest first).
    fn kept(&self, steps: &[u64], evaluations: &[Evaluation]) -> BTreeSet<u64> {
        let mut kept: BTreeSet<u64> = self.last(steps).collect();
        if self.keep_every > 0 {
            kept.extend(steps.iter().filter(|step| step.is_multiple_of(self.keep_every)));
        }
        let mut judged: Vec<&Evaluation> =
            evaluations.iter().filter(|found| steps.contains(&found.step)).collect();
        // Of equally good ones the newer: the order of steps decides, whatever the sort does.
        judged.sort_by(|a, b| {
            a.criterion().total_cmp(&b.criterion()).then_with(|| b.step.cmp(&a.step))
        });
        kept.extend(judged.iter().take(self.keep_best).map(|found| found.step));
        kept.extend(self.result(steps, evaluations));
        kept
    }

    /// The step that the result is made of, as far as there are checkpoints.
    fn result(&self, steps: &[u64], evaluations: &[Evaluation]) -> Option<u64> {
        let best = best_first(evaluations).into_iter().map(|found| found.step);
        best.filter(|_| self.best_is_result).find(|step| steps.contains(step))
    }

    fn last<'a>(&self, steps: &'a [u64]) -> impl Iterator<Item = u64> + use<'a> {
        steps.iter().copied().take(self.keep_last)
    }

    /// Removes what is not kept: nothing that has no committed successor, since the newest ones
    /// always stay.
    pub fn prune(&self, root: &Path, evaluations: &[Evaluation]) -> Result<()> {
        let found = newest(root)?;
        let steps: Vec<u64> = found.iter().map(|(step, _)| *step).collect();
        let kept = self.kept(&steps, evaluations);
        let mut unwanted = found.iter().filter(|(step, _)| !kept.contains(step));
        unwanted.try_for_each(|(step, folder)| remove(root, *step, folder))
    }

    /// Makes `needed` bytes fit into the budget. What `keep_every` and `keep_best` keep goes,
    /// oldest first; the newest ones stay, and the one that is to be the result.
    ///
    /// # Errors
    /// When they do not fit beside those.
    pub fn make_room(&self, root: &Path, needed: u64, evaluations: &[Evaluation]) -> Result<()> {
        let Some(budget) = self.budget else { return Ok(()) };
        let found = newest(root)?;
        let sized: Vec<(u64, PathBuf, u64)> = found
            .into_iter()
            .map(|(step, folder)| {
                let size = size_of_dir(&folder);
                (step, folder, size)
            })
            .collect();
        let steps: Vec<u64> = sized.iter().map(|(step, _, _)| *step).collect();
        let mut stay: BTreeSet<u64> = self.last(&steps).collect();
        stay.extend(self.result(&steps, evaluations));
        let mut used: u64 = sized.iter().map(|(_, _, size)| size).sum();
        for (step, folder, size) in sized.iter().rev() {
            if used + needed <= budget {
                break;
            }
            if !stay.contains(step) {
                remove(root, *step, folder)?;
                used -= size;
            }
        }
        if used + needed <= budget {
            return Ok(());
        }
        let error = Error::disk_full("the checkpoints do not fit into `checkpoint.disk_budget`");
        let why = format!(
            "the newest {} take {}, the next one needs {}, and {} are allowed",
            stay.len(),
            bytes(used),
            bytes(needed),
            bytes(budget)
        );
        Err(error.at(root).because(why))
    }

    /// What the checkpoints that always stay and the one that is being written take.
    pub fn least_bytes(&self, of_one: u64) -> u64 {
        of_one.saturating_mul(self.keep_last as u64 + u64::from(self.best_is_result) + 1)
    }
}

/// Removes a checkpoint: first renamed, so that a half-removed one is never taken for one.
pub fn remove(root: &Path, step: u64, folder: &Path) -> Result<()> {
    let trash = root.join(format!(".trash-{}.{}", folder_name(step), std::process::id()));
    if trash.exists() {
        remove_dir(&trash)?;
    }
    rename_new(folder, &trash)?;
    remove_dir(&trash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn losses(list: &[(u64, f64)]) -> Vec<Evaluation> {
        let found = |(step, eval_loss): &(u64, f64)| Evaluation {
            step: *step,
            eval_loss: *eval_loss,
            target_tokens: 1,
            metrics: std::collections::BTreeMap::new(),
        };
        list.iter().map(found).collect()
    }

    const STEPS: [u64; 6] = [60, 50, 40, 30, 20, 10];

    fn retention(keep_every: u64, keep_best: usize) -> Retention {
        Retention { keep_last: 2, keep_every, keep_best, best_is_result: false, budget: None }
    }

    #[test]
    fn the_last_those_of_every_so_many_steps_and_the_best_are_kept() {
        let kept = |every, best, judged: &[(u64, f64)]| -> Vec<u64> {
            let kept = retention(every, best).kept(&STEPS, &losses(judged));
            kept.into_iter().collect()
        };
        assert_eq!(kept(0, 0, &[]), [50, 60]);
        assert_eq!(kept(20, 0, &[]), [20, 40, 50, 60]);
        let judged = [(10, 3.0), (20, 2.0), (25, 1.0), (30, 2.0), (40, 2.5)];
        assert_eq!(kept(0, 1, &judged), [30, 50, 60], "the newer of two that are equally good");
        assert_eq!(kept(0, 2, &judged), [20, 30, 50, 60], "step 25 has no checkpoint");
        let result = Retention { best_is_result: true, ..retention(0, 0) };
        let kept: Vec<u64> = result.kept(&STEPS, &losses(&judged)).into_iter().collect();
        assert_eq!(kept, [30, 50, 60]);
        assert_eq!((result.least_bytes(10), retention(0, 0).least_bytes(10)), (40, 30));
    }

    #[test]
    fn a_budget_takes_the_oldest_extras_first_and_never_the_last_two() {
        let folder = tempfile::tempdir().unwrap();
        for step in STEPS {
            let path = folder.path().join(folder_name(step));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("a"), vec![0; 100]).unwrap();
        }
        let left = || newest(folder.path()).unwrap().into_iter().map(|(step, _)| step);
        let with = |budget| Retention { budget: Some(budget), ..retention(10, 0) };
        with(700).make_room(folder.path(), 100, &[]).unwrap();
        assert_eq!(left().count(), 6);
        with(450).make_room(folder.path(), 100, &[]).unwrap();
        assert_eq!(left().collect::<Vec<_>>(), [60, 50, 40]);
        let error = with(250).make_room(folder.path(), 100, &[]).unwrap_err();
        assert_eq!(error.code, crate::error::ErrorCode::DiskFull);
        says(
            &error,
            snapbox::str![[r#"
error[disk-full]: the checkpoints do not fit into `checkpoint.disk_budget`
  at [FOLDER]
  because the newest 2 take 200 B, the next one needs 100 B, and 250 B are allowed
"#]],
        );
        assert_eq!(left().collect::<Vec<_>>(), [60, 50]);
    }

    #[test]
    fn a_budget_never_takes_the_checkpoint_that_is_to_be_the_result() {
        let folder = tempfile::tempdir().unwrap();
        for step in STEPS {
            let path = folder.path().join(folder_name(step));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("a"), vec![0; 100]).unwrap();
        }
        let judged = losses(&[(20, 1.0), (50, 2.0)]);
        let all = Retention { budget: Some(450), best_is_result: true, ..retention(10, 0) };
        all.make_room(folder.path(), 100, &judged).unwrap();
        let left: Vec<u64> = newest(folder.path()).unwrap().into_iter().map(|at| at.0).collect();
        assert_eq!(left, [60, 50, 20]);
        let tight = Retention { budget: Some(350), ..all };
        assert!(tight.make_room(folder.path(), 100, &judged).is_err());
        assert!(folder.path().join(folder_name(20)).exists());
    }
}
