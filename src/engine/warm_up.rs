//! Kernels are compiled when they are first used, which on a GPU takes far longer than using them.
//! Here they are used once, on numbers that mean nothing, before steps are made and timed.

use std::collections::{BTreeMap, BTreeSet};

use crate::data::Batch;
use crate::device::{self, Failure};
use crate::engine::in_flight::broken;
use crate::engine::optimizers::UpdatedParameter;
use crate::engine::trainer::Stopped;
use crate::engine::{Size, Trainer};
use crate::error::Result;
use crate::model::{Parameter, Visitor};
use crate::ops::begun;
use crate::random::Stream;

impl Trainer {
    /// The sizes of micro-batches that nothing was computed in so far.
    pub fn new_sizes<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) -> BTreeSet<Size> {
        let sizes = batches.into_iter().map(|batch| self.size_of(batch));
        sizes.filter(|size| !self.sizes.contains(size)).collect()
    }

    /// Computes loss, gradients and an update once in each size, and forgets them: nothing that a
    /// step depends on changes, but [`Self::micro_batch_split`] where the device has no room.
    ///
    /// # Errors
    /// When the device fails, or a single row does not fit.
    pub fn warm_up(&mut self, sizes: BTreeSet<Size>) -> Result<()> {
        let shapes = self.shapes();
        for size in sizes {
            let batch = size.batch();
            while let Err(stopped) = self.try_out(&batch, &shapes) {
                match stopped {
                    Stopped::Error(error) => return Err(error),
                    Stopped::Memory(why) => {
                        self.make_smaller(std::slice::from_ref(&batch), &why)?;
                    }
                }
            }
            self.sizes.insert(self.size_of(&batch));
            self.sizes.insert(size);
        }
        Ok(())
    }

    /// Trainable parameters by path.
    fn shapes(&mut self) -> BTreeMap<String, UpdatedParameter> {
        let mut shapes = Shapes(BTreeMap::new());
        self.model.visit(&mut shapes);
        shapes.0
    }

    fn try_out(
        &self,
        batch: &Batch,
        shapes: &BTreeMap<String, UpdatedParameter>,
    ) -> std::result::Result<(), Stopped> {
        let stream = Stream::new(self.settings.seed).site("warm-up");
        let sums = self.micro_batch(&*self.objective, batch, 1.0, stream)?;
        let both = self.measure(&sums)?;
        let gradients = sums.gradients.into_sums().into_iter();
        let gradients: Vec<_> = gradients
            .filter_map(|(path, gradient)| Some((shapes.get(&path)?.clone(), gradient)))
            .collect();
        let work = || {
            let factor = self.clip_ahead(&both).on_device(&self.model.device);
            self.optimizer.try_out(gradients, &factor, begun)?;
            self.model.device.sync().map_err(|error| error.to_string())
        };
        let failure = match device::attempt(self.on_gpu(), work) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => Failure::of(&why),
            Err(failure) => failure,
        };
        Err(match failure {
            Failure::Memory(why) => Stopped::Memory(why),
            Failure::Other(why) => Stopped::Error(broken(self.step + 1, &why)),
        })
    }
}

struct Shapes(BTreeMap<String, UpdatedParameter>);

impl Shapes {
    fn add<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
        if parameter.trainable {
            let of = UpdatedParameter::new(path, &parameter.value.dims());
            self.0.insert(path.to_owned(), of);
        }
    }
}

impl Visitor for Shapes {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.add(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.add(path, parameter);
    }
}
