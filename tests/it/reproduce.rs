//! An artifact is made again from its lineage: to the same bytes, here and elsewhere, whole and in
//! parts, and those who did so are counted.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::common::{Run, files_of, says};

/// A run of `lora.toml` that has kept all its checkpoints, and an auditor whose key is trusted.
fn audited() -> Run {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "checkpoint.keep_last=9"]);
    run.succeeds(&["keygen", "auditor.pem"]);
    fs::create_dir_all(run.path("settings/firebrand/trusted-keys")).unwrap();
    trust(&run, "auditor");
    run
}

fn trust(run: &Run, name: &str) {
    let to = run.path(&format!("settings/firebrand/trusted-keys/{name}.pem"));
    fs::copy(run.path(&format!("{name}.pub.pem")), to).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

const AGAIN: [&str; 3] = ["reproduce", "checkpoints/lora", "--key"];

#[test]
fn others_who_get_the_same_bytes_are_counted() {
    let run = audited();
    let demanded = |count: u32| {
        let arguments = ["verify", "checkpoints/lora", "--reproduced-by"];
        let output = run.command(&arguments).arg(count.to_string()).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let line = told.lines().find(|line| line.contains("reproduced")).unwrap().to_owned();
        (line + "\n", output.status.code())
    };
    let failed = |count: u32| {
        let (line, code) = demanded(count);
        assert_eq!(code, Some(1), "{line}");
        line
    };
    let holds = |count: u32| {
        let (line, code) = demanded(count);
        assert_eq!(code, Some(0), "{line}");
        line
    };
    let mut said = failed(1);
    // Whoever signed it first proves nothing by doing so again.
    run.succeeds(&["reproduce", "checkpoints/lora", "--json"]);
    said += &failed(1);
    // Nor does a key that is trusted, and not named for this.
    said += &run.succeeds(&[&AGAIN[..], &["auditor.pem"]].concat());
    said += &failed(1);
    let named = |names: &[(&str, &str)]| {
        let entry = |(name, role): &(&str, &str)| {
            format!("[[key]]\nfile = \"trusted-keys/{name}.pem\"\nroles = [\"{role}\"]\n")
        };
        let entries: String = names.iter().map(entry).collect();
        run.write("settings/firebrand/trusted-keys.toml", &entries);
    };
    named(&[("auditor", "reproduce")]);
    said += &holds(1);
    // The same auditor twice is one; another who is not trusted with this is none.
    run.succeeds(&[&AGAIN[..], &["auditor.pem", "--json"]].concat());
    run.succeeds(&["keygen", "other.pem"]);
    trust(&run, "other");
    named(&[("auditor", "reproduce"), ("other", "gate")]);
    run.succeeds(&[&AGAIN[..], &["other.pem", "--json"]].concat());
    said += &failed(2);
    named(&[("auditor", "reproduce"), ("other", "reproduce")]);
    said += &holds(2);
    says(
        said,
        str![[r#"
FAIL  reproduced         0 of 1 others got the same bytes
FAIL  reproduced         0 of 1 others got the same bytes; not counted: line 2: the key [HEX] has signed the model itself
the same bytes: 28 tensors
FAIL  reproduced         0 of 1 others got the same bytes; not counted: line 2: the key [HEX] has signed the model itself; line 3: the key [HEX] has no list of `roles`, and `reproduce` must be named in one
ok    reproduced         same bytes by key [HEX]
FAIL  reproduced         1 of 2 others got the same bytes: key [HEX]; not counted: line 2: the key [HEX] has signed the model itself; line 5: the key [HEX] has the role `gate`, and `reproduce` is needed
ok    reproduced         same bytes by key [HEX], key [HEX]

"#]],
    );
}

/// The artifact alone, with the attestations beside it, on a machine where base and data lie
/// elsewhere; and what is said where they cannot be had.
#[test]
fn base_and_data_are_found_by_their_digests() {
    let run = audited();
    let other = Run::new();
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(other.path(to)).unwrap();
        for (name, bytes) in files_of(&run.path(from)) {
            fs::write(other.path(to).join(name), bytes).unwrap();
        }
    };
    copy("checkpoints/lora/artifact", "got/artifact");
    let line = run.read("checkpoints/lora/artifact.sigstore.jsonl");
    other.write("got/artifact.sigstore.jsonl", &line);
    copy("checkpoints/tiny/artifact", "models/base");
    fs::create_dir(other.path("sets")).unwrap();
    for name in ["data.jsonl", "validation.jsonl"] {
        fs::rename(other.path(name), other.path("sets").join(name)).unwrap();
    }
    let again = ["reproduce", "got/artifact", "--json", "--no-sign"];
    let mut said = other.fails(2, &again);
    let based = [&again[..], &["--base", "models/base"]].concat();
    said += &other.fails(2, &based);
    let whole = [&based[..], &["--data", "sets"]].concat();
    let found = json(&other.succeeds(&whole));
    assert_eq!(found["outcome"], "same-bytes", "{found:#}");
    assert_eq!(found["tensors_different"], 0);
    // Other bytes under the same name are not taken.
    other.write("sets/data.jsonl", &run.read("data.jsonl").replace("plus", "and"));
    said += &other.fails(2, &whole);
    other.write("sets/data.jsonl", &run.read("data.jsonl"));
    let config = other.read("models/base/config.json");
    other.write("models/base/config.json", &config.replace("10000.0", "10001.0"));
    said += &other.fails(2, &whole);
    says(
        said,
        str![[r#"
error[lineage]: the base model `checkpoints/tiny/artifact` cannot be found
  because nothing with the files of its lineage lies where it lay

hint: name its folder: `--base DIR`
error[lineage]: a file of the lineage cannot be found: `data.jsonl`
  because nothing with the SHA-256 [SHA256] lies where it lay

hint: name it, or the folder that it lies in: `--data PATH`
error[lineage]: a file of the lineage cannot be found: `data.jsonl`
  because nothing with the SHA-256 [SHA256] lies where it lay

hint: name it, or the folder that it lies in: `--data PATH`
error[lineage]: the base model `checkpoints/tiny/artifact` cannot be found
  because `config.json` of `models/base` is not [SHA256]

hint: name its folder: `--base DIR`

"#]],
    );
}

/// Minutes in place of days: the steps between two checkpoints.
#[test]
fn a_stretch_of_steps_is_made_again() {
    let run = audited();
    let again = |steps: &str, code: i32| {
        let arguments = ["reproduce", "checkpoints/lora", "--json", "--no-sign", "--steps", steps];
        let output = run.command(&arguments).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}{errors}");
        (told, errors)
    };
    for steps in ["0..2", "2..4", "2..5"] {
        let found = json(&again(steps, 0).0);
        assert_eq!(found["outcome"], "same-bytes", "{steps}: {found:#}");
        assert!(found["notes"].as_array().unwrap().is_empty(), "{found:#}");
    }
    // A checkpoint that is whole and not the one of the provenance.
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "name=other", "--set", "seed=7"]);
    let step = |name: &str| run.path(&format!("checkpoints/{name}/step-00000004"));
    fs::remove_dir_all(step("lora")).unwrap();
    fs::rename(step("other"), step("lora")).unwrap();
    let mut said = again("2..4", 1).1;
    // Where nothing attests it, the numbers themselves tell.
    fs::remove_file(run.path("checkpoints/lora/artifact.sigstore.jsonl")).unwrap();
    let found = json(&again("2..4", 1).0);
    assert_eq!(found["outcome"], "different");
    assert_eq!(found["notes"][0], "nothing attests the checkpoint of step 4");
    // And the metrics say from which step on.
    let metrics = run.read("checkpoints/lora/metrics.jsonl");
    let changed: Vec<String> = metrics
        .lines()
        .map(|line| match line.contains("\"step\":4,") {
            true => line.replace("\"grad_norm\":", "\"grad_norm\":1") + "\n",
            false => line.to_owned() + "\n",
        })
        .collect();
    run.write("checkpoints/lora/metrics.jsonl", &changed.concat());
    assert_eq!(json(&again("2..4", 1).0)["first_differing_step"], 4);
    said += &again("1..4", 2).1;
    said += &again("4..4", 2).1;
    says(
        said,
        str![[r#"
error[checkpoint]: the checkpoint is not that of the run
  at checkpoints/lora/step-00000004
  because the provenance has the manifest [SHA256]
error[checkpoint]: there is no checkpoint of step 1
  at checkpoints/lora/step-00000001
  because a stretch of steps lies between two checkpoints of the run, or its begin

hint: name steps that the run has kept (`checkpoint.keep_every`)
error: invalid value '4..4' for '--steps <A..B>': the second step must come after the first

For more information, try '--help'.

"#]],
    );
}

#[test]
fn what_was_not_trained_is_not_made_again() {
    let run = audited();
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    let mut said = run.fails(2, &["reproduce", "merged"]);
    said += &run.fails(2, &["reproduce", "base"]);
    says(
        said,
        str![[r#"
error[lineage]: only what was trained can be made again from its lineage
  at merged
  because its method is `merge`

hint: reproduce the adapter or model that it was made of, then make it of that
error[lineage]: there is no lineage: `lineage.inputs.json` is not here
  at base

hint: name the artifact of a run; only its lineage says how it was made

"#]],
    );
}
