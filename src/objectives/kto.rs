//! KTO (Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization"): single
//! answers that are desirable or not, each valued by how much likelier it is than by the base
//! model, seen from a point of reference. Names and formulas are those of TRL's `KTOTrainer`.
//!
//! The point of reference is how much likelier than by the base model answers to other prompts are
//! (TRL's `kl`): that of each answer after the prompt of the next one. TRL takes the answers of a
//! micro-batch; here they are those of a step, so that splitting it changes no update.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;

use super::pairwise::{count, log_sigmoid, section, sigmoid};
use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Records, Scales, Supervised, next_token_backward,
    next_token_scores,
};
use crate::data::{Batch, Target};
use crate::document::choices;
use crate::document::key::{self, DefaultValue, Key, ValueKind};
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "kto",
    section: Some(section(
        "kto",
        &["kto"],
        "Kahneman-Tversky optimisation of answers with a label, against the base model.",
        KEYS,
    )),
    records: Records::Labels,
    build: |values| {
        Box::new(Kto {
            beta: values.number("kto.beta"),
            loss: values.choice("kto.loss_type", KtoLoss::from_name),
            weights: ["kto.undesirable_weight", "kto.desirable_weight"]
                .map(|key| values.number(key)),
            kl: 0.0,
        })
    },
};

choices! {
    /// What rewards are seen from.
    KtoLoss {
        /// How much likelier answers to other prompts are.
        Kto = "kto",
        /// Nothing: the base model.
        ApoZeroUnpaired = "apo_zero_unpaired",
    }
}

const KEYS: &[Key] = &[
    Key::new(
        "kto.beta",
        ValueKind::Number(key::Range::above(0.0, 100.0)),
        DefaultValue::Value("0.1"),
        "How much the model is held to the base model: rewards are this times the difference of \
         log-probabilities.",
    )
    .example("0.3")
    .names(&[("axolotl", "kto_beta")]),
    Key::new(
        "kto.loss_type",
        ValueKind::Choice(KtoLoss::NAMES),
        DefaultValue::Value("\"kto\""),
        "What rewards are seen from. `kto`: how much likelier than by the base model answers to \
         other prompts of the step are. `apo_zero_unpaired`: zero (D'Oosterlinck et al. 2024), \
         which takes two forward passes less.",
    )
    .example("\"apo_zero_unpaired\""),
    Key::new(
        "kto.desirable_weight",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("1"),
        "How much a desirable answer counts; raise it where there are few of them.",
    )
    .example("1.5")
    .names(&[("axolotl", "kto_desirable_weight")]),
    Key::new(
        "kto.undesirable_weight",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("1"),
        "How much an undesirable answer counts.",
    )
    .example("1.5")
    .names(&[("axolotl", "kto_undesirable_weight")]),
];

#[derive(Debug, Clone)]
struct Kto {
    beta: f64,
    loss: KtoLoss,
    /// Of undesirable and of desirable answers.
    weights: [f64; 2],
    /// What rewards are seen from, in nats.
    kl: f64,
}

/// The targets of an answer.
#[derive(Debug, Clone, PartialEq)]
struct LabelledTargets {
    targets: Range<usize>,
    desirable: bool,
}

/// Sums over answers, of those with one label each but for the last two.
const METRICS: [&str; 6] =
    ["rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "chosen", "kl"];

impl Kto {
    /// The loss of an answer that is so much likelier than by the base model, and its derivative.
    fn value(&self, ratio: f64, desirable: bool) -> (f64, f64) {
        let sign = if desirable { 1.0 } else { -1.0 };
        let gain = sign * self.beta * (ratio - self.kl);
        let weight = self.weights[usize::from(desirable)];
        // σ' = σ(z)·σ(−z), and 1 − σ(z) = σ(−z).
        let slope = (log_sigmoid(gain) + log_sigmoid(-gain)).exp();
        (weight * sigmoid(-gain), -weight * sign * self.beta * slope)
    }

    /// Every answer with its loss, what is reported, and the derivative by its log-probability.
    fn outcomes(&self, batch: Supervised) -> Vec<(Range<usize>, Loss, f64)> {
        let scores = next_token_scores(batch.model, batch.x, batch.targets);
        let outcome = |LabelledTargets { targets, desirable }: LabelledTargets| {
            let log_prob: f64 = scores[targets.clone()].iter().map(|(loss, _)| -loss).sum();
            let reference = batch.reference.map_or(0.0, |all| all[targets.clone()].iter().sum());
            let ratio = log_prob - reference;
            let (loss, slope) = self.value(ratio, desirable);
            let of = |number: f64| if desirable { [number, 0.0] } else { [0.0, number] };
            let ([chosen, rejected], [own, other]) = (of(self.beta * ratio), of(log_prob));
            let is = if desirable { 1.0 } else { 0.0 };
            let metrics = vec![chosen, rejected, own, other, is, self.kl];
            (targets, Loss { sum: LossSum::Number(loss), metrics }, slope)
        };
        answers_of(batch.batch).into_iter().map(outcome).collect()
    }
}

fn nothing() -> Loss {
    Loss { sum: LossSum::Number(0.0), metrics: vec![0.0; METRICS.len()] }
}

impl Objective for Kto {
    fn count(&self, batch: &Batch) -> u64 {
        count(batch)
    }

    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        Cow::Owned(arrange(batch))
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn loss(&self, batch: Supervised) -> Loss {
        let outcomes = self.outcomes(batch).into_iter();
        outcomes.fold(nothing(), |sums, (_, loss, _)| sums.plus(loss))
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let Supervised { model, x, targets, .. } = batch;
        let mut scales = vec![0.0; targets.pairs.len()];
        let mut loss = nothing();
        for (of, one, slope) in self.outcomes(batch) {
            #[expect(clippy::cast_possible_truncation)] // gradients are f32
            scales[of].fill((-slope * scale) as f32); // a token's loss is the negative
            loss = loss.plus(one);
        }
        let (_, dx) = next_token_backward(model, x, targets, Scales::Each(&scales), sums);
        (loss, dx)
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn report(&self, means: &[f64]) -> BTreeMap<String, f64> {
        let &[chosen, rejected, own, other, share, kl] = means else { return BTreeMap::new() };
        let mut report = BTreeMap::from([("kl".to_owned(), kl)]);
        for (name, sum, share) in [
            ("rewards/chosen", chosen, share),
            ("rewards/rejected", rejected, 1.0 - share),
            ("logps/chosen", own, share),
            ("logps/rejected", other, 1.0 - share),
        ] {
            if share > 0.0 {
                report.insert(name.to_owned(), sum / share);
            }
        }
        if let [Some(chosen), Some(rejected)] =
            ["rewards/chosen", "rewards/rejected"].map(|name| report.get(name))
        {
            report.insert("rewards/margins".to_owned(), chosen - rejected);
        }
        report
    }

    fn beforehand(&self, batches: &[Batch]) -> Vec<Batch> {
        match self.loss {
            KtoLoss::Kto => mismatched(batches),
            KtoLoss::ApoZeroUnpaired => Vec::new(),
        }
    }

    #[expect(clippy::cast_precision_loss)] // counts stay far below 2^53
    fn knowing(&self, gain: f64, measured: &[Batch]) -> Option<Box<dyn Objective>> {
        let answers: u64 = measured.iter().map(count).sum();
        let kl = (gain / answers.max(1) as f64).max(0.0);
        Some(Box::new(Self { kl, ..self.clone() }))
    }
}

/// Documents of a batch, each with its place and its targets.
fn documents(batch: &Batch) -> Vec<(Range<usize>, &[Target])> {
    let (mut all, mut place) = (Vec::new(), 0);
    let mut targets = batch.targets.as_slice();
    for row in batch.documents.chunks(batch.length.max(1)) {
        for document in row.chunk_by(|one, next| one == next) {
            let range = place..place + document.len();
            place = range.end;
            let count = targets.partition_point(|target| (target.index as usize) < range.end);
            let (inside, after) = targets.split_at(count);
            targets = after;
            if document[0] > 0 {
                all.push((range, inside));
            }
        }
    }
    all
}

/// What follows an answer, which says that it is undesirable, becomes a document of its own.
fn arrange(batch: &Batch) -> Batch {
    let mut arranged = batch.clone();
    let (mut row, mut number) = (0, 0);
    for (document, inside) in documents(batch) {
        if document.start / batch.length.max(1) != row {
            (row, number) = (document.start / batch.length.max(1), 0);
        }
        let end = document.end;
        let middle = inside.last().map_or(end, |last| (last.index as usize + 2).min(end));
        for part in [document.start..middle, middle..end] {
            if part.is_empty() {
                continue;
            }
            number += 1;
            arranged.documents[part.clone()].fill(number);
            let positions = arranged.positions[part].iter_mut();
            positions.zip(0..).for_each(|(position, number)| *position = number);
        }
    }
    arranged
}

/// The answers of an arranged batch: one that a document without targets follows is undesirable.
fn answers_of(batch: &Batch) -> Vec<LabelledTargets> {
    let all = documents(batch);
    let row = |document: &Range<usize>| document.start / batch.length.max(1);
    let mut begin = 0;
    let mut answers = Vec::new();
    for (number, (document, inside)) in all.iter().enumerate() {
        let targets = begin..begin + inside.len();
        begin = targets.end;
        let follows = |(next, of_next): &(Range<usize>, &[Target])| {
            of_next.is_empty() && row(next) == row(document)
        };
        if !inside.is_empty() {
            let desirable = !all.get(number + 1).is_some_and(follows);
            answers.push(LabelledTargets { targets, desirable });
        }
    }
    answers
}

/// Each prompt with the answer before its own, of all batches, in rows of their own: no longer than
/// the rows that there are.
fn mismatched(batches: &[Batch]) -> Vec<Batch> {
    let parts = |batch: &Batch| -> Vec<(Vec<u32>, Vec<u32>)> {
        let with_targets = documents(batch).into_iter().filter_map(|(document, inside)| {
            let (first, last) = (inside.first()?.index as usize, inside.last()?.index as usize);
            let prompt = batch.tokens[document.start..=first].to_vec();
            Some((prompt, batch.tokens[first + 1..=last + 1].to_vec()))
        });
        with_targets.collect()
    };
    let of_each: Vec<_> = batches.iter().map(parts).collect();
    let last = of_each.iter().flatten().last().map(|(_, answer)| answer);
    let mut before = last.cloned().unwrap_or_default();
    let mut made = Vec::with_capacity(batches.len());
    for (batch, parts) in batches.iter().zip(of_each) {
        let mut rows = Vec::with_capacity(parts.len());
        for (prompt, answer) in parts {
            let room = batch.length.saturating_sub(prompt.len()).max(1);
            let answer = std::mem::replace(&mut before, answer);
            rows.push((prompt, answer.into_iter().take(room).collect::<Vec<_>>()));
        }
        made.push(in_rows(&rows));
    }
    made
}

/// A row for each prompt with an answer, whose tokens are the targets.
fn in_rows(rows: &[(Vec<u32>, Vec<u32>)]) -> Batch {
    let length = rows.iter().map(|(prompt, answer)| prompt.len() + answer.len()).max().unwrap_or(0);
    let mut batch = Batch { rows: rows.len(), length, ..Batch::default() };
    for (row, (prompt, answer)) in rows.iter().enumerate() {
        let index = |place: usize| {
            u32::try_from(row * length + place).expect("a batch has less than 2^32 tokens")
        };
        let first = prompt.len() - 1;
        let targets = answer.iter().enumerate();
        let target =
            |(number, token): (usize, &u32)| Target { index: index(first + number), token: *token };
        batch.targets.extend(targets.map(target));
        let used = prompt.len() + answer.len();
        batch.tokens.extend(prompt.iter().chain(answer));
        batch.documents.resize(row * length + used, 1);
        batch.positions.extend((0..).take(used));
        for list in [&mut batch.tokens, &mut batch.documents, &mut batch.positions] {
            list.resize((row + 1) * length, 0);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kto(loss: KtoLoss, kl: f64) -> Kto {
        Kto { beta: 0.4, loss, weights: [0.7, 1.3], kl }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let kto = kto(KtoLoss::Kto, 0.6);
        for desirable in [true, false] {
            for ratio in [-60.0, -2.0, 0.0, 0.6, 3.0, 60.0] {
                let step = 1e-6;
                let at = |ratio| kto.value(ratio, desirable).0;
                let wanted = (at(ratio + step) - at(ratio - step)) / (2.0 * step);
                let (_, ours) = kto.value(ratio, desirable);
                assert!((ours - wanted).abs() < 1e-6, "{desirable} {ratio}: {ours} {wanted}");
            }
        }
    }

    /// A prompt of two tokens, an answer of two, undesirable; a prompt of one, an answer of three.
    fn batch() -> Batch {
        let targets = [(1, 3), (2, 4), (5, 7), (6, 8), (7, 9)];
        Batch {
            rows: 1,
            length: 10,
            tokens: vec![1, 2, 3, 4, 4, 6, 7, 8, 9, 0],
            positions: vec![0, 1, 2, 3, 4, 0, 1, 2, 3, 0],
            documents: vec![1, 1, 1, 1, 1, 2, 2, 2, 2, 0],
            targets: targets.map(|(index, token)| Target { index, token }).to_vec(),
            ..Batch::default()
        }
    }

    #[test]
    fn labels_are_found_again() {
        let arranged = arrange(&batch());
        assert_eq!(arranged.documents, [1, 1, 1, 1, 2, 3, 3, 3, 3, 0]);
        assert_eq!(arranged.positions, [0, 1, 2, 3, 0, 0, 1, 2, 3, 0]);
        let found = |targets, desirable| LabelledTargets { targets, desirable };
        assert_eq!(answers_of(&arranged), [found(0..2, false), found(2..5, true)]);
        assert_eq!(kto(KtoLoss::Kto, 0.0).count(&batch()), 2);
    }

    #[test]
    fn every_prompt_gets_the_answer_before_its_own() {
        let both = [batch(), batch()];
        let made = mismatched(&both);
        assert_eq!(made.len(), 2);
        for one in &made {
            assert_eq!((one.rows, one.length), (2, 5));
            assert_eq!(one.tokens, [1, 2, 7, 8, 9, 6, 3, 4, 0, 0]);
            assert_eq!(one.documents, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
            let targets: Vec<_> = one.targets.iter().map(|it| (it.index, it.token)).collect();
            assert_eq!(targets, [(1, 7), (2, 8), (3, 9), (5, 3), (6, 4)]);
        }
        let known = kto(KtoLoss::Kto, 0.0).knowing(6.0, &made).unwrap();
        assert!(format!("{known:?}").contains("kl: 1.5"), "{known:?}");
        assert!(kto(KtoLoss::ApoZeroUnpaired, 0.0).beforehand(&both).is_empty());
        let less = kto(KtoLoss::Kto, 0.0).knowing(-6.0, &made).unwrap();
        assert!(format!("{less:?}").contains("kl: 0.0"), "{less:?}");
    }

    /// Means of those with one label are taken over those alone.
    #[test]
    fn rewards_are_reported_by_label() {
        let report = kto(KtoLoss::Kto, 0.0).report(&[0.5, -1.5, -2.0, -6.0, 0.25, 0.1]);
        assert_eq!(report["rewards/chosen"], 2.0);
        assert_eq!(report["rewards/rejected"], -2.0);
        assert_eq!((report["rewards/margins"], report["kl"]), (4.0, 0.1));
        let report = kto(KtoLoss::Kto, 0.0).report(&[0.5, 0.0, -2.0, 0.0, 1.0, 0.1]);
        assert!(
            !report.contains_key("rewards/rejected") && !report.contains_key("rewards/margins")
        );
    }
}
