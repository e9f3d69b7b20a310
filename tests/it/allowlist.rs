//! Whole commands about inputs that someone must have approved or signed.

use snapbox::str;
use std::fs;

use crate::common::{Run, says};
use serde_json::Value;

/// A run's folder with a signed list of its data and its base model.
fn approved() -> Run {
    let run = Run::new();
    let inputs = ["base", "data.jsonl", "validation.jsonl"];
    run.succeeds(
        &[&["allowlist", "approve", "allowlist.toml", "--name", "acme"], &inputs[..]].concat(),
    );
    run
}

const TRAIN: [&str; 4] = ["train", "tiny.toml", "--set", "trust.allowlist=allowlist.toml"];

/// The dependencies of a role in the lineage of the run `tiny`.
fn dependencies(run: &Run, role: &str) -> Vec<Value> {
    let statement = run.provenance("tiny");
    let build = &statement["predicate"]["buildDefinition"];
    let all = build["resolvedDependencies"].as_array().unwrap();
    all.iter().filter(|entry| entry["annotations"]["role"] == role).cloned().collect()
}

#[test]
fn approved_inputs_are_used_and_the_lineage_names_who_approved_them() {
    let run = approved();
    run.succeeds(&TRAIN);
    for role in ["base-model", "dataset"] {
        let found = dependencies(&run, role);
        assert!(!found.is_empty());
        assert!(found.iter().all(|entry| entry["annotations"]["trust"] == "allowlist"), "{role}");
    }
    let [allowlist] = dependencies(&run, "allowlist").try_into().unwrap();
    assert_eq!(allowlist["annotations"]["serial"], "1");
    assert_eq!(allowlist["annotations"]["name"], "acme");
    let digest = firebrand::files::Digest::of(run.read("allowlist.toml").as_bytes()).to_string();
    assert_eq!(allowlist["digest"]["sha256"], digest);
    run.succeeds(&["verify", "checkpoints/tiny"]);

    let shown = run.succeeds(&["allowlist", "show", "allowlist.toml"]);
    says(
        &shown,
        str![[r#"
acme, serial number 1, counts until [LATER], signed by key [HEX]
model base: 4 files, 7.2 kB
dataset data.jsonl: 1 files, 2.7 kB
dataset validation.jsonl: 1 files, 782 B

"#]],
    );
    let json: Value =
        serde_json::from_str(&run.succeeds(&["allowlist", "show", "allowlist.toml", "--json"]))
            .unwrap();
    assert_eq!(json["allowlist"]["artifact"].as_array().unwrap().len(), 3);
}

#[test]
fn without_a_allowlist_inputs_are_recorded_as_used_on_trust() {
    let run = Run::new();
    run.succeeds(&["pull", "tiny.toml"]);
    assert!(run.read("tiny.lock").contains("trust = \"tofu\""), "{}", run.read("tiny.lock"));
    run.succeeds(&["train", "tiny.toml"]);
    assert!(dependencies(&run, "dataset").iter().all(|e| e["annotations"]["trust"] == "tofu"));
    assert!(dependencies(&run, "allowlist").is_empty());
}

#[test]
fn what_nobody_approved_is_refused_before_a_step() {
    let run = approved();
    let data = run.read("data.jsonl");
    run.write("data.jsonl", &data.replace("plus", "minus"));
    run.fails_with(
        1,
        &TRAIN,
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
error[untrusted]: no trusted allowlist has `data.jsonl`
  because allowlist.toml lists no dataset file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

"#]],
    );
    run.write("data.jsonl", &data);
    let config = run.read("base/config.json");
    run.write("base/config.json", &config.replace("10000.0", "500.0"));
    run.fails_with(
        1,
        &TRAIN,
        str![[r#"
error[untrusted]: no trusted allowlist has `config.json` of `base`
  because allowlist.toml lists no model file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

"#]],
    );
    assert!(!run.path("checkpoints/tiny/metrics.jsonl").exists());
    run.write("base/config.json", &config);
    run.succeeds(&TRAIN);
}

#[test]
fn the_weights_of_a_base_model_are_among_what_must_be_approved() {
    let run = Run::new().with_base();
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "checkpoints/tiny/artifact"]);
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "data.jsonl", "validation.jsonl"]);
    let train = ["train", "lora.toml", "--set", "trust.allowlist=allowlist.toml"];
    let weights = run.path("checkpoints/tiny/artifact/model.safetensors");
    let before = fs::read(&weights).unwrap();
    let mut other = before.clone();
    *other.last_mut().unwrap() ^= 1;
    // A base that was changed after it was signed is refused anyway, so the signature goes.
    let signature = run.path("checkpoints/tiny/artifact/model.sig");
    let signed = fs::read(&signature).unwrap();
    fs::remove_file(&signature).unwrap();
    fs::write(&weights, other).unwrap();
    run.fails_with(
        1,
        &train,
        str![[r#"
chat template: checkpoints/tiny/artifact/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  checkpoints/tiny (llama, 0.03 M parameters)
      method  LoRA r 4 on all linear layers
   trainable  0.00 M of 0.04 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  5 of 2 rows of at most 96 tokens
      memory  about [..] MB: weights 86.3 kB, optimizer [..]
error[untrusted]: no trusted allowlist has `model.safetensors` of `checkpoints/tiny/artifact`
  because allowlist.toml lists no model file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

"#]],
    );
    fs::write(&weights, before).unwrap();
    fs::write(&signature, signed).unwrap();
    run.succeeds(&train);
}

#[test]
fn a_streamed_file_that_nobody_approved_ends_the_run_when_its_rows_come() {
    let run = Run::new();
    fs::create_dir(run.path("set")).unwrap();
    let data = run.read("data.jsonl");
    run.write("set/train-0.jsonl", &data);
    run.write("set/train-1.jsonl", &data.replace("plus", "times"));
    let set = "data.train=[{path=\"set\",files=[\"*.jsonl\"]}]";
    let train = [
        &TRAIN[..],
        &["--set", set, "--set", "data.survey_below=0", "--set", "data.shuffle=false"],
        &["--set", "data.window_rows=4", "--set", "checkpoint.every_steps=1"],
    ]
    .concat();
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "base", "set", "validation.jsonl"]);
    run.write("set/train-1.jsonl", &data.replace("plus", "minus"));
    let long = [&train[..], &["--set", "train.max_steps=40"]].concat();
    // Nor do its rows get into a job for another trainer.
    let job = [&["export-job", "tiny.toml", "--to", "trl", "--out", "job"], &long[2..]].concat();
    let error = run.fails(1, &job);
    let what = "error[untrusted]: no trusted allowlist has `set/train-1.jsonl`";
    assert!(error.contains(what), "{error}");
    assert!(!run.path("job").exists());
    run.fails_with(
        1,
        &long,
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
streaming 2 files of 5.4 kB: training starts with the first, and its number of epochs is not known before
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  5.4 kB in 2 files, read while it is trained on; 6 examples for validation
       steps  40 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
validation after step 0: loss [NUMBER], perplexity [NUMBER], measured on 78 tokens
set (chosen files): 2 files (`files` names them), 20 records in the first of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
step 1/40  loss [NUMBER]  [SPEED]  norm [N]  lr 2.50e-3  [SIZE]  [TIME] left
saved step 1 in [TIME]: checkpoints/tiny/step-00000001
saved step 2 in [TIME]: checkpoints/tiny/step-00000002
saved step 3 in [TIME]: checkpoints/tiny/step-00000003
set (chosen files): 2 files (`files` names them), 20 records in the first of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
saved step 4 in [TIME]: checkpoints/tiny/step-00000004
error[untrusted]: no trusted allowlist has `set/train-1.jsonl`
  because allowlist.toml lists no dataset file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

hint: step 4 is saved; the same command continues from there

"#]],
    );
    let steps = run.read("checkpoints/tiny/metrics.jsonl").matches("grad_norm").count();
    assert!(steps > 0 && steps < 40, "{steps} steps");
    let runs = run.succeeds(&["runs", "show", "checkpoints/tiny"]);
    assert!(runs.contains("no trusted allowlist has"), "{runs}");
    // Approved, the same run goes on.
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "set"]);
    run.succeeds(&long);
}

#[test]
fn trust_on_first_use_takes_what_a_lock_pins_and_says_so() {
    let run = Run::new();
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "base", "validation.jsonl"]);
    let tofu = [&TRAIN[..], &["--set", "trust.tofu=true"]].concat();
    run.fails_with(
        1,
        &tofu,
        str![[r#"
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
error[untrusted]: no trusted allowlist has `data.jsonl`
  because allowlist.toml lists no dataset file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

"#]],
    );
    run.succeeds(&["pull", "tiny.toml"]);
    run.fails(1, &TRAIN);
    run.succeeds(&tofu);
    let trust = |name: &str| {
        let found = dependencies(&run, "dataset");
        let entry = found.iter().find(|entry| entry["name"] == name).unwrap();
        entry["annotations"]["trust"].as_str().unwrap().to_owned()
    };
    assert_eq!(trust("data.jsonl"), "tofu");
    assert_eq!(trust("validation.jsonl"), "allowlist");

    run.fails_with(
        2,
        &["plan", "tiny.toml", "--set", "trust.tofu=true"],
        str![[r#"
error[untrusted]: `trust.tofu` requires `trust.allowlist`

hint: name the allowlist, or leave it out

"#]],
    );
}

#[test]
fn old_foreign_and_changed_registries_are_refused() {
    let run = approved();
    run.succeeds(&TRAIN);
    let files = ["allowlist.toml", "allowlist.toml.sigstore.json"];
    let old = files.map(|name| run.read(name));
    run.succeeds(&["allowlist", "withdraw", "allowlist.toml", "data.jsonl"]);
    let again = [&TRAIN[..], &["--resume", "never"]].concat();
    run.fails_with(
        1,
        &again,
        str![[r#"
the earlier attempt is archived in checkpoints/tiny/earlier-1
chat template: base/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
error[untrusted]: no trusted allowlist has `data.jsonl`
  because allowlist.toml lists no dataset file with the digest [SHA256]

hint: someone with an approval key runs: `firebrand allowlist approve allowlist.toml …`

"#]],
    );
    for (name, text) in files.iter().zip(&old) {
        run.write(name, text);
    }
    run.fails_with(1, &again, str![[r#"
error[untrusted]: `registry acme` has the serial number 1, but 2 was seen before
  at allowlist.toml
  because an older copy was put in the place of the newer one

hint: get the newest copy; the serial numbers that were seen are in [FOLDER]/settings/firebrand/seen-serials.json

"#]]);

    run.write(files[0], &old[0].replace("serial = 1", "serial = 9"));
    run.fails_with(
        1,
        &again,
        str![[r#"
error[file-changed]: the allowlist was changed after it was signed
  at allowlist.toml.sigstore.json

"#]],
    );
    run.fails(1, &["allowlist", "approve", "allowlist.toml", "base"]); // and is not signed again
    fs::remove_file(run.path(files[1])).unwrap();
    run.fails_with(
        1,
        &again,
        str![[r#"
error[signature]: the allowlist is not signed
  at allowlist.toml
  because there is no allowlist.toml.sigstore.json

hint: `firebrand allowlist` signs what it writes

"#]],
    );

    // Another's key: trusted only where it is named.
    for name in files {
        let _ = fs::remove_file(run.path(name));
    }
    run.succeeds(&["keygen", "other.pem"]);
    let inputs = ["base", "data.jsonl", "validation.jsonl", "--key", "other.pem"];
    run.succeeds(&[&["allowlist", "approve", "allowlist.toml"], &inputs[..]].concat());
    run.fails_with(
        1,
        &again,
        str![[r#"
error[untrusted]: the allowlist is signed by a key that is not trusted for it
  at allowlist.toml.sigstore.json
  because the key [SHA256] is not among the keys that you trust (1)

hint: if you know whose key it is, name its public key in `trust.allowlist_keys`

"#]],
    );
    let named = [&again[..], &["--set", "trust.allowlist_keys=[\"other.pub.pem\"]"]].concat();
    run.succeeds(&named);
}

#[test]
fn a_key_without_the_role_vouches_for_no_inputs() {
    let run = approved();
    run.write(
        "settings/firebrand/trusted-keys.toml",
        "[[key]]\nfile = \"signing.pub.pem\"\nroles = [\"train\"]\n",
    );
    run.fails_with(1, &TRAIN, str![[r#"
error[untrusted]: the allowlist is signed by a key that is not trusted for it
  at allowlist.toml.sigstore.json
  because the key [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem) has the role `train`, and `allowlist` is needed

hint: if you know whose key it is, name its public key in `trust.allowlist_keys`

"#]]);
    run.write(
        "settings/firebrand/trusted-keys.toml",
        "[[key]]\nfile = \"signing.pub.pem\"\nroles = [\"train\", \"allowlist\"]\n",
    );
    run.succeeds(&TRAIN);
}

#[test]
fn a_base_model_must_be_signed_by_a_key_that_is_named() {
    let run = Run::new().with_base();
    run.succeeds(&["keygen", "acme.pem"]);
    run.succeeds(&["keygen", "other.pem"]);
    let keys = |name: &str| format!("model.trusted_keys=[\"{name}\"]");
    let (wanted, others) = (keys("acme.pub.pem"), keys("other.pub.pem"));
    let train = ["train", "lora.toml", "--set", &wanted];
    let artifact = "checkpoints/tiny/artifact";
    run.fails_with(
        1,
        &train,
        str![[r#"
error[signature]: the model is signed by a key that is not trusted with it
  at checkpoints/tiny/artifact/model.sig
  because the key [SHA256] is not among the keys that you trust (1)

hint: `model.trusted_keys` asks for a signature

"#]],
    );
    run.succeeds(&["sign", artifact, "--force", "--key", "acme.pem"]);
    run.fails(1, &["train", "lora.toml", "--set", &others]);

    // A file that the signature does not cover.
    run.write(&format!("{artifact}/special_tokens_map.json"), "{}");
    run.fails_with(
        1,
        &train,
        str![[r#"
error[untrusted]: `special_tokens_map.json` of the base model is not among the signed files
  at checkpoints/tiny/artifact

"#]],
    );
    fs::remove_file(run.path(&format!("{artifact}/special_tokens_map.json"))).unwrap();

    run.succeeds(&train);
    let text = run.provenance("lora").to_string();
    assert!(text.contains("\"trust\":\"signature\""), "{text}");

    fs::remove_file(run.path(&format!("{artifact}/model.sig"))).unwrap();
    let again = [&train[..], &["--resume", "never"]].concat();
    run.fails_with(
        1,
        &again,
        str![[r#"
the earlier attempt is archived in checkpoints/lora/earlier-1
error[signature]: the model is not signed
  at checkpoints/tiny/artifact
  because there is no `model.sig`

hint: `model.trusted_keys` asks for a signature

"#]],
    );
}

/// Up to the version before, the list was called a registry, as the folder of channels is.
#[test]
fn the_earlier_name_tells_the_one_of_today() {
    let run = approved();
    run.fails_with(
        2,
        &["registry", "approve", "allowlist.toml", "base"],
        str![[r#"
error[usage]: `firebrand registry` is called `firebrand allowlist` now

hint: a registry is where `promote` keeps channels and models

"#]],
    );
    run.fails_with(
        2,
        &["registry", "--help"],
        str![[r#"
error[usage]: `firebrand registry` is called `firebrand allowlist` now

hint: a registry is where `promote` keeps channels and models

"#]],
    );
    for (key, said) in [
        (
            "registry=\"allowlist.toml\"",
            str![[r#"
error[config]: unknown key `registry` in `[trust]`
  at --set trust.registry

hint: `registry` is earlier versions' and has no key here: it is called `trust.allowlist` now

"#]],
        ),
        (
            "registry_keys=[\"a.pem\"]",
            str![[r#"
error[config]: unknown key `registry_keys` in `[trust]`
  at --set trust.registry_keys

hint: `registry_keys` is earlier versions' and has no key here: it is called `trust.allowlist_keys` now

"#]],
        ),
    ] {
        run.fails_with(2, &["train", "tiny.toml", "--set", &format!("trust.{key}")], said);
    }
    let keys = "[[key]]\nfile = \"signing.pub.pem\"\nroles = [\"registry\"]\n";
    run.write("settings/firebrand/trusted-keys.toml", keys);
    run.fails_with(
        2,
        &TRAIN,
        str![[r#"
error[config]: `key.0.roles.0` must be one of `train`, `gate`, `promote`, `allowlist`, `reproduce`, not `"registry"`
  at [FOLDER]/settings/firebrand/trusted-keys.toml:3:10

"#]],
    );
}
