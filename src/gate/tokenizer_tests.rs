//! Tests of tokenizers: swapped ids, lost texts, and who is compared with whom.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::fixture::{family, item};
use super::*;
use crate::data::RecordId;

/// The tokenizer of the fixtures, changed.
fn tokenizer(change: impl FnOnce(&mut Value)) -> Tokenizer {
    written(change, false)
}

fn written(change: impl FnOnce(&mut Value), spaced: bool) -> Tokenizer {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(from.join(FILE)).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    change(&mut value);
    let text = if spaced { format!("{value:#}") } else { value.to_string() };
    std::fs::write(folder.path().join(FILE), text).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

fn swapped() -> Tokenizer {
    tokenizer(|value| {
        let vocabulary = value["model"]["vocab"].as_object_mut().unwrap();
        let (a, b) = (vocabulary["a"].clone(), vocabulary["b"].clone());
        vocabulary.insert("a".to_owned(), b);
        vocabulary.insert("b".to_owned(), a);
    })
}

fn cases(text: &str) -> Vec<Case> {
    let fields = json!({"messages": [{"role": "user", "content": text}]});
    vec![Case {
        record: RecordId { file: Arc::from("a.jsonl"), line: 3 },
        digest: Digest::of(b""),
        fields: fields.as_object().unwrap().clone(),
        examples: Vec::new(),
        question: None,
    }]
}

fn wanted<'a>(recorded: Option<&Tokenizer>, others: &[(&'a str, &'a Tokenizer)]) -> Wanted<'a> {
    let other = |(name, tokenizer): &(&'a str, &'a Tokenizer)| Other { name, tokenizer };
    Wanted {
        recorded: recorded.map(Tokenizer::digest),
        others: others.iter().map(other).collect(),
        added: BTreeSet::new(),
        vocabulary: Some(512),
        allow_change: false,
    }
}

#[test]
fn swapped_ids_fail_against_whoever_has_them_right() {
    let (good, bad) = (tokenizer(|_| {}), swapped());
    let texts = cases("a banana, äöü 東京 🦀\n\tand more");
    let of = |ours: &Tokenizer, wanted: &Wanted| check(ours, &texts, wanted);
    let (outcome, detail) = of(&good, &wanted(Some(&good), &[("its base", &good)]));
    assert_eq!(outcome, TestOutcome::Passed, "{detail}");
    // Whoever swaps them writes and reads them alike: only another one tells.
    for others in [[("its base", &good)], [("the baseline", &good)]] {
        let (outcome, detail) = of(&bad, &wanted(Some(&bad), &others));
        assert_eq!(outcome, TestOutcome::Failed);
        assert!(detail.contains("stands for `b`") && detail.contains(others[0].0), "{detail}");
    }
    let (outcome, detail) = of(&bad, &wanted(Some(&good), &[]));
    assert_eq!(outcome, TestOutcome::Failed);
    assert!(detail.contains("not the tokenizer that the model was trained with"), "{detail}");
    let allowed = Wanted { allow_change: true, ..wanted(Some(&good), &[("its base", &good)]) };
    assert_eq!(of(&bad, &allowed).0, TestOutcome::Passed);
    assert_eq!(of(&good, &wanted(None, &[])).0, TestOutcome::Undecided);
    // Tokens that the run added are no difference, and nothing else is excused by them.
    let more = tokenizer(|value| {
        let id = good.vocabulary_size();
        let token = json!({"id": id, "content": "<tool>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": false});
        value["added_tokens"].as_array_mut().unwrap().push(token);
    });
    let others = [("its base", &good), ("the baseline", &good)];
    assert_eq!(of(&more, &wanted(Some(&good), &others)).0, TestOutcome::Failed);
    let with = |others| Wanted {
        added: BTreeSet::from(["<tool>".to_owned()]),
        ..wanted(Some(&good), others)
    };
    let (outcome, detail) = of(&more, &with(&others));
    assert_eq!(outcome, TestOutcome::Passed, "{detail}");
    assert_eq!(of(&bad, &with(&others)).0, TestOutcome::Failed);
    assert_eq!(of(&more, &with(&[])).0, TestOutcome::Undecided);
    // Another file with the same tokens.
    let spaced = written(|_| {}, true);
    assert_ne!(spaced.digest(), good.digest());
    assert_eq!(of(&spaced, &wanted(Some(&good), &[("its base", &good)])).0, TestOutcome::Passed);
}

#[test]
fn tokens_must_fit_the_model_and_texts_must_come_back() {
    let good = tokenizer(|_| {});
    let size = good.vocabulary_size();
    let small = Wanted { vocabulary: Some(size - 1), ..wanted(Some(&good), &[]) };
    let (outcome, detail) = check(&good, &cases("a"), &small);
    assert_eq!(outcome, TestOutcome::Failed);
    let said = format!("it has {size} tokens, and the model knows {}", size - 1);
    assert!(detail.contains(&said), "{detail}");
    // A decoder that loses spaces.
    let lossy = tokenizer(|value| {
        value["decoder"] = json!({"type": "Sequence", "decoders": [
            {
                "type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true,
            },
            {"type": "Replace", "pattern": {"String": " "}, "content": ""},
        ]});
    });
    let (outcome, detail) = check(&lossy, &cases("one two three"), &wanted(Some(&lossy), &[]));
    assert_eq!(outcome, TestOutcome::Failed, "{detail}");
    assert!(detail.contains("a text of a.jsonl:3 does not come back"), "{detail}");
    assert_eq!(check(&lossy, &cases("one"), &wanted(Some(&lossy), &[])).0, TestOutcome::Passed);
}

#[test]
fn the_base_is_found_where_its_tokenizer_is_the_recorded_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let supply = super::super::fixture::supply(cache.path());
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    std::fs::write(folder.path().join(FILE), "tokens").unwrap();
    let of = |bytes: &[u8]| {
        let mut found = family("lora", vec![item("tokenizer", FILE, bytes, json!({}))]);
        found.base.id = folder.path().display().to_string();
        base_directory(&found, &supply)
    };
    assert_eq!(of(b"tokens").as_deref(), Some(folder.path()));
    assert_eq!(of(b"others"), None);
    assert_eq!(base_directory(&family("lora", Vec::new()), &supply), None);
}
