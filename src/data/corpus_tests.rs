//! Whole data sets: shapes, bad rows, lengths, validation.

use std::fs;

use serde_json::json;

use std::collections::BTreeSet;

use super::*;
use crate::config::{DataSetConfig, Overlong, TrainOn};
use crate::data::Cursor;
use crate::data::example::Example;
use crate::data::fixture::{config, copy_of_model, model_dir, open_with as open, write};
use crate::data::show::pieces;
use crate::snapshots::says;

fn chat(question: &str, answer: &str) -> String {
    json!({"messages": [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer}
    ]})
    .to_string()
}

fn chats(count: usize) -> Vec<String> {
    (0..count).map(|i| chat(&format!("What is {i}?"), &format!("It is {i}."))).collect()
}

fn text(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| json!({ "text": line }).to_string()).collect()
}

/// What is trained on in brackets.
fn marked(corpus: &Corpus, entry: usize) -> String {
    let pieces = pieces(&corpus.codec, &corpus.examples().unwrap()[entry].example).unwrap();
    let show = |piece: crate::data::ExampleSpan| match piece.target {
        true => format!("[{}]", piece.text),
        false => piece.text,
    };
    pieces.into_iter().map(show).collect()
}

fn validation_of(config: &mut DataConfig, path: &Path) {
    config.validation = vec![DataSetConfig::new(path.to_str().unwrap())];
}

#[test]
fn each_shape_is_read_and_what_is_target_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let a = write(folder.path(), "a.jsonl", [chat("Hi", "Ho")]);
    let alpaca = json!({"instruction": "Add", "input": "1 2", "output": "3"}).to_string();
    let b = write(folder.path(), "b.jsonl", [alpaca]);
    let completion = json!({"prompt": "The capital is", "completion": " Paris"}).to_string();
    let c = write(folder.path(), "c.jsonl", [completion]);
    let d = write(folder.path(), "d.jsonl", text(&["the sea"]));
    let corpus = open(&config(&[&a, &b, &c, &d]), &model_dir()).unwrap();
    let marked: Vec<String> = (0..4).map(|entry| marked(&corpus, entry)).collect();
    assert_eq!(
        marked,
        [
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Ho<|im_end|>]\n",
            "<|im_start|>user\nAdd\n\n1 2<|im_end|>\n<|im_start|>assistant\n[3<|im_end|>]\n",
            "The capital is[ Paris<|endoftext|>]",
            "t[he sea<|endoftext|>]",
        ]
    );
    let shapes: Vec<String> = corpus.files().into_iter().map(|file| file.format).collect();
    assert_eq!(shapes, ["messages", "alpaca", "completion", "text"]);
    assert_eq!(corpus.files()[3].file.sha256, Digest::of(&fs::read(&d).unwrap()));
    assert_eq!(corpus.files()[3].file.path, d.to_str().unwrap());
    says(
        corpus.notes.join("\n"),
        snapbox::str![[r#"
chat template: [REPOSITORY]/tests/fixtures/tokenizer/chat_template.jinja, sha256 [HEX]
[FOLDER]/a.jsonl: 1 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
[FOLDER]/b.jsonl: 1 records of the shape `alpaca`: the first records have `instruction` and `output`, perhaps `input`, `system` and `history`
[FOLDER]/c.jsonl: 1 records of the shape `completion`: the first records have `prompt` and `completion`, strings or lists of messages
[FOLDER]/d.jsonl: 1 records of the shape `text`: the first records have `text`, a string
"#]],
    );
    let [warning] = corpus.warnings.as_slice() else { panic!("{:?}", corpus.warnings) };
    says(
        warning,
        snapbox::str![[
            r#"[FOLDER]/c.jsonl: prompt and completion are trained on as plain text, without the model's chat template; for questions and answers of a chat write `columns = { instruction = "prompt", output = "completion" }`"#
        ]],
    );
    let template = fs::read(model_dir().join("chat_template.jinja")).unwrap();
    assert_eq!(corpus.template_digest(), Some(Digest::of(&template)));
    assert_eq!(corpus.statistics.as_ref().unwrap().records, 4);
    let record = &corpus.examples().unwrap()[2].record;
    assert_eq!(record.to_string(), format!("{}:1", c.display()));
}

#[test]
fn train_on_all_learns_everything_but_the_first_token() {
    let folder = tempfile::tempdir().unwrap();
    let a = write(folder.path(), "a.jsonl", [chat("Hi", "Ho")]);
    let c = write(folder.path(), "c.jsonl", [r#"{"prompt":"the","completion":" sea"}"#.to_owned()]);
    let mut config = config(&[&a, &c]);
    config.train_on = TrainOn::All;
    let corpus = open(&config, &model_dir()).unwrap();
    for entry in corpus.examples().unwrap() {
        assert_eq!(entry.example.target_count(), entry.example.tokens.len() - 1);
        assert!(!entry.example.loss_mask[0]);
    }
}

#[test]
fn bad_rows_are_all_named_and_a_bounded_number_may_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = chats(6);
    lines[1] = "{oops".to_owned();
    lines[3] = json!({"messages": [{"role": "robot", "content": "x"}]}).to_string();
    let path = write(folder.path(), "a.jsonl", lines);
    let mut config = config(&[&path]);
    let error = open(&config, &model_dir()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: not valid JSON: key must be a string at column 2
  at [FOLDER]/a.jsonl:2:1

error[data]: message 1 has the role `robot`
  at [FOLDER]/a.jsonl:4:1

hint: known roles are `system`, `developer`, `user`, `assistant`, `tool`, `function`, `ipython`

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all
"#]],
    );
    config.max_bad_rows = 2;
    let corpus = open(&config, &model_dir()).unwrap();
    assert_eq!(
        (corpus.statistics.as_ref().unwrap().bad_rows, corpus.examples().unwrap().len()),
        (2, 4)
    );
    says(
        &corpus.warnings[0],
        snapbox::str![
            "[FOLDER]/a.jsonl:2:1: skipped: not valid JSON: key must be a string at column 2"
        ],
    );
    config.max_bad_rows = 1;
    assert!(open(&config, &model_dir()).is_err());
}

#[test]
fn a_record_of_another_shape_is_found_far_behind_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = chats(5000);
    lines[4700] = text(&["x"]).remove(0);
    let path = write(folder.path(), "a.jsonl", lines);
    let error = open(&config(&[&path]), &model_dir()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: the field `messages` is missing, found `text`
  at [FOLDER]/a.jsonl:4701:1

hint: the shape `messages` has `messages`, a list of objects with `role` and `content`

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all
"#]],
    );
}

#[test]
fn too_long_records_are_cut_dropped_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let long = "the capital of France is Paris ".repeat(20);
    // The second is cut in its answer, the third before it.
    let lines = [chat("Hi", "Ho"), chat("Hi", &long), chat(&long, "Ho"), chat("a", "b")];
    let path = write(folder.path(), "a.jsonl", lines);
    let mut config = config(&[&path]);
    let corpus = open(&config, &model_dir()).unwrap();
    let counts = corpus.statistics.as_ref().unwrap();
    assert_eq!((counts.truncated, counts.no_targets, counts.examples), (1, 1, 3));
    assert_eq!(counts.longest, 64);
    says(
        corpus.warnings.join("\n"),
        snapbox::str![[r#"
1 of 4 records are longer than `data.max_seq_len` and were cut off, first [FOLDER]/a.jsonl:2
1 of 4 records have no target tokens and were left out, first [FOLDER]/a.jsonl:3
"#]],
    );
    assert!(
        !marked(&corpus, 1).contains("<|im_end|>]"),
        "the end is not trained on where it was cut"
    );
    config.overlong = Overlong::Drop;
    let counts = open(&config, &model_dir()).unwrap().statistics.unwrap();
    assert_eq!((counts.truncated, counts.dropped, counts.examples), (0, 2, 2));
    config.overlong = Overlong::Error;
    let error = open(&config, &model_dir()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a record has 182 tokens, and `data.max_seq_len` is 64
  at [FOLDER]/a.jsonl:2:1

hint: set `data.overlong` to `truncate` or `drop`, or raise `data.max_seq_len`
"#]],
    );
}

#[test]
fn long_texts_lose_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let long = "the capital of Peru is Lima, ".repeat(40);
    let path = write(folder.path(), "a.jsonl", text(&[&long, "the sea"]));
    let corpus = open(&config(&[&path]), &model_dir()).unwrap();
    let mut whole = corpus.codec.text_tokens(&long).unwrap();
    whole.push(0);
    let all = corpus.examples().unwrap();
    let pieces: Vec<&Example> =
        all.iter().filter(|entry| entry.record.line == 1).map(|entry| &entry.example).collect();
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.tokens.len() <= 64));
    let target: Vec<u32> = pieces
        .iter()
        .flat_map(|piece| piece.tokens.iter().zip(&piece.loss_mask))
        .filter_map(|(token, loss_mask)| loss_mask.then_some(*token))
        .collect();
    assert_eq!(target, whole[1..]);
    assert_eq!(corpus.statistics.as_ref().unwrap().split, 1);
    let short = &all.last().unwrap().example;
    let all = corpus.statistics.as_ref().unwrap().target_tokens as usize;
    assert_eq!(all, target.len() + short.tokens.len() - 1);
}

#[test]
fn mostly_no_targets_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let silent = json!({"messages": [{"role": "user", "content": "x"}]}).to_string();
    let path = write(folder.path(), "a.jsonl", [chat("a", "b"), silent.clone(), silent]);
    let error = open(&config(&[&path]), &model_dir()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: 2 of 3 records have no target tokens
  at [FOLDER]/a.jsonl:2:1

hint: either they have no turn of the assistant, or `data.max_seq_len` cuts it off; `firebrand plan` shows what is trained on of a record
"#]],
    );
}

#[test]
fn a_doubled_bos_is_an_error() {
    let folder = copy_of_model();
    let template =
        "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let path = write(folder.path(), "a.jsonl", [chat("a", "b")]);
    let error = open(&config(&[&path]), folder.path()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: the rendered conversation begins with `<|bos|>` twice
  at [FOLDER]/a.jsonl:1:1
  because the chat template [FOLDER]/chat_template.jinja writes it so

hint: remove it from the first message of the records, or from the template
"#]],
    );
}

#[test]
fn a_chat_needs_a_template_and_a_text_does_not() {
    let folder = copy_of_model();
    fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    let a = write(folder.path(), "a.jsonl", [chat("a", "b")]);
    let d = write(folder.path(), "d.jsonl", text(&["the sea"]));
    let error = open(&config(&[&a]), folder.path()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[template]: the model has no chat template, and conversations need one

hint: name one as `data.chat_template`, or write the records as `completion`
"#]],
    );
    let corpus = open(&config(&[&d]), folder.path()).unwrap();
    assert_eq!(corpus.template_digest(), None);
}

#[test]
fn held_out_records_are_not_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", chats(200));
    let mut config = config(&[&path]);
    config.val_size = ValSize::Records(20);
    let corpus = open(&config, &model_dir()).unwrap();
    assert_eq!((corpus.examples().unwrap().len(), corpus.validation.entries.len()), (180, 20));
    assert_eq!(corpus.statistics.as_ref().unwrap().held_out, 20);
    let target: BTreeSet<Digest> =
        corpus.examples().unwrap().iter().map(|entry| entry.digest).collect();
    assert!(corpus.validation.entries.iter().all(|entry| !target.contains(&entry.digest)));
}

#[test]
fn training_data_is_freed_of_validation_records() {
    let folder = tempfile::tempdir().unwrap();
    let train = write(folder.path(), "a.jsonl", chats(30));
    let both = write(folder.path(), "b.jsonl", chats(40).into_iter().skip(25));
    let mut config = config(&[&train]);
    validation_of(&mut config, &both);
    let corpus = open(&config, &model_dir()).unwrap();
    assert_eq!((corpus.examples().unwrap().len(), corpus.validation.entries.len()), (25, 15));
    assert_eq!(corpus.statistics.as_ref().unwrap().overlapping, 5);
    assert_eq!(corpus.files()[1].role, Role::Validation);
    says(
        corpus.warnings.join("\n"),
        snapbox::str![
            "5 training records are also validation records and are not trained on, first [FOLDER]/a.jsonl:26"
        ],
    );
    validation_of(&mut config, &train);
    let error = open(&config, &model_dir()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: every training record is also a validation record

hint: remove them from one of the two, or use `data.val_size`
"#]],
    );
}

#[test]
fn equal_records_are_trained_on_once_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let long = "the capital of Peru is Lima, ".repeat(40);
    let texts = text(&["the sea", &long, "the sea", "a", &long]);
    let (a, b) = (
        write(folder.path(), "a.jsonl", texts),
        write(folder.path(), "b.jsonl", text(&["a", "b"])),
    );
    let mut config = config(&[&a, &b]);
    let all = open(&config, &model_dir()).unwrap().examples().unwrap();
    config.deduplicate = true;
    let corpus = open(&config, &model_dir()).unwrap();
    let kept = corpus.examples().unwrap();
    let lines: BTreeSet<String> = kept.iter().map(|entry| entry.record.to_string()).collect();
    let expected = [(&a, 1), (&a, 2), (&a, 4), (&b, 2)];
    assert_eq!(lines, expected.map(|(path, line)| format!("{}:{line}", path.display())).into());
    // All pieces of the long text are there, once.
    let pieces =
        kept.iter().filter(|entry| entry.record.line == 2 && entry.example.tokens.len() > 9);
    assert!(pieces.count() > 3);
    let left_out = corpus.statistics.as_ref().unwrap().duplicates as usize;
    assert_eq!(kept.len() + left_out, all.len());
    says(
        corpus.notes.join("\n"),
        snapbox::str![[r#"
chat template: [REPOSITORY]/tests/fixtures/tokenizer/chat_template.jinja, sha256 [HEX]
[FOLDER]/a.jsonl: 5 records of the shape `text`: the first records have `text`, a string
[FOLDER]/b.jsonl: 2 records of the shape `text`: the first records have `text`, a string
8 examples are copies of earlier ones and are not trained on again
"#]],
    );
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = chats(300);
    lines[100] = "{".to_owned();
    let path = write(folder.path(), "a.jsonl", lines);
    let mut config = config(&[&path]);
    config.max_bad_rows = 5;
    let digests = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let corpus = open(&config, &model_dir()).unwrap();
            let plan = corpus.plan(3);
            let batches = plan.take(&mut Cursor::default(), 50, 2).unwrap();
            let digests: Vec<Digest> = batches.iter().map(super::super::Batch::digest).collect();
            (digests, corpus.notes, corpus.warnings)
        })
    };
    assert_eq!(digests(1), digests(5));
}

#[test]
fn odd_templates_and_empty_files_are_said() {
    let folder = copy_of_model();
    let template =
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{# strftime_now #}";
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let path = write(folder.path(), "a.jsonl", [chat("a", "b")]);
    let corpus = open(&config(&[&path]), folder.path()).unwrap();
    let said = corpus.warnings.join("\n");
    says(
        &said,
        snapbox::str![[r#"
the chat template writes no special token after the assistant's turn, so the model does not learn where to stop
the chat template has no generation prompt, so the model also learns to write what introduces the assistant's turn
"#]],
    );
    says(
        corpus.notes.join("\n"),
        snapbox::str![[r#"
chat template: [FOLDER]/chat_template.jinja, sha256 [HEX]
the chat template uses the current date; here it is always 2024-07-26
[FOLDER]/a.jsonl: 1 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
"#]],
    );
    let empty = write(folder.path(), "b.jsonl", ["  ".to_owned()]);
    let error = open(&config(&[&empty]), folder.path()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: the data set holds no records
  at [FOLDER]/b.jsonl
"#]],
    );
}

#[test]
fn a_name_that_the_template_prints_undefined_is_said_once() {
    let model = copy_of_model();
    let path = model.path().join("chat_template.jinja");
    let own = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{own}{{% if messages|length > 2 %}}{{{{ nane }}}}{{% endif %}}"))
        .unwrap();
    let turns = |count: usize| -> Vec<serde_json::Value> {
        (0..count)
            .map(|turn| json!({ "role": (["user", "assistant"][turn % 2]), "content": "a" }))
            .collect()
    };
    let record = |count| json!({ "messages": turns(count) }).to_string();
    let (short, long) = (record(2), record(4));
    let a = write(model.path(), "a.jsonl", [short.clone(), long.clone(), long.clone()]);
    let b = write(model.path(), "b.jsonl", [short]);
    let about_name = |files: &[&Path]| -> Vec<String> {
        let corpus = open(&config(files), model.path()).unwrap();
        corpus.warnings.into_iter().filter(|text| text.contains("`nane`")).collect()
    };
    let said = about_name(&[&a]);
    let [one] = said.as_slice() else { panic!("{said:?}") };
    says(
        one,
        snapbox::str![
            "the chat template prints `nane`, which is undefined, so it writes nothing there, first [FOLDER]/a.jsonl:2"
        ],
    );
    assert!(about_name(&[&b]).is_empty());
}
