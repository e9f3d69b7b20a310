//! Other names for the fields of a record, as the configuration gives them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Fields, found};

/// Fields that a record may do without, under whatever name. Parquet and CSV hold no null, so that
/// a missing one is all there is of it.
const OPTIONAL: [&str; 4] = ["input", "system", "history", "tools"];

/// Renames fields: the keys are our names, the values the names in the records. A name with dots
/// that is no field itself reaches into objects. What is not named stays as it is.
///
/// # Errors
/// Says which field is missing or null.
pub fn map_columns(
    mut fields: Fields,
    columns: &BTreeMap<String, String>,
) -> Result<Fields, String> {
    let mut mapped = Vec::with_capacity(columns.len());
    for (ours, theirs) in columns {
        match find(&fields, theirs) {
            Some(_) => mapped.push((ours, theirs, Value::Null)),
            None if OPTIONAL.contains(&ours.as_str()) => {}
            None => {
                let found = found(&fields);
                return Err(format!(
                    "the column `{theirs}`, which is to be `{ours}`, is missing, {found}"
                ));
            }
        }
    }
    for (_, theirs, value) in &mut mapped {
        let theirs = *theirs;
        // Conversations are large: what nobody else wants is moved.
        let wanted = |path: &&String| {
            let path = path.as_str();
            path == theirs
                || path.split_once('.').is_some_and(|(first, _)| theirs.starts_with(first))
        };
        let alone = columns.values().filter(wanted).count() == 1;
        let moved = if alone { fields.remove(theirs) } else { None };
        *value = moved.or_else(|| find(&fields, theirs).cloned()).unwrap_or_default();
    }
    // A field that was renamed is gone, and what had our name before is not meant.
    for name in columns.keys().chain(columns.values()) {
        fields.remove(name);
    }
    fields.extend(mapped.into_iter().map(|(ours, _, value)| (ours.clone(), value)));
    Ok(fields)
}

/// What a record has under a name, which may reach into objects; nothing where that is null.
pub fn find<'a>(fields: &'a Fields, path: &str) -> Option<&'a Value> {
    let value = match fields.get(path) {
        Some(value) => Some(value),
        // A name with dots may be the first part of a path as well.
        None => path.match_indices('.').find_map(|(dot, _)| {
            let inner = fields.get(&path[..dot])?.as_object()?;
            find(inner, &path[dot + 1..])
        }),
    };
    value.filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(fields: Value, columns: &[(&str, &str)]) -> Result<Value, String> {
        let Value::Object(fields) = fields else { panic!() };
        let columns = columns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        map_columns(fields, &columns).map(Value::Object)
    }

    #[test]
    fn fields_are_renamed_swapped_and_used_twice() {
        let record = json!({"q": "1", "a": "2", "id": 7});
        let mapped = map(record.clone(), &[("prompt", "q"), ("completion", "a")]).unwrap();
        assert_eq!(mapped, json!({"prompt": "1", "completion": "2", "id": 7}));
        assert_eq!(
            map(record.clone(), &[("q", "a"), ("a", "q")]).unwrap(),
            json!({"q": "2", "a": "1", "id": 7})
        );
        assert_eq!(
            map(record, &[("text", "q"), ("prompt", "q")]).unwrap(),
            json!({"text": "1", "prompt": "1", "a": "2", "id": 7})
        );
    }

    #[test]
    fn dots_reach_into_objects_unless_they_are_part_of_a_name() {
        let record = json!({"meta": {"a.b": {"text": "x"}}, "meta.text": "y"});
        assert_eq!(map(record.clone(), &[("text", "meta.a.b.text")]).unwrap()["text"], "x");
        assert_eq!(map(record, &[("text", "meta.text")]).unwrap()["text"], "y");
        let reason = map(json!({"meta": "text"}), &[("text", "meta.text")]).unwrap_err();
        assert_eq!(
            reason,
            "the column `meta.text`, which is to be `text`, is missing, found `meta`"
        );
    }

    #[test]
    fn a_missing_column_is_a_reason_unless_records_may_do_without() {
        let columns = [("instruction", "q"), ("input", "context")];
        let mapped = map(json!({"q": "1", "context": null, "input": "other"}), &columns).unwrap();
        assert_eq!(mapped, json!({"instruction": "1"}));
        assert!(map(json!({"q": null, "context": "c"}), &columns).is_err());
    }
}
