//! What a sweep puts into a configuration.

use crate::error::Place;

/// What stands for the name of the data set in a value.
const DATASET_NAME: &str = "{dataset}";

/// A setting with its value, and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its dotted path.
    pub key: String,
    /// Its value as TOML.
    pub toml: String,
    /// Where it was written.
    pub written: Place,
}

/// A data set.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// In place of the configuration's only training set.
    pub train: Option<Setting>,
    /// In place of the configuration's only validation set.
    pub validation: Option<Setting>,
    /// Settings of the runs with it.
    pub set: Vec<Setting>,
}

impl Setting {
    /// The same with the name of a data set in place of `{dataset}`.
    #[must_use]
    pub fn of_dataset(&self, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self { toml: self.toml.replace(DATASET_NAME, name), ..self.clone() },
            None => self.clone(),
        }
    }
}
