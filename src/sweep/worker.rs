//! Which points are those of this process: all of them, or the share of one of several workers.

use super::manifest::Manifest;
use crate::error::{Error, Result};

/// Variables in which engines number their workers: the number of this one, from 0, and how many
/// there are.
const VARIABLES: [[&str; 2]; 5] = [
    ["FIREBRAND_SWEEP_INDEX", "FIREBRAND_SWEEP_WORKERS"],
    // Kubernetes: an Indexed Job does not tell how many there are.
    ["JOB_COMPLETION_INDEX", ""],
    ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"],
    // SkyPilot: `sky jobs launch --num-jobs`.
    ["SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"],
    // dstack: a task with `nodes`.
    ["DSTACK_NODE_RANK", "DSTACK_NODES_NUM"],
];

/// One of several workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are; none for one for each point.
    pub workers: Option<usize>,
    /// What said so.
    pub said_by: String,
}

impl Worker {
    /// The worker that options or the environment name, if any does.
    ///
    /// # Errors
    /// When a variable is not a number.
    pub fn of(
        index: Option<usize>,
        workers: Option<usize>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>> {
        if let Some(index) = index {
            return Ok(Some(Self { index, workers, said_by: "--index".to_owned() }));
        }
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name).filter(|text| !text.trim().is_empty()) else {
                return Ok(None);
            };
            let wrong = || {
                Error::usage(format!("the environment variable `{name}` is `{text}`"))
                    .because("it is the number of a worker, or how many there are")
            };
            text.trim().parse().map(Some).map_err(|_| wrong())
        };
        for [name, count] in VARIABLES {
            if let Some(index) = number(name)? {
                let workers = match workers {
                    Some(workers) => Some(workers),
                    None if count.is_empty() => None,
                    None => number(count)?,
                };
                return Ok(Some(Self { index, workers, said_by: name.to_owned() }));
            }
        }
        Ok(None)
    }

    /// The numbers of this worker's points: of every so many as there are workers, one.
    ///
    /// # Errors
    /// When there are not so many workers.
    pub fn points(&self, manifest: &Manifest) -> Result<Vec<usize>> {
        let workers = self.workers.unwrap_or(manifest.points.len());
        if self.index >= workers {
            let what = format!("there is no worker {} of {workers}", self.index);
            return Err(Error::usage(what)
                .because(format!("`{}` says so, and workers are counted from 0", self.said_by))
                .hint("say with `--workers` how many there are"));
        }
        Ok((0..manifest.points.len()).skip(self.index).step_by(workers).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Worker>> {
        Worker::of(None, None, |asked| {
            let found = variables.iter().find(|(name, _)| *name == asked);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn engines_number_their_workers() {
        for (variables, index, workers) in [
            (&[("JOB_COMPLETION_INDEX", "3")][..], 3, None),
            (&[("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_COUNT", "8")], 2, Some(8)),
            (&[("SKYPILOT_JOB_RANK", "0"), ("SKYPILOT_NUM_JOBS", "4")], 0, Some(4)),
            (&[("DSTACK_NODE_RANK", "1"), ("DSTACK_NODES_NUM", "2")], 1, Some(2)),
            (&[("FIREBRAND_SWEEP_INDEX", "7"), ("JOB_COMPLETION_INDEX", "1")], 7, None),
        ] {
            let found = of(variables).unwrap().unwrap();
            assert_eq!((found.index, found.workers), (index, workers), "{variables:?}");
        }
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("SLURM_ARRAY_TASK_ID", "")]).unwrap(), None);
        let named = Worker::of(Some(1), Some(3), |_| Some("9".to_owned())).unwrap().unwrap();
        assert_eq!((named.index, named.workers), (1, Some(3)));
        says(
            of(&[("JOB_COMPLETION_INDEX", "x")]).unwrap_err(),
            snapbox::str![[r#"
error[usage]: the environment variable `JOB_COMPLETION_INDEX` is `x`
  because it is the number of a worker, or how many there are
"#]],
        );
    }
}
