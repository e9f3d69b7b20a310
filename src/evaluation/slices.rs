//! Which slice of each kind a record belongs to.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::suite::{SliceBy, Suite};
use super::suite_keys::SLICES_MAX;
use crate::data::Case;
use crate::error::{Error, Result};

/// Records in which the column is missing or null.
pub const NONE: &str = "(none)";

/// The names of the slices by one property, and of each case which of them it is in. A case outside
/// the values that were named is in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    /// By what.
    pub by: String,
    /// The slices, in the order in which they are shown.
    pub names: Vec<String>,
    /// Of each case, its place in the names.
    pub of: Vec<Option<usize>>,
}

/// Tells the cases apart by everything that the suite names.
pub fn slices(suite: &Suite, cases: &[Case]) -> Result<Vec<Slices>> {
    suite.slices.iter().map(|by| slice(by, cases).map_err(|error| error.at(&suite.path))).collect()
}

fn slice(by: &SliceBy, cases: &[Case]) -> Result<Slices> {
    let (names, of) = match by {
        SliceBy::Length(bands) => {
            let place = |case: &Case| Some(bands.partition_point(|bound| *bound < case.tokens()));
            (band_names(bands), cases.iter().map(place).collect())
        }
        SliceBy::Column { column, values } => {
            let texts: Vec<String> = cases.iter().map(|case| text(&case.fields, column)).collect();
            let names: Vec<String> = match values.as_slice() {
                [] => texts.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect(),
                values => values.to_vec(),
            };
            if names.len() > SLICES_MAX {
                return Err(Error::evaluation(format!(
                    "the column `{column}` has {} different values",
                    names.len()
                ))
                .hint(format!("slices are for at most {SLICES_MAX}; name some with `values`")));
            }
            if values.is_empty() && names.iter().all(|name| name == NONE) {
                return Err(Error::evaluation(format!("no record has the column `{column}`"))
                    .hint("columns are named as they stand in the records, e.g. `meta.lang`"));
            }
            let place = |text: &String| names.iter().position(|name| name == text);
            let of = texts.iter().map(place).collect();
            (names, of)
        }
    };
    Ok(Slices { by: by.name().to_owned(), names, of })
}

fn band_names(bands: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    let mut from = 0;
    for bound in bands {
        names.push(format!("{from}-{bound}"));
        from = bound + 1;
    }
    names.push(format!("{from}+"));
    names
}

/// What a column holds, as text.
fn text(fields: &Map<String, Value>, column: &str) -> String {
    let mut parts = column.split('.');
    let first = fields.get(column).or_else(|| fields.get(parts.next().unwrap_or_default()));
    let found = match fields.contains_key(column) {
        true => first,
        false => parts.fold(first, |value, part| value.and_then(|value| value.get(part))),
    };
    match found {
        None | Some(Value::Null) => NONE.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::data::{Example, RecordId};
    use crate::files::Digest;
    use crate::snapshots::says;

    fn case(fields: Value, tokens: usize) -> Case {
        let example = Example { tokens: vec![1; tokens], loss_mask: vec![true; tokens] };
        Case {
            record: RecordId { file: Arc::from("a"), line: 1 },
            digest: Digest::of(b""),
            fields: fields.as_object().unwrap().clone(),
            examples: vec![example],
            question: None,
        }
    }

    #[test]
    fn bands_of_length_hold_their_upper_bound() {
        let cases: Vec<Case> = [1, 4, 5, 9, 10].map(|tokens| case(json!({}), tokens)).into();
        let found = slice(&SliceBy::Length(vec![4, 9]), &cases).unwrap();
        assert_eq!(found.names, ["0-4", "5-9", "10+"]);
        assert_eq!(found.of, [Some(0), Some(0), Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn columns_are_found_at_any_depth_and_may_be_missing() {
        let cases = vec![
            case(json!({"meta": {"lang": "fr"}}), 1),
            case(json!({"meta": {"lang": 7}}), 1),
            case(json!({"meta": null}), 1),
            case(json!({"meta.lang": "en"}), 1),
        ];
        let by = |values: &[&str]| SliceBy::Column {
            column: "meta.lang".to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let found = slice(&by(&[]), &cases).unwrap();
        assert_eq!(found.names, [NONE, "7", "en", "fr"]);
        assert_eq!(found.of, [Some(3), Some(1), Some(0), Some(2)]);
        let found = slice(&by(&["fr", "de"]), &cases).unwrap();
        assert_eq!(found.of, [Some(0), None, None, None]);
        let other = SliceBy::Column { column: "lang".to_owned(), values: vec![] };
        says(
            slice(&other, &cases).unwrap_err(),
            snapbox::str![[r#"
error[evaluation]: no record has the column `lang`

hint: columns are named as they stand in the records, e.g. `meta.lang`
"#]],
        );
    }

    #[test]
    fn a_column_of_identifiers_makes_no_slices() {
        let cases: Vec<Case> = (0..200).map(|id| case(json!({ "id": id }), 1)).collect();
        let by = SliceBy::Column { column: "id".to_owned(), values: vec![] };
        says(
            slice(&by, &cases).unwrap_err(),
            snapbox::str![[r#"
error[evaluation]: the column `id` has 200 different values

hint: slices are for at most 100; name some with `values`
"#]],
        );
    }
}
