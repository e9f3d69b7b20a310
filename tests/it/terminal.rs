//! Text of others (records, names, settings) reaches neither a terminal nor the log of a build
//! server as anything but text; and a run works in its own folder only.

use crate::common::{Run, says};
use snapbox::str;

/// Everything that is not to get through, in one text: a title of the terminal, C1, marks that turn
/// text around, marks without width, tags, and lines that GitHub Actions and Azure take for
/// commands.
const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{9b}2J\u{202e}y\u{2066}\u{200b}\u{ad}\u{feff}\u{fff9}\
                       \u{e0041}\n::error::pwn\n  ::set-output name=a::b\n##[error]c\r\n\
                       ##vso[task.complete]\u{2028}verified";

/// Nothing of [`HOSTILE`] is in the output of a command as it is.
fn assert_harmless(run: &Run, arguments: &[&str]) -> String {
    let output = run.command(arguments).output().unwrap();
    let mut all = String::new();
    for bytes in [output.stdout, output.stderr] {
        let text = String::from_utf8(bytes).unwrap();
        for c in text.chars() {
            let hidden = (c.is_control() && c != '\n' && c != '\t')
                || "\u{202e}\u{2066}\u{200b}\u{ad}\u{feff}\u{fff9}\u{e0041}\u{2028}".contains(c);
            assert!(!hidden, "{arguments:?} let {c:?} through:\n{text}");
        }
        for line in text.lines() {
            let begins = line.trim_start().starts_with("::");
            let holds = line.contains("##[") || line.contains("##vso[");
            assert!(!begins && !holds, "{arguments:?} says a command: {line}");
            assert_ne!(line, "verified", "{arguments:?} says what a record says");
        }
        all += &text;
    }
    all
}

fn record(text: &str, answer: &str) -> String {
    let talk = serde_json::json!({"messages": [
        {"role": "user", "content": text}, {"role": "assistant", "content": answer}]});
    format!("{talk}\n")
}

#[test]
fn records_are_shown_without_what_they_could_do() {
    let run = Run::new();
    run.write("data.jsonl", &[record(HOSTILE, "b"), record("a", HOSTILE)].concat().repeat(10));
    let long = ["tiny.toml", "--set", "data.max_seq_len=256"];
    for more in [&["data"][..], &["plan"], &["data", "--doctor"], &["data", "--json"]] {
        let arguments = [&more[..1], &long, &more[1..]].concat();
        let shown = assert_harmless(&run, &arguments);
        assert!(shown.contains("pwn") || more.contains(&"--json"), "{arguments:?}: {shown}");
    }
    // Pairs, which are shown before they can be trained on.
    let pair = serde_json::json!({"prompt": HOSTILE, "chosen": HOSTILE, "rejected": "b"});
    run.write("data.jsonl", &format!("{pair}\n").repeat(3));
    for more in [&[] as &[&str], &["--json"]] {
        let shown = assert_harmless(&run, &[&["data", "tiny.toml"], more].concat());
        assert!(shown.contains("pwn"), "{shown}");
        if more == ["--json"] {
            let line: serde_json::Value =
                serde_json::from_str(shown.lines().next().unwrap()).unwrap();
            let chosen = line["chosen"].as_str().unwrap();
            assert!(chosen.contains(HOSTILE), "what a machine reads is exact: {chosen}");
        }
    }
}

#[test]
fn names_and_settings_in_errors_and_warnings_are_text() {
    let run = Run::new();
    let name = HOSTILE.replace('/', "");
    assert_harmless(&run, &["plan", &name]);
    assert_harmless(&run, &["plan", "tiny.toml", "--set", &format!("model.base={name}")]);
    assert_harmless(&run, &["plan", "tiny.toml", "--set", &format!("{name}=1")]);
    assert_harmless(&run, &["generate", &name, "--prompt", "x"]);
    assert_harmless(&run, &["verify", &name]);
    assert_harmless(&run, &["runs", &name]);
    assert_harmless(&run, &[&name]);
    assert_harmless(&run, &["train", "tiny.toml", &format!("--{name}")]);
    // Keys and words of data and of settings.
    run.write("bad.toml", &format!("[model]\nbase = {}\n", serde_json::json!(name)));
    assert_harmless(&run, &["plan", "bad.toml"]);
    run.write("data.jsonl", &format!("{}\n", serde_json::json!({name.clone(): [{"a": 1}]})));
    assert_harmless(&run, &["plan", "tiny.toml"]);
    let role = serde_json::json!({"messages": [{"role": name, "content": "a"}]});
    run.write("data.jsonl", &format!("{role}\n"));
    assert_harmless(&run, &["plan", "tiny.toml"]);
    // Names of files in a model, and of prompts in a run.
    std::fs::create_dir(run.path("model")).unwrap();
    std::fs::write(run.path("model").join(&name), "x").unwrap();
    for command in [&["verify", "model"][..], &["scan", "model"], &["sign", "model"]] {
        assert_harmless(&run, command);
    }
    run.write("data.jsonl", &crate::common::conversations(20));
    let prompts = format!("eval.prompts=[{}]", serde_json::json!("a\n::error::b \u{1b}"));
    let shown = assert_harmless(&run, &["train", "tiny.toml", "--set", &prompts]);
    assert!(shown.contains("before:"), "{shown}");
}

#[test]
fn what_a_model_writes_into_a_file_is_exact() {
    let run = Run::new().with_base();
    let generate = ["generate", "checkpoints/tiny", "--prompt", "two", "--temperature", "3"];
    let exact = run.succeeds(&generate);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_firebrand"));
    command.args(generate).current_dir(run.path(".")).env("GITHUB_ACTIONS", "true");
    command.env("FIREBRAND_CACHE", run.path("cache")).env("XDG_CONFIG_HOME", run.path("settings"));
    let file = std::fs::File::create(run.path("text")).unwrap();
    assert!(command.stdout(file).stderr(std::process::Stdio::null()).status().unwrap().success());
    assert_eq!(run.read("text"), exact, "a file");
    let piped = command.stdout(std::process::Stdio::piped()).output().unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    assert_eq!(piped, firebrand::terminal::printable(&exact), "the log of a build server");
}

#[test]
fn a_run_begins_in_an_empty_folder_only() {
    let run = Run::new();
    let train = ["train", "tiny.toml", "-q", "--set", "output.dir=mine"];
    for (name, text) in [
        ("config.toml", "precious"),
        ("report.html", "<p>"),
        ("artifact/thesis.txt", "mine"),
        ("run.lock", "{}"),
        (".hidden", ""),
    ] {
        let path = run.path("mine").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        for more in [&[] as &[&str], &["--resume", "never"]] {
            run.fails_with(
                2,
                &[&train[..], more].concat(),
                str![[r#"
error[run]: the run directory is not empty, and holds no run
  at mine
  because it holds `[..]`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder

"#]],
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let count = std::fs::read_dir(run.path("mine")).unwrap().count();
            assert_eq!(count, 1, "nothing was written");
        }
        std::fs::remove_dir_all(run.path("mine")).unwrap();
    }
    std::fs::create_dir_all(run.path("mine/lost+found")).unwrap();
    run.succeeds(&train);
}

#[test]
fn a_run_is_finished_when_its_own_result_verifies() {
    let run = Run::new();
    let train = ["train", "tiny.toml", "-q"];
    run.succeeds(&[&train[..], &["--stop-after-steps", "3"]].concat());
    run.succeeds(&[&train[..], &["--set", "name=other", "--set", "seed=9"]].concat());
    let artifact = run.path("checkpoints/tiny/artifact");
    let mut said = String::new();
    let mut refused = |what: &str| {
        said += &format!("# {what}\n{}\n", run.fails(1, &train));
        let listed = run.succeeds(&["runs"]);
        let line = listed.lines().find(|line| line.starts_with("tiny ")).unwrap();
        assert!(line.contains("failed") && !line.contains("finished"), "{what}: {line}");
    };
    std::fs::create_dir(&artifact).unwrap();
    refused("empty");
    std::fs::write(artifact.join("thesis.txt"), "mine").unwrap();
    refused("of others");
    std::fs::remove_dir_all(&artifact).unwrap();
    std::fs::create_dir(&artifact).unwrap();
    for entry in std::fs::read_dir(run.path("checkpoints/other/artifact")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, artifact.join(path.file_name().unwrap())).unwrap();
    }
    refused("of another run");
    says(
        said,
        str![[r#"
# empty
error[signature]: this is not, or is no longer, the result of the run
  at checkpoints/tiny/artifact
  because it has no lineage of a run

hint: move it away: the same command then makes the result from the last checkpoint

# of others
error[signature]: this is not, or is no longer, the result of the run
  at checkpoints/tiny/artifact
  because it has no lineage of a run

hint: move it away: the same command then makes the result from the last checkpoint

# of another run
error[signature]: this is not, or is no longer, the result of the run
  at checkpoints/tiny/artifact
  because its lineage names other `metrics.jsonl`

hint: move it away: the same command then makes the result from the last checkpoint


"#]],
    );
    std::fs::remove_dir_all(&artifact).unwrap();
    run.succeeds(&train);
    let finished = run.command(&train).output().unwrap();
    says(
        String::from_utf8_lossy(&finished.stderr),
        str![[r#"
this run is finished; `--resume never` would restart

"#]],
    );
    // Changed since, it is not finished; with the change gone, it is.
    let path = artifact.join("config.json");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&text[..], b" "].concat()).unwrap();
    run.fails_with(
        1,
        &train,
        str![[r#"
error[signature]: this is not, or is no longer, the result of the run
  at checkpoints/tiny/artifact
  because changed: `config.json`
  because the statement is about other files: `config.json`
  because line 1: the statement is about other files: `config.json`

hint: move it away: the same command then makes the result from the last checkpoint

"#]],
    );
    std::fs::write(&path, text).unwrap();
    run.succeeds(&train);
}

#[cfg(unix)]
#[test]
fn pipes_and_links_in_a_run_are_refused_by_whatever_reads_it() {
    use std::os::unix::fs::symlink;
    let run = Run::new();
    let train = ["train", "tiny.toml", "-q"];
    run.succeeds(&[&train[..], &["--stop-after-steps", "2"]].concat());
    let root = run.path("checkpoints/tiny");
    let mut all = String::new();
    for name in ["metrics.jsonl", "history.jsonl", "timings.jsonl", "step-00000002/state.json"] {
        let (path, kept) = (root.join(name), run.path("kept"));
        std::fs::rename(&path, &kept).unwrap();
        for (make, what) in [("pipe", "is a pipe"), ("link", "leads out of it")] {
            match make {
                "pipe" => {
                    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                    assert!(made.success());
                }
                _ => symlink("/dev/zero", &path).unwrap(),
            }
            for command in [&train[..], &["runs", "show", "checkpoints/tiny"]] {
                let said = run.fails(2, command);
                all += &format!("# {name}, {make}, {}\n{said}\n", command[0]);
            }
            let listed = run.succeeds(&["runs"]);
            assert!(listed.contains(what), "{name}: {listed}");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::rename(&kept, &path).unwrap();
    }
    says(
        all,
        str![[r#"
# metrics.jsonl, pipe, train
error[run]: `metrics.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away

# metrics.jsonl, pipe, runs
error[run]: `metrics.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away

# metrics.jsonl, link, train
error[run]: `metrics.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away

# metrics.jsonl, link, runs
error[run]: `metrics.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away

# history.jsonl, pipe, train
error[run]: `history.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/history.jsonl

hint: a run has regular files only: put the file back, or move this away

# history.jsonl, pipe, runs
error[run]: `history.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/history.jsonl

hint: a run has regular files only: put the file back, or move this away

# history.jsonl, link, train
error[run]: `history.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/history.jsonl

hint: a run has regular files only: put the file back, or move this away

# history.jsonl, link, runs
error[run]: `history.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/history.jsonl

hint: a run has regular files only: put the file back, or move this away

# timings.jsonl, pipe, train
error[run]: `timings.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/timings.jsonl

hint: a run has regular files only: put the file back, or move this away

# timings.jsonl, pipe, runs
error[run]: `timings.jsonl` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/timings.jsonl

hint: a run has regular files only: put the file back, or move this away

# timings.jsonl, link, train
error[run]: `timings.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/timings.jsonl

hint: a run has regular files only: put the file back, or move this away

# timings.jsonl, link, runs
error[run]: `timings.jsonl` in the run directory is a link that leads out of it
  at checkpoints/tiny/timings.jsonl

hint: a run has regular files only: put the file back, or move this away

# step-00000002/state.json, pipe, train
error[run]: `state.json` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/step-00000002/state.json

hint: a run has regular files only: put the file back, or move this away

# step-00000002/state.json, pipe, runs
error[run]: `state.json` in the run directory is a pipe, not a regular file
  at checkpoints/tiny/step-00000002/state.json

hint: a run has regular files only: put the file back, or move this away

# step-00000002/state.json, link, train
error[run]: `state.json` in the run directory is a link that leads out of it
  at checkpoints/tiny/step-00000002/state.json

hint: a run has regular files only: put the file back, or move this away

# step-00000002/state.json, link, runs
error[run]: `state.json` in the run directory is a link that leads out of it
  at checkpoints/tiny/step-00000002/state.json

hint: a run has regular files only: put the file back, or move this away


"#]],
    );
    // A checkpoint that is named is looked at as well.
    let state = root.join("step-00000002/state.json");
    std::fs::remove_file(&state).unwrap();
    symlink("/dev/zero", &state).unwrap();
    let from = ["--set", "name=new", "--resume", "checkpoints/tiny/step-00000002"];
    run.fails_with(
        2,
        &[&train[..], &from].concat(),
        str![[r#"
error[run]: `state.json` in the run directory is a link that leads out of it
  at checkpoints/tiny/step-00000002/state.json

hint: a run has regular files only: put the file back, or move this away

"#]],
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_lies_elsewhere_says_where() {
    let run = Run::new();
    let scratch = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(scratch.path(), run.path("scratch")).unwrap();
    let train = ["train", "tiny.toml", "-q", "--set", "output.dir=scratch/a"];
    let output = run.command(&train).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    says(
        said,
        str![[r#"
warning: `scratch/a` leads through a link out of the working folder: the run lies in [FOLDER]/a

"#]],
    );
    assert!(scratch.path().join("a/artifact").is_dir());
    // Named as it is, there is nothing to say.
    let named = format!("output.dir={}", scratch.path().join("b").display());
    let output = run.command(&["train", "tiny.toml", "-q", "--set", &named]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
    std::os::unix::fs::symlink("nowhere", run.path("gone")).unwrap();
    let gone = ["train", "tiny.toml", "-q", "--set", "output.dir=gone"];
    run.fails_with(
        2,
        &gone,
        str![[r#"
error[run]: the run directory is a link that leads nowhere
  at gone

"#]],
    );
}

#[test]
fn numbers_in_the_environment_have_bounds() {
    let run = Run::new();
    for (name, value, expected) in [
        (
            "RAYON_NUM_THREADS",
            "999999999",
            str![[r#"
error[usage]: the environment variable `RAYON_NUM_THREADS` is `999999999`
  because it is a number of threads, from 0 to 1024

hint: unset it, or set it to such a number: `unset RAYON_NUM_THREADS`

"#]],
        ),
        (
            "RAYON_NUM_THREADS",
            "-1",
            str![[r#"
error[usage]: the environment variable `RAYON_NUM_THREADS` is `-1`
  because it is a number of threads, from 0 to 1024

hint: unset it, or set it to such a number: `unset RAYON_NUM_THREADS`

"#]],
        ),
        (
            "RAYON_NUM_THREADS",
            "many",
            str![[r#"
error[usage]: the environment variable `RAYON_NUM_THREADS` is `many`
  because it is a number of threads, from 0 to 1024

hint: unset it, or set it to such a number: `unset RAYON_NUM_THREADS`

"#]],
        ),
        (
            "RUST_MIN_STACK",
            "1",
            str![[r#"
error[usage]: the environment variable `RUST_MIN_STACK` is `1`
  because it is a number of bytes for the stack of a thread, from 65536 to 1073741824

hint: unset it, or set it to such a number: `unset RUST_MIN_STACK`

"#]],
        ),
        (
            "RUST_MIN_STACK",
            "99999999999999",
            str![[r#"
error[usage]: the environment variable `RUST_MIN_STACK` is `99999999999999`
  because it is a number of bytes for the stack of a thread, from 65536 to 1073741824

hint: unset it, or set it to such a number: `unset RUST_MIN_STACK`

"#]],
        ),
    ] {
        let output = run.command(&["devices"]).env(name, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {said}");
        says(said, expected);
    }
    for value in ["", "0", "1", "1024"] {
        let output = run.command(&["plan", "tiny.toml"]).env("RAYON_NUM_THREADS", value).output();
        assert!(output.unwrap().status.success(), "{value}");
    }
}

/// What a terminal of so many columns is sent by a command; its columns are set before.
#[cfg(target_os = "linux")]
fn on_terminal(run: &Run, columns: usize, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_firebrand");
    let line = format!("stty cols {columns} rows 30; exec {program} {arguments}");
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(run.path("."));
    script.env("XDG_CONFIG_HOME", run.path("settings")).env("FIREBRAND_CACHE", run.path("cache"));
    script.env("HF_HOME", run.path("hub")).env_remove("GITHUB_ACTIONS").env_remove("TF_BUILD");
    script.env("TERM", "xterm").stdin(std::process::Stdio::null());
    let output = script.output().expect("`script` of util-linux is on this machine");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// What stands between line ends and what moves the cursor.
#[cfg(target_os = "linux")]
fn pieces(text: &str) -> Vec<&str> {
    let after = |piece: &'_ str| piece.find(|c: char| c.is_ascii_alphabetic()).map(|at| at + 1);
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next();
    let moved = pieces.map(|piece| &piece[after(piece).unwrap_or(piece.len())..]);
    first.into_iter().chain(moved).flat_map(|piece| piece.split(['\r', '\n'])).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn the_line_of_progress_fits_a_terminal_and_says_what_the_first_step_is_waited_for() {
    let run = Run::new();
    for columns in [80, 50] {
        let call = format!("train tiny.toml --set name=wide-{columns}");
        let shown = on_terminal(&run, columns, &call);
        let lines = pieces(&shown);
        let is_bar = |line: &&str| line.get(1..4) == Some("/6 ");
        let bars: Vec<&str> = lines.into_iter().filter(is_bar).collect();
        for line in &bars {
            let width = line.trim_end().chars().count();
            assert!(width <= columns, "{width} columns of {columns}: {line}");
        }
        let first = bars.first().expect("there is a bar");
        assert!(first.starts_with("0/6"), "{first}");
        assert!(bars.iter().any(|line| line.contains("step 1")), "{bars:?}");
        assert!(bars.iter().any(|line| line.contains("loss")), "{bars:?}");
    }
}

/// For programs that collect logs: everything on stderr is a line of JSON.
#[test]
fn messages_are_lines_of_json_where_that_is_asked_for() {
    let run = Run::new();
    let lines = |arguments: &[&str], code: i32| -> Vec<serde_json::Value> {
        let output = run.command(arguments).env("FIREBRAND_LOG_FORMAT", "json").output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let text = String::from_utf8(output.stderr).unwrap();
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        text.lines().map(line).collect()
    };
    let all = lines(&["train", "tiny.toml", "--set", "name=json"], 0);
    assert!(all.iter().all(|line| line["time"].is_string() && line["message"].is_string()));
    let of = |event: &'static str| all.iter().filter(move |line| line["event"] == event);
    let metrics = run.read("checkpoints/json/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    assert!(!steps.is_empty());
    let losses: Vec<f64> = of("step").map(|line| line["step"]["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses, steps.iter().map(|step| step.loss).collect::<Vec<_>>());
    assert!(of("step").all(|line| line["timing"]["step_seconds"].as_f64().unwrap() > 0.0));
    assert!(of("validation").count() > 0);
    let wrong = lines(&["train", "tiny.toml", "--set", "seed=x"], 2);
    let error = wrong.last().unwrap();
    assert_eq!((&error["level"], &error["code"]), (&"error".into(), &"config".into()));
    let output = run.command(&["runs", "."]).env("FIREBRAND_LOG_FORMAT", "yaml").output().unwrap();
    says(
        String::from_utf8(output.stderr).unwrap(),
        str![[r#"
error[usage]: the environment variable `FIREBRAND_LOG_FORMAT` is `yaml`

hint: set it to `text` or `json`, or unset it

"#]],
    );
}

/// A program hears how a run ended; whatever it does, the run has ended so.
#[cfg(unix)]
#[test]
fn a_program_is_told_how_a_run_ended() {
    let run = Run::new();
    let tell = r#"["sh", "-c", "cat >> told.jsonl"]"#;
    let train = ["train", "tiny.toml", "--set", "name=told", "--notify", tell];
    run.succeeds(&[&train[..], &["--stop-after-steps", "2"]].concat());
    run.succeeds(&train);
    run.fails(2, &[&train[..], &["--set", "seed=x"]].concat());
    // What is finished already is no news.
    run.succeeds(&train);
    let told = run.read("told.jsonl");
    let told: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = told.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["interrupted", "finished", "failed"]);
    assert_eq!(told[0]["step"], 2);
    assert_eq!(told[1]["artifact"], "checkpoints/told/artifact");
    assert_eq!(told[2]["error"]["code"], "config");
    let failing = ["train", "tiny.toml", "--set", "name=other", "--notify", "no-such-program"];
    let said = run.stderr_of(&failing);
    let warning = said.lines().find(|line| line.starts_with("warning: nobody")).unwrap();
    assert!(warning.starts_with("warning: nobody was told how the run ended: cannot start"));
}
