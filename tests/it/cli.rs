//! Whole commands: what they print, what they leave behind, how they end. Help texts are kept in
//! `snapshots/`; `SNAPSHOTS=overwrite cargo test --release` rewrites them.

use std::collections::BTreeSet;

use crate::common::{Run, files_of, repository, says};
use serde_json::Value;
use snapbox::{file, str};

/// Every command that people see, by the program's own help.
fn commands(run: &Run) -> Vec<String> {
    let help = run.succeeds(&["--help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_explains_itself() {
    let run = Run::new();
    run.command(&["--help"]).assert().success().stdout_eq(file!["../snapshots/help.txt"].raw());
    for command in &commands(&run) {
        let path = repository("tests/snapshots").join(format!("help-{command}.txt"));
        let expected = snapbox::Data::read_from(&path, Some(snapbox::data::DataFormat::Text));
        run.command(&[command.as_str(), "--help"]).assert().success().stdout_eq(expected.raw());
    }
}

#[test]
fn a_mistyped_command_is_an_error_with_a_suggestion() {
    let stderr = Run::new().fails(2, &["trian"]);
    says(
        &stderr,
        str![[r#"
error: unrecognized subcommand 'trian'

  tip: a similar subcommand exists: 'train'

Usage: firebrand <COMMAND>

For more information, try '--help'.

"#]],
    );
}

#[test]
fn init_writes_a_configuration_that_loads_and_never_replaces_one() {
    let run = Run::new();
    let path = run.succeeds(&["init", "mine.toml"]);
    assert_eq!(path, "mine.toml\n");
    assert_eq!(run.succeeds(&["init"]), run.read("mine.toml"));
    let before = run.read("mine.toml");
    run.command(&["init", "mine.toml"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error[exists]: refusing to replace what is already there
  at mine.toml

"#]]);
    assert_eq!(run.read("mine.toml"), before);
}

/// Fails unless a schema is the one in `configs/`, which `SNAPSHOTS=overwrite` writes.
fn is_committed(schema: String, name: &str) {
    let path = repository(&format!("configs/{name}.json"));
    let committed = snapbox::Data::read_from(&path, Some(snapbox::data::DataFormat::Text));
    snapbox::assert_data_eq!(schema, committed.raw());
}

#[test]
fn schema_is_the_committed_one() {
    is_committed(Run::new().succeeds(&["schema"]), "schema");
}

#[test]
fn every_kind_of_file_has_a_schema_and_a_template() {
    let run = Run::new();
    for kind in ["eval", "gate", "watch", "trusted-keys", "sweep"] {
        is_committed(run.succeeds(&["schema", kind]), &format!("schema-{kind}"));
        let file = format!("{kind}.toml");
        assert_eq!(run.succeeds(&["init", &file, "--for", kind]), format!("{file}\n"));
        let text = run.read(&file).replace("\n# ", " ");
        assert!(text.contains("take the `#` away to change it"), "{kind}");
    }
    run.fails_with(
        2,
        &["schema", "gates"],
        str![[r#"
error: invalid value 'gates' for '[KIND]'
  [possible values: config, eval, gate, watch, trusted-keys, sweep, review]

  tip: a similar value exists: 'gate'

For more information, try '--help'.

"#]],
    );
}

#[test]
fn errors_begin_with_their_code() {
    let run = Run::new();
    run.write("bad.toml", "[modle]\n");
    run.write("eval.toml", "[data]\npath = \"data.jsonl\"\n[[task]]\nname = \"loss\"\n");
    run.write("here.toml", "");
    for (code, arguments) in [
        ("config", &["plan", "bad.toml"][..]),
        ("config", &["plan", "tiny.toml", "--set", "train.epochs=0"]),
        ("config", &["eval", "base", "--config", "eval.toml"]),
        ("file", &["plan", "nowhere.toml"]),
        ("run", &["runs", "show", "base"]),
        ("exists", &["init", "here.toml"]),
        ("usage", &["cache", "gc", "--max-size", "much"]),
        ("lineage", &["lineage", "base"]),
        ("channel", &["resolve", "nowhere"]),
    ] {
        let stderr = run.fails(2, arguments);
        assert!(stderr.starts_with(&format!("error[{code}]: ")), "{arguments:?}: {stderr}");
    }
}

#[test]
fn completions_are_made_for_shells() {
    let run = Run::new();
    assert!(run.succeeds(&["completions", "bash"]).contains("_firebrand()"));
    run.fails_with(
        2,
        &["completions", "telnet"],
        str![[r#"
error: invalid value 'telnet' for '<SHELL>'
  [possible values: bash, elvish, fish, powershell, zsh]

For more information, try '--help'.

"#]],
    );
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let run = Run::new();
    run.succeeds(&["man", "--out", "man1"]);
    let pages: BTreeSet<String> = files_of(&run.path("man1")).into_keys().collect();
    let of_commands = commands(&run).into_iter().map(|name| format!("firebrand-{name}.1"));
    let expected: BTreeSet<String> = of_commands.chain(["firebrand.1".to_owned()]).collect();
    assert_eq!(pages, expected);
    assert_eq!(run.succeeds(&["man"]), run.read("man1/firebrand.1"));
    says(
        run.succeeds(&["man", "resolve"]),
        str![[r#"
.ie \n(.g .ds Aq \(aq
.el .ds Aq '
.TH firebrand-resolve 1  "firebrand 0.1.0" 
.SH NAME
firebrand\-resolve \- Print the path of the model that is in use
.SH SYNOPSIS
\fBfirebrand resolve\fR [\fB\-\-registry\fR] [\fB\-\-model\fR] [\fB\-\-where\fR] [\fB\-\-json\fR] [\fB\-h\fR|\fB\-\-help\fR] <\fICHANNEL\fR> 
.SH DESCRIPTION
Print the path of the model that is in use
.PP
Only after everything was checked: the pointer\*(Aqs signature (role `promote`) and date, that no pointer is missing, changed or older than one that was seen before, and every byte of the model with its own signature. Exit code 0: this is the model; 1: something does not hold; 2: it could not be checked.
.SH OPTIONS
.TP
\fB\-\-registry\fR \fI<DIR>\fR [default: registry]
The folder of channels
.TP
\fB\-\-model\fR \fI<DIR>\fR
Where the model is, if it is not where the pointer says
.TP
\fB\-\-where\fR
Only where the model is to be had, a folder or a URI; the pointer is checked, and no model
.TP
\fB\-\-json\fR
The pointer and its signers too, as JSON
.TP
\fB\-h\fR, \fB\-\-help\fR
Print help (see a summary with \*(Aq\-h\*(Aq)
.TP
<\fICHANNEL\fR>
The channel, such as `production`

"#]],
    );
    run.fails_with(
        2,
        &["man", "trian"],
        str![[r#"
error[usage]: there is no command `trian`

hint: `firebrand --help` lists them

"#]],
    );
}

#[test]
fn keygen_makes_a_pair_with_a_private_half_and_never_replaces_one() {
    let run = Run::new();
    let hint = run.succeeds(&["keygen", "release.pem"]);
    assert_eq!(hint.trim().len(), 64);
    assert!(run.read("release.pub.pem").contains("BEGIN PUBLIC KEY"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(run.path("release.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    run.fails_with(
        2,
        &["keygen", "release.pem"],
        str![[r#"
error[exists]: refusing to replace what is already there
  at release.pem

hint: name another file, or move this one away

"#]],
    );
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once_with_their_places() {
    let run = Run::new();
    run.write(
        "bad.toml",
        "[model]\nbase = \"base\"\n[data]\nsequence_len = 64\n[[data.train]]\npath = \"data.jsonl\"\n\
         [train]\nlearning_rat = 1e-4\nepochs = \"many\"\n",
    );
    run.command(&["plan", "bad.toml"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error[config]: unknown key `sequence_len` in `[data]`
  at bad.toml:4:1

hint: `sequence_len` is axolotl's name for `data.max_seq_len`

error[config]: unknown key `learning_rat` in `[train]`
  at bad.toml:8:1

hint: did you mean `learning_rate`?

error[config]: `train.epochs` must be an integer from 1 to 1000000000, not `"many"`
  at bad.toml:9:10

"#]]);
}

#[test]
fn plan_tells_what_would_happen_and_trains_nothing() {
    let run = Run::new();
    run.command(&["plan", "tiny.toml"]).assert().success().stdout_eq(str![[r#"
    <|im_start|>user
    What is 0 plus 0? (0)<|im_end|>
    <|im_start|>assistant
    ⟦0 plus 0 is 0.<|im_end|>⟧

"#]]).stderr_eq(str![[r#"
chat template: base/chat_template.jinja, sha256 [..]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, 100.00 %
      device  CPU, 2 threads: asked for
   precision  f32: every CPU has it[..]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
 memory plan  fastest (chosen): about [..] MB, 1.00 of the shortest time, about [..] tokens/s: nothing computed again, logits of 128 target tokens and 2 rows at once
 memory plan  recompute: about [..] MB, 1.[..] of the shortest time, about [..] tokens/s: layers computed again, logits of 128 target tokens and 2 rows at once
        disk  at most 1.3 MB for checkpoints and the artifact

the first example (data.jsonl:1), target tokens marked:


nothing was trained; to do it: firebrand train tiny.toml

"#]]);
    assert!(!run.path("checkpoints").exists());
    let plan: Value =
        serde_json::from_str(&run.succeeds(&["plan", "tiny.toml", "--json"])).unwrap();
    assert_eq!(plan["steps"], 6);
    assert_eq!(plan["parameters"], plan["trainable_parameters"]);
    for candidate in plan["memory_plans"].as_array().unwrap() {
        assert!(candidate["tokens_per_second"].as_f64().unwrap() > 0.0, "{candidate}");
    }

    std::fs::remove_file(run.path("data.jsonl")).unwrap();
    run.fails_with(
        2,
        &["plan", "tiny.toml"],
        str![[r#"
error[file]: there is no such file
  at data.jsonl

"#]],
    );
}

#[test]
fn data_gives_the_rows_of_training_for_other_programs() {
    let run = Run::new();
    run.command(&["data", "tiny.toml", "--rows", "1"]).assert().success().stdout_eq(str![[r#"
step 1, row 0:
  data.jsonl:20, 69 tokens
    <|im_start|>user
    What is 5 plus 4? and then some and then some and then some (19)<|im_end|>
    <|im_start|>assistant
    ⟦5 plus 4 is 9.<|im_end|>⟧
step 1, row 1:
  data.jsonl:6, 54 tokens
    <|im_start|>user
    What is 5 plus 0? and then some (5)<|im_end|>
    <|im_start|>assistant
    ⟦5 plus 0 is 5.<|im_end|>⟧

"#]]);
    let text = run.succeeds(&["data", "tiny.toml", "--json", "--rows", "0"]);
    let batches: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(batches.last().unwrap()["step"], 6);
    for batch in &batches {
        let size = batch["rows"].as_u64().unwrap() * batch["length"].as_u64().unwrap();
        for list in ["tokens", "positions", "documents"] {
            assert_eq!(batch[list].as_array().unwrap().len() as u64, size, "{list}");
        }
        assert!(batch["weight"].as_f64().unwrap() > 0.0);
        for pair in batch["targets"].as_array().unwrap() {
            let index = pair[0].as_u64().unwrap() as usize;
            assert_eq!(batch["tokens"][index + 1], pair[1], "a target is the next token");
            assert_eq!(batch["documents"][index + 1], batch["documents"][index]);
        }
    }
    assert_eq!(text, run.succeeds(&["data", "tiny.toml", "--json", "--rows", "0"]));
    run.fails_with(
        2,
        &["data", "none.toml"],
        str![[r#"
error[file]: cannot read the config
  at none.toml
  because No such file or directory (os error 2)

"#]],
    );
}

#[test]
fn train_makes_a_signed_artifact_with_its_lineage_in_two_generations() {
    let run = Run::new();
    run.command(&["train", "tiny.toml", "--set", "checkpoint.every_steps=0"])
        .assert()
        .success()
        .stdout_eq("checkpoints/tiny/artifact\n")
        .stderr_eq(str![[r#"
made a key pair to sign with: [..]/settings/firebrand/signing.pem, and [..]/settings/firebrand/signing.pub.pem for those who verify
chat template: base/chat_template.jinja, sha256 [..]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, 100.00 %
      device  CPU, 2 threads: asked for
   precision  f32: every CPU has it[..]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
validation after step 0: loss 6.2616, perplexity 524.06, measured on 78 tokens
step 1/6  loss 6.2467  [..] tokens/s  norm 2.14  lr 2.50e-3  [..] left
...
step 6/6  loss 5.1950  [..] tokens/s  norm 1.81  lr 7.32e-4  [..] left
validation after step 6: loss 5.1694, perplexity 175.81, measured on 78 tokens
saved step 6 in [..] s: checkpoints/tiny/step-00000006

  > What is 3 plus 4?
    before: 
    after:  

artifact  checkpoints/tiny/artifact
validation loss  6.2616 before, 5.1694 after
signed by key [..] ([..]/settings/firebrand/signing.pem (made just now))
check it:  firebrand verify checkpoints/tiny/artifact

"#]]);
    run.command(&["verify", "checkpoints/tiny"]).assert().success().stdout_eq(str![[r#"
ok    regular files      11 files, [..] bytes
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [..] ([..]/settings/firebrand/signing.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [..]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [..] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
ok    attestation        line 1: https://slsa.dev/provenance/v1, 9 files as stated, by key [..]
signed by key [..] ([..]/settings/firebrand/signing.pub.pem)
verified

"#]]);

    assert_eq!(run.succeeds(&["train", "lora.toml", "--quiet"]), "checkpoints/lora/artifact\n");
    run.succeeds(&["verify", "checkpoints/lora"]);
    let statement = run.provenance("lora");
    let roles: Vec<&str> = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["annotations"]["role"].as_str())
        .collect();
    for role in ["config", "base-model", "base-lineage", "tokenizer", "chat-template", "dataset"] {
        assert!(roles.contains(&role), "{role} in {roles:?}");
    }
    let names: Vec<String> = std::fs::read_dir(run.path("checkpoints/lora/artifact"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
        "effect.json",
        "lineage.inputs.json",
        "lineage.statement.json",
        "model.sig",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    let bundle = run.read("checkpoints/lora/artifact.sigstore.jsonl");
    assert_eq!(bundle.lines().count(), 1);
}

#[test]
fn a_finished_run_is_left_alone_unless_it_is_begun_anew() {
    let run = Run::new().with_base();
    let weights = "checkpoints/tiny/artifact/model.safetensors";
    let first = std::fs::read(run.path(weights)).unwrap();
    run.command(&["train", "tiny.toml"])
        .assert()
        .success()
        .stdout_eq("checkpoints/tiny/artifact\n")
        .stderr_eq("this run is finished; `--resume never` would restart\n");
    run.succeeds(&["train", "tiny.toml", "--quiet", "--resume", "never"]);
    assert_eq!(std::fs::read(run.path(weights)).unwrap(), first, "the same run, the same bytes");
    assert!(run.path("checkpoints/tiny/earlier-1/artifact").exists(), "nothing is thrown away");
}

#[test]
fn a_changed_file_is_noticed_and_named() {
    let run = Run::new().with_base();
    let config = "checkpoints/tiny/artifact/config.json";
    run.write(config, &run.read(config).replace("1e-5", "1e-6").replace("256", "255"));
    let output = run.command(&["verify", "checkpoints/tiny"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
FAIL  files unchanged    changed: `config.json`
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
FAIL  lineage files      the statement is about other files: `config.json`
FAIL  attestation        line 1: the statement is about other files: `config.json`
signed by key [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
tampered: the files are not those that were signed

"#]],
    );
    // And it is never trained on.
    run.fails_with(
        1,
        &["train", "lora.toml"],
        str![[r#"
error[signature]: the model is not the one that was signed
  at checkpoints/tiny/artifact
  because changed: `config.json`
  because the statement is about other files: `config.json`
  because line 1: the statement is about other files: `config.json`

"#]],
    );

    let report: Value = {
        let output = run.command(&["verify", "checkpoints/tiny", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(report["verdict"], "tampered");
}

#[test]
fn a_stranger_does_not_trust_our_key_until_it_is_named() {
    let run = Run::new().with_base();
    let stranger = |arguments: &[&str]| {
        let output = run.command(arguments).env("XDG_CONFIG_HOME", run.path("other")).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, stdout) = stranger(&["verify", "checkpoints/tiny"]);
    assert_eq!(code, Some(1));
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the key [SHA256] is not trusted: you trust no key yet
-     signature          needs the public key
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
FAIL  attestation        line 1: signed by the key [SHA256], which you do not trust
signed by key [SHA256]
untrusted: signed by a key that you do not trust

"#]],
    );
    let key = "settings/firebrand/signing.pub.pem";
    assert_eq!(stranger(&["verify", "checkpoints/tiny", "--key", key]).0, Some(0));

    std::fs::remove_file(run.path("checkpoints/tiny/artifact/model.sig")).unwrap();
    let (code, stdout) = stranger(&["verify", "checkpoints/tiny/artifact", "--key", key]);
    assert_eq!(code, Some(1));
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
FAIL  signature file     there is no `model.sig`
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
ok    attestation        line 1: https://slsa.dev/provenance/v1, 9 files as stated, by key [HEX]
unsigned: no key attests this model

"#]],
    );
}

#[test]
fn signing_can_be_switched_off_and_keys_can_be_given() {
    let run = Run::new();
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "output.sign=false"]);
    assert!(!run.path("checkpoints/tiny/artifact/model.sig").exists());
    assert!(!run.path("settings").exists(), "no key was made");

    run.succeeds(&["keygen", "release.pem"]);
    run.succeeds(&[
        "train",
        "tiny.toml",
        "--quiet",
        "--resume",
        "never",
        "--set",
        "output.signing_key=release.pem",
    ]);
    run.succeeds(&["verify", "checkpoints/tiny", "--key", "release.pub.pem"]);

    let pem = run.read("release.pem");
    let output = run
        .command(&["train", "tiny.toml", "--quiet", "--resume", "never"])
        .env("FIREBRAND_SIGNING_KEY", pem)
        .output()
        .unwrap();
    assert!(output.status.success());
    run.succeeds(&["verify", "checkpoints/tiny", "--key", "release.pub.pem"]);
    assert!(!run.path("settings").exists(), "no key was made");
}

#[test]
fn generate_goes_on_from_models_adapters_and_unfinished_runs() {
    let run = Run::new().with_base();
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "6"];
    let base = [&["generate", "checkpoints/tiny", "--chat"], &prompt[..]].concat();
    let text = run.succeeds(&base);
    assert_eq!(text, run.succeeds(&base), "greedy text repeats");
    let varied = [&base[..], &["--temperature", "2", "--seed", "7"]].concat();
    assert_eq!(run.succeeds(&varied), run.succeeds(&varied), "so do draws of one seed");
    let other = [&base[..], &["--temperature", "2", "--seed", "8"]].concat();
    assert_ne!(run.succeeds(&varied), run.succeeds(&other));

    run.succeeds(&["train", "lora.toml", "--quiet", "--stop-after-steps", "2"]);
    run.succeeds(&[&["generate", "checkpoints/lora"], &prompt[..]].concat());
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&[&["generate", "checkpoints/lora"], &prompt[..]].concat());
    run.fails_with(
        2,
        &["generate", "nowhere", "--prompt", "x"],
        str![[r#"
error[model]: there is no model `nowhere`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub

"#]],
    );
}

#[test]
fn merge_makes_a_whole_model_that_says_the_same() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    assert_eq!(run.succeeds(&["merge", "checkpoints/lora", "--out", "merged"]), "merged\n");
    run.succeeds(&["verify", "merged"]);
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "3", "--chat"];
    assert_eq!(
        run.succeeds(&[&["generate", "merged"], &prompt[..]].concat()),
        run.succeeds(&[&["generate", "checkpoints/lora"], &prompt[..]].concat())
    );
    run.fails_with(
        2,
        &["merge", "checkpoints/lora", "--out", "merged"],
        str![[r#"
error[exists]: refusing to replace what is already there
  at merged

"#]],
    );
    run.fails_with(
        2,
        &["merge", "checkpoints/tiny", "--out", "other"],
        str![[r#"
error[adapter]: `checkpoints/tiny/artifact` is a whole model, not an adapter
  at checkpoints/tiny/artifact

"#]],
    );

    // Another base of the same shape is refused: the lineage knows which one it was.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=7"]);
    let stderr = run
        .fails(1, &["merge", "checkpoints/lora", "--out", "wrong", "--base", "checkpoints/other"]);
    says(
        &stderr,
        str![[r#"
error[adapter]: `model.safetensors` is not the base model that the adapter was trained on
  at checkpoints/other/artifact
  because its digest is [HEX], the lineage says [HEX]

"#]],
    );
    assert!(!run.path("wrong").exists());
}

#[test]
fn merging_an_adapter_that_adds_nothing_gives_back_the_same_bytes() {
    let run = Run::new();
    // A base that Firebrand did not make: weights in bf16 with a header of another order.
    std::fs::create_dir(run.path("foreign")).unwrap();
    let case = repository("tests/reference/tiny/bf16-sharded");
    for entry in std::fs::read_dir(case).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("expected") {
            std::fs::copy(&path, run.path("foreign").join(path.file_name().unwrap())).unwrap();
        }
    }
    run.write("foreign/tokenizer.json", BYTES_TOKENIZER);
    run.write("text.jsonl", "{\"text\": \"abcabcabc\"}\n{\"text\": \"aabbcc\"}\n");
    run.write(
        "zero.toml",
        "[model]\nbase = \"foreign\"\n[data]\nmax_seq_len = 16\n[[data.train]]\npath = \"text.jsonl\"\n\
         [lora]\nr = 2\n[train]\nmax_steps = 1\nlearning_rate = 1e-30\n[device]\nname = \"cpu\"\n",
    );
    // One step of length 1e-30 leaves B at about 1e-30: below what bf16 weights can tell.
    run.succeeds(&["train", "zero.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/zero", "--out", "merged"]);
    let mut shards = 0;
    for entry in std::fs::read_dir(run.path("foreign")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.contains("safetensors") {
            let [before, after] = ["foreign", "merged"]
                .map(|folder| std::fs::read(run.path(folder).join(&name)).unwrap());
            assert!(before == after, "{name} changed");
            shards += 1;
        }
    }
    assert_eq!(shards, 4, "three shards and their index");
}

/// Letters as tokens; enough for a model with 96 of them.
const BYTES_TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[],"normalizer":null,
"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{"type":"BPE","dropout":null,
"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,
"byte_fallback":false,"vocab":{"a":0,"b":1,"c":2},"merges":[]}}"#;

/// What is measured on is never counted as trained: whatever tells of tokens says the same with and
/// without validation data, but for what it says of the validation itself.
#[test]
fn tokens_of_the_validation_are_never_counted_as_trained() {
    let run = Run::new();
    let validation = "[[data.validation]]\npath = \"validation.jsonl\"\n";
    run.write("without.toml", &run.read("tiny.toml").replace(validation, ""));
    run.write("with.toml", &run.read("tiny.toml"));
    let said = |name: &str| {
        let config = format!("{name}.toml");
        let trained = run.command(&["train", &config]).output().unwrap();
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
        let planned = run.command(&["plan", &config]).output().unwrap();
        [trained, planned]
            .map(|it| String::from_utf8([it.stdout, it.stderr].concat()).unwrap())
            .concat()
    };
    let (with, without) = (said("with"), said("without"));
    // A line of metrics tells of a step or of a validation, under names of their own.
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let sum = |name: &str, key: &str| -> u64 {
        lines(name).iter().filter_map(|line| line[key].as_u64()).sum()
    };
    let judged = sum("with", "eval_target_tokens");
    assert!(judged > 0 && sum("without", "eval_target_tokens") == 0);
    for line in lines("with") {
        let of_step = line.get("tokens").is_some() && line.get("target_tokens").is_some();
        assert_ne!(of_step, line.get("eval_target_tokens").is_some(), "{line}");
    }
    let [tokens, targets] = ["tokens", "target_tokens"].map(|key| {
        assert_eq!(sum("with", key), sum("without", key), "{key}");
        sum("with", key)
    });
    let counts = |text: &str| -> Vec<String> {
        let found = text.lines().filter(|line| line.contains("token"));
        let found = found.filter(|line| !line.starts_with("validation"));
        found.map(|line| line.split(" target tokens,").next().unwrap().to_owned()).collect()
    };
    let trained = |name: &str| {
        let timed = |line: &String| !line.contains("tokens/s");
        let said = if name == "with" { &with } else { &without };
        counts(said).into_iter().filter(timed).collect::<Vec<_>>()
    };
    assert_eq!(trained("with"), trained("without"));
    for file in ["report.html", "artifact/README.md", "artifact/lineage.statement.json"] {
        let text = run.read(&format!("checkpoints/with/{file}")).replace(',', "");
        for mixed in [tokens + judged, targets + judged, targets + judged / 2] {
            let word = |text: &str| text.chars().all(|c| c.is_ascii_digit());
            let numbers = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let found = numbers.filter(|it| word(it)).any(|it| it == mixed.to_string());
            assert!(!found, "{file} says {mixed}, of trained and validation tokens together");
        }
    }
    let report = run.read("checkpoints/with/report.html");
    assert!(report.contains(&format!("target_tokens {targets}")), "{report}");
    assert!(report.contains(&format!("tokens {tokens}")), "{report}");
}

/// The base that is part of the repository is signed: no byte of it may change, its card neither.
#[test]
fn what_the_readme_runs_first_can_run() {
    let run = Run::new();
    let plan = ["plan", "configs/quickstart.toml", "--quiet"];
    run.command(&plan).current_dir(repository("")).assert().success();
}
