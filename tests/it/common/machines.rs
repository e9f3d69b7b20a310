//! Machines that share a store and nothing else: each is a folder of its own with a cache of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Run;
use super::s3::S3Server;

/// Machines of one user: they have the same key.
pub struct Machines {
    settings: tempfile::TempDir,
    /// What their environment says beside that.
    pub variables: Vec<(&'static str, String)>,
}

impl Machines {
    pub fn new(server: Option<&S3Server>) -> Self {
        let variables = server.map(|it| it.variables().to_vec()).unwrap_or_default();
        let own = Self { settings: tempfile::tempdir().unwrap(), variables };
        // A key is made before several would make one.
        let first = ["train", "tiny.toml", "--quiet", "--set", "train.max_steps=1"];
        own.succeeds(&own.machine(), &first);
        own
    }

    /// One more.
    pub fn machine(&self) -> Run {
        Run::new()
    }

    /// What a command says and how it ends.
    pub fn output(&self, machine: &Run, arguments: &[&str]) -> std::process::Output {
        let mut command = machine.command(arguments).env("XDG_CONFIG_HOME", self.settings.path());
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        command.output().unwrap()
    }

    /// Its stdout and stderr.
    #[track_caller]
    pub fn succeeds(&self, machine: &Run, arguments: &[&str]) -> (String, String) {
        let output = self.output(machine, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    /// Runs a command that must fail; returns its stderr.
    #[track_caller]
    pub fn fails(&self, machine: &Run, arguments: &[&str]) -> String {
        let output = self.output(machine, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A worker of a sweep.
    pub fn worker(&self, machine: &Run, arguments: &[&str]) -> Child {
        let worker = [&["sweep", "run", "sweeps/sweep"], arguments].concat();
        self.process(machine, &worker).spawn().unwrap()
    }

    /// A process that is not waited for.
    pub fn process(&self, machine: &Run, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebrand"));
        command
            .args(arguments)
            .current_dir(machine.path("."))
            .env("XDG_CONFIG_HOME", self.settings.path())
            .env("FIREBRAND_CACHE", machine.path("cache"))
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// Whether a line begins so.
pub fn has_line(text: &str, begin: &str) -> bool {
    text.lines().any(|line| line.starts_with(begin))
}

/// Steps that processes of a run have computed in a folder.
pub fn computed(run: &Path) -> usize {
    std::fs::read_to_string(run.join("timings.jsonl")).unwrap_or_default().lines().count()
}

/// Plans a sweep in the folder of a machine; its manifest.
pub fn plan(machines: &Machines, machine: &Run, sweep: &str) -> Value {
    machine.write("sweep.toml", sweep);
    machines.succeeds(machine, &["sweep", "plan", "sweep.toml"]);
    serde_json::from_str(&machine.read("sweeps/sweep/manifest.json")).unwrap()
}

/// The names of its points, in their order.
pub fn ids(manifest: &Value) -> Vec<String> {
    let points = manifest["points"].as_array().unwrap();
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}
