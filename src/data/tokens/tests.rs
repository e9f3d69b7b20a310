//! Offsets, special tokens and streamed text of two kinds of tokenizer.

use serde_json::json;

use super::*;
use crate::data::fixture::{codec, copy_of_model, model_dir};
use crate::snapshots::says;

const TEXT: &str = "<|im_start|>user\nWhat is the größe of 日本 🎉?<|im_end|>\n";

#[test]
fn offsets_are_bytes_of_the_text_and_cover_it() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let encoded = tokenizer.encode(TEXT).unwrap();
    assert_eq!(encoded.offsets[0], (0, "<|im_start|>".len()));
    assert_eq!(encoded.offsets.last().unwrap().1, TEXT.len());
    let mut covered = 0;
    for &(start, end) in &encoded.offsets {
        assert!(TEXT.is_char_boundary(start) && TEXT.is_char_boundary(end));
        // Tokens of one character have its range; otherwise one token begins where one ends.
        assert!(start <= covered && end >= covered, "{start} {end} {covered}");
        covered = end;
    }
    let end = TEXT.find("<|im_end|>").unwrap();
    let token = encoded.offsets.iter().position(|&(start, _)| start == end).unwrap();
    assert_eq!(tokenizer.token_name(encoded.tokens[token]).unwrap(), "<|im_end|>");
    // Leading spaces belong to their token, whatever the post-processor would make of them.
    let is = TEXT.find(" is").unwrap();
    assert!(encoded.offsets.iter().any(|&(start, _)| start == is));
}

#[test]
fn what_depends_on_more_than_the_text_is_switched_off() {
    // The file asks for truncation to four tokens.
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let long = "the capital of France is Paris ".repeat(20);
    let tokens = tokenizer.encode(&long).unwrap().tokens;
    assert!(tokens.len() > 100);
    assert_eq!(tokenizer.decode(&tokens, false).unwrap(), long);

    let folder = copy_of_model();
    let path = folder.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["model"]["dropout"] = json!(0.9);
    file["padding"] = json!({"strategy": {"Fixed": 500}, "direction": "Right", "pad_id": 4,
        "pad_to_multiple_of": null, "pad_type_id": 0, "pad_token": "<|pad|>"});
    std::fs::write(&path, file.to_string()).unwrap();
    let other = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(other.encode(&long).unwrap().tokens, tokens);
    assert_ne!(other.digest(), tokenizer.digest());
}

#[test]
fn special_tokens_are_found_by_name_and_by_number() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(3), Some(0)));
    assert_eq!(tokenizer.special_names()["eos_token"], "<|endoftext|>");
    assert!(!tokenizer.special_names().contains_key("clean_up_tokenization_spaces"));
    assert_eq!(tokenizer.vocabulary_size(), 362);
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(10));
    assert!(tokenizer.prefix().is_empty());

    let folder = copy_of_model();
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": 0}"#).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [2, 0]}"#)
        .unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (None, Some(2)));
    assert!(tokenizer.stops().iter().eq(&[0, 2]));
    // The template ends turns with `<|im_end|>`.
    assert_eq!(codec().end_of_turn(), Some(2));
    assert!(codec().stops().iter().eq(&[0, 2]));
}

#[test]
fn the_prefix_is_what_the_post_processor_adds() {
    let folder = copy_of_model();
    let path = folder.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [3], "tokens": ["<|bos|>"]}}
    });
    std::fs::write(&path, file.to_string()).unwrap();
    let codec = crate::data::Codec::load(folder.path(), None).unwrap();
    assert_eq!(codec.tokenizer.prefix(), [3]);
    assert_eq!(codec.text_tokens("the").unwrap()[0], 3);
    assert!(!codec.tokenizer.encode("the").unwrap().tokens.contains(&3));
    assert!(!codec.chat_tokens("the").unwrap().contains(&3));
}

/// A tokenizer of the SentencePiece kind: spaces become `▁`, one is put in front, unknown
/// characters become bytes.
fn sentence_piece() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["<unk>", "▁", "a", "b", "c", "▁a", "▁b", "ab", "▁ab"].map(str::to_owned);
    let vocabulary: BTreeMap<String, usize> = pieces.into_iter().chain(bytes).zip(0..).collect();
    let file = json!({
        "version": "1.0", "added_tokens": [], "post_processor": null, "pre_tokenizer": null,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocabulary,
            "merges": [["▁", "a"], ["▁", "b"], ["a", "b"], ["▁a", "b"], ["▁", "ab"]]}
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

fn streamed(tokenizer: &Tokenizer, tokens: &[u32], skip_special: bool) -> (String, Vec<String>) {
    let mut stream = TextStream::new(skip_special);
    let mut parts: Vec<String> =
        tokens.iter().map(|token| stream.push(tokenizer, *token).unwrap()).collect();
    parts.push(stream.finish(tokenizer).unwrap());
    (parts.concat(), parts)
}

#[test]
fn streamed_text_is_the_whole_text_in_whole_characters() {
    let byte_level = Tokenizer::load(&model_dir()).unwrap();
    for (tokenizer, text) in [(byte_level, TEXT), (sentence_piece(), "ab a 日本🎉 ab b")] {
        let tokens = tokenizer.encode(text).unwrap().tokens;
        assert_eq!(tokenizer.decode(&tokens, false).unwrap(), text);
        let (whole, parts) = streamed(&tokenizer, &tokens, false);
        assert_eq!(whole, text);
        assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "{parts:?}");
        assert!(parts.iter().any(String::is_empty), "a character of several tokens waits");
    }
}

#[test]
fn a_stream_of_broken_bytes_goes_on() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let first_byte = tokenizer.encode("🎉").unwrap().tokens[0];
    let mut tokens = vec![first_byte; 9];
    tokens.extend(tokenizer.encode("the end").unwrap().tokens);
    let (whole, _) = streamed(&tokenizer, &tokens, false);
    assert!(whole.starts_with('\u{fffd}') && whole.ends_with("the end"), "{whole}");
}

/// Whatever bytes come, the stream is the whole text, a character behind broken bytes among them.
#[test]
fn broken_bytes_swallow_no_character() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    // A token for each byte, by the characters that have it.
    let texts = ["🎉", "Ϙ", "日", "a", "ﳡ"];
    let bytes: Vec<u32> =
        texts.iter().flat_map(|text| tokenizer.encode(text).unwrap().tokens).collect();
    let stream = crate::random::Stream::new(4);
    for case in 0..400 {
        let drawn = |index: u64| (stream.uniform(case * 20 + index) * bytes.len() as f64) as usize;
        let tokens: Vec<u32> = (0..12).map(|index| bytes[drawn(index)]).collect();
        let whole = tokenizer.decode(&tokens, false).unwrap();
        assert_eq!(streamed(&tokenizer, &tokens, false).0, whole, "{tokens:?}");
    }
    let broken = [&bytes[..1].repeat(90)[..], &bytes].concat();
    let whole = tokenizer.decode(&broken, false).unwrap();
    assert_eq!(streamed(&tokenizer, &broken, false).0, whole);
}

#[test]
fn a_token_that_is_left_out_parts_no_character() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let (end, unknown) = (tokenizer.eos().unwrap(), 5_000_000);
    let text = "What is the größe of 日本 🎉?";
    let whole = tokenizer.encode(text).unwrap().tokens;
    for (between, skip_special) in [(end, true), (unknown, true), (unknown, false)] {
        for times in 1..6 {
            // Behind every token, and so between the bytes of every character.
            let parted = |token: &u32| [vec![*token], vec![between; times]].concat();
            let tokens: Vec<u32> = whole.iter().flat_map(parted).collect();
            assert_eq!(tokenizer.decode(&tokens, skip_special).unwrap(), text);
            let (streamed, parts) = streamed(&tokenizer, &tokens, skip_special);
            assert_eq!(streamed, text, "{times} times {between}");
            assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "{parts:?}");
        }
    }
    // What is shown stays where it stands.
    let bytes = tokenizer.encode("🎉").unwrap().tokens;
    let tokens = [&bytes[..1], &[end], &bytes[1..]].concat();
    let shown = tokenizer.decode(&tokens, false).unwrap();
    assert!(shown.contains("<|endoftext|>"), "{shown}");
    assert_eq!(streamed(&tokenizer, &tokens, false).0, shown);
}

#[test]
fn offsets_of_the_sentence_piece_kind_are_bytes_too() {
    let tokenizer = sentence_piece();
    let text = "ab 日 ab";
    let encoded = tokenizer.encode(text).unwrap();
    let last = encoded.offsets.len() - 1;
    assert_eq!(encoded.offsets[last], (6, 9));
    let bytes = encoded.offsets.iter().filter(|&&range| range == (3, 6)).count();
    assert_eq!(bytes, 3, "each byte has the range of its character: {:?}", encoded.offsets);
    // What each of them writes, too.
    let written = tokenizer.token_bytes().unwrap();
    let all = encoded.tokens.iter().flat_map(|token| written[*token as usize].clone());
    assert_eq!(String::from_utf8(all.collect()).unwrap().trim_start(), text);
}

#[test]
fn a_model_without_tokenizer_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    says(
        Tokenizer::load(folder.path()).err().unwrap(),
        snapbox::str![[r#"
error[tokenizer]: the model has no tokenizer
  at [FOLDER]/tokenizer.json
  because No such file or directory (os error 2)

hint: `tokenizer.json` is needed; `tokenizer.model` and others are not read
"#]],
    );
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    says(
        Tokenizer::load(folder.path()).err().unwrap(),
        snapbox::str![[r#"
error[tokenizer]: not a valid tokenizer
  at [FOLDER]/tokenizer.json
  because Model missing. at line 1 column 2
"#]],
    );
}
