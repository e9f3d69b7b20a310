//! Several processes and threads with one cache, and downloads that are killed or ended.

use super::*;

// ---------------------------------------------------------------------------------------------
// 26: two processes, one cache. 29 with kill -9. The child is this test program again.

#[test]
#[ignore = "the other process of the tests below"]
fn child_process() {
    let Ok(cache) = std::env::var("TEST_HUB_CACHE") else { return };
    let settings = Settings {
        endpoint: std::env::var("TEST_HUB_ENDPOINT").unwrap(),
        token: None,
        cache: cache.into(),
        notes: None,
        offline: false,
        timing: Timing::default(),
    };
    let hub = Hub::new(settings).unwrap();
    let commit = hub.commit_of(&model(), "main").unwrap();
    for file in hub.tree(&model(), &commit).unwrap() {
        hub.fetch(&model(), &commit, &file, &|_| ()).unwrap();
    }
}

fn start_child(case: &Case) -> Child {
    this_test!("child_process")
        .env("TEST_HUB_CACHE", case.cache())
        .env("TEST_HUB_ENDPOINT", case.server.endpoint())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn fault_26_two_processes_with_one_cache_transfer_each_file_once() {
    let case = Case::with(1_000_000);
    let slow = Kind::Slow { bytes_per_second: 1_000_000 };
    case.server.fault(Fault::on("/_cdn/", slow).for_ever());
    let mut children = [start_child(&case), start_child(&case)];
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let config = case.server.asked("/resolve/");
    assert_eq!(config.iter().filter(|request| request.path.ends_with("config.json")).count(), 1);
    assert_eq!((case.server.asked("/_cdn/").len(), case.sent()), (1, case.big.len()));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

#[test]
fn threads_of_one_process_transfer_each_file_once() {
    let case = Case::new();
    let hub = case.client();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| case.fetch_big(&hub))).collect();
        for fetch in fetches {
            case.assert_exact(&fetch.join().unwrap().unwrap());
        }
    });
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

#[test]
fn a_killed_download_goes_on_from_the_byte_it_had() {
    let case = Case::new();
    let stall = Kind::Stall { at: 2_000_000, pause: wait::NEVER };
    case.server.fault(Fault::on("/_cdn/", stall));
    let mut child = start_child(&case);
    let partial = format!("{}.firebrand.incomplete", case.blob(&case.big).display());
    wait::until("a part of the file", || {
        fs::metadata(&partial).is_ok_and(|found| found.len() >= 1_000_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    case.assert_nothing_published();
    let kept = fs::metadata(&partial).unwrap().len();
    case.server.clear_log();
    let hub = case.client();
    let first = Mutex::new(None);
    let files = case.files(&hub);
    let progress = |count| {
        first.lock().unwrap().get_or_insert(count);
    };
    let fetched = hub.fetch(&model(), &case.commit, &files[1], &progress).unwrap();
    case.assert_exact(&fetched);
    assert_eq!(case.ranges(), [format!("bytes={kept}-")]);
    assert_eq!(first.into_inner().unwrap(), Some(kept));
}

// ---------------------------------------------------------------------------------------------
// Stopping, and a full disk

#[test]
fn a_download_ends_soon_when_asked_and_goes_on_later() {
    // Whoever does not end when asked waits for ten minutes.
    let silent = Kind::Stall { at: 1_500_000, pause: wait::NEVER };
    let asks = Kind::Status(429, vec![("Retry-After", "600".to_owned())], "");
    let slow = Kind::Slow { bytes_per_second: 5000 };
    for kind in [silent, slow, Kind::Delay(wait::NEVER), asks] {
        let case = Case::new();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let hub = case.client().with_stop(move || asked.load(Ordering::Relaxed));
        case.files(&hub);
        case.server.fault(Fault::on("/_cdn/", kind));
        let begun = Instant::now();
        let error = std::thread::scope(|scope| {
            let fetch = scope.spawn(|| case.fetch_big(&hub).unwrap_err());
            wait::until("a request", || !case.server.asked("/_cdn/").is_empty());
            stop.store(true, Ordering::Relaxed);
            fetch.join().unwrap()
        });
        said(&error, &["the download was stopped"]);
        assert!(begun.elapsed() < wait::NEVER, "it did not end");
        case.assert_nothing_published();
        said(&hub.commit_of(&model(), "main").unwrap_err(), &["was stopped"]);
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    }
}

#[test]
fn waiting_for_another_process_ends_when_asked() {
    let case = Case::new();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let hub = case.client().with_stop(move || asked.load(Ordering::Relaxed));
    let files = case.files(&hub);
    let locks = case.cache().join(".locks/models--o--n");
    fs::create_dir_all(&locks).unwrap();
    let name = format!("{}.lock", server::sha256_of(&case.big));
    let other = fs::File::create(locks.join(name)).unwrap();
    other.lock().unwrap();
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| hub.fetch(&model(), &case.commit, &files[1], &|_| ()));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!fetch.is_finished());
        stop.store(true, Ordering::Relaxed);
        said(&fetch.join().unwrap().unwrap_err(), &["was stopped"]);
    });
    assert!(case.server.asked("/_cdn/").is_empty());
}
