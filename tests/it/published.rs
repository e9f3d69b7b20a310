//! The circle of a signed model: trained and signed, published on a hub, fetched elsewhere,
//! checked, trained on and used; and what a hub may not do to it on the way.

use crate::common::hub as server;
use snapbox::str;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{LORA, Run, says, without_progress};
use serde_json::Value;
use server::Hub;

/// Name and bytes of files.
type Files = Vec<(String, Vec<u8>)>;

/// A published model, and someone else's machine.
struct Scene {
    maker: Run,
    hub: Hub,
    user: Run,
    commit: String,
}

impl Scene {
    /// The model as it was made, and what a hub adds to every repository.
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Files)) -> Self {
        let maker = Run::new().with_base();
        let hub = Hub::start();
        let mut files = files_of(&maker.path("checkpoints/tiny/artifact"));
        files.push((".gitattributes".to_owned(), b"*.safetensors filter=lfs\n".to_vec()));
        change(&mut files);
        let user = Run::new();
        user.write("lora.toml", &LORA.replace("checkpoints/tiny", "o/base"));
        let scene = Self { maker, hub, user, commit: String::new() };
        let commit = scene.publish(&files);
        Self { commit, ..scene }.trusting()
    }

    fn publish(&self, files: &Files) -> String {
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.hub.add("models/o/base", "main", files.as_slice())
    }

    /// The user knows the maker's key.
    fn trusting(self) -> Self {
        let folder = self.user.path("settings/firebrand/trusted-keys");
        fs::create_dir_all(&folder).unwrap();
        let key = self.maker.path("settings/firebrand/signing.pub.pem");
        fs::copy(key, folder.join("maker.pem")).unwrap();
        self
    }

    /// Exit code, stdout and stderr of a command of the user.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let command = self.user.command(arguments).env("HF_ENDPOINT", self.hub.endpoint());
        let output = command.output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), stdout, stderr)
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}:\n{stdout}{stderr}");
        stdout
    }

    /// All commands that would use the model say the same.
    #[track_caller]
    fn refused(&self, arguments: &[&str], part: &str) {
        let (code, stdout, stderr) = self.run(arguments);
        let text = format!("{stdout}{stderr}");
        assert_eq!(code, Some(1), "{arguments:?}:\n{text}");
        assert!(text.contains(part), "{arguments:?}: {part} not in\n{text}");
    }

    fn snapshot(&self) -> PathBuf {
        self.user.path("hub/hub/models--o--base/snapshots").join(&self.commit)
    }
}

/// All files of a folder without folders.
fn files_of(folder: &Path) -> Files {
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

const TRAIN: [&str; 3] = ["train", "lora.toml", "--quiet"];

#[test]
fn a_signed_model_goes_round() {
    let scene = Scene::new();
    scene.succeeds(&["pull", "lora.toml"]);
    let lock = scene.user.read("lora.lock");
    for name in ["lineage.inputs.json", "lineage.statement.json", "model.sig"] {
        assert!(lock.contains(name), "{name} in\n{lock}");
    }
    let snapshot = scene.snapshot();
    let linked = fs::symlink_metadata(snapshot.join("lineage.inputs.json")).unwrap();
    assert!(linked.is_symlink());

    // By its name and by its place, with the network and without.
    scene.succeeds(&["verify", "o/base"]);
    let stdout = scene.succeeds(&["verify", "o/base", "--offline", "--revision", &scene.commit]);
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] ([FOLDER]/settings/firebrand/trusted-keys/maker.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
signed by key [SHA256] ([FOLDER]/settings/firebrand/trusted-keys/maker.pem)
verified

"#]],
    );
    scene.succeeds(&["verify", snapshot.to_str().unwrap()]);
    let pinned = format!("o/base@{}", scene.commit);
    assert_eq!(scene.succeeds(&["verify", &pinned]), stdout);
    scene.succeeds(&["lineage", &pinned, "--offline"]);
    scene.succeeds(&["scan", "o/base@main"]);

    scene.succeeds(&TRAIN);
    scene.succeeds(&["verify", "checkpoints/lora"]);
    let statement = scene.user.provenance("lora");
    let build = &statement["predicate"]["buildDefinition"];
    let inputs = build["resolvedDependencies"].as_array().unwrap();
    let parent = inputs.iter().find(|it| it["annotations"]["role"] == "base-lineage").unwrap();
    assert_eq!(parent["annotations"]["signature"], "verified", "{parent}");
    // The tree of both, found again in the cache.
    let tree: Value =
        serde_json::from_str(&scene.succeeds(&["lineage", "checkpoints/lora", "--json"])).unwrap();
    assert_eq!(tree["parent"]["found"], "same", "{tree}");
    assert_eq!(tree["parent"]["name"], "o/base", "{tree}");
    assert_eq!(tree["parent"]["family"]["signature"], "verified", "{tree}");

    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "4"];
    scene.succeeds(&[&["generate", "checkpoints/lora"][..], &prompt].concat());
    scene.succeeds(&[&["generate", "o/base"][..], &prompt].concat());
    scene.succeeds(&["merge", "checkpoints/lora", "--out", "merged"]);
    scene.succeeds(&["verify", "merged"]);
}

#[test]
fn a_signer_whom_nobody_knows_is_told_and_written_down() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.user.path("settings")).unwrap();
    scene.refused(&["verify", "o/base"], "untrusted: signed by a key that you do not trust");
    scene.succeeds(&TRAIN);
    let lineage = scene.user.provenance("lora").to_string();
    assert!(lineage.contains("\"untrusted\""), "{lineage}");
}

#[test]
fn what_a_hub_does_to_a_signed_model_is_said_precisely() {
    let scene = Scene::new();
    let good = files_of(&scene.maker.path("checkpoints/tiny/artifact"));
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        scene.publish(&files);
    };
    let generate = ["generate", "o/base", "--prompt", "a"];
    // Gone: nobody could check what is left.
    for gone in ["lineage.statement.json", "chat_template.jinja", "README.md"] {
        with(&|files| files.retain(|(name, _)| name != gone));
        for command in [&TRAIN[..], &["pull", "lora.toml"], &["verify", "o/base"], &generate] {
            let part = format!("`model.sig` covers a file that the repository lacks: `{gone}`");
            scene.refused(command, &part);
        }
    }
    // Changed.
    for changed in ["config.json", "lineage.inputs.json", "README.md"] {
        with(&|files| {
            let file = files.iter_mut().find(|(name, _)| name == changed).unwrap();
            file.1.push(b' ');
        });
        scene.refused(&["verify", "o/base"], &format!("changed: `{changed}`"));
        scene.refused(&TRAIN, &format!("changed: `{changed}`"));
    }
    // Added: what would be read is refused, what would not be is not even fetched.
    with(&|files| files.push(("special_tokens_map.json".to_owned(), b"{}".to_vec())));
    scene.refused(&["verify", "o/base"], "not signed: `special_tokens_map.json`");
    scene.refused(&TRAIN, "files were added to a signed model, and no signature covers them");
    with(&|files| files.push(("modeling_own.py".to_owned(), b"import os".to_vec())));
    scene.succeeds(&["verify", "o/base"]);
    scene.succeeds(&TRAIN);
}

#[test]
fn links_out_of_the_cache_are_not_followed() {
    let scene = Scene::new();
    scene.succeeds(&["pull", "lora.toml"]);
    let config = scene.snapshot().join("generation_config.json");
    let there = config.symlink_metadata().is_ok();
    let link = if there { config } else { scene.snapshot().join("README.md") };
    let copy = scene.user.path("elsewhere");
    fs::copy(&link, &copy).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&copy, &link).unwrap();
    let snapshot = scene.snapshot();
    scene.refused(&["verify", snapshot.to_str().unwrap()], "only regular files are accepted");
    let path = snapshot.to_str().unwrap();
    scene.user.write("by-path.toml", &LORA.replace("checkpoints/tiny", path));
    scene.refused(&["train", "by-path.toml", "--quiet"], "only regular files are accepted");
}

#[test]
fn what_other_tools_fetched_beside_a_signed_model_is_not_used() {
    let scene = Scene::new();
    scene.succeeds(&["pull", "lora.toml"]);
    // As `hf download` would: files that the repository has and the signature does not cover.
    let blobs = scene.user.path("hub/hub/models--o--base/blobs");
    for name in [".gitattributes", "pytorch_model.bin"] {
        fs::write(blobs.join(name), "x").unwrap();
        let link = scene.snapshot().join(name);
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), link).unwrap();
    }
    scene.refused(&["verify", "o/base", "--offline"], "not signed: `pytorch_model.bin`");
    scene.succeeds(&["verify", "o/base", "--offline", "--ignore-unsigned-files"]);
    let (code, _, stderr) = scene.run(&["train", "lora.toml"]);
    assert_eq!(code, Some(0), "{stderr}");
    says(
        without_progress(&stderr),
        str![[r#"
files beside the signed ones of the base model are not used: `pytorch_model.bin`



"#]],
    );
}

#[test]
fn a_copy_that_was_downloaded_into_a_folder_is_a_copy() {
    let scene = Scene::new();
    let copy = scene.user.path("copy");
    fs::create_dir_all(copy.join(".cache/huggingface/download")).unwrap();
    for (name, bytes) in files_of(&scene.maker.path("checkpoints/tiny/artifact")) {
        fs::write(copy.join(&name), bytes).unwrap();
        let note = format!(".cache/huggingface/download/{name}.metadata");
        fs::write(copy.join(note), "commit\netag\n1.0\n").unwrap();
    }
    fs::write(copy.join(".gitattributes"), "x").unwrap();
    fs::write(copy.join(".cache/huggingface/.gitignore"), "*").unwrap();
    let stdout = scene.succeeds(&["verify", "copy"]);
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] ([FOLDER]/settings/firebrand/trusted-keys/maker.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        no part of the model, not checked: `.cache/huggingface/.gitignore`, `.cache/huggingface/download/README.md.metadata`, `.cache/huggingface/download/chat_template.jinja.metadata`, `.cache/huggingface/download/config.json.metadata`, `.cache/huggingface/download/effect.json.metadata` and 8 more
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
signed by key [SHA256] ([FOLDER]/settings/firebrand/trusted-keys/maker.pem)
verified

"#]],
    );
    scene.user.write("lora.toml", &LORA.replace("checkpoints/tiny", "copy"));
    scene.succeeds(&TRAIN);
    scene.succeeds(&["verify", "checkpoints/lora"]);
}

/// A repository of an adapter alone is fetched, and its base with it.
#[test]
fn an_adapter_on_a_hub_is_used_beside_its_base() {
    let scene = Scene::new();
    scene.succeeds(&TRAIN);
    let files = files_of(&scene.user.path("checkpoints/lora/artifact"));
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let commit = scene.hub.add("models/o/adapter", "main", files.as_slice());
    let name = format!("o/adapter@{commit}");
    let ask = ["--prompt", "What is 3 plus 4?", "--max-tokens", "6"];
    let answer = |model: &str| scene.succeeds(&[&["generate", model][..], &ask].concat());
    assert_eq!(answer(&name), answer("checkpoints/lora"));
    assert_eq!(answer("o/adapter"), answer("checkpoints/lora"));
    scene.succeeds(&["verify", &name]);
    scene.succeeds(&["lineage", &name]);
    scene.succeeds(&["merge", &name, "--out", "merged", "--no-check"]);
    scene.succeeds(&["merge", "checkpoints/lora", "--out", "merged-here", "--no-check"]);
    let weights =
        |folder: &str| fs::read(scene.user.path(folder).join("model.safetensors")).unwrap();
    assert_eq!(weights("merged"), weights("merged-here"));

    scene.user.write("other.toml", &LORA.replace("checkpoints/tiny", "o/adapter"));
    let (code, _, stderr) = scene.run(&["train", "other.toml", "--quiet"]);
    assert_eq!(code, Some(2));
    says(
        stderr,
        str![[r#"
error[adapter]: `o/adapter` is an adapter, not a base model
  at [FOLDER]/hub/hub/models--o--adapter/snapshots/[COMMIT]

hint: first make a whole model of it: `firebrand merge o/adapter --out DIR`

"#]],
    );
}

/// What an adapter names as its base is a stranger's word.
#[test]
fn an_adapter_on_a_hub_opens_no_folder_of_its_user() {
    let scene = Scene::new();
    let mut said = String::new();
    for base in ["checkpoints/tiny", "../o/base", "/etc", "o/base\n::error::x"] {
        let settings = serde_json::json!({
            "base_model_name_or_path": base, "peft_type": "LORA", "r": 2, "lora_alpha": 4,
            "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
        });
        let settings = settings.to_string();
        let files = [
            ("adapter_config.json", settings.as_bytes()),
            (
                "adapter_model.safetensors",
                &[8, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 32, 32, 32, 32, 32, 32],
            ),
        ];
        scene.hub.add("models/o/adapter", "main", &files);
        let (code, _, stderr) = scene.run(&["generate", "o/adapter", "--prompt", "a"]);
        assert_eq!(code, Some(2), "{base}: {stderr}");
        said += &format!("# {base:?}\n{stderr}\n");
    }
    says(
        said,
        str![[r##"
# "checkpoints/tiny"
     fetched  o/adapter/adapter_config.json, 138 B in [TIME]
     fetched  o/adapter/adapter_model.safetensors, 16 B in [TIME]
error[hub]: the hub has no model `checkpoints/tiny`, or it is private
  because http://127.0.0.1:[PORT]/api/models/checkpoints/tiny/revision/main answered 404, `not here` (request Root=1-test)

hint: check its spelling; a private one needs an access token in `HF_TOKEN`

hint: `o/adapter` is an adapter of the base model `checkpoints/tiny`, which must be there as well: put it there, or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`

# "../o/base"
     fetched  o/adapter/adapter_config.json, 131 B in [TIME]
error[adapter]: the adapter names a folder of its maker as its base
  at [FOLDER]/hub/hub/models--o--adapter/snapshots/[COMMIT]
  because `base_model_name_or_path` is `../o/base`

hint: `o/adapter` is an adapter of the base model `../o/base`, which must be there as well: put it there, or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`

# "/etc"
     fetched  o/adapter/adapter_config.json, 126 B in [TIME]
error[adapter]: the adapter names a folder of its maker as its base
  at [FOLDER]/hub/hub/models--o--adapter/snapshots/[COMMIT]
  because `base_model_name_or_path` is `/etc`

hint: `o/adapter` is an adapter of the base model `/etc`, which must be there as well: put it there, or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`

# "o/base\n::error::x"
     fetched  o/adapter/adapter_config.json, 140 B in [TIME]
error[adapter]: the adapter names a folder of its maker as its base
  at [FOLDER]/hub/hub/models--o--adapter/snapshots/[COMMIT]
  because `base_model_name_or_path` is `o/base
    :\u{3a}error::x`

hint: `o/adapter` is an adapter of the base model `o/base
    :\u{3a}error::x`, which must be there as well: put it there, or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`


"##]],
    );
}

/// A folder with an adapter below the root is none that can be used.
#[test]
fn an_adapter_in_a_folder_of_a_hub_is_refused_with_its_place() {
    let scene = Scene::new();
    let files = [("step-2/adapter_config.json", "{}"), ("step-2/adapter_model.safetensors", "x")];
    scene.hub.add("models/o/adapter", "main", &files);
    let (code, _, stderr) = scene.run(&["generate", "o/adapter", "--prompt", "a"]);
    assert_eq!(code, Some(2));
    says(
        stderr,
        str![[r#"
error[adapter]: the repository holds an adapter that is not complete at its root
  because its weights are `step-2/adapter_model.safetensors`
  because `o/adapter` at [COMMIT] was looked at

hint: `adapter_model.safetensors` and `adapter_config.json` must lie beside each other at the root: download the folder that has them, and name it

hint: on this machine there is no directory `o/adapter`

"#]],
    );
}

/// Records with tools are written by the template that the repository has for them.
#[test]
fn a_template_for_tools_is_fetched_and_used() {
    let tool_use = "{% for t in tools %}with tools: {{ t | tojson }}{% endfor %}\
        {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let scene = Scene::with(|files| {
        // Nobody signed the template.
        files.retain(|(name, _)| !name.starts_with("lineage.") && name != "model.sig");
        let name = "additional_chat_templates/tool_use.jinja".to_owned();
        files.push((name, tool_use.as_bytes().to_vec()));
    });
    let tool = serde_json::json!({"type": "function", "function": {"name": "clock"}});
    let plain =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
    let lines = format!("{plain}, \"tools\": [{tool}]}}\n{plain}}}\n").repeat(10);
    scene.user.write("data.jsonl", &lines);
    scene.succeeds(&["pull", "lora.toml"]);
    let lock = scene.user.read("lora.lock");
    assert!(lock.contains("additional_chat_templates/tool_use.jinja"), "{lock}");
    let set = ["--set", "data.packing=false", "--set", "data.shuffle=false"];
    let shown = scene.succeeds(&[&["data", "lora.toml", "--rows", "2"], &set[..]].concat());
    let found: Vec<&str> = shown.matches("with tools: ").collect();
    assert_eq!(found.len(), 1, "one of the two records has tools:\n{shown}");
    says(
        &shown,
        str![[r#"
step 1, row 0:
  data.jsonl:1, 73 tokens
    with tools: {"type": "function", "function": {"name": "clock"}}<|im_start|>user
    a<|im_end|>
    <|im_start|>assistant
    ⟦b<|im_end|>⟧
step 1, row 1:
  data.jsonl:2, 20 tokens
    <|im_start|>user
    a<|im_end|>
    <|im_start|>assistant
    ⟦b<|im_end|>⟧

"#]],
    );
    scene.succeeds(&TRAIN);
    let card =
        scene.user.path("checkpoints/lora/artifact/additional_chat_templates/tool_use.jinja");
    assert_eq!(fs::read_to_string(card).unwrap(), tool_use);
}
