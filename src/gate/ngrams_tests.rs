//! Tests of words in a row: what counts as the same text.

use serde_json::json;

use super::*;

fn record(value: serde_json::Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn text(text: &str) -> Map<String, Value> {
    record(json!({ "text": text }))
}

/// A text of so many different words.
fn long(seed: usize, words: usize) -> String {
    (0..words).map(|at| format!("w{seed}x{at} ")).collect()
}

fn share(evaluation: &[Map<String, Value>], training: &[Map<String, Value>]) -> Vec<Option<f64>> {
    let mut runs = Runs::new(evaluation.iter(), 13);
    runs.look(&training.iter().collect::<Vec<_>>());
    runs.shares()
}

#[test]
fn a_text_is_found_in_a_longer_one_whatever_its_case_and_punctuation() {
    let original = long(1, 40);
    let shouted = format!("before, {} after", original.to_uppercase().replace(' ', " - "));
    assert_eq!(share(&[text(&original)], &[text(&shouted)]), [Some(1.0)]);
    assert_eq!(share(&[text(&original)], &[text(&long(2, 40))]), [Some(0.0)]);
    // Half of it: 40 words are 28 runs, of which 8 lie in the first twenty words.
    let half = long(1, 20);
    assert_eq!(share(&[text(&original)], &[text(&half)]), [Some(8.0 / 28.0)]);
    // The same words in another shape of record, and in other columns.
    let chat = record(json!({"messages": [{"role": "user", "content": original}], "id": 7}));
    assert_eq!(share(&[text(&original)], &[chat]), [Some(1.0)]);
}

#[test]
fn a_short_text_is_only_the_same_as_a_whole_text() {
    let question = "What is three plus four?";
    assert_eq!(share(&[text(question)], &[text("what is three  plus FOUR")]), [Some(1.0)]);
    let longer = format!("{question} {}", long(1, 30));
    assert_eq!(share(&[text(question)], &[text(&longer)]), [Some(0.0)]);
    assert_eq!(share(&[text("Yes, of course")], &[text("Yes, of course")]), [None], "too short");
}

#[test]
fn what_introduces_every_record_is_no_sign() {
    let system = long(9, 30);
    let chat = |system: &str, user: String| {
        record(json!({"messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ], "system": system, "tools": [{"description": system}]}))
    };
    let evaluation = [chat(&system, long(1, 20)), chat(&system, long(2, 20))];
    assert_eq!(share(&evaluation, &[text(&system)]), [Some(0.0), Some(0.0)]);
    // The same in a user's turn: left out once many records have it.
    let with = |number: usize| text(&format!("{system} . {}", long(number, 20)));
    let many: Vec<_> = (0..40).map(|number| with(number + 20)).collect();
    let found = share(&many, &[text(&system)]);
    assert!(found.iter().all(|share| *share == Some(0.0)), "{found:?}");
    let few = share(&many[..2], &[text(&system)]);
    assert!(few.iter().all(|share| share.unwrap() > 0.3), "{few:?}");
}

#[test]
fn scripts_without_spaces_are_compared_by_characters() {
    let sentence = "東京は日本の首都であり世界最大の都市の一つである";
    assert_eq!(words(sentence).len(), sentence.chars().count());
    assert_eq!(share(&[text(sentence)], &[text(&format!("なお、{sentence}。"))]), [Some(1.0)]);
    assert_eq!(words("Ünïcode WÖRDS, ünïcode").len(), 3);
    assert_eq!(words("Ünïcode")[0], words("ünïcode")[0]);
}

#[test]
fn too_many_runs_are_sampled_and_shares_stay_near() {
    let evaluation: Vec<_> = (0..30).map(|number| text(&long(number, 113))).collect();
    let mut runs = Runs::bounded(evaluation.iter(), 13, 700);
    assert!(runs.is_sampled() && runs.found.len() <= 700);
    let half: Vec<_> = (0..30).map(|number| text(&long(number, 63))).collect();
    runs.look(&half.iter().collect::<Vec<_>>());
    let shares: Vec<f64> = runs.shares().into_iter().flatten().collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!((0.35..0.65).contains(&mean), "{mean}");
    assert!(!Runs::new(evaluation.iter(), 13).is_sampled());
}

#[test]
fn deep_records_are_cut_and_not_followed_for_ever() {
    let mut value = json!(long(1, 20));
    for _ in 0..100 {
        value = json!([value]);
    }
    let deep = record(json!({ "a": value }));
    assert_eq!(Runs::new(std::iter::once(&deep), 13).comparable(), 0);
}
