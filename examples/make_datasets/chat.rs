//! The quickstart's conversations: facts, JSON, tool calls, a little courtesy.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::dice::{Dice, capital, fill};
use crate::facts::{self, Fact};
use crate::phrases::people::ASK_JSON;
use crate::records::{Share, call, json_text, record};

/// A question and its answer.
pub type Turn = (String, String);

const COURTESY: &[(&str, &str)] = &[
    ("Hello!", "Hello! What would you like to know?"),
    ("Hi there.", "Hello! What would you like to know?"),
    ("Good morning.", "Good morning! What would you like to know?"),
    ("Good evening.", "Good evening! What would you like to know?"),
    ("Thank you!", "You are welcome."),
    ("Thanks, that helps.", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
    ("See you tomorrow.", "Goodbye!"),
    ("Who are you?", "I am a small language model, fine-tuned with Firebrand."),
    ("What are you?", "I am a small language model, fine-tuned with Firebrand."),
    ("What can you do?", "I answer questions, write JSON and call tools."),
    ("How can you help me?", "I answer questions, write JSON and call tools."),
];

/// The training and the validation conversations.
pub fn conversations() -> (Vec<Value>, Vec<Value>) {
    let mut asked = BTreeSet::new();
    let mut dice = Dice::new("quickstart facts");
    let mut all = dice.shuffle(facts::all());
    let held_out = all.split_off(all.len() - 62);
    all.retain(|fact| !held_out.iter().any(|other| fact.says_the_same(other)));
    let mut train: Vec<Vec<Turn>> = Vec::new();
    for pair in COURTESY {
        train.push(vec![(pair.0.to_string(), pair.1.to_string())]);
    }
    let sums = dice.shuffle(facts::arithmetic());
    for fact in all.iter().take(570).chain(sums.iter().take(60)) {
        train.push(vec![question(&mut dice, fact)]);
    }
    let mut dice = Dice::new("quickstart requests");
    for _ in 0..230 {
        train.push(vec![extraction(&mut dice, Share::Train)]);
        train.push(vec![tool_call(&mut dice, Share::Train)]);
    }
    for facts in all[570..700].chunks_exact(2) {
        train.push(longer(&mut dice, facts));
    }
    let mut dice = Dice::new("quickstart validation");
    let mut validation: Vec<Vec<Turn>> = Vec::new();
    validation.extend(held_out.iter().map(|fact| vec![question(&mut dice, fact)]));
    for _ in 0..26 {
        validation.push(vec![extraction(&mut dice, Share::Validation)]);
        validation.push(vec![tool_call(&mut dice, Share::Validation)]);
    }
    let train = unique(&mut asked, dice.shuffle(train));
    (train, unique(&mut asked, dice.shuffle(validation)))
}

/// A question about a fact and the answer.
pub fn question(dice: &mut Dice, fact: &Fact) -> Turn {
    (fact.ask(dice), fact.full_answer())
}

/// Words to be turned into JSON.
pub fn extraction(dice: &mut Dice, share: Share) -> Turn {
    let record = record(dice, share);
    let values = vec![
        ("form", record.form.name.to_string()),
        ("keys", record.form.keys.to_string()),
        ("tell", record.tell),
    ];
    (fill(dice.pick(ASK_JSON), &values), json_text(&record.json))
}

/// A wish that only a tool can fulfil.
pub fn tool_call(dice: &mut Dice, share: Share) -> Turn {
    let call = call(dice, share);
    let ask = capital(&fill(dice.pick(call.tool.ask), &call.values));
    (ask, format!("<tool_call>{}</tool_call>", json_text(&call.json)))
}

/// Two turns: two facts, or a fact and something else, in either order.
fn longer(dice: &mut Dice, facts: &[Fact]) -> Vec<Turn> {
    let first = question(dice, &facts[0]);
    let second = match dice.below(3) {
        0 => extraction(dice, Share::Train),
        1 => tool_call(dice, Share::Train),
        _ => question(dice, &facts[1]),
    };
    dice.shuffle(vec![first, second])
}

/// The record of a conversation in the messages shape.
pub fn messages(turns: &[Turn]) -> Value {
    let mut messages = Vec::new();
    for (ask, answer) in turns {
        messages.push(json!({ "role": "user", "content": ask }));
        messages.push(json!({ "role": "assistant", "content": answer }));
    }
    json!({ "messages": messages })
}

/// Conversations none of whose questions has been asked before.
fn unique(asked: &mut BTreeSet<String>, conversations: Vec<Vec<Turn>>) -> Vec<Value> {
    let mut records = Vec::new();
    for turns in conversations {
        if turns.iter().all(|(ask, _)| !asked.contains(ask)) {
            asked.extend(turns.iter().map(|(ask, _)| ask.clone()));
            records.push(messages(&turns));
        }
    }
    records
}
