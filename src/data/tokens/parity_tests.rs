//! The fast engine gives what the exact one gives, or leaves the text to it.
//!
//! `FIREBRAND_TOKENIZERS` names further model directories, separated by colons, and
//! `FIREBRAND_HOSTILE` how many strings to generate for each tokenizer.

use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::json;

use super::*;
use crate::data::fixture::model_dir;
use crate::random::Stream;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// How published tokenizers split a text before it becomes bytes: Llama 3, Qwen, GPT-4o and
/// gpt-oss, DeepSeek-V3 (three rules), StarCoder (none of these).
const SPLITTING: [&[&str]; 5] = [
    &[concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )],
    &[concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )],
    &[concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )],
    &[
        r"\p{N}{1,3}",
        "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
        concat!(
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+",
            "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*",
            "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
        ),
    ],
    &[],
];

/// A tokenizer of the fixtures, changed to be of another kind.
fn changed(folder: PathBuf, change: impl Fn(&mut Value)) -> Tokenizer {
    let tokenizer = load_changed(folder, change);
    assert_eq!(tokenizer.engine(), "fast");
    tokenizer
}

pub(super) fn load_changed(folder: PathBuf, change: impl Fn(&mut Value)) -> Tokenizer {
    let mut file: Value =
        serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    change(&mut file);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

/// The fixtures' tokenizers as other kinds.
pub(super) fn variants() -> Vec<Tokenizer> {
    let mut variants = Vec::new();
    for rules in SPLITTING {
        let split = |rule: &&str| {
            json!({ "type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated",
            "invert": false })
        };
        let mut steps: Vec<Value> = rules.iter().map(split).collect();
        if rules.is_empty() {
            steps.push(json!({ "type": "Digits", "individual_digits": true }));
        }
        steps.push(json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": rules.is_empty() }));
        for normalizer in [Value::Null, json!({ "type": "NFC" })] {
            variants.push(changed(model_dir(), |file| {
                file["normalizer"] = normalizer.clone();
                file["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": steps });
                file["model"]["ignore_merges"] = normalizer.is_null().into();
                let added = file["added_tokens"].as_array_mut().unwrap();
                added[1]["rstrip"] = true.into();
                added[2]["lstrip"] = true.into();
                added[3]["normalized"] = true.into();
                added[4]["special"] = false.into();
            }));
        }
    }
    let spm = || root().join("tests/fixtures/tokenizer-spm");
    // As Gemma has it.
    variants.push(changed(spm(), |file| {
        file["normalizer"] = file["normalizer"]["normalizers"][1].clone();
        file["pre_tokenizer"] = json!({ "type": "Split", "pattern": {"String": " "},
            "behavior": "MergedWithPrevious", "invert": false });
        file["added_tokens"][1]["rstrip"] = true.into();
    }));
    for (scheme, split) in
        [("always", true), ("first", true), ("never", true), ("always", false), ("first", false)]
    {
        variants.push(changed(spm(), |file| {
            file["normalizer"] = Value::Null;
            file["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "\u{2581}",
                "prepend_scheme": scheme, "split": split });
            file["added_tokens"][2]["lstrip"] = true.into();
        }));
    }
    variants
}

/// Every tokenizer of the repository that the fast engine must be able to serve, and those named.
pub(super) fn tokenizers() -> Vec<Tokenizer> {
    let own = [
        model_dir(),
        root().join("checkpoints/base-tiny/artifact"),
        root().join("tests/fixtures/tokenizer-spm"),
    ];
    let named = std::env::var("FIREBRAND_TOKENIZERS").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    own.into_iter()
        .chain(named)
        .map(|folder| {
            let tokenizer = Tokenizer::load(&folder).unwrap();
            assert_eq!(tokenizer.engine(), "fast", "{}", folder.display());
            tokenizer
        })
        .collect()
}

/// Whether the fast engine served the text; it must not differ.
fn served(tokenizer: &Tokenizer, text: &str) -> bool {
    let exact = tokenizer.encode_exactly(text).unwrap();
    let Some(fast) = tokenizer.fast().unwrap().encode(text) else { return false };
    assert_eq!(fast.tokens, exact.tokens, "tokens of {text:?}");
    assert_eq!(fast.offsets, exact.offsets, "offsets of {text:?}");
    true
}

#[test]
fn every_text_of_the_data_sets_is_the_same_in_both_engines() {
    let mut texts = Vec::new();
    for name in ["alpaca", "completion", "corpus", "messages", "quickstart", "text"] {
        let lines = std::fs::read_to_string(root().join(format!("datasets/{name}.jsonl"))).unwrap();
        for line in lines.lines() {
            // The line itself is a text full of quotes and braces.
            texts.push(line.to_owned());
            strings(&serde_json::from_str(line).unwrap(), &mut texts);
        }
    }
    assert!(texts.len() > 5000);
    for tokenizer in tokenizers() {
        let served = texts.par_iter().filter(|text| served(&tokenizer, text)).count();
        assert!(served * 100 >= texts.len() * 99, "{served} of {}", texts.len());
    }
}

fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        Value::Object(fields) => fields.values().for_each(|item| strings(item, out)),
        _ => {}
    }
}

#[test]
fn hostile_strings_are_the_same_in_both_engines() {
    let named = std::env::var("FIREBRAND_HOSTILE").ok();
    let count: u64 = named.map_or(3000, |count| count.parse().unwrap());
    for (number, tokenizer) in tokenizers().into_iter().chain(variants()).enumerate() {
        let pieces = Pieces::of(&tokenizer);
        let stream = Stream::new(11).number(number as u64);
        let check = |index: &u64| served(&tokenizer, &pieces.text(stream.number(*index)));
        let served = (0..count).into_par_iter().filter(check).count() as u64;
        // Texts that normalizing changes, or with unknown characters, are left to the exact engine.
        assert!(served * 4 >= count, "{served} of {count}");
    }
}

/// What stands before and after a character, so that its class shows.
const BEFORE: [&str; 5] = ["x", "hello", "12", "\n .", "X "];
const AFTER: [&str; 6] = [".central", "central", " central", "1\u{301}", "'s", "\n/"];
/// Blocks of so many characters of one class that some are enough.
const LARGE: [std::ops::Range<u32>; 5] =
    [0x3400..0x9fff, 0xac00..0xd7a3, 0xe000..0xf8ff, 0x17000..0x18cff, 0x20000..0x10_ffff];

#[test]
fn characters_of_all_of_unicode_are_the_same_in_both_engines() {
    // Every character where all is wanted.
    let step = if std::env::var_os("FIREBRAND_HOSTILE").is_some() { 1 } else { 499 };
    let wanted = |code: &u32| {
        code.is_multiple_of(step)
            && (code.is_multiple_of(97) || !LARGE.iter().any(|block| block.contains(code)))
    };
    let characters: Vec<char> = (0..=0x10_ffff).filter(wanted).filter_map(char::from_u32).collect();
    let text = |c: &char| -> String {
        let beside = BEFORE.iter().flat_map(|before| AFTER.map(|after| (before, after)));
        beside.map(|(before, after)| format!("{before}{c}{after} ")).collect()
    };
    for tokenizer in tokenizers() {
        let served = characters.par_iter().filter(|c| served(&tokenizer, &text(c))).count();
        assert!(served * 8 >= characters.len(), "{served} of {}", characters.len());
    }
}

#[test]
fn long_runs_are_the_same_in_both_engines() {
    for tokenizer in tokenizers() {
        for unit in
            [" ", "\n", "a", "ab", "=", "0", "\u{301}", "日", "🎉", "\u{2581}", "a ", "\r\n"]
        {
            for count in [1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 25, 63, 64, 65, 255, 256, 3000] {
                served(&tokenizer, &unit.repeat(count));
                served(&tokenizer, &format!("x{}y", unit.repeat(count)));
            }
        }
    }
}

#[test]
fn kinds_that_were_not_tested_are_left_to_the_exact_engine() {
    let engine = |folder: PathBuf, change: &dyn Fn(&mut Value)| {
        let tokenizer = load_changed(folder, change);
        let text = "The cat's  CAPITAL of <|im_end|> 12 \u{e9}";
        let encoded = tokenizer.encode(&text.repeat(WORTHWHILE / text.len())).unwrap();
        assert!(encoded.tokens.len() > 100);
        tokenizer.engine()
    };
    let spm = || root().join("tests/fixtures/tokenizer-spm");
    let lower = json!({ "type": "Lowercase" });
    let unigram = json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false,
        "vocab": [["<unk>", 0.0], ["a", -1.0]] });
    let found = [
        engine(model_dir(), &|file| file["normalizer"] = lower.clone()),
        engine(model_dir(), &|file| file["normalizer"] = json!({ "type": "NFKC" })),
        engine(model_dir(), &|file| file["pre_tokenizer"]["add_prefix_space"] = true.into()),
        engine(model_dir(), &|file| file["added_tokens"][1]["single_word"] = true.into()),
        engine(spm(), &|file| file["added_tokens"][1]["normalized"] = true.into()),
        engine(spm(), &|file| file["model"] = unigram.clone()),
        engine(spm(), &|file| file["model"]["vocab"]["far"] = 16_000_000.into()),
        engine(spm(), &|file| file["normalizer"]["normalizers"][1]["content"] = "_".into()),
        engine(spm(), &|file| file["model"]["end_of_word_suffix"] = "</w>".into()),
    ];
    for engine in found {
        assert!(engine.starts_with("exact, since "), "{engine}");
    }
}

#[test]
fn a_byte_that_the_vocabulary_lacks_is_for_the_exact_engine() {
    let tokenizer = changed(model_dir(), |file| {
        let vocabulary = file["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.shift_remove("\u{104}").unwrap(); // byte 4
    });
    assert!(served(&tokenizer, "the capital\n"));
    assert!(!served(&tokenizer, "the \u{4} capital"));
    assert_eq!(
        tokenizer.encode("a\u{4}b").unwrap().tokens,
        tokenizer.encode_exactly("ab").unwrap().tokens
    );
}

#[test]
fn many_threads_share_one_tokenizer() {
    let tokenizer = Tokenizer::load(&model_dir()).unwrap();
    let pieces = Pieces::of(&tokenizer);
    let texts: Vec<String> =
        (0..3000).map(|index| pieces.text(Stream::new(3).number(index))).collect();
    assert!(texts.iter().map(String::len).sum::<usize>() * 2 > WORTHWHILE);
    // The first texts are the exact engine's, until there was enough to make the fast one.
    let results: Vec<Encoded> =
        texts.par_iter().chain(&texts).map(|text| tokenizer.encode(text).unwrap()).collect();
    assert!(tokenizer.fast.get().is_some());
    for (text, encoded) in texts.iter().chain(&texts).zip(results) {
        assert_eq!(encoded, tokenizer.encode_exactly(text).unwrap());
    }
}

/// What hostile strings are made of.
pub(super) struct Pieces {
    /// Contents of added tokens, and halves of them.
    added: Vec<String>,
    /// Tokens of the vocabulary, as text.
    known: Vec<String>,
}

const ODD: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\u{a0}",
    "\u{2003}",
    "\u{3000}",
    "\u{85}",
    "\u{2028}",
    "\u{b}",
    "\u{c}",
    "\u{200b}",
    "\u{feff}",
    "\u{200d}",
    "\u{fe0f}",
    "\u{1f3fd}",
    "\u{0}",
    "\u{1}",
    "\u{4}",
    "\u{1b}",
    "\u{7f}",
    "\u{9f}",
    "\u{ad}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{1fffe}",
    "\\ud83d",
    "\\ude00",
    "\u{301}",
    "\u{308}",
    "\u{323}",
    "\u{345}",
    "\u{344}",
    "\u{5b0}",
    "\u{94d}",
    "\u{e31}",
    "\u{20dd}",
    "\u{fe20}",
    "e\u{301}",
    "a\u{323}\u{302}",
    "a\u{302}\u{323}",
    "\u{1ea9}",
    "\u{212b}",
    "\u{2126}",
    "\u{958}",
    "\u{fb1d}",
    "\u{1100}\u{1161}\u{11a8}",
    "\u{ac00}\u{11a8}",
    "\u{2f800}",
    "\u{fb01}",
    "\u{133}",
    "'s",
    "'S",
    "'\u{17f}",
    "'LL",
    "'re",
    "\u{2019}s",
    "'ve'd",
    "\u{212a}",
    "\u{130}",
    "\u{131}",
    "\u{df}",
    "\u{1c5}",
    "\u{2b0}",
    "\u{aa}",
    "\u{3007}",
    "0",
    "7",
    "12",
    "345",
    "6789",
    "1,000.50",
    "\u{661}",
    "\u{bd}",
    "\u{2460}",
    "\u{2167}",
    "\u{ff15}",
    "\u{1d7d8}",
    ".",
    "...",
    "!?",
    "--",
    "==",
    "//",
    "\\",
    "\"",
    "{}",
    "();",
    "<",
    ">",
    "<|",
    "|>",
    "</",
    "[",
    "]",
    "_",
    "#",
    "@",
    "\u{2014}",
    "\u{3002}",
    "\u{20ac}",
    "\u{2581}",
    "\u{2581}\u{2581}",
    "\u{120}",
    "\u{10a}",
    "<0x0A>",
    "<0xE2>",
    "<unk>",
    "<s>",
    "</s>",
    "hello",
    "World",
    "HTTPServer",
    "getElementById",
    "the",
    "of",
    "\u{4f60}\u{597d}",
    "\u{65e5}\u{672c}",
    "\u{3053}\u{3093}",
    "\u{30ab}\u{30fc}",
    "\u{d55c}\u{ad6d}",
    "\u{43f}\u{440}\u{438}",
    "\u{39b1}",
    "\u{645}\u{631}",
    "\u{5e9}\u{5dc}",
    "\u{928}\u{92e}\u{938}\u{94d}",
    "\u{1f389}",
    "\u{1f468}\u{200d}\u{1f469}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{2764}\u{fe0f}",
    "\u{10400}",
    "\u{20000}",
    "\u{e0101}",
];

impl Pieces {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let mut added: Vec<String> = tokenizer
            .inner
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .collect();
        added.sort();
        let half = |text: &String| text.chars().take(text.chars().count() / 2).collect();
        added.extend(added.clone().iter().map(half));
        let size = u32::try_from(tokenizer.vocabulary_size()).unwrap();
        let text = |id| tokenizer.decode(&[id], false).unwrap_or_default();
        let known = (0..size).step_by(1 + size as usize / 5000).map(text).collect();
        Self { added, known }
    }

    pub(super) fn text(&self, stream: Stream) -> String {
        let mut counter = 0;
        let mut draw = |below: usize| {
            counter += 1;
            usize::try_from(stream.bits(counter) % below as u64).unwrap()
        };
        // Some strings are plain, so that they are spelled; some are full of everything.
        let kinds = 2 + draw(6);
        let mut text = String::new();
        for _ in 0..draw(30) {
            match draw(kinds) {
                0 => text.push_str(&self.known[draw(self.known.len())]),
                1 => text.push(char::from(u8::try_from(32 + draw(95)).unwrap())),
                2 => text.push_str(ODD[draw(ODD.len())]),
                3 => text.push_str(&self.added[draw(self.added.len())]),
                4 => text.extend(char::from_u32(u32::try_from(draw(0x3000)).unwrap())),
                5 => text.extend(char::from_u32(u32::try_from(draw(0x11_0000)).unwrap())),
                _ => {
                    let again = ODD[draw(ODD.len())].repeat(1 + draw(40));
                    text.push_str(&again);
                }
            }
        }
        text
    }
}
