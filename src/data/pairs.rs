//! Preference pairs: read, checked and shown. What trains on them is another matter.

use std::path::Path;
use std::sync::Arc;

use super::codec::Codec;
use super::corpus::Role;
use super::detect::{Choice, detect};
use super::example::RecordId;
use super::formats::{Content, map_columns};
use super::show::pair;
use super::sources::{self, Record, Records};
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

/// The first pairs of the training sets. `most` is how many; 0 is all. `codec` is made when the
/// first pair is found.
pub fn preference_pairs(
    config: &DataConfig,
    supply: &Arc<Supply>,
    codec: impl Fn() -> Result<Codec>,
    most: usize,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
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
                        return Ok(pairs);
                    }
                    pairs.push(show(record, &choice, codec, file)?);
                }
            }
        }
    }
    Ok(pairs)
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
            Error::new("preference pairs and records of another shape cannot be shown together")
                .at(&*self.file.name)
        })
    }
}

fn show(record: Record, choice: &Choice, codec: &Codec, file: &SetFile) -> Result<Pair> {
    let id = RecordId { file: file.name.clone(), line: record.line };
    let content = record.content.and_then(|mut fields| choice.format.read(&mut fields));
    match content {
        Ok(Content::Preference { chosen, rejected }) => {
            let shown = pair(codec, &chosen, &rejected)?;
            Ok(Pair { record: id, chosen: shown.chosen, rejected: shown.rejected })
        }
        Ok(_) => Err(Error::new("the record is no preference pair")),
        Err(reason) => Err(Error::new(reason)),
    }
    .map_err(|error| match error.place {
        None => error.at_position(&*file.name, usize::try_from(record.line).unwrap_or(0), 1),
        Some(_) => error,
    })
}
