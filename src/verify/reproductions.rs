//! Who made a model again and got the same bytes, by what is attested beside it.

use std::collections::BTreeMap;
use std::path::Path;

use super::report::{Check, Report, Verdict};
use super::signer::who_signed;
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::attestations::lines;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::reproduction::{self, Outcome};
use crate::error::Result;
use crate::files::parse_json;

/// Those who vouch, and why others do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reproducers {
    /// The short name of each, by the hint of its key.
    pub counted: BTreeMap<String, String>,
    /// Line and reason.
    pub passed_over: Vec<String>,
}

impl Reproducers {
    /// Whether there are so many, and who they are, or why there are fewer.
    pub fn told(&self, wanted: usize) -> (bool, String) {
        let count = self.counted.len();
        let names: Vec<&str> = self.counted.values().map(String::as_str).collect();
        let names = names.join(", ");
        if count >= wanted {
            return (true, format!("same bytes by {names}"));
        }
        let mut told = format!("{count} of {wanted} others got the same bytes");
        if !names.is_empty() {
            told += &format!(": {names}");
        }
        if !self.passed_over.is_empty() {
            told += &format!("; not counted: {}", self.passed_over.join("; "));
        }
        (false, told)
    }
}

/// Reads what is attested of a model that was checked. Whoever signed the model itself does not
/// count: that it did so twice proves nothing.
///
/// # Errors
/// When the attestations cannot be read.
pub fn reproducers(directory: &Path, report: &Report, trust: &Trust) -> Result<Reproducers> {
    let mut found = Reproducers::default();
    for (index, line) in lines(directory)?.iter().enumerate() {
        let Ok(bundle) = Bundle::parse(line.as_bytes()) else { continue };
        let Ok(statement) = parse_json(&bundle.payload) else { continue };
        if bundle.payload_type != IN_TOTO {
            continue;
        }
        let Some(read) = reproduction::read(&statement, &report.files) else { continue };
        let time = statement["predicate"]["finishedOn"].as_str();
        let time = time.and_then(|text| text.parse().ok());
        let signed = who_signed(&bundle, trust, Role::Reproduce, time);
        let own = report.signer.as_ref().is_some_and(|it| it.hint == signed.signer.hint);
        let why = match (read, signed.objection) {
            (_, Some(why)) => why,
            _ if own => format!("the {} has signed the model itself", signed.name),
            (Ok(Outcome::SameBytes), None) => {
                found.counted.insert(signed.signer.hint, signed.name);
                continue;
            }
            (Ok(other), None) => format!("its outcome is `{}`", other.name()),
            (Err(why), None) => why,
        };
        found.passed_over.push(format!("line {}: {why}", index + 1));
    }
    Ok(found)
}

/// Demands that so many others got the same bytes, as a further check of the report.
pub fn demand_reproducers(directory: &Path, wanted: usize, trust: &Trust, report: &mut Report) {
    let found = match reproducers(directory, report, trust) {
        Ok(found) => found,
        Err(error) => return report.error(Check::Reproduced, &error),
    };
    let detail = match found.told(wanted) {
        (true, detail) => return report.pass(Check::Reproduced, detail),
        (false, detail) => detail,
    };
    let hint = "`firebrand reproduce` makes it again and signs what came of it; trust the keys of \
                those who did so, with the role `reproduce`";
    report.fail(Check::Reproduced, Verdict::Untrusted, detail, hint);
}
