//! Passages that teach: facts about one or two subjects, sums, quizzes.

use super::{Deck, Decks};
use crate::dice::{Dice, capital};
use crate::facts::Fact;

/// A passage about three countries.
pub fn country(dice: &mut Dice, decks: &mut Decks) -> String {
    passages(dice, &mut decks.world, 3)
}

/// A passage about three chemical elements.
pub fn element(dice: &mut Dice, decks: &mut Decks) -> String {
    passages(dice, &mut decks.chemistry, 3)
}

/// A passage about three animals.
pub fn animal(dice: &mut Dice, decks: &mut Decks) -> String {
    passages(dice, &mut decks.animals, 3)
}

/// A passage about three planets.
pub fn planet(dice: &mut Dice, decks: &mut Decks) -> String {
    passages(dice, &mut decks.planets, 3)
}

/// A passage about months and days.
pub fn calendar(dice: &mut Dice, decks: &mut Decks) -> String {
    passages(dice, &mut decks.calendar, 5)
}

/// Short notes on several things.
pub fn everyday(dice: &mut Dice, decks: &mut Decks) -> String {
    let titles = ["Did you know?", "Small facts", "Remember:", "From the school wall", "Notes"];
    let bullet = dice.pick(&["- ", "* ", ""]);
    let mut lines = vec![dice.pick(&titles).to_string()];
    for _ in 0..dice.between(8, 12) {
        let deck = if dice.chance(65) { &mut decks.everyday } else { &mut decks.all };
        lines.push(format!("{bullet}{}", deck.next()[0].state(dice)));
    }
    lines.join("\n")
}

/// Practice in reckoning.
pub fn arithmetic(dice: &mut Dice, decks: &mut Decks) -> String {
    let titles = ["Sums", "Practice", "Number work", "Reckoning without paper", "Page of sums"];
    let mut text = format!("{} {}\n", dice.pick(&titles), dice.between(1, 60));
    let separator = dice.pick(&["\n", " "]);
    let mut sentences = Vec::new();
    for _ in 0..dice.between(11, 16) {
        sentences.push(decks.arithmetic.next()[0].state(dice));
    }
    text.push_str(&sentences.join(separator));
    text
}

/// Questions with their answers, as in a quiz book.
pub fn quiz(dice: &mut Dice, decks: &mut Decks) -> String {
    let layouts = [("Question: ", "Answer: "), ("Q: ", "A: "), ("", ""), ("? ", "! ")];
    let (question, answer) = dice.pick(&layouts);
    let mut lines = vec![format!("Quiz number {}", dice.between(1, 400))];
    for number in 1..=dice.between(7, 10) {
        let deck = if dice.chance(15) { &mut decks.arithmetic } else { &mut decks.all };
        let fact = &deck.next()[0];
        let ordinal = if question.is_empty() { format!("{number}. ") } else { String::new() };
        lines.push(format!("{ordinal}{question}{}", fact.ask(dice)));
        lines.push(format!("{answer}{}", fact.answer(dice)));
    }
    lines.join("\n")
}

/// Facts in a random order, without saying the same thing forwards and backwards. A fact that
/// brings in a second subject comes last, for "it" would be taken for that one.
pub fn one_direction<'a>(dice: &mut Dice, facts: &'a [Fact]) -> Vec<&'a Fact> {
    let backwards = dice.chance(50);
    let kept = facts.iter().filter(|fact| match fact.topic.name {
        "capital" | "symbol" => !backwards,
        "capital_of" | "symbol_of" => backwards,
        _ => true,
    });
    let mut facts = dice.shuffle(kept.collect::<Vec<_>>());
    facts.sort_by_key(|fact| matches!(fact.topic.name, "capital_of" | "month_after"));
    facts
}

fn passages(dice: &mut Dice, deck: &mut Deck, count: usize) -> String {
    let title = dice.chance(35);
    let mut paragraphs = Vec::new();
    for _ in 0..count {
        let facts = one_direction(dice, deck.next());
        let mut sentences = vec![facts[0].state(dice)];
        for fact in facts.iter().skip(1) {
            sentences.push(fact.follow(dice));
        }
        let text = sentences.join(" ");
        let heading = capital(&facts[0].subject);
        paragraphs.push(if title { format!("{heading}\n{text}") } else { text });
    }
    paragraphs.join("\n\n")
}
