//! Conversations in which a tool is called, answers, and is quoted.

use serde_json::{Value, json};

use crate::dice::{Dice, capital, fill};
use crate::phrases::people::{TIME, WEATHER};
use crate::records::{Share, clock, get, json_text, person};

/// The skies of the weather tool.
const SKIES: &[&str] = &["sunny", "cloudy", "rainy", "windy", "snowy"];

const SUMS: &[&str] =
    &["What is {a} plus {b}?", "Add {a} and {b}, please.", "How much are {a} and {b} together?"];

/// A call, what the tool answers, and what the assistant makes of it.
struct Call {
    ask: String,
    name: &'static str,
    arguments: Value,
    result: Value,
    answer: String,
}

fn weather(dice: &mut Dice) -> Call {
    let values = person(dice, Share::All);
    let city = get(&values, "city").to_string();
    let (degrees, sky) = (dice.between(1, 32), dice.pick(SKIES));
    Call {
        ask: fill(dice.pick(WEATHER.ask), &values),
        name: WEATHER.name,
        arguments: json!({ "city": city }),
        result: json!({ "degrees": degrees, "sky": sky }),
        answer: format!("In {city} it is {degrees} degrees and {sky}."),
    }
}

fn time(dice: &mut Dice) -> Call {
    let values = person(dice, Share::All);
    let city = get(&values, "city").to_string();
    let time = clock(dice);
    Call {
        ask: fill(dice.pick(TIME.ask), &values),
        name: TIME.name,
        arguments: json!({ "city": city }),
        result: json!({ "time": time }),
        answer: format!("It is {time} in {city}."),
    }
}

fn sum(dice: &mut Dice) -> Call {
    let (a, b) = (dice.between(100, 999), dice.between(100, 999));
    let values = vec![("a", a.to_string()), ("b", b.to_string())];
    Call {
        ask: fill(dice.pick(SUMS), &values),
        name: "add",
        arguments: json!({ "numbers": [a, b] }),
        result: json!({ "sum": a + b }),
        answer: format!("{a} plus {b} is {}.", a + b),
    }
}

/// What the assistant is told of a tool.
fn description(name: &str) -> Value {
    let (description, parameter, kind) = match name {
        "weather" => ("The weather in a city", "city", json!({ "type": "string" })),
        "time" => ("The local time of a city", "city", json!({ "type": "string" })),
        _ => {
            let numbers = json!({ "type": "array", "items": { "type": "number" } });
            ("The sum of numbers", "numbers", numbers)
        }
    };
    json!({ "type": "function", "function": {
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": { parameter: kind },
            "required": [parameter],
        },
    } })
}

/// Conversations with calls. Every fourth writes the arguments as JSON text and every fifth the
/// tools, as services and tables do; every third calls two tools at once.
pub fn tools() -> Vec<Value> {
    let mut dice = Dice::new("tools");
    let mut records = Vec::new();
    for index in 0..16 {
        let mut calls = vec![match index % 3 {
            0 => weather(&mut dice),
            1 => time(&mut dice),
            _ => sum(&mut dice),
        }];
        if index % 3 == 2 {
            calls.push(time(&mut dice));
        }
        let asks: Vec<&str> = calls.iter().map(|call| call.ask.as_str()).collect();
        let mut messages = vec![json!({ "role": "user", "content": capital(&asks.join(" ")) })];
        let id = |number: usize| format!("call_{number}");
        let wanted: Vec<Value> = (1..)
            .zip(&calls)
            .map(|(number, call)| {
                let arguments = match index % 4 {
                    3 => Value::from(json_text(&call.arguments)),
                    _ => call.arguments.clone(),
                };
                let function = json!({ "name": call.name, "arguments": arguments });
                json!({ "id": id(number), "type": "function", "function": function })
            })
            .collect();
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": wanted }));
        for (number, call) in (1..).zip(&calls) {
            let content = json_text(&call.result);
            let result = json!({ "role": "tool", "tool_call_id": id(number), "name": call.name,
                "content": content });
            messages.push(result);
        }
        let answers: Vec<&str> = calls.iter().map(|call| call.answer.as_str()).collect();
        messages.push(json!({ "role": "assistant", "content": answers.join(" ") }));
        let known: Vec<Value> = ["weather", "time", "add"].map(description).to_vec();
        let known = match index % 5 {
            4 => Value::from(json_text(&Value::from(known))),
            _ => Value::from(known),
        };
        records.push(json!({ "messages": messages, "tools": known }));
    }
    records
}
