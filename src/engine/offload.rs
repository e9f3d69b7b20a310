//! What an optimizer keeps, off the device between updates: in host memory, or in a file without a
//! name. It is never what a run goes on from: checkpoints have all of it.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::scratch::{ScratchContent, ScratchFile, ScratchPart};
use crate::error::Result;
use crate::ops::{from_vec, host};
use crate::weights::Element;

/// Bytes of state that are on a GPU at the same time: small parameters are moved together, larger
/// ones alone.
pub const STATE_AT_ONCE: u64 = 32 << 20;

/// What is kept for a parameter, of one kind.
#[derive(Debug, Clone)]
pub enum Kept {
    /// Numbers of 32 bits, flat, where the parameter is.
    Numbers(Tensor<1>),
    /// Codes of eight bits, in host memory.
    Codes(Arc<Vec<u8>>),
    /// Either of them elsewhere, between updates.
    Stored(StoredState),
}

impl Kept {
    /// As a rule takes it, where the parameter is.
    #[must_use]
    pub fn brought_to(self, device: &Device) -> Self {
        match self {
            Self::Stored(stored) => stored.brought_to(device),
            here => here,
        }
    }

    /// The numbers.
    ///
    /// # Panics
    /// When they are codes: what is kept is what the rule has asked for. When they are stored.
    pub fn numbers(self) -> Tensor<1> {
        match self {
            Self::Numbers(numbers) => numbers,
            Self::Codes(_) | Self::Stored(_) => panic!("the rule keeps numbers here"),
        }
    }

    /// The codes.
    ///
    /// # Panics
    /// When they are numbers, or stored.
    pub fn codes(self) -> Arc<Vec<u8>> {
        match self {
            Self::Codes(codes) => codes,
            Self::Numbers(_) | Self::Stored(_) => panic!("the rule keeps codes here"),
        }
    }
}

/// Where an optimizer's state is between updates.
#[derive(Debug, Clone)]
pub enum StateStore {
    /// In host memory.
    Host,
    /// On disk.
    Disk(Arc<ScratchFile>),
}

impl StateStore {
    /// A file without a name in a folder, with room for so many bytes.
    ///
    /// # Errors
    /// When it cannot be made, or the disk has no room.
    pub fn on_disk(folder: &Path, bytes: u64) -> Result<Self> {
        Ok(Self::Disk(ScratchFile::within(folder, STATE, bytes)?))
    }

    /// Puts what is kept there; codes are in host memory already.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn put(&self, kept: Kept) -> Result<Kept> {
        Ok(match (self, kept) {
            (_, stored @ Kept::Stored(_)) => stored,
            (Self::Host, codes @ Kept::Codes(_)) => codes,
            (Self::Host, Kept::Numbers(numbers)) => {
                Kept::Stored(StoredState::Host(Arc::new(host(numbers))))
            }
            (Self::Disk(file), Kept::Numbers(numbers)) => {
                Kept::Stored(StoredState::Disk(file.put_numbers(&host(numbers))?))
            }
            (Self::Disk(file), Kept::Codes(codes)) => {
                Kept::Stored(StoredState::Disk(file.put_codes(&codes)?))
            }
        })
    }
}

/// Parameters have the same sizes at each update, so that places fit as they are.
const STATE: ScratchContent = ScratchContent {
    name: "optimizer-state",
    what: "the optimizer's state",
    less: "make room, or leave the state in memory (`train.optimizer_offload = \"none\"`)",
    place: 1,
};

/// The same where the device has none of it. What is copied refers to the same numbers, which
/// nothing writes over: an update makes new ones.
#[derive(Debug, Clone)]
pub enum StoredState {
    /// Numbers of 32 bits in host memory.
    Host(Arc<Vec<f32>>),
    /// On disk.
    Disk(Arc<ScratchPart>),
}

impl StoredState {
    /// How many numbers or codes.
    pub fn count(&self) -> usize {
        match self {
            Self::Host(numbers) => numbers.len(),
            Self::Disk(part) => part.count(),
        }
    }

    /// Whether they are codes of eight bits.
    pub fn codes(&self) -> bool {
        matches!(self, Self::Disk(part) if part.element() == Element::U8)
    }

    /// Appends them; codes as numbers.
    pub fn append_to(&self, target: &mut Vec<f32>) {
        match self {
            Self::Host(numbers) => target.extend_from_slice(numbers),
            Self::Disk(part) => part.append_to(target),
        }
    }

    /// All of them.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(self.count());
        self.append_to(&mut numbers);
        numbers
    }

    /// As an update takes them.
    pub fn brought_to(&self, device: &Device) -> Kept {
        match self {
            Self::Disk(part) if part.element() == Element::U8 => {
                Kept::Codes(Arc::new(part.codes()))
            }
            _ => Kept::Numbers(from_vec(self.numbers(), [self.count()], device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::NUMBERS_AT_ONCE;
    use super::*;
    use crate::engine::OptimizerState;
    use crate::engine::optimizers::{self, UpdatedParameter};
    use crate::error::ErrorCode;
    use crate::files::{Call, watch};

    fn on_disk(folder: &Path) -> (StateStore, Arc<ScratchFile>) {
        let store = StateStore::on_disk(folder, 0).unwrap();
        let StateStore::Disk(file) = &store else { unreachable!() };
        let file = file.clone();
        (store, file)
    }

    fn numbers(of: &Kept) -> Vec<f32> {
        match of {
            Kept::Numbers(numbers) => host(numbers.clone()),
            Kept::Codes(codes) => codes.iter().copied().map(f32::from).collect(),
            Kept::Stored(stored) => stored.numbers(),
        }
    }

    #[test]
    fn what_is_copied_stays_while_new_numbers_are_put_and_places_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = on_disk(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let of = |first: f32, count: usize| -> Kept {
            let all = (0..count).map(|number| first + number as f32).collect();
            Kept::Numbers(from_vec(all, [count], &Device::flex()))
        };
        // More than are coded at once.
        let large = NUMBERS_AT_ONCE + 3;
        let kept = [of(1.0, 5), of(0.5, large), of(7.0, 5)].map(|kept| store.put(kept).unwrap());
        let codes = store.put(Kept::Codes(Arc::new(vec![3, 255, 0]))).unwrap();
        assert_eq!(numbers(&kept[0]), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(numbers(&kept[1])[large - 1], 0.5 + (large - 1) as f32);
        assert_eq!(numbers(&codes), [3.0, 255.0, 0.0]);
        let Kept::Stored(stored) = &codes else { panic!("it is on disk") };
        assert!(stored.codes() && stored.count() == 3);
        assert_eq!(*stored.brought_to(&Device::flex()).codes(), [3, 255, 0]);
        let end = file.end();
        // A copy keeps its numbers, as that of a checkpoint that is being written does.
        let copy = kept[0].clone();
        drop(kept);
        let new = store.put(of(20.0, 5)).unwrap();
        assert_eq!((numbers(&copy)[0], numbers(&new)[0]), (1.0, 20.0));
        assert_eq!(file.end(), end, "the place of the third is used again");
        let newer = store.put(of(30.0, 5)).unwrap();
        assert_eq!(file.end(), end + 20);
        drop(copy);
        let newest = store.put(of(40.0, 5)).unwrap();
        assert_eq!(file.end(), end + 20);
        assert_eq!([&new, &newer, &newest].map(|kept| numbers(kept)[0]), [20.0, 30.0, 40.0]);
        let again = store.put(new.clone()).unwrap();
        assert_eq!(numbers(&again), numbers(&new));
    }

    #[test]
    fn in_host_memory_numbers_are_stored_and_codes_stay() {
        let given = from_vec(vec![1.5, 2.5], [2], &Device::flex());
        let kept = StateStore::Host.put(Kept::Numbers(given)).unwrap();
        assert!(matches!(&kept, Kept::Stored(stored) if stored.count() == 2 && !stored.codes()));
        assert_eq!(numbers(&kept), [1.5, 2.5]);
        let codes = StateStore::Host.put(Kept::Codes(Arc::new(vec![9]))).unwrap();
        assert!(matches!(codes, Kept::Codes(_)));
    }

    /// Of a parameter in codes, a matrix and a vector; with and without an average.
    #[test]
    fn every_optimizer_moves_to_the_same_bits_wherever_its_state_is() {
        let folder = tempfile::tempdir().unwrap();
        let shapes = [("a.weight", vec![80, 60]), ("b.weight", vec![3, 5]), ("c.bias", vec![7])];
        let parameters = shapes.map(|(path, dims)| UpdatedParameter::new(path, &dims));
        let tensor = |of: &UpdatedParameter, seed: f32| {
            let one = |place: usize| (place as f32 * 0.37 + seed).sin();
            let count = of.count();
            from_vec((0..count).map(one).collect(), [count], &Device::flex())
        };
        for entry in optimizers::OPTIMIZERS {
            for averaged in [false, true] {
                let rule = || match averaged {
                    true => optimizers::with(entry.name, &[("train.ema_decay", 0.5)]),
                    false => optimizers::with(entry.name, &[]),
                };
                let mut states = [None, Some(StateStore::Host), Some(on_disk(folder.path()).0)]
                    .map(|store| {
                        let mut state = OptimizerState::new(rule());
                        if let Some(store) = store {
                            state.offload_to(store);
                        }
                        state
                    });
                let mut values = [(); 3].map(|()| parameters.each_ref().map(|it| tensor(it, 0.1)));
                for step in 0..3 {
                    for (state, values) in states.iter_mut().zip(&mut values) {
                        state.begin_update();
                        for (value, of) in values.iter_mut().zip(&parameters) {
                            let gradient = tensor(of, 1.0 + step as f32);
                            let moved = state.update(of.clone(), value.clone(), gradient, 1e-2);
                            *value = moved.unwrap();
                        }
                    }
                }
                let bits = |number: usize| {
                    let state = &states[number];
                    let used = values[number].iter().zip(&parameters).map(|(value, of)| {
                        [host(value.clone()), host(state.averaged(&of.path, value.clone()))]
                    });
                    let kept = state.by_path().values().flatten().map(numbers);
                    let all = used.flatten().chain(kept).flatten().map(f32::to_bits);
                    all.collect::<Vec<u32>>()
                };
                for number in [1, 2] {
                    assert!(bits(number) == bits(0), "{}, {averaged}, {number}", entry.name);
                }
                let mut stored = states[2].by_path().values().flatten();
                assert!(stored.all(|kept| matches!(kept, Kept::Stored(_))));
            }
        }
    }

    #[test]
    fn an_update_that_the_disk_has_no_room_for_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = on_disk(folder.path());
        let mut state = OptimizerState::new(optimizers::with("adamw", &[]));
        state.offload_to(store);
        state.begin_update();
        let _watch = watch(folder.path(), |call, _| match call {
            Call::Write => Err(std::io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        let one = || from_vec(vec![1.0, 2.0], [2], &Device::flex());
        let of = UpdatedParameter::new("a.weight", &[2]);
        let error = state.update(of, one(), one(), 1e-2).unwrap_err();
        assert_eq!(error.code, ErrorCode::DiskFull);
        assert_eq!(error.what, "cannot write the optimizer's state to disk");
    }
}
