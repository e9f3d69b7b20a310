//! Every fact of the tables, tied to the sentences that can express it.

use crate::dice::{Dice, Values, fill};
use crate::phrases::{Topic, everyday, nature, world};
use crate::tables::{
    ANIMALS, BOOKS, COLOURS, COUNTRIES, ELEMENTS, JOBS, MIXTURES, MONTHS, OPPOSITES, PLANETS,
    UNITS, WEEKDAYS,
};

/// One fact: what it is about, how it is said, the values to say it with.
pub struct Fact {
    pub subject: String,
    pub topic: &'static Topic,
    pub values: Values,
}

impl Fact {
    /// Whether the other fact is this one, perhaps turned round, as "capital of" is of "capital".
    pub fn says_the_same(&self, other: &Self) -> bool {
        let sorted = |fact: &Self| {
            let mut words: Vec<String> = fact.values.iter().map(|(_, word)| word.clone()).collect();
            words.sort();
            words
        };
        let name = |fact: &Self| fact.topic.name.trim_end_matches("_of");
        name(self) == name(other) && sorted(self) == sorted(other)
    }

    /// A sentence that stands alone.
    pub fn state(&self, dice: &mut Dice) -> String {
        fill(dice.pick(self.topic.state), &self.values)
    }

    /// A sentence that goes on about the subject; one that stands alone where there is none.
    pub fn follow(&self, dice: &mut Dice) -> String {
        if self.topic.follow.is_empty() || dice.chance(25) {
            return self.state(dice);
        }
        fill(dice.pick(self.topic.follow), &self.values)
    }

    /// A question about the fact.
    pub fn ask(&self, dice: &mut Dice) -> String {
        fill(dice.pick(self.topic.ask), &self.values)
    }

    /// One of the answers.
    pub fn answer(&self, dice: &mut Dice) -> String {
        fill(dice.pick(self.topic.answer), &self.values)
    }

    /// The answer that the chat data set teaches.
    pub fn full_answer(&self) -> String {
        fill(self.topic.answer[0], &self.values)
    }
}

fn add(facts: &mut Vec<Fact>, topics: &[&'static Topic], pairs: &[(&'static str, &str)]) {
    let values: Values = pairs.iter().map(|(key, value)| (*key, (*value).to_string())).collect();
    for topic in topics {
        facts.push(Fact { subject: pairs[0].1.to_string(), topic, values: values.clone() });
    }
}

/// Facts about countries.
pub fn world() -> Vec<Fact> {
    let mut facts = Vec::new();
    let topics = [
        &world::CAPITAL,
        &world::CAPITAL_OF,
        &world::CONTINENT,
        &world::LANGUAGE,
        &world::CURRENCY,
        &world::KNOWN,
    ];
    for country in COUNTRIES {
        let pairs = [
            ("country", country.name),
            ("capital", country.capital),
            ("continent", country.continent),
            ("language", country.language),
            ("currency", country.currency),
            ("known", country.known),
        ];
        add(&mut facts, &topics, &pairs);
    }
    facts
}

/// Facts about chemical elements.
pub fn chemistry() -> Vec<Fact> {
    let mut facts = Vec::new();
    let topics =
        [&nature::SYMBOL, &nature::SYMBOL_OF, &nature::NUMBER, &nature::STATE, &nature::PURPOSE];
    for element in ELEMENTS {
        let pairs = [
            ("element", element.name),
            ("symbol", element.symbol),
            ("number", &element.number.to_string()),
            ("state", element.state),
            ("purpose", element.purpose),
        ];
        add(&mut facts, &topics, &pairs);
    }
    facts
}

/// Facts about animals.
pub fn animals() -> Vec<Fact> {
    let mut facts = Vec::new();
    for animal in ANIMALS {
        let pairs = [
            ("animal", animal.name),
            ("plural", animal.plural),
            ("class", animal.class),
            ("young", animal.young),
            ("food", animal.food),
            ("home", animal.home),
        ];
        let topics = [&nature::CLASS, &nature::FOOD, &nature::HOME, &nature::YOUNG];
        add(&mut facts, &topics, &pairs);
    }
    facts
}

/// Facts about planets.
pub fn planets() -> Vec<Fact> {
    let mut facts = Vec::new();
    for planet in PLANETS {
        let pairs = [
            ("planet", planet.name),
            ("order", planet.order),
            ("kind", planet.kind),
            ("note", planet.note),
            ("year", planet.year),
        ];
        let topics = [&nature::ORDER, &nature::KIND, &nature::NOTE, &nature::YEAR];
        add(&mut facts, &topics, &pairs);
    }
    facts
}

/// Facts about months and days.
pub fn calendar() -> Vec<Fact> {
    let mut facts = Vec::new();
    let topics = [&everyday::DAYS, &everyday::SEASON, &everyday::MONTH_AFTER];
    for (index, (month, days, season)) in MONTHS.iter().enumerate() {
        let next = MONTHS[(index + 1) % MONTHS.len()].0;
        let days = days.to_string();
        let pairs = [("month", *month), ("days", &days), ("season", season), ("next", next)];
        add(&mut facts, &topics, &pairs);
    }
    for (index, day) in WEEKDAYS.iter().enumerate() {
        let next = WEEKDAYS[(index + 1) % WEEKDAYS.len()];
        add(&mut facts, &[&everyday::DAY_AFTER], &[("day", day), ("next", next)]);
    }
    facts
}

/// Facts about units, colours, words, books and jobs.
pub fn everyday() -> Vec<Fact> {
    let mut facts = Vec::new();
    for (large, count, small) in UNITS {
        let pairs = [("large", *large), ("count", &count.to_string()), ("small", small)];
        add(&mut facts, &[&everyday::UNIT], &pairs);
    }
    for (first, second, result) in MIXTURES {
        let pairs = [("first", *first), ("second", second), ("result", result)];
        add(&mut facts, &[&everyday::MIXTURE], &pairs);
    }
    for (thing, colour) in COLOURS {
        add(&mut facts, &[&everyday::COLOUR], &[("thing", thing), ("colour", colour)]);
    }
    for (one, two) in OPPOSITES {
        add(&mut facts, &[&everyday::OPPOSITE], &[("word", one), ("other", two)]);
        add(&mut facts, &[&everyday::OPPOSITE], &[("word", two), ("other", one)]);
    }
    for (book, author) in BOOKS {
        add(&mut facts, &[&everyday::AUTHOR], &[("book", book), ("author", author)]);
    }
    for (job, place, does) in JOBS {
        let pairs = [("job", *job), ("place", place), ("does", does)];
        add(&mut facts, &[&everyday::WORK, &everyday::WORKPLACE], &pairs);
    }
    facts
}

/// Sums, differences and products of small numbers.
pub fn arithmetic() -> Vec<Fact> {
    let mut facts = Vec::new();
    for first in 2..=12_u32 {
        for second in 2..=12_u32 {
            let (one, two) = (first.to_string(), second.to_string());
            let (sum, product) = ((first + second).to_string(), (first * second).to_string());
            let pairs = [("first", one.as_str()), ("second", &two), ("result", &sum)];
            add(&mut facts, &[&everyday::SUM], &pairs);
            let pairs = [("first", sum.as_str()), ("second", &two), ("result", &one)];
            add(&mut facts, &[&everyday::DIFFERENCE], &pairs);
            let pairs = [("first", one.as_str()), ("second", &two), ("result", &product)];
            add(&mut facts, &[&everyday::PRODUCT], &pairs);
        }
    }
    facts
}

/// Every fact except arithmetic.
pub fn all() -> Vec<Fact> {
    let areas = [world(), chemistry(), animals(), planets(), calendar(), everyday()];
    areas.into_iter().flatten().collect()
}
