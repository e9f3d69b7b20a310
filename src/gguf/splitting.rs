//! How byte-level tokenizers split a text before they look for tokens: the rules that llama.cpp has
//! built in (`llama-vocab.cpp`), in the form of `tokenizer.json`.

const QUOTES: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS: &str = r"|[^\r\n\p{L}\p{N}]?\p{L}+|";
const OTHERS: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Numbers by up to three digits, as GPT-4 and Llama 3 have them.
pub const THREE_DIGITS: &str = r"\p{N}{1,3}";
/// Each digit by itself, as Qwen 2 has it.
pub const ONE_DIGIT: &str = r"\p{N}";

/// The rule of GPT-4, Llama 3 and Qwen 2 with this part for numbers.
pub fn rule(numbers: &str) -> String {
    format!("{QUOTES}{WORDS}{numbers}{OTHERS}")
}
