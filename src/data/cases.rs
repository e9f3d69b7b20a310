//! The records of an evaluation: what each says, beside the tokens that are evaluated.

use crate::data::maker::CaseSettings;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::batch::Batch;
use super::codec::Codec;
use super::corpus_file::{CorpusFile, Role};
use super::detect::{Choice, detect};
use super::ends_of_runs::line;
use super::example::CorpusEntry;
use super::example::{Example, RecordId, RecordOutcome};
use super::formats::{Content, Format, map_columns};
use super::maker::Maker;
use super::pack::{Packing, pack};
use super::sources::{self, Record};
use super::unused::LeftOut;
use crate::config::DataSetConfig;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use crate::hub::Supply;

/// A record that a model is evaluated on.
#[derive(Debug, Clone)]
pub struct Case {
    /// Where it stands.
    pub record: RecordId,
    /// The digest of the record, the same in every revision of its file.
    pub digest: Digest,
    /// Its fields, as they stand in the file.
    pub fields: Map<String, Value>,
    /// Its tokens; several pieces where a text is longer than a row, none where nothing is
    /// evaluated.
    pub examples: Vec<Example>,
    /// What the model is asked, and the answer that the record holds; plain text asks nothing.
    pub question: Option<Question>,
}

impl Case {
    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }
}

/// What comes before an answer, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As the chat template writes it, with what introduces the answer.
    pub prompt: String,
    /// The same in tokens.
    pub tokens: Vec<u32>,
    /// What the record has for an answer.
    pub reference: String,
}

/// The records of a data set, and what was read for them.
#[derive(Debug, Clone, Default)]
pub struct Cases {
    /// In the order of the files.
    pub cases: Vec<Case>,
    /// The files, with the digests of the bytes that were read.
    pub files: Vec<CorpusFile>,
    /// The commit of a hub that they are from.
    pub commit: Option<String>,
    /// Records whose end was cut off.
    pub truncated: u64,
    /// What of the records the model does not get, a sentence each.
    pub warnings: Vec<String>,
}

/// Reads a data set to its end; of more records than wanted, those with the smallest digests are
/// kept, so that a new revision changes few of them.
///
/// # Errors
/// When a record cannot be used: a model must not be evaluated on some of the records only.
pub fn cases(
    set: &DataSetConfig,
    codec: &Codec,
    supply: &Arc<Supply>,
    settings: &CaseSettings,
) -> Result<Cases> {
    let found = supply.set(set, Role::Validation.name())?;
    let most = match settings.max_records {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let mut kept: BTreeMap<(Digest, usize, u64), (Record, &dyn Format)> = BTreeMap::new();
    let mut result = Cases { commit: found.locked.commit.clone(), ..Cases::default() };
    for (number, file) in found.files.iter().enumerate() {
        let path = supply.fetch(file)?;
        let mut records = sources::open(&path)?;
        let mut choice: Option<Choice> = None;
        let mut rows = 0;
        loop {
            let batch = records.next_batch()?;
            if batch.is_empty() {
                break;
            }
            if choice.is_none() {
                choice = detect(Path::new(&*file.name), &renamed(&batch, set), set.format)?;
            }
            for record in batch {
                rows += 1;
                let Some(Choice { format, .. }) = &choice else {
                    return Err(unusable(&file.name, &record, "it cannot be read"));
                };
                kept.insert((record.digest, number, record.line), (record, *format));
                if kept.len() > most {
                    kept.pop_last();
                }
            }
        }
        let read = records.finish()?;
        supply.confirm(file, &read)?;
        result.files.push(CorpusFile {
            file: FileEntry { path: file.name.to_string(), ..read },
            uri: found.uri(file),
            role: Role::Validation,
            format: choice.map_or_else(String::new, |found| found.format.name().to_owned()),
            rows,
        });
    }
    let mut in_order: Vec<_> = kept.into_iter().collect();
    in_order.sort_by_key(|((_, file, line), _)| (*file, *line));
    let maker = Maker::of_evaluation(codec, settings);
    let mut left_out = LeftOut::default();
    for ((_, number, _), (record, format)) in in_order {
        let name = found.files[number].name.clone();
        let (case, cut) = case(record, format, set, codec, &maker, name, &mut left_out)?;
        result.truncated += u64::from(cut);
        result.cases.push(case);
    }
    result.warnings = left_out.warnings(result.cases.len());
    Ok(result)
}

/// Cases of records that were made here, of the shape of a data set; `name` is what they are
/// called.
///
/// # Errors
/// When a record cannot be used.
pub fn cases_of(
    records: Vec<Map<String, Value>>,
    name: &str,
    set: &DataSetConfig,
    codec: &Codec,
    settings: &CaseSettings,
) -> Result<Vec<Case>> {
    let record = |(line, fields): (u64, Map<String, Value>)| {
        let digest = sources::digest_of_fields(&fields);
        Record { line, digest, content: Ok(fields) }
    };
    let records: Vec<Record> = (1..).zip(records).map(record).collect();
    let choice = detect(Path::new(name), &renamed(&records, set), set.format)?;
    let Some(Choice { format, .. }) = choice else { return Ok(Vec::new()) };
    let (maker, mut left_out) = (Maker::of_evaluation(codec, settings), LeftOut::default());
    let name: Arc<str> = Arc::from(name);
    let made = records.into_iter().map(|record| {
        case(record, format, set, codec, &maker, name.clone(), &mut left_out).map(|(case, _)| case)
    });
    made.collect()
}

fn renamed(batch: &[Record], set: &DataSetConfig) -> Vec<Record> {
    let rename = |record: &Record| Record {
        line: record.line,
        digest: record.digest,
        content: record.content.clone().and_then(|fields| map_columns(fields, &set.columns)),
    };
    batch.iter().take(100).map(rename).collect()
}

fn unusable(file: &Arc<str>, record: &Record, why: &str) -> Error {
    let id = RecordId { file: file.clone(), line: record.line };
    Error::data("a record of the evaluation cannot be used")
        .at_position(&**file, line(&id), 1)
        .because(why)
        .hint("correct or remove it: a model must not be evaluated on some of the records only")
}

fn case(
    record: Record,
    format: &dyn Format,
    set: &DataSetConfig,
    codec: &Codec,
    maker: &Maker,
    file: Arc<str>,
    left_out: &mut LeftOut,
) -> Result<(Case, bool)> {
    let fail = |why: &str| unusable(&file, &record, why);
    let fields = record.content.clone().map_err(|why| fail(&why))?;
    let mut left = map_columns(fields.clone(), &set.columns).map_err(|why| fail(&why))?;
    let mut content = format.read(&mut left).map_err(|why| fail(&why))?;
    if let Content::Chat(conversation) = &mut content {
        maker.complete(conversation); // for the question, too
    }
    let id = RecordId { file: file.clone(), line: record.line };
    let made = maker.make(content.clone(), left, &id)?;
    left_out.add(&made.unused, &made.undefined, &id);
    let (examples, cut) = match made.outcome {
        RecordOutcome::Whole(example) => (vec![example], false),
        RecordOutcome::Truncated(example) => (vec![example], true),
        RecordOutcome::Pieces(pieces) => (pieces.into_iter().collect(), false),
        RecordOutcome::NothingToLearn | RecordOutcome::Dropped => (Vec::new(), true),
        RecordOutcome::Bad(why) => return Err(fail(&why)),
    };
    let question = question(&content, codec)
        .map_err(|error| error.at_position(&*id.file, line(&id), 1))?
        .map_err(|why| fail(&why))?;
    let digest = record.digest;
    Ok((Case { record: id, digest, fields, examples, question }, cut))
}

/// The last answer of a conversation and what comes before it; the completion of a prompt. The
/// inner error is why the record cannot be used.
fn question(content: &Content, codec: &Codec) -> Result<Result<Option<Question>, String>> {
    let one_line = |error: Error| error.into_what();
    let tokens = |text: &str| codec.tokenizer.encode(text).map_err(one_line).map(|it| it.tokens);
    let conversation = match content {
        Content::Text(_) | Content::Preference { .. } => return Ok(Ok(None)),
        Content::Completion { prompt, completion } => {
            let question =
                |tokens| Question { prompt: prompt.clone(), tokens, reference: completion.clone() };
            return Ok(codec.text_tokens(prompt).map_err(one_line).map(|it| Some(question(it))));
        }
        Content::Chat(conversation) => conversation,
    };
    let template = codec.template_for(conversation.tools.is_some())?;
    let last = conversation.messages.iter().rposition(|turn| turn["role"] == "assistant");
    let Some(last) = last else { return Ok(Ok(None)) };
    let prompt = template.write(conversation, last, true)?;
    let rendered = template.render(&[conversation], true).map_err(|exceeded| exceeded.error)?.pop();
    let Some(rendered) = rendered else { return Ok(Ok(None)) };
    Ok(rendered.and_then(|handed| {
        let rendered = handed.rendered;
        let prompt = prompt?;
        let said: Option<Range<usize>> = rendered.turns.last().map(|turn| turn.said.clone());
        let said = said.map_or("", |said| &rendered.text[said]);
        let reference = without_end(said, codec).to_owned();
        Ok(Some(Question { tokens: tokens(&prompt)?, reference, prompt }))
    }))
}

/// What an assistant said, without the token that ends its turn and what follows it.
fn without_end<'a>(said: &'a str, codec: &Codec) -> &'a str {
    let end = codec.end_of_turn().and_then(|token| codec.tokenizer.token_name(token));
    let end = end.and_then(|end| said.rfind(&end).filter(|at| !end.is_empty() && *at > 0));
    end.map_or(said, |at| &said[..at])
}

/// Examples in rows, as many to a row as there is room for.
pub struct PackedEntries {
    entries: Vec<CorpusEntry>,
    /// Places among them, in the order in which they stand in each row.
    rows: Vec<Vec<u32>>,
}

impl PackedEntries {
    /// In rows of at most so many tokens.
    pub fn new(entries: Vec<CorpusEntry>, max_seq_len: usize) -> Self {
        let lengths = entries.iter().map(|entry| entry.example.tokens.len());
        let rows = pack((0..).zip(lengths), max_seq_len, Packing::BestFit);
        Self { entries, rows }
    }

    /// Batches of so many rows, with the place of each example: by row, and by document in it.
    pub fn batches(&self, rows: usize) -> impl Iterator<Item = (Batch, &[Vec<u32>])> {
        self.rows.chunks(rows.max(1)).map(|places| {
            let row =
                |row: &Vec<u32>| row.iter().map(|place| &self.entries[*place as usize]).collect();
            (Batch::new(&places.iter().map(row).collect::<Vec<Vec<_>>>()), places)
        })
    }
}

/// The examples of all cases, in rows, and the number of the case that each is of.
pub fn packed_cases(cases: &[Case], max_seq_len: usize) -> (PackedEntries, Vec<usize>) {
    let owners = (0..).zip(cases);
    let owners = owners.flat_map(|(owner, case)| case.examples.iter().map(move |_| owner));
    let entries = cases.iter().flat_map(Case::entries).collect();
    (PackedEntries::new(entries, max_seq_len), owners.collect())
}

impl Case {
    /// Its examples as entries of rows.
    pub fn entries(&self) -> impl Iterator<Item = CorpusEntry> + '_ {
        self.examples.iter().map(|example| CorpusEntry {
            record: self.record.clone(),
            digest: self.digest,
            weight: 1.0,
            margin: 0.0,
            example: example.clone(),
        })
    }
}
