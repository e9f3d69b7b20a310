//! Who made a model again and got the same bytes, by what is attested beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::report::{Check, Report, Signer, Verdict};
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
    /// The short name of each, by the subject of its certificate or the hint of its key.
    pub counted: BTreeMap<String, String>,
    /// Line and reason.
    pub passed_over: Vec<String>,
}

/// So many reasons are told. Whoever can write beside a model can add lines without end.
const TOLD: usize = 5;

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
            let shown = self.passed_over.len().min(TOLD);
            told += &format!("; not counted: {}", self.passed_over[..shown].join("; "));
            if self.passed_over.len() > shown {
                told += &format!("; and {} more", self.passed_over.len() - shown);
            }
        }
        (false, told)
    }
}

/// Who it is, whichever of its certificates it signs with: they name it, and each may have a key
/// of its own. The keys of an identity are of minutes, and the hint is its own.
fn person(signer: &Signer) -> &str {
    match (&signer.certificate, &signer.issuer) {
        (Some(subject), None) => subject,
        _ => &signer.hint,
    }
}

/// Reads what is attested of a model that was checked. Whoever signed the model itself does not
/// count: that it did so twice proves nothing. That is the one of the present signature; who signed
/// it before is not known.
///
/// # Errors
/// When the attestations cannot be read.
pub fn reproducers(directory: &Path, report: &Report, trust: &Trust) -> Result<Reproducers> {
    let mut found = Reproducers::default();
    // A key is one, with a certificate and without.
    let mut hints = BTreeSet::new();
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
        let own = report.signer.as_ref().is_some_and(|it| {
            let same_key = signed.holds == Some(true) && it.hint == signed.signer.hint;
            // Anybody can write a certificate; its subject means something where it counts.
            same_key || (signed.objection.is_none() && person(it) == person(&signed.signer))
        });
        let why = match (read, signed.objection) {
            _ if own => format!("the {} has signed the model itself", signed.name),
            (_, Some(why)) => why,
            (Ok(Outcome::SameBytes), None) => {
                let person = person(&signed.signer).to_owned();
                if hints.insert(signed.signer.hint) {
                    found.counted.entry(person).or_insert(signed.name);
                }
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
    let (enough, detail) = found.told(wanted);
    if enough {
        return report.pass(Check::Reproduced, detail);
    }
    let hint = "`firebrand reproduce` makes it again and signs what came of it; name those who did \
                so in `trusted-keys.toml`, with the role `reproduce` among their `roles`";
    report.fail(Check::Reproduced, Verdict::Untrusted, detail, hint);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn of_many_who_do_not_count_some_are_told() {
        let told = |count: usize| {
            let passed_over = (1..=count).map(|line| format!("line {line}: no")).collect();
            Reproducers { passed_over, ..Reproducers::default() }.told(1).1
        };
        says(
            [told(5), told(205)].join("\n"),
            snapbox::str![[r#"
0 of 1 others got the same bytes; not counted: line 1: no; line 2: no; line 3: no; line 4: no; line 5: no
0 of 1 others got the same bytes; not counted: line 1: no; line 2: no; line 3: no; line 4: no; line 5: no; and 200 more
"#]],
        );
    }
}
