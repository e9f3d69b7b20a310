//! A configuration in the making, and what becomes of the settings of another tool.

use std::collections::BTreeMap;

use super::yaml::{YamlNode, YamlValue};
use crate::document::{quoted, value_of};
use crate::settings;

/// What becomes of a setting.
#[derive(Clone, Copy)]
pub enum Action {
    /// It is the value of this key.
    Key(&'static str),
    /// Something else is made of it.
    Make(fn(&YamlNode, &mut Draft) -> Result<(), String>),
    /// It has no key here, which concerns nobody where it is off.
    Without(&'static str),
    /// It is of a part of the other tool that has done its work when a configuration is read.
    Nothing,
}

/// Keys of a table and their values in TOML.
pub type TableLines = Vec<(&'static str, String)>;
/// A data set.
pub type DataSet = TableLines;

/// A configuration in the making.
#[derive(Debug, Default)]
pub struct Draft {
    /// Values in TOML by the paths of their keys.
    values: BTreeMap<&'static str, String>,
    /// Data sets to train on.
    pub train: Vec<DataSet>,
    /// Data sets to validate on.
    pub validation: Vec<DataSet>,
    /// Groups of parameters.
    pub groups: Vec<TableLines>,
    /// Remarks about what was taken over in another sense.
    pub remarks: Vec<String>,
    /// Whether an adapter is trained, once that is known.
    pub adapter: bool,
}

/// A value in TOML.
pub fn toml(node: &YamlNode) -> Option<String> {
    Some(match &node.value {
        YamlValue::Flag(flag) => flag.to_string(),
        YamlValue::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("{number:.0}")
        }
        YamlValue::Number(number) => format!("{number:?}"),
        YamlValue::Text(text) => quoted(text),
        YamlValue::List(list) => {
            let items: Option<Vec<_>> = list.iter().map(toml).collect();
            format!("[{}]", items?.join(", "))
        }
        YamlValue::Null | YamlValue::Map(_) | YamlValue::Alias => return None,
    })
}

impl Draft {
    /// Gives a key a value.
    ///
    /// # Errors
    /// When the key does not take it.
    pub fn put(&mut self, key: &'static str, value: impl Into<String>) -> Result<(), String> {
        let value = value.into();
        if value_of(&settings::KEYS, key, &value).is_none() {
            return Err(format!("`{key}` does not take {value}"));
        }
        self.values.insert(key, value);
        Ok(())
    }

    /// The same with a value of the other tool.
    ///
    /// # Errors
    /// When the key does not take it.
    pub fn take(&mut self, key: &'static str, node: &YamlNode) -> Result<(), String> {
        let value = toml(node).ok_or_else(|| format!("`{key}` takes one value"))?;
        self.put(key, value)
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Takes a key back.
    pub fn remove(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// Says something about what was taken over in another sense.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// The configuration.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for section in settings::KEYS.sections() {
            let lines: Vec<String> = section
                .keys
                .iter()
                .filter_map(|key| Some(format!("{} = {}\n", key.name(), self.value(key.path)?)))
                .collect();
            let is_adapter = section.name == "lora" && self.adapter;
            if lines.is_empty() && !is_adapter {
                continue;
            }
            if !section.name.is_empty() {
                text += &format!("\n[{}]\n", section.name);
            }
            text += &lines.concat();
        }
        for (name, tables) in [
            ("train.param_groups", &self.groups),
            ("data.train", &self.train),
            ("data.validation", &self.validation),
        ] {
            for table in tables {
                text += &format!("\n[[{name}]]\n");
                for (key, value) in table {
                    text += &format!("{key} = {value}\n");
                }
            }
        }
        text
    }
}
