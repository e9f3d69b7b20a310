//! Preference pairs: read, checked and shown. What trains on them is another matter.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::codec::Codec;
use super::corpus_file::Role;
use super::detect::{Choice, detect};
use super::example::RecordId;
use super::formats::{Content, map_columns};
use super::show::pair;
use super::sources::{self, Record, Records};
use super::unused::{LeftOut, RULE, columns, judge};
use crate::config::{DataConfig, DataSetConfig, FormatChoice};
use crate::error::{Error, Result};
use crate::hub::{SetFile, Supply};

/// A preference pair as the chat template writes it.
pub struct Pair {
    /// Where it stands.
    pub record: RecordId,
    /// The conversation with the better answer.
    pub chosen: String,
    /// The conversation with the worse answer.
    pub rejected: String,
}

/// The first pairs of the training sets, and what of them the model does not get, a sentence each.
/// `most` is how many; 0 is all. `codec` is made when the first pair is found.
pub fn preference_pairs(
    config: &DataConfig,
    supply: &Arc<Supply>,
    codec: impl Fn() -> Result<Codec>,
    most: usize,
) -> Result<(Vec<Pair>, Vec<String>)> {
    let mut pairs = Vec::new();
    let mut left_out = LeftOut::default();
    let mut ready: Option<Codec> = None;
    for set in &config.train {
        for file in &supply.set(set, Role::Train.name())?.files {
            let mut reader = Reader::open(set, file, supply)?;
            while let Some(batch) = reader.next()? {
                let choice = reader.pairs(&batch)?;
                let codec = match &mut ready {
                    Some(codec) => codec,
                    none => none.insert(codec()?),
                };
                for record in batch {
                    if most > 0 && pairs.len() >= most {
                        let warnings = left_out.warnings(pairs.len());
                        return Ok((pairs, warnings));
                    }
                    let showing = Showing { choice: &choice, codec, config, file };
                    pairs.push(showing.show(record, &mut left_out)?);
                }
            }
        }
    }
    let warnings = left_out.warnings(pairs.len());
    Ok((pairs, warnings))
}

/// One file, with its columns under our names.
struct Reader<'a> {
    set: &'a DataSetConfig,
    file: &'a SetFile,
    records: Box<dyn Records>,
}

impl<'a> Reader<'a> {
    fn open(set: &'a DataSetConfig, file: &'a SetFile, supply: &Supply) -> Result<Self> {
        Ok(Self { set, file, records: sources::open(&supply.fetch(file)?)? })
    }

    fn next(&mut self) -> Result<Option<Vec<Record>>> {
        let mut batch = self.records.next_batch()?;
        for record in &mut batch {
            let content = std::mem::replace(&mut record.content, Err(String::new()));
            record.content = content.and_then(|fields| map_columns(fields, &self.set.columns));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The shape, which must be that of pairs.
    fn pairs(&self, batch: &[Record]) -> Result<Choice> {
        let choice = detect(Path::new(&*self.file.name), batch, self.set.format)?;
        let choice = choice.filter(|found| found.format.choice() == FormatChoice::Preference);
        choice.ok_or_else(|| {
            Error::data("preference pairs and records of another shape cannot be shown together")
                .at(&*self.file.name)
        })
    }
}

/// How the records of a file are shown.
struct Showing<'a> {
    choice: &'a Choice,
    codec: &'a Codec,
    config: &'a DataConfig,
    file: &'a SetFile,
}

impl Showing<'_> {
    fn show(&self, record: Record, left_out: &mut LeftOut) -> Result<Pair> {
        let id = RecordId { file: self.file.name.clone(), line: record.line };
        let place = (&*self.file.name, usize::try_from(record.line).unwrap_or(0));
        let shown = record.content.map_err(Error::data).and_then(|mut fields| {
            let content = self.choice.format.read(&mut fields).map_err(Error::data)?;
            let Content::Preference { chosen, rejected } = content else {
                return Err(Error::data("the record is not a preference pair"));
            };
            let mut unused = Vec::new();
            columns(&fields, &mut unused);
            judge(self.config.on_unused, &unused).map_err(|why| Error::data(why).hint(RULE))?;
            let shown = pair(self.codec, self.config, &chosen, &rejected, &mut unused)?;
            left_out.add(&unused, &BTreeSet::new(), &id);
            Ok(shown)
        });
        match shown {
            Ok(shown) => Ok(Pair { record: id, chosen: shown.chosen, rejected: shown.rejected }),
            Err(error) if error.place.is_none() => Err(error.at_position(place.0, place.1, 1)),
            Err(error) => Err(error),
        }
    }
}
