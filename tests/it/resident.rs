//! Several adapters in one process, beside one base in memory: each has the bytes of its lone run.

use std::path::Path;

use crate::common::{Run, assert_same_artifact, says};
use serde_json::Value;
use snapbox::str;

fn ids(run: &Run) -> Vec<String> {
    let manifest: Value = serde_json::from_str(&run.read("sweeps/sweep/manifest.json")).unwrap();
    let points = manifest["points"].as_array().unwrap();
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

fn planned(sweep: &str) -> (Run, Vec<String>) {
    let run = Run::new().with_base();
    run.write("sweep.toml", sweep);
    run.succeeds(&["sweep", "plan", "sweep.toml"]);
    let ids = ids(&run);
    (run, ids)
}

fn assert_same_as_alone(run: &Run, id: &str) {
    let (config, alone) = (format!("sweeps/sweep/points/{id}.toml"), format!("alone/{id}"));
    let dir = format!("output.dir={alone}");
    let settings = ["--set", &dir, "--set", "checkpoint.reuse=never"];
    run.succeeds(&[&["train", &config, "--quiet"][..], &settings].concat());
    let (ours, alone) = (run.path(&format!("sweeps/sweep/runs/{id}")), run.path(&alone));
    let metrics = |root: &Path| std::fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics(&ours), metrics(&alone), "{id}");
    assert_same_artifact(&ours.join("artifact"), &alone.join("artifact"));
}

const ADAPTERS: &str = r#"
configs = ["lora.toml"]
set = { "eval.prompts" = [] }
[[parameter]]
key = "lora.use_dora"
values = [false, true]
[[parameter]]
key = "lora.r"
values = [2, 4]
[[parameter]]
key = "model.weight_format"
values = ["auto", "int8"]
"#;

#[test]
fn adapters_beside_one_base_have_the_bytes_of_their_lone_runs() {
    let (run, ids) = planned(ADAPTERS);
    let resident = ["sweep", "run", "sweeps/sweep", "--resident", "--jobs", "3"];
    run.succeeds(&resident);
    ids.iter().for_each(|id| assert_same_as_alone(&run, id));
    says(
        run.stderr_of(&resident),
        str![[r#"
8 of 8 points are finished, 0 of them now
0 runs have taken the base that another had loaded
compare them: firebrand sweep collect sweeps/sweep

"#]],
    );
}

#[test]
fn tenants_of_a_fleet_have_their_base_in_memory_once() {
    let run = Run::new().with_base();
    std::fs::create_dir(run.path("tenants")).unwrap();
    let all = crate::common::conversations(36);
    let lines: Vec<&str> = all.lines().collect();
    for (number, tenant) in ["acme", "beta", "zeta"].iter().enumerate() {
        let own = lines[number * 12..][..12].join("\n") + "\n";
        run.write(&format!("tenants/{tenant}.jsonl"), &own);
    }
    let fleet =
        "configs = [\"lora.toml\"]\ndatasets = \"tenants\"\nset = { \"eval.prompts\" = [] }\n";
    run.write("sweep.toml", fleet);
    run.succeeds(&["sweep", "plan", "sweep.toml"]);
    let said = run.stderr_of(&["sweep", "run", "sweeps/sweep", "--resident", "--jobs", "3"]);
    // Who is finished first is not decided.
    let last: String = said.lines().skip(3).map(|line| format!("{line}\n")).collect();
    says(
        last,
        str![[r#"
3 of 3 points are finished, 3 of them now
2 runs have taken the base that another had loaded
compare them: firebrand sweep collect sweeps/sweep

"#]],
    );
    ids(&run).iter().for_each(|id| assert_same_as_alone(&run, id));
}

#[test]
fn trackers_of_runs_in_one_process_are_told_of_the_end() {
    let (run, ids) = planned(
        "configs = [\"lora.toml\"]\n\
         set = { \"eval.prompts\" = [], \"output.report_to\" = [\"mlflow\"] }\n\
         [[parameter]]\nkey = \"seed\"\nvalues = [1, 2]\n",
    );
    run.succeeds(&["sweep", "run", "sweeps/sweep", "--resident", "--jobs", "2"]);
    assert_eq!(ids.len(), 2);
    for id in ids {
        let folder = run.path(&format!("sweeps/sweep/runs/{id}/mlruns"));
        let files = crate::common::s3::files_below(&folder);
        let about = files.iter().filter(|path| path.ends_with("meta.yaml"));
        let texts: Vec<String> = about.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        // `RunStatus.FINISHED` of MLflow.
        assert!(texts.iter().any(|text| text.contains("\nstatus: 3\n")), "{texts:?}");
    }
}

#[test]
fn a_point_that_fails_leaves_the_others_alone() {
    let run = Run::new().with_base();
    run.write("bad.jsonl", "{\"messages\": 1}\n");
    run.write(
        "sweep.toml",
        "configs = [\"lora.toml\"]\n[[dataset]]\nname = \"good\"\ntrain = \"data.jsonl\"\n\
         [[dataset]]\nname = \"bad\"\ntrain = \"bad.jsonl\"\n",
    );
    run.succeeds(&["sweep", "plan", "sweep.toml"]);
    let said = run.fails(2, &["sweep", "run", "sweeps/sweep", "--resident"]);
    let ids = regex::Regex::new(r"\b[0-9a-f]{16}\b").unwrap();
    says(
        ids.replace_all(&said, "[ID]").into_owned(),
        str![[r#"
1 of 2  good-[ID]  finished
bad-[ID]  failed: error[data]: the shape of the records is not known: found `messages`, at bad.jsonl:1:1
1 of 2 points are finished, 1 of them now
0 runs have taken the base that another had loaded
error[run]: the point bad-[ID] failed
  because error[data]: the shape of the records is not known: found `messages`, at bad.jsonl:1:1

hint: what is finished stays; the same command tries them again

"#]],
    );
    run.write(
        "sweep.toml",
        "configs = [\"lora.toml\"]\n[[parameter]]\nkey = \"device.threads\"\nvalues = [1, 2]\n",
    );
    run.succeeds(&["sweep", "plan", "sweep.toml"]);
    let error = run.fails(2, &["sweep", "run", "sweeps/sweep", "--resident"]);
    says(
        ids.replace_all(&error, "[ID]").into_owned(),
        str![[r#"
error[usage]: runs of one process have the same `device.threads`
  because it is 1 in sweeps/sweep/points/[ID].toml
  because it is 2 in sweeps/sweep/points/[ID].toml

hint: leave `--resident` out, or set it for all points

"#]],
    );
}
