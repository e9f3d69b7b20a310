//! Tokenizers made to do harm, each refused with what it is too much of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::data::Tokenizer;
use crate::data::fixture::{copy_of_model, model_dir};
use crate::snapshots::{each_says, says};

/// The small tokenizer with something changed.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let bytes = std::fs::read(model_dir().join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut file);
    file
}

/// What loading a tokenizer says, and a scan for the same reason.
fn refused(file: &Value) -> String {
    let folder = copy_of_model();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let error = Tokenizer::load(folder.path()).err().expect("must be refused");
    let scanned = Tokenizer::examine(file.to_string().as_bytes()).unwrap_err();
    assert!(scanned.ends_with(&error.causes[0]), "{scanned}");
    error.to_string()
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
    let normalizers = [
        map_of_characters(b""),
        map_of_characters(b"abc"),
        map_of_characters(&[[0xfc, 0xff, 0xff, 0xff], [b'x'; 4]].concat()),
        map_of_characters(&[[4, 0, 0, 0], [0; 4], [0xff; 4]].concat()),
        map_of_characters(
            &[4, 0, 0, 0, 0, 0, 0, 0].into_iter().chain([b'x'; 2000]).collect::<Vec<_>>(),
        ),
        json!({"type": "Precompiled", "precompiled_charsmap": "%"}),
        json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
        json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}),
        json!({"type": "Prepend", "prepend": kilobyte.repeat(2)}),
        sequence(&ten, 9),
        sequence(&json!({"type": "ByteLevel"}), 40),
        sequence(&sequence(&json!({"type": "NFKD"}), 2), 2),
        json!({"normalizers": [ten.clone()]}),
        sequence(&json!({"type": "NFC"}), 5000),
    ];
    let errors = normalizers.map(|own| refused(&changed(|file| file["normalizer"] = own)));
    each_says(
        errors,
        snapbox::str![[r#"
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its map of characters (`precompiled_charsmap`) is empty
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its map of characters (`precompiled_charsmap`) says that its trie has 4294967292 bytes, and has 4
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its map of characters (`precompiled_charsmap`) holds texts that are not UTF-8
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its normalizer can make a text 2000 times as long; at most 1024 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its map of characters (`precompiled_charsmap`) is not base64
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it replaces an empty text, which is everywhere
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it replaces an empty pattern, which is everywhere
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its normalizer can make a text 2001 times as long; at most 1024 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its normalizer can make a text 2357947691 times as long; at most 1024 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its normalizer can make a text 1099511627776 times as long; at most 1024 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its normalizer can make a text 14641 times as long; at most 1024 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because a part of it does not say its `type`
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because a part of the tokenizer has more than 4096 values
"#]],
    );
}

#[test]
fn decoders_and_pre_tokenizers_are_bounded_as_well() {
    let grow = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "e".repeat(1000)});
    let split = json!({"type": "Split", "behavior": "Isolated", "invert": false,
        "pattern": {"Regex": "a".repeat(20_000)}});
    let parts = [
        ("decoder", grow.clone()),
        ("decoder", sequence(&grow, 9)),
        ("decoder", sequence(&json!({"type": "BPEDecoder", "suffix": ""}), 8)),
        ("pre_tokenizer", sequence(&json!({"type": "ByteLevel"}), 30)),
        ("pre_tokenizer", split),
        ("post_processor", json!({"x": vec![0; 5000]})),
    ];
    let errors = parts.map(|(part, value)| refused(&changed(|file| file[part] = value)));
    each_says(
        errors,
        snapbox::str![[r#"
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its decoder can make a text 1000 times as long; at most 64 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its decoder can make a text 1000000000000000013287555072 times as long; at most 64 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its decoder can make a text 256 times as long; at most 64 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because its pre-tokenizer can make a text 1152921504606846976 times as long; at most 64 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it has 20000 bytes in a pattern; at most 16384 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because a part of the tokenizer has more than 4096 values
"#]],
    );
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
    let files = [
        changed(|file| file["added_tokens"] = json!([added(400, &long)])),
        changed(|file| file["added_tokens"] = many),
        changed(|file| file["added_tokens"] = json!([added(1 << 24, "x")])),
        changed(|file| file["model"]["vocab"]["z z"] = json!(4_000_000_000_u32)),
        changed(|file| file["model"]["vocab"][&long] = json!(400)),
        changed(|file| file["model"]["continuing_subword_prefix"] = json!(long)),
        changed(|file| file["model"]["max_input_chars_per_word"] = json!(1_u64 << 40)),
    ];
    each_says(
        files.iter().map(refused),
        snapbox::str![[r#"
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it has 5000 bytes in an added token; at most 4096 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it has 1048676 bytes in added tokens; at most 1048576 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because a token has the id 16777216; ids stay below 16777216
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because a token has the id 4000000000; ids stay below 16777216
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it has 5000 bytes in a token; at most 4096 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it has 5000 bytes beside parts of words; at most 256 are accepted
error[file]: the tokenizer is refused
  at [FOLDER]/tokenizer.json
  because it takes words of more than 10000 letters
"#]],
    );
    // The library reads both of two equal keys.
    let text = changed(|_| ()).to_string();
    let twice = text.replacen('{', r#"{"normalizer": null, "#, 1);
    says(Tokenizer::examine(twice.as_bytes()).unwrap_err(), snapbox::str!["a key appears twice"]);
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
    each_says(
        [wild, zero].iter().map(refused),
        snapbox::str![[r#"
error[tokenizer]: the tokenizer library cannot look at the tokenizer
  at [FOLDER]/tokenizer.json
  because index out of bounds: the len is 1 but the index is 1073741665
error[tokenizer]: the tokenizer library cannot look at the tokenizer
  at [FOLDER]/tokenizer.json
  because chunk size must be non-zero
"#]],
    );
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
    says(
        tokenizer.encode(&"aq ".repeat(10_000)).unwrap_err(),
        snapbox::str![[r#"
error[tokenizer]: the text cannot be tokenised within the limits
  because a text of 30000 bytes becomes more than 16 times as long in the normalizer
"#]],
    );
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
