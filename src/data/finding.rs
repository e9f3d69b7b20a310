//! What a careful reader would mark in one record, found while an example is made of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use super::codec::Codec;
use super::example::{Example, RecordOutcome};
use super::formats::{Content, Conversation, REASONING};
use super::sketch::Sketch;
use super::texts::{Place, each_text};
use crate::error::{Context, Result};

/// What is odd about a record, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// It cannot be used.
    BadRecord,
    /// No token of it is a target.
    NoTargets,
    /// It is in the validation data, too.
    InValidation,
    /// It is almost the same as a record of the validation data.
    NearDuplicate,
    /// A turn of the assistant says nothing, and that is what is trained.
    EmptyAnswer,
    /// A turn of the assistant has no end among its targets.
    MissingEnd,
    /// Target tokens lie beyond `data.max_seq_len`.
    TargetsCut,
    /// A text holds what the tokenizer reads as a special token.
    ControlToken,
    /// An equal record stands before it.
    Duplicate,
}

/// Something about one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// In words.
    pub reason: String,
    /// How often: turns, or tokens where tokens are lost.
    pub count: u64,
}

impl Finding {
    /// Something that is there once.
    pub fn new(kind: FindingKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), count: 1 }
    }
}

/// What was found in a record, and what it is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What was found.
    pub findings: Vec<Finding>,
    /// Of its texts; empty where the record cannot be used.
    pub sketch: Sketch,
}

/// What is known of an example before it is cut to a row.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Its target tokens.
    pub targets: usize,
    /// Turns of the assistant that have no end among their targets.
    pub open_turns: usize,
    /// Turns of the assistant that were found in the text.
    pub turns: usize,
}

impl Drawn {
    /// Counts the targets of an example.
    pub fn count(&mut self, example: &Example) {
        self.targets = example.target_count();
    }
}

/// Looks for what is odd in records.
#[derive(Debug)]
pub struct Examiner {
    /// Finds special tokens in texts.
    control: Option<Regex>,
    /// What the tokenizer itself puts before a text.
    begin: Option<String>,
    /// What ends a turn or a text; standing at the end of an answer it is not doubled.
    ends: Vec<String>,
    beyond_limits: AtomicU32,
}

/// So many conversations may go beyond the limits of the template before an examination ends: each
/// takes as long as the limits allow.
const BEYOND_LIMITS: u32 = 20;

impl Examiner {
    /// For texts that this codec reads.
    pub fn new(codec: &Codec) -> Result<Self> {
        let tokenizer = &codec.tokenizer;
        let mut names = tokenizer.special_texts();
        // The first of the alternatives that fits is found: longer ones come first.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let any: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
        let control = match any.is_empty() {
            true => None,
            false => Some(Regex::new(&any.join("|")).context("cannot look for special tokens")?),
        };
        let ends = codec.turn_ends().iter().chain(codec.answer_ends());
        Ok(Self {
            control,
            begin: tokenizer.bos().and_then(|token| tokenizer.token_name(token)),
            ends: ends.filter_map(|token| tokenizer.token_name(*token)).collect(),
            beyond_limits: AtomicU32::new(0),
        })
    }

    /// Counts a conversation that went beyond the limits of the template; whether it may.
    pub fn may_go_beyond_limits(&self) -> bool {
        self.beyond_limits.fetch_add(1, Ordering::Relaxed) < BEYOND_LIMITS
    }

    /// What is odd about a record of which an example was made.
    pub fn examine(&self, content: &Content, drawn: &Drawn, outcome: &RecordOutcome) -> Examined {
        let targets = match outcome {
            RecordOutcome::Bad(_) => return Examined::default(), // said elsewhere, with its reason
            RecordOutcome::Whole(example) | RecordOutcome::Truncated(example) => {
                example.target_count()
            }
            RecordOutcome::Pieces(_) => drawn.targets,
            RecordOutcome::Dropped | RecordOutcome::NothingToLearn => 0,
        };
        let mut findings = Vec::new();
        if matches!(outcome, RecordOutcome::NothingToLearn) {
            findings.push(Finding::new(FindingKind::NoTargets, no_targets(content, drawn)));
        }
        let lost = drawn.targets.saturating_sub(targets);
        if lost > 0 {
            let what = match outcome {
                RecordOutcome::Dropped => {
                    "the record is longer than `data.max_seq_len` and left out"
                }
                _ => "target tokens lie beyond `data.max_seq_len`",
            };
            let finding = Finding::new(FindingKind::TargetsCut, what);
            findings.push(Finding { count: lost as u64, ..finding });
        }
        if drawn.open_turns > 0 {
            let what = "a turn of the assistant has no end-of-turn token among its targets";
            let finding = Finding::new(FindingKind::MissingEnd, what);
            findings.push(Finding { count: drawn.open_turns as u64, ..finding });
        }
        empty_answers(content, &mut findings);
        self.control_tokens(content, &mut findings);
        Examined { findings, sketch: Sketch::of(content) }
    }

    fn control_tokens(&self, content: &Content, findings: &mut Vec<Finding>) {
        let Some(control) = &self.control else { return };
        let mut found: BTreeMap<(&str, Place), u64> = BTreeMap::new();
        let mut places: Vec<(String, Place)> = Vec::new();
        each_text(content, &mut |place, text| {
            let text = self.without_own(place, text);
            places.extend(control.find_iter(text).map(|found| (found.as_str().into(), place)));
        });
        for (name, place) in &places {
            *found.entry((name, *place)).or_default() += 1;
        }
        for ((name, place), count) in found {
            let reason = format!("`{name}` in {}", place.name());
            findings.push(Finding { kind: FindingKind::ControlToken, reason, count });
        }
    }

    /// What begins and ends a text anyway may stand there: it is not written twice.
    fn without_own<'a>(&self, place: Place, text: &'a str) -> &'a str {
        let mut rest = text;
        if let (Place::Text | Place::Prompt, Some(begin)) = (place, &self.begin) {
            rest = rest.strip_prefix(begin.as_str()).unwrap_or(rest);
        }
        if matches!(place, Place::Text | Place::Completion | Place::Assistant) {
            let end = self.ends.iter().find_map(|end| rest.trim_end().strip_suffix(end.as_str()));
            rest = end.unwrap_or(rest);
        }
        rest
    }
}

/// Why no token of a record is a target.
fn no_targets(content: &Content, drawn: &Drawn) -> &'static str {
    if drawn.targets > 0 {
        return "all its target tokens lie beyond `data.max_seq_len`";
    }
    let Content::Chat(conversation) = content else { return "it holds no text" };
    let spoken: Vec<usize> = answers(conversation).map(|(index, _)| index).collect();
    if spoken.is_empty() {
        "it has no message of the assistant"
    } else if spoken.iter().all(|index| conversation.not_targets.contains(index)) {
        "every message of the assistant is context (`weight` 0, `train` false, or in a prompt)"
    } else if drawn.turns == 0 {
        "the chat template writes, or marks, nothing of what the assistant says"
    } else {
        "the text of the assistant has no tokens of its own"
    }
}

fn answers(conversation: &Conversation) -> impl Iterator<Item = (usize, &Value)> {
    let messages = conversation.messages.iter().enumerate();
    messages.filter(|(_, message)| message["role"] == "assistant")
}

/// Answers that say nothing: what is trained is to end the turn at once.
fn empty_answers(content: &Content, findings: &mut Vec<Finding>) {
    let (count, what) = match content {
        Content::Chat(conversation) => {
            let empty = answers(conversation)
                .filter(|(index, message)| {
                    !conversation.not_targets.contains(index) && says_nothing(message)
                })
                .count();
            (empty, "a message of the assistant is empty")
        }
        Content::Completion { completion, .. } => {
            (usize::from(completion.trim().is_empty()), "the completion is empty")
        }
        Content::Text(text) => (usize::from(text.trim().is_empty()), "the text is empty"),
        Content::Preference { .. } => return,
    };
    if count > 0 {
        let finding = Finding::new(FindingKind::EmptyAnswer, what);
        findings.push(Finding { count: count as u64, ..finding });
    }
}

fn says_nothing(message: &Value) -> bool {
    let blank = |value: &Value| value.as_str().is_none_or(|text| text.trim().is_empty());
    let content = match &message["content"] {
        Value::Array(parts) => parts.iter().all(|part| blank(&part["text"])),
        content => blank(content),
    };
    content && message["tool_calls"].is_null() && REASONING.iter().all(|key| blank(&message[*key]))
}
