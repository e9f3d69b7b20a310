//! Files, forms and logs: values told in words and repeated as JSON.

use serde_json::{Value, json};

use super::Decks;
use crate::dice::{Dice, Values, fill};
use crate::phrases::people::{PERSON, SENT, TO_JSON};
use crate::records::{Share, call, clock, get, json_text, person, person_json, record};
use crate::tables::{CITIES, WEEKDAYS};

/// Records in words and as JSON, one way of writing per document or mixed.
pub fn file(dice: &mut Dice, _: &mut Decks) -> String {
    let titles = ["", "From the files\n", "Records\n", "Copied by hand\n", "Day book\n"];
    let one_way = dice.chance(50).then(|| dice.pick(TO_JSON));
    let mut entries = Vec::new();
    for _ in 0..dice.between(4, 6) {
        let record = record(dice, Share::All);
        let template = one_way.unwrap_or_else(|| dice.pick(TO_JSON));
        let values = vec![("tell", record.tell), ("json", json_text(&record.json))];
        entries.push(fill(template, &values));
    }
    format!("{}{}", dice.pick(&titles), entries.join("\n"))
}

/// A form with one value per line, then the same in words and as JSON.
pub fn form(dice: &mut Dice, _: &mut Decks) -> String {
    let mut entries = Vec::new();
    for _ in 0..2 {
        let values = person(dice, Share::All);
        let (name, age) = (get(&values, "name"), get(&values, "age"));
        let (city, job) = (get(&values, "city"), get(&values, "job"));
        let form = format!("Name: {name}\nAge: {age}\nCity: {city}\nJob: {job}");
        let mut full = person_json(&values);
        full["job"] = Value::from(job);
        let work = ["{He} is {a job}.", "{He} works as {a job}.", "At work {he} {does}."];
        let words = format!(
            "{} {}",
            fill(dice.pick(PERSON.tell), &values),
            fill(dice.pick(&work), &values)
        );
        entries.extend(dice.shuffle(vec![form, json_text(&full), words]));
    }
    entries.join("\n\n")
}

/// The log of an information desk: who asks what, which request is sent, what comes back.
pub fn log(dice: &mut Dice, _: &mut Decks) -> String {
    let desks = ["Information desk", "Log of the help desk", "Requests", "Service book"];
    let mut lines = vec![format!("{}, {}", dice.pick(&desks), dice.pick(WEEKDAYS))];
    let template = dice.pick(SENT);
    let mut times: Vec<String> = (0..dice.between(4, 5)).map(|_| clock(dice)).collect();
    times.sort();
    for time in times {
        let call = call(dice, Share::All);
        let sentence = fill(dice.pick(call.tool.tell), &call.values);
        let json = vec![("json", json_text(&call.json))];
        let mut line = format!("{time} {sentence} {}", fill(template, &json));
        if dice.chance(40) {
            line += &reply(dice, call.tool.name, &call.values);
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// A weather report, told and as JSON.
pub fn weather(dice: &mut Dice, _: &mut Decks) -> String {
    let mut lines = vec![format!("The weather on {}", dice.pick(WEEKDAYS))];
    for city in dice.shuffle(CITIES.to_vec()).into_iter().take(dice.between(5, 6)) {
        let (sky, degrees) = sky(dice);
        let json = json_text(&json!({ "city": city, "sky": sky, "degrees": degrees }));
        let values = vec![
            ("city", city.to_string()),
            ("sky", sky.to_string()),
            ("degrees", degrees.to_string()),
        ];
        lines.push(format!("{} {json}", fill(dice.pick(WEATHER_TELL), &values)));
    }
    lines.join("\n")
}

const WEATHER_TELL: &[&str] = &[
    "In {city} it is {sky} and {degrees} degrees.",
    "{city} is {sky} today, with {degrees} degrees.",
    "{degrees} degrees and a {sky} sky: that is {city}.",
];

fn sky(dice: &mut Dice) -> (&'static str, usize) {
    let skies = ["cloudy", "clear", "grey", "sunny", "stormy", "misty"];
    (dice.pick(&skies), dice.between(2, 34))
}

fn reply(dice: &mut Dice, tool: &str, values: &Values) -> String {
    let city = get(values, "city");
    match tool {
        "weather" => {
            let (sky, degrees) = sky(dice);
            format!(" The reply: {sky} in {city}, {degrees} degrees.")
        }
        "time" => format!(" The reply: it is {} in {city}.", clock(dice)),
        _ => " The reply came at once.".to_string(),
    }
}
