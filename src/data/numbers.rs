//! Numbers that records have for how they are trained on: the weight of their loss, and what their
//! order goes by.

use serde_json::Value;

use super::example::RecordNumbers;
use super::formats::{Fields, find};
use super::made::Record;
use crate::config::DataConfig;

/// `data.order` for the number of tokens, which no column holds.
pub const LENGTH: &str = "length";

/// Where records have those numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberColumns {
    weight: Option<String>,
    order: Option<String>,
    margin: Option<String>,
    /// Whether the first two are read, or only known as what they are.
    read: bool,
}

impl NumberColumns {
    /// Those of a configuration; none where it names none.
    pub fn of(config: &DataConfig) -> Option<Self> {
        let order = order_column(config).map(str::to_owned);
        let (weight, margin) = (config.sample_weight.clone(), config.margin.clone());
        let named = weight.is_some() || order.is_some() || margin.is_some();
        named.then_some(Self { weight, order, margin, read: true })
    }

    /// The same where weights and orders mean nothing.
    #[must_use]
    pub fn unread(self) -> Self {
        Self { read: false, ..self }
    }

    /// Takes the numbers out of records; what has none that can be used says so.
    pub fn take(&self, records: &mut [Record]) -> Vec<RecordNumbers> {
        let take = |record: &mut Record| {
            let Ok((_, left)) = &mut record.content else { return RecordNumbers::default() };
            let found = self.numbers(left);
            for column in [&self.weight, &self.order, &self.margin].into_iter().flatten() {
                left.remove(column);
            }
            found.unwrap_or_else(|why| {
                record.content = Err(why);
                RecordNumbers::default()
            })
        };
        records.iter_mut().map(take).collect()
    }

    fn numbers(&self, left: &Fields) -> Result<RecordNumbers, String> {
        let mut numbers = RecordNumbers::default();
        if let Some(column) = self.weight.as_ref().filter(|_| self.read) {
            let wanted = "a number of at least 0";
            let weight = number(left, column, "data.sample_weight", wanted, |it| it >= 0.0)?;
            #[expect(clippy::cast_possible_truncation)] // losses are f32
            let weight = weight as f32;
            numbers.weight = weight.min(f32::MAX);
        }
        if let Some(column) = self.order.as_ref().filter(|_| self.read) {
            numbers.order = number(left, column, "data.order", "a number", |_| true)?;
        }
        if let Some(column) = &self.margin {
            let margin = number(left, column, "reward.margin", "a number", |_| true)?;
            #[expect(clippy::cast_possible_truncation)] // scores are f32
            let margin = margin as f32;
            numbers.margin = margin.clamp(f32::MIN, f32::MAX);
        }
        Ok(numbers)
    }
}

/// The column that the order goes by, if it goes by one.
pub fn order_column(config: &DataConfig) -> Option<&str> {
    config.order.as_deref().filter(|order| *order != LENGTH)
}

/// What a column holds. CSV has numbers as texts.
fn number(
    left: &Fields,
    column: &str,
    key: &str,
    wanted: &str,
    fits: impl Fn(f64) -> bool,
) -> Result<f64, String> {
    let value = find(left, column)
        .ok_or_else(|| format!("the column `{column}`, which `{key}` names, is missing"))?;
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite() && fits(*number)).ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        format!("`{column}`, which `{key}` names, must be {wanted}, not `{}`", shown.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::data::example::{RecordId, RecordOutcome};
    use crate::data::fixture::{codec, config};
    use crate::data::formats::Content;
    use crate::data::maker::Maker;

    fn made(fields: &Value, read: bool) -> Result<(RecordNumbers, usize), String> {
        let codec = codec();
        let mut config = config(&[Path::new("a.jsonl")]);
        config.sample_weight = Some("weight".to_owned());
        config.order = Some("meta.rank".to_owned());
        let content = Content::Completion { prompt: "a".into(), completion: " b".into() };
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        let mut maker = Maker::new(&codec, &config);
        if !read {
            maker = maker.of_validation();
        }
        let left = fields.as_object().unwrap().clone();
        let made = maker.make(content, left, &record).unwrap();
        match made.outcome {
            RecordOutcome::Bad(why) => Err(why),
            RecordOutcome::NothingToLearn => Err("it has no targets".to_owned()),
            _ => Ok((made.numbers, made.unused.len())),
        }
    }

    #[test]
    fn numbers_are_read_where_they_are_named() {
        let numbers = |weight, order| {
            let read = RecordNumbers { weight, order, ..RecordNumbers::default() };
            Ok((read, 1))
        };
        let both = json!({"weight": 0.5, "meta": {"rank": -3}});
        assert_eq!(made(&both, true), numbers(0.5, -3.0), "the object itself is not used");
        let texts = json!({"weight": "2", "meta": {"rank": " 1e3 "}});
        assert_eq!(made(&texts, true), numbers(2.0, 1000.0));
        assert_eq!(made(&json!({"weight": "none"}), false), Ok((RecordNumbers::default(), 0)));
    }

    #[test]
    fn what_is_no_number_is_told_so() {
        let why = |fields| made(&fields, true).unwrap_err();
        assert_eq!(
            why(json!({"meta": {"rank": 1}})),
            "the column `weight`, which `data.sample_weight` names, is missing"
        );
        assert_eq!(
            why(json!({"weight": -1, "meta": {"rank": 1}})),
            "`weight`, which `data.sample_weight` names, must be a number of at least 0, not `-1`"
        );
        assert_eq!(
            why(json!({"weight": 1, "meta": {"rank": "high"}})),
            "`meta.rank`, which `data.order` names, must be a number, not `\\\"high\\\"`"
        );
        assert_eq!(why(json!({"weight": 0, "meta": {"rank": 1}})), "it has no targets");
    }
}
