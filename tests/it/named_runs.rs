//! Runs by their names, in the place of directories and configurations.

use snapbox::str;

use crate::common::{Run, says};
use std::fs;

const TRAIN: [&str; 6] = ["train", "tiny.toml", "--quiet", "--set", "train.max_steps=4", "--set"];

#[test]
fn a_run_goes_on_by_its_name_to_what_it_is_without_a_stop() {
    let run = Run::new();
    run.succeeds(&[&TRAIN[..], &["name=whole"]].concat());
    for (name, call) in
        [("a", ["resume", "a"]), ("b", ["train", "b"]), ("c", ["train", "checkpoints/c"])]
    {
        let named = format!("name={name}");
        run.succeeds(&[&TRAIN[..], &[&named, "--stop-after-steps", "3"]].concat());
        let artifact = format!("checkpoints/{name}/artifact\n");
        assert_eq!(run.succeeds(&[&call[..], &["--quiet"]].concat()), artifact);
        for file in ["artifact/model.safetensors", "metrics.jsonl"] {
            let bytes =
                |name: &str| fs::read(run.path(&format!("checkpoints/{name}/{file}"))).unwrap();
            assert!(bytes(name) == bytes("whole"), "{file} of {name}");
        }
    }
    assert_eq!(
        run.succeeds(&["train", "a", "--quiet"]),
        "checkpoints/a/artifact\n",
        "it is finished"
    );
    let told = ["a", "b", "whol", "nowhere"].map(|name| run.fails(2, &["resume", name]));
    says(
        told.concat(),
        str![[r#"
error[run]: this run is finished: there is nothing to go on with
  at checkpoints/a

hint: `firebrand train checkpoints/a --resume never` restarts it
error[run]: this run is finished: there is nothing to go on with
  at checkpoints/b

hint: `firebrand train checkpoints/b --resume never` restarts it
error[run]: there is no run `whol`

hint: did you mean `whole`?
error[run]: there is no run `nowhere`

hint: `firebrand runs DIR` lists the runs below a folder

"#]],
    );
    let shown = run.succeeds(&["runs", "show", "a"]);
    assert_eq!(shown, run.succeeds(&["runs", "show", "checkpoints/a"]));
}

#[test]
fn a_name_that_means_several_things_is_refused() {
    let run = Run::new();
    run.succeeds(&[&TRAIN[..], &["name=a", "--stop-after-steps", "2"]].concat());
    run.write("a", &run.read("tiny.toml"));
    let file = run.fails(2, &["train", "a"]);
    fs::remove_file(run.path("a")).unwrap();
    let more = ["name=a", "--set", "output.dir=checkpoints/more/a", "--stop-after-steps", "2"];
    run.succeeds(&[&TRAIN[..], &more].concat());
    let two = run.fails(2, &["resume", "a"]);
    fs::rename(run.path("checkpoints/more/a"), run.path("moved")).unwrap();
    let moved = run.fails(2, &["resume", "moved"]);
    says(
        [file, two, moved].concat(),
        str![[r#"
error[usage]: `a` is the name of a file and a run

hint: name one by its path: `./a`, `checkpoints/a`
error[usage]: `a` is the name of several runs

hint: name one by its path: `checkpoints/a`, `checkpoints/more/a`
error[run]: this run is not where its settings say
  at moved
  because `output.dir` is `checkpoints/more/a`

hint: go on with it here: `--set output.dir=moved`

"#]],
    );
    run.succeeds(&["resume", "moved", "--quiet", "--set", "output.dir=moved"]);
    assert!(run.path("moved/artifact").is_dir());
    run.succeeds(&["resume", "a", "--quiet"]);
}
