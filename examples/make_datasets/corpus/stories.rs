//! Stories, letters, dialogues and diaries about invented people who learn facts.

use super::Decks;
use super::lessons::one_direction;
use crate::dice::{Dice, Values, fill};
use crate::phrases::stories::{
    DAYS, DIARY, ENDINGS, EVENTS, EXCHANGES, FAREWELLS, GREETINGS, LEADS, OPENINGS, SCENES, TRAVELS,
};
use crate::records::{Share, clock, get, person};
use crate::tables::{MONTHS, THINGS, WEEKDAYS};

/// The values of a story: a person, somebody else, things, numbers, a day.
fn cast(dice: &mut Dice) -> Values {
    let mut values = person(dice, Share::All);
    let other = person(dice, Share::All);
    let (thing, things) = dice.pick(THINGS);
    let skies = ["clear", "grey", "cloudy", "blue"];
    values.extend([
        ("other", get(&other, "name").to_string()),
        ("friend", get(&other, "first").to_string()),
        ("thing", thing.to_string()),
        ("things", (*things).to_string()),
        ("count", dice.between(3, 30).to_string()),
        ("price", dice.between(4, 90).to_string()),
        ("degrees", dice.between(2, 33).to_string()),
        ("sky", dice.pick(&skies).to_string()),
        ("day", dice.pick(WEEKDAYS).to_string()),
        ("time", clock(dice)),
    ]);
    values
}

fn sentences(dice: &mut Dice, templates: &[&str], count: usize, values: &Values) -> String {
    let chosen = dice.shuffle(templates.to_vec());
    let chosen: Vec<String> = chosen.iter().take(count).map(|one| fill(one, values)).collect();
    chosen.join(" ")
}

/// A short story in which somebody meets somebody and learns something.
pub fn story(dice: &mut Dice, decks: &mut Decks) -> String {
    let values = cast(dice);
    let count = dice.between(2, 3);
    let opening = fill(dice.pick(OPENINGS), &values);
    let first = format!("{opening} {}", sentences(dice, DAYS, count, &values));
    let lead = fill(dice.pick(LEADS), &values);
    let deck = match dice.below(3) {
        0 => &mut decks.world,
        1 => &mut decks.animals,
        _ => &mut decks.chemistry,
    };
    let facts = one_direction(dice, deck.next());
    let mut learnt = vec![lead, facts[0].state(dice)];
    for fact in facts.iter().skip(1).take(2) {
        learnt.push(fact.follow(dice));
    }
    let event = fill(dice.pick(EVENTS), &values);
    let ending = fill(dice.pick(ENDINGS), &values);
    format!("{first}\n\n{event} {}\n\n{ending}", learnt.join(" "))
}

/// A letter from a journey.
pub fn letter(dice: &mut Dice, decks: &mut Decks) -> String {
    let mut values = cast(dice);
    let facts = dice.shuffle(decks.world.next().iter().collect());
    values.extend(facts[0].values.clone());
    let greeting = fill(dice.pick(GREETINGS), &values);
    let mut about = vec![greeting];
    for fact in facts.iter().filter(|fact| !fact.topic.follow.is_empty()).take(4) {
        about.push(fill(dice.pick(fact.topic.follow), &values));
    }
    let count = dice.between(2, 3);
    let days = sentences(dice, TRAVELS, count, &values);
    let farewell = fill(dice.pick(FAREWELLS), &values);
    let friend = get(&values, "friend");
    format!("Dear {friend},\n\n{} {days}\n\n{farewell}", about.join(" "))
}

/// Two people ask and answer.
pub fn dialogue(dice: &mut Dice, decks: &mut Decks) -> String {
    let values = cast(dice);
    let (question, answer) = dice.pick(EXCHANGES);
    let mut lines = vec![fill(dice.pick(SCENES), &values)];
    for _ in 0..dice.between(5, 7) {
        let deck = if dice.chance(20) { &mut decks.arithmetic } else { &mut decks.all };
        let fact = &deck.next()[0];
        let mut gaps = values.clone();
        let ask = loop {
            let ask = fact.ask(dice);
            if ask.ends_with('?') {
                break ask;
            }
        };
        gaps.push(("ask", ask));
        gaps.push(("answer", fact.answer(dice).trim_end_matches('.').to_string()));
        lines.push(format!("{} {}", fill(question, &gaps), fill(answer, &gaps)));
    }
    lines.join("\n")
}

/// Some days of a diary.
pub fn diary(dice: &mut Dice, decks: &mut Decks) -> String {
    let owner = cast(dice);
    let (month, _, _) = dice.pick(MONTHS);
    let mut date = dice.between(1, 18);
    let mut entries = vec![format!("From the diary of {}", get(&owner, "name"))];
    for _ in 0..4 {
        let values = cast(dice);
        let text = sentences(dice, DIARY, 2, &values);
        let fact = decks.all.next()[0].state(dice);
        entries.push(format!("{date} {month}. {text} Learnt today: {fact}"));
        date += dice.between(1, 3);
    }
    entries.join("\n")
}
