//! Records become examples: rendered, tokenised, and made to fit a row.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::asked;
use super::classified;
use super::codec::Codec;
use super::ends_of_runs::{much_too_long, one_line, pair, too_long};
use super::example::{Example, RecordId, RecordNumbers, RecordOutcome, TextPieces};
use super::finding::{Drawn, Examiner};
use super::formats::{Content, Conversation, Fields};
use super::handed::Handed;
use super::labelled;
use super::made::{Made, Record};
use super::numbers::NumberColumns;
use super::paired;
use super::tokens::CompactTokens;
use super::unused::{columns, judge};
use super::written::{Chat, Unwritten, Writing};
use crate::config::{DataConfig, OnUnused, Overlong, ScoreHead, TrainOn};
use crate::error::{Error, ErrorCode, Result};

/// How the records of an evaluation are read.
#[derive(Debug, Clone)]
pub struct CaseSettings {
    /// Longest row in tokens.
    pub max_seq_len: usize,
    /// Of more records, those with the smallest digests are kept; 0 keeps all.
    pub max_records: u64,
    /// What the chat template is handed; a record's own come first.
    pub template_args: Fields,
    /// What is done about what the model does not get of a record.
    pub on_unused: Option<OnUnused>,
    /// The head of a model that scores labels.
    pub score_head: Option<Arc<ScoreHead>>,
}

/// The tokens of a record.
pub(super) enum MadeTokens {
    /// All of them, or only the beginning of what is longer than a row for certain.
    Example(Example, bool),
    /// A text that is longer than a row.
    Pieces(TextPieces),
}

/// Makes examples of records.
#[derive(Clone)]
pub struct Maker<'a> {
    pub(super) codec: &'a Codec,
    pub(super) template_args: Fields,
    pub(super) on_unused: Option<OnUnused>,
    pub(super) max_seq_len: usize,
    pub(super) overlong: Overlong,
    pub(super) train_on: TrainOn,
    /// What to do about pairs of answers, where no examples are made of them.
    pub(super) no_pairs: Option<String>,
    /// Whether what follows the answers of pairs is read, too.
    pub(super) whole_pairs: bool,
    /// Whether answers have labels that are learnt from.
    pub(super) labels: bool,
    /// The head that texts are scored by, where their labels are learnt from.
    pub(super) score_head: Option<Arc<ScoreHead>>,
    /// Whether the last answer is one to compare with.
    pub(super) prompts: bool,
    /// Where records say how they are trained on.
    pub(super) numbers: Option<NumberColumns>,
    pub(super) examiner: Option<&'a Examiner>,
}

impl<'a> Maker<'a> {
    /// With the settings of a run.
    pub fn new(codec: &'a Codec, config: &DataConfig) -> Self {
        Self {
            codec,
            template_args: config.template_args.clone().into_iter().collect(),
            on_unused: config.on_unused,
            max_seq_len: config.max_seq_len,
            overlong: config.overlong,
            train_on: config.train_on,
            no_pairs: config.no_pairs.clone(),
            whole_pairs: config.whole_pairs,
            labels: config.labels,
            score_head: config.score_head.clone().map(Arc::new),
            prompts: config.prompts,
            numbers: NumberColumns::of(config),
            examiner: None,
        }
    }

    /// Looks at every record as well, and takes errors that end a run as those of one record.
    #[must_use]
    pub fn examining(mut self, examiner: Option<&'a Examiner>) -> Self {
        self.examiner = examiner;
        self
    }

    /// For validation data: what records say of how they are trained on is not asked for.
    #[must_use]
    pub fn of_validation(mut self) -> Self {
        self.numbers = self.numbers.map(NumberColumns::unread);
        self
    }

    /// For an evaluation: answers are evaluated, and what is longer than a row is cut.
    pub fn of_evaluation(codec: &'a Codec, settings: &CaseSettings) -> Self {
        Self {
            codec,
            template_args: settings.template_args.clone(),
            on_unused: settings.on_unused,
            max_seq_len: settings.max_seq_len,
            overlong: Overlong::Truncate,
            train_on: TrainOn::Assistant,
            no_pairs: Some(String::new()),
            whole_pairs: false,
            labels: false,
            score_head: settings.score_head.clone(),
            prompts: false,
            numbers: None,
            examiner: None,
        }
    }

    /// The same for each answer of a pair by itself, whatever its length.
    pub(super) fn of_answers(&self) -> Self {
        let (train_on, no_pairs) = (TrainOn::Assistant, Some(String::new()));
        Self { max_seq_len: usize::MAX, train_on, no_pairs, ..self.clone() }
    }

    /// The same for whole texts, whatever their length.
    fn of_texts(&self) -> Self {
        let (max_seq_len, overlong) = (usize::MAX, Overlong::Truncate);
        Self { max_seq_len, overlong, train_on: TrainOn::All, score_head: None, ..self.clone() }
    }

    /// The token that is put behind plain texts, where the tokenizer itself puts none.
    fn own_end(&self) -> Result<Option<u32>> {
        let end = self.codec.tokenizer.eos();
        let with_it = self.codec.text_tokens("a")?;
        Ok(end.filter(|end| with_it.last() != Some(end)))
    }

    /// The tokens at which an answer or a text ends.
    pub fn ends(&self) -> BTreeSet<u32> {
        self.codec.answer_ends().clone()
    }

    /// So many bytes of records are about to come.
    pub fn expect(&self, bytes: u64) {
        self.codec.tokenizer.expect(bytes);
    }

    /// What becomes of records, in their order: of what each says and its shape did not read, or
    /// of why it cannot be read. Conversations are rendered together. An error is one that no other
    /// record would be free of.
    pub fn make_all(&self, records: &mut [Record]) -> Result<Vec<Made>> {
        if let Some(columns) = &self.numbers {
            return self.make_numbered(columns, records);
        }
        if self.no_pairs.is_none() {
            let made = self.of_answers().make_all(&mut paired::answers(records))?;
            let side = if self.whole_pairs { paired::whole } else { paired::one_run };
            return paired::join(made, records, side, (self.max_seq_len, self.overlong));
        }
        if self.labels {
            let labels = labelled::take(records);
            let made = Self { labels: false, ..self.clone() }.make_all(records)?;
            let row = (self.max_seq_len, self.overlong);
            return labelled::mark(made, (records, &labels), row);
        }
        if let Some(head) = &self.score_head {
            let labels = classified::take(records, head);
            let made = self.of_texts().make_all(records)?;
            let row = (self.max_seq_len, self.overlong);
            return classified::mark(made, (records, labels), self.own_end()?, row);
        }
        if self.prompts {
            asked::take(records);
            let made = Self { prompts: false, ..self.clone() }.make_all(records)?;
            return Ok(made.into_iter().map(asked::whole).collect());
        }
        // Where everything is a target, the turns to look for are those that are not.
        let mut finds_context = vec![false; records.len()];
        for (record, finds_context) in records.iter_mut().zip(&mut finds_context) {
            if let Ok((Content::Chat(conversation), _)) = &mut record.content {
                self.prepare(conversation);
                if self.train_on == TrainOn::All && !conversation.not_targets.is_empty() {
                    conversation.look_for_the_others();
                    *finds_context = true;
                }
            }
        }
        let mut written: Vec<Option<Result<Handed, Unwritten>>> = Vec::new();
        written.resize_with(records.len(), || None);
        let finds = |index: usize| self.train_on != TrainOn::All || finds_context[index];
        // Each template writes its conversations together.
        for (has_tools, find_turns) in [(false, false), (false, true), (true, false), (true, true)]
        {
            let mut chats: Vec<Chat> = Vec::new();
            for (index, record) in records.iter().enumerate() {
                if let Ok((Content::Chat(chat), _)) = &record.content
                    && (chat.tools.is_some(), finds(index)) == (has_tools, find_turns)
                {
                    chats.push((index, chat, &record.id));
                }
            }
            let writing = Writing { codec: self.codec, examiner: self.examiner, find_turns };
            let of_them = writing.all(has_tools, &chats)?;
            for ((index, ..), one) in chats.iter().zip(of_them) {
                written[*index] = Some(one);
            }
        }
        for (record, _) in records.iter_mut().zip(finds_context).filter(|(_, finds)| *finds) {
            if let Ok((Content::Chat(conversation), _)) = &mut record.content {
                conversation.look_for_the_others(); // as the record has it
            }
        }
        let made = |(record, written): (&Record, _)| match &record.content {
            Ok((content, left)) => match self.make_written(content, left, written, &record.id) {
                Err(error) if self.goes_on_after(&error) => Ok(Made::refused(one_line(&error))),
                made => made,
            },
            Err(reason) => Ok(Made::bad(reason.clone())),
        };
        records.iter().zip(written).map(made).collect()
    }

    /// The same of records that say how they are trained on.
    fn make_numbered(&self, columns: &NumberColumns, records: &mut [Record]) -> Result<Vec<Made>> {
        let numbers = columns.take(records);
        let mut made = Self { numbers: None, ..self.clone() }.make_all(records)?;
        made.iter_mut().zip(numbers).for_each(|(made, numbers)| made.with(numbers));
        Ok(made)
    }

    /// Makes of a conversation what the settings ask for.
    fn prepare(&self, conversation: &mut Conversation) {
        self.complete(conversation);
        if self.train_on == TrainOn::LastTurn {
            conversation.last_turn_alone();
        }
    }

    /// What becomes of a record, of which its shape did not read what is `left`. An error is one
    /// that no other record would be free of.
    pub fn make(&self, content: Content, left: Fields, record: &RecordId) -> Result<Made> {
        let id = record.clone();
        let made = self.make_all(&mut [Record { id, content: Ok((content, left)) }])?.pop();
        Ok(made.unwrap_or_else(|| Made::bad("it was not rendered".to_owned())))
    }

    /// Whether an examination goes on where a run ends.
    fn goes_on_after(&self, error: &Error) -> bool {
        self.examiner.is_some() && error.code != ErrorCode::Pairs
    }

    fn make_written(
        &self,
        content: &Content,
        left: &Fields,
        written: Option<Result<Handed, Unwritten>>,
        record: &RecordId,
    ) -> Result<Made> {
        let (mut unused, mut undefined) = (Vec::new(), BTreeSet::new());
        let mut drawn = Drawn::default();
        columns(left, &mut unused);
        let text = matches!(content, Content::Text(_));
        let example = |(example, goes_on)| MadeTokens::Example(example, goes_on);
        let begun = match content {
            Content::Chat(chat) => match written {
                Some(Ok(handed)) => {
                    unused.extend(handed.unused);
                    undefined = handed.undefined;
                    let has_tools = chat.tools.is_some();
                    self.chat(has_tools, &handed.rendered, record, &mut drawn)?.map(example)
                }
                Some(Err(why)) if why.ends_a_run => return Ok(Made::refused(why.reason)),
                Some(Err(why)) => Err(why.reason),
                None => Err("it was not rendered".to_owned()),
            },
            Content::Completion { prompt, completion } => {
                self.completion(prompt, completion).map(example)
            }
            Content::Text(text) if self.is_made_into_pieces(text) => self.pieces(text),
            Content::Text(text) => self.plain(text, 0, true).map(example),
            Content::Preference { .. } => return Err(pair(record, self.no_pairs.as_deref())),
        };
        let (outcome, lossy) = match (begun, judge(self.on_unused, &unused)) {
            (Err(reason), _) => (RecordOutcome::Bad(reason), false),
            (_, Err(reason)) => (RecordOutcome::Bad(reason), true),
            (Ok(MadeTokens::Pieces(pieces)), Ok(())) => (RecordOutcome::Pieces(pieces), false),
            (Ok(MadeTokens::Example(example, goes_on)), Ok(())) => {
                drawn.count(&example);
                (self.fit(example, goes_on, text, record)?, false)
            }
        };
        let examine = |examiner: &Examiner| examiner.examine(content, &drawn, &outcome);
        let examined = self.examiner.map(examine).unwrap_or_default();
        let numbers = RecordNumbers::default();
        Ok(Made { outcome, unused, undefined, lossy, examined, refusal: None, numbers })
    }

    /// Adds what the configuration hands to the template; a record's own come first.
    pub fn complete(&self, conversation: &mut Conversation) {
        for (name, value) in &self.template_args {
            conversation.template_args.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }

    /// Makes an example no longer than a row; `goes_on` where it is longer than that for certain.
    fn fit(
        &self,
        mut example: Example,
        goes_on: bool,
        text: bool,
        record: &RecordId,
    ) -> Result<RecordOutcome> {
        let (length, max) = (example.tokens.len(), self.max_seq_len);
        let is_long = goes_on || length > max;
        if is_long {
            match self.overlong {
                Overlong::Drop => return Ok(RecordOutcome::Dropped),
                Overlong::Error if goes_on => return Err(much_too_long(max, record)),
                Overlong::Error => return Err(too_long(length, max, record)),
                Overlong::Truncate if text => {
                    let given = example.loss_mask.iter().take_while(|target| !**target).count();
                    let tokens = CompactTokens::Wide(example.tokens);
                    return Ok(RecordOutcome::Pieces(TextPieces::new(tokens, given, max)));
                }
                Overlong::Truncate => example.cut(max),
            }
        }
        Ok(match example.has_targets() {
            false => RecordOutcome::NothingToLearn,
            true if is_long => RecordOutcome::Truncated(example),
            true => RecordOutcome::Whole(example),
        })
    }
}
