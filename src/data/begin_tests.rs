//! Long records: the same examples as if all of each had been tokenised.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::DataConfig;
use crate::data::example::{Example, RecordOutcome};
use crate::data::fixture::{codec, codec_with, config};
use crate::data::formats::{Content, Conversation};
use crate::data::{Codec, mask};
use crate::snapshots::{each_says, says};

const WORDS: &str = "the capital of France is Paris, 12 kinds ";

fn settings(overlong: Overlong) -> DataConfig {
    DataConfig { overlong, ..config(&[] as &[&Path]) }
}

fn made(codec: &Codec, overlong: Overlong, content: Content) -> Result<RecordOutcome> {
    let settings = settings(overlong);
    let id = RecordId { file: "a.jsonl".into(), line: 3 };
    Ok(Maker::new(codec, &settings).make(content, <_>::default(), &id)?.outcome)
}

fn chat(first: &str, answer: &str) -> Content {
    let messages = vec![
        json!({ "role": "user", "content": first }),
        json!({ "role": "assistant", "content": answer }),
    ];
    Content::Chat(Conversation { messages, ..Conversation::default() })
}

#[test]
fn a_long_record_is_cut_as_if_all_of_it_had_been_tokenised() {
    let codec = codec();
    let long = WORDS.repeat(10_000);
    let Content::Chat(conversation) = chat("the capital", &long) else { unreachable!() };
    let template = codec.chat_template().unwrap();
    let handed = template.render(&[&conversation], true).ok().unwrap().pop().unwrap().unwrap();
    let whole = codec.tokenizer.encode_exactly(&handed.rendered.text).unwrap();
    let loss_mask = mask::mask(&codec, &handed.rendered, &whole);
    let outcome = made(&codec, Overlong::Truncate, Content::Chat(conversation)).unwrap();
    let RecordOutcome::Truncated(example) = outcome else { panic!("{outcome:?}") };
    assert_eq!(example.tokens, whole.tokens[..64]);
    assert_eq!(example.loss_mask, loss_mask[..64]);
    assert!(example.target_count() > 20);

    let (prompt, completion) = ("the capital of".to_owned(), long);
    let whole = codec.tokenizer.encode_exactly(&format!("{prompt}{completion}")).unwrap();
    let content = Content::Completion { prompt: prompt.clone(), completion };
    let outcome = made(&codec, Overlong::Truncate, content).unwrap();
    let RecordOutcome::Truncated(example) = outcome else { panic!("{outcome:?}") };
    assert_eq!(example.tokens, whole.tokens[..64]);
    let loss_mask = |&(start, _): &(usize, usize)| start >= prompt.len();
    assert!(example.loss_mask.iter().copied().eq(whole.offsets[..64].iter().map(loss_mask)));
}

#[test]
fn a_long_text_is_in_pieces_that_hold_all_of_it() {
    let codec = codec();
    // The second is too long to be held as one example.
    for times in [5000, PIECES_FROM / WORDS.len() + 1] {
        let text = WORDS.repeat(times);
        let whole = codec.tokenizer.encode_exactly(&text).unwrap().tokens;
        let outcome = made(&codec, Overlong::Truncate, Content::Text(text)).unwrap();
        let RecordOutcome::Pieces(pieces) = outcome else { panic!("{outcome:?}") };
        let pieces: Vec<Example> = pieces.into_iter().collect();
        let rest = pieces.iter().flat_map(|piece| piece.tokens[1..].iter().copied());
        let all = std::iter::once(pieces[0].tokens[0]).chain(rest);
        assert!(all.eq(whole.into_iter().chain(codec.tokenizer.eos())));
        for piece in &pieces {
            assert!(!piece.loss_mask[0] && piece.loss_mask[1..].iter().all(|target| *target));
            assert!(piece.tokens.len() <= 64 && piece.tokens.len() == piece.loss_mask.len());
        }
    }
}

#[test]
fn a_text_of_many_bytes_and_few_tokens_is_one_example() {
    let codec = codec();
    let text = "the ".repeat(PIECES_FROM / 4 + 1);
    let config = DataConfig { max_seq_len: 1 << 20, ..settings(Overlong::Truncate) };
    let maker = Maker::new(&codec, &config);
    let MadeTokens::Example(example, false) = maker.pieces(&text).unwrap() else {
        panic!("it is longer than a row");
    };
    assert_eq!(Ok((example, false)), maker.plain(&text, 0, true));
}

#[test]
fn what_is_too_long_for_certain_is_dropped_or_said_without_its_length() {
    let codec = codec();
    let word = "x".repeat(4 << 20);
    let mut messages = Vec::new();
    for long in [WORDS.repeat(10_000), word.clone()] {
        for content in [Content::Text(long.clone()), chat("the", &long)] {
            let outcome = made(&codec, Overlong::Drop, content.clone()).unwrap();
            assert!(matches!(outcome, RecordOutcome::Dropped), "{outcome:?}");
            let error = made(&codec, Overlong::Error, content).unwrap_err().to_string();
            messages.push(error);
        }
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[data]: a record has more than 64 tokens, which is `data.max_seq_len`
  at a.jsonl:3:1

hint: set `data.overlong` to `truncate` or `drop`, or raise `data.max_seq_len`
"#]],
    );
    // What is not too long for certain is counted.
    let error = made(&codec, Overlong::Error, Content::Text(WORDS.repeat(20))).unwrap_err();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a record has 363 tokens, and `data.max_seq_len` is 64
  at a.jsonl:3:1

hint: set `data.overlong` to `truncate` or `drop`, or raise `data.max_seq_len`
"#]],
    );
    // Cut, it would have to be tokenised.
    let outcome = made(&codec, Overlong::Truncate, Content::Text(word)).unwrap();
    let RecordOutcome::Bad(why) = outcome else { panic!("{outcome:?}") };
    says(
        &why,
        snapbox::str![
            "the text cannot be tokenised within the limits: 4194304 bytes in a row are letters, and nothing else is among them; at most 1048576 are accepted"
        ],
    );
}

#[test]
fn two_tokens_that_begin_a_text_end_a_run_whatever_its_length() {
    let codec = codec_with(
        "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
    );
    let error = made(&codec, Overlong::Drop, chat("a", &"x".repeat(2 << 20))).unwrap_err();
    says(
        &error,
        snapbox::str![[r#"
error[data]: the rendered conversation begins with `<|bos|>` twice
  at a.jsonl:3:1
  because the chat template [FOLDER]/template.jinja writes it so

hint: remove it from the first message of the records, or from the template
"#]],
    );
}
