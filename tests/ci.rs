//! The CI example works as it is written: its own shell steps, run in order against a test hub.

mod common;
#[path = "common/hub.rs"]
mod hub;

use std::path::Path;
use std::process::Command;

use common::{Run, conversations, repository};
use hub::Hub;
use yaml_rust2::{Yaml, YamlLoader};

/// A repository with the configuration, and the bare one that it pushes to.
struct Repository {
    run: Run,
    hub: Hub,
}

/// What a night came to: the summary, and whether the steps after the pull were run.
struct Night {
    summary: String,
    trained: bool,
}

impl Repository {
    fn new() -> Self {
        let run = Run::new();
        run.write(
            "nightly.toml",
            &common::TINY
                .replace("data.jsonl", "o/d")
                .replace("[[data.validation]]\npath = \"validation.jsonl\"\n", ""),
        );
        run.write(
            ".gitignore",
            "checkpoints\nsettings\ncache\nhub\norigin\nchanges.txt\n*.before\n",
        );
        let repository = Self { run, hub: Hub::start() };
        repository.shell(
            "git init --quiet --bare origin && git init --quiet . && git add . && \
             git -c user.name=a -c user.email=a@b commit --quiet -m first && \
             git remote add origin ./origin && git push --quiet -u origin HEAD",
        );
        repository
    }

    fn shell(&self, script: &str) {
        let status = Command::new("bash")
            .args(["-ec", script])
            .current_dir(self.run.path("."))
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    /// Runs the shell steps of the workflow as a runner would.
    fn night(&self) -> Night {
        let text = std::fs::read_to_string(repository("examples/ci/github-nightly.yml")).unwrap();
        let workflow = YamlLoader::load_from_str(&text).unwrap().remove(0);
        for file in ["summary", "output"] {
            self.run.write(file, "");
        }
        let mut trained = false;
        for step in workflow["jobs"]["train"]["steps"].as_vec().unwrap() {
            let Some(script) = step["run"].as_str() else {
                assert!(step["uses"].as_str().unwrap().starts_with("actions/"), "{step:?}");
                continue;
            };
            if step["name"].as_str() == Some("Install") || !self.applies(step) {
                continue;
            }
            trained |= script.contains("firebrand train");
            let output = self.step(&workflow, script);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{script}\n{said}");
        }
        Night { summary: self.run.read("summary"), trained }
    }

    /// The one kind of condition that the workflow uses.
    fn applies(&self, step: &Yaml) -> bool {
        match step["if"].as_str() {
            None => true,
            Some("steps.pull.outputs.changed == 'true'") => {
                self.run.read("output").contains("changed=true")
            }
            Some(other) => panic!("what is `{other}`?"),
        }
    }

    fn step(&self, workflow: &Yaml, script: &str) -> std::process::Output {
        let binary = Path::new(env!("CARGO_BIN_EXE_firebrand")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(self.run.path("."))
            .env("PATH", path)
            .env("GITHUB_STEP_SUMMARY", self.run.path("summary"))
            .env("GITHUB_OUTPUT", self.run.path("output"))
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("HF_HOME", self.run.path("hub"))
            .env("FIREBRAND_CACHE", self.run.path("cache"))
            .env("XDG_CONFIG_HOME", self.run.path("settings"));
        for (name, value) in workflow["env"].as_hash().unwrap() {
            let value = value.as_str().unwrap();
            if !value.contains("secrets.") {
                command.env(name.as_str().unwrap(), value);
            }
        }
        command.output().unwrap()
    }
}

#[test]
fn the_nightly_workflow_trains_on_new_data_and_on_nothing_else() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no git to commit the lock with");
        return;
    }
    let repository = Repository::new();
    let add = |count: usize| {
        repository.hub.add("datasets/o/d", "main", &[("train.jsonl", conversations(count))]);
    };
    add(20);
    let first = repository.night();
    assert!(first.trained && first.summary.contains("20 rows"), "{}", first.summary);
    assert!(first.summary.contains("verified"), "{}", first.summary);
    let second = repository.night();
    assert!(!second.trained && second.summary.contains("Nothing new"), "{}", second.summary);
    add(23);
    let third = repository.night();
    assert!(third.trained && third.summary.contains("20 -> 23 rows"), "{}", third.summary);
    let lock = repository.run.read("nightly.lock");
    let inputs = repository.run.read("checkpoints/nightly/artifact/lineage.inputs.json");
    let commit = lock.split("commit = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(inputs.contains(commit), "{inputs}");
    let log = Command::new("git")
        .args(["log", "--oneline"])
        .current_dir(repository.run.path("."))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&log.stdout).lines().count(), 3, "two locks were kept");
}
