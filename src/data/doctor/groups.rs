//! Findings of many records, put together: how many, where the first one is, in bounded memory.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::data::finding::FindingKind;

/// So many different reasons are told apart.
const REASONS: usize = 1000;
/// So many reasons that differ in a name alone are shown one by one; more are one.
const VARIANTS: usize = 3;

/// Findings of one kind for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingGroup {
    /// Their kind.
    pub finding: FindingKind,
    /// The reason, in the words of the first record.
    pub reason: String,
    /// Records that have it.
    pub records: u64,
    /// How often: turns, or tokens where tokens are lost.
    pub count: u64,
    /// The first record, as file and line.
    pub first: String,
    /// Whether the names in the reason are those of the first record alone.
    pub varies: bool,
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups {
    by_reason: BTreeMap<(FindingKind, String), (u64, FindingGroup)>,
    /// Records by kind, each counted once.
    records: BTreeMap<FindingKind, u64>,
    number: u64,
}

impl Groups {
    /// Counts a finding of a record; those of one record come one after the other.
    pub fn add(&mut self, finding: FindingKind, reason: &str, count: u64, place: &str) {
        let key = self.key(finding, reason);
        self.number += 1;
        let number = self.number;
        let (_, group) = self.by_reason.entry((finding, key)).or_insert_with(|| {
            let (reason, first) = (reason.to_owned(), place.to_owned());
            (number, FindingGroup { finding, reason, records: 0, count: 0, first, varies: false })
        });
        group.records += 1;
        group.count += count;
        group.varies |= group.reason != reason;
    }

    /// Counts a record that has findings of a kind.
    pub fn add_record(&mut self, finding: FindingKind) {
        *self.records.entry(finding).or_default() += 1;
    }

    /// Records that have findings of a kind.
    pub fn records(&self, finding: FindingKind) -> u64 {
        self.records.get(&finding).copied().unwrap_or(0)
    }

    fn key(&self, finding: FindingKind, reason: &str) -> String {
        let key = without_numbers(reason);
        let full = self.by_reason.len() >= REASONS;
        if !full || self.by_reason.contains_key(&(finding, key.clone())) {
            return key;
        }
        let wider = without_names(reason);
        let has = |key: &String| self.by_reason.contains_key(&(finding, key.clone()));
        if has(&wider) || self.by_reason.len() < 2 * REASONS { wider } else { String::new() }
    }

    /// The groups: by kind, those of most records first, of equal ones the one that came first.
    pub fn all(&self) -> Vec<FindingGroup> {
        let mut alike: BTreeMap<(FindingKind, String), Vec<&(u64, FindingGroup)>> = BTreeMap::new();
        for ((kind, _), group) in &self.by_reason {
            alike.entry((*kind, without_names(&group.1.reason))).or_default().push(group);
        }
        let mut all: Vec<(u64, FindingGroup)> = Vec::new();
        for mut group in alike.into_values() {
            group.sort_by_key(|(number, _)| *number);
            if group.len() <= VARIANTS {
                all.extend(group.into_iter().cloned());
                continue;
            }
            let (number, mut one) = group[0].clone();
            one.records = group.iter().map(|(_, it)| it.records).sum();
            one.count = group.iter().map(|(_, it)| it.count).sum();
            one.varies = true;
            all.push((number, one));
        }
        all.sort_by_key(|(number, it)| (it.finding, std::cmp::Reverse(it.records), *number));
        all.into_iter().map(|(_, group)| group).collect()
    }
}

/// Numbers differ from record to record, and so do the few words of it that stand in brackets.
fn without_numbers(reason: &str) -> String {
    let mut out = String::new();
    let mut rest = reason;
    while let Some(c) = rest.chars().next() {
        if let Some(end) = rest.strip_prefix("(`").and_then(|inside| inside.find("`)")) {
            out.push_str("(`…`)");
            rest = &rest[end + 4..];
        } else if c.is_ascii_digit() {
            out.push('0');
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The same without anything that stands between backticks.
fn without_names(reason: &str) -> String {
    let parts = reason.split('`').enumerate();
    let parts = parts.map(|(index, part)| if index % 2 == 0 { part } else { "…" });
    without_numbers(&parts.collect::<Vec<_>>().join("`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: FindingKind = FindingKind::BadRecord;

    fn groups(reasons: &[&str]) -> Vec<FindingGroup> {
        let mut groups = Groups::default();
        for (line, reason) in reasons.iter().enumerate() {
            groups.add(BAD, reason, 1, &format!("a:{}", line + 1));
        }
        groups.all()
    }

    fn counts(groups: &[FindingGroup]) -> Vec<(u64, &str, bool)> {
        groups.iter().map(|group| (group.records, &*group.first, group.varies)).collect()
    }

    #[test]
    fn reasons_that_differ_in_numbers_and_examples_are_one() {
        let found = groups(&[
            "EOF at column 50",
            "calls (`a`) are not written",
            "EOF at column 7",
            "calls (`b(x=1)`) are not written",
            "calls (`a`) are not written",
        ]);
        assert_eq!(counts(&found), [(3, "a:2", true), (2, "a:1", true)]);
        assert_eq!(found[1].reason, "EOF at column 50");
    }

    #[test]
    fn names_are_told_apart_until_there_are_many() {
        let roles = |count: usize| -> Vec<String> {
            (0..count).map(|n| format!("the role `{}`", "x".repeat(n + 1))).collect()
        };
        let few = roles(3);
        assert_eq!(groups(&few.iter().map(String::as_str).collect::<Vec<_>>()).len(), 3);
        let many = roles(5000);
        let found = groups(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(counts(&found), [(5000, "a:1", true)]);
    }

    #[test]
    fn memory_is_bounded_whatever_the_reasons_are() {
        let mut groups = Groups::default();
        for number in 0..20_000_u32 {
            let letters: String =
                number.to_string().bytes().map(|b| char::from(b - b'0' + b'a')).collect();
            groups.add(BAD, &letters, 1, "a:1");
        }
        assert!(groups.by_reason.len() <= 2 * REASONS + 1);
        assert_eq!(groups.all().iter().map(|group| group.records).sum::<u64>(), 20_000);
    }
}
