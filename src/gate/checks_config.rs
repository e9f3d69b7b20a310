//! `[checks]` of a policy: which of the checklist must hold, and how strictly.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::error::Error;
use crate::evaluation::{Suite, TaskKind};
use crate::files::Placed;

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
    /// Answers fit their JSON Schemas.
    OutputSchema,
    /// Tokens are those of the base model, and give back the text.
    Tokenizer,
    /// Nothing that it is evaluated on was trained on.
    EvaluationApart,
}

impl Check {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Signature,
        Self::Lineage,
        Self::ModelPinned,
        Self::DataPinned,
        Self::SourceClean,
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
            Self::OutputSchema => "output_schema",
            Self::Tokenizer => "tokenizer",
            Self::EvaluationApart => "evaluation_apart",
        }
    }
}

/// Which checks must hold, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// Those that must hold, with the line in the policy if they are named there.
    on: Vec<(Check, Option<usize>)>,
    /// Inputs need someone who vouches for them; a lock alone does not do.
    pub require_approved: bool,
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
        Self {
            on: Check::ALL.map(|check| (check, None)).into(),
            require_approved: false,
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

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entries {
    signature: Option<Spanned<bool>>,
    lineage: Option<Spanned<bool>>,
    model_pinned: Option<Spanned<bool>>,
    data_pinned: Option<Spanned<bool>>,
    require_approved: Option<Spanned<bool>>,
    source_clean: Option<Spanned<bool>>,
    output_schema: Option<Spanned<bool>>,
    min_valid: Option<Spanned<f64>>,
    tokenizer: Option<Spanned<bool>>,
    allow_tokenizer_change: Option<Spanned<bool>>,
    evaluation_apart: Option<Spanned<bool>>,
    ngram: Option<Spanned<usize>>,
    ngram_share: Option<Spanned<f64>>,
    max_overlap: Option<Spanned<f64>>,
    missing_training_data: Option<Spanned<String>>,
}

impl Entries {
    /// What the section means for a suite; `line` tells the line of a place.
    ///
    /// # Errors
    /// When a key would change nothing.
    pub fn understand(
        self,
        suite: &Suite,
        line: &dyn Fn(&Range<usize>) -> usize,
    ) -> Placed<Checks> {
        let mut checks = Checks { on: Vec::new(), ..Checks::default() };
        for check in Check::ALL {
            let written = self.switch(check);
            if written.is_none_or(|on| *on.get_ref()) {
                checks.on.push((check, written.map(|on| line(&on.span()))));
            }
        }
        self.refuse_idle(&checks, suite)?;
        let share = |value: &Option<Spanned<f64>>, name: &str, usual: f64, top: bool| match value {
            None => Ok(usual),
            Some(value) => {
                let number = *value.get_ref();
                match number >= 0.0 && (number < 1.0 || top && number <= 1.0) {
                    true => Ok(number),
                    false => {
                        let end = if top { "to 1" } else { "to below 1: at 1 it never matters" };
                        let what = format!("`{name}` must be from 0 {end}");
                        Err((Error::new(what), value.span()))
                    }
                }
            }
        };
        checks.min_valid = share(&self.min_valid, "min_valid", checks.min_valid, true)?;
        if let Some(least) = self.min_valid.as_ref().filter(|least| *least.get_ref() == 0.0) {
            return Err((Error::new("`min_valid = 0` can never matter"), least.span()));
        }
        checks.ngram_share = share(&self.ngram_share, "ngram_share", checks.ngram_share, false)?;
        checks.max_overlap = share(&self.max_overlap, "max_overlap", checks.max_overlap, false)?;
        if let Some(words) = self.ngram {
            if !(4..=100).contains(words.get_ref()) {
                let error = Error::new("`ngram` must be from 4 to 100 words")
                    .hint("shorter ones are found in any text, longer ones in none");
                return Err((error, words.span()));
            }
            checks.ngram = words.into_inner();
        }
        checks.require_approved = self.require_approved.is_some_and(Spanned::into_inner);
        checks.allow_tokenizer_change =
            self.allow_tokenizer_change.is_some_and(Spanned::into_inner);
        checks.allow_missing_data = match &self.missing_training_data {
            None => false,
            Some(word) => match word.get_ref().as_str() {
                "undecided" => false,
                "allow" => true,
                other => {
                    let what = "`missing_training_data` is `undecided` or `allow`";
                    return Err((Error::new(format!("{what}, not `{other}`")), word.span()));
                }
            },
        };
        Ok(checks)
    }

    fn switch(&self, check: Check) -> Option<&Spanned<bool>> {
        match check {
            Check::Signature => &self.signature,
            Check::Lineage => &self.lineage,
            Check::ModelPinned => &self.model_pinned,
            Check::DataPinned => &self.data_pinned,
            Check::SourceClean => &self.source_clean,
            Check::OutputSchema => &self.output_schema,
            Check::Tokenizer => &self.tokenizer,
            Check::EvaluationApart => &self.evaluation_apart,
        }
        .as_ref()
    }

    /// A key of a check that is switched off, or has nothing to look at, is a mistake.
    fn refuse_idle(&self, checks: &Checks, suite: &Suite) -> Placed<()> {
        let contamination = (checks.has(Check::EvaluationApart), "evaluation_apart");
        let pinned = checks.has(Check::ModelPinned) || checks.has(Check::DataPinned);
        let flag = |it: &Option<Spanned<bool>>| it.as_ref().map(Spanned::span);
        let number = |it: &Option<Spanned<f64>>| it.as_ref().map(Spanned::span);
        let uses = [
            (
                "require_approved",
                flag(&self.require_approved),
                (pinned, "model_pinned` or `data_pinned"),
            ),
            (
                "min_valid",
                number(&self.min_valid),
                (checks.has(Check::OutputSchema), "output_schema"),
            ),
            (
                "allow_tokenizer_change",
                flag(&self.allow_tokenizer_change),
                (checks.has(Check::Tokenizer), "tokenizer"),
            ),
            ("ngram", self.ngram.as_ref().map(Spanned::span), contamination),
            ("ngram_share", number(&self.ngram_share), contamination),
            ("max_overlap", number(&self.max_overlap), contamination),
            (
                "missing_training_data",
                self.missing_training_data.as_ref().map(Spanned::span),
                contamination,
            ),
        ];
        for (key, span, (used, switch)) in uses {
            if let (Some(span), false) = (span, used) {
                let what = format!("`{key}` means nothing without `{switch}`");
                return Err((Error::new(what), span));
            }
        }
        let schemas =
            suite.tasks.iter().any(|task| matches!(task.kind, TaskKind::JsonSchema { .. }));
        let asked = number(&self.min_valid)
            .or_else(|| flag(&self.output_schema).filter(|_| checks.has(Check::OutputSchema)));
        match asked {
            Some(span) if !schemas => {
                let error = Error::new("the suite has no task of the kind `json_schema`")
                    .hint("add one to the suite, or remove this line");
                Err((error, span))
            }
            _ => Ok(()),
        }
    }
}
