//! Reads the recipes of examples/ci: YAML as documents and as JSON, and the calls in shell scripts.

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// The documents of a file.
pub fn documents(text: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(text).unwrap()
}

/// The same as JSON, which schemas speak of.
pub fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(text) => Value::from(text.parse::<f64>().unwrap()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Boolean(value) => Value::from(*value),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(map) => {
            let key = |key: &Yaml| key.as_str().expect("keys are text").to_owned();
            Value::Object(map.iter().map(|(name, value)| (key(name), json(value))).collect())
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?}"),
    }
}

/// The lines of a script, which may stand in lists within lists.
pub fn lines(script: &Yaml) -> String {
    match script {
        Yaml::Array(items) => items.iter().map(|item| lines(item) + "\n").collect(),
        other => other.as_str().unwrap().to_owned(),
    }
}

/// The arguments of every call of `firebrand` in a file: in scripts, after pipes and in `$(…)`; not
/// in comments.
pub fn calls(text: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let text = text.replace("\\\n", " ");
    for (place, _) in text.match_indices("firebrand ") {
        let before = text[..place].chars().next_back().unwrap_or('\n');
        let command = text[..place].trim_end_matches(' ');
        let begins = ["\n", "|", "(", ";", "&&", "||", "exec", "run:", "-", "\"", "then", "if"];
        if !" \n(".contains(before) || !begins.iter().any(|begin| command.ends_with(begin)) {
            continue;
        }
        let call = words(&text[place + "firebrand ".len()..]);
        // In prose, it is no call.
        if call.first().is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase())) {
            calls.push(call);
        }
    }
    calls
}

/// The words of a command up to its end; `${x:+words}` are words.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any, mut inside) = (false, false, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            '$' if !quoted && rest.peek() == Some(&'{') => {
                // `${baseline:+--baseline "$baseline"}`
                let name: String = rest.by_ref().take_while(|c| *c != '+').collect();
                assert!(name.ends_with(':'), "what is `{name}`?");
                inside = true;
            }
            '}' if inside && !quoted => inside = false,
            _ if quoted => word.push(c),
            '|' | ';' | '&' | ')' | '\n' | '>' => break,
            ' ' => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
