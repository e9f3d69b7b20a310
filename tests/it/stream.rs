//! From a hub to rows: pull, lock, stream and go on, as whole commands against a hub with faults.

use crate::common::{hub, says};
use snapbox::str;

use std::path::{Path, PathBuf};

use crate::common::{Run, conversations, wait};
use firebrand::files::hash_file;
use hub::{Fault, Hub, Kind};

/// Sixty conversations in three files, in windows of seven.
const STREAM: &str = r#"
[model]
base = "checkpoints/tiny"
[data]
max_seq_len = 96
window_rows = 7
survey_below = 0
[[data.train]]
path = "o/d"
[[data.validation]]
path = "o/d"
[lora]
r = 2
[train]
max_steps = 40
micro_batch_size = 2
learning_rate = 1e-2
[checkpoint]
every_steps = 10
reuse = "never"
[device]
name = "cpu"
"#;

/// A run folder, a hub with the data set `o/d`, and the commit that it has.
struct Scene {
    run: Run,
    hub: Hub,
    commit: String,
}

/// Files of `o/d`: `lines` conversations in three files, and ten others to validate on.
fn files(lines: usize) -> Vec<(String, Vec<u8>)> {
    let all = conversations(lines + 10);
    let all: Vec<&str> = all.split_inclusive('\n').collect();
    let part = |number: usize| all[number * lines / 3..(number + 1) * lines / 3].concat();
    let mut files: Vec<(String, Vec<u8>)> = (0..3)
        .map(|number| {
            (format!("data/train-0000{number}-of-00003.jsonl"), part(number).into_bytes())
        })
        .collect();
    let validation = all[lines..].concat().into_bytes();
    files.push(("data/validation-00000-of-00001.jsonl".to_owned(), validation));
    files
}

fn add(hub: &Hub, repo: &str, branch: &str, files: &[(String, Vec<u8>)]) -> String {
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    hub.add(repo, branch, &files)
}

impl Scene {
    fn new() -> Self {
        let run = Run::new().with_base();
        run.write("stream.toml", STREAM);
        let hub = Hub::start();
        let commit = add(&hub, "datasets/o/d", "main", &files(60));
        Self { run, hub, commit }
    }

    /// The program with this hub, and caches of its own under the name `machine`.
    fn command(&self, machine: &str, arguments: &[&str]) -> snapbox::cmd::Command {
        self.run
            .command(arguments)
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("HF_HOME", self.run.path(machine).join("hf"))
            .env("FIREBRAND_CACHE", self.run.path(machine).join("firebrand"))
            .env("FIREBRAND_HUB_TIME_SCALE", "0.01")
    }

    /// Exit code, stdout, stderr.
    fn output(&self, machine: &str, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(machine, arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn succeeds(&self, machine: &str, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.output(machine, arguments);
        assert_eq!(code, 0, "{arguments:?}:\n{stderr}");
        stdout
    }

    fn fails(&self, machine: &str, expected: i32, arguments: &[&str]) -> String {
        let (code, _, stderr) = self.output(machine, arguments);
        assert_eq!(code, expected, "{arguments:?}:\n{stderr}");
        stderr
    }

    /// The digest of the rows of the whole run.
    fn digest(&self, machine: &str, more: &[&str]) -> String {
        let arguments = ["data", "stream.toml", "--digest", "--rows", "0"];
        self.succeeds(machine, &[&arguments, more].concat())
    }

    fn train(&self, name: &str, more: &[&str]) -> (i32, String, String) {
        let name = format!("name={name}");
        let arguments = ["train", "stream.toml", "--quiet", "--set", &name];
        self.output("here", &[&arguments, more].concat())
    }

    /// All that must be equal at the end of a run.
    fn end(&self, name: &str) -> Vec<String> {
        let root = self.run.path("checkpoints").join(name);
        ["metrics.jsonl", "step-00000040/adapter.safetensors", "step-00000040/state.json"]
            .map(|file| hash_file(&root.join(file), file).unwrap().sha256.to_string())
            .into()
    }
}

fn blobs(home: &Path) -> Vec<PathBuf> {
    let folder = home.join("hf/hub/datasets--o--d/blobs");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_lock_gives_every_machine_the_same_rows_whatever_else_differs() {
    let scene = Scene::new();
    let unlocked = scene.digest("here", &[]);
    let said = scene.succeeds("here", &["pull", "stream.toml"]);
    says(
        &said,
        str![[r#"
+ o/d (train): 3 files, 8.1 kB, 60 rows
+ o/d (validation): 1 files, 1.3 kB, 10 rows

"#]],
    );
    let lock = scene.run.read("stream.lock");
    assert!(lock.contains(&scene.commit) && lock.contains("rows = 20, sha256 = "), "{lock}");
    let expected = scene.digest("there", &["--locked"]);
    assert_eq!(unlocked, expected);

    // Everything is here: nobody is asked any more.
    scene.hub.clear_log();
    assert_eq!(scene.digest("there", &["--locked"]), expected);
    assert_eq!(scene.digest("there", &["--offline"]), expected);
    assert!(scene.hub.log().is_empty(), "{:?}", scene.hub.log());

    for more in [
        &["--set", "data.prefetch_windows=0"][..],
        &["--set", "data.prefetch_windows=7"],
        &["--set", "device.threads=1"],
        &["--set", "device.threads=5"],
        &["--set", "data.cache_limit=0"],
    ] {
        assert_eq!(scene.digest("there", more), expected, "{more:?}");
        assert_eq!(scene.digest(&format!("cold-{}", more[1]), more), expected, "{more:?}, cold");
    }
    let again = scene.succeeds("here", &["pull", "stream.toml"]);
    assert_eq!((again.as_str(), scene.run.read("stream.lock")), ("", lock));
}

#[test]
fn what_differs_from_the_lock_is_refused() {
    let scene = Scene::new();
    let locked = ["train", "stream.toml", "--locked"];
    let said = scene.fails("here", 1, &locked);
    says(
        &said,
        str![[r#"
error[lock]: there is no lock
  at stream.lock

hint: `firebrand pull stream.toml` writes it

"#]],
    );
    scene.succeeds("here", &["pull", "stream.toml", "--quiet"]);

    // Another split is not in the lock, nor another revision.
    for (change, expected) in [
        (
            "data.train.0.split=dev",
            str![[r#"
error[lock-drift]: `o/d` is not in the lock as the configuration asks for it

hint: `firebrand pull` with the configuration writes it there

"#]],
        ),
        (
            "data.train.0.revision=v2",
            str![[r#"
error[lock-drift]: `o/d` is not in the lock as the configuration asks for it

hint: `firebrand pull` with the configuration writes it there

"#]],
        ),
    ] {
        says(scene.fails("here", 1, &[&locked[..], &["--set", change]].concat()), expected);
    }
    // A hub that serves other bytes under the locked commit is not believed.
    let (path, bytes) = &files(60)[1];
    let other = String::from_utf8(bytes.clone()).unwrap().replace("plus", "less");
    scene.hub.replace("datasets/o/d", &scene.commit, path, other.as_bytes());
    let said = scene.fails("cold", 2, &["pull", "stream.toml", "--locked"]);
    // The other files come in any order.
    let said = said
        .lines()
        .filter(|line| !line.trim_start().starts_with("fetched "))
        .map(|line| format!("{line}\n"));
    says(
        said.collect::<String>(),
        str![[r#"
         hub  `data/train-00001-of-00003.jsonl` came damaged and is fetched again: its digest is not that in the hub's list
error[hub]: `data/train-00001-of-00003.jsonl` of the data set `o/d` arrives damaged
  because the hub's list says SHA-256 [SHA256]; http://127.0.0.1:[PORT]/datasets/o/d/resolve/[COMMIT]/data/train-00001-of-00003.jsonl twice sent other bytes, the last time with SHA-256 [SHA256]

hint: nothing was stored. Try again later; if it stays, tell the operators of the hub

"#]],
    );

    // Files on this machine are locked by their content.
    let local = |more: &[&str]| {
        let all = [&["pull", "stream.toml"], more].concat();
        let set = ["--set", "data.train.0.path=data.jsonl", "--set", "data.validation=[]"];
        scene.output("here", &[&all[..], &set].concat())
    };
    assert_eq!(local(&["--update"]).0, 0);
    assert_eq!(local(&["--locked"]).0, 0);
    let before = scene.run.read("data.jsonl");
    scene.run.write("data.jsonl", &before.replace("plus 2", "plus two"));
    for (more, expected) in [
        (
            &["--locked"][..],
            str![[r#"
error[lock-drift]: `data.jsonl` is not what the lock says
  because data.jsonl has other bytes

hint: `firebrand pull --update` writes what it is now into the lock

"#]],
        ),
        (
            &[],
            str![[r#"
error[lock-drift]: `data.jsonl` is not what the lock says
  because ~ data.jsonl: data.jsonl, 2.7 kB -> 2.7 kB, 20 -> 20 rows

hint: `firebrand pull --update` writes what it is now into the lock

"#]],
        ),
    ] {
        let (code, _, said) = local(more);
        assert_eq!(code, 1, "{said}");
        says(said, expected);
    }
    let (code, changes, _) = local(&["--update"]);
    assert_eq!(code, 0);
    says(
        &changes,
        str![[r#"
~ data.jsonl: data.jsonl, 2.7 kB -> 2.7 kB, 20 -> 20 rows

"#]],
    );
}

#[test]
fn an_update_says_what_changed() {
    let scene = Scene::new();
    scene.succeeds("here", &["pull", "stream.toml"]);
    let mut newer = files(63);
    let record =
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"id":7}"#;
    newer[2].1.extend(format!("{record}\n").bytes());
    newer.push(("data/train-00003-of-00003.jsonl".to_owned(), format!("{record}\n").into_bytes()));
    let commit = add(&scene.hub, "datasets/o/d", "main", &newer);

    let (_, stdout, stderr) = scene.output("here", &["pull", "stream.toml"]);
    assert_eq!(stdout, "", "without `--update` nothing moves");
    assert!(stderr.contains(&format!("`main` is now {}", &commit[..12])), "{stderr}");
    assert!(scene.run.read("stream.lock").contains(&scene.commit));

    let said = scene.fails("here", 2, &["pull", "stream.toml", "--update", "o/e"]);
    says(
        &said,
        str![[r#"
error[usage]: the configuration names no `o/e`

hint: it names checkpoints/tiny, o/d

"#]],
    );
    let changes = scene.succeeds("here", &["pull", "stream.toml", "--update", "o/d"]);
    says(
        &changes,
        str![[r#"
~ o/d (train): commit [HEX] -> [HEX]
~ o/d (train): data/train-00000-of-00003.jsonl, 2.7 kB -> 2.8 kB, 20 -> 21 rows
~ o/d (train): data/train-00001-of-00003.jsonl, 2.7 kB -> 2.8 kB, 20 -> 21 rows
~ o/d (train): data/train-00002-of-00003.jsonl, 2.7 kB -> 2.9 kB, 20 -> 22 rows
+ o/d (train): data/train-00003-of-00003.jsonl, 87 B
+ o/d (train): column id: number
~ o/d (validation): commit [HEX] -> [HEX]
~ o/d (validation): data/validation-00000-of-00001.jsonl, 1.3 kB -> 1.4 kB, 10 -> 10 rows

"#]],
    );
    let json = scene.succeeds("here", &["pull", "stream.toml", "--update", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["changed"], &json["written"]), (&false.into(), &false.into()));
}

#[test]
fn a_run_goes_on_with_the_commit_that_it_began_with() {
    let scene = Scene::new();
    assert_eq!(scene.train("straight", &[]).0, 0);
    let (code, status, _) = scene.train("cut", &["--stop-after-steps", "4"]);
    assert_eq!(code, 0, "{status}");
    says(
        &status,
        str![[r#"
{"status":"interrupted","resumable":true,"step":4,"steps":40}

"#]],
    );
    add(&scene.hub, "datasets/o/d", "main", &files(75));
    assert_eq!(scene.train("cut", &["--stop-after-steps", "3"]).0, 0);
    // The hub is gone, the files are here.
    scene.hub.fault(Fault::on("/", Kind::Refuse).for_ever());
    assert_eq!(scene.train("cut", &["--offline"]).0, 0);
    assert_eq!(scene.end("cut"), scene.end("straight"));
    let lock = scene.run.read("checkpoints/cut/data.lock");
    assert!(lock.contains(&scene.commit) && lock.contains("rows = 20"), "{lock}");
    let inputs = scene.run.read("checkpoints/cut/artifact/lineage.inputs.json");
    assert!(inputs.contains(&format!("hf://datasets/o/d@{}/data/", scene.commit)), "{inputs}");
}

#[test]
fn a_hub_that_dies_in_the_middle_costs_no_step() {
    let scene = Scene::new();
    assert_eq!(scene.train("straight", &[]).0, 0);
    // Without prefetching, the files come when their first window does.
    let more = ["--set", "data.prefetch_windows=0"];
    let all: Vec<String> = files(60).into_iter().take(3).map(|(name, _)| name).collect();
    let fresh = |more: &[&str]| {
        let arguments = ["train", "stream.toml", "--set", "name=cut"];
        scene.output("fresh", &[&arguments, more].concat())
    };
    for name in &all {
        scene.hub.fault(Fault::on(name, Kind::Status(404, vec![], "gone")).for_ever());
    }
    let (code, _, said) = fresh(&more);
    assert_eq!(code, 2, "{said}");
    says(
        &said,
        str![[r#"
     fetched  o/d/data/validation-00000-of-00001.jsonl, 1.3 kB in [TIME]
chat template: checkpoints/tiny/artifact/chat_template.jinja, sha256 [HEX]
o/d (validation): 10 records in 1 files (names as `data/SPLIT-00000-of-00001` tell the split) of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
streaming 3 files of 8.1 kB: training starts with the first, and its number of epochs is not known before
       model  checkpoints/tiny (llama, 0.03 M parameters)
      method  LoRA r 2 on all linear layers
   trainable  0.00 M of 0.04 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  8.1 kB in 3 files, read while it is trained on; 10 examples for validation
       steps  40 of 2 rows of at most 96 tokens
      memory  about [..] MB: weights 78.1 kB, optimizer [..]
validation after step 0: loss [NUMBER], perplexity [NUMBER], measured on 131 tokens
error[hub]: the hub has no data set `o/d`, or it is private
  because http://127.0.0.1:[PORT]/datasets/o/d/resolve/[COMMIT]/data/train-00001-of-00003.jsonl answered 404

hint: check its spelling; a private one needs an access token in `HF_TOKEN`

"#]],
    );
    scene.hub.heal();
    // Two of the three can be had now.
    let lost = Fault::on("00003.jsonl", Kind::Status(404, vec![], "gone")).after(2).for_ever();
    scene.hub.fault(lost);
    let (code, _, said) = fresh(&more);
    assert_eq!(code, 2, "{said}");
    says(
        &said,
        str![[r#"
chat template: checkpoints/tiny/artifact/chat_template.jinja, sha256 [HEX]
o/d (validation): 10 records in 1 files (as locked) of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
streaming 3 files of 8.1 kB: training starts with the first, and its number of epochs is not known before
       model  checkpoints/tiny (llama, 0.03 M parameters)
      method  LoRA r 2 on all linear layers
   trainable  0.00 M of 0.04 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  8.1 kB in 3 files, read while it is trained on; 10 examples for validation
       steps  40 of 2 rows of at most 96 tokens
      memory  about [..] MB: weights 78.1 kB, optimizer [..]
validation after step 0: loss [NUMBER], perplexity [NUMBER], measured on 131 tokens
     fetched  o/d/data/train-00001-of-00003.jsonl, 2.7 kB in [TIME]
o/d (train): 3 files (as locked), 20 records in the first of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
step 1/40  loss [NUMBER]  [SPEED]  norm [N]  lr 1.00e-2  [SIZE]  [TIME] left
     fetched  o/d/data/train-00002-of-00003.jsonl, 2.7 kB in [TIME]
o/d (train): 3 files (as locked), 20 records in the first of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
saved step 10 in [TIME]: checkpoints/cut/step-00000010
saved step 14 in [TIME]: checkpoints/cut/step-00000014
error[hub]: the hub has no data set `o/d`, or it is private
  because http://127.0.0.1:[PORT]/datasets/o/d/resolve/[COMMIT]/data/train-00000-of-00003.jsonl answered 404

hint: check its spelling; a private one needs an access token in `HF_TOKEN`

hint: step 14 is saved; the same command continues from there

"#]],
    );
    scene.hub.heal();
    let (code, _, said) = fresh(&more);
    assert_eq!(code, 0, "{said}");
    assert_eq!(scene.end("cut"), scene.end("straight"));
}

#[test]
fn bad_rows_of_a_stream_end_it_when_they_come_and_are_counted() {
    let scene = Scene::new();
    let mut broken = files(60);
    for (_, bytes) in &mut broken[..3] {
        bytes.extend(b"{oops\n");
    }
    add(&scene.hub, "datasets/o/d", "main", &broken);
    let (code, _, said) = scene.train("strict", &[]);
    assert_eq!(code, 2, "{said}");
    says(
        &said,
        str![[r#"
error[data]: not valid JSON: key must be a string at column 2
  at o/d/data/train-00001-of-00003.jsonl:21:1

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]],
    );
    let loose = ["--set", "data.max_bad_rows=3"];
    let (code, _, said) = scene.train("loose", &loose);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("skipped: not valid JSON").count(), 3, "{said}");
    assert_eq!(scene.train("cut", &[&loose[..], &["--stop-after-steps", "5"]].concat()).0, 0);
    assert_eq!(scene.train("cut", &loose).0, 0);
    assert_eq!(scene.end("cut"), scene.end("loose"));
}

#[test]
fn a_damaged_cache_is_found_and_mended_or_named() {
    let scene = Scene::new();
    let expected = scene.digest("here", &[]);
    let flip = || {
        for path in blobs(&scene.run.path("here")) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[100] ^= 4;
            std::fs::write(&path, bytes).unwrap();
        }
    };
    flip();
    // Examples made of the whole files are still good, and are used.
    assert_eq!(scene.digest("here", &["--offline"]), expected);
    std::fs::remove_dir_all(scene.run.path("here/firebrand/examples")).unwrap();
    let said = scene.fails("here", 2, &["data", "stream.toml", "--digest", "--offline"]);
    says(
        &said,
        str![[r#"
error[hub]: `data/validation-00000-of-00001.jsonl` of the data set `o/d` is damaged in the cache, and no request may be sent (offline)
  at [FOLDER]/here/hf/hub/datasets--o--d/snapshots/[COMMIT]/data/validation-00000-of-00001.jsonl

hint: run it once with a connection, without `HF_HUB_OFFLINE`

"#]],
    );
    assert_eq!(scene.digest("here", &[]), expected, "fetched again");

    // Damaged examples are made again.
    for shelf in std::fs::read_dir(scene.run.path("here/firebrand/examples")).unwrap() {
        for entry in std::fs::read_dir(shelf.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[60] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(scene.digest("here", &["--offline"]), expected);
}

#[test]
fn models_come_from_the_hub_without_code_and_without_pickles() {
    let scene = Scene::new();
    let artifact = scene.run.path("checkpoints/tiny/artifact");
    let names = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let read = |name: &str| (name.to_owned(), std::fs::read(artifact.join(name)).unwrap());
    let mut model: Vec<(String, Vec<u8>)> = names.iter().map(|name| read(name)).collect();
    model.push(("pytorch_model.bin".to_owned(), vec![0x80, 2, 0]));
    model.push(("modeling_own.py".to_owned(), b"import os".to_vec()));
    let commit = add(&scene.hub, "models/o/m", "main", &model);
    let base = ["--set", "model.base=o/m"];
    let (code, _, said) = scene.train("hub-base", &base);
    assert_eq!(code, 0, "{said}");
    let asked = |part: &str| scene.hub.asked(part).len();
    assert_eq!((asked("pytorch_model.bin"), asked("modeling_own.py")), (0, 0));
    let settings = scene.run.read("checkpoints/hub-base/artifact/adapter_config.json");
    assert!(settings.contains("\"o/m\"") && settings.contains(&commit), "{settings}");

    // The adapter finds its base by that commit, also without a network.
    add(&scene.hub, "models/o/m", "main", &model[1..]);
    let generate = ["generate", "checkpoints/hub-base", "--prompt", "What", "--max-tokens", "4"];
    scene.command("here", &generate).env("HF_HUB_OFFLINE", "1").assert().success();
    let merged = ["merge", "checkpoints/hub-base", "--out", "merged", "--no-sign"];
    scene.succeeds("here", &merged);

    // Its family is one that there is: the program is ignored. That of another one is not known.
    let config = String::from_utf8(model[0].1.clone()).unwrap();
    let own = config.replacen('{', r#"{"auto_map": {"AutoModel": "modeling_own.M"},"#, 1);
    let mut with_code = model.clone();
    with_code[0].1 = own.clone().into_bytes();
    add(&scene.hub, "models/o/family", "main", &with_code);
    let plan = ["plan", "stream.toml", "--set", "model.base=o/family"];
    let (code, _, said) = scene.output("here", &plan);
    let note = "`config.json` names a program of the model's own (`auto_map`): it is ignored, and \
                the model is computed as one of the family `llama`";
    assert_eq!((code, said.matches(note).count()), (0, 1), "{said}");
    assert_eq!(asked("modeling_own.py"), 0);

    with_code[0].1 = own.replace("llama", "own").into_bytes();
    add(&scene.hub, "models/o/own", "main", &with_code);
    let said = scene.fails("here", 1, &["plan", "stream.toml", "--set", "model.base=o/own"]);
    says(
        &said,
        str![[r#"
     fetched  o/own/config.json, 390 B in [TIME]
error[untrusted]: `o/own` cannot be used: this model runs a program from its repository (`auto_map` names `modeling_own.M`), which is never fetched or run; choose a model of a known family

hint: Firebrand never runs code from a hub

hint: on this machine there is no directory `o/own`

"#]],
    );
    assert_eq!(asked("o/own/resolve"), 1, "refused before the weights");

    let mut renamed = model.clone();
    renamed[1].1 = [&[0x80, 2][..], &[b'x'; 3000]].concat();
    add(&scene.hub, "models/o/renamed", "main", &renamed);
    let said = scene.fails("here", 1, &["plan", "stream.toml", "--set", "model.base=o/renamed"]);
    says(
        &said,
        str![[r#"
     fetched  o/renamed/config.json, 348 B in [TIME]
     fetched  o/renamed/chat_template.jinja, 802 B in [TIME]
     fetched  o/renamed/model.safetensors, 3.0 kB in [TIME]
error[model]: the file is not what its name says
  at [FOLDER]/here/hf/hub/models--o--renamed/snapshots/[COMMIT]/model.safetensors
  because it holds a Python pickle, which runs code when it is opened

hint: do not use this model, and tell its publisher

hint: on this machine there is no directory `o/renamed`

"#]],
    );

    add(
        &scene.hub,
        "models/o/pickles",
        "main",
        &[model[0].clone(), model[2].clone(), model[5].clone()],
    );
    let said = scene.fails("here", 2, &["plan", "stream.toml", "--set", "model.base=o/pickles"]);
    says(
        &said,
        str![[r#"
error[weights]: the repository has its weights only as pickles
  because `pytorch_model.bin` can run code when it is opened, so it is never fetched
  because `o/pickles` at [COMMIT] was looked at

hint: look for a revision or a repository with safetensors (many have one at `refs/pr/1`), or convert it where you trust it

hint: on this machine there is no directory `o/pickles`

"#]],
    );
    let said = scene.fails("here", 2, &["plan", "stream.toml", "--set", "model.base=o/nothing"]);
    says(
        &said,
        str![[r#"
error[hub]: the hub has no model `o/nothing`, or it is private
  because http://127.0.0.1:[PORT]/api/models/o/nothing/revision/main answered 404, `not here` (request Root=1-test)

hint: check its spelling; a private one needs an access token in `HF_TOKEN`

hint: on this machine there is no directory `o/nothing`

"#]],
    );
}

#[test]
fn the_cache_can_be_listed_and_emptied() {
    let scene = Scene::new();
    let expected = scene.digest("here", &[]);
    let list = scene.succeeds("here", &["cache", "list", "--json"]);
    let kinds = |kind: &str| list.matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((kinds("examples"), kinds("download")), (4, 4), "{list}");
    let said = scene.fails("here", 2, &["cache", "gc"]);
    says(
        &said,
        str![[r#"
error[usage]: it is not said what to remove

hint: `--older-than DAYS`, `--max-size SIZE` or `--all`

"#]],
    );
    scene.succeeds("here", &["cache", "gc", "--older-than", "1"]);
    assert_eq!(scene.succeeds("here", &["cache", "list"]).lines().count(), 8);
    scene.succeeds("here", &["cache", "gc", "--max-size", "9 kB"]);
    let left = scene.succeeds("here", &["cache", "list"]).lines().count();
    assert!((1..8).contains(&left), "{left}");
    scene.succeeds("here", &["cache", "gc", "--all"]);
    assert_eq!(scene.succeeds("here", &["cache", "list"]), "");
    assert!(blobs(&scene.run.path("here")).is_empty());
    assert_eq!(scene.digest("here", &[]), expected);
}

#[test]
fn the_doctor_says_what_deserves_a_look() {
    let scene = Scene::new();
    let mut odd = files(60);
    let lines = odd[3].1.clone();
    odd[0].1.extend(&lines); // validation records among those to train on
    let twice = odd[1].1.clone();
    odd[1].1.extend(twice);
    add(&scene.hub, "datasets/o/d", "main", &odd);
    let said = scene
        .succeeds("here", &["data", "stream.toml", "--doctor", "--set", "data.max_seq_len=56"]);
    says(
        &said,
        str![[r#"
     records  90, 0 unusable
    examples  80, 44 cut off, 0 left out as too long, 0 without target tokens, 20 repeated
      tokens  4294, 704 target tokens (16.4 %); median example 55, 95 of 100 up to 56, longest 56
        rows  80, 95.8 % full
  validation  10 examples, 97 target tokens; 10 of the training records are in it too, 0 almost

lengths in tokens
  up to      2          0
  up to      4          0
  up to      7          0
  up to     14          0
  up to     28          0
  up to     56         80  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇

o/d/data/train-00000-of-00003.jsonl:1
    <|im_start|>user
    What is 0 plus 0? (0)<|im_end|>
    <|im_start|>assistant
    ⟦0 plus 0 is 0.<|im_end|>⟧

o/d/data/train-00000-of-00003.jsonl:17
    <|im_start|>user
    What is 2 plus 1? (16)<|im_end|>
    <|im_start|>assistant
    ⟦2 plus 1 is 3.<|im_end|>⟧

o/d/data/train-00001-of-00003.jsonl:13
    <|im_start|>user
    What is 4 plus 2? (32)<|im_end|>
    <|im_start|>assistant
    ⟦4 plus 2 is 6.<|im_end|>⟧

o/d/data/train-00001-of-00003.jsonl:29
    <|im_start|>user
    What is 0 plus 3? (28)<|im_end|>
    <|im_start|>assistant
    ⟦0 plus 3 is 3.<|im_end|>⟧

o/d/data/train-00002-of-00003.jsonl:5
    <|im_start|>user
    What is 2 plus 4? (44)<|im_end|>
    <|im_start|>assistant
    ⟦2 plus 4 is 6.<|im_end|>⟧

training records that are also validation records
       10  it is also a record of the validation data, first o/d/data/train-00000-of-00003.jsonl:21

records of which target tokens are cut away
       48  target tokens lie beyond `data.max_seq_len` (406 tokens), first o/d/data/train-00000-of-00003.jsonl:3

records that are copies of earlier ones
       20  equal to `o/d/data/train-00001-of-00003.jsonl:1`, and the like, first o/d/data/train-00001-of-00003.jsonl:21

look at this: 10 training records also in the validation data: left out of the training data
look at this: 406 target tokens of 48 records lie beyond `data.max_seq_len` (56); raise it, or shorten the records
look at this: 20 examples repeated; `data.deduplicate` trains on them once
all 78 findings, one a line: [FOLDER]/here/firebrand/doctor/stream-[..].jsonl
`train` takes this data as it is

"#]],
    );
    assert_eq!(said.matches("\no/d/data/train-").count(), 5, "five examples:\n{said}");
    let json = scene.succeeds("here", &["data", "stream.toml", "--doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["statistics"]["overlapping"], 10);
    assert_eq!(json["duplicates"], 20);
}

#[test]
fn a_run_that_cannot_go_on_says_what_is_another() {
    let scene = Scene::new();
    std::fs::create_dir(scene.run.path("own")).unwrap();
    for entry in std::fs::read_dir(scene.run.path("checkpoints/tiny/artifact")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "model.sig" {
            std::fs::copy(&path, scene.run.path("own").join(path.file_name().unwrap())).unwrap();
        }
    }
    let own = ["--set", "model.base=own"];
    scene.succeeds("here", &["pull", "stream.toml", "--quiet"]);
    let (code, _, said) = scene.train("cut", &[&own[..], &["--stop-after-steps", "4"]].concat());
    assert_eq!(code, 0, "{said}");
    for (change, expected) in [
        (
            &["--set", "seed=7"][..],
            str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because `seed` was `42` and is `7`

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
        ),
        (
            &["--set", "data.max_seq_len=64"],
            str![[r#"
warning: 2 of 10 records are longer than `data.max_seq_len` and were cut off, first o/d/data/validation-00000-of-00001.jsonl:4
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because `data.max_seq_len` was `96` and is `64`

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
        ),
        (
            &["--set", "data.train.0.weight=2"],
            str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because `data.train.0.weight` was `1.0` and is `2.0`

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
        ),
        (
            &["--set", "data.train.0.split=validation"],
            str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because `data.train.0.split` was not set and is `validation`
  because the data was [HEX] and is [HEX]
  because - o/d (train): 3 files, 8.1 kB, 60 rows

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
        ),
    ] {
        let (code, _, said) = scene.train("cut", &[&own[..], change].concat());
        assert_eq!(code, 2, "{said}");
        says(said, expected);
    }
    let template = scene.run.read("own/chat_template.jinja");
    scene.run.write("own/chat_template.jinja", &format!("{template} "));
    let (code, _, said) = scene.train("cut", &own);
    assert_eq!(code, 2, "{said}");
    says(
        &said,
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because the tokenizer or chat template was [HEX] and is [HEX]

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
    );
    scene.run.write("own/chat_template.jinja", &template);

    let commit = add(&scene.hub, "datasets/o/d", "main", &files(75));
    scene.succeeds("here", &["pull", "stream.toml", "--quiet", "--update"]);
    let (code, _, said) = scene.train("cut", &[&own[..], &["--locked"]].concat());
    assert_eq!(code, 2, "{said}");
    let moved = format!("commit {} -> {}", &scene.commit[..12], &commit[..12]);
    assert!(said.contains(&moved), "{said}");
    says(
        &said,
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/cut/step-00000004
  because the data was [HEX] and is [HEX]
  because ~ o/d (train): commit [HEX] -> [HEX]
  because ~ o/d (train): data/train-00000-of-00003.jsonl, 2.7 kB -> 3.3 kB, 20 -> 25 rows
  because ~ o/d (train): data/train-00001-of-00003.jsonl, 2.7 kB -> 3.4 kB, 20 -> 25 rows
  because ~ o/d (train): data/train-00002-of-00003.jsonl, 2.7 kB -> 3.4 kB, 20 -> 25 rows
  because ~ o/d (validation): commit [HEX] -> [HEX]
  because ~ o/d (validation): data/validation-00000-of-00001.jsonl, 1.3 kB -> 1.4 kB, 10 -> 10 rows

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
    );
    // Without `--locked` the run keeps to what it began with.
    let (code, _, said) = scene.train("cut", &own);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn every_container_gives_the_same_rows() {
    let run = Run::new();
    let digest = |path: &str| {
        let path = crate::common::repository(path);
        let set = format!("data.train.0.path={}", path.display());
        let set = ["--set", &set, "--set", "data.validation=[]", "--set", "data.shuffle=false"];
        let arguments = ["data", "tiny.toml", "--digest", "--rows", "0"];
        run.succeeds(&[&arguments[..], &set].concat())
    };
    let expected = digest("datasets/messages.jsonl");
    for name in ["messages.json", "messages.jsonl.gz", "messages.parquet"] {
        assert_eq!(digest(&format!("tests/fixtures/containers/{name}")), expected, "{name}");
    }
    let expected = digest("datasets/completion.jsonl");
    for name in ["completion.csv", "completion.tsv", "completion.zstd.parquet"] {
        assert_eq!(digest(&format!("tests/fixtures/containers/{name}")), expected, "{name}");
    }
}

#[test]
fn preference_pairs_are_shown_and_not_trained_on() {
    let run = Run::new();
    let path = crate::common::repository("datasets/preference.jsonl");
    let set = format!("data.train.0.path={}", path.display());
    let set = ["--set", set.as_str(), "--set", "data.validation=[]"];
    let shown = run.succeeds(&[&["data", "tiny.toml", "--rows", "3"][..], &set].concat());
    assert_eq!(shown.matches("  chosen\n").count(), 3, "{shown}");
    says(
        &shown,
        str![[r#"
[REPOSITORY]/datasets/preference.jsonl:1:
  chosen
    <|im_start|>user
    Where should I look for tortoises?<|im_end|>
    <|im_start|>assistant
    Tortoises live on dry warm land.<|im_end|>
  rejected
    <|im_start|>user
    Where should I look for tortoises?<|im_end|>
    <|im_start|>assistant
    Ghana is known for cocoa and bright cloth.<|im_end|>
[REPOSITORY]/datasets/preference.jsonl:2:
  chosen
    <|im_start|>user
    What colour are sunflowers?<|im_end|>
    <|im_start|>assistant
    Sunflowers are yellow.<|im_end|>
  rejected
    <|im_start|>user
    What colour are sunflowers?<|im_end|>
    <|im_start|>assistant
    I do not know.<|im_end|>
[REPOSITORY]/datasets/preference.jsonl:3:
  chosen
    <|im_start|>user
    Tell me what Cambodia is known for.<|im_end|>
    <|im_start|>assistant
    Cambodia is known for the temples of Angkor.<|im_end|>
  rejected
    <|im_start|>user
    Tell me what Cambodia is known for.<|im_end|>
    <|im_start|>assistant
    That is a good question! Cambodia is known for the temples of Angkor. I hope that this helps you a lot.<|im_end|>

"#]],
    );
    let json = run.succeeds(&[&["data", "tiny.toml", "--rows", "0", "--json"][..], &set].concat());
    assert_eq!(json.lines().count(), 16);
    run.fails_with(2, &[&["train", "tiny.toml"][..], &set].concat(), str![[r#"
made a key pair to sign with: [FOLDER]/settings/firebrand/signing.pem, and [FOLDER]/settings/firebrand/signing.pub.pem for those who verify
error[pairs]: the objective does not learn from pairs of answers
  at [REPOSITORY]/datasets/preference.jsonl:1:1

hint: with `columns = { messages = "chosen" }` and `format = "messages"` the chosen answers are trained on

hint: `train.objective = "dpo"` trains on both answers, and so do `simpo`, `cpo`, `orpo`

"#]]);
}

#[test]
fn rows_can_be_shown_from_where_a_checkpoint_stands() {
    let scene = Scene::new();
    let data = ["data", "stream.toml", "--json", "--rows", "0"];
    let all = scene.succeeds("here", &data);
    let sha256 = |line: &str| -> String {
        let batch: serde_json::Value = serde_json::from_str(line).unwrap();
        batch["sha256"].as_str().unwrap().to_owned()
    };
    let all: Vec<String> = all.lines().map(sha256).collect();
    assert_eq!(scene.train("cut", &["--stop-after-steps", "33"]).0, 0);
    let state = scene.run.read("checkpoints/cut/step-00000033/state.json");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let part = |name: &str| state["cursor"][name].as_u64().unwrap();
    let at = format!("{}:{}:{}", part("epoch"), part("window"), part("row"));
    let rest =
        scene.succeeds("here", &["data", "stream.toml", "--json", "--at", &at, "--rows", "14"]);
    let rest: Vec<String> = rest.lines().map(sha256).collect();
    assert_eq!(rest, all[33..40]);
    let said = scene.fails("here", 2, &["data", "stream.toml", "--at", "0:999:0"]);
    says(
        &said,
        str![[r#"
error[data]: there is no row 0 in window 999 of epoch 0

hint: the position belongs to other data or other `[data]` settings

"#]],
    );
    let said = scene.fails("here", 2, &["data", "stream.toml", "--at", "3"]);
    says(
        &said,
        str![[r#"
error: invalid value '3' for '--at <EPOCH:WINDOW:ROW>': three numbers are expected, such as `0:12:0`

For more information, try '--help'.

"#]],
    );
}

/// Starts a command, waits until the hub was asked for `part`, and asks the process to stop.
#[cfg(unix)]
fn terminated(scene: &Scene, part: &str) -> (Option<i32>, String) {
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_firebrand"))
        .args(["train", "stream.toml", "--set", "name=stopped"])
        .current_dir(scene.run.path("."))
        .env("XDG_CONFIG_HOME", scene.run.path("settings"))
        .env("HF_ENDPOINT", scene.hub.endpoint())
        .env("HF_HOME", scene.run.path("stopped/hf"))
        .env("FIREBRAND_CACHE", scene.run.path("stopped/firebrand"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait::until(part, || !scene.hub.asked(part).is_empty());
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_download_at_once() {
    let scene = Scene::new();
    assert_eq!(scene.train("straight", &[]).0, 0);
    scene.hub.clear_log();
    let stall = Kind::Stall { at: 500, pause: wait::NEVER };
    scene.hub.fault(Fault::on("/_cdn/", stall).for_ever());
    let began = std::time::Instant::now();
    let (code, said) = terminated(&scene, "/resolve/");
    assert_eq!(code, Some(143), "{said}");
    assert!(began.elapsed() < wait::NEVER, "it waited for the hub");
    scene.hub.heal();
    let arguments = ["train", "stream.toml", "--quiet", "--set", "name=stopped"];
    scene.succeeds("stopped", &arguments);
    assert_eq!(scene.end("stopped"), scene.end("straight"));
}
