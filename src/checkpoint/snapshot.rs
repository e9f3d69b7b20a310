//! The state of a trainer between two steps: what a checkpoint holds, taken while training stands
//! still, so that it can be written while training goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::adapters::{file_name_of, is_adapter};
use crate::checkpoint::tensors::{joined, shapes};
use crate::checkpoint::{Pieces, RunState, learning_specs};
use crate::engine::optimizers::{Kept, UpdatedParameter};
use crate::engine::{OptimizerState, StateByPath, StoredState, Trainer};
use crate::model::piece_of;
use crate::weights::{Element, TensorSpec};

/// Tensors of one file, with their values.
pub type Tensors = Vec<(TensorSpec, Values)>;

/// The values of a tensor.
#[derive(Debug, Clone)]
pub enum Values {
    /// Copied from a device.
    Copied(Vec<f32>),
    /// Codes of eight bits, in host memory, in pieces.
    Codes(Vec<Arc<Vec<u8>>>),
    /// In host memory already, in pieces. Steps make new tensors and leave these as they are, so
    /// that nothing is copied, and nothing is in memory twice before the next update.
    Shared(Vec<Tensor<1>>),
    /// Numbers or codes that are elsewhere between updates, in pieces. Updates put new ones beside
    /// these, so that they are read when they are written.
    Stored(Vec<StoredState>),
}

impl Values {
    fn of(pieces: &[Tensor<1>]) -> Self {
        if pieces.iter().all(|piece| piece.device() == Device::flex()) {
            return Self::Shared(pieces.to_vec());
        }
        Self::Copied(joined(pieces))
    }

    /// On the host, in one piece.
    pub fn numbers(&self) -> Vec<f32> {
        match self {
            Self::Copied(numbers) => numbers.clone(),
            Self::Codes(pieces) => {
                pieces.iter().flat_map(|it| it.iter().copied().map(f32::from)).collect()
            }
            Self::Shared(pieces) => joined(pieces),
            Self::Stored(pieces) => {
                let mut numbers = Vec::with_capacity(self.len());
                pieces.iter().for_each(|piece| piece.append_to(&mut numbers));
                numbers
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Copied(numbers) => numbers.len(),
            Self::Codes(pieces) => pieces.iter().map(|codes| codes.len()).sum(),
            Self::Shared(pieces) => pieces.iter().map(|piece| piece.shape().num_elements()).sum(),
            Self::Stored(pieces) => pieces.iter().map(StoredState::count).sum(),
        }
    }
}

/// Everything that a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The trainable weights, by their names in files: those that are measured and used.
    pub weights: Tensors,
    /// Those that are trained, where they are others.
    pub trained: Option<Tensors>,
    /// Whether they are those of an adapter.
    adapter: bool,
    /// What the optimizer keeps for each parameter.
    pub optimizer: Tensors,
    /// Everything else.
    pub state: RunState,
}

/// All that an optimizer keeps, by name, whatever pieces it is in.
fn tensors_of(optimizer: &OptimizerState, dims: &BTreeMap<String, Vec<usize>>) -> Tensors {
    let mut numbers = Pieces::new();
    let mut codes: BTreeMap<String, Vec<Arc<Vec<u8>>>> = BTreeMap::new();
    let mut stored: BTreeMap<String, Vec<StoredState>> = BTreeMap::new();
    for (path, piece, state) in in_order(optimizer.by_path()) {
        let full = piece.map_or_else(|| path.to_owned(), |piece| format!("{path}#{piece}"));
        let specs = optimizer.specs(&UpdatedParameter::new(&full, &dims[&full]));
        for (spec, values) in specs.iter().zip(state) {
            let name = format!("{}.{path}", spec.name);
            match values {
                Kept::Numbers(values) => numbers.entry(name).or_default().push(values.clone()),
                Kept::Codes(values) => codes.entry(name).or_default().push(values.clone()),
                Kept::Stored(values) => stored.entry(name).or_default().push(values.clone()),
            }
        }
    }
    let spec = |name: String, element, values: Values| {
        (TensorSpec { name, element, shape: vec![values.len()] }, values)
    };
    let numbers =
        numbers.into_iter().map(|(name, pieces)| spec(name, Element::F32, Values::of(&pieces)));
    let codes =
        codes.into_iter().map(|(name, pieces)| spec(name, Element::U8, Values::Codes(pieces)));
    let stored = stored.into_iter().map(|(name, pieces)| {
        let element =
            if pieces.iter().all(StoredState::codes) { Element::U8 } else { Element::F32 };
        spec(name, element, Values::Stored(pieces))
    });
    numbers.chain(codes).chain(stored).collect()
}

/// State by whole path and number of the piece: `#10` comes after `#9`.
fn in_order(state: &StateByPath) -> Vec<(&str, Option<usize>, &[Kept])> {
    let split = |(path, state)| {
        let (path, state): (&String, &Vec<_>) = (path, state);
        let (whole, piece) = piece_of(path);
        (whole, piece, state.as_slice())
    };
    let mut all: Vec<_> = state.iter().map(split).collect();
    all.sort_by_key(|(whole, piece, _)| (*whole, *piece));
    all
}

impl Snapshot {
    /// Takes trainable parameters and the optimizer's state, once training goes on.
    pub fn of(trainer: &mut Trainer, state: RunState) -> Self {
        let (trained, adapter) = weights_of(trainer);
        let weights = trainer.averages().then(|| {
            let trained = trainer.use_averaged();
            let (averaged, _) = weights_of(trainer);
            trainer.train_on(trained);
            averaged
        });
        let (weights, trained) = match weights {
            Some(averaged) => (averaged, Some(trained)),
            None => (trained, None),
        };
        let dims = shapes(&mut trainer.model);
        let optimizer = tensors_of(&trainer.optimizer, &dims);
        Self { weights, trained, adapter, optimizer, state }
    }

    /// About how many bytes its files take.
    pub fn bytes(&self) -> u64 {
        const HEADERS: u64 = 64 << 10;
        let of_one = |(spec, values): &(TensorSpec, Values)| {
            values.len() as u64 * spec.element.size() as u64
        };
        let all = self.weights.iter().chain(&self.optimizer).chain(self.trained.iter().flatten());
        all.map(of_one).sum::<u64>() + HEADERS
    }

    /// Name of the file with the weights.
    pub fn weights_name(&self) -> &'static str {
        weights_name(self.adapter)
    }
}

/// The trainable weights of a trainer, and whether they are those of an adapter.
fn weights_of(trainer: &mut Trainer) -> (Tensors, bool) {
    let mut adapter = false;
    let element = |path: &str| {
        adapter |= is_adapter(path);
        Element::F32
    };
    let (specs, values) = learning_specs(&mut trainer.model, file_name_of, element);
    let with_values = |spec: TensorSpec| {
        let values = Values::of(&values[&spec.name]);
        (spec, values)
    };
    (specs.into_iter().map(with_values).collect(), adapter)
}

/// Name of the file with the weights that are trained, where those that are used are others.
pub const TRAINED: &str = "trained.safetensors";

/// Name of the file with the trainable weights.
pub fn weights_name(adapter: bool) -> &'static str {
    if adapter { "adapter.safetensors" } else { "model.safetensors" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tensors::optimizer_state;
    use crate::engine::{StateStore, optimizers};
    use crate::ops::from_vec;

    /// State that is kept in pieces on a device are whole in files, and come back in pieces.
    #[test]
    fn pieces_are_joined_in_files_and_taken_apart_again() {
        joined_and_taken_apart(OptimizerState::new(optimizers::with("adamw", &[])));
    }

    #[test]
    fn pieces_that_are_stored_elsewhere_are_as_well() {
        let folder = tempfile::tempdir().unwrap();
        for store in [StateStore::Host, StateStore::on_disk(folder.path(), 0).unwrap()] {
            let mut optimizer = OptimizerState::new(optimizers::with("adamw", &[]));
            optimizer.offload_to(store);
            joined_and_taken_apart(optimizer);
        }
    }

    fn joined_and_taken_apart(mut optimizer: OptimizerState) {
        optimizer.begin_update();
        let device = Device::flex();
        let numbers = |from: usize, count: usize| -> Tensor<1> {
            from_vec((from..from + count).map(|n| n as f32).collect(), [count], &device)
        };
        // Twelve rows of two: pieces of one row each, so that `#10` must come after `#9`.
        let mut model = crate::model::fixture::table_in_pieces(12, 2, 1);
        for piece in 0..12 {
            let path = format!("model.embed_tokens.weight#{piece}");
            let of = UpdatedParameter::new(&path, &[1, 2]);
            optimizer.update(of, numbers(0, 2), numbers(2 * piece, 2), 0.0).unwrap();
        }
        let dims = shapes(&mut model);
        let found = tensors_of(&optimizer, &dims);
        let names: Vec<&str> = found.iter().map(|(spec, _)| spec.name.as_str()).collect();
        let path = "model.embed_tokens.weight";
        assert_eq!(names, [format!("first_moment.{path}"), format!("second_moment.{path}")]);
        let expected: Vec<f32> = (0..24).map(|n| n as f32 * (1.0_f64 - 0.9) as f32).collect();
        assert_eq!(found[0].1.numbers(), expected);

        let kept: BTreeMap<String, Vec<f32>> =
            found.iter().map(|(spec, values)| (spec.name.clone(), values.numbers())).collect();
        let files = |kept: BTreeMap<String, Vec<f32>>| kept.into_iter().map(Ok);
        let back = optimizer_state(&mut model, &optimizer, files(kept.clone())).unwrap().unwrap();
        assert_eq!(back.len(), 12);
        optimizer.restore(back, 1);
        assert_eq!(
            tensors_of(&optimizer, &dims).iter().map(|m| m.1.numbers()).collect::<Vec<_>>(),
            [found[0].1.numbers(), found[1].1.numbers()]
        );
        // What is too short, too long, or without its twin is refused.
        let broken = |change: &dyn Fn(&mut BTreeMap<String, Vec<f32>>)| {
            let mut kept = kept.clone();
            change(&mut kept);
            let mut model = crate::model::fixture::table_in_pieces(12, 2, 1);
            optimizer_state(&mut model, &optimizer, files(kept)).unwrap().is_none()
        };
        let first = format!("first_moment.{path}");
        assert!(broken(&|kept| {
            kept.get_mut(&first).unwrap().pop();
        }));
        assert!(broken(&|kept| kept.get_mut(&first).unwrap().push(0.0)));
        assert!(broken(&|kept| drop(kept.remove(&first))));
        assert!(broken(&|kept| drop(kept.insert("first_moment.x".to_owned(), vec![1.0]))));
    }
}
