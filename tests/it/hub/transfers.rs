//! Bytes on their way: lines that break, stall, lie and trickle.

use super::*;

// ---------------------------------------------------------------------------------------------
// 29, 30, 31: the line breaks, the hub is ill

#[test]
fn fault_29_resets_are_resumed() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 700_000 }).times(3));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert!(case.sent() <= case.big.len() + 3 * CHUNK, "{} bytes", case.sent());
    assert!(!case.ranges().is_empty());
}

#[test]
fn fault_30_short_bodies_are_resumed() {
    for kind in [
        Kind::Close { at: 700_000 },
        Kind::Truncate { at: 700_000 },
        Kind::NoLength { at: 700_000 },
    ] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", kind.clone()).times(3));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        assert!(case.sent() <= case.big.len() + 3 * CHUNK, "{kind:?}: {} bytes", case.sent());
        // A whole that says it is shorter is not begun; a part of a part is taken.
        if !matches!(kind, Kind::Truncate { .. }) {
            assert_eq!(case.ranges()[0], "bytes=700000-", "{kind:?}");
        }
    }
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
    case.server.fault(Fault::on("/_cdn/", Kind::Truncate { at: 300_000 }).times(3));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert_eq!(
        case.ranges(),
        ["1000000", "1300000", "1600000", "1900000"].map(|at| { format!("bytes={at}-") })
    );
}

#[test]
fn fault_33_an_expired_address_is_replaced_and_the_rest_asked_for() {
    for status in [401, 403, 404, 410] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        let expired = Kind::Status(status, vec![], "expired");
        case.server.fault(Fault::on("/_cdn/", expired).times(2));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        assert_eq!(case.server.asked("/resolve/").len(), 4);
        assert_eq!(case.ranges(), ["bytes=1000000-"; 3]);
    }
}

// ---------------------------------------------------------------------------------------------
// 35 to 38: other bytes, late bytes, wrong parts

#[test]
fn fault_35_a_flipped_byte_is_refused() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Corrupt { at: 1_234_567 }));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    says(
        &case.notices.lock().unwrap()[0],
        str![
            "`sub/model.safetensors` came damaged and is fetched again: its digest is not that in the hub's list"
        ],
    );

    for on in ["/_cdn/", "/resolve/"] {
        let case = Case::new();
        case.server.fault(Fault::on(on, Kind::Corrupt { at: 5 }).times(2));
        let path = if on == "/_cdn/" { "sub/model.safetensors" } else { "config.json" };
        let error = case.fetch(&case.client(), path).unwrap_err();
        said(&error, &["arrives damaged", "twice", path]);
        case.assert_nothing_published();
        assert_eq!(case.leftovers(), Vec::<String>::new());
        case.fetch(&case.client(), path).unwrap();
    }
}

#[test]
fn fault_36_a_web_page_is_no_file() {
    for declared in [true, false] {
        for (on, path) in [
            ("/_cdn/", "sub/model.safetensors"),
            ("/resolve/", "sub/model.safetensors"),
            ("/resolve/", "config.json"),
        ] {
            let case = Case::new();
            let hub = case.client();
            case.files(&hub);
            case.server.clear_log();
            case.server.fault(Fault::on(on, Kind::WebPage { declared }).for_ever());
            let error = case.fetch(&hub, path).unwrap_err();
            said(&error, &["a web page instead of", path, "login"]);
            case.assert_nothing_published();
            assert!(case.server.log().len() <= 2);
        }
    }
    let case = Case::new();
    case.server.fault(Fault::on("/api/", Kind::WebPage { declared: true }).times(2));
    says(
        case.client().commit_of(&model(), "main").unwrap_err(),
        str![[r#"
error[hub]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/revision/main answered with a web page instead of what it was asked for; something between here and the hub may want a login
"#]],
    );
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[hub]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] answered with a web page instead of what it was asked for; something between here and the hub may want a login
"#]],
    );
    // A page that says it is something else is no JSON either.
    case.server.fault(Fault::on("/api/", Kind::WebPage { declared: false }).for_ever());
    says(
        case.client().tree(&model(), &case.commit).unwrap_err(),
        str![[r#"
error[network]: cannot ask the hub about the model `o/n`
  because http://127.0.0.1:[PORT]/api/models/o/n/tree/[COMMIT] did not answer in JSON: expected value at line 1 column 1; that was try 8 in a row without progress

hint: try again later: what was received is kept. `HF_HUB_OFFLINE=1` works with what the cache has
"#]],
    );
}

#[test]
fn a_web_page_that_is_the_file_is_fetched() {
    let server = Case::new();
    let page: &[u8] = b"<!DOCTYPE html><html>a data set of pages</html>";
    let commit = server.server.add("models/o/n", "main", &[("a.html", page), ("b.txt", page)]);
    let case = Case { commit, ..server };
    let kind = Kind::Status(
        200,
        vec![("Content-Type", "text/html".to_owned())],
        "<!DOCTYPE html><html>a data set of pages</html>",
    );
    case.server.fault(Fault::on("a.html", kind));
    assert_eq!(fs::read(case.fetch(&case.client(), "a.html").unwrap().path).unwrap(), page);
    assert_eq!(fs::read(case.fetch(&case.client(), "b.txt").unwrap().path).unwrap(), page);
}

#[test]
fn compressed_answers_are_refused() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Encoded));
    says(
        case.fetch_big(&case.client()).unwrap_err(),
        str![[r#"
error[hub]: cannot download `sub/model.safetensors` of the model `o/n`
  because http://127.0.0.1:[PORT]/_cdn/[SHA256] answered in the encoding `gzip`, which was not asked for
"#]],
    );
    case.assert_nothing_published();
}

#[test]
fn fault_37_silence_has_a_limit_and_slowness_that_moves_has_none() {
    let case = Case::new();
    let short = Duration::from_millis(800);
    let silent = [Kind::Stall { at: 1_000_000, pause: wait::NEVER }, Kind::Delay(wait::NEVER)];
    for kind in silent {
        case.server.fault(Fault::on("/_cdn/", kind));
    }
    let timing = Timing { header: short, idle: short, ..case.settings().timing };
    let hub = case.client_with(Settings { timing, ..case.settings() });
    let begun = Instant::now();
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert!(begun.elapsed() < wait::NEVER, "it waited for what was silent");
    // A loaded machine may be silent once more, and loses nothing by it.
    assert!(case.ranges().len() >= 2 && case.ranges()[..2] == ["bytes=1000000-"; 2]);

    // Each pause is much shorter than the limit, all together are longer than it.
    let case = Case::with(2500);
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 500 }).for_ever());
    let limit = Duration::from_secs(4);
    let timing = Timing { idle: limit, ..case.settings().timing };
    let hub = case.client_with(Settings { timing, ..case.settings() });
    let begun = Instant::now();
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert!(begun.elapsed() > limit);
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

/// Byte after byte, each well before the longest silence: the file would take a day.
#[test]
fn a_file_that_trickles_is_given_up_and_what_came_is_kept() {
    let slow = Duration::from_millis(400);
    for kind in [Kind::Slow { bytes_per_second: 50 }, Kind::Close { at: 3 }] {
        let case = Case::with(100_000);
        let timing = Timing { slow, tries: 3, ..case.settings().timing };
        assert_eq!(timing.least(), 25);
        case.server.fault(Fault::on("/_cdn/", kind.clone()).for_ever());
        let client = case.client_with(Settings { timing, ..case.settings() });
        let error = case.fetch_big(&client).unwrap_err();
        let trickles = matches!(kind, Kind::Slow { .. });
        said(&error, &["were received and are kept"]);
        if trickles {
            said(&error, &["bytes a second for", "and at least 1024 are expected"]);
        }
        assert_eq!(case.server.asked("/_cdn/").len(), 3);
        case.assert_nothing_published();
        case.server.heal();
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    }
    // A line that is slow, but not as slow, is waited for: much longer than it may be slow.
    let case = Case::with(2000);
    let timing = Timing { slow, slowest: 200, ..case.settings().timing };
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 1000 }).for_ever());
    let client = case.client_with(Settings { timing, ..case.settings() });
    case.assert_exact(&case.fetch_big(&client).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

#[test]
fn fault_38_wrong_parts_still_give_the_exact_file() {
    for kind in [Kind::NoRange, Kind::WrongRange, Kind::Unsatisfiable] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        case.server.fault(Fault::on("/_cdn/", kind.clone()));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        let sent = case.sent();
        assert!(sent <= 2 * case.big.len() + case.big.len(), "{kind:?}: {sent} bytes");
    }
    // A server that never knows ranges, and whose line breaks ever later.
    let case = Case::new();
    for at in [500_000, 1_500_000, 1_000_000, 2_500_000] {
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at }));
    }
    case.server.fault(Fault::on("/_cdn/", Kind::Unsatisfiable).after(1));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

// ---------------------------------------------------------------------------------------------
// 42: a bad line

#[test]
fn fault_42_a_slow_line_that_breaks_again_and_again_gets_there() {
    let case = Case::with(600_000);
    let slow = Kind::Slow { bytes_per_second: 1_000_000 };
    for number in 0..12 {
        case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 40_000 + 1000 * number }));
    }
    case.server.fault(Fault::on("/_cdn/", slow).for_ever());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 13, "more breaks than tries, but with progress");
}
