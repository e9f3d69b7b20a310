//! Which kernels a device is told to launch, counted where the host tells it to: no device has to
//! wait for that, and none has to be real.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Launches by the name of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Launches(BTreeMap<String, i64>);

impl Launches {
    /// All of them.
    pub fn total(&self) -> i64 {
        self.0.values().sum()
    }

    /// Those of the kernel of this name.
    pub fn of(&self, kernel: &str) -> i64 {
        self.0.get(kernel).copied().unwrap_or(0)
    }

    /// Kernels and their launches, the most first.
    pub fn sorted(&self) -> Vec<(&str, i64)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        all.sort_by_key(|(name, count)| (-count, *name));
        all
    }

    /// These without others; what others have more of is negative.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let mut left = self.0.clone();
        for (name, count) in &others.0 {
            *left.entry(name.clone()).or_default() -= count;
        }
        left.retain(|_, count| *count != 0);
        Self(left)
    }

    #[cfg(feature = "gpu")]
    fn add(&mut self, kernel: &str) {
        *self.0.entry(short(kernel).to_owned()).or_default() += 1;
    }
}

/// The type's own name, without its path and what it is generic over.
#[cfg(feature = "gpu")]
fn short(name: &str) -> &str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

impl<'a> FromIterator<(&'a str, i64)> for Launches {
    fn from_iter<T: IntoIterator<Item = (&'a str, i64)>>(counted: T) -> Self {
        let counted = counted.into_iter().filter(|(_, count)| *count != 0);
        Self(counted.map(|(name, count)| (name.to_owned(), count)).collect())
    }
}

/// Does some work, and counts what this thread launches meanwhile.
#[cfg(feature = "gpu")]
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, Launches) {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::{ThreadId, current};

    use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};

    struct Count(ThreadId, Mutex<Launches>);
    impl LaunchObserver for Count {
        fn launched(&self, kernel: &'static str) {
            if current().id() == self.0 {
                self.1.lock().unwrap_or_else(PoisonError::into_inner).add(kernel);
            }
        }
    }
    // The process has one place for an observer.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = Arc::new(Count(current().id(), Mutex::default()));
    let watching = LaunchObservation::new(count.clone());
    let done = work();
    drop(watching);
    let counted = std::mem::take(&mut *count.1.lock().unwrap_or_else(PoisonError::into_inner));
    (done, counted)
}

/// Does some work; without GPU support there is nothing to launch.
#[cfg(not(feature = "gpu"))]
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, Launches) {
    (work(), Launches::default())
}

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differences_keep_their_sign() {
        let mut ours = Launches::default();
        for name in ["a::b::Cast<f32, c::D>", "a::b::Cast<f16, c::D>", "x::Norm"] {
            ours.add(name);
        }
        assert_eq!(ours.sorted(), [("Cast", 2), ("Norm", 1)]);
        let mut others = Launches::default();
        for name in ["Cast", "Gate", "x::Norm"] {
            others.add(name);
        }
        let left = ours.without(&others);
        assert_eq!(left.sorted(), [("Cast", 1), ("Gate", -1)]);
        assert_eq!((left.total(), left.of("Norm"), ours.of("Cast")), (0, 0, 2));
    }

    #[test]
    fn work_on_the_cpu_launches_nothing() {
        let (sum, launches) = count_launches(|| {
            let ones = burn::tensor::Tensor::<1>::ones([3], &burn::tensor::Device::flex());
            ones.sum().into_scalar::<f32>()
        });
        assert_eq!((sum, launches.total()), (3.0, 0));
    }
}
