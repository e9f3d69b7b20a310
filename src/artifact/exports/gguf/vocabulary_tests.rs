//! Tests of the tokenizer section: kinds of tokens, scores, and what is refused.

use serde_json::json;

use super::*;
use crate::snapshots::says;

fn byte_level() -> Value {
    json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "added_tokens": [
            {"id": 3, "content": "<|end|>", "special": true},
            {"id": 4, "content": "<tool>", "special": false}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    })
}

fn pieces() -> Value {
    let mut vocab = serde_json::Map::new();
    let names = ["<unk>", "<s>", "▁", "a", "b", "ab", "▁a", "▁ab"].map(str::to_owned);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    for (id, name) in names.into_iter().chain(bytes).enumerate() {
        vocab.insert(name, json!(id));
    }
    json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 1, "content": "<s>", "special": true}],
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": vocab,
            "merges": ["▁ a", "a b", "▁a b", "▁ ab"]},
    })
}

fn why(file: &Value, rows: usize) -> String {
    Vocabulary::read(file, rows).unwrap_err().to_string()
}

#[test]
fn tokens_get_their_kinds_and_rows_without_one_a_name() {
    let read = Vocabulary::read(&byte_level(), 6).unwrap();
    assert_eq!(read.tokens, ["a", "b", "ab", "<|end|>", "<tool>", "[PAD5]"]);
    assert_eq!(read.kinds, [NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED]);
    let merges = vec!["a b".to_owned()];
    assert_eq!(read.way, Way::Bytes { splitting: "gpt-2", merges });
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_refused() {
    says(
        why(&byte_level(), 4),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its token `<tool>` has no row among the model's 4

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    let mut file = byte_level();
    file["model"]["vocab"]["c"] = json!(2);
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because two of its tokens have the id of `c`

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["vocab"] = json!({"a": 0, "[PAD5]": 1});
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its token `[PAD5]` has two ids

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["vocab"] = json!({"a": -1});
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its token `a` has no row among the model's 6

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["vocab"] = json!({"x".repeat(5000): 1});
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because one of its tokens has 5000 bytes

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    let mut file = byte_level();
    file["normalizer"] = json!({"type": "Lowercase"});
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its normalizer changes the text

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["type"] = json!("Unigram");
    says(
        why(&file, 6),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its model is not BPE

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
}

#[test]
fn pieces_get_scores_in_the_order_of_their_merges() {
    let read = Vocabulary::read(&pieces(), 264).unwrap();
    assert_eq!(read.kinds[..4], [UNKNOWN, CONTROL, NORMAL, NORMAL]);
    assert_eq!((read.kinds[8], read.kinds[263]), (BYTE, BYTE));
    let Way::Pieces { scores, space_before } = read.way else { panic!("other kind") };
    // Of `▁a`, `ab` and `▁ab`: the earlier it merges, the higher.
    assert_eq!((scores[6], scores[5], scores[7]), (0.0, -1.0, -2.0));
    assert!(space_before);
    let mut file = pieces();
    file["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let read = Vocabulary::read(&file, 264).unwrap();
    assert!(matches!(read.way, Way::Pieces { space_before: false, .. }));
}

#[test]
fn pieces_that_would_merge_otherwise_are_refused() {
    let mut file = pieces();
    file["model"]["merges"] = json!(["▁ a", "a b", "▁a b"]);
    says(
        why(&file, 264),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because `▁` and `ab` do not merge, though `▁ab` is a token

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["merges"] = json!(["▁ ab", "a b", "▁a b", "▁ a"]);
    says(
        why(&file, 264),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because the merges that give `▁ab` do not stand together

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    file["model"]["merges"] = json!(["▁ b"]);
    says(
        why(&file, 264),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its merge of `▁` and `b` gives no token

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    let mut file = pieces();
    file["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>");
    says(
        why(&file, 264),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because it has no token for the byte 0x41

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
    let mut file = pieces();
    file["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁"});
    says(
        why(&file, 264),
        snapbox::str![[r#"
error[export]: this tokenizer cannot be written as GGUF
  because its way of marking spaces is not SentencePiece's own

hint: llama.cpp would load the file, and tokenise texts differently than in training
"#]],
    );
}
