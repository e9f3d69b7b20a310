//! What a GGUF file says of its model: values by key, and which of them were asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataValue {
    /// A whole number that is not negative.
    Integer(u64),
    /// One that is.
    Negative(i64),
    /// A fraction.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(String),
    /// Several of one type.
    List(Vec<MetadataValue>),
}

impl MetadataValue {
    /// Of a type with a sign.
    pub fn signed(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Negative(number), Self::Integer)
    }

    /// The whole number, if it is one.
    pub fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[expect(clippy::cast_precision_loss)] // metadata has small ones
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Negative(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

/// Values by key.
#[derive(Debug, Default)]
pub struct Metadata {
    values: BTreeMap<String, MetadataValue>,
    asked: RefCell<BTreeSet<String>>,
}

impl Metadata {
    /// These values, of which none was asked for yet.
    pub fn new(values: BTreeMap<String, MetadataValue>) -> Self {
        Self { values, asked: RefCell::default() }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.values.get(key)
    }

    /// The whole number of a key, if it has one.
    ///
    /// # Errors
    /// When it is something else.
    pub fn integer(&self, key: &str) -> Result<Option<u64>, String> {
        self.of(key, "a whole number", MetadataValue::integer)
    }

    /// The number of a key, if it has one.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.of(key, "a number", MetadataValue::number)
    }

    /// The text of a key, if it has one.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.of(key, "a text", MetadataValue::text)
    }

    /// Whether a key is set; `default` where it is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        let flag = |value: &MetadataValue| match value {
            MetadataValue::Flag(flag) => Some(*flag),
            _ => None,
        };
        self.of(key, "true or false", flag).map(|flag| flag.unwrap_or(default))
    }

    /// The items of a key, if it has some.
    ///
    /// # Errors
    /// When it is no list.
    pub fn list(&self, key: &str) -> Result<Option<&[MetadataValue]>, String> {
        self.of(key, "a list", MetadataValue::list)
    }

    fn of<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        take: impl FnOnce(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match take(value) {
                Some(taken) => Ok(Some(taken)),
                None => Err(format!("`{key}` must be {what}")),
            },
        }
    }

    /// The first key below `prefix` that nothing asked for: it says something of the model that
    /// would be ignored.
    pub fn ignored(&self, prefix: &str) -> Option<&str> {
        let asked = self.asked.borrow();
        let below = self.values.keys().filter(|key| key.starts_with(prefix));
        below.map(String::as_str).find(|key| !asked.contains(*key))
    }
}
