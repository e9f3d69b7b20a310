//! The cache: its layout, what is found damaged in it, and a disk without room.

use super::*;

// ---------------------------------------------------------------------------------------------
// Without faults

#[test]
fn the_cache_is_laid_out_as_other_tools_expect_it() {
    let case = Case::new();
    let hub = case.client();
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), case.commit);
    let files = case.files(&hub);
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "sub/model.safetensors"]);
    let seen = AtomicU64::new(0);
    for file in &files {
        assert_eq!(hub.cached(&model(), &case.commit, file), None);
        let progress = |count| seen.store(count, Ordering::Relaxed);
        let fetched = hub.fetch(&model(), &case.commit, file, &progress).unwrap();
        assert!(fetched.downloaded);
        assert_eq!(seen.load(Ordering::Relaxed), file.size);
        assert_eq!(hub.cached(&model(), &case.commit, file), Some(fetched.path));
        assert!(hub.blob_path(&model(), file).is_file());
    }
    let folder = case.repo_folder();
    let snapshot = folder.join("snapshots").join(&case.commit);
    assert_eq!(hub.snapshot_dir(&model(), &case.commit), snapshot);
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), CONFIG);
    let link = |path: &str| fs::read_link(snapshot.join(path)).unwrap();
    assert_eq!(link("config.json"), Path::new("../../blobs").join(server::git_id(CONFIG)));
    assert_eq!(
        link("sub/model.safetensors"),
        Path::new("../../../blobs").join(server::sha256_of(&case.big))
    );
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), case.commit);
    let tree = fs::read_to_string(folder.join("trees").join(format!("{}.json", case.commit)));
    let tree: serde_json::Value = serde_json::from_str(&tree.unwrap()).unwrap();
    assert_eq!(tree["format_version"], 1);
    assert_eq!(tree["files"]["config.json"]["blob_id"], server::git_id(CONFIG));
    let large = &tree["files"]["sub/model.safetensors"];
    assert_eq!(large["lfs_sha256"], server::sha256_of(&case.big));
    assert_eq!(large["lfs_size"], case.big.len());
    // By the other crate's own eyes.
    let other = hf_hub::Cache::new(case.cache()).repo(hf_hub::Repo::model("o/n".to_owned()));
    assert_eq!(other.get("config.json"), Some(snapshot.join("config.json")));
    assert_eq!(case.leftovers(), Vec::<String>::new());
}

#[test]
fn a_second_fetch_asks_nobody() {
    let case = Case::with(6 << 20);
    case.fetch_big(&case.client()).unwrap();
    assert_eq!(fs::read_dir(case.folder.path().join("notes")).unwrap().count(), 1);
    case.server.clear_log();
    for hub in [case.client(), case.offline()] {
        let fetched = case.fetch_big(&hub).unwrap();
        assert!(!fetched.downloaded);
        case.assert_exact(&fetched);
    }
    assert!(case.server.log().is_empty());
    assert_eq!(case.offline().commit_of(&model(), &case.commit).unwrap(), case.commit);
}

#[test]
fn a_snapshot_of_another_tool_is_used_after_its_bytes_are_checked() {
    let case = Case::new();
    let hub = case.client();
    let files = case.files(&hub);
    let snapshot = hub.snapshot_dir(&model(), &case.commit);
    // One that links into blobs/, one that has no links, as on systems without them.
    fs::create_dir_all(snapshot.join("sub")).unwrap();
    fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
    fs::write(case.blob(&case.big), &case.big).unwrap();
    fs::write(snapshot.join("config.json"), CONFIG).unwrap();
    case.server.clear_log();
    for file in &files {
        assert!(!hub.fetch(&model(), &case.commit, file, &|_| ()).unwrap().downloaded);
    }
    assert!(case.server.log().is_empty());
    assert!(fs::read_link(case.pointer()).is_ok());
    assert!(!fs::symlink_metadata(snapshot.join("config.json")).unwrap().is_symlink());
}

#[test]
fn a_cache_that_cannot_be_written_is_enough_when_all_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let hub = case.client();
    hub.commit_of(&model(), "main").unwrap();
    case.fetch_big(&hub).unwrap();
    let mode = |mode| fs::set_permissions(case.cache(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let fetched = hub.commit_of(&model(), "main").and_then(|_| case.fetch_big(&hub));
    mode(0o755);
    assert!(!fetched.unwrap().downloaded);
}

#[test]
fn a_partial_file_of_other_bytes_costs_one_more_transfer() {
    for size in [1_000_000, 3_000_000, 3_000_001] {
        let case = Case::new();
        let hub = case.client();
        let partial = format!("{}.firebrand.incomplete", case.blob(&case.big).display());
        fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
        fs::write(partial, noise(size, 99)).unwrap();
        // A flipped byte on top of it is still not the end.
        case.server.fault(Fault::on("/_cdn/", Kind::Corrupt { at: 9 }).after(1));
        case.assert_exact(&case.fetch_big(&hub).unwrap());
    }
}

// ---------------------------------------------------------------------------------------------
// 27, 28: what stands in the cache is not what its name says

#[test]
fn fault_27_a_damaged_blob_is_found_and_fetched_anew() {
    // The larger one is noted as checked.
    for size in [3_000_000, 5 << 20] {
        let case = Case::with(size);
        case.fetch_big(&case.client()).unwrap();
        let mut damaged = case.big.clone();
        damaged[size / 2] ^= 1;
        fs::write(case.blob(&case.big), &damaged).unwrap();

        let error = case.fetch_big(&case.offline()).unwrap_err();
        said(&error, &["damaged in the cache", "sub/model.safetensors", "HF_HUB_OFFLINE"]);
        case.server.clear_log();
        let fetched = case.fetch_big(&case.client()).unwrap();
        assert!(fetched.downloaded);
        assert!(fs::read(&fetched.path).unwrap() == case.big);
        let aside = case.leftovers();
        assert!(aside.len() == 1 && aside[0].ends_with(".bad-1"), "{aside:?}");
        assert!(fs::read(case.repo_folder().join("blobs").join(&aside[0])).unwrap() == damaged);
        assert!(case.notices.lock().unwrap()[0].contains("was damaged in the cache"));
    }
}

#[test]
fn fault_28_an_error_page_under_a_good_name_is_found() {
    let case = Case::new();
    let hub = case.client();
    case.files(&hub);
    // As hf-hub 1.0.0 leaves it: linked, under the right name.
    let page = b"<html>log in</html>";
    fs::create_dir_all(case.pointer().parent().unwrap()).unwrap();
    fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
    fs::write(case.blob(&case.big), page).unwrap();
    let target = Path::new("../../../blobs").join(server::sha256_of(&case.big));
    std::os::unix::fs::symlink(target, case.pointer()).unwrap();
    let config = case.repo_folder().join("snapshots").join(&case.commit).join("config.json");
    fs::write(&config, page).unwrap(); // and without links
    assert!(fs::read(case.fetch_big(&hub).unwrap().path).unwrap() == case.big);
    let fetched = case.fetch(&hub, "config.json").unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), CONFIG);
    assert_eq!(case.leftovers().len(), 2);
    // The snapshot itself holds nothing else.
    assert_eq!(fs::read_dir(config.parent().unwrap()).unwrap().count(), 2);
}

#[test]
fn a_file_without_room_is_refused_before_it_is_begun() {
    let case = Case::new();
    let mut list = case.server.list("models/o/n", &case.commit);
    let mut entry = server::entry("huge", b"x");
    entry["size"] = (1_u64 << 60).into();
    list.as_array_mut().unwrap().push(entry);
    case.server.set_list("models/o/n", &case.commit, list);
    let error = case.fetch(&case.client(), "huge").unwrap_err();
    said(&error, &["not enough room on the disk for `huge`", "are free", "HF_HUB_CACHE"]);
    assert!(case.server.asked("/resolve/").is_empty());
}

/// Needs the right to mount a small disk; says so where there is none.
#[test]
fn a_disk_that_fills_up_leaves_no_half_file() {
    if std::env::var_os("TEST_HUB_SMALL_DISK").is_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().display();
        let this = std::env::current_exe().unwrap();
        let run = format!(
            "mount -t tmpfs -o size=2M none {disk} || exit 77; \
             exec {} --exact hub::cache::a_disk_that_fills_up_leaves_no_half_file",
            this.display()
        );
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &run])
            .env("TEST_HUB_SMALL_DISK", folder.path())
            .stdout(Stdio::null())
            .status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            Ok(Some(1 | 77)) | Err(_) => eprintln!("SKIPPED: no small disk can be mounted here"),
            other => panic!("{other:?}"),
        }
        return;
    }
    let disk = PathBuf::from(std::env::var_os("TEST_HUB_SMALL_DISK").unwrap());
    let case = Case::with(1_500_000);
    let settings = Settings { cache: disk.join("hub"), ..case.settings() };
    let hub = case.client_with(settings);
    let files = case.files(&hub);
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 3_000_000 }));
    // Someone else fills the disk while it runs.
    let fill = |_| drop(fs::write(disk.join("other"), noise(2 << 20, 1)));
    let error = hub.fetch(&model(), &case.commit, &files[1], &fill).unwrap_err();
    said(&error, &["cannot write", "the partial file was removed", "HF_HUB_CACHE"]);
    let blobs = disk.join("hub/models--o--n/blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    fs::remove_file(disk.join("other")).unwrap();
    hub.fetch(&model(), &case.commit, &files[1], &|_| ()).unwrap();
}
