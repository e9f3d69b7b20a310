//! `firebrand mcp` as a client meets it: the protocol, line by line, with the real program.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Run, each_says, says};
use serde_json::{Value, json};
use snapbox::str;

/// A server and its client.
struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Session {
    /// A server in the folder of a run, before anything was said.
    fn start(run: &Run, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_firebrand"))
            .arg("mcp")
            .args(arguments)
            .current_dir(run.path(""))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .env("HF_HOME", run.path("hub"))
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env_remove("HF_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, next: 0 }
    }

    /// The same after the first words of the protocol.
    fn open(run: &Run, arguments: &[&str]) -> Self {
        let mut session = Self::start(run, arguments);
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        });
        let answer = session.ask("initialize", hello);
        let result = &answer["result"];
        assert_eq!(result["serverInfo"]["name"], "firebrand", "{answer}");
        assert_eq!(result["protocolVersion"], "2025-06-18", "{answer}");
        assert!(result["capabilities"]["tools"].is_object(), "{answer}");
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        session
    }

    fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").and_then(|()| input.flush()).unwrap();
    }

    /// The next line, which is JSON whatever was asked.
    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters});
        self.send(&request.to_string());
        loop {
            let answer = self.read();
            if answer["id"] == id {
                return answer;
            }
        }
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The structured result of a call that must be done; it fits the schema of the tool, and is
    /// text as well, for clients that know no structure.
    #[track_caller]
    fn does(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments);
        let result = &answer["result"];
        assert_eq!(result["isError"], false, "{tool}: {answer}");
        let structured = result["structuredContent"].clone();
        let text: Value =
            serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, structured);
        let tools = self.ask("tools/list", json!({}));
        let all = tools["result"]["tools"].as_array().unwrap();
        let schema = &all.iter().find(|it| it["name"] == tool).unwrap()["outputSchema"];
        let validator = jsonschema::validator_for(schema).unwrap();
        let problems: Vec<_> =
            validator.iter_errors(&structured).map(|it| it.to_string()).collect();
        assert!(problems.is_empty(), "{tool}: {problems:?}");
        structured
    }

    /// What a call says that must not be done.
    #[track_caller]
    fn refuses(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }

    fn tools(&mut self) -> Vec<String> {
        let answer = self.ask("tools/list", json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Asks how a run is doing, until it is in this state.
    fn until(&mut self, run: &str, state: &str) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.does("status", json!({"run": run}));
            if status["state"] == state {
                return status;
            }
            assert!(begun.elapsed() < crate::common::wait::NEVER, "{status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same, until a run at work has made this step.
    fn until_step(&mut self, run: &str, step: u64) {
        let begun = Instant::now();
        loop {
            let status = self.does("status", json!({"run": run}));
            assert_eq!(status["state"], "running", "{status}");
            if status["step"].as_u64() >= Some(step) {
                return;
            }
            assert!(begun.elapsed() < crate::common::wait::NEVER, "{status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The client goes away, and the server after it.
    fn close(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_reads_only_unless_more_is_allowed() {
    let run = Run::new();
    let mut session = Session::open(&run, &[]);
    let reading =
        ["plan", "settings", "runs_list", "status", "runs_compare", "verify", "lineage", "scan"];
    assert_eq!(session.tools(), reading);
    let answer = session.ask("tools/list", json!({}));
    for tool in answer["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
    }
    let refused = ["train", "resume", "stop", "eval"].map(|tool| session.refuses(tool, json!({})));
    each_says(
        refused,
        str![[r#"
error[usage]: the tool `train` is not allowed here
  because this server reads only, but for what it was told to allow

hint: whoever starts it allows it with `firebrand mcp --allow train`
error[usage]: the tool `resume` is not allowed here
  because this server reads only, but for what it was told to allow

hint: whoever starts it allows it with `firebrand mcp --allow train`
error[usage]: the tool `stop` is not allowed here
  because this server reads only, but for what it was told to allow

hint: whoever starts it allows it with `firebrand mcp --allow train`
error[usage]: the tool `eval` is not allowed here
  because this server reads only, but for what it was told to allow

hint: whoever starts it allows it with `firebrand mcp --allow eval`
"#]],
    );
    assert!(!run.path("checkpoints").exists());
    session.close();
    let mut session = Session::open(&run, &["--allow", "train,eval"]);
    assert_eq!(session.tools()[8..], ["eval", "train", "resume", "stop"]);
    session.close();
}

#[test]
fn what_is_no_request_is_answered_or_passed_over_and_the_server_goes_on() {
    let run = Run::new();
    let mut session = Session::open(&run, &[]);
    let answer = session.call("no\u{1b}[2Jsuch", json!({}));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["message"], "there is no tool `no\\u{1b}[2Jsuch`");
    assert_eq!(session.ask("no/such", json!({}))["error"]["code"], -32601);
    session.send("this is not JSON");
    session.send("{\"jsonrpc\": \"2.0\", \"method\": 3}");
    session.send(&format!("\"{}\"", "x".repeat(1 << 20)));
    assert!(session.ask("ping", json!({}))["result"].is_object());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    session.send(&format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":\"d\",\"method\":\"tools/call\",\"params\":{{\"name\":\
         \"plan\",\"arguments\":{{\"config\":{deep}}}}}}}"
    ));
    assert!(session.ask("ping", json!({}))["result"].is_object());
    session.close();
}

#[test]
fn arguments_are_hostile_and_stay_in_the_folder() {
    let run = Run::new().with_base();
    std::fs::create_dir(run.path("inside")).unwrap();
    let data = "[[data.train]]\npath = \"d.jsonl\"\n";
    run.write("inside/a.toml", &format!("[model]\nbase = \"../base\"\n{data}"));
    run.write(
        "inside/b.toml",
        "[model]\nbase = \"base\"\n[[data.train]]\npath = \"/etc/passwd\"\n",
    );
    #[cfg(unix)]
    std::os::unix::fs::symlink("../checkpoints", run.path("inside/out")).unwrap();
    let mut session = Session::open(&run, &["--root", "inside", "--allow", "train"]);
    let mut said = vec![session.refuses("plan", json!({"config": 3, "mode": "fast"}))];
    said.push(session.refuses("plan", json!({"config": "../tiny.toml"})));
    said.push(session.refuses("plan", json!({"config": "a.toml"})));
    said.push(session.refuses("train", json!({"config": "b.toml"})));
    said.push(session.refuses("verify", json!({"model": "/etc"})));
    #[cfg(unix)]
    said.push(session.refuses("status", json!({"run": "out/tiny"})));
    said.push(session.refuses("runs_list", json!({"folder": ".."})));
    run.write("inside/c.toml", "[model]\nbase = \"base\"\n[[data.train]]\npath = \"d.jsonl\"\n");
    said.push(
        session.refuses("plan", json!({"config": "c.toml", "set": ["output.dir=/nowhere/x"]})),
    );
    let signer = "output.signer=[\"sh\", \"-c\", \"touch pwned\"]";
    said.push(session.refuses("train", json!({"config": "c.toml", "set": [signer]})));
    // What looks like an option is a name.
    let report = session.does("verify", json!({"model": "--help"}));
    assert_eq!(report["directory"], "--help", "{report}");
    assert_ne!(report["verdict"], "verified", "{report}");
    let root = std::fs::canonicalize(run.path("inside")).unwrap().display().to_string();
    each_says(
        said.into_iter().map(|said| said.replace(&root, "[ROOT]")),
        str![[r#"
error[usage]: the arguments do not fit the tool
  because /config: 3 is not of type "string"
  because Additional properties are not allowed ('mode' was unexpected)

hint: its input schema says what it takes
error[usage]: the path is not within the folder of this server
  at ../tiny.toml
  because it has a part `..`

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at ../base
  because it has a part `..`
  because `model.base` is `../base`

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at /etc/passwd
  because it leads out of it
  because `data.train.path` is `/etc/passwd`

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at /etc
  because it leads out of it

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at out/tiny
  because it leads out of it

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at ..
  because it has a part `..`

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at /nowhere/x
  because it is elsewhere
  because `output.dir` is `/nowhere/x`

hint: name a path below [ROOT]
error[usage]: `output.signer` names a program to run
  because this server runs no programs that settings name

hint: start it with `--allow programs`, or leave the key out
"#]],
    );
    assert!(!run.path("inside/pwned").exists() && !run.path("inside/checkpoints").exists());
    session.close();
}

/// A link in the place of the settings of a run leads to no other file, and a store is reached
/// through the network.
#[cfg(unix)]
#[test]
fn settings_elsewhere_and_stores_in_the_network_are_refused() {
    let run = Run::new().with_base();
    std::fs::create_dir_all(run.path("inside/checkpoints/linked")).unwrap();
    run.write("inside/checkpoints/linked/run.lock", "");
    let link = run.path("inside/checkpoints/linked/config.toml");
    std::os::unix::fs::symlink("../../../tiny.toml", link).unwrap();
    run.write("inside/c.toml", "[model]\nbase = \"base\"\n[[data.train]]\npath = \"d.jsonl\"\n");
    let mut session = Session::open(&run, &["--root", "inside", "--allow", "train"]);
    let mirror = "output.mirror=s3://bucket/runs";
    let said = [
        session.refuses("plan", json!({"config": "linked"})),
        session.refuses("resume", json!({"run": "linked"})),
        session.refuses("plan", json!({"config": "c.toml", "set": [mirror]})),
    ];
    session.close();
    let root = std::fs::canonicalize(run.path("inside")).unwrap().display().to_string();
    each_says(
        said.into_iter().map(|said| said.replace(&root, "[ROOT]")),
        str![[r#"
error[usage]: the path is not within the folder of this server
  at checkpoints/linked/config.toml
  because it leads out of it

hint: name a path below [ROOT]
error[usage]: the path is not within the folder of this server
  at [ROOT]/checkpoints/linked/config.toml
  because it leads out of it

hint: name a path below [ROOT]
error[usage]: `output.mirror` is a store in the network
  at s3://bucket/runs
  because this server does not use the network

hint: start it with `--allow network`, or name a folder
"#]],
    );
}

#[test]
fn a_run_is_planned_trained_watched_and_looked_at() {
    let run = Run::with_suite(SUITE);
    let mut session = Session::open(&run, &["--allow", "train,eval"]);
    let plan = session.does("plan", json!({"config": "tiny.toml", "set": ["train.max_steps=4"]}));
    assert_eq!((&plan["steps"], &plan["config"]["train.max_steps"]), (&json!(4), &json!("4")));
    let status = session.does("train", json!({"config": "lora.toml", "set": ["name=mine"]}));
    assert_eq!(status["name"], "mine", "{status}");
    let status = session.until("mine", "finished");
    assert_eq!((&status["step"], &status["steps"]), (&json!(5), &json!(5)));
    assert!(status["loss"].is_f64() && status["validation"]["eval_loss"].is_f64(), "{status}");
    let process = &status["process"];
    assert_eq!((&process["running"], &process["exit_code"]), (&json!(false), &json!(0)));
    let samples = status["samples"].as_array().unwrap();
    assert_eq!(samples[0]["prompt"], "What is 3 plus 4?");
    let runs = session.does("runs_list", json!({}))["runs"].clone();
    let states: Vec<_> =
        runs.as_array().unwrap().iter().map(|run| (&run["name"], &run["state"])).collect();
    let finished = json!("finished");
    assert_eq!(states, [(&json!("mine"), &finished), (&json!("tiny"), &finished)]);
    let both = session.does("runs_compare", json!({"one": "tiny", "other": "mine"}));
    assert_eq!(both["settings"]["train.max_steps"], json!(["6", "5"]));
    let verified = session.does("verify", json!({"model": "checkpoints/mine"}));
    assert_eq!(verified["verdict"], "verified", "{verified}");
    let lineage = session.does("lineage", json!({"model": "checkpoints/mine"}));
    assert!(lineage.to_string().contains("lora"), "{lineage}");
    session.does("scan", json!({"model": "checkpoints/mine/artifact"}));
    let report = session.does("eval", json!({"model": "checkpoints/mine", "suite": "eval.toml"}));
    assert!(report["metrics"].is_object(), "{report}");
    // A no is an answer as well.
    run.write("checkpoints/mine/artifact/extra.py", "print()");
    let verified = session.does("verify", json!({"model": "checkpoints/mine"}));
    assert_ne!(verified["verdict"], "verified", "{verified}");
    session.close();
}

const SUITE: &str = "
[data]
path = \"judged.jsonl\"
max_seq_len = 96
";

#[test]
fn a_run_is_stopped_and_resumed_and_goes_on_without_the_server() {
    let run = Run::new();
    let mut session = Session::open(&run, &["--allow", "train"]);
    let long = json!(["train.max_steps=100000", "checkpoint.every_steps=50000"]);
    let status = session.does("train", json!({"config": "tiny.toml", "set": long}));
    assert_eq!(status["state"], "running", "{status}");
    let second = session.refuses("train", json!({"config": "tiny.toml", "set": ["name=b"]}));
    let folder = std::fs::canonicalize(run.path("")).unwrap().display().to_string();
    says(
        second.replace(&folder, "[ROOT]"),
        str![[r#"
error[already-running]: the run in [ROOT]/checkpoints/tiny is at work
  because this server starts one run at a time

hint: wait for it (`status`), or stop it (`stop`)
"#]],
    );
    session.until_step("tiny", 1);
    let status = session.does("stop", json!({"run": "tiny"}));
    assert_eq!(
        (&status["state"], &status["process"]["exit_code"]),
        (&json!("interrupted"), &json!(143))
    );
    assert!(status["saved_step"].as_u64().unwrap() > 0, "{status}");
    let error = session.refuses("stop", json!({"run": "tiny"}));
    says(
        error.replace(&folder, "[ROOT]"),
        str![[r#"
error[run]: no run of this server is at work there
  at [ROOT]/checkpoints/tiny

hint: a run that somebody else has started is stopped where it was started
"#]],
    );
    let resumed = session.does("resume", json!({"run": "tiny"}));
    let pid = i32::try_from(resumed["process"]["id"].as_u64().unwrap()).unwrap();
    let step = session.does("status", json!({"run": "tiny"}))["step"].as_u64().unwrap();
    session.close();
    // Another server finds it at work.
    let mut session = Session::open(&run, &[]);
    session.until_step("tiny", step + 1);
    session.close();
    #[cfg(unix)]
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn a_run_that_cannot_begin_fails_with_what_it_said() {
    let run = Run::new();
    let mut session = Session::open(&run, &["--allow", "train"]);
    run.write("data.jsonl", "{}\n");
    let status = session.does("train", json!({"config": "tiny.toml"}));
    assert_eq!(status["state"], "failed", "{status}");
    let lines = status["process"]["messages"].to_string();
    assert!(lines.contains("error[data]"), "{lines}");
    assert_eq!(status["process"]["exit_code"], 2);
    session.close();
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let run = Run::new();
    run.fails_with(
        2,
        &["mcp", "--root", "nowhere"],
        str![[r#"
error[file]: cannot find the folder for `--root`
  at nowhere
  because No such file or directory (os error 2)

"#]],
    );
    run.fails_with(
        2,
        &["mcp", "--root", "tiny.toml"],
        str![[r#"
error[usage]: `--root` is not a folder
  at tiny.toml

"#]],
    );
    run.fails_with(
        2,
        &["mcp", "--allow", "everything"],
        str![[r#"
error: invalid value 'everything' for '--allow <WHAT>'
  [possible values: train, eval, network, programs]

For more information, try '--help'.

"#]],
    );
}
