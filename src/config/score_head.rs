//! A head that scores labels, as the models have it that transformers calls
//! `*ForSequenceClassification`: a linear layer `score` without a bias on the last token of a text,
//! in the place of the output projection.

use crate::document::choices;

choices! {
    #[derive(serde::Serialize, serde::Deserialize)]
    /// What labels are to each other, by the names of transformers' `problem_type`.
    ProblemType {
        /// A text has one of them.
        #[serde(rename = "single_label_classification")]
        SingleLabel = "single_label_classification",
        /// It has any number of them.
        #[serde(rename = "multi_label_classification")]
        MultiLabel = "multi_label_classification",
        /// Each is a number.
        #[serde(rename = "regression")]
        Regression = "regression",
    }
}

/// What a model scores in the place of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreHead {
    /// What its labels are to each other; `None` for a reward, which is compared with others.
    pub problem_type: Option<ProblemType>,
    /// The labels by their numbers. None where they are those that the data has.
    pub labels: Vec<String>,
    /// What scores are divided by before they become probabilities; 1 where nothing is known of it.
    pub temperature: f64,
}

impl ScoreHead {
    /// The only score of a text is how good it is.
    pub fn single_score() -> Self {
        Self { problem_type: None, labels: vec![Self::generic(0)], temperature: 1.0 }
    }

    /// What transformers calls a label of which it knows the number alone.
    pub fn generic(number: usize) -> String {
        format!("LABEL_{number}")
    }

    /// The number of a label.
    pub fn number_of(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label == name)
    }
}
