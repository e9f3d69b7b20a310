//! Lists, small tables, groups and comparisons.

use super::Decks;
use crate::dice::{Dice, capital};
use crate::tables::{ANIMALS, COUNTRIES, ELEMENTS, MONTHS};

/// Countries of two continents with their capitals, currencies or languages.
pub fn capitals(dice: &mut Dice, _: &mut Decks) -> String {
    let columns = [("Capitals", 0), ("Currencies", 1), ("Languages", 2)];
    let (title, column) = dice.pick(&columns);
    let separator = dice.pick(&[": ", " - ", ", "]);
    let mut lines = Vec::new();
    let continents = dice.shuffle(vec!["Europe", "Africa", "Asia", "South America"]);
    for continent in continents.iter().take(2) {
        lines.push(format!("{title} in {continent}"));
        let members = COUNTRIES.iter().filter(|country| country.continent == *continent);
        for country in dice.shuffle(members.collect()).iter().take(10) {
            let value = [country.capital, country.currency, country.language][column];
            lines.push(format!("{}{separator}{value}", capital(country.name)));
        }
    }
    lines.join("\n")
}

/// A table of elements, animals or countries with a heading for each column.
pub fn table(dice: &mut Dice, _: &mut Decks) -> String {
    let mut lines = Vec::new();
    match dice.below(3) {
        0 => {
            lines.push("element, symbol, number, state".to_string());
            for element in dice.shuffle(ELEMENTS.iter().collect()).iter().take(15) {
                let (name, number) = (element.name, element.number);
                lines.push(format!("{name}, {}, {number}, {}", element.symbol, element.state));
            }
        }
        1 => {
            lines.push("animal, class, young, food".to_string());
            for animal in dice.shuffle(ANIMALS.iter().collect()).iter().take(12) {
                let (name, class) = (animal.name, animal.class);
                lines.push(format!("{name}, {class}, {}, {}", animal.young, animal.food));
            }
        }
        _ => {
            lines.push("country, capital, continent, currency".to_string());
            for country in dice.shuffle(COUNTRIES.iter().collect()).iter().take(12) {
                let (name, city) = (capital(country.name), country.capital);
                lines.push(format!("{name}, {city}, {}, {}", country.continent, country.currency));
            }
        }
    }
    lines.join("\n")
}

/// Two or three pairs of countries, what they share and where they differ.
pub fn comparison(dice: &mut Dice, _: &mut Decks) -> String {
    let mut paragraphs = Vec::new();
    for _ in 0..3 {
        let (one, two) = (dice.pick(COUNTRIES), dice.pick(COUNTRIES));
        if one.name == two.name {
            continue;
        }
        let mut text = if one.continent == two.continent {
            format!("{} and {} are both in {}. ", capital(one.name), two.name, one.continent)
        } else {
            let first = format!("{} is in {}, ", capital(one.name), one.continent);
            format!("{first}but {} is in {}. ", two.name, two.continent)
        };
        text += &format!("The capital of {} is {}; ", one.name, one.capital);
        text += &format!("that of {} is {}. ", two.name, two.capital);
        text += &if one.language == two.language {
            format!("In both, people speak {}. ", one.language)
        } else {
            format!("In the first people speak {}, in the second {}. ", one.language, two.language)
        };
        text += &if one.currency == two.currency {
            format!("Both have a currency called the {}.", one.currency)
        } else {
            format!("One pays with the {}, the other with the {}.", one.currency, two.currency)
        };
        paragraphs.push(text);
    }
    paragraphs.join("\n\n")
}

/// Things sorted into groups.
pub fn groups(dice: &mut Dice, _: &mut Decks) -> String {
    let animals: Vec<_> = ANIMALS.iter().map(|animal| (animal.class, animal.name)).collect();
    let elements: Vec<_> = ELEMENTS.iter().map(|one| (one.state, one.name)).collect();
    let months: Vec<_> = MONTHS.iter().map(|(month, _, season)| (*season, *month)).collect();
    let classes = vec!["mammal", "bird", "reptile", "amphibian", "fish", "insect"];
    let sets = vec![
        ("Animals by class", classes, animals),
        ("Elements by state", vec!["gas", "liquid", "solid"], elements),
        ("Months of the north", vec!["spring", "summer", "autumn", "winter"], months),
    ];
    let mut lines = Vec::new();
    for (title, keys, pairs) in dice.shuffle(sets).into_iter().take(2) {
        lines.push(title.to_string());
        for key in dice.shuffle(keys) {
            let members = pairs.iter().filter(|(group, _)| *group == key).map(|(_, name)| *name);
            let members: Vec<&str> = dice.shuffle(members.collect()).into_iter().take(9).collect();
            lines.push(format!("{}: {}.", capital(key), members.join(", ")));
        }
    }
    let closing = ["So much for today.", "Learn the list by heart.", "Can you add one more?"];
    lines.push(dice.pick(&closing).to_string());
    lines.join("\n")
}
