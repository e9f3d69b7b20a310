//! One small set per record shape: examples for the format guide, and tests.

use serde_json::{Value, json};

use crate::chat::{self, Turn, extraction, question, tool_call};
use crate::dice::Dice;
use crate::facts::{self, Fact};
use crate::records::Share;

const SYSTEM: &[&str] = &[
    "You are a geography teacher. Answer in one sentence.",
    "You answer questions briefly and correctly.",
    "Use a tool when you cannot know the answer.",
    "Write JSON when you are asked for it, and nothing else.",
];

/// Conversations: with and without a system turn, one to three questions long.
pub fn messages() -> Vec<Value> {
    let mut dice = Dice::new("messages");
    let facts = dice.shuffle(facts::all());
    let mut records = Vec::new();
    for (index, facts) in facts.chunks_exact(3).take(16).enumerate() {
        let mut turns: Vec<Turn> = vec![question(&mut dice, &facts[0])];
        if index % 3 == 1 {
            turns.push(tool_call(&mut dice, Share::All));
        }
        if index % 3 == 2 {
            turns.push(question(&mut dice, &facts[1]));
            turns.push(extraction(&mut dice, Share::All));
        }
        let mut record = chat::messages(&turns);
        if index % 2 == 0 {
            let system = json!({ "role": "system", "content": SYSTEM[index / 2 % SYSTEM.len()] });
            let turns = record["messages"].as_array_mut().expect("a conversation is an array");
            turns.insert(0, system);
        }
        records.push(record);
    }
    records
}

/// Conversations with other names for who speaks: one to three questions long, every other one
/// with a system turn.
pub fn sharegpt() -> Vec<Value> {
    let mut dice = Dice::new("sharegpt");
    let facts = dice.shuffle(facts::all());
    let mut records = Vec::new();
    for (index, facts) in facts.chunks_exact(3).take(16).enumerate() {
        let mut turns = Vec::new();
        if index % 2 == 0 {
            turns.push(json!({ "from": "system", "value": SYSTEM[index / 2 % SYSTEM.len()] }));
        }
        for fact in &facts[..=index % 3] {
            let (ask, answer) = question(&mut dice, fact);
            turns.push(json!({ "from": "human", "value": ask }));
            turns.push(json!({ "from": "gpt", "value": answer }));
        }
        records.push(json!({ "conversations": turns }));
    }
    records
}

/// An answer and a worse one: it answers another question, gives up, or says too much. Strings,
/// lists of messages and whole conversations take turns.
pub fn preference() -> Vec<Value> {
    let mut dice = Dice::new("preference");
    let facts = dice.shuffle(facts::all());
    let mut records = Vec::new();
    for (index, facts) in facts.chunks_exact(2).take(16).enumerate() {
        let (ask, chosen) = question(&mut dice, &facts[0]);
        let rejected = match index % 4 {
            0 => facts[1].full_answer(),
            1 => "I do not know.".to_string(),
            2 => format!("That is a good question! {chosen} I hope that this helps you a lot."),
            _ => format!("Somebody once told me: {} But who knows?", facts[1].full_answer()),
        };
        let user = json!({ "role": "user", "content": ask });
        let assistant = |text: &str| json!({ "role": "assistant", "content": text });
        records.push(match index % 3 {
            0 => json!({ "prompt": ask, "chosen": chosen, "rejected": rejected }),
            1 => json!({
                "prompt": [user],
                "chosen": [assistant(&chosen)],
                "rejected": [assistant(&rejected)],
            }),
            _ => json!({
                "chosen": [user, assistant(&chosen)],
                "rejected": [user, assistant(&rejected)],
            }),
        });
    }
    records
}

/// Instructions, half of them with an input.
pub fn alpaca() -> Vec<Value> {
    let mut dice = Dice::new("alpaca");
    let facts = dice.shuffle(facts::all());
    let orders = [
        "Answer the question.",
        "Reply in one sentence.",
        "Answer this question for a pupil.",
        "Give a short answer.",
    ];
    let mut records = Vec::new();
    for (index, fact) in facts.iter().take(16).enumerate() {
        let (ask, output) = question(&mut dice, fact);
        let (instruction, input) = if index % 2 == 0 {
            (dice.pick(&orders).to_string(), ask)
        } else {
            (ask, String::new())
        };
        records.push(json!({ "instruction": instruction, "input": input, "output": output }));
    }
    records
}

/// Beginnings and what should follow.
pub fn completion() -> Vec<Value> {
    let mut dice = Dice::new("completion");
    let facts = dice.shuffle(facts::all());
    let mut records = Vec::new();
    for fact in facts.iter().take(16) {
        let (ask, answer) = question(&mut dice, fact);
        let prompt = format!("Question: {ask}\nAnswer:");
        records.push(json!({ "prompt": prompt, "completion": format!(" {answer}") }));
    }
    records
}

/// Plain passages, some of them beyond ASCII.
pub fn text() -> Vec<Value> {
    let mut dice = Dice::new("text");
    let facts = dice.shuffle(facts::all());
    let passage = |dice: &mut Dice, facts: &[Fact]| {
        facts.iter().map(|fact| fact.state(dice)).collect::<Vec<_>>().join(" ")
    };
    let mut records = Vec::new();
    for facts in facts.chunks(4).take(12) {
        records.push(json!({ "text": passage(&mut dice, facts) }));
    }
    for line in [
        "In Málaga the café opens at 7:30; a coffee costs 1,20 €.",
        "Das Wörterbuch liegt auf dem Küchentisch, gleich neben der Brille.",
        "東京は日本の首都です。",
        "A naïve reader may stumble over “curly quotes” – and over dashes, too.",
    ] {
        records.push(json!({ "text": line }));
    }
    records
}
