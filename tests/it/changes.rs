//! A run goes on under something else than it began with: refused, or allowed and written down.

use crate::common::{Run, conversations, says, without_progress};
use firebrand::files::{Digest, hash_file};
use serde_json::{Value, json};
use snapbox::str;

fn train<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--set", name], more].concat()
}

/// Digests of weights, moments and metrics, and what was evaluated.
fn end(run: &Run, name: &str) -> Vec<String> {
    let root = run.path("checkpoints").join(name);
    let newest = firebrand::checkpoint::newest(&root).unwrap().remove(0).1;
    let digest = |path: std::path::PathBuf| hash_file(&path, "").unwrap().sha256.to_string();
    let text = std::fs::read_to_string(newest.join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    vec![
        digest(newest.join("model.safetensors")),
        digest(newest.join("optimizer.safetensors")),
        digest(root.join("metrics.jsonl")),
        state["evaluations"].to_string(),
        state["samples"].to_string(),
        state["cursor"].to_string(),
    ]
}

/// What the lineage of a run says of changes.
fn changes(run: &Run, name: &str) -> Vec<Value> {
    let text = run.read(&format!("checkpoints/{name}/artifact/lineage.statement.json"));
    let statement: Value = serde_json::from_str(&text).unwrap();
    let all = statement["predicate"]["runDetails"]["byproducts"].as_array().unwrap();
    let notes = all.iter().map(|found| found["annotations"].clone());
    notes.filter(|notes| notes["role"] == "change").collect()
}

const CONSTANT: [&str; 2] = ["--set", "train.lr_scheduler=constant"];
const NINE: [&str; 2] = ["--set", "train.max_steps=9"];

#[test]
fn a_finished_run_can_be_extended_to_the_bytes_of_a_longer_one() {
    let run = Run::new();
    run.succeeds(&train("name=short", &CONSTANT));
    run.succeeds(&train("name=long", &[CONSTANT, NINE].concat()));

    let more = [CONSTANT, NINE].concat();
    run.fails_with(
        2,
        &train("name=short", &more),
        str![[r#"
error[run-changed]: this run is finished, under other settings
  at checkpoints/short
  because `train.max_steps` was `6` and is `9`

hint: start a new run with another `name`; `--resume never` archives this one

hint: `--extend` continues from its last step

"#]],
    );
    // Nothing was touched.
    run.succeeds(&["verify", "checkpoints/short"]);

    let told = run.stderr_of(&train("name=short", &[&more[..], &["--extend"]].concat()));
    says(
        without_progress(&told),
        str![[r#"
`train.max_steps` was `6` and is `9`: the first 6 steps are the same either way, so nothing is lost
the earlier result is archived in checkpoints/short/artifact-of-step-00000006
continuing after step 6 of 9, from checkpoints/short/step-00000006



"#]],
    );
    assert_eq!(end(&run, "short"), end(&run, "long"));
    let found = changes(&run, "short");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["exact"], &found[0]["step"]), (&json!(true), &json!("6")));
    assert_eq!(found[0]["changes"], json!(["`train.max_steps` was `6` and is `9`"]));
    // Both results are there, and both are whole.
    run.succeeds(&["verify", "checkpoints/short"]);
    run.succeeds(&["verify", "checkpoints/short/artifact-of-step-00000006"]);
    // Once more, the run is simply finished.
    let told = run.stderr_of(&train("name=short", &more));
    says(
        &told,
        str![[r#"
this run is finished; `--resume never` would restart

"#]],
    );
}

#[test]
fn an_extension_that_changes_the_schedule_is_allowed_and_marked() {
    let run = Run::new();
    run.succeeds(&train("name=cosine", &["--stop-after-steps", "4"]));
    run.fails_with(
        2,
        &train("name=cosine", &NINE),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  9 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cosine/step-00000004
  because `train.max_steps` was `6` and is `9`

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--extend` continues anyway, and the lineage records it

"#]],
    );
    let told = run.stderr_of(&train(
        "name=cosine",
        &[&NINE[..], &["--extend", "--stop-after-steps", "0"]].concat(),
    ));
    says(
        without_progress(&told),
        str![[r#"
warning: `train.max_steps` was `6` and is `9`: from here on the result differs from that of a run with these settings from its start; the lineage records it
continuing after step 4 of 9, from checkpoints/cosine/step-00000004
stopped after step 4 of 9; the same command continues

"#]],
    );
    // It was allowed once, and is not asked for again.
    let told = run.stderr_of(&train("name=cosine", &NINE));
    says(
        without_progress(&told),
        str![[r#"
continuing after step 4 of 9, from checkpoints/cosine/step-00000004



"#]],
    );
    assert_eq!(changes(&run, "cosine")[0]["exact"], json!(false));
    // The old length is what would be a change now.
    run.fails_with(
        2,
        &train("name=cosine", &[]),
        str![[r#"
error[run-changed]: this run is finished, under other settings
  at checkpoints/cosine
  because `train.max_steps` was `9` and is `6`

hint: start a new run with another `name`; `--resume never` archives this one

hint: `--extend` continues from its last step

"#]],
    );
}

#[test]
fn an_interrupted_run_under_wsd_is_extended_exactly_before_its_decay_only() {
    let run = Run::new();
    let wsd = ["--set", "train.lr_scheduler=wsd", "--set", "train.decay_ratio=0.3"];
    let of = |steps: &'static str| [&wsd[..], &["--set", steps]].concat();
    run.succeeds(&train("name=straight", &of("train.max_steps=20")));
    for (stop, exact) in [("7", true), ("9", false)] {
        let name = format!("name=stop-{stop}");
        let stopped = [&of("train.max_steps=10")[..], &["--stop-after-steps", stop]].concat();
        run.succeeds(&train(&name, &stopped));
        run.succeeds(&train(&name, &[&of("train.max_steps=20")[..], &["--extend"]].concat()));
        let name = &name["name=".len()..];
        assert_eq!(changes(&run, name)[0]["exact"], json!(exact), "{stop}");
        assert_eq!(end(&run, name) == end(&run, "straight"), exact, "{stop}");
    }
}

#[test]
fn more_epochs_are_an_extension_too() {
    let run = Run::new();
    let epochs = |count: &'static str| [&CONSTANT[..], &["--set", count]].concat();
    run.succeeds(&train("name=straight", &epochs("train.epochs=3")));
    run.succeeds(&train("name=more", &epochs("train.epochs=1")));
    run.succeeds(&train("name=more", &[&epochs("train.epochs=3")[..], &["--extend"]].concat()));
    assert_eq!(end(&run, "more"), end(&run, "straight"));
    assert_eq!(changes(&run, "more")[0]["exact"], json!(true));
}

#[test]
fn changed_data_is_refused_or_allowed_and_marked() {
    let run = Run::new();
    run.succeeds(&train("name=data", &["--stop-after-steps", "3"]));
    let data = run.read("data.jsonl");
    run.write("data.jsonl", &data.replace("plus", "and"));
    run.fails_with(
        2,
        &train("name=data", &[]),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1000 tokens, 180 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/data/step-00000003
  because the data was [HEX] and is [HEX]
  because ~ data.jsonl: data.jsonl, 2.7 kB -> 2.6 kB, 20 -> 20 rows

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
    );
    // Other permissions do not help.
    let others = ["--extend", "--allow-device-change", "--allow-code-change"];
    run.fails(2, &train("name=data", &others));
    let told = run.stderr_of(&train("name=data", &["--allow-data-change"]));
    says(
        without_progress(&told),
        str![[r#"
warning: the data was [HEX] and is [HEX]: from here on the result differs from that of a run with these settings from its start; the lineage records it
continuing after step 3 of 6, from checkpoints/data/step-00000003



"#]],
    );
    let found = changes(&run, "data");
    assert_eq!(found[0]["exact"], json!(false));
    says(found[0]["changes"][0].as_str().unwrap(), str!["the data was [HEX] and is [HEX]"]);
    run.succeeds(&["verify", "checkpoints/data"]);
}

#[test]
fn data_that_ends_before_the_position_goes_on_with_its_next_epoch() {
    let run = Run::new();
    let more = ["--set", "data.window_rows=5"];
    run.succeeds(&train("name=cut", &[&more[..], &["--stop-after-steps", "3"]].concat()));
    run.write("data.jsonl", &conversations(4));
    let told = run.stderr_of(&train("name=cut", &[&more[..], &["--allow-data-change"]].concat()));
    says(
        without_progress(&told),
        str![[r#"
warning: the data was [HEX] and is [HEX]: from here on the result differs from that of a run with these settings from its start; the lineage records it
continuing after step 3 of 6, from checkpoints/cut/step-00000003
the data ends before that; epoch 1 begins



"#]],
    );
}

/// Writes other text into a file of a checkpoint, as an honest program would: digests agree.
fn rewrite(folder: &std::path::Path, change: impl Fn(&mut Value)) {
    let path = folder.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    let text = serde_json::to_vec_pretty(&state).unwrap();
    std::fs::write(&path, &text).unwrap();
    let path = folder.join("MANIFEST.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for file in manifest["files"].as_array_mut().unwrap() {
        if file["path"] == "state.json" {
            file["size"] = json!(text.len());
            file["sha256"] = json!(Digest::of(&text).to_string());
        }
    }
    std::fs::write(&path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

#[test]
fn another_program_or_device_is_refused_or_allowed_and_marked() {
    let run = Run::new();
    for (field, value, option) in [
        ("code", "firebrand 0.0.9", "--allow-code-change"),
        ("device", "wgpu", "--allow-device-change"),
        ("precision", "f16", "--allow-device-change"),
    ] {
        let name = format!("name={field}");
        run.succeeds(&train(&name, &["--stop-after-steps", "3"]));
        rewrite(&run.path(&format!("checkpoints/{field}/step-00000003")), |state| {
            state["identity"][field] = json!(value);
        });
        let stderr = run.fails(2, &train(&name, &[]));
        assert!(stderr.contains(value) && stderr.contains(option), "{stderr}");
        run.succeeds(&train(&name, &[option]));
        assert_eq!(changes(&run, field)[0]["exact"], json!(false));
    }
}

#[test]
fn checkpoints_of_before_settings_and_chain_were_kept_are_read() {
    let run = Run::new();
    run.succeeds(&train("name=straight", &[]));
    run.succeeds(&train("name=old", &["--stop-after-steps", "3"]));
    let folder = run.path("checkpoints/old/step-00000003");
    let drop_new = |state: &mut Value| {
        state.as_object_mut().unwrap().remove("chain");
        state["identity"].as_object_mut().unwrap().remove("settings");
    };
    rewrite(&folder, drop_new);
    run.succeeds(&train("name=old", &[]));
    assert_eq!(end(&run, "old"), end(&run, "straight"));
    // Changed settings are found by their digest.
    run.succeeds(&train("name=other", &["--stop-after-steps", "3"]));
    rewrite(&run.path("checkpoints/other/step-00000003"), drop_new);
    run.fails_with(
        2,
        &train("name=other", &["--set", "seed=7"]),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/other/step-00000003
  because the configuration was [HEX] and is [HEX]

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
    );
}

#[test]
fn a_newer_format_is_refused_by_name_and_left_alone() {
    let run = Run::new();
    run.succeeds(&train("name=new", &["--stop-after-steps", "3"]));
    let folder = run.path("checkpoints/new/step-00000003");
    let text = std::fs::read_to_string(folder.join("MANIFEST.json")).unwrap();
    std::fs::write(folder.join("MANIFEST.json"), text.replace("\"format\": 1", "\"format\": 99"))
        .unwrap();
    run.fails_with(
        2,
        &train("name=new", &[]),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[checkpoint]: checkpoint format 99 is newer than this program, which reads up to 1
  at checkpoints/new/step-00000003

hint: continue with the newer program that wrote it

"#]],
    );
    assert!(folder.exists(), "it is not damaged, so it is not set aside");
}

#[test]
fn going_back_to_an_earlier_checkpoint_moves_the_later_ones_out_of_the_way() {
    let run = Run::new();
    let more = ["--set", "checkpoint.keep_last=9"];
    run.succeeds(&train("name=straight", &more));
    run.succeeds(&train("name=back", &[&more[..], &["--stop-after-steps", "5"]].concat()));
    let from = ["--resume", "checkpoints/back/step-00000002"];
    run.succeeds(&train("name=back", &[&more[..], &from, &["--stop-after-steps", "1"]].concat()));
    let kept = firebrand::checkpoint::newest(&run.path("checkpoints/back")).unwrap();
    let steps: Vec<u64> = kept.into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [3, 2]);
    assert!(run.path("checkpoints/back/earlier-1/step-00000005").exists());
    run.succeeds(&train("name=back", &more));
    assert_eq!(end(&run, "back"), end(&run, "straight"));
}

#[test]
fn fewer_steps_than_are_done_are_refused() {
    let run = Run::new();
    run.succeeds(&train("name=done", &CONSTANT));
    let fewer = [&CONSTANT[..], &["--set", "train.max_steps=4", "--extend"]].concat();
    run.fails_with(
        2,
        &train("name=done", &fewer),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  4 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[run]: 6 steps are done, and the run is to have 4
  at checkpoints/done/step-00000006

hint: `--resume PATH` goes back to an earlier checkpoint

"#]],
    );
    run.succeeds(&["verify", "checkpoints/done"]);
    // Not all are done: it is an extension like any other.
    run.succeeds(&train("name=cut", &[&CONSTANT[..], &["--stop-after-steps", "3"]].concat()));
    run.succeeds(&train("name=cut", &fewer));
    run.succeeds(&train("name=four", &[CONSTANT, ["--set", "train.max_steps=4"]].concat()));
    assert_eq!(end(&run, "cut"), end(&run, "four"));
}

#[test]
fn going_back_that_is_refused_touches_nothing() {
    let run = Run::new();
    let more = ["--set", "checkpoint.keep_last=9"];
    run.succeeds(&train("name=straight", &more));
    run.succeeds(&train("name=back", &[&more[..], &["--stop-after-steps", "5"]].concat()));
    let other = ["--resume", "checkpoints/back/step-00000002", "--set", "seed=9"];
    run.fails_with(
        2,
        &train("name=back", &[&more[..], &other].concat()),
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/back/step-00000002
  because `seed` was `42` and is `9`

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
    );
    run.succeeds(&train("name=back", &more));
    assert_eq!(end(&run, "back"), end(&run, "straight"));
}

#[test]
fn a_checkpoint_of_another_run_takes_the_place_of_the_runs_own() {
    let run = Run::new();
    let more = ["--set", "checkpoint.keep_last=9"];
    run.succeeds(&train("name=straight", &more));
    // A run that is further, of another seed.
    let seed = ["--set", "seed=9"];
    run.succeeds(&train("name=own", &[&more[..], &seed, &["--stop-after-steps", "5"]].concat()));
    let from = ["--resume", "checkpoints/straight/step-00000002"];
    run.succeeds(&train("name=own", &[&more[..], &from, &["--stop-after-steps", "1"]].concat()));
    let kept = firebrand::checkpoint::newest(&run.path("checkpoints/own")).unwrap();
    assert_eq!(kept.into_iter().map(|(step, _)| step).collect::<Vec<_>>(), [3]);
    assert!(run.path("checkpoints/own/earlier-1/step-00000005").exists());
    assert!(run.path("checkpoints/own/earlier-1/metrics.jsonl").exists());
    run.succeeds(&train("name=own", &more));
    assert_eq!(end(&run, "own"), end(&run, "straight"));
}

#[test]
fn runs_are_listed_shown_and_pruned() {
    let run = Run::new();
    run.succeeds(&train("name=done", &["--set", "checkpoint.keep_last=3"]));
    run.succeeds(&train("name=cut", &["--stop-after-steps", "3"]));
    run.succeeds(&train("name=lost", &["--stop-after-steps", "1"]));
    run.write("checkpoints/lost/step-00000001/state.json", "{}");
    run.fails(2, &train("name=lost", &[]));
    let held = firebrand::files::RunDirectory::lock(&run.path("checkpoints/cut")).unwrap();
    let list = |what: &str| -> Vec<Value> {
        let text = run.succeeds(&["runs", "--json", what]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let found = list("checkpoints");
    let states: Vec<_> = found
        .iter()
        .map(|run| (run["name"].as_str().unwrap(), run["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("cut", "running"), ("done", "finished"), ("lost", "failed")]);
    assert_eq!((&found[1]["step"], &found[1]["steps"]), (&json!(6), &json!(6)));
    assert!(found[1]["loss"].as_f64().unwrap() > 1.0 && found[1]["bytes"].as_u64().unwrap() > 9999);
    says(
        found[2]["why"].as_str().unwrap(),
        str!["no checkpoint of this run is intact, so it cannot resume"],
    );
    assert_eq!(found[2]["code"], "checkpoint");
    drop(held);
    let text = run.succeeds(&["runs"]);
    says(
        &text,
        str![[r#"
cut                         [SIZE]  loss  [NUMBER]  interrupted, resumes at step 3 of 6
done                          [SIZE]  loss  [NUMBER]  finished at step 6 of 6
lost                        [SIZE]  loss  [NUMBER]  failed: no checkpoint of this run is intact, so it cannot resume

"#]],
    );

    let text = run.succeeds(&["runs", "show", "checkpoints/cut", "--json"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["checkpoints"].as_array().unwrap().len(), 2);
    let what: Vec<_> =
        shown["history"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["begun", "saved", "saved", "interrupted"]);
    // Damage is seen.
    run.write("checkpoints/cut/step-00000002/state.json", "{}");
    let text = run.succeeds(&["runs", "show", "checkpoints/cut"]);
    says(
        &text,
        str![[r#"
cut                         [SIZE]  loss  [NUMBER]  interrupted, resumes at step 3 of 6
step-00000003    [..] kB
step-00000002    [SIZE]  DAMAGED: `state.json` is damaged: 2 bytes with digest [HEX] instead of [..] with [HEX]
[NOW]  step        0  begun
[NOW]  step        2  saved
[NOW]  step        3  saved
[NOW]  step        3  interrupted

"#]],
    );

    std::fs::create_dir(run.path("checkpoints/cut/.tmp-step-00000004.1")).unwrap();
    let steps = |name: &str| firebrand::checkpoint::newest(&run.path(name)).unwrap().len();
    let dry = run.succeeds(&["runs", "prune", "--dry-run"]);
    assert_eq!((steps("checkpoints/done"), dry.lines().count()), (3, 3), "{dry}");
    run.succeeds(&["runs", "prune"]);
    assert_eq!((steps("checkpoints/done"), steps("checkpoints/cut")), (1, 2));
    assert!(!run.path("checkpoints/cut/.tmp-step-00000004.1").exists());
    run.succeeds(&["verify", "checkpoints/done"]);
    run.succeeds(&train("name=cut", &[]));
    assert_eq!(end(&run, "cut"), end(&run, "done"));
    run.fails_with(
        2,
        &["runs", "nowhere"],
        str![[r#"
error[run]: there is no such folder
  at nowhere

"#]],
    );
}
