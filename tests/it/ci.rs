//! The CI recipes work as they are written: they fit the official schemas, every call of the
//! program in them is understood, and their own shell steps are run in order against a test hub.

use crate::common::hub;
use crate::common::recipe;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::{Run, conversations, repository, say_not_tested, says, wait, without_progress};
use hub::Hub;
use recipe::{calls, documents, json};
use serde_json::Value;
use yaml_rust2::Yaml;

const FILES: [(&str, &str); 4] = [
    ("github-nightly.yml", "github-workflow"),
    ("github-pull-request.yml", "github-workflow"),
    ("github-review.yml", "github-workflow"),
    ("gitlab-ci.yml", "gitlab-ci"),
];

/// Overlays of examples/kubernetes, and what Kustomize makes of them: kept as files, since not
/// every machine has it.
const OVERLAYS: [&str; 2] = ["once", "nightly"];

fn rendered(overlay: &str) -> String {
    let path = repository("tests/fixtures/kubernetes").join(format!("{overlay}.yml"));
    std::fs::read_to_string(path).unwrap()
}

/// The document of a kind, and of a name if there are several.
fn document(overlay: &str, kind: &str, name: &str) -> Yaml {
    let found = documents(&rendered(overlay)).into_iter().find(|it| {
        let named = it["metadata"]["name"].as_str().unwrap();
        it["kind"].as_str() == Some(kind) && named.starts_with(name)
    });
    found.unwrap_or_else(|| panic!("{overlay} has no {kind} {name}"))
}

fn example(name: &str) -> String {
    std::fs::read_to_string(repository("examples/ci").join(name)).unwrap()
}

fn schema(name: &str) -> jsonschema::Validator {
    let path = repository("tests/fixtures/ci-schemas").join(format!("{name}.json"));
    let text = std::fs::read_to_string(path).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_files_fit_the_official_schemas() {
    for (file, kind) in FILES {
        let validator = schema(kind);
        for document in documents(&example(file)) {
            let value = json(&document);
            let problems: Vec<String> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{file}: {problems:?}");
        }
    }
    let kubernetes = schema("kubernetes");
    for overlay in OVERLAYS {
        for document in documents(&rendered(overlay)) {
            let value = json(&document);
            let problems: Vec<String> =
                kubernetes.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{overlay}: {problems:?}");
        }
    }
    for (overlay, right, wrong) in
        [("once", "backoffLimit:", "backOffLimit:"), ("nightly", "action: Ignore", "act: Ignore")]
    {
        let bent = rendered(overlay).replace(right, wrong);
        assert!(documents(&bent).iter().any(|it| !kubernetes.is_valid(&json(it))), "{overlay}");
    }
    for file in [".github/workflows/platforms.yml", ".github/workflows/release.yml"] {
        let text = std::fs::read_to_string(repository(file)).unwrap();
        let validator = schema("github-workflow");
        let problems: Vec<String> = documents(&text)
            .iter()
            .flat_map(|it| {
                validator.iter_errors(&json(it)).map(|e| e.to_string()).collect::<Vec<_>>()
            })
            .collect();
        assert!(problems.is_empty(), "{file}: {problems:?}");
    }
    // The schemas do find mistakes.
    for (file, kind, right, wrong) in [
        ("github-nightly.yml", "github-workflow", "runs-on:", "run-on:"),
        ("gitlab-ci.yml", "gitlab-ci", "when: always", "when: often"),
    ] {
        let text = example(file);
        let bent = text.replace(right, wrong);
        assert_ne!(text, bent);
        let validator = schema(kind);
        assert!(documents(&bent).iter().any(|it| !validator.is_valid(&json(it))), "{file}");
    }
}

#[test]
fn every_call_of_the_program_in_the_recipes_is_understood() {
    let files = ["examples/ci", "tests/fixtures/kubernetes"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(repository(folder)).unwrap());
    let mut commands = BTreeSet::new();
    for file in files.map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in calls(&text) {
            let known = |words: &[String]| {
                let words = std::iter::once("firebrand").chain(words.iter().map(String::as_str));
                firebrand::cli::understands(words.map(OsString::from))
            };
            assert_eq!(known(&call), Ok(()), "{}: {call:?}", file.display());
            commands.insert(call[0].clone());
        }
    }
    let expected = [
        "cache", "data", "gate", "keygen", "promote", "pull", "resolve", "review", "train",
        "verify", "watch",
    ];
    assert_eq!(commands.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let wrong = calls("x | firebrand train a.toml --lockde; firebrand pull \"$CONFIG\" --quiet\n");
    assert_eq!(
        wrong,
        [
            ["train", "a.toml", "--lockde"].map(str::to_owned),
            ["pull", "$CONFIG", "--quiet"].map(str::to_owned)
        ]
    );
}

/// What the tests of this file run is what Kustomize makes of the examples.
#[test]
fn kustomize_makes_of_the_overlays_what_is_tested() {
    let build = |overlay: &str| {
        let folder = repository("examples/kubernetes/overlays").join(overlay);
        let mut tools = [("kubectl", "kustomize"), ("kustomize", "build")].into_iter();
        tools.find_map(|(tool, word)| Command::new(tool).arg(word).arg(&folder).output().ok())
    };
    for overlay in OVERLAYS {
        let Some(output) = build(overlay) else {
            say_not_tested("the overlays: there is neither `kubectl` nor `kustomize` here");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{overlay}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
            let path = repository("tests/fixtures/kubernetes").join(format!("{overlay}.yml"));
            std::fs::write(path, &text).unwrap();
        }
        let all = |text: &str| documents(text).iter().map(json).collect::<Vec<_>>();
        assert_eq!(all(&text), all(&rendered(overlay)), "{overlay}");
    }
}

/// Without Kustomize, too: what is said once is not said again, and every file is one of a
/// kustomization.
#[test]
fn the_overlays_say_only_what_is_their_own() {
    let root = repository("examples/kubernetes");
    let mut folders = vec![root.clone()];
    let (mut files, mut named) = (BTreeSet::new(), BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            let common = entry.ends_with("components/pod/pod.yaml");
            for line in ["workingDir:", "envFrom:", "volumeMounts:", "image:", "runAsNonRoot:"] {
                let again =
                    text.lines().any(|it| it.trim_start_matches(['-', ' ']).starts_with(line));
                assert!(common || !again, "{}: `{line}` is in pod.yaml", entry.display());
            }
            if !entry.ends_with("kustomization.yaml") {
                files.insert(std::fs::canonicalize(&entry).unwrap());
                continue;
            }
            let [document] = &documents(&text)[..] else { panic!("one document") };
            let value = json(document);
            for list in ["resources", "components", "replacements"] {
                for item in value[list].as_array().into_iter().flatten() {
                    let path = item.as_str().or(item["path"].as_str()).unwrap();
                    named.insert(std::fs::canonicalize(folder.join(path)).unwrap());
                }
            }
        }
    }
    assert!(files.len() > 5 && files.is_subset(&named), "{files:?} {named:?}");
}

/// As `.github/workflows/release.yml` makes a release, and as its users check it.
#[cfg(target_os = "linux")]
#[test]
fn a_release_is_packed_sealed_and_checked() {
    let run = Run::new();
    let program = env!("CARGO_BIN_EXE_firebrand");
    let script = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(repository(name));
        let output = command.args(arguments).current_dir(run.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run.succeeds(&["keygen", "release.pem"]);
    let target = "x86_64-unknown-linux-gnu";
    let archive = script(".ci/package", &[program, target, "dist"]);
    let name = format!("firebrand-{}-{target}", env!("CARGO_PKG_VERSION"));
    assert!(archive.trim_end().ends_with(&format!("/dist/{name}.tar.gz")), "{archive}");
    script(".ci/seal", &[program, "dist", "release.pem"]);
    // A user has one archive, the sums and the signature.
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(run.path("dist")).output().unwrap()
    };
    let check = "sha256sum --check --ignore-missing SHA256SUMS";
    assert!(shell(check).status.success());
    assert!(shell("mkdir sums && cp SHA256SUMS model.sig sums/").status.success());
    run.succeeds(&["verify", "dist/sums", "--key", "release.pub.pem"]);
    let unpacked = shell(&format!("tar -xzf {name}.tar.gz && ls {name} {name}/completions"));
    says(
        String::from_utf8(unpacked.stdout).unwrap(),
        snapbox::str![[r#"
firebrand-0.1.0-x86_64-unknown-linux-gnu:
CHANGELOG.md
LICENSE-APACHE
LICENSE-MIT
README.md
completions
firebrand
man1

firebrand-0.1.0-x86_64-unknown-linux-gnu/completions:
firebrand.bash
firebrand.elvish
firebrand.fish
firebrand.powershell
firebrand.zsh

"#]],
    );
    let version = shell(&format!("{name}/firebrand --version && ls {name}/man1 | head -3"));
    says(
        String::from_utf8(version.stdout).unwrap(),
        snapbox::str![[r#"
firebrand 0.1.0
firebrand-allowlist.1
firebrand-cache.1
firebrand-chat.1

"#]],
    );
    // Another archive under the same name, and other sums.
    assert!(shell(&format!("printf x >> {name}.tar.gz")).status.success());
    assert!(!shell(check).status.success());
    assert!(shell(&format!("sha256sum {name}.tar.gz > sums/SHA256SUMS")).status.success());
    run.fails(1, &["verify", "dist/sums", "--key", "release.pub.pem"]);
}

/// What stands for a service: releases and packages lie in a folder.
const GH: &str = r#"#!/bin/sh
case "$1 $2" in
  "release view") [ -d "$STORE/$3" ] ;;
  "release create") mkdir "$STORE/$3" && cp "$4" "$STORE/$3/" ;;
  "release download") [ "$4 $6 $7" = "--pattern --output -" ] && cat "$STORE/$3/$5" ;;
  "pr comment") [ "$4" = --body-file ] && cp "$5" "$STORE/comment-$3" ;;
  *) echo "gh $*" >&2; exit 64 ;;
esac
"#;
const CURL: &str = r#"#!/bin/sh
up=""; body=""
while [ $# -gt 1 ]; do
  case "$1" in
    --fail|--silent|--show-error|--location) ;;
    --header|--output) shift ;;
    --upload-file) up=$2; shift ;;
    --data-urlencode) body=${2#body@}; shift ;;
    *) echo "curl $1" >&2; exit 64 ;;
  esac
  shift
done
file="$STORE/$(echo "$1" | tr '/:' '__')"
if [ -n "$up" ]; then cp "$up" "$file"; elif [ -n "$body" ]; then cp "$body" "$file"; else cat "$file"; fi
"#;

/// A repository with the configuration, and the bare one that it pushes to.
struct Repository {
    run: Run,
    hub: Hub,
}

/// What a night came to: the summary, whether it trained, and how it ended.
struct Night {
    summary: String,
    trained: bool,
    ended: Result<(), String>,
}

impl Repository {
    fn new() -> Self {
        let run = Run::new();
        let nightly = crate::common::TINY.replace("data.jsonl", "o/d");
        let validation = "[[data.validation]]\npath = \"validation.jsonl\"\n";
        run.write("nightly.toml", &nightly.replace(validation, ""));
        run.write("eval.toml", "bootstrap = 0\n[data]\npath = \"judged.jsonl\"\n");
        // None of the records that any night learns from.
        run.write("judged.jsonl", &conversations(46)[conversations(40).len()..]);
        run.write("watch.toml", &example("watch.toml"));
        run.write(
            "gate.toml",
            "[eval]\nsuite = \"eval.toml\"\n[[metric]]\nname = \"loss\"\nmax_regression = 0.5\n\
             [checks]\n",
        );
        let ignored = "checkpoints settings cache hub origin store bin tmp summary output .cache \
                       gate.xml cloud";
        run.write(".gitignore", &ignored.replace(' ', "\n"));
        for folder in ["store", "bin", "tmp"] {
            std::fs::create_dir(run.path(folder)).unwrap();
        }
        // The program, with a note of every gate.
        let firebrand = format!(
            "#!/bin/sh\n[ \"$1\" != gate ] || printf '%s\\n' \"$*\" >> \"$STORE/gates\"\n\
             exec '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_firebrand")
        );
        let repository = Self { run, hub: Hub::start() };
        for (name, text) in [("firebrand", firebrand.as_str()), ("gh", GH), ("curl", CURL)] {
            repository.run.write(&format!("bin/{name}"), text);
        }
        repository.run.write("make-keys.sh", &example("make-keys.sh"));
        repository.shell(
            "chmod +x bin/*; sh make-keys.sh && rm make-keys.sh && \
             git init --quiet --initial-branch main --bare origin && \
             git init --quiet --initial-branch main . && git add . && \
             git -c user.name=a -c user.email=a@b commit --quiet -m first && \
             git remote add origin ./origin && git push --quiet -u origin HEAD",
        );
        repository
    }

    fn add(&self, count: usize) {
        self.hub.add("datasets/o/d", "main", &[("train.jsonl", conversations(count))]);
    }

    fn shell(&self, script: &str) {
        let output = self.bash(script, &[]);
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The key of a role, as a secret holds it.
    fn key(&self, role: &str) -> String {
        self.run.read(&format!("keys/{role}.pem"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.run.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .current_dir(self.run.path("."))
            .env("PATH", path)
            .env("STORE", self.run.path("store"))
            .env("RUNNER_TEMP", self.run.path("tmp"))
            .env("GITHUB_STEP_SUMMARY", self.run.path("summary"))
            .env("GITHUB_OUTPUT", self.run.path("output"))
            .env("GITHUB_SERVER_URL", "https://github.example")
            .env("GITHUB_REPOSITORY", "o/r")
            .env("GITHUB_BASE_REF", "main")
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("HF_HOME", self.run.path("hub"))
            .env("FIREBRAND_CACHE", self.run.path("cache"))
            .env("XDG_CONFIG_HOME", self.run.path("settings"))
            .env_remove("HF_TOKEN")
            .env_remove("FIREBRAND_SIGNING_KEY");
        command
    }

    fn bash(&self, script: &str, variables: &[(String, String)]) -> Output {
        let mut command = self.command("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
        command.envs(variables.iter().cloned()).output().unwrap()
    }

    /// Runs the shell steps of a workflow as a runner would.
    fn workflow(&self, file: &str, job: &str) -> Night {
        let workflow = documents(&example(file)).remove(0);
        for file in ["summary", "output"] {
            self.run.write(file, "");
        }
        let (mut trained, mut ended) = (false, Ok(()));
        for step in workflow["jobs"][job]["steps"].as_vec().unwrap() {
            let Some(script) = step["run"].as_str() else {
                assert!(step["uses"].as_str().unwrap().starts_with("actions/"), "{step:?}");
                continue;
            };
            if step["name"].as_str() == Some("Install") || !self.applies(step) || ended.is_err() {
                continue;
            }
            trained |= script.contains("firebrand train");
            let mut variables = self.variables(&workflow["env"]);
            variables.extend(self.variables(&step["env"]));
            let output = self.bash(script, &variables);
            if !output.status.success() {
                ended = Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        Night { summary: self.run.read("summary"), trained, ended }
    }

    fn night(&self) -> Night {
        self.workflow("github-nightly.yml", "train")
    }

    /// What a workflow gives its steps.
    fn variables(&self, env: &Yaml) -> Vec<(String, String)> {
        let Some(env) = env.as_hash() else { return Vec::new() };
        let value = |text: &str| match text.trim_matches(['$', '{', '}', ' ']) {
            "secrets.HF_TOKEN" => String::new(),
            "secrets.FIREBRAND_TRAIN_KEY" => self.key("train"),
            "secrets.FIREBRAND_GATE_KEY" => self.key("gate"),
            "secrets.FIREBRAND_PROMOTE_KEY" => self.key("promote"),
            "github.token" => "token".to_owned(),
            "github.event.pull_request.number" => "7".to_owned(),
            _ if text.contains("${{") => panic!("what is `{text}`?"),
            _ => text.to_owned(),
        };
        let pair = |(name, text): (&Yaml, &Yaml)| {
            (name.as_str().unwrap().to_owned(), value(text.as_str().unwrap()))
        };
        env.iter().map(pair).collect()
    }

    /// The one kind of condition that the workflows use.
    fn applies(&self, step: &Yaml) -> bool {
        match step["if"].as_str() {
            None => true,
            Some("steps.pull.outputs.changed == 'true'") => {
                self.run.read("output").contains("changed=true")
            }
            Some(other) => panic!("what is `{other}`?"),
        }
    }

    /// A branch that would learn otherwise, and be evaluated by nothing; on a machine of its own.
    fn propose(&self) {
        self.shell("rm -rf settings checkpoints && git checkout --quiet -b mine");
        let nightly = self.run.read("nightly.toml");
        self.run.write("nightly.toml", &nightly.replace("5e-3", "4e-3"));
        self.run.write("gate.toml", "nonsense");
        self.shell("git -c user.name=a -c user.email=a@b commit --quiet --all --message mine");
    }

    /// The serial number of the newest pointer that was pushed.
    fn serial(&self) -> usize {
        let list = "git --git-dir origin ls-tree -r --name-only main registry/channels | wc -l";
        let output = self.bash(list, &[]);
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn gates(&self) -> Vec<String> {
        self.run.read("store/gates").lines().map(str::to_owned).collect()
    }

    /// What a consumer does who has a clone and fetches the model from the store.
    fn consume(&self, fetch: &str) {
        self.shell(&format!(
            "rm -rf tmp/clone && git clone --quiet origin tmp/clone && cd tmp/clone && \
             uri=$(firebrand resolve production --where) && mkdir model && \
             {fetch} | tar -xzf - -C model && \
             firebrand resolve production --model model/artifact && firebrand log production",
        ));
    }
}

/// Committed as it was made, an emptied list would make every machine trust nobody.
#[test]
fn keys_are_made_once() {
    let repository = Repository::new();
    let run = &repository.run;
    run.write("make-keys.sh", &example("make-keys.sh"));
    let keys = || {
        let list = run.path("keys").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = list.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|name| run.read(&format!("keys/{name}"))).collect::<Vec<_>>()
    };
    let again = || repository.command("sh").arg("make-keys.sh").output().unwrap();
    let (first, made) = (run.read("trusted-keys.toml"), keys());
    assert_eq!((first.matches("[[key]]").count(), made.len()), (3, 6));
    let ignored = run.read(".gitignore");
    for _ in 0..2 {
        let output = again();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((run.read("trusted-keys.toml"), keys()), (first.clone(), made.clone()));
    }
    assert_eq!(run.read(".gitignore"), ignored);
    assert!(ignored.ends_with("\ncloud\nkeys/\n"), "secrets are not committed: {ignored}");
    // Secrets that were put away stay away, and what others added stays.
    std::fs::remove_file(run.path("keys/gate.pem")).unwrap();
    run.write("trusted-keys.toml", &format!("{first}# ours\n"));
    assert!(again().status.success());
    assert_eq!(run.read("trusted-keys.toml"), format!("{first}# ours\n"));
    assert!(!run.path("keys/gate.pem").exists());
    // An entry that is gone comes back; a second key for a role does not come by itself.
    let start = first.find("[[key]]\nroles = [\"promote\"]").unwrap();
    run.write("trusted-keys.toml", &first[..start]);
    assert!(again().status.success());
    assert_eq!(run.read("trusted-keys.toml"), first);
    std::fs::remove_dir_all(run.path("keys")).unwrap();
    let output = again();
    assert!(!output.status.success());
    says(
        String::from_utf8(output.stderr).unwrap(),
        snapbox::str![[r#"
trusted-keys.toml has a key for the role train already, and keys/train.pub.pem is not here.
To use another one, remove that entry first; models that it signed then count no more.

"#]],
    );
    assert_eq!(run.read("trusted-keys.toml"), first);
    let left: Vec<_> = run.path(".").read_dir().unwrap().collect();
    assert!(left.iter().all(|it| it.as_ref().unwrap().file_name() != "trusted-keys.toml.new"));
}

#[test]
fn the_nightly_workflow_puts_new_models_into_use_if_they_are_good_enough() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no git to commit the lock with");
        return;
    }
    let repository = Repository::new();
    repository.add(20);
    let first = repository.night();
    assert_eq!(first.ended, Ok(()));
    assert!(first.trained && first.summary.contains("20 rows"), "{}", first.summary);
    assert!(first.summary.contains("verified"), "{}", first.summary);
    assert_eq!(repository.serial(), 1);
    let fetch =
        "gh release download $(basename $(dirname $uri)) --pattern $(basename $uri) --output -";
    repository.consume(fetch);

    let second = repository.night();
    assert_eq!(second.ended, Ok(()));
    assert!(!second.trained && second.summary.contains("Nothing new"), "{}", second.summary);

    repository.add(23);
    let third = repository.night();
    assert_eq!(third.ended, Ok(()));
    assert!(third.trained && third.summary.contains("20 -> 23 rows"), "{}", third.summary);
    assert_eq!(repository.serial(), 2);
    repository.consume(fetch);
    let gates = repository.gates();
    assert!(!gates[0].contains("--baseline"), "a first release has none: {gates:?}");
    assert!(gates[1].contains("--baseline") && gates[1].contains("in-use/artifact"), "{gates:?}");
    let lock = repository.run.read("nightly.lock");
    let artifact = "checkpoints/nightly/artifact";
    let inputs = repository.run.read(&format!("{artifact}/lineage.inputs.json"));
    let commit = lock.split("commit = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(inputs.contains(commit), "{inputs}");
    // The lineage names a commit that has the lock, and no changes.
    let text = repository.run.provenance("nightly").to_string();
    assert!(text.contains("\"dirty\":false"), "{text}");

    // A policy that nothing can meet.
    let policy = repository.run.read("gate.toml");
    repository.run.write("gate.toml", &policy.replace("[checks]", "max = 0.001\n[checks]"));
    repository.shell("git commit --quiet --all --message stricter && git push --quiet");
    repository.add(26);
    let refused = repository.night();
    assert!(refused.ended.is_err(), "{}", refused.summary);
    assert!(refused.summary.contains("REFUSED"), "{}", refused.summary);
    assert_eq!(repository.serial(), 2, "what is in use stays in use");
    repository.consume(fetch);
}

#[test]
fn the_workflow_of_pull_requests_tells_how_the_model_compares() {
    let repository = Repository::new();
    repository.add(20);
    assert_eq!(repository.night().ended, Ok(()));
    repository.shell("rm -rf tmp && mkdir tmp");
    repository.propose();
    let night = repository.workflow("github-pull-request.yml", "judge");
    assert_eq!(night.ended, Ok(()));
    let comment = repository.run.read("store/comment-7");
    assert!(comment.contains('|') && night.summary.contains(&comment), "{comment}");
    let gates = repository.gates();
    assert!(gates[1].contains("--baseline") && gates[1].contains("--no-attest"), "{gates:?}");
    assert_eq!(repository.serial(), 1);
}

#[test]
fn the_pipeline_of_gitlab_does_the_same() {
    let repository = Repository::new();
    let pipeline = documents(&example("gitlab-ci.yml")).remove(0);
    let folder = repository.run.path(".").canonicalize().unwrap().display().to_string();
    let url = "https://nightly:token@gitlab.example/o/r.git";
    repository.shell(&format!("git config url.{folder}/origin.insteadOf {url}"));
    let job = |name: &str| {
        let mut variables: Vec<(String, String)> = Vec::new();
        for env in [&pipeline["variables"], &pipeline[name]["variables"]] {
            for (key, value) in env.as_hash().into_iter().flatten() {
                let value = value.as_str().unwrap().replace("$CI_PROJECT_DIR", &folder);
                variables.push((key.as_str().unwrap().to_owned(), value));
            }
        }
        for role in ["train", "gate", "promote"] {
            let name = format!("FIREBRAND_{}_KEY", role.to_uppercase());
            variables.push((name, repository.key(role)));
        }
        for (key, value) in [
            ("CI_API_V4_URL", "https://gitlab.example/api/v4"),
            ("CI_PROJECT_ID", "1"),
            ("CI_PROJECT_PATH", "o/r"),
            ("CI_SERVER_HOST", "gitlab.example"),
            ("CI_COMMIT_BRANCH", "main"),
            ("CI_JOB_TOKEN", "token"),
            ("PUSH_TOKEN", "token"),
            ("CI_MERGE_REQUEST_IID", "7"),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
        ] {
            variables.push((key.to_owned(), value.to_owned()));
        }
        let output = repository.bash(&recipe::lines(&pipeline[name]["script"]), &variables);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    repository.add(20);
    job("nightly");
    assert_eq!(repository.serial(), 1);
    repository.consume("curl $uri");
    assert!(job("nightly").contains("Nothing new"));
    repository.add(23);
    job("nightly");
    assert_eq!(repository.serial(), 2);
    repository.consume("curl $uri");
    repository.propose();
    job("merge-request");
    let gates = repository.gates();
    assert_eq!(gates.len(), 3);
    assert!(gates[1].contains("--baseline") && gates[2].contains("--no-attest"), "{gates:?}");
    let note = "store/https___gitlab.example_api_v4_projects_1_merge_requests_7_notes";
    assert!(repository.run.read(note).contains('|'));
}

/// A cluster's volume and settings, and how its containers are run.
struct Cluster {
    repository: Repository,
}

impl Cluster {
    fn new() -> Self {
        let repository = Repository::new();
        std::fs::create_dir_all(repository.run.path("cloud/config")).unwrap();
        repository.shell(
            "mkdir -p cloud/data && cp *.toml cloud/config/ && cp -r base judged.jsonl cloud/data/",
        );
        let gate = repository.run.read("gate.toml");
        repository.run.write("cloud/config/gate.toml", &format!("{gate}source_clean = false\n"));
        Self { repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.repository.run.path("cloud/data").join(name)
    }

    /// A container as a cluster would start it, with its volumes elsewhere.
    fn container(&self, container: &Yaml) -> Command {
        let place = |text: &str| {
            let config = self.repository.run.path("cloud/config").display().to_string();
            let data = self.path("").display().to_string();
            let data = data.trim_end_matches('/');
            text.replace("/config/", &format!("{config}/")).replace("/data", data)
        };
        let words = |list: &Yaml| -> Vec<String> {
            list.as_vec().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let (command, arguments) = (words(&container["command"]), words(&container["args"]));
        assert_eq!(
            (command[0].as_str(), container["workingDir"].as_str()),
            ("/bin/sh", Some("/data"))
        );
        let mut it = self.repository.command(&command[0]);
        it.args(&command[1..]).args(arguments.iter().map(|text| place(text)));
        it.current_dir(self.path(""));
        it.env("FIREBRAND_NOTIFY", "[\"sh\", \"-c\", \"cat >> told.jsonl\"]");
        let environment = document("nightly", "ConfigMap", "firebrand-environment");
        let from = container["envFrom"][0]["configMapRef"]["name"].as_str();
        assert_eq!(from, environment["metadata"]["name"].as_str());
        for (name, value) in environment["data"].as_hash().unwrap() {
            it.env(name.as_str().unwrap(), place(value.as_str().unwrap()));
        }
        for variable in container["env"].as_vec().into_iter().flatten() {
            let key = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!(key["name"].as_str(), Some("firebrand-keys"));
            let key = self.repository.key(key["key"].as_str().unwrap());
            it.env(variable["name"].as_str().unwrap(), key);
        }
        it
    }

    fn ends(&self, container: &Yaml, code: i32) -> String {
        let output = self.container(container).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}: {said}",
            container["name"].as_str().unwrap()
        );
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    }

    /// All containers of a pod, one after another.
    fn pod(&self, spec: &Yaml) -> String {
        let all = [&spec["initContainers"], &spec["containers"]];
        let all = all.into_iter().filter_map(|list| list.as_vec()).flatten();
        all.map(|container| self.ends(container, 0)).collect()
    }

    fn pointers(&self) -> usize {
        self.path("registry/channels/production").read_dir().map_or(0, Iterator::count)
    }
}

#[cfg(unix)]
#[test]
fn a_job_that_is_preempted_goes_on_from_its_volume() {
    let cluster = Cluster::new();
    cluster.repository.add(20);
    let nightly = cluster.repository.run.read("nightly.toml");
    let longer = nightly.replace("max_steps = 6", "max_steps = 400");
    cluster.repository.run.write("cloud/config/nightly.toml", &longer);
    let job = document("once", "Job", "firebrand-train");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"].as_str(), Some("user-queue"));
    let spec = &job["spec"]["template"]["spec"];
    assert!(
        spec["terminationGracePeriodSeconds"].as_i64().unwrap() > 30,
        "the program's own grace"
    );
    let container = &spec["containers"][0];
    let mut pod = cluster.container(container);
    let pod = pod.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut pod = pod.spawn().unwrap();
    wait::until("the first checkpoint", || {
        cluster.path("checkpoints/nightly/step-00000002").is_dir()
            || cluster.path("checkpoints/nightly/step-00000010").is_dir()
    });
    // The shell was replaced by the program, so that this reaches it.
    let pid = rustix::process::Pid::from_child(&pod);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let code = pod.wait().unwrap().code().unwrap();
    assert_eq!(code, 143);
    let ignored = json(&job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]);
    assert!(ignored.as_array().unwrap().contains(&Value::from(code)), "{ignored}");
    assert!(!cluster.path("checkpoints/nightly/artifact").exists());
    // A newer revision does not mix into what was begun.
    cluster.repository.add(23);
    says(
        without_progress(&cluster.ends(container, 0)),
        snapbox::str![[r#"
checkpoints/nightly/artifact
continuing after step [..] of 400, from checkpoints/nightly/step-[..]



"#]],
    );
    assert!(cluster.path("checkpoints/nightly/artifact/model.sig").is_file());
    let metrics =
        std::fs::read_to_string(cluster.path("checkpoints/nightly/metrics.jsonl")).unwrap();
    let steps = metrics.lines().filter(|line| line.contains("\"loss\"")).count();
    assert!(steps >= 400, "{steps}");
    // And once it is done it is done.
    assert!(cluster.ends(container, 0).contains("finished"));
}

#[test]
fn a_night_in_a_cluster_and_the_watch_after_it() {
    let cluster = Cluster::new();
    cluster.repository.add(20);
    let [nightly, watch] =
        ["firebrand-nightly", "firebrand-watch"].map(|name| document("nightly", "CronJob", name));
    let (nightly, watch) = (&nightly, &watch);
    let pod = |job: &Yaml| job["spec"]["jobTemplate"]["spec"]["template"]["spec"].clone();
    for job in [nightly, watch] {
        let template = &job["spec"]["jobTemplate"];
        let queue = &template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"];
        assert_eq!((queue.as_str(), job["kind"].as_str()), (Some("user-queue"), Some("CronJob")));
        assert_eq!(template["spec"]["suspend"].as_bool(), Some(true));
        assert_eq!(job["spec"]["concurrencyPolicy"].as_str(), Some("Forbid"));
    }
    cluster.pod(&pod(watch)); // before anything is in use there is nothing to watch
    cluster.pod(&pod(nightly));
    assert_eq!(cluster.pointers(), 1);
    // A pod that is started again finds everything done.
    let again = cluster.pod(&pod(nightly));
    assert_eq!(cluster.pointers(), 1, "{again}");
    cluster.repository.add(23);
    // One that had to go after the training goes on there, whatever is newer.
    let night = pod(nightly);
    let steps = night["initContainers"].as_vec().unwrap();
    for step in &steps[..2] {
        cluster.ends(step, 0);
    }
    cluster.repository.add(26);
    let begun = "going on with what was begun";
    assert!(cluster.pod(&night).lines().any(|line| line == begun));
    assert_eq!(cluster.pointers(), 2);
    let gates = cluster.repository.gates();
    assert!(gates[1].contains("--baseline registry/models/"), "{gates:?}");

    let look = pod(watch);
    assert!(cluster.ends(&look["containers"][0], 0).contains("no drift"));
    let strange: String = (0..8)
        .map(|number| {
            format!(
                "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{number}\"}}, {{\"role\": \
                 \"assistant\", \"content\": \"~{number}~ ZXQJ|<>#@! KWVZ\"}}]}}\n"
            )
        })
        .collect();
    std::fs::write(cluster.path("judged.jsonl"), strange).unwrap();
    says(
        cluster.ends(&look["containers"][0], 1),
        snapbox::str![[r#"
`production`, serial number 2, nightly: drift on 8 records
FAIL  accuracy [NUMBER] -> [NUMBER]: [..] % worse, only 5 % allowed
FAIL  loss [NUMBER] -> [NUMBER]: [..] % worse, only 5 % allowed
`production` is now nightly ([HEX]), serial number 3, until [LATER]; signed by key [HEX]

"#]],
    );
    assert_eq!(cluster.pointers(), 3);
    // Whoever is to be told was told of what became of the training, and of the drift.
    let told = std::fs::read_to_string(cluster.path("told.jsonl")).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = told.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["finished", "finished", "drift"]);
    let drift = &told[2];
    assert_eq!((&drift["channel"], &drift["serial"]), (&"production".into(), &2.into()));
    assert_eq!(drift["rolled_back_as"], 3, "{drift}");
    assert_eq!(drift["text"], "production: nightly has drifted");
}

#[test]
fn the_image_is_built_in_one_stage_and_runs_in_another_without_python() {
    let text = example("Containerfile").replace("\\\n", " ");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<(&str, &str)> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    let known = ["FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"];
    assert!(lines.iter().all(|(word, _)| known.contains(word)), "{lines:?}");
    let starts: Vec<usize> = (0..lines.len()).filter(|place| lines[*place].0 == "FROM").collect();
    assert_eq!(starts.len(), 2);
    assert!(lines[0].1.ends_with(" AS build"));
    let cargo = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    let version = cargo.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(lines[0].1.contains(&format!("rust:{version}-")), "{}", lines[0].1);
    let last = &lines[starts[1]..];
    assert!(!last.iter().any(|(_, rest)| rest.contains("python") || rest.contains("pip ")));
    let copies: Vec<&str> =
        last.iter().filter(|(word, _)| *word == "COPY").map(|(_, rest)| *rest).collect();
    assert_eq!(copies, ["--from=build /src/target/release/firebrand /usr/local/bin/firebrand"]);
    let entry = last.iter().find(|(word, _)| *word == "ENTRYPOINT").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(entry).unwrap(), serde_json::json!(["firebrand"]));
    // What the recipes need beside the program.
    let packages = last.iter().find(|(word, _)| *word == "RUN").unwrap().1;
    assert!(["ca-certificates", "curl", "git"].iter().all(|name| packages.contains(name)));
    assert!(last.iter().any(|(word, user)| *word == "USER" && *user != "0" && *user != "root"));
    // The features that can be asked for are there.
    assert!(cargo.contains("\ngpu = [") && text.contains("FEATURES=gpu"));
}
