//! Chat templates and tokenizers of strangers: none ends or exhausts the program, whatever command
//! opens it, and `scan` says so before.

use snapbox::str;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::common::{Run, each_says, repository, says, wait, without_progress};
use serde_json::{Value, json};

/// The small base model, with weights, to be changed.
fn model() -> Run {
    let run = Run::new();
    let artifact = repository("checkpoints/base-tiny/artifact");
    std::fs::create_dir_all(run.path("model")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(artifact.join(name), run.path("model").join(name)).unwrap();
    }
    let template = std::fs::read_to_string(artifact.join("chat_template.jinja")).unwrap();
    run.write("model/chat_template.jinja", &template);
    run
}

fn with_template(begin: &str) -> Run {
    let run = model();
    let rest = run.read("model/chat_template.jinja");
    run.write("model/chat_template.jinja", &format!("{begin}{rest}"));
    run
}

fn with_tokenizer(change: impl FnOnce(&mut Value)) -> Run {
    let run = model();
    let mut file = serde_json::from_str(&run.read("model/tokenizer.json")).unwrap();
    change(&mut file);
    run.write("model/tokenizer.json", &file.to_string());
    run
}

const PLAN: [&str; 4] = ["plan", "tiny.toml", "--set", "model.base=model"];
const CHAT: [&str; 9] =
    ["generate", "model", "--chat", "--prompt", "hi", "--max-tokens", "2", "--device", "cpu"];

/// The rules that a scan finds broken.
fn scanned(run: &Run) -> Vec<String> {
    let output = run.command(&["scan", "model", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rule = |finding: &Value| finding["rule"].as_str().unwrap().to_owned();
    report["findings"].as_array().unwrap().iter().map(rule).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn templates_that_take_too_much_are_refused_by_every_command_and_by_scan() {
    let doubled = "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}\
                   {% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | length }}";
    let wide = "{{ '%999999999999d' | format(1) }}{{ 'a' | center(999999999999) }}";
    let deep = "{% set n = namespace(l=[]) %}{% for i in range(100000) %}\
                {% for j in range(10) %}{% set n.l = [[[[[[[[[[n.l]]]]]]]]]] %}\
                {% endfor %}{% endfor %}";
    let many = "{% set n = namespace(l=[]) %}{% for i in range(100000) %}\
                {% for j in range(20) %}{% set n.l = n.l + [i, i, i, i, i, i, i, i] %}\
                {% endfor %}{% endfor %}";
    let sum = format!("{{{{ {}1 }}}}", "1+".repeat(300_000));
    let all = format!("{{{{ {}1 }}}}", "1 and ".repeat(100_000));
    let branches = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(80_000));
    let mut said = String::new();
    for begin in [doubled, wide, deep, many, &sum, &all, &branches] {
        let run = with_template(begin);
        let start = &begin[..begin.len().min(60)];
        said += &format!("# {start}\n");
        for arguments in [PLAN.as_slice(), CHAT.as_slice()] {
            let error = run.fails(2, arguments);
            said += &format!("{}: {error}\n", arguments[0]);
        }
        assert!(scanned(&run).contains(&"template-bomb".to_owned()), "{start}");
    }
    says(
        said,
        str![[r#"
# {% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %
plan: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

generate: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

# {{ '%999999999999d' | format(1) }}{{ 'a' | center(9999999999
plan: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

generate: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

# {% set n = namespace(l=[]) %}{% for i in range(100000) %}{% 
plan: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

generate: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

# {% set n = namespace(l=[]) %}{% for i in range(100000) %}{% 
plan: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it takes too long

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

generate: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it takes too long

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

# {{ 1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1
plan: error[template-limit]: the chat template is too large
  at model/chat_template.jinja:1:1
  because an expression has 600001 words and signs; at most 8192 are accepted

generate: error[template-limit]: the chat template is too large
  at model/chat_template.jinja:1:1
  because an expression has 600001 words and signs; at most 8192 are accepted

# {{ 1 and 1 and 1 and 1 and 1 and 1 and 1 and 1 and 1 and 1 a
plan: error[template-limit]: the chat template is too large
  at model/chat_template.jinja:1:1
  because an expression has 200001 words and signs; at most 8192 are accepted

generate: error[template-limit]: the chat template is too large
  at model/chat_template.jinja:1:1
  because an expression has 200001 words and signs; at most 8192 are accepted

# {% if 0 %}{% elif 0 %}{% elif 0 %}{% elif 0 %}{% elif 0 %}{%
plan: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it nests deeper than a stack of 64 MiB allows

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

generate: error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it nests deeper than a stack of 64 MiB allows

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them


"#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn the_limit_that_was_reached_is_named_with_the_template() {
    let doubled = "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}\
                   {% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | upper }}";
    let error = with_template(doubled).fails(2, &PLAN);
    says(
        &error,
        str![[r#"
error[template-limit]: the chat template cannot be rendered within the limits
  at model/chat_template.jinja
  because it [..]

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

"#]],
    );
}

/// A template that takes too much only of some record.
#[test]
#[cfg(target_os = "linux")]
fn the_record_that_a_template_cannot_render_is_named() {
    let run = with_template(
        "{% if 'number 7' in messages[0].content %}{% set n = namespace(s='aaaaaaaa') %}\
         {% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | upper }}{% endif %}",
    );
    let record = |n: usize| {
        let user = json!({"role": "user", "content": format!("number {n}.")});
        let assistant = json!({"role": "assistant", "content": "yes"});
        format!("{}\n", json!({"messages": [user, assistant]}))
    };
    run.write("data.jsonl", &(0..40).map(record).collect::<String>());
    run.fails_with(
        2,
        &PLAN,
        str![[r#"
error[template-limit]: the chat template cannot be rendered within the limits
  at data.jsonl:[..]
  because it [..]
...
  because the chat template is model/chat_template.jinja

hint: give one that you trust as `data.chat_template`; `firebrand scan` looks at them

"#]],
    );
}

/// A list in a list in a list is let go of by recursion: on a stack that is large enough, for
/// `scan` as for a run.
#[test]
fn a_list_that_is_deep_but_not_too_deep_is_rendered_as_scan_says() {
    let run = with_template(
        "{% set n = namespace(l=[]) %}{% for i in range(90000) %}{% set n.l = [n.l] %}{% endfor %}",
    );
    run.succeeds(&PLAN);
    assert_eq!(scanned(&run), Vec::<String>::new());
}

#[test]
#[cfg(unix)]
fn a_template_that_is_no_regular_file_is_refused_at_once() {
    let run = model();
    let made = Command::new("mkfifo").arg(run.path("pipe")).status().unwrap();
    assert!(made.success());
    for (name, said) in [
        (
            "/dev/zero",
            str![[r#"
error[file]: a regular file is needed, and this is a device
  at /dev/zero

hint: write what it gives into a file first

"#]],
        ),
        (
            "/dev/null",
            str![[r#"
error[file]: a regular file is needed, and this is a device
  at /dev/null

hint: write what it gives into a file first

"#]],
        ),
        (
            "pipe",
            str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at pipe

hint: write what it gives into a file first

"#]],
        ),
        (
            "model",
            str![[r#"
error[file]: a regular file is needed, and this is a folder
  at model

hint: name a file in it

"#]],
        ),
    ] {
        let set = format!("data.chat_template={name}");
        let plan = ["plan", "tiny.toml", "--set", "model.base=model", "--set", &set];
        run.fails_with(2, &plan, said);
    }
}

/// What a model may have and need not have is read where it is there, or refused: never passed
/// over.
#[test]
#[cfg(unix)]
fn a_small_file_of_a_model_that_is_no_regular_file_is_refused() {
    let run = model();
    let generate = ["generate", "model", "--prompt", "a", "--max-tokens", "1", "--chat"];
    run.succeeds(&generate);
    let mut errors = Vec::new();
    for name in [
        "config.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
    ] {
        let path = run.path(&format!("model/{name}"));
        let own = std::fs::read(&path).ok();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for kind in ["pipe", "device", "folder", "link"] {
            let _ = std::fs::remove_file(&path);
            match kind {
                "pipe" => {
                    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                }
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                "folder" => std::fs::create_dir(&path).unwrap(),
                _ => std::os::unix::fs::symlink("nothing", &path).unwrap(),
            }
            for command in [&generate[..], &PLAN] {
                let error = run.fails(2, command);
                assert!(error.contains(name), "{name}, {kind}: {error}");
                errors.push(error.replace(name, "[FILE]"));
            }
            if kind == "folder" {
                std::fs::remove_dir(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        if let Some(own) = own {
            std::fs::write(&path, own).unwrap();
        }
    }
    run.succeeds(&generate);
    each_says(
        errors,
        str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at model/[FILE]

hint: write what it gives into a file first

error[file]: a regular file is needed, and this is a device
  at model/[FILE]

hint: write what it gives into a file first

error[file]: a regular file is needed, and this is a folder
  at model/[FILE]

hint: name a file in it

error[file]: the link points to nothing
  at model/[FILE]

error[tokenizer]: the model has no tokenizer
  at model/[FILE]
  because No such file or directory (os error 2)

hint: `[FILE]` is needed; `tokenizer.model` and others are not read

"#]],
    );
}

/// A configuration is a file: it is read more than once, and its lock stands beside it.
#[test]
#[cfg(unix)]
fn a_configuration_that_is_no_regular_file_is_refused_at_once() {
    let run = model();
    assert!(Command::new("mkfifo").arg(run.path("pipe")).status().unwrap().success());

    let generate = ["generate", "model", "--chat", "--prompt", "a", "--chat-template", "pipe"];
    for (arguments, said) in [
        (
            &["plan", "pipe"][..],
            str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at pipe

hint: write what it gives into a file first

"#]],
        ),
        (
            &["data", "/dev/zero"],
            str![[r#"
error[file]: a regular file is needed, and this is a device
  at /dev/zero

hint: write what it gives into a file first

"#]],
        ),
        (
            &["eval", "model", "--config", "pipe"],
            str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at pipe

hint: write what it gives into a file first

"#]],
        ),
        (
            &["gate", "--candidate", "model", "--policy", "pipe"],
            str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at pipe

hint: write what it gives into a file first

"#]],
        ),
        (
            &generate,
            str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at pipe

hint: write what it gives into a file first

"#]],
        ),
    ] {
        run.fails_with(2, arguments, said);
    }
}

/// The process that renders is none of the terminal's business, and ends when nobody asks it.
#[test]
#[cfg(target_os = "linux")]
fn the_process_that_renders_outlives_an_interrupt_and_not_its_program() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_firebrand"))
        .arg("render-templates")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let load = json!({"Load": {"text": {"source": "{{ messages[0].content }}", "origin": "t"},
        "special": {}}});
    assert_eq!(ask(&mut input, &mut output, &load), json!({"Ok": null}));
    let id = child.id().to_string();
    for signal in ["-INT", "-TERM", "-HUP"] {
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
    let conversation = json!({"messages": [{"role": "user", "content": "a"}]});
    let write = json!({"Write": {"conversation": conversation, "count": 1, "generation": false}});
    assert_eq!(ask(&mut input, &mut output, &write), json!({"Ok": "a"}));
    drop(input);
    // It does not wait for requests that cannot come.
    wait::until("the end of the process that renders", || child.try_wait().unwrap().is_some());
}

fn ask(input: &mut impl Write, output: &mut impl Read, request: &Value) -> Value {
    let text = request.to_string();
    input.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    input.write_all(text.as_bytes()).unwrap();
    let mut length = [0; 8];
    output.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap()];
    output.read_exact(&mut answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Whatever kills the program ends what it started, also in the middle of a rendering.
#[test]
#[cfg(target_os = "linux")]
fn the_process_that_renders_ends_with_a_program_that_was_killed() {
    let run = with_template(
        "{% set s = 'abcdefgh' * 100000 %}{% for i in range(100000) %}\
         {% set t = s | upper | lower %}{% endfor %}",
    );
    let mut program = Command::new(env!("CARGO_BIN_EXE_firebrand"))
        .args(PLAN)
        .current_dir(run.path(""))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut renders = None;
    wait::until("a process that renders", || {
        renders = child_of(program.id());
        renders.is_some()
    });
    let renders = renders.unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    wait::until("the end of the process that renders for nobody", || {
        !std::fs::read_to_string(format!("/proc/{renders}/cmdline"))
            .is_ok_and(|line| line.contains("render-templates"))
    });
}

/// The process that a program has started to render.
fn child_of(program: u32) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        (parent == program && line.contains("render-templates")).then_some(id)
    })
}

#[test]
fn tokenizers_that_take_too_much_are_refused_by_every_command_and_by_scan() {
    let ten = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaa"});
    let thousand =
        json!({"type": "Replace", "pattern": {"String": "e"}, "content": "e".repeat(1000)});
    let map = |text: &str| json!({"type": "Precompiled", "precompiled_charsmap": text});
    let empty = json!({"type": "Replace", "pattern": {"String": ""}, "content": "xxxxx"});
    let mut said = String::new();
    for (part, value) in [
        ("normalizer", map("")),
        // Says that four gigabytes follow.
        ("normalizer", map("/P///3h4eHg=")),
        ("normalizer", empty),
        ("normalizer", json!({"type": "Sequence", "normalizers": vec![ten; 9]})),
        ("decoder", json!({"type": "Sequence", "decoders": vec![thousand; 9]})),
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
    ] {
        let run = with_tokenizer(|file| file[part] = value.clone());
        said += &format!("# {part}: {}\n", value["type"]);
        for arguments in [PLAN.as_slice(), CHAT.as_slice()] {
            let error = run.fails(2, arguments);
            said += &format!("{}: {error}\n", arguments[0]);
        }
        assert!(scanned(&run).contains(&"tokenizer-bomb".to_owned()), "{value}");
    }
    says(
        said,
        str![[r##"
# normalizer: "Precompiled"
plan: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its map of characters (`precompiled_charsmap`) is empty

generate: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its map of characters (`precompiled_charsmap`) is empty

# normalizer: "Precompiled"
plan: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its map of characters (`precompiled_charsmap`) says that its trie has 4294967292 bytes, and has 4

generate: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its map of characters (`precompiled_charsmap`) says that its trie has 4294967292 bytes, and has 4

# normalizer: "Replace"
plan: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because it replaces an empty text, which is everywhere

generate: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because it replaces an empty text, which is everywhere

# normalizer: "Sequence"
plan: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its normalizer can make a text 2357947691 times as long; at most 1024 are accepted

generate: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its normalizer can make a text 2357947691 times as long; at most 1024 are accepted

# decoder: "Sequence"
plan: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its decoder can make a text 1000000000000000013287555072 times as long; at most 64 are accepted

generate: error[file]: the tokenizer is refused
  at model/tokenizer.json
  because its decoder can make a text 1000000000000000013287555072 times as long; at most 64 are accepted

# pre_tokenizer: "FixedLength"
plan: error[tokenizer]: the tokenizer library cannot look at the tokenizer
  at model/tokenizer.json
  because chunk size must be non-zero

generate: error[tokenizer]: the tokenizer library cannot look at the tokenizer
  at model/tokenizer.json
  because chunk size must be non-zero


"##]],
    );
    let run = with_tokenizer(|file| {
        let tokens = file["added_tokens"].as_array_mut().unwrap();
        let mut token = tokens.last().unwrap().clone();
        token["id"] = json!(2048);
        token["content"] = json!("a".repeat(5 << 20));
        tokens.push(token);
    });
    run.fails_with(
        2,
        &PLAN,
        str![[r#"
error[file]: the tokenizer is refused
  at model/tokenizer.json
  because it has 5242880 bytes in an added token; at most 4096 are accepted

"#]],
    );
    assert!(scanned(&run).contains(&"tokenizer-bomb".to_owned()));
}

#[test]
fn ids_without_a_row_in_the_embedding_are_refused_where_they_are_used() {
    // Of the vocabulary: the model must have a row for it.
    let run = with_tokenizer(|file| file["model"]["vocab"]["q"] = json!(5000));
    run.fails_with(
        2,
        &PLAN,
        str![[r#"
chat template: model/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
error[run]: the tokenizer has 5001 tokens, but the model's embedding only 2048 rows
  at model

hint: tokenizer.json and config.json belong to different models

"#]],
    );
    let prompt =
        |text| ["generate", "model", "--prompt", text, "--max-tokens", "2", "--device", "cpu"];
    run.fails_with(
        2,
        &prompt("q"),
        str![[r#"
error[tokenizer]: the token `q` has the id 5000, but the model's embedding only 2048 rows

hint: tokenizer.json and config.json belong to different models

"#]],
    );
    run.succeeds(&prompt("a"));
    assert!(scanned(&run).contains(&"tokenizer-size".to_owned()));

    // Of an added token: the model may do without, and a text may not have it.
    let run = with_tokenizer(|file| {
        let tokens = file["added_tokens"].as_array_mut().unwrap();
        let mut token = tokens.last().unwrap().clone();
        token["id"] = json!(2048);
        token["content"] = json!("<|image|>");
        tokens.push(token);
    });
    let output = run.command(&PLAN).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    says(
        without_progress(&said),
        str![[r#"
1 added tokens have no row in the model's embedding, such as `<|image|>`: a text with one of them is refused
 memory plan  fastest (chosen): about [..] MB, 1.00 of the shortest time, about [SPEED]: nothing computed again, logits of 128 target tokens and 2 rows at once
 memory plan  recompute: about [..] MB, 1.28 of the shortest time, about [SPEED]: layers computed again, logits of 128 target tokens and 2 rows at once

the first example (data.jsonl:1), target tokens marked:


nothing was trained; to do it: firebrand train tiny.toml

"#]],
    );
    run.succeeds(&prompt("a"));
    run.fails_with(
        2,
        &prompt("a <|image|> b"),
        str![[r#"
error[tokenizer]: the token `<|image|>` has the id 2048, but the model's embedding only 2048 rows

hint: tokenizer.json and config.json belong to different models

"#]],
    );

    // Of what begins every text.
    let run = with_tokenizer(|file| {
        file["post_processor"] = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "x", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"x": {"id": "x", "ids": [4_000_000_000_u32], "tokens": ["x"]}}});
    });
    for (arguments, said) in [
        (
            PLAN.as_slice(),
            str![[r#"
error[tokenizer]: the token `` has the id 4000000000, but the model's embedding only 2048 rows
  at model/tokenizer.json

hint: tokenizer.json and config.json belong to different models

"#]],
        ),
        (
            CHAT.as_slice(),
            str![[r#"
error[tokenizer]: the token `` has the id 4000000000, but the model's embedding only 2048 rows
  at model/tokenizer.json

hint: tokenizer.json and config.json belong to different models

"#]],
        ),
        (
            &prompt("a"),
            str![[r#"
error[tokenizer]: the token `` has the id 4000000000, but the model's embedding only 2048 rows
  at model/tokenizer.json

hint: tokenizer.json and config.json belong to different models

"#]],
        ),
    ] {
        run.fails_with(2, arguments, said);
    }
    assert!(scanned(&run).contains(&"tokenizer-size".to_owned()));
}
