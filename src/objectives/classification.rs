//! Classification of whole texts, and regression: a head that scores labels at the last token.
//! Losses are those of transformers' `*ForSequenceClassification` by `problem_type`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::pairwise::{log_sigmoid, section, sigmoid};
use super::score_layer::{backward, scores};
use super::{Loss, LossSum, Objective, ObjectiveEntry, Records, Supervised};
use crate::config::{ProblemType, ScoreHead};
use crate::data::Batch;
use crate::data::classified::{TextLabel, arranged, count, labels};
use crate::document::Value;
use crate::document::key::{DefaultValue, Key, NameRule, Range, ValueKind};
use crate::error::{Error, Result, nearest};
use crate::model::Gradients;

/// What the hub, and pipelines of transformers, call what a head of labels does.
pub const TASK: &str = "text-classification";

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "classification",
    section: Some(section(
        "classification",
        &["classification"],
        "Texts with labels, or with numbers: a head that scores them in place of tokens.",
        KEYS,
    )),
    records: Records::Texts,
    build: |values| {
        Box::new(Classification {
            problem: values.choice("classification.problem_type", ProblemType::from_name),
            labels: values.texts("classification.labels"),
            weights: match values.get("classification.class_weights") {
                Some(Value::Numbers(weights)) => weights.clone(),
                _ => BTreeMap::new(),
            },
            calibrates: values.get("classification.calibrate").is_some()
                && values.boolean("classification.calibrate"),
        })
    },
};

const KEYS: &[Key] = &[
    Key::new(
        "classification.problem_type",
        ValueKind::Choice(ProblemType::NAMES),
        DefaultValue::Value("\"single_label_classification\""),
        "What labels are to each other. `single_label_classification`: a text has one of them \
         (cross-entropy). `multi_label_classification`: it has any number of them, a list (binary \
         cross-entropy of each). `regression`: the label is a number (squared error).",
    )
    .example("\"multi_label_classification\""),
    Key::new(
        "classification.labels",
        ValueKind::Texts,
        DefaultValue::Value("[]"),
        "The names of the labels, in the order of their numbers. Without them they are those that \
         the training data has. Names of a regression are those of its numbers.",
    )
    .example("[\"no\", \"yes\"]")
    .silent_default(),
    Key::new(
        "classification.class_weights",
        ValueKind::NumberOfEach(Range::above(0.0, 1e6), &NAMES_OF_LABELS),
        DefaultValue::Value("{}"),
        "How much texts with a label count; 1 where nothing is said. Among several labels of a \
         text it is how much having the label counts beside not having it (`pos_weight` of torch). \
         The loss is the mean over texts, so that weights whose mean over the data is 1 leave its \
         size as it is: as many texts as there are, by labels, by texts of the label.",
    )
    .example("{ refund = 2.5 }")
    .silent_default()
    .only_with(
        "classification.problem_type",
        &["single_label_classification", "multi_label_classification"],
    ),
    Key::new(
        "classification.calibrate",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "Fit a temperature on the validation data at the end of the run (Guo et al. 2017), by \
         which scores are divided before they become probabilities. The artifact states it with \
         the calibration error before and after; `classify`, `eval` and `gate` use it.",
    )
    .example("true")
    .silent_default()
    .only_with(
        "classification.problem_type",
        &["single_label_classification", "multi_label_classification"],
    ),
];

/// What stands in the table of weights.
const NAMES_OF_LABELS: NameRule = NameRule {
    names: "labels",
    check: |name| if name.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) },
};

#[derive(Debug)]
struct Classification {
    problem: ProblemType,
    labels: Vec<String>,
    /// Of some labels.
    weights: BTreeMap<String, f64>,
    calibrates: bool,
}

/// The loss of the scores of a text, its derivative by each, and what is reported; `weight` is that
/// of a label.
fn outcome(
    problem: ProblemType,
    scores: &[f64],
    label: &TextLabel,
    weight: impl Fn(usize) -> f64,
) -> (f64, Vec<f64>, f64) {
    #[expect(clippy::cast_precision_loss)] // labels are few
    let count = scores.len() as f64;
    match (problem, label) {
        (ProblemType::SingleLabel, TextLabel::One(label)) => {
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = scores.iter().map(|score| (score - most).exp()).sum::<f64>().ln() + most;
            let mut d: Vec<f64> = scores.iter().map(|score| (score - log_sum).exp()).collect();
            d[*label] -= 1.0;
            let weight = weight(*label);
            d.iter_mut().for_each(|slope| *slope *= weight);
            let best = scores.iter().position(|score| *score >= most);
            let loss = weight * (log_sum - scores[*label]);
            (loss, d, f64::from(u8::from(best == Some(*label))))
        }
        (ProblemType::MultiLabel, TextLabel::Several(has)) => {
            let (mut loss, mut d, mut right) = (0.0, Vec::new(), true);
            for (label, (&score, &has)) in scores.iter().zip(has).enumerate() {
                let weight = if has { weight(label) } else { 1.0 };
                loss -= weight * log_sigmoid(if has { score } else { -score });
                d.push(weight * (sigmoid(score) - if has { 1.0 } else { 0.0 }) / count);
                right &= has == (score > 0.0);
            }
            (loss / count, d, f64::from(u8::from(right)))
        }
        (ProblemType::Regression, TextLabel::Numbers(wanted)) => {
            let errors =
                scores.iter().zip(wanted).map(|(score, wanted)| score - f64::from(*wanted));
            let errors: Vec<f64> = errors.collect();
            let square = errors.iter().map(|error| error * error).sum::<f64>() / count;
            let absolute = errors.iter().map(|error| error.abs()).sum::<f64>() / count;
            (square, errors.iter().map(|error| 2.0 * error / count).collect(), absolute)
        }
        _ => unreachable!("labels are read as the problem has them"),
    }
}

impl Classification {
    /// How much a label counts, by its number.
    fn weight(&self, label: usize) -> f64 {
        self.labels.get(label).and_then(|name| self.weights.get(name)).copied().unwrap_or(1.0)
    }

    /// What is wrong with the names of weights.
    fn unknown_weights(&self) -> Vec<Error> {
        if self.labels.is_empty() && !self.weights.is_empty() {
            return vec![
                Error::config("`classification.class_weights` needs `classification.labels`")
                    .because("what it names is compared with them")
                    .hint("name all labels, in the order of their numbers"),
            ];
        }
        let unknown = self.weights.keys().filter(|name| !self.labels.contains(name));
        let problem = |name: &String| {
            let near = nearest(name, self.labels.iter().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            let what = format!("`classification.class_weights` names `{name}`, which is no label");
            Error::config(what).hint(format!(
                "{near}the labels are {}",
                self.labels.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
            ))
        };
        unknown.map(problem).collect()
    }

    /// Each text with its loss, and derivatives of all scores.
    fn outcomes(&self, batch: Supervised) -> (Loss, Vec<f64>) {
        let count = batch.model.description.outputs();
        let scores = scores(batch.model, batch.x, batch.targets);
        let labels = labels(batch.batch, self.problem, count);
        let mut all = Loss { sum: LossSum::Number(0.0), metrics: vec![0.0] };
        let mut derivatives = Vec::with_capacity(scores.len() * count);
        for (scores, label) in scores.iter().zip(labels) {
            let Some(label) = label else {
                derivatives.extend(scores.iter().map(|_| 0.0));
                continue;
            };
            let (loss, d, reported) =
                outcome(self.problem, scores, &label, |label| self.weight(label));
            derivatives.extend(d);
            all = all.plus(Loss { sum: LossSum::Number(loss), metrics: vec![reported] });
        }
        (all, derivatives)
    }
}

impl Objective for Classification {
    fn count(&self, batch: &Batch) -> u64 {
        count(batch)
    }

    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        Cow::Owned(arranged(batch))
    }

    fn loss(&self, batch: Supervised) -> Loss {
        self.outcomes(batch).0
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let (loss, derivatives) = self.outcomes(batch);
        (loss, backward(batch.model, batch.x, batch.targets, (derivatives, scale), sums))
    }

    fn metrics(&self) -> &'static [&'static str] {
        match self.problem {
            ProblemType::Regression => &["mean_absolute_error"],
            _ => &["accuracy"],
        }
    }

    fn calibrates(&self) -> bool {
        self.calibrates
    }

    fn check(&self, validates: bool) -> Result<()> {
        if self.calibrates && !validates {
            return Err(Error::config("`classification.calibrate` needs validation data")
                .because("a temperature that is fitted on training data trusts the model too much")
                .hint("add `[[data.validation]]` or `data.val_size`"));
        }
        if self.labels.len() == 1 && self.problem == ProblemType::SingleLabel {
            return Err(Error::config("`classification.labels` has a single label")
                .because("every text would have it")
                .hint("name all labels, or none to have those of the data"));
        }
        let twice = self.labels.iter().enumerate();
        let twice = twice.filter(|(at, name)| self.labels[..*at].contains(name));
        let problems = twice.map(|(_, name)| {
            Error::config(format!("`{name}` appears twice in `classification.labels`"))
        });
        let problems = problems.chain(self.unknown_weights());
        Error::all(problems.collect()).map_or(Ok(()), Err)
    }

    fn score_head(&self) -> Option<ScoreHead> {
        let (problem_type, labels) = (Some(self.problem), self.labels.clone());
        Some(ScoreHead { problem_type, labels, ..ScoreHead::single_score() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let scores = [0.3, -2.0, 1.7];
        let weight = |label: usize| [1.0, 2.5, 0.5][label];
        for (problem, label) in [
            (ProblemType::SingleLabel, TextLabel::One(1)),
            (ProblemType::SingleLabel, TextLabel::One(2)),
            (ProblemType::MultiLabel, TextLabel::Several(vec![true, false, true])),
            (ProblemType::Regression, TextLabel::Numbers(vec![0.5, -1.0, 3.0])),
        ] {
            let (_, d, _) = outcome(problem, &scores, &label, weight);
            for number in 0..scores.len() {
                let at = |by: f64| {
                    let mut moved = scores;
                    moved[number] += by;
                    outcome(problem, &moved, &label, weight).0
                };
                let wanted = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!(
                    (d[number] - wanted).abs() < 1e-6,
                    "{problem} {number}: {} {wanted}",
                    d[number]
                );
            }
        }
    }

    /// torch: `cross_entropy(scores, label, weight, reduction="sum")`, and
    /// `binary_cross_entropy_with_logits(scores, labels, pos_weight=weight)`.
    #[test]
    fn weights_are_those_of_torch() {
        let scores = [0.3, -2.0, 1.7];
        let weight = |label: usize| [1.0, 2.5, 0.5][label];
        let of = |problem, label| outcome(problem, &scores, &label, weight).0;
        let one = of(ProblemType::SingleLabel, TextLabel::One(1));
        assert!((one - 9.85014029).abs() < 1e-6, "{one}");
        let several = TextLabel::Several(vec![true, true, false]);
        let several = of(ProblemType::MultiLabel, several);
        assert!((several - 2.57982043).abs() < 1e-6, "{several}");
    }

    #[test]
    fn what_is_right_is_counted() {
        let right = |problem, label| outcome(problem, &[0.3, -2.0, 1.7], &label, |_| 1.0).2;
        assert_eq!(right(ProblemType::SingleLabel, TextLabel::One(2)), 1.0);
        assert_eq!(right(ProblemType::SingleLabel, TextLabel::One(0)), 0.0);
        let several = |has: [bool; 3]| TextLabel::Several(has.to_vec());
        assert_eq!(right(ProblemType::MultiLabel, several([true, false, true])), 1.0);
        assert_eq!(right(ProblemType::MultiLabel, several([true, true, true])), 0.0);
        let off = right(ProblemType::Regression, TextLabel::Numbers(vec![0.3, -1.0, 1.7]));
        assert!((off - 1.0 / 3.0).abs() < 1e-7);
    }
}
