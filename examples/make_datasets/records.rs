//! Invented people, orders, appointments and requests: their values, and the same as JSON.

use serde_json::{Value, json};

use crate::dice::{Dice, Values, fill};
use crate::phrases::people::{
    APPOINTMENT, CONVERSIONS, CONVERT, ORDER, PERSON, RecordForm, TIME, TRANSLATE, Tool, WEATHER,
};
use crate::tables::{
    CITIES, COUNTRIES, HOBBIES, JOBS, MEN, SURNAMES, THINGS, WEEKDAYS, WOMEN, WORDS,
};

/// Which names, cities and words may be used: some are kept for validation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Share {
    All,
    Train,
    Validation,
}

impl Share {
    /// Every seventh entry of a table belongs to validation.
    fn pick<T: Copy>(self, dice: &mut Dice, items: &[T]) -> T {
        loop {
            let index = dice.below(items.len());
            let held_out = index % 7 == 3;
            if self == Self::All || held_out == (self == Self::Validation) {
                return items[index];
            }
        }
    }
}

/// The values of an invented person: name, age, city, job, hobby and pronouns.
pub fn person(dice: &mut Dice, share: Share) -> Values {
    let woman = dice.chance(50);
    let first = share.pick(dice, if woman { WOMEN } else { MEN });
    let name = format!("{first} {}", share.pick(dice, SURNAMES));
    let (job, place, does) = dice.pick(JOBS);
    let age = dice.between(18, 74).to_string();
    let pronouns = if woman { ["she", "her", "her"] } else { ["he", "his", "him"] };
    let pairs = [
        ("name", name.as_str()),
        ("first", first),
        ("age", &age),
        ("city", share.pick(dice, CITIES)),
        ("job", job),
        ("place", place),
        ("does", does),
        ("hobby", dice.pick(HOBBIES)),
        ("he", pronouns[0]),
        ("his", pronouns[1]),
        ("him", pronouns[2]),
    ];
    pairs.map(|(key, value)| (key, value.to_string())).to_vec()
}

/// One value, by key.
pub fn get<'a>(values: &'a Values, key: &str) -> &'a str {
    let found = values.iter().find(|(name, _)| *name == key);
    &found.unwrap_or_else(|| panic!("no value named `{key}`")).1
}

/// A record in words and as JSON.
pub struct Record {
    pub form: &'static RecordForm,
    pub tell: String,
    pub json: Value,
}

/// A random record; persons are twice as frequent as the other forms.
pub fn record(dice: &mut Dice, share: Share) -> Record {
    let mut values = person(dice, share);
    let (form, json) = match dice.below(4) {
        0 => {
            let (count, price) = (dice.between(2, 40), dice.between(2, 99));
            let (_, item) = share.pick(dice, THINGS);
            values.push(("count", count.to_string()));
            values.push(("price", price.to_string()));
            values.push(("item", item.to_string()));
            (&ORDER, json!({ "item": item, "count": count, "price": price }))
        }
        1 => {
            let day = dice.pick(WEEKDAYS);
            let time = clock(dice);
            values.push(("day", day.to_string()));
            values.push(("time", time.clone()));
            (&APPOINTMENT, json!({ "with": get(&values, "name"), "day": day, "time": time }))
        }
        _ => (&PERSON, person_json(&values)),
    };
    Record { form, tell: fill(dice.pick(form.tell), &values), json }
}

/// The JSON of a person.
pub fn person_json(values: &Values) -> Value {
    let age: u32 = get(values, "age").parse().expect("ages are numbers");
    json!({ "name": get(values, "name"), "age": age, "city": get(values, "city") })
}

/// A time of day in steps of five minutes.
pub fn clock(dice: &mut Dice) -> String {
    format!("{:02}:{:02}", dice.between(7, 21), 5 * dice.below(12))
}

/// A request to a tool: the values for its sentences, and the call.
pub struct Call {
    pub tool: &'static Tool,
    pub values: Values,
    pub json: Value,
}

/// A random request.
pub fn call(dice: &mut Dice, share: Share) -> Call {
    let mut values = person(dice, share);
    let city = get(&values, "city").to_string();
    let (tool, arguments) = match dice.below(10) {
        0..=2 => (&WEATHER, json!({ "city": city })),
        3..=5 => (&TIME, json!({ "city": city })),
        6..=7 => {
            let (from, to) = dice.pick(CONVERSIONS);
            let amount = dice.between(2, 250);
            values.push(("amount", amount.to_string()));
            values.push(("from", from.to_string()));
            values.push(("to", to.to_string()));
            (&CONVERT, json!({ "amount": amount, "from": from, "to": to }))
        }
        _ => {
            let word = share.pick(dice, WORDS);
            let language = loop {
                let language = dice.pick(COUNTRIES).language;
                if language != "English" {
                    break language;
                }
            };
            values.push(("word", word.to_string()));
            values.push(("language", language.to_string()));
            (&TRANSLATE, json!({ "word": word, "language": language }))
        }
    };
    Call { tool, values, json: json!({ "name": tool.name, "arguments": arguments }) }
}

/// JSON on one line, with a space after each comma and colon.
pub fn json_text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(json_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), json_text(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        scalar => scalar.to_string(),
    }
}
