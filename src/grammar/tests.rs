//! Answers drawn from the allowed tokens alone, without any model, against the schemas' own judge.

use std::path::Path;

use serde_json::{Value, json};
use snapbox::data::Inline;
use snapbox::str;

use super::AnswerGrammar;
use crate::data::Tokenizer;
use crate::error::Result;
use crate::random::Stream;
use crate::snapshots::says;

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    Tokenizer::load(&folder).unwrap()
}

fn grammar(schema: &str, tokenizer: &Tokenizer) -> Result<AnswerGrammar> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    std::fs::write(&file, schema).unwrap();
    AnswerGrammar::json_schema(&file, tokenizer, tokenizer.stops())
}

/// An answer of tokens drawn evenly; an end is drawn as soon as it may be.
fn drawn(grammar: &AnswerGrammar, tokenizer: &Tokenizer, stream: Stream) -> String {
    let ends = tokenizer.stops();
    let (mut answer, mut tokens) = (grammar.begin(), Vec::new());
    let scores = vec![0.0; tokenizer.vocabulary_size()];
    for draw in 0.. {
        assert!(draw < 5000, "{}", tokenizer.decode(&tokens, true).unwrap());
        let Some(left) = answer.allowed(&scores).unwrap() else { break };
        let open: Vec<u32> = (0..).zip(&left).filter(|it| *it.1 == 0.0).map(|it| it.0).collect();
        if open.iter().any(|token| ends.contains(token)) {
            break;
        }
        let place = stream.uniform(draw) * open.len() as f64;
        let token = open[place as usize];
        tokens.push(token);
        if answer.push(token).unwrap() {
            break;
        }
    }
    assert!(answer.is_whole());
    tokenizer.decode(&tokens, true).unwrap()
}

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "additionalProperties": false,
            "required": ["name", "age"],
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "age": {"type": "integer", "minimum": 0, "maximum": 130},
                "tall": {"type": "boolean"}}}),
        json!({"type": "array", "minItems": 1, "maxItems": 3,
            "items": {"enum": ["größe", "日本", "🎉", 7, null]}}),
        json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
        json!({"anyOf": [{"const": "none"}, {"type": "number", "minimum": -1, "maximum": 1}]}),
        json!({"$defs": {"node": {"type": "object", "additionalProperties": false,
            "required": ["next"],
            "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}}},
            "$ref": "#/$defs/node"}),
    ]
}

#[test]
fn whatever_is_drawn_fits_the_schema() {
    let tokenizer = tokenizer();
    for schema in schemas() {
        let judge = jsonschema::validator_for(&schema).unwrap();
        let grammar = grammar(&schema.to_string(), &tokenizer).unwrap();
        assert_eq!(grammar.notes, Vec::<String>::new());
        let mut different = std::collections::BTreeSet::new();
        for number in 0..40 {
            let text = drawn(&grammar, &tokenizer, Stream::new(3).number(number));
            let value: Value = serde_json::from_str(&text).expect(&text);
            assert!(judge.is_valid(&value), "{text} for {schema}");
            different.insert(text);
        }
        assert!(different.len() > 5, "{different:?}");
    }
}

#[test]
fn a_token_outside_of_the_schema_is_no_part_of_an_answer() {
    let tokenizer = tokenizer();
    let grammar = grammar(r#"{"const": "yes"}"#, &tokenizer).unwrap();
    let wrong = tokenizer.encode("no").unwrap().tokens[0];
    let scores = vec![0.0; tokenizer.vocabulary_size()];
    let mut answer = grammar.begin();
    let allowed = answer.allowed(&scores).unwrap().unwrap();
    assert_eq!(allowed[wrong as usize], f32::NEG_INFINITY);
    assert!(answer.push(wrong).is_err());
    // Another answer begins anew.
    let mut answer = grammar.begin();
    let tokens = tokenizer.encode("\"yes\"").unwrap().tokens;
    let ended: Vec<bool> = tokens.iter().map(|token| answer.push(*token).unwrap()).collect();
    assert!(ended[tokens.len() - 1] && !ended[..tokens.len() - 1].contains(&true));
}

#[test]
fn the_bytes_of_tokens_are_what_the_decoder_writes() {
    let tokenizer = tokenizer();
    let bytes = tokenizer.token_bytes().unwrap();
    let text = "What is the größe of 日本 🎉?\n\t{\"a\": [1, 2.5e3]}";
    let spelled: Vec<u8> = tokenizer
        .encode(text)
        .unwrap()
        .tokens
        .iter()
        .flat_map(|token| bytes[*token as usize].clone())
        .collect();
    assert_eq!(String::from_utf8(spelled).unwrap(), text);
    // Special tokens write nothing.
    assert!(tokenizer.stops().iter().all(|end| bytes[*end as usize].is_empty()));
}

#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let tokenizer = tokenizer();
    let refused = |schema: &str, said: Inline| {
        says(grammar(schema, &tokenizer).err().unwrap(), said);
    };
    refused(
        "{\"type\": ",
        str![[r#"
error[config]: the schema is no JSON
  at [FOLDER]/schema.json
  because not valid JSON
"#]],
    );
    refused(
        "{\"type\": \"strin\"}",
        str![[r#"
error[config]: this is no JSON Schema
  at [FOLDER]/schema.json
  because "strin" is not valid under any of the schemas listed in the 'anyOf' keyword
"#]],
    );
    refused(
        "false",
        str![[r#"
error[config]: answers cannot be held to this schema
  at [FOLDER]/schema.json
  because it is `false`, which nothing fits
"#]],
    );
    refused(
        "{\"type\": \"array\", \"uniqueItems\": true}",
        str![[r#"
error[config]: answers cannot be held to this schema
  at [FOLDER]/schema.json
  because Unimplemented keys: ["uniqueItems"]
"#]],
    );
    refused(
        "{\"not\": {\"type\": \"string\"}}",
        str![[r#"
error[config]: answers cannot be held to this schema
  at [FOLDER]/schema.json
  because Unimplemented keys: ["not"]
"#]],
    );
    refused(
        "{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}",
        str![[r#"
error[config]: answers cannot be held to this schema
  at [FOLDER]/schema.json
  because Unsatisfiable schema: minimum (3) is greater than maximum (2)
"#]],
    );
    refused(
        "{\"$ref\": \"https://example.com/other.json\"}",
        str![[r#"
error[config]: this is no JSON Schema
  at [FOLDER]/schema.json
  because Resource 'https://example.com/other.json' is not present in a registry and retrieving it failed: `resolve-http` feature or a custom resolver is required to resolve external schemas via HTTP
"#]],
    );
    refused(
        "{\"type\": \"string\", \"pattern\": \"(?=a)b\"}",
        str![[r#"
error[config]: answers cannot be held to this schema
  at [FOLDER]/schema.json
  because regex parse error: (?=a)b ^^^ error: look-around, including look-ahead and look-behind, is not supported
"#]],
    );
    refused(
        "{\"type\": \"string\", \"pattern\": \"^([a-z]{1,500}[0-9]{1,500}){1,500}$\"}",
        str![[r#"
error[config]: this is no JSON Schema
  at [FOLDER]/schema.json
  because "^([a-z]{1,500}[0-9]{1,500}){1,500}$" is not a "regex"
"#]],
    );
    let nowhere =
        AnswerGrammar::json_schema(Path::new("nowhere.json"), &tokenizer, tokenizer.stops());
    says(
        nowhere.err().unwrap(),
        str![[r#"
error[file]: cannot read the schema
  at nowhere.json
  because No such file or directory (os error 2)
"#]],
    );
}
