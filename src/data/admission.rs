//! Files are looked at when their rows come into use for the first time: too many unusable
//! records, or mostly no target tokens, end the run; what is odd is said once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::about::About;
use super::bad_rows::BadRows;
use super::codec::Codec;
use super::corpus_file::{CorpusFile, Role};
use super::ends_of_runs::line;
use super::example::RecordId;
use super::layout::FileId;
use super::store::Store;
use super::unused::Loss;
use crate::config::DataSetConfig;
use crate::error::{Error, Result};
use crate::files::FileEntry;

/// Sentences for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What was chosen and why.
    pub notes: Vec<String>,
    /// What a careful person would want to look at.
    pub warnings: Vec<String>,
}

impl Said {
    /// Adds other sentences.
    pub fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.warnings.extend(other.warnings);
    }
}

/// What came of the files so far.
pub struct Admission {
    codec: Arc<Codec>,
    bad: BadRows,
    bad_said: usize,
    seen: BTreeSet<(Role, FileId)>,
    /// Role and name of every file that was used, by this process or one before it.
    used: BTreeMap<(Role, String), CorpusFile>,
    chat: bool,
    plain: bool,
    /// Data sets of which was said that no chat template is used, and columns of data sets of
    /// which was said that they are not used.
    without_template: BTreeSet<(Role, u32)>,
    columns_said: BTreeSet<(Role, u32, String)>,
    records: u64,
    nothing: u64,
    first_nothing: Option<RecordId>,
    ends: BTreeSet<u32>,
    /// Whether what ends a run is noted, and the rest looked at all the same.
    pub notes_refusals: bool,
    /// What was noted.
    pub refusals: Vec<String>,
}

impl Admission {
    /// With the settings of a run.
    pub fn new(codec: Arc<Codec>, max_bad_rows: u64) -> Self {
        Self {
            codec,
            bad: BadRows::new(max_bad_rows),
            bad_said: 0,
            seen: BTreeSet::new(),
            used: BTreeMap::new(),
            chat: false,
            plain: false,
            without_template: BTreeSet::new(),
            columns_said: BTreeSet::new(),
            records: 0,
            nothing: 0,
            first_nothing: None,
            ends: BTreeSet::new(),
            notes_refusals: false,
            refusals: Vec::new(),
        }
    }

    /// The tokens at which an answer or a text ends, of those that were targets.
    pub fn ends(&self) -> &BTreeSet<u32> {
        &self.ends
    }

    /// A file that was used, by its role and name.
    pub fn used(&self, role: Role, name: &str) -> Option<&CorpusFile> {
        self.used.get(&(role, name.to_owned()))
    }

    /// Takes over what earlier processes of the run have used.
    pub fn remember(&mut self, files: &[CorpusFile]) {
        let entry = |file: &CorpusFile| ((file.role, file.file.path.clone()), file.clone());
        self.used.extend(files.iter().map(entry));
    }

    /// Looks at files that were not seen yet.
    pub fn admit(&mut self, store: &Store, files: &[FileId]) -> Result<Said> {
        let mut said = Said::default();
        let mut new = Vec::new();
        for &file in files {
            if self.seen.contains(&(store.role(), file)) {
                continue;
            }
            let opened = store.open(file)?;
            self.seen.insert((store.role(), file));
            self.refuse(&store.file(file).name, opened.about())?;
            if store.role() == Role::Train {
                self.ends.extend(&opened.about().ends);
            }
            let used = used(store, file, opened.about());
            self.used.insert((used.role, used.file.path.clone()), used);
            new.push((file, opened));
        }
        for set in new.iter().map(|(file, _)| file.set).collect::<BTreeSet<u32>>() {
            let of_set = new.iter().filter(|(file, _)| file.set == set);
            let abouts: Vec<(&str, &About)> =
                of_set.map(|(file, opened)| (&*store.file(*file).name, opened.about())).collect();
            let (config, of_hub) = &store.sets_and_files()[set as usize];
            self.look(of_hub, &abouts, &mut said);
            let set = (store.role(), set);
            self.without_template(set, config, &abouts, &mut said);
            self.unused(set, &abouts, &mut said);
        }
        let warnings = self.bad.warnings();
        said.warnings.splice(0..0, warnings.iter().skip(self.bad_said).cloned());
        self.bad_said = warnings.len();
        match self.check() {
            Err(error) if self.notes_refusals => self.note(error.into_what()),
            checked => checked?,
        }
        Ok(said)
    }

    /// Counts unusable records; too many end the run.
    fn refuse(&mut self, name: &str, about: &About) -> Result<()> {
        if !self.notes_refusals {
            return self.bad.add(name, about);
        }
        if let Some(refusal) = &about.refusal {
            self.note(refusal.clone());
        }
        Ok(())
    }

    fn note(&mut self, refusal: String) {
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    fn look(&mut self, set: &crate::hub::FileSet, files: &[(&str, &About)], said: &mut Said) {
        let records: u64 = files.iter().map(|(_, about)| about.statistics.records).sum();
        let Some((name, first)) = files.iter().find(|(_, about)| !about.format.is_empty()) else {
            return said
                .notes
                .push(format!("{}: {records} records, none can be read", set.title()));
        };
        let (format, reason) = (&first.format, &first.reason);
        let of = |what: String| format!("{what} of the shape `{format}`: {reason}");
        said.notes.push(match (set.files.len(), &set.why) {
            (1, None) => of(format!("{name}: {records} records")),
            (all, why) => {
                let why = why.as_deref().unwrap_or("as named");
                let title = set.title();
                let count = if files.len() == all {
                    format!("{title}: {records} records in {all} files ({why})")
                } else {
                    format!("{title}: {all} files ({why}), {records} records in the first")
                };
                of(count)
            }
        });
        for (_, about) in files {
            self.doubts(about, said);
        }
        let mut say = |what: &str, count: fn(&About) -> (u64, Option<u64>)| {
            let all: u64 = files.iter().map(|(_, about)| count(about).0).sum();
            let first = files.iter().find_map(|(name, about)| Some((name, count(about).1?)));
            if let Some((name, line)) = first {
                let first = format!("{name}:{line}");
                said.warnings.push(format!("{all} of {records} records {what}, first {first}"));
            }
        };
        say("are longer than `data.max_seq_len` and were cut off", |about| {
            (about.statistics.truncated, about.truncated)
        });
        say("are longer than `data.max_seq_len` and were left out", |about| {
            (about.statistics.dropped, about.dropped)
        });
        say("have no target tokens and were left out", |about| {
            (about.statistics.no_targets, about.nothing)
        });
        undefined(files, said);
        self.records += records;
        for (name, about) in files {
            self.nothing += about.statistics.no_targets;
            if let (None, Some(line)) = (&self.first_nothing, about.nothing) {
                self.first_nothing = Some(RecordId { file: (*name).into(), line });
            }
        }
    }

    /// A prompt and its completion are trained on as plain text, which a chat model is never shown.
    fn without_template(
        &mut self,
        set: (Role, u32),
        config: &DataSetConfig,
        files: &[(&str, &About)],
        said: &mut Said,
    ) {
        let plain = |(_, about): &&(&str, &About)| about.plain && about.format == "completion";
        let Some((name, _)) = files.iter().find(plain) else { return };
        if self.codec.templates.default.is_none() || !self.without_template.insert(set) {
            return;
        }
        let column = |ours: &str| config.columns.get(ours).map_or(ours, String::as_str).to_owned();
        let (prompt, completion) = (column("prompt"), column("completion"));
        said.warnings.push(format!(
            "{name}: prompt and completion are trained on as plain text, without the model's chat \
             template; for questions and answers of a chat write `columns = {{ instruction = \
             \"{prompt}\", output = \"{completion}\" }}`"
        ));
    }

    /// What records hold and the model does not get, with count and first place.
    fn unused(&mut self, set: (Role, u32), files: &[(&str, &About)], said: &mut Said) {
        let records: u64 = files.iter().map(|(_, about)| about.statistics.records).sum();
        let mut found: BTreeMap<(Loss, &str), (u64, String)> = BTreeMap::new();
        for (name, about) in files {
            for count in &about.unused {
                let key = (count.loss, count.phrase.as_str());
                let first = || (0, format!("{name}:{}", count.first));
                found.entry(key).or_insert_with(first).0 += count.records;
            }
        }
        let mut columns = Vec::new();
        for ((loss, phrase), (count, first)) in found {
            if loss != Loss::Column {
                said.warnings.push(format!("{count} of {records} records {phrase}, first {first}"));
            } else if self.columns_said.insert((set.0, set.1, phrase.to_owned())) {
                columns.push(match count == records {
                    true => phrase.to_owned(),
                    false => format!("{phrase} ({count} of {records} records, first {first})"),
                });
            }
        }
        if !columns.is_empty() {
            let (name, _) = files[0];
            said.notes.push(format!("{name}: columns that are not used: {}", columns.join(", ")));
        }
    }

    fn check(&self) -> Result<()> {
        let Some(first) = &self.first_nothing else { return Ok(()) };
        if self.nothing * 2 <= self.records {
            return Ok(());
        }
        let what = format!("{} of {} records have no target tokens", self.nothing, self.records);
        Err(Error::data(what).at_position(&*first.file, line(first), 1).hint(
            "either they have no turn of the assistant, or `data.max_seq_len` cuts it off; \
             `firebrand plan` shows what is trained on of a record",
        ))
    }

    /// Oddities of tokenizer and template that matter to the data at hand.
    fn doubts(&mut self, about: &About, said: &mut Said) {
        let codec = &self.codec;
        let templates = codec.templates.all().next().is_some();
        if about.chat && !std::mem::replace(&mut self.chat, true) && templates {
            if codec.end_of_turn().is_none() {
                said.warnings.push(
                    "the chat template writes no special token after the assistant's turn, so \
                     the model does not learn where to stop"
                        .to_owned(),
                );
            }
            if !codec.has_generation_prompt() {
                said.warnings.push(
                    "the chat template has no generation prompt, so the model also learns to \
                     write what introduces the assistant's turn"
                        .to_owned(),
                );
            }
        }
        if about.plain
            && !std::mem::replace(&mut self.plain, true)
            && codec.tokenizer.eos().is_none()
        {
            said.warnings.push(
                "the tokenizer names no `eos_token`, so the model does not learn where a text ends"
                    .to_owned(),
            );
        }
    }
}

/// Names that the chat template printed though they were undefined.
fn undefined(files: &[(&str, &About)], said: &mut Said) {
    let mut first: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for (file, about) in files {
        for (name, line) in &about.undefined {
            first.entry(name).or_insert((file, *line));
        }
    }
    for (name, (file, line)) in first {
        said.warnings.push(format!(
            "the chat template prints `{name}`, which is undefined, so it writes nothing there, \
             first {file}:{line}"
        ));
    }
}

fn used(store: &Store, id: FileId, about: &About) -> CorpusFile {
    CorpusFile {
        file: FileEntry { path: store.file(id).name.to_string(), ..about.file.clone() },
        uri: store.sets_and_files()[id.set as usize].1.uri(store.file(id)),
        role: store.role(),
        format: about.format.clone(),
        rows: about.statistics.records,
    }
}

/// What there is to say of a tokenizer and its template.
pub fn describe(codec: &Codec) -> Vec<String> {
    let mut notes = Vec::new();
    let beyond = codec.tokenizer.beyond_embedding();
    if let Some(first) = beyond.first() {
        let count = beyond.len();
        notes.push(format!(
            "{count} added tokens have no row in the model's embedding, such as `{first}`: a text \
             with one of them is refused"
        ));
    }
    for template in codec.templates.all() {
        let digest = template.digest().short();
        let what = match codec.templates.tool_use.as_ref() {
            Some(tool_use) if std::ptr::eq(tool_use, template) => "chat template with tools",
            _ => "chat template",
        };
        notes.push(format!("{what}: {}, sha256 {digest}", template.origin()));
        if template.asks_for_the_date() {
            let date = super::template::TEMPLATE_DATE;
            notes
                .push(format!("the chat template uses the current date; here it is always {date}"));
        }
    }
    notes
}
