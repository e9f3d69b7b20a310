//! The corpus for pre-training: documents of plain text, no chat format in them.

mod lessons;
mod lists;
mod logs;
mod stories;

use std::collections::BTreeSet;

use crate::dice::Dice;
use crate::facts::{self, Fact};

/// Facts of one area, grouped by subject, dealt in turn so that none is left out.
pub struct Deck {
    groups: Vec<Vec<Fact>>,
    order: Vec<usize>,
    dice: Dice,
}

impl Deck {
    fn new(site: &str, facts: Vec<Fact>) -> Self {
        let mut groups: Vec<Vec<Fact>> = Vec::new();
        for fact in facts {
            match groups.last_mut().filter(|group| group[0].subject == fact.subject) {
                Some(group) => group.push(fact),
                None => groups.push(vec![fact]),
            }
        }
        Self { groups, order: Vec::new(), dice: Dice::new(site) }
    }

    /// All facts about the next subject.
    fn next(&mut self) -> &[Fact] {
        if self.order.is_empty() {
            self.order = self.dice.shuffle((0..self.groups.len()).collect());
        }
        let index = self.order.pop().expect("a deck has at least one subject");
        &self.groups[index]
    }
}

/// The decks from which all documents draw.
pub struct Decks {
    pub world: Deck,
    pub chemistry: Deck,
    pub animals: Deck,
    pub planets: Deck,
    pub calendar: Deck,
    pub everyday: Deck,
    pub arithmetic: Deck,
    pub all: Deck,
}

impl Decks {
    pub fn new() -> Self {
        let single = |site: &str, facts: Vec<Fact>| Deck {
            groups: facts.into_iter().map(|fact| vec![fact]).collect(),
            order: Vec::new(),
            dice: Dice::new(site),
        };
        Self {
            world: Deck::new("deck of countries", facts::world()),
            chemistry: Deck::new("deck of elements", facts::chemistry()),
            animals: Deck::new("deck of animals", facts::animals()),
            planets: Deck::new("deck of planets", facts::planets()),
            calendar: Deck::new("deck of months", facts::calendar()),
            everyday: single("deck of everyday facts", facts::everyday()),
            arithmetic: single("deck of sums", facts::arithmetic()),
            all: single("deck of all facts", facts::all()),
        }
    }
}

type Writer = fn(&mut Dice, &mut Decks) -> String;

/// The kinds of documents and how many there are of each.
const KINDS: &[(&str, Writer, usize)] = &[
    ("country", lessons::country, 240),
    ("element", lessons::element, 95),
    ("animal", lessons::animal, 120),
    ("planet", lessons::planet, 28),
    ("calendar", lessons::calendar, 40),
    ("everyday", lessons::everyday, 95),
    ("arithmetic", lessons::arithmetic, 110),
    ("quiz", lessons::quiz, 140),
    ("capitals", lists::capitals, 30),
    ("table", lists::table, 40),
    ("comparison", lists::comparison, 60),
    ("groups", lists::groups, 30),
    ("dialogue", stories::dialogue, 120),
    ("story", stories::story, 230),
    ("letter", stories::letter, 90),
    ("diary", stories::diary, 60),
    ("file", logs::file, 300),
    ("form", logs::form, 110),
    ("log", logs::log, 140),
    ("weather", logs::weather, 50),
];

/// Percentage of the documents that stand between the markers of the tokenizer.
const MARKED: usize = 15;

/// Sets a document apart, with its kind on the first line. It is no conversation, but the markers
/// would otherwise be tokens that the base model never saw, and a LoRA adapter cannot teach those:
/// it leaves the embeddings as they are.
fn mark(kind: &str, text: &str) -> String {
    format!("<|im_start|>{kind}\n{text}<|im_end|>")
}

/// One document of a random kind; the kinds are as frequent as in the corpus.
pub fn document(dice: &mut Dice, decks: &mut Decks) -> String {
    let all: usize = KINDS.iter().map(|(_, _, count)| count).sum();
    let mut place = dice.below(all);
    for (_, write, count) in KINDS {
        match place.checked_sub(*count) {
            Some(rest) => place = rest,
            None => return write(dice, decks),
        }
    }
    unreachable!("the place is below the sum of all counts")
}

/// All documents, in a random order, no two alike.
pub fn documents() -> Vec<String> {
    let mut decks = Decks::new();
    let mut seen = BTreeSet::new();
    let mut documents = Vec::new();
    for (name, write, count) in KINDS {
        let mut dice = Dice::new(name);
        for _ in 0..*count {
            let text = write(&mut dice, &mut decks);
            let marked = dice.chance(MARKED);
            if seen.insert(text.clone()) {
                documents.push(if marked { mark(name, &text) } else { text });
            }
        }
    }
    Dice::new("order of the corpus").shuffle(documents)
}
