//! Tokenizers made to do harm, each refused with what it is too much of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::data::Tokenizer;
use crate::data::fixture::{copy_of_model, model_dir};

/// The small tokenizer with something changed.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let bytes = std::fs::read(model_dir().join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut file);
    file
}

/// What loading a tokenizer says, and what a scan does.
fn refused(file: &Value) -> (String, String) {
    let folder = copy_of_model();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let error = Tokenizer::load(folder.path()).err().map(|error| error.to_string());
    let error = error.unwrap_or_else(|| panic!("loaded"));
    assert!(error.contains("tokenizer.json"), "{error}");
    (error, Tokenizer::examine(file.to_string().as_bytes()).unwrap_err())
}

fn map_of_characters(bytes: &[u8]) -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)})
}

fn sequence(step: &Value, count: usize) -> Value {
    json!({"type": "Sequence", "normalizers": vec![step; count], "decoders": vec![step; count],
        "pretokenizers": vec![step; count]})
}

#[test]
fn normalizers_that_are_not_valid_or_let_a_text_grow_are_refused() {
    let ten = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaa"});
    let kilobyte = "e".repeat(1000);
    for (normalizer, says) in [
        (map_of_characters(b""), "`precompiled_charsmap`) is empty"),
        (map_of_characters(b"abc"), "is empty"),
        (map_of_characters(&[[0xfc, 0xff, 0xff, 0xff], [b'x'; 4]].concat()), "4294967292 bytes"),
        (map_of_characters(&[[4, 0, 0, 0], [0; 4], [0xff; 4]].concat()), "UTF-8"),
        (
            map_of_characters(
                &[4, 0, 0, 0, 0, 0, 0, 0].into_iter().chain([b'x'; 2000]).collect::<Vec<_>>(),
            ),
            "2000 times",
        ),
        (json!({"type": "Precompiled", "precompiled_charsmap": "%"}), "base64"),
        (json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}), "empty text"),
        (json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}), "empty pattern"),
        (json!({"type": "Prepend", "prepend": kilobyte.repeat(2)}), "2001 times"),
        (sequence(&ten, 9), "2357947691 times"),
        (sequence(&json!({"type": "ByteLevel"}), 40), "times as long"),
        (sequence(&sequence(&json!({"type": "NFKD"}), 2), 2), "14641 times"),
        (json!({"normalizers": [ten.clone()]}), "`type`"),
        (sequence(&json!({"type": "NFC"}), 5000), "more than 4096 values"),
    ] {
        let file = changed(|file| file["normalizer"] = normalizer.clone());
        let (error, scanned) = refused(&file);
        assert!(error.contains(says) && scanned.contains(says), "{error}\n{scanned}\n{normalizer}");
    }
}

#[test]
fn decoders_and_pre_tokenizers_are_bounded_as_well() {
    let grow = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "e".repeat(1000)});
    for (part, value, says) in [
        ("decoder", grow.clone(), "decoder can make a text 1000 times"),
        ("decoder", sequence(&grow, 9), "decoder can make a text"),
        ("decoder", sequence(&json!({"type": "BPEDecoder", "suffix": ""}), 8), "256 times"),
        ("pre_tokenizer", sequence(&json!({"type": "ByteLevel"}), 30), "pre-tokenizer can make"),
        (
            "pre_tokenizer",
            json!({"type": "Split", "behavior": "Isolated", "invert": false,
            "pattern": {"Regex": "a".repeat(20_000)}}),
            "20000 bytes in a pattern",
        ),
        ("post_processor", json!({"x": vec![0; 5000]}), "more than 4096 values"),
    ] {
        let (error, scanned) = refused(&changed(|file| file[part] = value));
        assert!(error.contains(says) && scanned.contains(says), "{error}\n{scanned}");
    }
}

#[test]
fn tokens_and_ids_are_bounded() {
    let long = "a".repeat(5000);
    let added = |id: u64, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let many = (0..300).map(|n| added(400 + n, &format!("{n}{}", &long[..4000])));
    let many = Value::Array(many.collect());
    let cases: Vec<(Value, &str)> = vec![
        (changed(|file| file["added_tokens"] = json!([added(400, &long)])), "an added token"),
        (changed(|file| file["added_tokens"] = many), "bytes in added tokens"),
        (changed(|file| file["added_tokens"] = json!([added(1 << 24, "x")])), "ids stay below"),
        (changed(|file| file["model"]["vocab"]["z z"] = json!(4_000_000_000_u32)), "ids stay"),
        (changed(|file| file["model"]["vocab"][&long] = json!(400)), "5000 bytes in a token"),
        (changed(|file| file["model"]["continuing_subword_prefix"] = json!(long)), "beside parts"),
        (changed(|file| file["model"]["max_input_chars_per_word"] = json!(1_u64 << 40)), "letters"),
    ];
    for (file, says) in cases {
        let (error, scanned) = refused(&file);
        assert!(error.contains(says) && scanned.contains(says), "{error}\n{scanned}");
    }
    // The library reads both of two equal keys.
    let text = changed(|_| ()).to_string();
    let twice = text.replacen('{', r#"{"normalizer": null, "#, 1);
    assert!(Tokenizer::examine(twice.as_bytes()).unwrap_err().contains("twice"));
    assert_eq!(Tokenizer::examine(text.as_bytes()), Ok(None));
}

#[test]
fn panics_of_the_library_are_errors() {
    // A trie whose places lie outside of it, and a length that divides nothing.
    let trie: Vec<u8> = [[4, 0, 0, 0], [0xff; 4]].concat();
    let wild = changed(|file| file["normalizer"] = map_of_characters(&trie));
    let zero = changed(|file| {
        file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0});
    });
    for file in [wild, zero] {
        let (error, scanned) = refused(&file);
        assert!(error.contains("the tokenizer library cannot"), "{error}");
        assert!(scanned.contains("the tokenizer library cannot"), "{scanned}");
    }
}

#[test]
fn a_text_that_grows_is_refused_while_it_does() {
    let grow = json!({"type": "Replace", "pattern": {"Regex": "q"}, "content": "x".repeat(900)});
    let file = changed(|file| file["normalizer"] = grow);
    let folder = copy_of_model();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    tokenizer.encode(&"a q".repeat(10)).unwrap();
    tokenizer.encode(&"ab ".repeat(10_000)).unwrap();
    let error = tokenizer.encode(&"aq ".repeat(10_000)).unwrap_err().to_string();
    assert!(error.contains("more than 16 times as long"), "{error}");
}

#[test]
fn what_real_tokenizers_have_is_accepted() {
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let longest = [&[4, 0, 0, 0, 0, 0, 0, 0][..], "a\0".as_bytes(), &[b'x'; 33], b"\0"].concat();
    for normalizer in [
        Value::Null,
        json!({"type": "NFC"}),
        json!({"type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, spaces]}),
        json!({"type": "Sequence", "normalizers": [map_of_characters(&longest),
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u{2581}"}]}),
        json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"},
            {"type": "Lowercase"}, map_of_characters(&longest)]}),
    ] {
        let file = changed(|file| file["normalizer"] = normalizer.clone());
        assert!(Bounds::of(file.to_string().as_bytes()).is_ok(), "{normalizer}");
    }
    let listed = json!({"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2]]}});
    assert_eq!(Bounds::of(listed.to_string().as_bytes()), Ok(Bounds { growth: 1.0 }));
    let merges = json!({"model": {"vocab": {"a": 0}, "merges": [["a", "b"], "a b"]}});
    assert_eq!(Bounds::of(merges.to_string().as_bytes()), Ok(Bounds { growth: 1.0 }));
    assert!(matches!(Bounds::of(b"{"), Err(Refusal::Invalid(_))));
    assert!(matches!(Bounds::of(b"[]"), Err(Refusal::Invalid(_))));
}
