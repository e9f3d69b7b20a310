//! The same run gives the same artifact, wherever and whenever it is made.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{LORA, Run, assert_same_artifact, files_of};

/// A run of `lora.toml` with the base and the key of another one.
fn like(run: &Run) -> Run {
    let other = Run::new();
    let artifact = "checkpoints/tiny/artifact";
    fs::create_dir_all(other.path(artifact)).unwrap();
    for (name, bytes) in files_of(&run.path(artifact)) {
        fs::write(other.path(artifact).join(name), bytes).unwrap();
    }
    for name in ["release.pem", "release.pub.pem"] {
        fs::copy(run.path(name), other.path(name)).unwrap();
    }
    other
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

const SIGNED: [&str; 2] = ["--set", "output.signing_key=release.pem"];

/// Another folder, another path and other bytes of the configuration, another name, data named by
/// its place, another number of threads, checkpoints at other steps, and a stop in between.
#[test]
fn place_and_time_change_no_byte_of_the_artifact() {
    let one = Run::new();
    one.succeeds(&["keygen", "release.pem"]);
    let one = one.with_base();
    one.succeeds(&[&["train", "lora.toml", "--quiet"], &SIGNED[..]].concat());
    let two = like(&one);
    fs::create_dir(two.path("configs")).unwrap();
    let data = two.path("data.jsonl").display().to_string();
    let text = LORA.replace("\"data.jsonl\"", &format!("\"{data}\""));
    two.write("configs/other.toml", &format!("# the same\n{text}"));
    let out = format!("output.dir={}", two.path("elsewhere").display());
    let more = ["--set", &out, "--set", "checkpoint.every_steps=3", "--set", "device.threads=1"];
    let again = [&["train", "configs/other.toml", "--quiet"], &SIGNED[..], &more].concat();
    two.succeeds(&[&again[..], &["--stop-after-steps", "2"]].concat());
    two.succeeds(&again);
    let artifacts = [one.path("checkpoints/lora/artifact"), two.path("elsewhere/artifact")];
    assert_same_artifact(&artifacts[0], &artifacts[1]);

    // Each says beside it where and when it was made.
    let told = two.succeeds(&["lineage", "elsewhere/artifact", "--json"]);
    for part in ["configs/other.toml", "\"resume-from\"", &data, "output.dir"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["time"][1].is_string(), "{told:#}");
    let inputs = json(&artifacts[1].join("lineage.inputs.json"));
    let told = inputs.to_string();
    for part in ["elsewhere", "other.toml", "threads", &data, "tofu"] {
        assert!(!told.contains(part), "{part}: {told}");
    }
    two.succeeds(&["verify", "elsewhere/artifact", "--key", "release.pub.pem"]);

    // What decides the result is in.
    let seed = ["--set", "seed=7", "--set", "output.dir=seven"];
    two.succeeds(&[&again[..], &seed].concat());
    assert_ne!(json(&two.path("seven/artifact/lineage.inputs.json")), inputs);
}

/// Without a signature the provenance lies beside the artifact, too; beside a signed one only what
/// is signed counts.
#[test]
fn an_unsigned_artifact_has_its_provenance_beside_it() {
    let run = Run::new();
    let train = ["train", "tiny.toml", "--quiet", "--set", "output.sign=false"];
    run.succeeds(&train);
    let path = run.path("checkpoints/tiny/artifact.provenance.json");
    let details = &json(&path)["predicate"]["runDetails"];
    assert!(details["metadata"]["finishedOn"].is_string(), "{details:#}");
    let time = |run: &Run| {
        let told = run.succeeds(&["lineage", "checkpoints/tiny/artifact", "--json"]);
        serde_json::from_str::<Value>(&told).unwrap()["time"][1].is_string()
    };
    assert!(time(&run));
    run.succeeds(&["keygen", "release.pem"]);
    run.succeeds(&["sign", "checkpoints/tiny/artifact", "--key", "release.pem"]);
    assert!(!time(&run), "nobody has signed it");
}
