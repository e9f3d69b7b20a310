//! How a byte-level tokenizer splits a text before it looks for tokens, as llama.cpp calls it.
//!
//! llama.cpp has the rules built in, each under a name (`llama-vocab.cpp`). A file that names the
//! wrong one still loads, and tokenises other than in training: so a name is only given where the
//! rules of `tokenizer.json` are exactly those behind it.

use serde_json::Value;

use crate::gguf::PATTERNS;

/// The name of the rules, or what about them llama.cpp has no name for.
pub fn name(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static str, String> {
    let rules: Vec<&Value> = match pre_tokenizer["type"].as_str() {
        Some("Sequence") => {
            pre_tokenizer["pretokenizers"].as_array().into_iter().flatten().collect()
        }
        Some(_) => vec![pre_tokenizer],
        None => return Err("it does not split text".to_owned()),
    };
    let Some((last, before)) = rules.split_last() else {
        return Err("it does not split text".to_owned());
    };
    if last["type"] != "ByteLevel" {
        return Err("its tokens are not of bytes".to_owned());
    }
    if last["add_prefix_space"] == true {
        return Err("it puts a space before a text".to_owned());
    }
    // Absent means that the rule of GPT-2 is applied: files of before the setting existed.
    let gpt2 = last["use_regex"] != false;
    let found = match (before, gpt2) {
        ([], true) => "gpt-2",
        ([digits], true) if digits["type"] == "Digits" && digits["individual_digits"] == true => {
            "smollm"
        }
        ([split], false) => return of_pattern(split, ignore_merges),
        _ => return Err("llama.cpp has no name for its way of splitting text".to_owned()),
    };
    if ignore_merges { Err(NOT_WHOLE.to_owned()) } else { Ok(found) }
}

const NOT_WHOLE: &str = "llama.cpp cannot take whole words as they are under these rules";

fn of_pattern(rule: &Value, whole_words: bool) -> Result<&'static str, String> {
    let whole = matches!(
        (rule["behavior"].as_str(), rule["invert"].as_bool()),
        (Some("Isolated"), Some(false) | None) | (Some("Removed"), Some(true))
    );
    let pattern = rule["pattern"]["Regex"].as_str();
    let (Some(pattern), true, true) = (pattern, whole, rule["type"] == "Split") else {
        return Err("llama.cpp has no name for its way of splitting text".to_owned());
    };
    let mut known = PATTERNS.iter().filter(|one| one.regex == pattern).peekable();
    if known.peek().is_none() {
        return Err(format!("llama.cpp has no name for the rule `{pattern}`"));
    }
    match known.find(|one| one.whole_words == whole_words) {
        Some(one) => Ok(one.name),
        None if whole_words => Err(NOT_WHOLE.to_owned()),
        None => Err("llama.cpp takes whole words as they are under these rules".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshots::says;

    fn split(pattern: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
    }

    #[test]
    fn rules_are_known_by_what_they_do() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let smollm = json!({"type": "Sequence", "pretokenizers": [digits, bytes]});
        let llama3 = split(
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| \
             ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        );
        let qwen2 = split(
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| \
             ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        );
        assert_eq!(name(&bytes, false), Ok("gpt-2"));
        assert_eq!(name(&smollm, false), Ok("smollm"));
        assert_eq!(name(&llama3, true), Ok("llama-bpe"));
        assert_eq!(name(&llama3, false), Ok("dbrx"));
        assert_eq!(name(&qwen2, false), Ok("qwen2"));
        let mut messages = String::new();
        for rules in [
            split("x"),
            json!(null),
            json!({"type": "Whitespace"}),
            json!({"type": "ByteLevel", "add_prefix_space": true}),
            json!({"type": "Sequence", "pretokenizers": [bytes.clone(), bytes.clone()]}),
        ] {
            let error = name(&rules, false).unwrap_err();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
llama.cpp has no name for the rule `x`
it does not split text
its tokens are not of bytes
it puts a space before a text
llama.cpp has no name for its way of splitting text

"#]],
        );
        assert!(name(&bytes, true).is_err() && name(&qwen2, true).is_err());
    }
}
