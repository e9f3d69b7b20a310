//! Variations of records, by rules and without a model: another wording around a question, other
//! names and numbers in all of a record, and noise. The same records and seed give the same ones.
//! They are there to be looked at: an answer with other names in it need not be right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::Case;
use crate::random::Stream;

/// How a record was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VariationKind {
    /// Words before the last thing that is asked.
    Paraphrase,
    /// Other names and numbers, the same ones throughout the record.
    EntitySwap,
    /// Letters in another order, no capitals, or nothing but capitals in what is asked.
    Noise,
}

impl VariationKind {
    const ALL: [Self; 3] = [Self::Paraphrase, Self::EntitySwap, Self::Noise];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paraphrase => "paraphrase",
            Self::EntitySwap => "entity_swap",
            Self::Noise => "noise",
        }
    }
}

/// A changed record.
pub struct Variation {
    /// The number of the record that it is of.
    pub of: usize,
    /// How it was changed.
    pub kind: VariationKind,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// What a question is put after.
const BEFORE: [&str; 8] = [
    "Please help me with this: ",
    "I have a question. ",
    "Could you answer this for me? ",
    "A friend of mine asks: ",
    "Here is what I need to know: ",
    "Let us try something else now. ",
    "I am in a hurry, so briefly: ",
    "Think about it carefully. ",
];

/// Numbers, and words with a capital.
static ENTITY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:\d+|\p{Lu}\p{L}+)\b").expect("it is an expression"));
/// Where a sentence begins, so that a capital says nothing.
static BEGIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?:^|[.?!:\n"“*>-])\s*$"#).expect("it is an expression"));
/// Fields that say what a record is and not what is in it.
const STRUCTURE: [&str; 11] = [
    "role",
    "from",
    "id",
    "tool_call_id",
    "name",
    "type",
    "tools",
    "label",
    "labels",
    "lang",
    "chat_template_kwargs",
];

/// So many variations of each kind of every record; fewer where a rule has nothing to change, or
/// makes the same again.
pub fn variations(cases: &[Case], each: usize, seed: u64) -> Vec<Variation> {
    let entities = Entities::of(cases);
    let mut all = Vec::new();
    for (of, case) in cases.iter().enumerate() {
        let stream = Stream::new(seed).site("variations").site(&case.digest.to_string());
        let mut seen = vec![case.fields.clone()];
        for kind in VariationKind::ALL {
            let first = stream.site(kind.name());
            for number in 0..each {
                let stream = first.number(number as u64);
                let start = (first.bits(0) as usize).wrapping_add(number);
                let mut fields = case.fields.clone();
                match kind {
                    VariationKind::Paraphrase => paraphrase(&mut fields, start),
                    VariationKind::EntitySwap => entities.swap(&mut fields, stream),
                    VariationKind::Noise => noise(&mut fields, start, stream),
                }
                if !seen.contains(&fields) {
                    seen.push(fields.clone());
                    all.push(Variation { of, kind, fields });
                }
            }
        }
    }
    all
}

/// What is asked, in the order of the record: turns of the user, instructions, prompts, texts.
fn questions(fields: &mut Map<String, Value>) -> Vec<&mut String> {
    let mut found = Vec::new();
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("messages" | "conversations" | "prompt", Value::Array(turns)) => {
                found.extend(turns.iter_mut().filter_map(of_user));
            }
            ("prompt" | "instruction" | "input" | "question" | "text", Value::String(text)) => {
                found.push(text);
            }
            _ => {}
        }
    }
    found.retain(|text| !text.trim().is_empty());
    found
}

/// What a user says in a turn.
fn of_user(turn: &mut Value) -> Option<&mut String> {
    let turn = turn.as_object_mut()?;
    let who = turn.get("role").or_else(|| turn.get("from"))?;
    if who != "user" && who != "human" {
        return None;
    }
    let name = if turn.contains_key("content") { "content" } else { "value" };
    match turn.get_mut(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn paraphrase(fields: &mut Map<String, Value>, start: usize) {
    if let Some(text) = questions(fields).pop() {
        text.insert_str(0, BEFORE[start % BEFORE.len()]);
    }
}

fn noise(fields: &mut Map<String, Value>, start: usize, stream: Stream) {
    for text in questions(fields) {
        *text = match start % 3 {
            0 => misspelt(text, stream),
            1 => text.to_lowercase().trim_end_matches(['.', '?', '!']).to_owned(),
            _ => text.to_uppercase(),
        };
    }
}

/// Two letters inside a word change places, in about every third word of four letters or more.
fn misspelt(text: &str, stream: Stream) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let mut begin = 0;
    let mut counter = 0;
    while begin < letters.len() {
        let length = letters[begin..].iter().take_while(|letter| letter.is_alphabetic()).count();
        if length >= 4 {
            if stream.bits(counter).is_multiple_of(3) {
                let inside = (length - 3) as u64 + 1;
                let at = begin + 1 + (stream.bits(counter + 1) % inside) as usize;
                letters.swap(at, (at + 1).min(begin + length - 1));
            }
            counter += 2;
        }
        begin += length.max(1);
    }
    letters.into_iter().collect()
}

/// Numbers and names of all records.
struct Entities {
    numbers: Vec<String>,
    names: Vec<String>,
}

impl Entities {
    fn of(cases: &[Case]) -> Self {
        let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
        for case in cases {
            for text in texts(&case.fields) {
                for found in ENTITY.find_iter(text) {
                    let is_number = found.as_str().starts_with(|it: char| it.is_ascii_digit());
                    if is_number {
                        numbers.insert(found.as_str().to_owned());
                    } else if !BEGIN.is_match(&text[..found.start()]) {
                        names.insert(found.as_str().to_owned());
                    }
                }
            }
        }
        Self { numbers: numbers.into_iter().collect(), names: names.into_iter().collect() }
    }

    /// Another one of the same kind, if it is one of these and there is another.
    fn other(&self, entity: &str, stream: Stream, counter: u64) -> Option<String> {
        for all in [&self.numbers, &self.names] {
            if let Ok(place) = all.binary_search_by(|it| it.as_str().cmp(entity)) {
                let others = all.len() as u64 - 1;
                if others == 0 {
                    return None;
                }
                let step = 1 + (stream.bits(counter) % others) as usize;
                return Some(all[(place + step) % all.len()].clone());
            }
        }
        None
    }

    fn swap(&self, fields: &mut Map<String, Value>, stream: Stream) {
        let mut chosen: BTreeMap<String, String> = BTreeMap::new();
        let mut counter = 0;
        for text in texts(fields) {
            for found in ENTITY.find_iter(text).map(|found| found.as_str()) {
                if !chosen.contains_key(found) {
                    let other = self.other(found, stream, counter);
                    chosen.insert(found.to_owned(), other.unwrap_or_else(|| found.to_owned()));
                    counter += 1;
                }
            }
        }
        let mut change = |text: &mut String| {
            let changed = ENTITY.replace_all(text, |found: &Captures| {
                chosen.get(&found[0]).map_or(found[0].to_owned(), Clone::clone)
            });
            *text = changed.into_owned();
        };
        for (name, value) in fields.iter_mut() {
            change_texts(name, value, &mut change);
        }
    }
}

/// All texts of a record but those that say what it is.
fn texts(fields: &Map<String, Value>) -> Vec<&str> {
    fn collect<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            _ if STRUCTURE.contains(&name) => {}
            Value::String(text) => found.push(text),
            Value::Array(values) => values.iter().for_each(|value| collect("", value, found)),
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| collect(name, value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    fields.iter().for_each(|(name, value)| collect(name, value, &mut found));
    found
}

fn change_texts(name: &str, value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        _ if STRUCTURE.contains(&name) => {}
        Value::String(text) => change(text),
        Value::Array(values) => {
            values.iter_mut().for_each(|value| change_texts("", value, change));
        }
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| change_texts(name, value, change));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::data::RecordId;
    use crate::files::Digest;

    fn case(fields: Value) -> Case {
        Case {
            record: RecordId { file: Arc::from("a"), line: 1 },
            digest: Digest::of(fields.to_string().as_bytes()),
            fields: fields.as_object().unwrap().clone(),
            examples: Vec::new(),
            question: None,
        }
    }

    fn turns(question: &str, answer: &str) -> Case {
        case(json!({"messages": [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer},
        ]}))
    }

    #[test]
    fn names_and_numbers_change_throughout_a_record_and_nothing_else_does() {
        let cases = [
            turns("Where is Oslo, and who are its 7 mayors?", "It is in Norway. Oslo has 7."),
            turns("Tell me about Bern or Rome.", "They have 12 hills."),
        ];
        let made = variations(&cases, 1, 5);
        let swapped: Vec<&Variation> =
            made.iter().filter(|it| it.kind == VariationKind::EntitySwap && it.of == 0).collect();
        let [one] = swapped.as_slice() else { panic!("{}", swapped.len()) };
        let said = |turn: usize| one.fields["messages"][turn]["content"].as_str().unwrap();
        let city = said(0).split([' ', ',']).nth(2).unwrap();
        assert!(["Bern", "Norway", "Rome"].contains(&city), "{city}");
        assert_eq!(said(0), format!("Where is {city}, and who are its 12 mayors?"));
        assert!(said(1).ends_with(&format!("{city} has 12.")), "{}", said(1));
        assert_eq!(one.fields["messages"][0]["role"], "user");
    }

    #[test]
    fn only_what_is_asked_is_worded_otherwise_or_misspelt() {
        let cases = [turns("where are these animals living?", "in the forest")];
        let made = variations(&cases, 8, 1);
        for variation in &made {
            assert_eq!(variation.fields["messages"][1]["content"], "in the forest");
            assert_ne!(variation.kind, VariationKind::EntitySwap, "there is nothing to swap");
        }
        let paraphrases = made.iter().filter(|it| it.kind == VariationKind::Paraphrase);
        assert_eq!(paraphrases.count(), BEFORE.len());
        let again = variations(&cases, 8, 1);
        let fields = |all: &[Variation]| -> Vec<_> {
            all.iter().map(|variation| variation.fields.clone()).collect()
        };
        assert_eq!(fields(&made), fields(&again));
        assert_ne!(fields(&made), fields(&variations(&cases, 8, 2)), "the seed decides");
        let text = misspelt("a question about letters and words inside sentences", Stream::new(1));
        assert_eq!(text, "a questoin abotu letters and words inside sentecnes");
        let sorted = |text: &str| {
            let mut letters: Vec<char> = text.chars().collect();
            letters.sort_unstable();
            letters
        };
        assert_eq!(sorted(&text), sorted("a question about letters and words inside sentences"));
    }
}
