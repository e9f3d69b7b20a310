//! Names of special tokens, templates of several names, and texts that begin and end once.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::TrainOn;
use crate::data::example::{RecordId, RecordOutcome};
use crate::data::fixture::{codec, config, copy_of_model};
use crate::data::formats::{Content, Fields};
use crate::data::maker::Maker;
use crate::snapshots::says;

/// Changes a JSON file of a model.
fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut file = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut file);
    fs::write(&path, file.to_string()).unwrap();
}

/// A model whose tokenizer puts `<|bos|>` before a text.
fn with_prefix() -> Codec {
    let folder = copy_of_model();
    edit(folder.path(), "tokenizer.json", |file| {
        file["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [3], "tokens": ["<|bos|>"]}}
        });
    });
    Codec::load(folder.path(), None).unwrap()
}

/// The tokens of a record, and which are targets.
fn made(codec: &Codec, content: &Content, train_on: TrainOn) -> (Vec<u32>, Vec<bool>) {
    let mut config = config(&[Path::new("a.jsonl")]);
    config.train_on = train_on;
    let record = RecordId { file: "a.jsonl".into(), line: 1 };
    let maker = Maker::new(codec, &config);
    match maker.make(content.clone(), Fields::new(), &record).unwrap().outcome {
        RecordOutcome::Whole(example) => (example.tokens, example.loss_mask),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_begins_and_ends_once() {
    let codec = with_prefix();
    let tokens = |text: &str| made(&codec, &Content::Text(text.to_owned()), TrainOn::Assistant);
    let expected = tokens("the sea");
    assert_eq!((expected.0[0], *expected.0.last().unwrap()), (3, 0));
    assert_eq!(expected.1.iter().filter(|loss_mask| !**loss_mask).count(), 1);
    for text in ["<|bos|>the sea", "the sea<|endoftext|>", "<|bos|>the sea<|endoftext|>"] {
        assert_eq!(tokens(text), expected, "{text}");
    }
    assert_eq!(codec.text_tokens("<|bos|>the").unwrap(), codec.text_tokens("the").unwrap());
    let completion = |prompt: &str, completion: &str| {
        let (prompt, completion) = (prompt.to_owned(), completion.to_owned());
        made(&codec, &Content::Completion { prompt, completion }, TrainOn::Assistant)
    };
    let expected = completion("the", " sea");
    assert_eq!(completion("<|bos|>the", " sea<|endoftext|>"), expected);
    assert!(*expected.1.last().unwrap());
    // A prompt that ends with it is no answer that does.
    let (tokens, loss_mask) = completion("the<|endoftext|>", "");
    assert!(tokens.ends_with(&[0, 0]) && loss_mask.ends_with(&[false, true]), "{tokens:?}");
}

#[test]
fn a_turn_ends_once() {
    let said = |text: &str| {
        let messages = vec![user("a"), json!({"role": "assistant", "content": text}), user("b")];
        Content::Chat(Conversation { messages, ..Conversation::default() })
    };
    for train_on in [TrainOn::Assistant, TrainOn::All] {
        let expected = made(&codec(), &said("So."), train_on);
        assert_eq!(made(&codec(), &said("So.<|im_end|>"), train_on), expected);
        assert_eq!(expected.0.iter().filter(|token| **token == 2).count(), 3);
    }
}

#[test]
fn special_tokens_of_the_older_file_count_where_transformers_takes_them() {
    let folder = copy_of_model();
    let template =
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let map = json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"},
        "unk_token": "<|pad|>"});
    fs::write(folder.path().join("special_tokens_map.json"), map.to_string()).unwrap();
    let load = || Codec::load(folder.path(), None).unwrap();
    let text = |codec: &Codec| codec.chat_prompt("x").unwrap();
    // Without a list of added tokens it comes last, and so wins.
    let older = load();
    assert_eq!(text(&older), "<|im_start|>x<|im_end|>");
    assert_eq!((older.tokenizer.bos(), older.tokenizer.eos()), (Some(1), Some(2)));
    let files: Vec<&str> = older.tokenizer.files().iter().map(|file| &*file.path).collect();
    assert_eq!(files, ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]);
    // With one it is not read.
    edit(folder.path(), "tokenizer_config.json", |file| file["added_tokens_decoder"] = json!({}));
    let newer = load();
    assert_eq!(text(&newer), "<|bos|>x<|endoftext|>");
    assert_eq!(newer.tokenizer.files().len(), 2);
    assert_ne!(older.fingerprint(), newer.fingerprint());
    // Alone it is enough; null names nothing.
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    assert_eq!(text(&load()), "<|im_start|>x<|im_end|>");
    let map = json!({"bos_token": null, "eos_token": "<|im_end|>"});
    fs::write(folder.path().join("special_tokens_map.json"), map.to_string()).unwrap();
    assert_eq!(text(&load()), "x<|im_end|>");
}

/// Conversations with and without tools, as their templates write them.
fn written(codec: &Codec) -> [Option<String>; 2] {
    [true, false].map(|tools| {
        let conversation = Conversation {
            messages: vec![user("x")],
            tools: tools.then(|| json!([{"name": "f"}])),
            ..Conversation::default()
        };
        let template = codec.template_for(tools).ok()?;
        Some(template.write(&conversation, 1, false).unwrap().unwrap())
    })
}

#[test]
fn records_with_tools_take_the_template_for_tools() {
    let both = [Some("tools x".to_owned()), Some("plain x".to_owned())];
    let source = |word: &str| format!("{word} {{{{ messages[0].content }}}}");
    let folder = copy_of_model();
    let beside = folder.path().join("chat_template.jinja");
    fs::remove_file(&beside).unwrap();
    let load = || Codec::load(folder.path(), None);
    let named = |list: Value| {
        edit(folder.path(), "tokenizer_config.json", |file| {
            file["chat_template"] = list;
        })
    };
    named(json!([{"name": "default", "template": source("plain")},
        {"name": "rag", "template": source("rag")},
        {"name": "tool_use", "template": source("tools")}]));
    let listed = load().unwrap();
    assert_eq!(written(&listed), both);
    // Another template for tools is another model to the lock, the lineage and the cache.
    named(json!([{"name": "default", "template": source("plain")},
        {"name": "tool_use", "template": source("other")}]));
    let other = load().unwrap();
    assert_ne!(other.fingerprint(), listed.fingerprint());
    assert_ne!(other.template_digest(), listed.template_digest());
    assert_eq!(other.templates.all().count(), 2);
    // Only one for tools: the others have none, and are told so.
    named(json!([{"name": "tool_use", "template": source("tools")}]));
    let alone = load().unwrap();
    assert_eq!(written(&alone), [both[0].clone(), None]);
    let error = alone.template_for(false).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[tokenizer]: the model's only chat template is `tool_use`, and this conversation has no tools

hint: name one for all conversations as `data.chat_template`
"#]],
    );
    // Files take the place of the list, as transformers reads them.
    let more = folder.path().join("additional_chat_templates");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("tool_use.jinja"), source("tools")).unwrap();
    fs::write(&beside, source("plain")).unwrap();
    let in_files = load().unwrap();
    assert_eq!(written(&in_files), both);
    assert_eq!(in_files.template_digest(), listed.template_digest());
    // One that is given is the only one.
    let given = folder.path().join("given.jinja");
    fs::write(&given, source("given")).unwrap();
    let given = Codec::load(folder.path(), Some(&given)).unwrap();
    assert_eq!(written(&given), [Some("given x".to_owned()), Some("given x".to_owned())]);
}
