//! Steps that another run has computed are not computed again, and no byte shows it.

use snapbox::str;
use std::path::Path;

use crate::common::{Run, conversations, says, weights_digest, without_progress};
use firebrand::files::hash_file;

/// Trains under a name; `more` are settings. Returns what was said.
fn train(run: &Run, name: &str, reuse: &str, more: &[&str]) -> String {
    let (name, reuse) = (format!("name={name}"), format!("checkpoint.reuse={reuse}"));
    let mut arguments = vec!["train", "tiny.toml", "--set", &name, "--set", &reuse];
    for setting in more {
        match setting.starts_with("--") {
            true => arguments.extend(setting.split(' ')),
            false => arguments.extend(["--set", setting]),
        }
    }
    let output = run.command(&arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Digests of everything that a run's numbers are in.
fn end(run: &Run, name: &str) -> Vec<String> {
    let root = run.path("checkpoints").join(name);
    let newest = firebrand::checkpoint::newest(&root).unwrap().remove(0).1;
    let mut paths = vec![root.join("metrics.jsonl")];
    let names = ["model.safetensors", "optimizer.safetensors", "state.json"];
    paths.extend(names.iter().map(|name| newest.join(name)));
    let digest = |path: &std::path::PathBuf| {
        format!("{} {}", path.file_name().unwrap().display(), hash_file(path, "").unwrap().sha256)
    };
    let weights = format!("artifact {}", weights_digest(&root.join("artifact")));
    paths.iter().map(digest).chain([weights]).collect()
}

/// How many steps were reused, and of how many, as the run said it.
fn reused(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().find(|line| line.starts_with("reused "))?;
    let mut words = line.split(' ').skip(1).step_by(2).map(|word| word.parse().ok());
    Some((words.next()??, words.next()??))
}

/// Runs `name` with and without reuse; both must end the same. Returns what was reused.
fn compare(run: &Run, name: &str, more: &[&str]) -> Option<(u64, u64)> {
    let said = train(run, name, "auto", more);
    let zero = format!("{name}-zero");
    assert_eq!(reused(&train(run, &zero, "never", more)), None);
    assert_eq!(end(run, name), end(run, &zero), "{name}: {said}");
    reused(&said)
}

const CONSTANT: &str = "train.lr_scheduler=constant";

#[test]
fn a_run_with_nothing_changed_computes_nothing_and_a_longer_one_only_what_is_new() {
    let run = Run::new();
    assert_eq!(compare(&run, "first", &[CONSTANT]), None);
    assert_eq!(compare(&run, "same", &[CONSTANT]), Some((6, 6)));
    assert_eq!(compare(&run, "longer", &[CONSTANT, "train.max_steps=9"]), Some((6, 9)));
    assert_eq!(compare(&run, "shorter", &[CONSTANT, "train.max_steps=5"]), Some((4, 5)));
    // What belongs to the end of a run is not there in the middle of a longer one.
    assert_eq!(compare(&run, "four", &[CONSTANT, "train.max_steps=4"]), Some((2, 4)));
    let threads = [CONSTANT, "device.threads=1", "train.max_steps=12"];
    assert_eq!(compare(&run, "threads", &threads), Some((9, 12)));
    // The lineage says where the steps came from.
    let statement = run.provenance("longer").to_string();
    assert!(statement.contains("\"reuse-from\"") && statement.contains("first"), "{statement}");
    run.succeeds(&["verify", "checkpoints/longer"]);
}

#[test]
fn a_sweep_over_the_end_pays_for_the_beginning_once() {
    let run = Run::new();
    let decay = |ratio: &str| {
        let ratio = format!("train.decay_ratio={ratio}");
        compare(
            &run,
            &ratio.replace(['=', '.'], "-"),
            &["train.max_steps=10", "train.lr_scheduler=wsd", &ratio],
        )
    };
    assert_eq!(decay("0.2"), None);
    // The rate begins to fall after step 6, 7 and 8; the first falling step still has the peak.
    assert_eq!(decay("0.4"), Some((6, 10)));
    assert_eq!(decay("0.3"), Some((8, 10)));
    // A cosine falls from its first step on.
    let cosine = ["train.max_steps=10", "train.lr_scheduler=cosine"];
    assert_eq!(compare(&run, "cosine", &cosine), Some((2, 10)), "the warm-up is the same");
}

#[test]
fn an_interrupted_run_whose_folder_is_gone_is_not_lost() {
    let run = Run::new();
    let more = ["train.max_steps=10", "--stop-after-steps 7"];
    train(&run, "nightly", "auto", &more);
    std::fs::remove_dir_all(run.path("checkpoints/nightly")).unwrap();
    assert_eq!(compare(&run, "nightly", &more[..1]), Some((7, 10)));
}

#[test]
fn whatever_decides_the_numbers_keeps_runs_apart() {
    let run = Run::new();
    assert_eq!(compare(&run, "first", &[CONSTANT]), None);
    for (number, change) in [
        "seed=7",
        "train.weight_decay=0.1",
        "train.learning_rate=4e-3",
        "train.micro_batch_size=4",
        "train.loss_chunk_tokens=16",
        "data.packing=false",
        "data.train_on=all",
        "eval.every_steps=2",
        "eval.max_tokens=4",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("other-{number}");
        assert_eq!(compare(&run, &name, &[CONSTANT, change]), None, "{change}");
    }
    // Other data, other base.
    let data = run.read("data.jsonl");
    run.write("data.jsonl", &data.replace("plus", "and"));
    assert_eq!(compare(&run, "data", &[CONSTANT]), None);
    run.write("data.jsonl", &data);
    let config = run.read("base/config.json");
    run.write("base/config.json", &config.replace("10000.0", "5000.0"));
    assert_eq!(compare(&run, "base", &[CONSTANT]), None);
    run.write("base/config.json", &config);
    assert_eq!(compare(&run, "again", &[CONSTANT]), Some((6, 6)));
    // What is evaluated on counts too, since its results are part of the run.
    run.write("validation.jsonl", &data.replace("plus", "and"));
    assert_eq!(compare(&run, "judged", &[CONSTANT]), None);
}

#[test]
fn data_that_grew_at_its_end_costs_only_what_is_new() {
    let run = Run::new();
    let more = [CONSTANT, "data.shuffle=false", "train.max_steps=2"];
    assert_eq!(compare(&run, "monday", &more), None);
    run.write("data.jsonl", &conversations(60));
    // The rows so far are the same; how far into the data they are is not.
    let longer = [CONSTANT, "data.shuffle=false", "train.max_steps=5"];
    assert_eq!(compare(&run, "tuesday", &longer), Some((2, 5)));
    let epochs = |name: &str| {
        let text = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        firebrand::checkpoint::steps_of(text.as_bytes()).unwrap()[0].epoch
    };
    assert!(epochs("tuesday") < epochs("monday"));
}

fn entries(run: &Run) -> Vec<std::path::PathBuf> {
    let folders = |path: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut all: Vec<_> =
        folders(&run.path("cache/steps")).iter().flat_map(|shelf| folders(shelf)).collect();
    all.sort();
    all
}

#[test]
fn damaged_steps_are_not_used_and_those_before_are() {
    let run = Run::new();
    let damages: [fn(&Path); 5] = [
        |path| {
            let path = path.join("model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::remove_file(&path).unwrap(); // its bytes are the first run's too
            std::fs::write(&path, bytes).unwrap();
        },
        |path| std::fs::remove_file(path.join("optimizer.safetensors")).unwrap(),
        |path| std::fs::write(path.join("metrics.jsonl"), "{}\n").unwrap(),
        |path| std::fs::write(path.join("MANIFEST.json"), "").unwrap(),
        |path| std::fs::write(path.join("more"), "").unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        assert_eq!(compare(&run, &format!("first-{number}"), &[CONSTANT]), None);
        let last = entries(&run).pop().unwrap();
        damage(&last);
        assert_eq!(compare(&run, &format!("second-{number}"), &[CONSTANT]), Some((4, 6)));
        let last = entries(&run).pop().unwrap();
        assert!(!last.join("more").exists(), "what is damaged is replaced");
        assert_eq!(compare(&run, &format!("third-{number}"), &[CONSTANT]), Some((6, 6)));
        std::fs::remove_dir_all(run.path("cache/steps")).unwrap();
    }
}

#[test]
fn the_limit_holds_and_the_cache_is_listed_and_emptied() {
    let run = Run::new();
    train(&run, "none", "auto", &["checkpoint.reuse_limit=0"]);
    assert!(entries(&run).is_empty());
    train(&run, "some", "auto", &["checkpoint.reuse_limit=1 MB", "seed=2"]);
    let kept = entries(&run);
    assert_eq!(kept.len(), 2, "each has 430 kB: {kept:?}");
    says(kept[0].file_name().unwrap().to_str().unwrap(), str!["00000004-[SHA256]"]);
    let listed = run.succeeds(&["cache", "list", "--json"]);
    let steps: Vec<&str> = listed.lines().filter(|l| l.contains("\"kind\":\"steps\"")).collect();
    assert_eq!(steps.len(), 2, "{listed}");
    assert!(listed.contains("6 steps of some"), "{listed}");
    run.succeeds(&["cache", "gc", "--all"]);
    assert!(entries(&run).is_empty());
    // The run itself has lost nothing.
    run.succeeds(&["verify", "checkpoints/some"]);
    let shown = run.succeeds(&["runs", "show", "checkpoints/some"]);
    assert!(!shown.contains("DAMAGED"), "{shown}");
}

/// Steps that several programs have computed are nobody's.
#[test]
fn what_another_program_has_begun_is_not_kept() {
    let run = Run::new();
    train(&run, "mixed", "never", &[CONSTANT, "--stop-after-steps 3"]);
    let folder = run.path("checkpoints/mixed/step-00000003");
    let change = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let text = std::fs::read(folder.join(name)).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        change(&mut json);
        std::fs::write(folder.join(name), serde_json::to_vec_pretty(&json).unwrap()).unwrap();
    };
    change("state.json", &|state| state["made_by"] = serde_json::Value::Null);
    let entry = hash_file(&folder.join("state.json"), "state.json").unwrap();
    change("MANIFEST.json", &|manifest| {
        let files = manifest["files"].as_array_mut().unwrap();
        files.retain(|file| file["path"] != "state.json");
        files.push(serde_json::to_value(&entry).unwrap());
    });
    train(&run, "mixed", "auto", &[CONSTANT]);
    assert!(entries(&run).is_empty());
    assert_eq!(compare(&run, "pure", &[CONSTANT]), None);
}

#[test]
fn to_begin_anew_is_to_compute_every_step() {
    let run = Run::new();
    train(&run, "once", "auto", &[]);
    let said = train(&run, "once", "auto", &["--resume never"]);
    assert_eq!(reused(&said), None, "{said}");
    says(
        without_progress(&said),
        str![[r#"
the earlier attempt is archived in checkpoints/once/earlier-1



"#]],
    );
}
