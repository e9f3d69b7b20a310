//! The disk fails, or the process dies, at every single call that a run makes on its directory.
//! Whatever happens, the run goes on to the bytes of one to which nothing happened.
//!
//! The run happens in this program itself, started again as a child: `files::watch` lets it be
//! asked before each call. That needs no rights and no tools, and works on every system.

use snapbox::str;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Run, says, this_test, weights_digest, without_progress};
use firebrand::files::{Call, watch};

const PLAN: &str = "FIREBRAND_TEST_FAULT";
const STEPS: u64 = 5;

/// What is done to a run, and at which of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing; the calls are printed.
    None,
    /// The process dies; bytes that are being written are half written.
    Kill,
    /// Every call takes its time.
    Slow,
    /// The thread that makes the call panics.
    Panic,
    /// This call fails, as when a disk has a bad place.
    Broken,
    /// From this call on there is no room.
    Full,
    /// Only this call finds no room.
    FullOnce,
    /// This call and the next find no room.
    FullTwice,
    /// From this call on there is no room, for a while.
    FullForAWhile,
    /// From this call on nothing can be written, as when a file system was made read-only.
    ReadOnly,
}

/// How many calls a disk refuses that is full for a while: more than a run makes before it waits.
const WHILE: usize = 12;

impl Fault {
    fn lasts(self) -> bool {
        matches!(self, Self::Full | Self::FullForAWhile | Self::ReadOnly)
    }
}

const FAULTS: [(&str, Fault); 10] = [
    ("none", Fault::None),
    ("kill", Fault::Kill),
    ("slow", Fault::Slow),
    ("panic", Fault::Panic),
    ("broken", Fault::Broken),
    ("full", Fault::Full),
    ("full-once", Fault::FullOnce),
    ("full-twice", Fault::FullTwice),
    ("full-for-a-while", Fault::FullForAWhile),
    ("read-only", Fault::ReadOnly),
];

/// Lines of metrics are written by another thread than checkpoints; without them the numbers of
/// calls are always the same. They meet the faults that last all the same.
fn counts(call: Call, path: &Path) -> bool {
    !(call == Call::Write && path.ends_with("metrics.jsonl"))
}

fn needs_room(call: Call) -> bool {
    matches!(call, Call::CreateDir | Call::Open | Call::Reserve | Call::Write | Call::Rename)
}

/// The child of the tests below: trains under the fault that the environment names.
#[test]
#[ignore = "a part of the other tests, which start it"]
fn child() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let mut words = plan.split(' ');
    let name = words.next().unwrap();
    let fault = FAULTS.iter().find(|(known, _)| *known == name).unwrap().1;
    let at: usize = words.next().unwrap().parse().unwrap();
    let arguments: Vec<std::ffi::OsString> =
        std::iter::once("firebrand").chain(words).map(Into::into).collect();
    let number = AtomicUsize::new(0);
    let dying = AtomicBool::new(false);
    let refused = AtomicUsize::new(0);
    // Paths in the run are relative, as the program was told them.
    let _watch = watch(Path::new("checkpoints"), move |call, path| {
        if dying.load(Ordering::SeqCst) {
            std::process::abort();
        }
        let now = match counts(call, path) {
            true => number.fetch_add(1, Ordering::SeqCst),
            // As the last one that counted: only what lasts is met.
            false if fault.lasts() => number.load(Ordering::SeqCst).saturating_sub(1),
            false => return Ok(()),
        };
        let full = io::Error::from(io::ErrorKind::StorageFull);
        match fault {
            Fault::None => println!("call {now} {call:?} {}", path.display()),
            Fault::Kill if now == at && call == Call::Write => {
                dying.store(true, Ordering::SeqCst); // at the next call; first half of this one
                return Err(full);
            }
            Fault::Kill if now == at => std::process::abort(),
            Fault::Slow => std::thread::sleep(Duration::from_millis(2)),
            Fault::Panic if now == at => panic!("as a defect would"),
            Fault::Broken if now == at => return Err(io::Error::from_raw_os_error(5)), // EIO
            Fault::Full if now >= at && needs_room(call) => return Err(full),
            Fault::FullOnce if now == at && needs_room(call) => return Err(full),
            // The attempt that follows, after leftovers were looked for, begins with the same call.
            Fault::FullTwice if (at..=at + 1).contains(&now) => return Err(full),
            Fault::FullForAWhile
                if now >= at
                    && needs_room(call)
                    && refused.fetch_add(1, Ordering::SeqCst) < WHILE =>
            {
                return Err(full);
            }
            Fault::ReadOnly if now >= at && !matches!(call, Call::Sync | Call::SyncDir) => {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            _ => {}
        }
        Ok(())
    });
    let code = firebrand::cli::run(arguments);
    println!("ended {code:?}");
}

/// What became of a child.
struct Ended {
    /// Its exit code; none if it died.
    code: Option<i32>,
    out: String,
    said: String,
}

fn train_under(run: &Run, fault: &str, at: usize, more: &[&str]) -> Ended {
    let steps = format!("train.max_steps={STEPS}");
    let set = ["--set", "name=hurt", "--set", &steps, "--set", "eval.prompts=[]"];
    let plan = [&[fault, &at.to_string(), "train", "tiny.toml"], &set[..], more].concat().join(" ");
    let output = this_test!("child")
        .args(["--nocapture", "--test-threads=1"])
        .current_dir(run.path("."))
        .env(PLAN, plan)
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .env_remove("FIREBRAND_SIGNING_KEY")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let code = out.lines().find_map(|line| {
        let status = line.split_once("ended ExitCode(unix_exit_status(")?.1;
        status.trim_end_matches(')').parse().ok()
    });
    Ended { code, out, said: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Digests of what must be the same at the end.
fn end(run: &Run) -> Vec<String> {
    let root = run.path("checkpoints/hurt");
    let checkpoint = root.join(format!("step-{STEPS:08}"));
    let names = ["model.safetensors", "optimizer.safetensors", "state.json"];
    let mut paths = vec![root.join("metrics.jsonl")];
    paths.extend(names.iter().map(|name| checkpoint.join(name)));
    let digest = |path: &std::path::PathBuf| {
        let entry = firebrand::files::hash_file(path, "").unwrap();
        format!("{} {}", path.file_name().unwrap().display(), entry.sha256)
    };
    let weights = format!("artifact {}", weights_digest(&root.join("artifact")));
    paths.iter().map(digest).chain([weights]).collect()
}

fn tidy(run: &Run) -> bool {
    let entries = std::fs::read_dir(run.path("checkpoints/hurt")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    !names.into_iter().any(|name| name.starts_with('.'))
}

struct Scene {
    run: Run,
    expected: Vec<String>,
    calls: Vec<String>,
}

impl Scene {
    fn new(more: &[&str]) -> Self {
        let run = Run::new();
        let whole = train_under(&run, "none", 0, more);
        assert_eq!(whole.code, Some(0), "{}", whole.said);
        if std::env::var("SHOW").is_ok() {
            eprintln!("{}", whole.out)
        }
        let expected = end(&run);
        // The test harness writes the beginning of the first line.
        let call = |line: &str| line.find("call ").map(|at| line[at..].to_owned());
        let calls: Vec<String> = whole.out.lines().filter_map(call).collect();
        assert!(calls.len() > 80, "three saves have more calls: {calls:#?}");
        Self { run, expected, calls }
    }

    fn begin_anew(&self) {
        std::fs::remove_dir_all(self.run.path("checkpoints/hurt")).unwrap();
    }

    /// Lets the run meet a fault at each of these calls, then go on in peace.
    fn meet(&self, fault: &str, which: impl Fn(&str) -> bool, mut check: impl FnMut(&Ended, &str)) {
        let mut met = 0;
        for (at, call) in self.calls.iter().enumerate() {
            if !which(call) {
                continue;
            }
            met += 1;
            self.begin_anew();
            let ended = train_under(&self.run, fault, at, &[]);
            check(&ended, call);
            let after = train_under(&self.run, "none", 0, &[]);
            assert_eq!(after.code, Some(0), "{fault} at {call}, then: {}", after.said);
            assert_eq!(end(&self.run), self.expected, "{fault} at {call}");
            // What could not be removed stays, until `runs prune`.
            let stays = fault == "broken" && call.contains(" Remove ");
            assert!(stays || tidy(&self.run), "{fault} at {call} has left something");
        }
        assert!(met > 20, "only {met} calls");
    }
}

#[test]
fn a_kill_at_every_call_changes_no_byte() {
    let scene = Scene::new(&[]);
    // A half-written line is noticed at the next call, and after the last one there is none.
    let last = scene.calls.len() - 2;
    scene.meet(
        "kill",
        |call| !call.starts_with(&format!("call {last} ")),
        |ended, call| assert_eq!(ended.code, None, "it lives on after {call}: {}", ended.said),
    );
}

const IO_ERROR: &str = "Input/output error (os error 5)";
const MAKE_ROOM: &str = "hint: make room; `checkpoint.on_disk_full";

/// What was said, without places and numbers of steps.
fn kinds_of_lines(said: &str) -> Vec<String> {
    let step = regex::Regex::new(r"\bstep [0-9]+").unwrap();
    let kinds = ["error[", "warning: ", "  because ", "hint: "];
    let lines = said.lines().filter(|line| kinds.iter().any(|begin| line.starts_with(begin)));
    lines.map(|line| step.replace(line, "step N").into_owned()).collect()
}

#[test]
fn a_bad_place_on_the_disk_is_said_and_changes_no_byte() {
    let scene = Scene::new(&[]);
    let mut lines = BTreeSet::new();
    scene.meet(
        "broken",
        |_| true,
        |ended, call| {
            let told = ended.said.lines().any(|line| line.ends_with(IO_ERROR));
            assert!(told, "nothing is said of {call}: {}", ended.said);
            lines.extend(kinds_of_lines(&ended.said));
            // What is not needed to go on is a warning, everything else ends the run.
            let after_the_commit = ["LATEST", "history.jsonl", ".trash-", "report.html"];
            let warned = after_the_commit.iter().any(|part| call.contains(part))
                || call.ends_with("SyncDir checkpoints/hurt");
            let ends: &[Option<i32>] = if warned { &[Some(0), Some(2)] } else { &[Some(2)] };
            assert!(ends.contains(&ended.code), "{call}: {:?} {}", ended.code, ended.said);
        },
    );
    says(
        Vec::from_iter(lines).join("\n"),
        str![[r#"
  because Input/output error (os error 5)
error[file]: cannot make the folder
error[file]: cannot open the metrics
error[file]: cannot rename into place
error[file]: cannot sync the folder
error[file]: cannot write the file
error[file]: cannot write the history
error[file]: cannot write the metrics
hint: step N is saved; the run continues from there
warning: after saving step N: cannot remove the folder: Input/output error (os error 5)
warning: after saving step N: cannot rename into place: Input/output error (os error 5)
warning: after saving step N: cannot sync the folder: Input/output error (os error 5)
warning: after saving step N: cannot write the file: Input/output error (os error 5)
warning: after saving step N: cannot write the history: Input/output error (os error 5)
warning: cannot write the history: Input/output error (os error 5)
warning: there is no page about the run: cannot rename into place: Input/output error (os error 5)
warning: there is no page about the run: cannot sync the folder: Input/output error (os error 5)
warning: there is no page about the run: cannot write the file: Input/output error (os error 5)
"#]],
    );
}

#[test]
fn a_full_disk_ends_the_run_with_what_was_saved_and_leaves_nothing_half_written() {
    let scene = Scene::new(&[]);
    let run = &scene.run;
    let last = scene.calls.len() - 12; // what comes after the result was committed
    let which = |call: &str| {
        let number: usize = call.split(' ').nth(1).unwrap().parse().unwrap();
        number < last && !call.contains(" Sync") && !call.contains(" Remove")
    };
    // Metrics and history are written by another thread, which may meet the full disk first.
    let is_of_the_save = |line: &String| {
        !["the metrics", "the history"].iter().any(|of_others| line.contains(of_others))
    };
    let mut lines = BTreeSet::new();
    scene.meet("full", which, |ended, call| {
        assert_eq!(ended.code, Some(2), "{call}: {}", ended.said);
        if call.contains(".tmp-step-") {
            let told = ended.said.lines().any(|line| line.starts_with(MAKE_ROOM));
            assert!(told, "nothing is said of {call}: {}", ended.said);
            lines.extend(kinds_of_lines(&ended.said).into_iter().filter(is_of_the_save));
            assert!(tidy(run), "{call} has left something");
        }
    });
    says(
        Vec::from_iter(lines).join("\n"),
        str![[r#"
  because no storage space
error[disk-full]: cannot make the folder
hint: make room; `checkpoint.on_disk_full = "wait"` or `"continue"` would not stop
hint: step N is saved; the run continues from there
"#]],
    );
}

#[test]
fn a_disk_that_becomes_read_only_is_as_a_full_one() {
    let scene = Scene::new(&[]);
    let in_a_save = |call: &str| call.contains("step-0000000") && !call.contains(" Sync");
    let mut met = 0;
    for (at, call) in scene.calls.iter().enumerate().filter(|(_, call)| in_a_save(call)) {
        met += 1;
        scene.begin_anew();
        let ended = train_under(&scene.run, "read-only", at, &[]);
        assert_eq!(ended.code, Some(2), "{call}: {}", ended.said);
        assert_eq!(train_under(&scene.run, "none", 0, &[]).code, Some(0), "{call}");
        assert_eq!(end(&scene.run), scene.expected, "{call}");
    }
    assert!(met >= 30, "{:#?}", scene.calls);
}

#[test]
fn room_that_comes_back_is_used() {
    let scene = Scene::new(&[]);
    let in_a_save = |call: &str| call.contains(".tmp-step-") && call.contains(" Write ");
    let mut met = 0;
    for (at, call) in scene.calls.iter().enumerate().filter(|(_, call)| in_a_save(call)) {
        // Once: leftovers are removed, and the second attempt fits.
        scene.begin_anew();
        let ended = train_under(&scene.run, "full-once", at, &[]);
        assert_eq!(ended.code, Some(0), "{call}: {}", ended.said);
        assert_eq!(end(&scene.run), scene.expected, "{call}");
        met += 1;
    }
    assert!(met >= 6, "{met}");
}

/// The first call of the first save.
fn first_of_a_save(scene: &Scene) -> usize {
    scene
        .calls
        .iter()
        .position(|call| call.contains("CreateDir") && call.contains(".tmp-"))
        .unwrap()
}

#[test]
fn a_run_that_waits_for_room_goes_on_when_there_is_some() {
    let scene = Scene::new(&[]);
    scene.begin_anew();
    let more = ["--set", "checkpoint.on_disk_full=wait"];
    let ended = train_under(&scene.run, "full-for-a-while", first_of_a_save(&scene), &more);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    // Metrics are written by another thread, which may meet the full disk as well, or first.
    let said = without_progress(&ended.said);
    let of_metrics = "warning: cannot write the metrics, tried again each step";
    let said: Vec<&str> = said.lines().filter(|line| *line != of_metrics).collect();
    says(
        said.join("\n").trim_end(),
        str![[r#"
warning: not saved: cannot make the folder: no storage space
...
warning: waiting for room (`checkpoint.on_disk_full`): cannot [..]: no storage space
"#]],
    );
    assert_eq!(end(&scene.run), scene.expected);
}

#[test]
fn a_run_that_goes_on_without_room_says_so_and_saves_when_there_is_some() {
    let more = ["--set", "checkpoint.on_disk_full=continue", "--set", "checkpoint.every_steps=1"];
    let scene = Scene::new(&more);
    scene.begin_anew();
    // The disk is full for the first save, twice, and has room afterwards.
    let at = first_of_a_save(&scene);
    let ended = train_under(&scene.run, "full-twice", at, &more);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    says(
        without_progress(&ended.said),
        str![[r#"
warning: not saved; training goes on, and what it does can be lost: cannot write the metrics: no storage space


"#]],
    );
    assert_eq!(end(&scene.run), scene.expected);
    let root = scene.run.path("checkpoints/hurt");
    assert!(!root.join("step-00000001").exists() && tidy(&scene.run));
}

#[test]
fn saves_that_take_longer_than_steps_change_no_byte() {
    let more = ["--set", "checkpoint.every_steps=1"];
    let scene = Scene::new(&more);
    scene.begin_anew();
    let ended = train_under(&scene.run, "slow", 0, &more);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(end(&scene.run), scene.expected);
    let stall = ended.said.lines().find(|line| line.starts_with("checkpoint stall: "));
    says(stall.unwrap(), str!["checkpoint stall: [TIME] in 4 saves, [N] % of [TIME]"]);
}

#[test]
fn a_thread_that_breaks_down_while_it_saves_ends_the_run() {
    let scene = Scene::new(&[]);
    let in_the_first = |call: &String| call.contains(".tmp-step-00000002") && call.contains("Sync");
    let mut lines = BTreeSet::new();
    for at in scene.calls.iter().enumerate().filter(|(_, call)| in_the_first(call)).map(|c| c.0) {
        scene.begin_anew();
        let ended = train_under(&scene.run, "panic", at, &[]);
        assert_eq!(ended.code, Some(2), "{}", ended.said);
        lines.extend(kinds_of_lines(&ended.said));
        assert_eq!(train_under(&scene.run, "none", 0, &[]).code, Some(0));
        assert_eq!(end(&scene.run), scene.expected);
    }
    says(
        Vec::from_iter(lines).join("\n"),
        str![[r#"
error[checkpoint]: the thread that saves checkpoints has failed
"#]],
    );
}

/// The last save of a run is made on its own thread, and so is the result; an extension begins with
/// both.
#[test]
fn a_kill_at_every_call_of_an_extension_changes_no_byte() {
    let constant = ["--set", "train.lr_scheduler=constant"];
    let longer = [&constant[..], &["--set", "train.max_steps=6", "--extend"]].concat();
    let run = Run::new();
    assert_eq!(train_under(&run, "none", 0, &longer).code, Some(0));
    let end = || {
        let root = run.path("checkpoints/hurt");
        let artifact = weights_digest(&root.join("artifact"));
        (std::fs::read(root.join("metrics.jsonl")).unwrap(), artifact)
    };
    let expected = end();
    let anew = || {
        std::fs::remove_dir_all(run.path("checkpoints/hurt")).unwrap();
        assert_eq!(train_under(&run, "none", 0, &constant).code, Some(0));
    };
    anew();
    let calls = train_under(&run, "none", 0, &longer).out.matches("call ").count();
    assert!(calls > 50, "{calls}");
    for at in 0..30 {
        anew();
        assert_eq!(train_under(&run, "kill", at, &longer).code, None, "at {at}");
        let after = train_under(&run, "none", 0, &longer);
        assert_eq!(after.code, Some(0), "at {at}: {}", after.said);
        assert!(end() == expected, "at {at}: {}", after.said);
    }
}

const ON_DISK: &[&str] = &["--set", "train.optimizer_offload=disk"];

/// The numbers of the calls for what the optimizer keeps on disk.
fn calls_for_state(scene: &Scene) -> Vec<usize> {
    let calls = scene.calls.iter().enumerate();
    let of_state = calls.filter(|(_, call)| call.contains("optimizer-state"));
    of_state.map(|(number, _)| number).collect()
}

/// It is never what a run goes on from, so that it may do so with the state in memory, too.
#[test]
fn a_kill_while_the_state_of_the_optimizer_is_on_disk_changes_no_byte() {
    let scene = Scene::new(ON_DISK);
    scene.begin_anew();
    assert_eq!(train_under(&scene.run, "none", 0, &[]).code, Some(0));
    assert_eq!(end(&scene.run), scene.expected, "it is the same with the state in memory");
    let calls = calls_for_state(&scene);
    assert!(calls.len() > 60, "each part of the state is written in each step: {calls:?}");
    // All that make the file, and some of the others.
    for (number, at) in calls.into_iter().enumerate().filter(|(it, _)| *it < 6 || it % 23 == 0) {
        scene.begin_anew();
        let ended = train_under(&scene.run, "kill", at, ON_DISK);
        assert_ne!(ended.code, Some(0), "{}", ended.said);
        let more = if number % 2 == 0 { ON_DISK } else { &[] };
        let after = train_under(&scene.run, "none", 0, more);
        assert_eq!(after.code, Some(0), "{}", after.said);
        assert_eq!(end(&scene.run), scene.expected, "call {at}");
        assert!(tidy(&scene.run), "call {at} has left something");
    }
}

#[test]
fn a_disk_without_room_for_the_state_of_the_optimizer_is_said() {
    let scene = Scene::new(ON_DISK);
    let calls = calls_for_state(&scene);
    for kind in [" Open ", " Reserve ", " Write "] {
        let at = calls.iter().find(|at| scene.calls[**at].contains(kind));
        scene.begin_anew();
        let ended = train_under(&scene.run, "full-once", *at.unwrap(), ON_DISK);
        assert!(ended.code.is_some_and(|code| code != 0), "{kind}: {}", ended.said);
        let said = "error[disk-full]: cannot write the optimizer's state to disk";
        assert!(ended.said.contains(said), "{kind}: {}", ended.said);
        let after = train_under(&scene.run, "none", 0, ON_DISK);
        assert_eq!(after.code, Some(0), "{}", after.said);
        assert_eq!(end(&scene.run), scene.expected, "{kind}");
        assert!(tidy(&scene.run));
    }
}

const INPUTS_ON_DISK: &[&str] =
    &["--set", "train.recompute=layers", "--set", "train.activation_offload=disk"];

/// A run never goes on from what was there: the last checkpoint is good, wherever the disk fails.
#[test]
fn a_disk_that_fails_inputs_of_layers_is_said_and_the_run_goes_on_from_its_checkpoint() {
    let scene = Scene::new(INPUTS_ON_DISK);
    scene.begin_anew();
    assert_eq!(train_under(&scene.run, "none", 0, &[]).code, Some(0));
    assert_eq!(end(&scene.run), scene.expected, "it is the same with them in memory");
    let calls = scene.calls.iter().enumerate();
    let calls: Vec<usize> =
        calls.filter(|(_, call)| call.contains("layer-inputs")).map(|(number, _)| number).collect();
    let writes = calls.iter().filter(|at| scene.calls[**at].contains(" Write ")).count();
    assert!(writes as u64 >= 2 * STEPS, "each of two layers writes in each step: {calls:?}");
    let said = "error[disk-full]: cannot write inputs of layers to disk";
    for kind in [" Open ", " Reserve ", " Write "] {
        let at = calls.iter().find(|at| scene.calls[**at].contains(kind));
        scene.begin_anew();
        let ended = train_under(&scene.run, "full-once", *at.unwrap(), INPUTS_ON_DISK);
        assert!(ended.code.is_some_and(|code| code != 0), "{kind}: {}", ended.said);
        assert!(ended.said.contains(said), "{kind}: {}", ended.said);
        let after = train_under(&scene.run, "none", 0, INPUTS_ON_DISK);
        assert_eq!(after.code, Some(0), "{}", after.said);
        assert_eq!(end(&scene.run), scene.expected, "{kind}");
        assert!(tidy(&scene.run));
    }
    // Between checkpoints, which another thread writes: calls may have other numbers then.
    for (number, at) in calls.into_iter().enumerate().filter(|(it, _)| it % 5 == 4) {
        scene.begin_anew();
        train_under(&scene.run, "broken", at, INPUTS_ON_DISK);
        let more = if number % 2 == 0 { INPUTS_ON_DISK } else { &[] };
        let after = train_under(&scene.run, "none", 0, more);
        assert_eq!(after.code, Some(0), "{}", after.said);
        assert_eq!(end(&scene.run), scene.expected, "call {at}");
        assert!(tidy(&scene.run), "call {at} has left something");
    }
}
