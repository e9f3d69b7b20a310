//! What the hub answers: lists, refusals, names, tokens, and errors of its own.

use super::*;

#[test]
fn long_lists_come_in_pages_and_data_sets_have_their_own_names() {
    let case = Case::new();
    let files: Vec<(String, Vec<u8>)> =
        (0..25).map(|n| (format!("data/{n:02}.json"), noise(n, n as u64))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
    let commit = case.server.add("datasets/o/n", "refs/pr/1", &files);
    case.server.page(7);
    let hub = case.client();
    let repo = RepoName::parse(RepoKind::Dataset, "o/n").unwrap();
    assert_eq!(hub.commit_of(&repo, "refs/pr/1").unwrap(), commit);
    let listed = hub.tree(&repo, &commit).unwrap();
    assert_eq!(listed.len(), 25);
    assert_eq!(case.server.asked("/tree/").len(), 4);
    assert_eq!((listed[0].path.as_str(), listed[0].size), ("data/00.json", 0));
    for (file, (_, bytes)) in listed.iter().zip(files) {
        let fetched = hub.fetch(&repo, &commit, file, &|_| ()).unwrap();
        assert_eq!(fs::read(&fetched.path).unwrap(), bytes);
        assert_eq!(fetched.sha256, Digest::of(bytes));
        // A lock file knows the SHA-256 of small files too; they are the same files.
        let locked = RemoteFile { sha256: Some(Digest::of(bytes)), ..file.clone() };
        assert!(!hub.fetch(&repo, &commit, &locked, &|_| ()).unwrap().downloaded);
    }
    assert!(case.cache().join("datasets--o--n/refs/refs/pr/1").is_file());
}

#[test]
fn a_list_without_digests_of_large_files_is_enough() {
    let case = Case::new();
    let mut list = case.server.list("models/o/n", &case.commit);
    for entry in list.as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("lfs");
    }
    case.server.set_list("models/o/n", &case.commit, list);
    let hub = case.client();
    let fetched = case.fetch_big(&hub).unwrap();
    case.assert_exact(&fetched);
    assert!(case.blob(&case.big).is_file(), "under the name that other tools give it");
    assert!(!case.fetch_big(&hub).unwrap().downloaded);
}

#[test]
fn fault_31_an_ill_hub_heals() {
    let case = Case::new();
    for (on, status) in [("/revision/", 500), ("/tree/", 502), ("/resolve/", 503), ("/_cdn/", 500)]
    {
        case.server.fault(Fault::on(on, Kind::Status(status, vec![], "ill")).times(3));
    }
    let hub = case.client();
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), case.commit);
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 4);
}

#[test]
fn fault_31_a_hub_that_stays_ill_ends_in_an_error() {
    for (on, message) in [
        (
            "/resolve/",
            str![[r#"
error[network]: cannot download `sub/model.safetensors` of the model `o/n`
  because http://127.0.0.1:[PORT]/o/n/resolve/[COMMIT]/sub/model.safetensors answered 503 (request Root=1-abc); that was try 8 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
        ),
        (
            "/_cdn/",
            str![[r#"
error[network]: cannot download `sub/model.safetensors` of the model `o/n`
  because http://127.0.0.1:[PORT]/_cdn/[SHA256] answered 503 (request Root=1-abc); that was try 8 in a row without progress; 1.0 MB of 3.0 MB were received and are kept

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
        ),
    ] {
        let case = Case::new();
        let hub = case.client();
        case.files(&hub);
        let headers = vec![("X-Request-Id", "Root=1-abc".to_owned())];
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        let fault = Fault::on(on, Kind::Status(503, headers, "ill"));
        case.server.fault(fault.for_ever());
        case.server.clear_log();
        let error = case.fetch_big(&hub).unwrap_err();
        // One transfer broke off, and none of the tries after it brought a byte.
        assert_eq!(case.server.asked(on).len(), 8);
        says(error, message); // without the signature in the address
        case.assert_nothing_published();
        // What came is kept, and the next start goes on with it.
        case.server.heal();
        case.server.clear_log();
        case.assert_exact(&case.fetch_big(&hub).unwrap());
        assert!(on == "/resolve/" || case.ranges()[0] == "bytes=1000000-");
    }
}

#[test]
fn a_hub_that_is_not_there_ends_in_an_error() {
    let case = Case::new();
    let hub = case.client();
    hub.commit_of(&model(), "main").unwrap();
    case.server.fault(Fault::on("/revision/", Kind::Refuse).for_ever());
    let error = hub.commit_of(&model(), "main").unwrap_err();
    says(
        &error,
        str![[r#"
error[network]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/revision/main gave no answer: Connection reset by peer (os error 104); that was try 8 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has

hint: when it was last asked for, `main` was [COMMIT]: that commit needs no question
"#]],
    );
    assert_eq!(case.server.asked("/revision/").len(), 9);
    let nobody = Settings { endpoint: "http://127.0.0.1:9".to_owned(), ..case.settings() };
    let error = case.client_with(nobody).commit_of(&model(), "other").unwrap_err();
    says(
        &error,
        str![[r#"
error[network]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:9/api/models/o/n/revision/other gave no answer: Connection refused (os error 111); that was try 8 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
    );
}

// ---------------------------------------------------------------------------------------------
// 32, 33, 34: what the hub asks for, and what it refuses

#[test]
fn fault_32_the_pause_that_the_hub_asks_for_is_kept() {
    let date = |second| format!("Tue, 24 Nov 2026 08:00:{second:02} GMT");
    let cases = [
        vec![("Retry-After", "1".to_owned())],
        vec![("Date", date(10)), ("Retry-After", date(11))],
        vec![("RateLimit", "\"resolvers\";r=0;t=1".to_owned())],
    ];
    std::thread::scope(|scope| {
        for headers in cases {
            scope.spawn(move || {
                for on in ["/resolve/", "/_cdn/"] {
                    let case = Case::new();
                    let kind = Kind::Status(429, headers.clone(), "slow down");
                    case.server.fault(Fault::on(on, kind));
                    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
                    let asked = case.server.asked(on);
                    assert_eq!(asked.len(), 2, "one request before the pause, one after it");
                    let pause = asked[1].begun - asked[0].begun;
                    assert!(pause >= Duration::from_secs(1), "{headers:?}: {pause:?}");
                }
            });
        }
    });
}

#[test]
fn fault_34_refusals_are_said_at_once_in_plain_words() {
    let coded = |code: &str| vec![("X-Error-Code", code.to_owned())];
    for (status, headers, parts) in [
        (403, coded("GatedRepo"), vec!["accept its terms", "/o/n", "HF_TOKEN"]),
        (401, coded("GatedRepo"), vec!["accept its terms"]),
        (404, coded("RepoNotFound"), vec!["no model `o/n`, or it is private", "HF_TOKEN"]),
        (401, vec![], vec!["no model `o/n`, or it is private"]),
        (404, coded("RevisionNotFound"), vec!["no branch, tag or commit"]),
        (404, coded("EntryNotFound"), vec!["has no `sub/model.safetensors`"]),
        (403, vec![], vec!["does not let you read"]),
        (400, vec![], vec!["answered 400"]),
    ] {
        let case = Case::new();
        let hub = case.client();
        let files = case.files(&hub);
        case.server.clear_log();
        case.server.fault(Fault::on("GET /", Kind::Status(status, headers, "no")).for_ever());
        let error = hub.fetch(&model(), &case.commit, &files[1], &|_| ()).unwrap_err();
        said(&error, &parts);
        if status != 404 || parts[0].contains("branch") {
            let error = hub.commit_of(&model(), "v1").unwrap_err();
            said(&error, &parts[..1]);
        }
        assert!(case.server.log().len() <= 2, "asked again and again");
        case.assert_nothing_published();
    }
    let case = Case::new();
    let with_token = Settings { token: Some("hf_old".to_owned()), ..case.settings() };
    case.server.fault(Fault::on("/revision/", Kind::Status(401, vec![], "")));
    let error = case.client_with(with_token).commit_of(&model(), "main").unwrap_err();
    says(
        &error,
        str![[r#"
error[hub-access]: the hub does not accept the access token
  because http://127.0.0.1:[PORT]/api/models/o/n/revision/main answered 401

hint: it may have expired: make a new one at the hub and put it into `HF_TOKEN`
"#]],
    );
    // The true answers of the hub.
    let error = case.client().commit_of(&model(), "v9").unwrap_err();
    says(
        &error,
        str![[r#"
error[hub]: the model `o/n` has no branch, tag or commit `v9`
  because http://127.0.0.1:[PORT]/api/models/o/n/revision/v9 answered 404, `not here` (request Root=1-test)

hint: it may have been renamed or deleted; see its list of commits on the hub
"#]],
    );
    let other = RepoName::parse(RepoKind::Dataset, "o/n").unwrap();
    says(
        case.client().commit_of(&other, "main").unwrap_err(),
        str![[r#"
error[hub]: the hub has no data set `o/n`, or it is private
  because http://127.0.0.1:[PORT]/api/datasets/o/n/revision/main answered 404, `not here` (request Root=1-test)

hint: check its spelling; a private one needs an access token in `HF_TOKEN`
"#]],
    );
    case.server.forget("models/o/n", &case.commit);
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: the model `o/n` has no branch, tag or commit `[COMMIT]`
  because http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] answered 404, `not here` (request Root=1-test)

hint: it may have been renamed or deleted; see its list of commits on the hub
"#]],
    );
}

// ---------------------------------------------------------------------------------------------
// 39, 40, 41: the hub changes, lies, goes away

#[test]
fn fault_39_a_branch_that_moves_changes_nothing() {
    let case = Case::new();
    let other = noise(3_000_000, 8);
    let moved = case.server.add("models/o/n", "next", &[("sub/model.safetensors", &other)]);
    let hub = case.client();
    let commit = hub.commit_of(&model(), "main").unwrap();
    let moves = Kind::Move { repo: "models/o/n", branch: "main", commit: moved.clone() };
    case.server.fault(Fault::on("/resolve/", moves));
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    let asked = case.server.asked("/resolve/");
    assert!(asked.iter().all(|request| request.path.contains(&commit)));
    // Only who asks for the branch sees the new commit; the old snapshot stays.
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), moved);
    assert!(!case.fetch_big(&hub).unwrap().downloaded);
}

#[test]
fn fault_40_other_files_under_the_same_commit_are_refused() {
    let case = Case::new();
    let hub = case.client();
    let files = case.files(&hub);
    let list = case.server.list("models/o/n", &case.commit);
    case.server.replace(
        "models/o/n",
        &case.commit,
        "config.json",
        b"{\"model_type\": \"other\"}\n",
    );
    case.server.replace("models/o/n", &case.commit, "sub/model.safetensors", &noise(3_000_000, 8));
    for file in &files {
        let error = hub.fetch(&model(), &case.commit, file, &|_| ()).unwrap_err();
        said(&error, &["arrives damaged", &file.path]);
    }
    case.assert_nothing_published();
    // A list that contradicts itself: another content, the old pointer.
    let mut list = list;
    list[1 + 1]["lfs"]["oid"] = server::sha256_of(&noise(3_000_000, 8)).into();
    let commit = case.server.add("models/o/n", "lies", &[("other", b"x")]);
    case.server.set_list("models/o/n", &commit, list);
    says(
        hub.tree(&model(), &commit).unwrap_err(),
        str![[r#"
error[hub]: the list of files cannot be used
  because the `oid` of `sub/model.safetensors` is not that of its own pointer
  because from model `o/n`
"#]],
    );
    // An answer for another commit.
    let case = Case::new();
    let other = vec![("X-Repo-Commit", "0".repeat(40))];
    case.server.fault(Fault::on("/resolve/", Kind::Status(200, other, "{}")));
    says(
        case.fetch(&case.client(), "config.json").unwrap_err(),
        str![[r#"
error[hub]: cannot download `config.json` of the model `o/n`
  because http://127.0.0.1:[PORT]/o/n/resolve/[COMMIT]/config.json answers for the commit [COMMIT], not for [COMMIT]
"#]],
    );
    // Another ETag is not what proves a file.
    case.server.fault(Fault::on("/resolve/", Kind::Etag("../../../x")).for_ever());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

#[test]
fn fault_41_a_hub_that_is_away_is_not_missed() {
    let case = Case::new();
    let hub = case.client();
    let commit = hub.commit_of(&model(), "main").unwrap();
    case.fetch_big(&hub).unwrap();
    let Case { server, folder, commit: _, notices, big } = case;
    let settings = Settings { endpoint: server.endpoint(), ..hub.settings().clone() };
    drop(server);
    // The hub is away: what is known by commit needs no question.
    let away = Hub::new(settings.clone()).unwrap();
    let files = away.tree(&model(), &commit).unwrap();
    let fetched = away.fetch(&model(), &commit, &files[1], &|_| ()).unwrap();
    assert!(!fetched.downloaded && fs::read(&fetched.path).unwrap() == big);
    // Offline the branch is what it last was.
    let offline = Hub::new(Settings { offline: true, ..settings }).unwrap();
    assert_eq!(offline.commit_of(&model(), "main").unwrap(), commit);
    says(
        offline.commit_of(&model(), "v2").unwrap_err(),
        str![[r#"
error[offline]: offline, and the cache does not tell which commit `v2` of the model `o/n` is
  at [FOLDER]/hub

hint: run it once with a connection, without `HF_HUB_OFFLINE`
"#]],
    );
    says(
        offline.tree(&model(), &"a".repeat(40)).unwrap_err(),
        str![[r#"
error[offline]: offline, and the cache does not tell the files of the model `o/n` at [COMMIT]
  at [FOLDER]/hub

hint: run it once with a connection, without `HF_HUB_OFFLINE`
"#]],
    );
    let error = offline.fetch(&model(), &commit, &files[0], &|_| ()).unwrap_err();
    says(
        &error,
        str![[r#"
error[hub]: `config.json` of the model `o/n` is not in the cache, and no request may be sent (offline)
  at [FOLDER]/hub

hint: run it once with a connection, without `HF_HUB_OFFLINE`
"#]],
    );
    drop((folder, notices));
}

// ---------------------------------------------------------------------------------------------
// 43, 44: what the hub must not get, and must not do

#[test]
fn fault_43_the_token_goes_to_the_hub_only() {
    let case = Case::new();
    let settings = Settings { token: Some("hf_secret".to_owned()), ..case.settings() };
    let hub = case.client_with(settings);
    hub.commit_of(&model(), "main").unwrap();
    case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 9 }));
    case.fetch_big(&hub).unwrap();
    let log = case.server.log();
    let (store, asked): (Vec<_>, Vec<_>) =
        log.iter().partition(|request| request.path.starts_with("/_cdn/"));
    assert!(store.len() == 2 && store.iter().all(|request| !request.auth));
    assert!(asked.len() == 4 && asked.iter().all(|request| request.auth));
    // Nor to where a list says that it goes on.
    let thief = Server::start();
    let next = format!("<{}/api/steal>; rel=\"next\"", thief.endpoint());
    case.server.fault(Fault::on("/tree/", Kind::Status(200, vec![("Link", next)], "[]")));
    let commit = case.server.add("models/o/n", "other", &[("a", b"a")]);
    says(
        hub.tree(&model(), &commit).unwrap_err(),
        str![[r#"
error[hub]: the list of files cannot be used
  because its next page is said to be at http://127.0.0.1:[PORT]/api/steal
  because from model `o/n`
"#]],
    );
    assert!(thief.log().is_empty());
}

#[test]
fn fault_44_names_that_lead_elsewhere_are_refused() {
    let long = "x".repeat(300);
    let cases: Vec<Vec<&str>> = vec![
        vec!["../x"],
        vec!["sub/../../../../x"],
        vec!["/etc/x"],
        vec!["C:\\x"],
        vec!["\\\\host\\share\\x"],
        vec!["a\0b"],
        vec!["a\u{1b}[2J"],
        vec!["x."],
        vec!["x "],
        vec!["NUL"],
        vec![&long],
        vec!["README.md", "readme.md"],
        vec!["a", "a/b"],
    ];
    for (number, paths) in cases.into_iter().enumerate() {
        let case = Case::new();
        let list: Vec<_> = paths.iter().map(|path| server::entry(path, b"evil")).collect();
        case.server.set_list("models/o/n", &case.commit, list.into());
        let hub = case.client();
        let error = hub.tree(&model(), &case.commit).unwrap_err();
        said(&error, &["refusing the file name"]);
        assert!(!error.to_string().contains(['\0', '\u{1b}']), "case {number}");
        // Nor from a lock file, or from a list that someone else kept.
        if paths.len() == 1 {
            let oid = server::git_id(b"evil");
            let file = RemoteFile { path: paths[0].to_owned(), size: 4, oid, sha256: None };
            assert!(hub.fetch(&model(), &case.commit, &file, &|_| ()).is_err());
            assert!(hub.cached(&model(), &case.commit, &file).is_none());
        }
        let kept = serde_json::json!({"format_version": 1, "files": paths.iter().map(|path| {
            (*path, serde_json::json!({"size": 4, "blob_id": server::git_id(b"evil")}))
        }).collect::<std::collections::BTreeMap<_, _>>()});
        let trees = case.repo_folder().join("trees");
        fs::create_dir_all(&trees).unwrap();
        fs::write(trees.join(format!("{}.json", case.commit)), kept.to_string()).unwrap();
        assert!(case.offline().tree(&model(), &case.commit).is_err());
        fs::remove_dir_all(trees).unwrap();
        let mut left = vec![case.folder.path().to_path_buf()];
        while let Some(path) = left.pop() {
            assert!(path.is_dir(), "{} was written", path.display());
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    for bad in ["", "main", "../../x", &"A".repeat(40), &"g".repeat(40)] {
        assert!(Case::new().client().tree(&model(), bad).is_err());
    }
    for oid in ["../../../x", "", "ABC"] {
        let case = Case::new();
        let mut list = serde_json::json!([server::entry("a", b"evil")]);
        list[0]["oid"] = oid.into();
        case.server.set_list("models/o/n", &case.commit, list);
        said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["not a git object id"]);
    }
    // A folder of the snapshot that is a link to elsewhere is not followed.
    let case = Case::new();
    let outside = case.folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let snapshot = case.repo_folder().join("snapshots").join(&case.commit);
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("sub")).unwrap();
    assert!(case.fetch_big(&case.client()).is_err());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn odd_answers_of_the_api_are_errors() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (on, body, part) in [
        ("/revision/", "{}", "has no `sha`"),
        ("/revision/", "{\"sha\": \"../../x\"}", "has no `sha`"),
        ("/revision/", "{\"sha\": 1, \"sha\": 2}", "appears twice"),
        ("/revision/", nested.as_str(), "did not answer in JSON"),
        ("/tree/", "{}", "it is not a list"),
        ("/tree/", "[{\"type\": \"file\"}]", "has no `path`"),
        ("/tree/", "[{\"type\": \"file\", \"path\": \"a\", \"size\": -1}]", "has no size"),
    ] {
        let case = Case::new();
        case.server.fault(Fault::on(on, Kind::Body(body.to_owned())).for_ever());
        let hub = case.client();
        let error = hub.commit_of(&model(), "main").and_then(|commit| hub.tree(&model(), &commit));
        said(&error.map(|_| ()).unwrap_err(), &[part]);
    }
    // A list whose pages never end, and redirects in a circle.
    let case = Case::new();
    let circle = format!("{}/api/models/o/n/tree/{}", case.server.endpoint(), case.commit);
    let link = vec![("Link", format!("<{circle}?recursive=true&expand=false>; rel=\"next\""))];
    case.server.fault(Fault::on("/tree/", Kind::Status(200, link, "[]")).for_ever());
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: the list of files cannot be used
  because its pages go round in a circle: http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] comes again
  because from model `o/n`
"#]],
    );
    case.server.heal();
    // By way of another page, with something on each.
    let entries = case.server.list("models/o/n", &case.commit).to_string();
    let entries: &'static str = entries.leak();
    for (on, to) in [("cursor=2", 1), ("cursor=1", 2), ("/tree/", 1)] {
        let link = vec![("Link", format!("<{circle}?cursor={to}>; rel=\"next\""))];
        case.server.fault(Fault::on(on, Kind::Status(200, link, entries)).for_ever());
    }
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: the list of files cannot be used
  because its pages go round in a circle: http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] comes again
  because from model `o/n`
"#]],
    );
    case.server.heal();
    // Another page each time, with nothing on it; and pages on another machine.
    for (address, part) in [
        (format!("{circle}?cursor=1"), "a page of it is empty"),
        ("http://127.0.0.1:9/api".to_owned(), "its next page is said to be at"),
    ] {
        let link = vec![("Link", format!("<{address}>; rel=\"next\""))];
        case.server.fault(Fault::on("/tree/", Kind::Status(200, link, "[]")).for_ever());
        said(&case.client().tree(&model(), &case.commit).unwrap_err(), &[part]);
        case.server.heal();
    }
    let around = vec![("Location", "/api/models/o/n/tree/x".to_owned())];
    case.server.fault(Fault::on("/tree/", Kind::Status(307, around, "")).for_ever());
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/tree/x redirects without end
"#]],
    );
}

/// One byte after another, each well before the longest silence.
#[test]
fn an_answer_that_trickles_comes_to_an_end() {
    let case = Case::new();
    let timing = Timing { tries: 2, answer: Duration::from_millis(300), ..case.settings().timing };
    let client = || case.client_with(Settings { timing: timing.clone(), ..case.settings() });
    let slow = Kind::Slow { bytes_per_second: 50 };
    case.server.fault(Fault::on("/api/", slow).for_ever());
    says(
        client().commit_of(&model(), "main").unwrap_err(),
        str![[r#"
error[network]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/revision/main broke off: [..] bytes came in [TIME], and there was no end; that was try 2 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
    );
    says(
        client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[network]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] broke off: [..] bytes came in [TIME], and there was no end; that was try 2 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
    );
    assert_eq!(case.server.asked("/api/").len(), 4, "two tries for each");
    case.server.heal();
    // All pages together have a limit, too.
    case.server.page(1);
    let timing = Timing { listing: Duration::ZERO, ..case.settings().timing };
    let client = case.client_with(Settings { timing, ..case.settings() });
    says(
        client.tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: the list of files cannot be used
  because it did not end in 0 s
  because from model `o/n`
"#]],
    );
    // An answer without interest is not waited for, either: a file comes by way of a redirect.
    case.files(&case.client());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}
