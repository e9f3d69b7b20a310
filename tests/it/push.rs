//! The circle of a model that is published with `firebrand push`: trained, sent, fetched by someone
//! else, verified, trained on and used; and what may go wrong on the way.

use snapbox::str;

use crate::common::hub::{Fault, Hub, Kind};
use crate::common::{LORA, Run, says};

const PUSH: [&str; 3] = ["push", "checkpoints/tiny", "o/tiny"];

/// Exit code, stdout and stderr of a command of somebody with a token.
fn run(run: &Run, hub: &Hub, arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = run.command(arguments).env("HF_ENDPOINT", hub.endpoint());
    let command = command.env("HF_TOKEN", "hf_writes").env("FIREBRAND_HUB_TIME_SCALE", "0.05");
    let output = command.output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), stdout, stderr)
}

#[track_caller]
fn succeeds(of: &Run, hub: &Hub, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(of, hub, arguments);
    assert_eq!(code, Some(0), "{arguments:?}:\n{stdout}{stderr}");
    stdout
}

/// The files of the artifact, and what a hub adds.
fn assert_is_there(maker: &Run, name: &str, hub: &Hub, branch: &str) {
    let mut there = hub.files("models/o/tiny", branch);
    assert!(there.remove(".gitattributes").is_some());
    let artifact = maker.path(&format!("checkpoints/{name}/artifact"));
    let here = std::fs::read_dir(&artifact).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    });
    assert_eq!(here.collect::<std::collections::BTreeMap<_, _>>(), there);
}

#[test]
fn a_model_goes_to_the_hub_and_comes_back_verified() {
    let (maker, hub) = (Run::new().with_base(), Hub::start());
    let told = succeeds(&maker, &hub, &[&PUSH[..], &["--json", "--private"]].concat());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_is_there(&maker, "tiny", &hub, "main");
    let commit = told["commit"].as_str().unwrap();
    assert_eq!((told["there"].as_u64(), told["deleted"].as_array().unwrap().len()), (Some(0), 0));
    let created = &hub.asked("/api/repos/create")[0];
    let asked: serde_json::Value = serde_json::from_slice(&created.sent).unwrap();
    assert_eq!(asked["visibility"], "private");
    assert!(hub.asked("/_store/").len() > 3, "the weights go in parts");
    // Somebody else fetches it, and trains on it.
    let user = Run::new();
    let keys = user.path("settings/firebrand/trusted-keys");
    std::fs::create_dir_all(&keys).unwrap();
    let key = maker.path("settings/firebrand/signing.pub.pem");
    std::fs::copy(key, keys.join("maker.pem")).unwrap();
    let name = format!("o/tiny@{commit}");
    succeeds(&user, &hub, &["verify", &name]);
    succeeds(&user, &hub, &["generate", &name, "--prompt", "two", "--max-tokens", "3"]);
    user.write("lora.toml", &LORA.replace("checkpoints/tiny", "o/tiny"));
    succeeds(&user, &hub, &["train", "lora.toml", "--quiet"]);
    // The same once more is nothing to do.
    hub.clear_log();
    let again = succeeds(&maker, &hub, &[&PUSH[..], &["--json"]].concat());
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["commit"], commit);
    assert!(hub.asked("/commit/").is_empty() && hub.asked("/_store/").is_empty());
    // A pull request leaves the branch as it is, another branch has its own commit.
    maker.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=more", "--set", "seed=7"]);
    let more = ["push", "checkpoints/more", "o/tiny"];
    succeeds(&maker, &hub, &[&more[..], &["--create-pr"]].concat());
    assert_is_there(&maker, "tiny", &hub, "main");
    assert_is_there(&maker, "more", &hub, "refs/pr/1");
    succeeds(&maker, &hub, &[&more[..], &["--revision", "v2", "--message", "second"]].concat());
    assert_is_there(&maker, "more", &hub, "v2");
    let sent = String::from_utf8(hub.asked("/commit/v2")[0].sent.clone()).unwrap();
    assert!(sent.contains("\"summary\":\"second\""), "{sent}");
}

#[test]
fn what_breaks_on_the_way_is_tried_again_and_what_arrived_is_not_sent_again() {
    let (maker, hub) = (Run::new().with_base(), Hub::start());
    hub.fault(Fault::on("PUT /_store/", Kind::Status(500, vec![], "")).times(2));
    hub.fault(Fault::on("POST /api/models/o/tiny/preupload", Kind::Refuse));
    // The commit fails until nobody tries any more.
    hub.fault(Fault::on("/commit/main", Kind::Status(503, vec![], "")).times(8));
    let (code, _, stderr) = run(&maker, &hub, &PUSH);
    assert_eq!(code, Some(2), "{stderr}");
    says(
        stderr.replace(&hub.endpoint(), "HUB"),
        str![[r#"
error[network]: cannot upload the commit to `o/tiny`
  because HUB/api/models/o/tiny/commit/main answered 503; that was try 8 in a row

hint: run the same command again: what the hub has is not sent again

"#]],
    );
    hub.clear_log();
    succeeds(&maker, &hub, &PUSH);
    assert!(hub.asked("/_store/").is_empty(), "large files were there");
    assert_is_there(&maker, "tiny", &hub, "main");
}

#[test]
fn a_commit_that_is_not_what_was_sent_is_found() {
    let (maker, hub) = (Run::new().with_base(), Hub::start());
    hub.fault(Fault::on("PUT /_store/", Kind::Corrupt { at: 5 }));
    let (code, _, stderr) = run(&maker, &hub, &PUSH);
    assert_eq!(code, Some(2), "{stderr}");
    says(
        without_commits(&stderr),
        str![[r#"
error[hub]: the commit is not what was sent
  because `README.md` is not there as it is here

hint: it is [COMMIT] of `o/tiny`: do not use it, and run the same command again

"#]],
    );
}

fn without_commits(text: &str) -> String {
    let is_commit = |word: &&str| word.len() == 40 && word.bytes().all(|c| c.is_ascii_hexdigit());
    let words: Vec<&str> = text.split(' ').collect();
    let shown = words.iter().map(|word| if is_commit(word) { "[COMMIT]" } else { word });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_may_not_or_should_not_be_uploaded_is_refused_before_anything_is_sent() {
    let (maker, hub) = (Run::new().with_base(), Hub::start());
    let fails = |arguments: &[&str]| {
        let (code, _, stderr) = run(&maker, &hub, arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        stderr
    };
    // No token, and one that may not write.
    let output = maker.command(&PUSH).env("HF_ENDPOINT", hub.endpoint()).output().unwrap();
    says(
        String::from_utf8(output.stderr).unwrap(),
        str![[r#"
error[hub-access]: an upload needs an access token with the right to write

hint: make one at the hub, and put it into `HF_TOKEN`

"#]],
    );
    hub.fault(Fault::on("/api/repos/create", Kind::Status(403, vec![], "")));
    let shown = fails(&PUSH).replace(&hub.endpoint(), "HUB");
    says(
        shown,
        str![[r#"
error[hub-access]: the hub does not let you write to the model `o/tiny`
  because HUB/api/repos/create answered 403

hint: check the name, and that the token in `HF_TOKEN` may write there

"#]],
    );
    assert_eq!(hub.asked("").len(), 1);
    // Another model's files, whose signature they would spoil.
    hub.add("models/o/tiny", "main", &[("old.bin", b"x"), (".gitattributes", b"y")]);
    says(
        fails(&PUSH),
        str![[r#"
error[exists]: `o/tiny` has files that are not here
  because `old.bin`

hint: a signature is of all files of a model: `--replace` deletes these there

"#]],
    );
    succeeds(&maker, &hub, &[&PUSH[..], &["--replace"]].concat());
    assert_is_there(&maker, "tiny", &hub, "main");
    // What does not verify here.
    let readme = maker.path("checkpoints/tiny/artifact/README.md");
    std::fs::write(readme, "other").unwrap();
    hub.clear_log();
    says(
        fails(&PUSH),
        str![[r#"
error[signature]: it does not verify: tampered: the files are not those that were signed
  at checkpoints/tiny/artifact

hint: `firebrand verify checkpoints/tiny/artifact` says what is wrong

"#]],
    );
    says(
        fails(&["push", "nothing", "o/tiny"]),
        str![[r#"
error[file]: there is no such run or artifact
  at nothing

"#]],
    );
    std::fs::create_dir(maker.path("plain")).unwrap();
    maker.write("plain/config.json", "{}");
    says(
        fails(&["push", "plain", "o/plain"]),
        str![[r#"
error[signature]: nobody signed it
  at plain

hint: `firebrand sign` signs it, `--unsigned` uploads it as it is

"#]],
    );
    assert!(hub.asked("").is_empty());
    succeeds(&maker, &hub, &["push", "plain", "o/plain", "--unsigned"]);
    assert_eq!(hub.files("models/o/plain", "main")["config.json"], b"{}");
}

/// Requests with a body as `tests/reference/push.py` notes them.
fn noted(hub: &Hub, head: &str) -> Vec<serde_json::Value> {
    let by = |list: &mut serde_json::Value, key: &dyn Fn(&serde_json::Value) -> String| {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(key);
        }
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let calls = hub.log().into_iter().filter(|call| call.method != "GET").map(|call| {
        let path = call.path.split("?X-").next().unwrap().to_owned();
        let body = String::from_utf8_lossy(&call.sent).replace(head, &"1".repeat(40));
        let mut sent = if call.method == "PUT" {
            serde_json::json!({"bytes": call.sent.len()})
        } else if path.contains("/commit/") {
            body.lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .collect()
        } else {
            serde_json::from_str(&body).unwrap()
        };
        if sent.is_array() {
            by(&mut sent, &|line| text(&line["value"]["path"]));
        }
        (call.method, path, sent)
    });
    let mut calls: Vec<_> = calls.collect();
    for (_, _, sent) in &mut calls {
        for (list, key) in [("objects", "oid"), ("files", "path")] {
            if let Some(list) = sent.get_mut(list) {
                by(list, &|entry| text(&entry[key]));
            }
        }
    }
    calls.sort_by_key(|(method, path, _)| (method.clone(), path.clone()));
    let line =
        |(method, path, sent)| serde_json::json!({"method": method, "path": path, "sent": sent});
    calls.into_iter().map(line).collect()
}

#[test]
fn the_hub_is_sent_what_pythons_client_sends() {
    let (maker, hub) = (Run::new(), Hub::start());
    let bytes = |until: u16, times: usize| {
        let all: Vec<u8> = (0..until).map(|byte| byte.to_le_bytes()[0]).collect();
        all.repeat(times)
    };
    let folder = maker.path("folder/folder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("middle.bin"), bytes(256, 8)).unwrap();
    let folder = maker.path("folder");
    std::fs::write(folder.join("config.json"), "{\"model_type\": \"llama\"}").unwrap();
    std::fs::write(folder.join("empty.txt"), "").unwrap();
    std::fs::write(folder.join("large.bin"), bytes(250, 400)).unwrap();
    let call = ["push", "folder", "o/folder", "--unsigned", "--private", "--message", "first"];
    succeeds(&maker, &hub, &call);
    let sent = String::from_utf8(hub.asked("/commit/")[0].sent.clone()).unwrap();
    let head = sent.split("\"parentCommit\":\"").nth(1).unwrap()[..40].to_owned();
    let path = crate::common::repository("tests/reference/push.json");
    let theirs = std::fs::read_to_string(path).unwrap();
    let theirs: Vec<serde_json::Value> = serde_json::from_str(&theirs).unwrap();
    let ours = noted(&hub, &head);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}
