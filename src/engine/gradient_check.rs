//! The real model on real data, before the first step: the loss and every gradient by the kernels
//! that train, beside those of the tensor operations that they stand for.
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
use crate::model::{Gradients, Model};
use crate::objectives::Objective;
use crate::ops::host;

/// How far a gradient may be off, relative to its size (2-norms): in 32 bits, and where both sides
/// round factors to 16, but after other sums.
const TOLERANCE: [f64; 2] = [1e-3, 5e-2];
/// Where factors are rounded, a gradient may also be off by so many times what rounding takes from
/// that of the reference: the small one of a difference of large sums is mostly rounding.
const ROUNDINGS: f64 = 3.0;
/// A gradient that is off by more is wrong, whatever rounding may do.
const OFF_MAX: f64 = 0.5;
/// A gradient that is smaller than this share of the largest, number for number, is rounding: that
/// of a bias of keys, for one, is 0 but for it.
const NOISE: f64 = 1e-3;
/// A loss below this, whose gradients are below it too, is rounding: of a student that is its
/// teacher, for one.
const NOTHING: f64 = 1e-6;

/// What was compared, and how far apart it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Seconds that it took.
    pub seconds: f64,
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
    let count = objective.count(batch).max(1);
    #[expect(clippy::cast_precision_loss)] // counts stay far below 2^53
    let scale = 1.0 / count as f64;
    let mut run = |computing| {
        model.computing = computing;
        let (dropout, noise) = (None, None);
        let recompute = Recompute::Layers;
        let pass = Pass { scale, recompute, loss_chunk_tokens, dropout, noise };
        let mut sums = Gradients::default();
        let (loss, _) = forward_backward(model, objective, batch, pass, &mut sums);
        (loss.number() * scale, sums.into_sums())
    };
    let (loss, gradients) = run(ours);
    let (wanted, of_reference) = run(reference);
    let exact = [ours, reference].iter().all(|it| it.arithmetic == Arithmetic::F32);
    let tolerance = TOLERANCE[usize::from(!exact)];
    let pairs = sizes_and_differences(&gradients, &of_reference);
    drop(gradients);
    // Only where it is asked for, since it costs a pass more.
    let in_32_bits = ComputeConfig { arithmetic: Arithmetic::F32, ..reference };
    let rounding = match &pairs {
        Ok(pairs) if !exact && farthest(pairs).is_some_and(|off| off > tolerance) => {
            sizes_and_differences(&of_reference, &run(in_32_bits).1)
        }
        _ => Ok(Vec::new()),
    };
    model.computing = own;
    if !loss.is_finite() && !wanted.is_finite() {
        return Ok(None);
    }
    let nothing = |x: f64| x.abs() < NOTHING; // which no NaN is
    let no_loss = nothing(loss) && nothing(wanted);
    let apart = (loss - wanted).abs() / wanted.abs().max(f64::MIN_POSITIVE);
    if !no_loss && !(apart <= tolerance) {
        return Err(format!("the loss is {loss}, and {wanted} by tensor operations"));
    }
    let pairs = pairs?;
    let no_gradient = pairs.iter().all(|it| nothing(it.size) && nothing(it.apart));
    if no_loss && no_gradient && pairs.iter().any(|it| it.size > 0.0) {
        return Ok(None);
    }
    let found = GradientCheck {
        tokens: batch.documents.iter().filter(|document| **document > 0).count(),
        tensors: pairs.len(),
        loss: [loss, wanted],
        difference: 0.0,
        tensor: String::new(),
        tolerance,
        seconds: 0.0,
    };
    let found = found.compared(&pairs, &rounding?)?;
    Ok(Some(GradientCheck { seconds: began.elapsed().as_secs_f64(), ..found }))
}

/// A gradient beside that of a reference.
struct ComparedGradient {
    path: String,
    /// Root of the mean square of the reference.
    size: f64,
    /// The same of the difference.
    apart: f64,
}

/// Each gradient of a reference beside ours.
fn sizes_and_differences(
    gradients: &BTreeMap<String, Tensor<1>>,
    of_reference: &BTreeMap<String, Tensor<1>>,
) -> Result<Vec<ComparedGradient>, String> {
    let size = |numbers: &[f32]| root_mean_square(numbers.iter().map(|x| f64::from(*x)));
    let mut pairs = Vec::new();
    for (path, reference) in of_reference {
        let reference = host(reference.clone());
        let Some(ours) = gradients.get(path) else {
            return Err(format!("`{path}` has no gradient"));
        };
        let ours = host(ours.clone());
        let both = ours.iter().zip(&reference);
        let apart = root_mean_square(both.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        pairs.push(ComparedGradient { path: path.clone(), size: size(&reference), apart });
    }
    Ok(pairs)
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
    /// With what rounding takes from each gradient of the reference, where that was asked for.
    fn compared(
        mut self,
        pairs: &[ComparedGradient],
        rounding: &[ComparedGradient],
    ) -> Result<Self, String> {
        let (noise, tolerance) = (noise(pairs), self.tolerance);
        if !(noise > 0.0) {
            return Err("every gradient is 0".to_owned());
        }
        for (at, ComparedGradient { path, size, apart }) in pairs.iter().enumerate() {
            let size = size.max(noise);
            let off = apart / size;
            let by_rounding =
                rounding.get(at).map_or(0.0, |it| (ROUNDINGS * it.apart / size).min(OFF_MAX));
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

fn root_mean_square(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for number in numbers {
        sum += number * number;
        count += 1;
    }
    (sum / f64::from(count.max(1))).sqrt()
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
            difference: 0.0,
            tensor: String::new(),
            tolerance: 5e-2,
            seconds: 0.0,
        };
        let small = |apart| [pair("a", 1.0, 0.01), pair("b", 0.1, apart)];
        let takes = |much| [pair("a", 1.0, 0.01), pair("b", 0.1, much)];
        let judge = |pairs, rounding: &[ComparedGradient]| {
            let pairs: [ComparedGradient; 2] = pairs;
            start.clone().compared(&pairs, rounding)
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
