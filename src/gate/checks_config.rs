//! `[checks]` of a policy: which of the checklist must hold, and how strictly.

use crate::document::{Document, Placed, Values};
use crate::error::Error;
use crate::evaluation::Suite;
use crate::scorers::ScorerKind;

/// One thing on the checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Signed by a trusted key, complete and unchanged.
    Signature,
    /// The lineage is there and tells of these files.
    Lineage,
    /// The base model is known by its bytes.
    ModelPinned,
    /// The training data is known by its bytes.
    DataPinned,
    /// It was made from a commit, without changes.
    SourceClean,
    /// So many others have made it again and got the same bytes.
    ReproducedBy,
    /// Answers fit their JSON Schemas.
    OutputSchema,
    /// Tokens are those of the base model, and give back the text.
    Tokenizer,
    /// Nothing that it is evaluated on was trained on.
    EvaluationApart,
}

impl Check {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Signature,
        Self::Lineage,
        Self::ModelPinned,
        Self::DataPinned,
        Self::SourceClean,
        Self::ReproducedBy,
        Self::OutputSchema,
        Self::Tokenizer,
        Self::EvaluationApart,
    ];

    /// As a policy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Lineage => "lineage",
            Self::ModelPinned => "model_pinned",
            Self::DataPinned => "data_pinned",
            Self::SourceClean => "source_clean",
            Self::ReproducedBy => "reproduced_by",
            Self::OutputSchema => "output_schema",
            Self::Tokenizer => "tokenizer",
            Self::EvaluationApart => "evaluation_apart",
        }
    }

    /// Whether it must hold where a policy does not say. Others need days for what they make again,
    /// so that is demanded only where a policy asks for it.
    fn is_usual(self) -> bool {
        self != Self::ReproducedBy
    }
}

/// Which checks must hold, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// Those that must hold, with the line in the policy if they are named there.
    on: Vec<(Check, Option<usize>)>,
    /// Inputs need someone who vouches for them; a lock alone does not do.
    pub require_approved: bool,
    /// How many others must have made it again and got the same bytes.
    pub reproduced_by: usize,
    /// The least share of answers that fit a JSON Schema.
    pub min_valid: f64,
    /// The tokenizer may be another than the base model's.
    pub allow_tokenizer_change: bool,
    /// How many words in a row are the same text.
    pub ngram: usize,
    /// A record was trained on if more than this share of its n-grams was.
    pub ngram_share: f64,
    /// The share of records that may have been.
    pub max_overlap: f64,
    /// Training data that is not on this machine is no obstacle.
    pub allow_missing_data: bool,
}

impl Default for Checks {
    fn default() -> Self {
        let usual = Check::ALL.into_iter().filter(|check| check.is_usual());
        Self {
            on: usual.map(|check| (check, None)).collect(),
            require_approved: false,
            reproduced_by: 0,
            min_valid: 0.99,
            allow_tokenizer_change: false,
            ngram: 13,
            ngram_share: 0.8,
            max_overlap: 0.0,
            allow_missing_data: false,
        }
    }
}

impl Checks {
    /// Whether a check must hold.
    pub fn has(&self, check: Check) -> bool {
        self.on.iter().any(|(on, _)| *on == check)
    }

    /// Where the policy names it.
    pub fn line(&self, check: Check) -> Option<usize> {
        self.on.iter().find(|(on, _)| *on == check).and_then(|(_, line)| *line)
    }
}

/// What the section means for a suite.
///
/// # Errors
/// When a key would change nothing.
pub(super) fn checks(document: &Document, suite: &Suite) -> Placed<Checks> {
    let values = &document.values;
    let mut on = Vec::new();
    for check in Check::ALL {
        let key = format!("checks.{}", check.name());
        let demanded = match check {
            Check::ReproducedBy => values.size(&key) > 0,
            _ => values.boolean(&key),
        };
        if demanded {
            let line = values.is_given(&key).then(|| document.line(values.place(&key)));
            on.push((check, line.flatten()));
        }
    }
    let checks = Checks {
        on,
        require_approved: values.boolean("checks.require_approved"),
        reproduced_by: values.size("checks.reproduced_by"),
        min_valid: values.number("checks.min_valid"),
        allow_tokenizer_change: values.boolean("checks.allow_tokenizer_change"),
        ngram: values.size("checks.ngram"),
        ngram_share: values.number("checks.ngram_share"),
        max_overlap: values.number("checks.max_overlap"),
        allow_missing_data: values.text("checks.missing_training_data") == "allow",
    };
    refuse_idle(values, &checks, suite)?;
    Ok(checks)
}

/// A key that has nothing to look at is a mistake.
fn refuse_idle(values: &Values, checks: &Checks, suite: &Suite) -> Placed<()> {
    let pinned = checks.has(Check::ModelPinned) || checks.has(Check::DataPinned);
    let approved = "checks.require_approved";
    if values.is_given(approved) && !pinned {
        let what = "`require_approved` means nothing without `model_pinned` or `data_pinned`";
        return Err((Error::config(what), values.place(approved)));
    }
    let schemas =
        suite.tasks.iter().any(|task| matches!(task.scorer.kind, ScorerKind::JsonSchema { .. }));
    let switch = "checks.output_schema";
    let on = values.is_given(switch) && checks.has(Check::OutputSchema);
    let asked = ["checks.min_valid", switch].into_iter().find(|key| match *key {
        key if key == switch => on,
        key => values.is_given(key),
    });
    match asked {
        Some(key) if !schemas => {
            let error = Error::config("the suite has no task of the kind `json_schema`")
                .hint("add one to the suite, or remove this line");
            Err((error, values.place(key)))
        }
        _ => Ok(()),
    }
}
