//! How byte-level tokenizers split a text before they look for tokens: the rules that llama.cpp has
//! built in (`llama-vocab.cpp`), in the form of `tokenizer.json`.

/// A rule.
pub struct SplitPattern {
    /// What `tokenizer.ggml.pre` calls it.
    pub name: &'static str,
    /// What `tokenizer.json` has.
    pub regex: &'static str,
    /// Whether words that are tokens are taken as they are.
    pub whole_words: bool,
}

/// As GPT-4 and Llama 3 split: numbers by up to three digits.
const THREE_DIGITS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p",
    r"{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As Qwen 2 splits: each digit by itself.
const ONE_DIGIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+",
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// The same with marks that belong to letters, as Qwen 3.5 has it.
const MARKS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}",
    r"\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As GPT-4o and gpt-oss split: words end where small letters turn into large ones.
const CASES: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?",
    r"i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}",
    r"\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// The same without endings, each digit by itself: Mistral's Tekken.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[",
    r"^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p",
    r"{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// All rules of that form; the first of a rule and its way with words is the name that is written.
pub const PATTERNS: [SplitPattern; 10] = [
    SplitPattern { name: "llama-bpe", regex: THREE_DIGITS, whole_words: true },
    SplitPattern { name: "llama3", regex: THREE_DIGITS, whole_words: true },
    SplitPattern { name: "llama-v3", regex: THREE_DIGITS, whole_words: true },
    SplitPattern { name: "lfm2", regex: THREE_DIGITS, whole_words: true },
    SplitPattern { name: "dbrx", regex: THREE_DIGITS, whole_words: false },
    SplitPattern { name: "smaug-bpe", regex: THREE_DIGITS, whole_words: false },
    SplitPattern { name: "qwen2", regex: ONE_DIGIT, whole_words: false },
    SplitPattern { name: "qwen35", regex: MARKS, whole_words: false },
    SplitPattern { name: "gpt-4o", regex: CASES, whole_words: false },
    SplitPattern { name: "tekken", regex: TEKKEN, whole_words: true },
];
