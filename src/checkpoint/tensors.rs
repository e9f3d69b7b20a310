//! The trainable tensors of a model, by their names in files.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::engine::optimizers::{Kept, StateSpec, UpdatedParameter};
use crate::engine::{OptimizerState, StateByPath};
use crate::error::{Error, Result};
use crate::model::description::StackedTensor;
use crate::model::{Model, Parameter, Visitor, piece_of};
use crate::ops::{flat, from_vec, host};
use crate::weights::{Element, Shard, TensorSpec, to_f32};

/// A trainable tensor, flat, with its shape; in pieces, where the device takes no larger ones.
pub struct TrainableTensor {
    /// Path of the parameter.
    pub path: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values, one piece after the other.
    pub values: Vec<Tensor<1>>,
}

/// Every trainable tensor of a model.
pub fn trainable(model: &mut Model) -> Vec<TrainableTensor> {
    #[derive(Default)]
    struct Collect(Vec<TrainableTensor>);
    impl Collect {
        fn add<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
            if !parameter.trainable {
                return;
            }
            let (whole, piece) = piece_of(path);
            let shape = parameter.value.dims().to_vec();
            let values = flat(parameter.value.clone());
            match self.0.last_mut() {
                Some(before) if piece.is_some_and(|number| number > 0) => {
                    before.shape[0] += shape[0];
                    before.values.push(values);
                }
                _ => {
                    self.0.push(TrainableTensor {
                        path: whole.to_owned(),
                        shape,
                        values: vec![values],
                    });
                }
            }
        }
    }
    impl Visitor for Collect {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            self.add(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            self.add(path, parameter);
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.0
}

/// Values by name, each in its pieces.
pub type Pieces = BTreeMap<String, Vec<Tensor<1>>>;

/// Names, shapes and values of the trainable tensors, ready for a safetensors file in which
/// `rename` makes the names.
pub fn learning_specs(
    model: &mut Model,
    rename: impl Fn(&str) -> String,
    mut element: impl FnMut(&str) -> Element,
) -> (Vec<TensorSpec>, Pieces) {
    let mut specs = Vec::new();
    let mut values = BTreeMap::new();
    for trainable in trainable(model) {
        let name = rename(&trainable.path);
        specs.push(TensorSpec {
            name: name.clone(),
            element: element(&trainable.path),
            shape: trainable.shape,
        });
        values.insert(name, trainable.values);
    }
    (specs, values)
}

/// The host values of a tensor that [`learning_specs`] listed.
pub fn learning_values(values: &Pieces, spec: &TensorSpec) -> Vec<f32> {
    joined(&values[&spec.name])
}

/// All pieces, one after the other, on the host.
pub fn joined(pieces: &[Tensor<1>]) -> Vec<f32> {
    match pieces {
        [whole] => host(whole.clone()),
        _ => pieces.iter().flat_map(|piece| host(piece.clone())).collect(),
    }
}

/// Puts the tensors of a file into the trainable parameters of a model.
///
/// # Errors
/// When the file lacks a parameter, has one more, or one of another shape.
pub fn put(model: &mut Model, shard: &Shard, rename: impl Fn(&str) -> String) -> Result<()> {
    put_stacked(model, shard, rename, (&[], &|_| false))
}

/// The same of a file that has the tensors of several layers as one, and perhaps copies of others,
/// which are left out.
///
/// # Errors
/// Those of [`put`].
pub fn put_stacked(
    model: &mut Model,
    shard: &Shard,
    rename: impl Fn(&str) -> String,
    (stacked, is_copy): (&[StackedTensor], &dyn Fn(&str) -> bool),
) -> Result<()> {
    struct Put<'a, F> {
        tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
        rename: F,
        device: &'a burn::tensor::Device,
        problems: Vec<Error>,
    }
    impl<F: Fn(&str) -> String> Put<'_, F> {
        fn set<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
            if !parameter.trainable {
                return;
            }
            let (whole, piece) = piece_of(path);
            let name = (self.rename)(whole);
            let dims = parameter.value.dims();
            let Some((shape, values)) = self.tensors.get_mut(&name) else {
                self.problems.push(Error::checkpoint(format!("tensor `{name}` is missing")));
                return;
            };
            // A piece takes its rows from the front, and the last one must find its own number.
            let fits = match piece {
                None => *shape == dims,
                Some(_) => shape.len() == D && shape[0] >= dims[0] && shape[1..] == dims[1..],
            };
            if !fits {
                let what = format!("tensor `{name}` has shape {shape:?} instead of {dims:?}");
                self.problems.push(Error::checkpoint(what));
                self.tensors.remove(&name);
                return;
            }
            shape[0] -= dims[0];
            let rest = values.split_off(dims.iter().product());
            let values = std::mem::replace(values, rest);
            parameter.value = from_vec(values, dims, self.device);
            if shape[0] == 0 {
                self.tensors.remove(&name);
            }
        }
    }
    impl<F: Fn(&str) -> String> Visitor for Put<'_, F> {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            self.set(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            self.set(path, parameter);
        }
    }
    let mut tensors = BTreeMap::new();
    for tensor in shard.tensors()?.into_iter().filter(|tensor| !is_copy(&tensor.name)) {
        tensors.insert(tensor.name, (tensor.shape, to_f32(tensor.element, tensor.bytes)));
    }
    for all in stacked {
        let Some((shape, numbers)) = tensors.remove(&all.name) else { continue };
        match shape == all.shape() {
            true => tensors.extend(
                all.taken_apart(&numbers).map(|(name, one)| (name, (all.part.to_vec(), one))),
            ),
            false => drop(tensors.insert(all.name.clone(), (shape, numbers))),
        }
    }
    let device = model.device.clone();
    let mut put = Put { tensors, rename, device: &device, problems: Vec::new() };
    model.visit(&mut put);
    put.problems.extend(
        put.tensors
            .keys()
            .map(|name| Error::checkpoint(format!("tensor `{name}` is not of this model"))),
    );
    match Error::all(put.problems) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Shapes of the trainable parameters of a model, by path, in the pieces that it has.
pub fn shapes(model: &mut Model) -> BTreeMap<String, Vec<usize>> {
    struct Shapes(BTreeMap<String, Vec<usize>>);
    impl Visitor for Shapes {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            if parameter.trainable {
                self.0.insert(path.to_owned(), parameter.value.dims().into());
            }
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            if parameter.trainable {
                self.0.insert(path.to_owned(), parameter.value.dims().into());
            }
        }
    }
    let mut shapes = Shapes(BTreeMap::new());
    model.visit(&mut shapes);
    shapes.0
}

/// What an optimizer keeps, from the tensors `NAME.PATH`, in the pieces that the model has; a
/// parameter that was never updated has none. Each tensor goes where it is kept before the next
/// one is asked for. `None` when they do not fit.
///
/// # Errors
/// Those of `tensors`, and when the state goes to a disk that is full.
pub fn optimizer_state(
    model: &mut Model,
    optimizer: &OptimizerState,
    tensors: impl IntoIterator<Item = Result<(String, Vec<f32>)>>,
) -> Result<Option<StateByPath>> {
    let mut parameters: Vec<(String, Vec<usize>)> = shapes(model).into_iter().collect();
    // Pieces take their numbers from the front: `#10` comes after `#9`.
    parameters.sort_by(|(a, _), (b, _)| piece_of(a).cmp(&piece_of(b)));
    let mut wanted: BTreeMap<String, Vec<StatePart>> = BTreeMap::new();
    let mut found: BTreeMap<String, Vec<Option<Kept>>> = BTreeMap::new();
    for (path, dims) in parameters {
        let specs = optimizer.specs(&UpdatedParameter::new(&path, &dims));
        let (whole, _) = piece_of(&path);
        for (place, spec) in specs.iter().enumerate() {
            let name = format!("{}.{whole}", spec.name);
            let part = StatePart { path: path.clone(), place, spec: *spec };
            wanted.entry(name).or_default().push(part);
        }
        found.insert(path, vec![None; specs.len()]);
    }
    for tensor in tensors {
        let (name, values) = tensor?;
        let Some(parts) = wanted.remove(&name) else { return Ok(None) };
        let mut rest = &values[..];
        for StatePart { path, place, spec } in parts {
            if rest.is_empty() {
                break; // of pieces that were never updated
            }
            let Some((values, after)) = rest.split_at_checked(spec.count) else { return Ok(None) };
            rest = after;
            let kept = optimizer.stored(kept_of(&spec, values, &model.device))?;
            found.get_mut(&path).expect("it was put there")[place] = Some(kept);
        }
        if !rest.is_empty() {
            return Ok(None);
        }
    }
    let mut by_path = StateByPath::new();
    for (path, state) in found {
        let count = state.len();
        let state: Vec<Kept> = state.into_iter().flatten().collect();
        match state.len() {
            0 => {}
            found if found == count => drop(by_path.insert(path, state)),
            _ => return Ok(None),
        }
    }
    Ok(Some(by_path))
}

/// What a tensor of a file has for a parameter, or a piece of one.
struct StatePart {
    path: String,
    /// The number of its kind.
    place: usize,
    spec: StateSpec,
}

fn kept_of(spec: &StateSpec, values: &[f32], device: &Device) -> Kept {
    match spec.codes {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of bytes
        true => Kept::Codes(Arc::new(values.iter().map(|code| *code as u8).collect())),
        false => Kept::Numbers(from_vec(values.to_vec(), [spec.count], device)),
    }
}
