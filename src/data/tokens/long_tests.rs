//! Texts that are taken apart have the tokens of the whole, and parts stay small.

use serde_json::{Value, json};

use super::super::parity_tests::{Pieces, load_changed, tokenizers, variants};
use super::*;
use crate::data::fixture::model_dir;
use crate::random::Stream;

/// In how many parts a text is tokenised, each as small as is allowed; they must give the whole.
fn parts(tokenizer: &Tokenizer, text: &str) -> usize {
    let begun = tokenizer.encode_parts(text, TokenBudget::ALL, 1).unwrap();
    assert!(!begun.goes_on);
    assert_eq!(begun.encoded, tokenizer.encode_exactly(text).unwrap(), "{text:?}");
    lengths(tokenizer, text, 1).len()
}

/// How long the parts of a text are.
fn lengths(tokenizer: &Tokenizer, text: &str, size: usize) -> Vec<usize> {
    let (mut at, mut lengths) = (0, Vec::new());
    while let Some(cut) = tokenizer.cuts().and_then(|cuts| cuts.find(text, at + size)) {
        lengths.push(cut.end - at);
        at = cut.next;
    }
    lengths.push(text.len() - at);
    lengths
}

/// Other kinds of tokenizers: what they make of a text beside a place is not known.
fn unknown() -> Vec<Tokenizer> {
    let normalizer = |kind: &'static str| {
        let mut step = json!({ "type": kind });
        if kind == "Strip" {
            step = json!({ "type": kind, "strip_left": true, "strip_right": true });
        }
        load_changed(model_dir(), move |file| file["normalizer"] = step.clone())
    };
    let mut all: Vec<_> = ["Lowercase", "NFKC", "NFD", "Strip"].map(normalizer).into();
    let pattern = json!({ "type": "Split", "pattern": {"Regex": r"\p{L}+ \p{L}+"},
        "behavior": "Isolated", "invert": false });
    all.push(load_changed(model_dir(), move |file| {
        let bytes = file["pre_tokenizer"].clone();
        file["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [pattern, bytes] });
    }));
    all.push(load_changed(model_dir(), |file| {
        file["pre_tokenizer"]["add_prefix_space"] = true.into();
    }));
    all
}

/// Added tokens that reach across words, and those that take the white space beside them.
fn with_odd_tokens() -> Vec<Tokenizer> {
    let odd = |normalizer: Value, normalized: bool, strips: bool| {
        load_changed(model_dir(), move |file| {
            file["normalizer"] = normalizer.clone();
            for (index, content) in ["hello World", "x  y", "he", "the ", " of"].iter().enumerate()
            {
                let token = &mut file["added_tokens"][index];
                let content = if strips { content.trim() } else { content };
                token["content"] = content.into();
                token["normalized"] = normalized.into();
                token["lstrip"] = (strips && index % 2 == 0).into();
                token["rstrip"] = (strips && index > 1).into();
            }
        })
    };
    let nfc = json!({ "type": "NFC" });
    vec![
        odd(Value::Null, false, true),
        odd(Value::Null, true, false),
        odd(nfc.clone(), true, true),
        odd(nfc, false, false),
    ]
}

#[test]
fn texts_in_parts_have_the_tokens_of_the_whole() {
    let known = tokenizers().into_iter().chain(variants()).chain(with_odd_tokens());
    let all = known.map(|one| (one, true)).chain(unknown().into_iter().map(|one| (one, false)));
    for (number, (tokenizer, known)) in all.enumerate() {
        let pieces = Pieces::of(&tokenizer);
        let stream = Stream::new(18).number(number as u64);
        let sentence = "hello World, the  cat of x  y's 12 (or 345abc)\n\tit's <|im_end|> he, \
            K\u{301} the of\u{3002}\u{4f60}\u{597d}\u{3002} \u{212a}elvin =\u{338} \
            Gr\u{f6}\u{df}e e\u{301} ";
        let mut count = parts(&tokenizer, &sentence.repeat(3));
        assert_eq!(count > 5, known, "tokenizer {number}: {count} parts");
        for index in 0..200 {
            let stream = stream.number(index);
            let words = ["the of x ", " of a ", "a 1 is", "e\nI "].map(|words| {
                let place = words.len() as u64;
                pieces.text(stream.number(place)) + words
            });
            count += parts(&tokenizer, &words.concat()) - 1;
        }
        assert_eq!(count > 300, known, "tokenizer {number}: {count} parts");
    }
}

#[test]
fn parts_of_what_data_sets_hold_stay_small() {
    let code = "if(a1<b){c=d[e]+f(g,h)};";
    let encoded = "TWFuIGlz/GRpc3Rpbmd1aXNoZWQs+IG5vdCBvbmx5IGJ5";
    let numbers = "12,3.5,-7\n";
    let chinese = "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002}";
    let text = "What is the capital of France? ";
    let byte_level = Tokenizer::load(&model_dir()).unwrap();
    let marks = &tokenizers()[2];
    for (tokenizer, unit) in [
        (&byte_level, code),
        (&byte_level, encoded),
        (&byte_level, numbers),
        (&byte_level, chinese),
        (&byte_level, text),
        (marks, text),
    ] {
        let lengths = lengths(tokenizer, &unit.repeat((1 << 20) / unit.len()), LONG / 2);
        let longest = lengths.iter().max().unwrap();
        assert!(lengths.len() >= 15 && *longest < LONG / 2 + 100, "{unit}: {lengths:?}");
    }
}

#[test]
fn no_more_is_tokenised_than_is_wanted() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let text = "the capital of France ".repeat(20_000);
    let whole = tokenizer.encode_exactly(&text).unwrap();
    let aside = BTreeSet::new();
    let wanted = TokenBudget { most: 50, aside: &aside, all_or_nothing: false, offsets: true };
    let begun = tokenizer.encode_wanted(&text, wanted).unwrap();
    let count = begun.encoded.tokens.len();
    assert!(begun.goes_on && count > 50 && count < whole.tokens.len() / 4, "{count}");
    assert_eq!(begun.encoded.tokens, whole.tokens[..count]);
    assert_eq!(begun.encoded.offsets, whole.offsets[..count]);
    // Those that do not count make it go on.
    let aside: BTreeSet<u32> = whole.tokens.iter().copied().collect();
    let all = tokenizer.encode_wanted(&text, TokenBudget { aside: &aside, ..wanted }).unwrap();
    assert!(!all.goes_on);
    assert_eq!(all.encoded, whole);
    let fewer = TokenBudget { offsets: false, ..TokenBudget::ALL };
    let tokens = tokenizer.encode_wanted(&text, fewer).unwrap().encoded;
    assert_eq!((tokens.tokens, tokens.offsets.len()), (whole.tokens, 0));
}

#[test]
fn runs_without_end_are_refused_and_never_tokenised() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    for unit in ["a", " ", "7", "=", "ACGT"] {
        let text = format!("the {}", unit.repeat((AT_ONCE_MAX + 40) / unit.len()));
        let error = tokenizer.encode(&text).unwrap_err();
        let cause = error.causes.first().unwrap();
        assert!(cause.contains("at most 1048576") && cause.contains("10486"), "{cause}");
        // Where a text of so many tokens is of no use, that is all that needs to be known.
        let aside = BTreeSet::new();
        let wanted = TokenBudget { most: 500, aside: &aside, all_or_nothing: true, offsets: true };
        let begun = tokenizer.encode_wanted(&text, wanted);
        assert_eq!(begun.is_ok_and(|begun| begun.goes_on), unit != " ", "{unit:?}");
    }
}

#[test]
fn a_text_has_at_least_so_many_tokens() {
    let known = tokenizers().into_iter().chain(variants()).chain(with_odd_tokens());
    let mut certain = 0;
    for (number, tokenizer) in known.enumerate() {
        let pieces = Pieces::of(&tokenizer);
        let stream = Stream::new(19).number(number as u64);
        for index in 0..100 {
            let text = pieces.text(stream.number(index));
            let least = tokenizer.cuts().unwrap().at_least(&text, &[]);
            certain += least;
            assert!(least <= tokenizer.encode_exactly(&text).unwrap().tokens.len(), "{text:?}");
        }
    }
    assert!(certain > 1000, "{certain}");
}

#[test]
fn what_cannot_be_taken_apart_is_not_tokenised_at_once_however_long_it_is() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let _ = tokenizer.cuts.set(None); // as of a kind that is not known
    let words = "the capital of France ";
    let short = words.repeat(WHOLE_MAX / words.len());
    assert!(tokenizer.encode(&short).unwrap().tokens.len() > 40_000);
    let error = tokenizer.encode(&short.repeat(2)).unwrap_err();
    let cause = error.causes.first().unwrap();
    assert!(cause.contains("no place where a text for this tokenizer can be taken"), "{cause}");
    let compact = tokenizer.encode_compactly(&short).unwrap();
    let tokens = tokenizer.encode(&short).unwrap().tokens;
    assert_eq!(compact.range(0..compact.len()), tokens);
}
