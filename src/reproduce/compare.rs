//! What was made again beside what there is: bytes, numbers, and the steps on the way.

use std::collections::BTreeMap;
use std::path::Path;

use crate::artifact::reproduction::Outcome;
use crate::checkpoint::{line, steps_of};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, read_bytes};
use crate::weights::{Shard, to_f32};

/// The largest file of metrics that is read.
const METRICS_BYTES_MAX: u64 = 1 << 30;

/// How weights compare.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightsDifference {
    /// Whether every byte of the files is the same.
    pub same_bytes: bool,
    /// The greatest relative difference of a tensor (2-norm of the difference by that of the
    /// original), and its name; nothing where all bits of all tensors are the same.
    pub greatest: Option<(String, f64)>,
    /// How many tensors there are, and how many have other bits.
    pub tensors: (usize, usize),
}

impl WeightsDifference {
    /// Compares files of weights of the same names in two folders.
    ///
    /// # Errors
    /// When one cannot be read, or tensors have other names or shapes.
    pub fn of(names: &[String], there: &Path, made: &Path) -> Result<Self> {
        let mut found = Self { same_bytes: true, greatest: None, tensors: (0, 0) };
        for name in names {
            found.add(name, there, made)?;
        }
        Ok(found)
    }

    fn add(&mut self, name: &str, there: &Path, made: &Path) -> Result<()> {
        let shards = [Shard::read(there, name)?, Shard::read(made, name)?];
        let [one, other] = shards.each_ref().map(Shard::header_and_data);
        self.same_bytes &= one? == other?;
        let other: BTreeMap<_, _> =
            shards[1].tensors()?.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let tensors = shards[0].tensors()?;
        let differs = |what: String| Error::weights(what).at(made.join(name));
        if tensors.len() != other.len() {
            let counts = (other.len(), tensors.len());
            return Err(differs(format!("{} tensors were made, not {}", counts.0, counts.1)));
        }
        for tensor in tensors {
            let made = other.get(&tensor.name);
            let made = made.filter(|it| it.shape == tensor.shape && it.element == tensor.element);
            let Some(made) = made else {
                let what = format!("`{}` was not made in its shape and format", tensor.name);
                return Err(differs(what));
            };
            self.tensors.0 += 1;
            if made.bytes == tensor.bytes {
                continue;
            }
            self.tensors.1 += 1;
            let numbers = |bytes: &[u8]| to_f32(tensor.element, bytes);
            let found = relative(&numbers(made.bytes), &numbers(tensor.bytes));
            if self.greatest.as_ref().is_none_or(|(_, greatest)| found > *greatest) {
                self.greatest = Some((tensor.name.clone(), found));
            }
        }
        Ok(())
    }

    /// The greatest difference; 0 where there is none.
    pub fn greatest(&self) -> f64 {
        self.greatest.as_ref().map_or(0.0, |(_, found)| *found)
    }

    /// What it comes to: `same` tells whether all else that decides is the same.
    pub fn outcome(&self, same: bool, tolerance: f64) -> Outcome {
        match self.greatest() {
            _ if self.tensors.1 == 0 && self.same_bytes && same => Outcome::SameBytes,
            _ if self.tensors.1 == 0 => Outcome::SameTensors,
            found if found <= tolerance => Outcome::WithinRounding,
            _ => Outcome::Different,
        }
    }
}

/// ‖a − b‖ / ‖b‖; infinite where a number is none or all of `b` are 0.
fn relative(ours: &[f32], reference: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let pairs = ours.iter().zip(reference);
    let difference: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = reference.iter().map(|b| square(f64::from(*b))).sum();
    let found = (difference / size).sqrt();
    if found.is_finite() { found } else { f64::INFINITY }
}

/// The steps of two runs beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepsBeside {
    /// What the run wrote of its steps is not here.
    Unknown,
    /// Every number of every step is the same.
    Same,
    /// The first step with another number.
    FirstDifferent(u64),
}

/// Compares the metrics of two runs, from after one step to another.
///
/// # Errors
/// When they cannot be read.
pub fn steps(there: &Path, made: &Path, stretch: Option<(u64, u64)>) -> Result<StepsBeside> {
    let read = |path: &Path| -> Result<BTreeMap<u64, Vec<u8>>> {
        let bytes = read_bytes(path, METRICS_BYTES_MAX)?;
        let all = steps_of(&bytes).context_at("these are not the metrics of a run", path)?;
        let inside = |step: u64| stretch.is_none_or(|(from, to)| step > from && step <= to);
        let all = all.into_iter().filter(|step| inside(step.step));
        all.map(|step| Ok((step.step, line(&step)?))).collect()
    };
    let (there, made) = (read(there)?, read(made)?);
    let steps = there.keys().chain(made.keys());
    let first = steps.filter(|step| there.get(step) != made.get(step)).min();
    Ok(first.map_or(StepsBeside::Same, |step| StepsBeside::FirstDifferent(*step)))
}

/// Whether the metrics at a path are those with a digest; not if they are not there.
pub fn is_of(path: &Path, digest: Option<Digest>) -> bool {
    let bytes = read_bytes(path, METRICS_BYTES_MAX).ok();
    bytes.is_some_and(|bytes| digest == Some(Digest::of(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;
    use crate::weights::{Element, TensorSpec, write_safetensors};

    fn weights(folder: &Path, digest: &str, numbers: &[f32]) {
        let spec =
            TensorSpec { name: "w".into(), element: Element::F32, shape: vec![numbers.len()] };
        let metadata = [("inputs".to_owned(), digest.to_owned())].into();
        let _ = std::fs::remove_file(folder.join("m.safetensors"));
        write_safetensors(&folder.join("m.safetensors"), vec![spec], &metadata, |_| {
            Ok(numbers.to_vec())
        })
        .unwrap();
    }

    #[test]
    fn bytes_tensors_and_rounding_are_told_apart() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [there, made] = folders.each_ref().map(tempfile::TempDir::path);
        weights(there, "a", &[1.0, 2.0, -3.0]);
        let found = |digest: &str, numbers: &[f32]| {
            weights(made, digest, numbers);
            let found = WeightsDifference::of(&["m.safetensors".into()], there, made)?;
            Ok::<_, Error>((found.outcome(true, 1e-3), found.greatest()))
        };
        assert_eq!(found("a", &[1.0, 2.0, -3.0]).unwrap(), (Outcome::SameBytes, 0.0));
        assert_eq!(found("b", &[1.0, 2.0, -3.0]).unwrap(), (Outcome::SameTensors, 0.0));
        let (outcome, difference) = found("a", &[1.0, 2.0, -3.001]).unwrap();
        assert_eq!(outcome, Outcome::WithinRounding);
        assert!((difference - 0.001 / 14f64.sqrt()).abs() < 1e-6, "{difference}");
        assert_eq!(found("a", &[1.0, 2.0, 3.0]).unwrap().0, Outcome::Different);
        assert_eq!(found("a", &[1.0, 2.0, f32::NAN]).unwrap().1, f64::INFINITY);
        says(
            found("a", &[1.0, 2.0]).unwrap_err(),
            snapbox::str![[r#"
error[weights]: `w` was not made in its shape and format
  at [FOLDER]/m.safetensors
"#]],
        );
        // Another thing that decides is another one.
        weights(made, "a", &[1.0, 2.0, -3.0]);
        let same = WeightsDifference::of(&["m.safetensors".into()], there, made).unwrap();
        assert_eq!(same.outcome(false, 1e-3), Outcome::SameTensors);
    }

    #[test]
    fn the_first_step_with_another_number_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = |name: &str, losses: &[f64]| {
            let path = folder.path().join(name);
            let step = |(step, loss): (usize, &f64)| {
                format!(
                    "{{\"step\":{},\"epoch\":0.0,\"loss\":{loss},\"learning_rate\":0.1,\
                     \"grad_norm\":1.0,\"target_tokens\":1,\"tokens\":1}}\n",
                    step + 1
                )
            };
            let lines: String = losses.iter().enumerate().map(step).collect();
            std::fs::write(&path, lines).unwrap();
            path
        };
        let one = metrics("one", &[3.0, 2.0, 1.0]);
        let first =
            |losses: &[f64], stretch| steps(&one, &metrics("other", losses), stretch).unwrap();
        assert_eq!(first(&[3.0, 2.0, 1.0], None), StepsBeside::Same);
        assert_eq!(first(&[3.0, 2.5, 1.5], None), StepsBeside::FirstDifferent(2));
        assert_eq!(first(&[3.0, 2.0], None), StepsBeside::FirstDifferent(3));
        assert_eq!(first(&[3.5, 2.0, 1.0], Some((1, 3))), StepsBeside::Same);
        let digest = Digest::of(&std::fs::read(&one).unwrap());
        assert!(is_of(&one, Some(digest)) && !is_of(&one, None));
        assert!(!is_of(&folder.path().join("none"), Some(digest)));
    }
}
