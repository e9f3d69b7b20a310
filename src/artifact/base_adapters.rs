//! Adapters that lie between a base and the adapter that is trained on top of them, as the lineage
//! of that one has them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::base_record::BaseRecord;
use crate::files::Digest;

/// Where the lineage has their names, in their order.
pub const ASKED: &str = "baseAdapters";
/// The role of their files.
pub const ROLE: &str = "base-adapter";
/// The role of their own lineages.
pub const LINEAGE_ROLE: &str = "base-adapter-lineage";

/// An adapter below another one.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseAdapter {
    /// As the lineage calls it.
    pub id: String,
    /// As the user called it, where that is known.
    pub asked: Option<String>,
    /// The commit, if it came from a hub.
    pub revision: Option<String>,
    /// Its files.
    pub files: BTreeMap<String, Digest>,
}

impl BaseAdapter {
    /// Those that a lineage names, in their order; `beside` is the build definition of the
    /// provenance that stands beside the artifact, where there is one.
    pub fn all(inputs: &Value, beside: &Value) -> Vec<Self> {
        let named = |build: &Value| build["externalParameters"][ASKED].as_array().cloned();
        let all = named(inputs).unwrap_or_default();
        let asked = named(beside).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of = |(number, name): (usize, &Value)| {
            let asked = asked.get(number - 1).and_then(|it| text(&it["id"]));
            Some(Self {
                id: text(&name["id"])?,
                asked,
                revision: text(&name["revision"]),
                files: files(inputs, number),
            })
        };
        (1..).zip(&all).filter_map(of).collect()
    }
}

/// The files of the adapter of a number, counted from 1.
fn files(inputs: &Value, number: usize) -> BTreeMap<String, Digest> {
    let entries = inputs["resolvedDependencies"].as_array().into_iter().flatten();
    let of_role = entries.filter(|entry| entry["annotations"]["role"] == ROLE);
    let file = |entry: &Value| {
        let name = entry["name"].as_str()?.strip_prefix(&folder(number))?.to_owned();
        Some((name, entry["digest"]["sha256"].as_str()?.parse().ok()?))
    };
    of_role.filter_map(file).collect()
}

/// What the names of the files of the adapter of a number begin with.
pub fn folder(number: usize) -> String {
    format!("base-adapters/{number}/")
}

/// Everything that a lineage has of them.
pub(super) fn dependencies(all: &[BaseRecord]) -> Vec<Value> {
    let of = |(number, record): (usize, &BaseRecord)| {
        let mut list = record.dependencies(ROLE);
        list.extend(record.parent.as_ref().map(|parent| parent.to_dependency(LINEAGE_ROLE)));
        for entry in &mut list {
            let name = entry["name"].as_str().unwrap_or_default();
            entry["name"] = format!("{}{name}", folder(number)).into();
        }
        list
    };
    (1..).zip(all).flat_map(of).collect()
}
