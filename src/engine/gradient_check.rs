//! The real model on real data, before the first step: the loss and every gradient by the kernels
//! that train, beside those of the tensor operations that they stand for. On a GPU these are made
//! on the CPU (`device_check.rs`).
//!
//! Faults of fused kernels (a gradient of zero, a head that is not trained) leave a loss that falls
//! and a model that learns less than it should; on a few tokens of the run itself they are seen.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Tensor;
use serde::Serialize;

use super::layerwise::{Pass, forward_backward};
use crate::config::Recompute;
use crate::data::{Batch, Target};
use crate::device::{Arithmetic, ComputeConfig};
use crate::model::{Gradients, Model, piece_of};
use crate::objectives::Objective;
use crate::ops::{host, host_in_parts};

/// How far the mean loss may be off in any case, in nats: in 32 bits, where a score of 30 is
/// rounded by 2e-6, and in 16.
const LOSS_ROUNDING: [f64; 2] = [1e-5, 1e-2];
/// How far a gradient may be off, relative to its size (2-norms): in 32 bits, and where both sides
/// round factors to 16, but after other sums.
const TOLERANCE: [f64; 2] = [1e-3, 5e-2];
/// Where that is not enough, a gradient may be off by so many times what rounding takes from that
/// of the reference: the small one of a difference of large sums is mostly rounding.
const ROUNDINGS: f64 = 3.0;
/// A gradient that is off by more is wrong, whatever rounding may do: in 32 bits, and in 16.
const OFF_MAX: [f64; 2] = [5e-2, 0.5];
/// A gradient that is smaller than this share of the largest, number for number, is rounding: that
/// of a bias of keys, for one, is 0 but for it.
const NOISE: f64 = 1e-3;
/// A loss below this, whose gradients are below it too, is rounding: of a student that is its
/// teacher, for one.
const NOTHING: f64 = 1e-6;
/// The same of a loss where factors are rounded to 16 bits, whatever its gradients are: scores of
/// 10 are off by 0.04 then, and the divergence of two such by the square of it.
const NOTHING_ROUNDED: f64 = 1e-3;

/// What was compared, and how far apart it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GradientCheck {
    /// Tokens of the run's data.
    pub tokens: usize,
    /// Tensors with a gradient.
    pub tensors: usize,
    /// The mean loss, by the kernels of the run and by tensor operations.
    pub loss: [f64; 2],
    /// The relative difference of the gradient that is off most.
    pub difference: f64,
    /// Which one that is.
    pub tensor: String,
    /// How far that one may be off.
    pub tolerance: f64,
    /// What computed the first, with the kernels of the run.
    pub device: String,
    /// What computed the second.
    pub reference: String,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Loss and gradients of a batch, computed in one way.
pub(super) struct Computed {
    /// The mean loss.
    pub loss: f64,
    /// By path, each in the pieces that its device has it in.
    pub gradients: BTreeMap<String, Vec<Tensor<1>>>,
}

impl Computed {
    /// Of summed gradients by the path of each piece.
    pub fn new(loss: f64, sums: Gradients) -> Self {
        let mut pieces: Vec<_> = sums.into_sums().into_iter().collect();
        pieces.sort_by(|(a, _), (b, _)| piece_of(a).cmp(&piece_of(b)));
        let mut gradients: BTreeMap<String, Vec<Tensor<1>>> = BTreeMap::new();
        for (path, piece) in pieces {
            gradients.entry(piece_of(&path).0.to_owned()).or_default().push(piece);
        }
        Self { loss, gradients }
    }

    /// Whether all gradients are numbers.
    pub fn is_finite(&self) -> bool {
        let mut finite = true;
        let pieces = self.gradients.values().flatten();
        pieces.for_each(|piece| {
            host_in_parts(piece, |part| finite &= part.iter().all(|x| x.is_finite()));
        });
        finite
    }
}

/// How a batch is computed to be compared.
#[derive(Clone, Copy)]
pub(super) struct CheckedBatch<'a> {
    pub objective: &'a dyn Objective,
    pub batch: &'a Batch,
    pub loss_chunk_tokens: usize,
    /// What gradients are multiplied with; every way has the same.
    pub loss_scale: f64,
}

impl CheckedBatch<'_> {
    /// One divided by what the loss is the mean over.
    #[expect(clippy::cast_precision_loss)] // counts stay far below 2^53
    pub fn mean(&self) -> f64 {
        1.0 / self.objective.count(self.batch).max(1) as f64
    }

    /// How a part of it is differentiated. Nothing is dropped, and no noise added: both sides would
    /// draw it.
    pub fn pass(&self) -> Pass {
        Pass {
            scale: self.mean() * self.loss_scale,
            recompute: Recompute::Layers,
            loss_chunk_tokens: self.loss_chunk_tokens,
            dropout: None,
            noise: None,
        }
    }

    /// What a model on the CPU gives for it. The model is computed so from then on.
    pub fn by(&self, model: &mut Model, computing: ComputeConfig) -> Computed {
        model.computing = computing;
        let mut sums = Gradients::default();
        let pass = self.pass();
        let (loss, _) = forward_backward(model, self.objective, self.batch, pass, &mut sums);
        Computed::new(loss.number() * self.mean(), sums)
    }
}

/// Compares loss and gradients of a batch as computed in two ways, the second of which is the
/// reference. Gradients of a layer are final when its turn ends, so no more is held than those of
/// the trainable parameters, twice, and one layer. Nothing is found where the loss is no number
/// either way: that is a fault of weights or data, and the first step says so. Nor is anything
/// where there is nothing to learn yet.
///
/// # Errors
/// What is too far off, or 0, in words.
pub fn check_gradients(
    model: &mut Model,
    objective: &dyn Objective,
    batch: &Batch,
    [ours, reference]: [ComputeConfig; 2],
    loss_chunk_tokens: usize,
) -> Result<Option<GradientCheck>, String> {
    let began = Instant::now();
    let own = model.computing;
    let checked = CheckedBatch { objective, batch, loss_chunk_tokens, loss_scale: 1.0 };
    let exact = [ours, reference].iter().all(|it| it.arithmetic == Arithmetic::F32);
    let computed = checked.by(model, ours);
    let wanted = checked.by(model, reference);
    let pairs = sizes_and_differences(&computed, &wanted, 1.0);
    let compared = ComparedPasses { loss: [computed.loss, wanted.loss], pairs, exact };
    drop(computed);
    // Only where it is asked for, since it costs a pass more.
    let in_32_bits = ComputeConfig { arithmetic: Arithmetic::F32, ..reference };
    let again = || {
        let again = (!exact).then(|| checked.by(model, in_32_bits))?;
        Some((again.loss, sizes_and_differences(&wanted, &again, 1.0)))
    };
    let found = compared.judged(batch, again);
    model.computing = own;
    let seconds = began.elapsed().as_secs_f64();
    found.map(|found| found.map(|found| GradientCheck { seconds, ..found }))
}

/// A gradient beside that of a reference.
pub(super) struct ComparedGradient {
    path: String,
    /// Root of the mean square of the reference.
    size: f64,
    /// The same of the difference.
    apart: f64,
}

/// All of them, or which one there is not.
pub(super) type ComparedGradients = Result<Vec<ComparedGradient>, String>;

/// Two ways beside each other.
pub(super) struct ComparedPasses {
    /// The mean loss, of which the second is the reference.
    pub loss: [f64; 2],
    pub pairs: ComparedGradients,
    /// Whether both computed in 32 bits.
    pub exact: bool,
}

impl ComparedPasses {
    /// What is to be said of it. `again` gives the loss of the reference in another way, and what
    /// its gradients differ by: what rounding takes. It is asked where something is off.
    ///
    /// # Errors
    /// What is too far off, or 0, in words.
    pub fn judged(
        self,
        batch: &Batch,
        again: impl FnOnce() -> Option<(f64, ComparedGradients)>,
    ) -> Result<Option<GradientCheck>, String> {
        let Self { loss: [loss, wanted], pairs, exact } = self;
        if !loss.is_finite() && !wanted.is_finite() {
            return Ok(None);
        }
        let kind = usize::from(!exact);
        let tolerance = TOLERANCE[kind];
        let relative = |x: f64| (x - wanted).abs() / wanted.abs().max(f64::MIN_POSITIVE);
        let nothing = |x: f64| x.abs() < NOTHING; // which no NaN is
        let is_rounding = |x: f64| nothing(x) || (!exact && x.abs() < NOTHING_ROUNDED);
        let no_loss = is_rounding(loss) && is_rounding(wanted);
        if no_loss && !exact {
            return Ok(None);
        }
        let most = pairs.as_ref().ok().and_then(|pairs| farthest(pairs));
        let is_near = no_loss || (loss - wanted).abs() <= LOSS_ROUNDING[kind];
        let is_off = !is_near && relative(loss) > tolerance;
        let again = match is_off || most.is_some_and(|off| off > tolerance) {
            true => again(),
            false => None,
        };
        let (of_loss, rounding) = match again {
            Some((loss, rounding)) => (relative(loss), rounding?),
            None => (0.0, Vec::new()),
        };
        let allowed = tolerance.max((ROUNDINGS * of_loss).min(OFF_MAX[kind]));
        if !is_near && !(relative(loss) <= allowed) {
            return Err(format!("the loss is {loss}, and {wanted} by tensor operations"));
        }
        let pairs = pairs?;
        let no_gradient = pairs.iter().all(|it| nothing(it.size) && nothing(it.apart));
        if no_loss && no_gradient && pairs.iter().any(|it| it.size > 0.0) {
            return Ok(None);
        }
        if pairs.iter().any(|it| !it.size.is_finite()) {
            return Ok(None); // nothing to compare with
        }
        let found = GradientCheck {
            tokens: batch.documents.iter().filter(|document| **document > 0).count(),
            tensors: pairs.len(),
            loss: [loss, wanted],
            tolerance,
            ..GradientCheck::default()
        };
        found.compared(&pairs, &rounding, OFF_MAX[kind]).map(Some)
    }
}

/// Each gradient of a reference beside ours, divided by what both were multiplied with.
pub(super) fn sizes_and_differences(
    ours: &Computed,
    reference: &Computed,
    scale: f64,
) -> ComparedGradients {
    let mut pairs = Vec::new();
    for (path, reference) in &reference.gradients {
        let Some(ours) = ours.gradients.get(path) else {
            return Err(format!("`{path}` has no gradient"));
        };
        let reference: Vec<f32> = reference.iter().cloned().flat_map(host).collect();
        let (mut at, mut apart) = (0, 0.0);
        for piece in ours {
            host_in_parts(piece, |part| {
                let beside = reference.get(at..).unwrap_or_default();
                let both = part.iter().zip(beside).map(|(a, b)| f64::from(*a) - f64::from(*b));
                apart += squares(both);
                at += part.len();
            });
        }
        if at != reference.len() {
            return Err(format!("the gradient of `{path}` has {at} numbers"));
        }
        let size = squares(reference.iter().map(|x| f64::from(*x)));
        #[expect(clippy::cast_precision_loss)] // tensors have far less than 2^53 numbers
        let root_mean = |sum: f64| (sum / at.max(1) as f64).sqrt() / scale;
        let (size, apart) = (root_mean(size), root_mean(apart));
        pairs.push(ComparedGradient { path: path.clone(), size, apart });
    }
    Ok(pairs)
}

fn squares(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|number| number * number).sum()
}

/// A gradient that is smaller is rounding.
fn noise(pairs: &[ComparedGradient]) -> f64 {
    NOISE * pairs.iter().fold(0.0_f64, |most, pair| most.max(pair.size))
}

/// How far that gradient is off which is off most, relative to its size.
fn farthest(pairs: &[ComparedGradient]) -> Option<f64> {
    let noise = noise(pairs);
    pairs.iter().map(|pair| pair.apart / pair.size.max(noise)).max_by(f64::total_cmp)
}

impl GradientCheck {
    /// With what rounding takes from each gradient of the reference, where that was asked for; up
    /// to `most`.
    fn compared(
        mut self,
        pairs: &[ComparedGradient],
        rounding: &[ComparedGradient],
        most: f64,
    ) -> Result<Self, String> {
        let (noise, tolerance) = (noise(pairs), self.tolerance);
        if !(noise > 0.0) {
            return Err("every gradient is 0".to_owned());
        }
        for (at, ComparedGradient { path, size, apart }) in pairs.iter().enumerate() {
            let size = size.max(noise);
            let off = apart / size;
            let by_rounding =
                rounding.get(at).map_or(0.0, |it| (ROUNDINGS * it.apart / size).min(most));
            let allowed = tolerance.max(by_rounding);
            if !(off <= allowed) {
                return Err(format!(
                    "the gradient of `{path}` is {off:.1e} off its size, and {allowed:.0e} is \
                     rounding"
                ));
            }
            if off >= self.difference {
                (self.difference, self.tolerance) = (off, allowed);
                self.tensor.clone_from(path);
            }
        }
        Ok(self)
    }
}

/// So many tokens of the first row of a batch, or all: from its begin on, or up to some of its
/// first targets where these come later.
pub fn first_tokens(batch: &Batch, wanted: usize) -> Batch {
    const TARGETS: usize = 32;
    let of_row = batch.targets.partition_point(|it| (it.index as usize) < batch.length);
    // Behind the target at a position is the token that it predicts.
    let end = |target: &Target| target.index as usize + 1;
    let some = batch.targets[..of_row].iter().take(TARGETS).next_back().map_or(0, end);
    let end = wanted.max(some).min(batch.length);
    batch.of_first_row(end.saturating_sub(wanted)..end)
}

/// Whole documents of the first row of a batch, as many as have so many tokens, and one at least.
/// Nothing else can be taken of a batch whose documents are pairs or have labels.
pub fn first_documents(batch: &Batch, wanted: usize) -> Batch {
    let row = &batch.documents[..batch.length];
    let mut end = 0;
    for document in row.chunk_by(|one, next| one == next).filter(|document| document[0] > 0) {
        if end > 0 && end + document.len() > wanted {
            break;
        }
        end += document.len();
    }
    batch.of_first_row(0..end)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use burn::tensor::Device;

    use super::*;
    use crate::config::Kernels;
    use crate::engine::parity::{small_batch, small_model};
    use crate::model::Matrix;
    use crate::objectives;
    use crate::weights::SpillFile;
    use crate::weights::formats::{CodedMatrix, Coding, Storage, WEIGHT_FORMATS};

    fn computing(kernels: Kernels, arithmetic: Arithmetic) -> ComputeConfig {
        ComputeConfig { kernels, arithmetic, ..ComputeConfig::default() }
    }

    fn check(ours: ComputeConfig, silent: bool) -> Result<GradientCheck, String> {
        let mut model = small_model(&Device::flex(), ours).unwrap();
        if silent {
            model.visit(&mut Still);
        }
        let reference = computing(Kernels::Portable, Arithmetic::F32);
        let objective = objectives::with("sft", &[]);
        let batch = small_batch();
        let found = check_gradients(&mut model, &*objective, &batch, [ours, reference], 32);
        found.map(|found| found.expect("the loss is a number"))
    }

    struct Still;
    impl crate::model::Visitor for Still {
        fn vector(&mut self, _: &str, _: &mut crate::model::Parameter<1>) {}
        fn matrix(&mut self, path: &str, parameter: &mut crate::model::Parameter<2>) {
            if path.contains("lora_") {
                parameter.value = parameter.value.zeros_like();
            }
        }
    }

    #[test]
    fn the_kernels_have_the_gradients_of_the_tensor_operations() {
        let found = check(computing(Kernels::Fast, Arithmetic::F32), false).unwrap();
        assert!(found.difference < 1e-4 && found.tensors > 4, "{found:?}");
        assert_eq!(found.tokens, 88);
        assert!((found.loss[0] - found.loss[1]).abs() < 1e-5);
        assert!(!found.tensor.is_empty());
    }

    /// Codes that are read wrongly so many times.
    #[derive(Debug)]
    struct MisreadCodes {
        codes: Arc<dyn CodedMatrix>,
        wrong: usize,
        reads: Arc<AtomicUsize>,
    }

    impl CodedMatrix for MisreadCodes {
        fn shape(&self) -> [usize; 2] {
            self.codes.shape()
        }
        fn read(&self, row: usize, first: usize, target: &mut [f32]) {
            self.codes.read(row, first, target);
            if self.reads.fetch_add(1, Ordering::SeqCst) < self.wrong {
                target.iter_mut().for_each(|number| *number *= 1.05);
            }
        }
        fn spilled(&self, _: &Arc<SpillFile>) -> crate::error::Result<Arc<dyn CodedMatrix>> {
            unreachable!("nothing is spilled here")
        }
    }

    /// What is found of a model in codes, by two kinds of kernels, where the first so many reads of
    /// a matrix are wrong; and how many reads there were.
    fn check_codes(
        code: Coding,
        kernels: [Kernels; 2],
        wrong: usize,
    ) -> (Result<GradientCheck, String>, usize) {
        let both = kernels.map(|kernels| computing(kernels, Arithmetic::F32));
        let mut model = small_model(&Device::flex(), both[0]).unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        model.linears(&mut |path, linear| {
            let codes = code(&host(linear.values()), linear.dims());
            linear.weight = Matrix::Coded(match path.ends_with("layers.1.mlp.down_proj") {
                true => Arc::new(MisreadCodes { codes, wrong, reads: reads.clone() }),
                false => codes,
            });
        });
        let objective = objectives::with("sft", &[]);
        let found = check_gradients(&mut model, &*objective, &small_batch(), both, 32);
        (found.map(|found| found.expect("the loss is a number")), reads.load(Ordering::SeqCst))
    }

    #[test]
    fn weights_in_codes_are_compared_and_a_kernel_that_reads_them_wrongly_is_caught() {
        let coded = WEIGHT_FORMATS.iter().filter_map(|format| match format.storage() {
            Storage::Coded(code) => Some((format.name(), code)),
            Storage::Tensor(_) | Storage::Numbers => None,
        });
        let coded: Vec<_> = coded.collect();
        assert!(coded.len() > 1, "int8 and nf4");
        for (name, code) in coded {
            let (found, _) = check_codes(code, [Kernels::Fast, Kernels::Portable], 0);
            let found = found.unwrap();
            assert!(found.difference < 1e-4 && found.tensors > 4, "{name}: {found:?}");
            // Half of them are made by the first kernels.
            let (_, reads) = check_codes(code, [Kernels::Fast, Kernels::Fast], 0);
            let (faulty, _) = check_codes(code, [Kernels::Fast, Kernels::Portable], reads / 2);
            assert!(reads > 0 && faulty.is_err(), "{name}: {faulty:?}");
        }
    }

    /// Rounding to 16 bits stands for a kernel that computes something else: 32 bits are promised.
    #[test]
    fn a_gradient_that_is_off_and_one_that_is_nothing_are_named() {
        let ours = computing(Kernels::Fast, Arithmetic::MixedBf16);
        let found = check(ours, false).unwrap();
        assert!(found.difference > 1e-3, "{found:?}");
        let mut model = small_model(&Device::flex(), ours).unwrap();
        let reference = computing(Kernels::Portable, Arithmetic::F32);
        let objective = objectives::with("sft", &[]);
        let run = |model: &mut Model, batch: &Batch| {
            check_gradients(model, &*objective, batch, [reference, reference], 32)
        };
        assert_eq!(run(&mut model, &small_batch()).unwrap().unwrap().difference, 0.0);
        let silent = check(computing(Kernels::Fast, Arithmetic::F32), true).unwrap_err();
        assert_eq!(silent, "every gradient is 0");
        let empty = Batch { targets: Vec::new(), ..small_batch() };
        assert!(run(&mut model, &empty).is_err());
    }

    #[test]
    fn a_gradient_may_be_off_by_some_times_what_rounding_takes_and_never_be_nothing() {
        let pair = |path: &str, size: f64, apart: f64| ComparedGradient {
            path: path.to_owned(),
            size,
            apart,
        };
        let start = GradientCheck {
            tokens: 1,
            tensors: 2,
            loss: [1.0, 1.0],
            tolerance: 5e-2,
            ..GradientCheck::default()
        };
        let small = |apart| [pair("a", 1.0, 0.01), pair("b", 0.1, apart)];
        let takes = |much| [pair("a", 1.0, 0.01), pair("b", 0.1, much)];
        let judge = |pairs, rounding: &[ComparedGradient]| {
            let pairs: [ComparedGradient; 2] = pairs;
            start.clone().compared(&pairs, rounding, OFF_MAX[1])
        };
        assert_eq!(
            judge(small(6e-3), &[]).unwrap_err(),
            "the gradient of `b` is 6.0e-2 off its size, and 5e-2 is rounding"
        );
        let found = judge(small(6e-3), &takes(3e-3)).unwrap();
        assert_eq!(found.tensor, "b");
        assert!((found.difference - 6e-2).abs() < 1e-9 && (found.tolerance - 9e-2).abs() < 1e-9);
        assert!(judge(small(6e-3), &takes(1e-3)).is_err());
        assert_eq!(
            judge(small(0.1), &takes(0.2)).unwrap_err(),
            "the gradient of `b` is 1.0e0 off its size, and 5e-1 is rounding"
        );
    }

    #[test]
    fn the_first_tokens_hold_targets() {
        let mut batch = small_batch();
        let short = first_tokens(&batch, 20);
        assert_eq!((short.rows, short.length), (1, 20));
        assert!(short.targets.len() >= 4, "{:?}", short.targets);
        for target in &short.targets {
            let whole = batch.targets.iter().find(|whole| whole.token == target.token);
            assert!(whole.is_some() && (target.index as usize) < 20);
        }
        let all = first_tokens(&batch, 500);
        assert_eq!((all.length, &all.tokens[..]), (batch.length, &batch.tokens[..batch.length]));
        // A long prompt before the first target.
        batch.targets.retain(|target| target.index >= 40);
        let late = first_tokens(&batch, 8);
        assert_eq!(late.tokens, batch.tokens[39..47]);
        assert_eq!(late.positions, batch.positions[39..47]);
        assert_eq!(late.targets[0].index, batch.targets[0].index - 39);
        batch.targets.clear();
        assert_eq!(first_tokens(&batch, 8).tokens, batch.tokens[..8]);
    }

    #[test]
    fn the_first_documents_are_whole() {
        let batch = small_batch();
        let ends: Vec<usize> = batch.documents[..batch.length]
            .chunk_by(|one, next| one == next)
            .scan(0, |end, document| {
                *end += document.len();
                Some(*end)
            })
            .collect();
        assert!(ends.len() > 1, "several documents are in a row");
        assert_eq!(first_documents(&batch, 1).length, ends[0]);
        assert_eq!(first_documents(&batch, ends[1] - 1).length, ends[0]);
        assert_eq!(first_documents(&batch, ends[1]).length, ends[1]);
        assert_eq!(first_documents(&batch, 500).length, *ends.last().unwrap());
    }
}
