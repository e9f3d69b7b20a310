//! Tests of channels as a whole: forward, back, and every way to bend one.

use std::fs;
use std::path::Path;

use super::fixture::{Place, promotion};
use super::*;
use crate::artifact::envelope::Bundle;
use crate::error::{ErrorCode, Kind as ErrorKind};
use crate::files::Digest;
use crate::snapshots::says;

fn refused<T: std::fmt::Debug>(result: crate::error::Result<T>, part: &str) {
    let error = result.expect_err(part);
    assert!(error.to_string().contains(part), "{part}\n{error}");
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
}

/// Signs a changed pointer again, in the place of the old one.
fn bend(path: &Path, key: &crate::artifact::keys::SigningKey, change: impl FnOnce(&mut Pointer)) {
    let bundle = Bundle::parse(&fs::read(path).unwrap()).unwrap();
    let mut pointer = Pointer::parse(&bundle.payload).unwrap();
    change(&mut pointer);
    // Not `Pointer::sign`, which would refuse some.
    let payload = serde_json::to_vec(&pointer).unwrap();
    let bundle = Bundle::sign(PAYLOAD_TYPE, payload, key).unwrap();
    fs::write(path, format!("{}\n", bundle.to_json())).unwrap();
}

#[test]
fn a_promoted_model_is_the_one_that_is_found() {
    let place = Place::new();
    let (a, b) = (place.passed("a"), place.passed("b"));
    says(
        place.resolve().unwrap_err(),
        snapbox::str![[r#"
error[channel]: there is no channel `production`
  at [FOLDER]/registry

hint: `firebrand promote ARTIFACT --channel production` creates it
"#]],
    );
    let first = place.promote(&a).unwrap();
    assert_eq!(first.path, place.path("registry/channels/production/00000001.json"));
    let found = place.resolve().unwrap();
    assert_eq!(found.path(), a);
    let pointer = &found.entry.pointer;
    assert_eq!((pointer.serial, pointer.kind), (1, PointerKind::Promote));
    assert_eq!(pointer.reason, "gate PASSED by gate.toml");
    assert_eq!(pointer.metrics["loss"], 1.25);
    assert_eq!(pointer.model.path.as_deref(), Some("../a"));
    let line = fs::read_to_string(place.path("a.sigstore.jsonl")).unwrap();
    assert_eq!(pointer.vsa_sha256, Digest::of(line.trim_end().as_bytes()));
    let days = pointer.expires.duration_since(pointer.issued).as_secs() / 86400;
    assert_eq!(days, 30);

    let before = fs::read(&first.path).unwrap();
    let second = place.promote(&b).unwrap();
    let previous = second.pointer.previous.as_ref().unwrap();
    assert_eq!((previous.serial, previous.sha256), (1, Digest::of(&before)));
    assert_eq!(place.resolve().unwrap().path(), b);
    assert_eq!(fs::read(&first.path).unwrap(), before, "nothing is rewritten");
    // The folder may move, with all that lies beside it.
    let all = place.path("registry/channels/production").read_dir().unwrap().count();
    assert_eq!(all, 2, "nothing is left over");
}

#[test]
fn only_what_passed_is_promoted() {
    let place = Place::new();
    let model = place.model("a");
    refused(place.promote(&model), "no verdict on exactly these files");
    let other = place.passed("b");
    fs::copy(place.path("b.sigstore.jsonl"), place.path("a.sigstore.jsonl")).unwrap();
    refused(place.promote(&model), "about other files");
    fs::remove_file(place.path("a.sigstore.jsonl")).unwrap();
    let statement = fixture::summary(&model, "PASSED", "2026-01-01T00:00:00Z");
    place.attest(&model, &statement, "promote");
    refused(place.promote(&model), "`gate` is needed");
    place.verdict(&model, "FAILED", "2026-01-01T00:00:00Z");
    refused(place.promote(&model), "is a refusal");
    place.verdict(&model, "PASSED", "2026-01-02T00:00:00Z");
    assert!(!place.path("registry/channels").exists(), "nothing was written so far");
    place.promote(&model).unwrap();
    fs::remove_file(other.join("model.sig")).unwrap();
    refused(place.promote(&other), "unsigned");
    fs::write(model.join("weights"), "other").unwrap();
    refused(place.promote(&model), "tampered");
    place.trust_with(|role| if role == "gate" { "revoked = true" } else { "" }.to_owned());
    refused(place.promote(&place.passed("c")), "revoked");
}

#[test]
fn only_a_key_with_the_role_promotes() {
    let place = Place::new();
    let model = place.passed("a");
    let (trust, seen) = (place.trust(), place.seen());
    let stranger = crate::artifact::keys::SigningKey::generate().unwrap();
    for (key, why) in [(place.key("gate"), "`promote` is needed"), (&stranger, "trusted keys")] {
        let by = Authority { key, trust: &trust, seen: &seen };
        refused(place.channel().promote(&promotion(&model), &by), why);
    }
    assert!(!place.path("registry/channels").exists());
    let entry = place.promote(&model).unwrap();
    // A pointer by another key is refused by readers and writers alike.
    bend(&entry.path, place.key("gate"), |_| ());
    refused(place.resolve(), "a key that may not promote");
    refused(place.promote(&model), "`promote`");
}

#[test]
fn rollback_goes_to_the_last_model_that_was_not_taken_back() {
    let place = Place::new();
    let models = ["a", "b", "c"].map(|name| place.passed(name));
    let [a, b, c] = &models;
    for model in &models {
        place.promote(model).unwrap();
    }
    place.promote(c).unwrap(); // only its date is renewed
    let (entry, passed_over) = place.roll_back(None).unwrap();
    assert_eq!((entry.pointer.serial, entry.pointer.kind), (5, PointerKind::Rollback));
    assert_eq!((entry.pointer.reason.as_str(), passed_over.len()), ("it is worse", 0));
    assert_eq!(place.resolve().unwrap().path(), *b);
    let (_, passed_over) = place.roll_back(None).unwrap();
    assert_eq!(place.resolve().unwrap().path(), *a);
    says(&passed_over[0], snapbox::str!["serial number 4: it was taken back at [NOW]"]);
    let error = place.roll_back(None).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the channel `production` has no good model to go back to
  because serial number 5: it was taken back at [NOW]
  because serial number 4: it was taken back at [NOW]

hint: `--to SERIAL` goes back to a model that was taken back once
"#]],
    );
    // By hand anything goes that holds.
    says(
        place.roll_back(Some(1)).unwrap_err(),
        snapbox::str!["error[channel]: the model of serial number 1 is in use now"],
    );
    says(
        place.roll_back(Some(99)).unwrap_err(),
        snapbox::str![[r#"
error[channel]: the channel has no serial number 99

hint: `firebrand log production` shows them
"#]],
    );
    place.roll_back(Some(3)).unwrap();
    assert_eq!(place.resolve().unwrap().path(), *c);
    assert_eq!(place.resolve().unwrap().entry.pointer.metrics["loss"], 1.25);
    // What was taken back needs a newer verdict; what came back by hand does not.
    place.promote(c).unwrap();
    refused(place.promote(b), "taken back after the gate had passed it");
    place.verdict(b, "PASSED", "2999-01-01T00:00:00Z");
    place.promote(b).unwrap();
}

#[test]
fn rollback_passes_over_what_does_not_hold_any_more() {
    let place = Place::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| place.passed(name));
    for model in [&a, &b, &c, &d] {
        place.promote(model).unwrap();
    }
    fs::write(c.join("weights"), "other").unwrap();
    place.verdict(&b, "FAILED", "2027-01-01T00:00:00Z");
    refused(place.roll_back(Some(3)), "tampered");
    refused(place.roll_back(Some(2)), "is a refusal");
    let (_, passed_over) = place.roll_back(None).unwrap();
    assert_eq!(passed_over.len(), 2, "{passed_over:?}");
    assert_eq!(place.resolve().unwrap().path(), a);
}

#[test]
fn two_promoters_at_once_leave_one_pointer_and_one_error() {
    let place = Place::new();
    let models = ["a", "b", "c", "d"].map(|name| place.passed(name));
    let results: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = models.iter().map(|model| scope.spawn(|| place.promote(model))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let chain = place.channel().read().unwrap();
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert!(won >= 1);
    assert_eq!(chain.entries.len(), won, "each success is a pointer of its own");
    for error in results.into_iter().filter_map(Result::err) {
        let text = error.to_string();
        says(
            text,
            snapbox::str![[r#"
error[already-running]: someone else has just written serial number [..]
  at [FOLDER]/registry/channels/production/[..].json

hint: nothing of yours was written; look at it with `firebrand log`, and try again
"#]],
        );
    }
    // Exactly the same moment: both have read the same chain.
    let (trust, next, newest) = (place.trust(), chain.next(), chain.newest().unwrap());
    let pointer =
        Pointer { serial: next.1, previous: next.0, nonce: None, ..newest.pointer.clone() };
    chain.append(pointer.clone(), place.key("promote"), &trust).unwrap();
    let before = fs::read(place.channel().path_of(pointer.serial)).unwrap();
    let error = chain.append(pointer.clone(), place.key("promote"), &trust).unwrap_err();
    says(
        &error,
        snapbox::str![[r#"
error[already-running]: someone else has just written serial number 2
  at [FOLDER]/registry/channels/production/00000002.json

hint: nothing of yours was written; look at it with `firebrand log`, and try again
"#]],
    );
    assert_eq!(fs::read(place.channel().path_of(pointer.serial)).unwrap(), before);
    let folder = place.path("registry/channels/production");
    assert_eq!(folder.read_dir().unwrap().count() as u64, pointer.serial, "no scratch file");
}

#[test]
fn a_replayed_channel_is_refused_by_who_has_seen_more() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.passed(name));
    place.promote(&a).unwrap();
    let second = place.promote(&b).unwrap();
    place.resolve().unwrap();
    let bytes = fs::read(&second.path).unwrap();
    fs::remove_file(&second.path).unwrap();
    refused(place.resolve(), "2 was seen before");
    refused(place.promote(&a), "2 was seen before");
    refused(place.roll_back(None), "2 was seen before");
    // Also where it was moved to.
    fs::rename(place.path("registry"), place.path("moved")).unwrap();
    let moved = Channel::new(&place.path("moved"), "production").unwrap();
    refused(moved.resolve(None, &place.trust(), &place.seen()), "2 was seen before");
    fs::write(place.path("moved/channels/production/00000002.json"), &bytes).unwrap();
    moved.resolve(None, &place.trust(), &place.seen()).unwrap();
    // And another channel of the same name in the same place, though a trusted key signed it.
    place.promote(&a).unwrap();
    refused(place.resolve(), "2 was seen before");
    place.forget();
    place.resolve().unwrap();
}

#[test]
fn a_gap_a_swap_and_a_change_are_found() {
    let place = Place::new();
    let models = ["a", "b", "c"].map(|name| place.passed(name));
    let paths: Vec<_> = models.iter().map(|model| place.promote(model).unwrap().path).collect();
    place.resolve().unwrap();
    let bytes: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let put_back = || {
        for (path, bytes) in paths.iter().zip(&bytes) {
            fs::write(path, bytes).unwrap();
        }
        place.resolve().unwrap();
    };
    fs::remove_file(&paths[1]).unwrap();
    refused(place.resolve(), "serial number 2 is missing");
    refused(place.promote(&models[0]), "serial number 2 is missing");
    put_back();
    fs::remove_file(&paths[0]).unwrap();
    refused(place.resolve(), "serial number 1 is missing");
    put_back();
    fs::write(&paths[2], &bytes[1]).unwrap();
    refused(place.resolve(), "this is the pointer of serial number 2");
    put_back();
    fs::copy(&paths[2], place.channel().path_of(4)).unwrap();
    refused(place.resolve(), "this is the pointer of serial number 3");
    fs::remove_file(place.channel().path_of(4)).unwrap();
    // A pointer that the right key signs again is not the one that the next one follows.
    bend(&paths[1], place.key("promote"), |it| it.reason = "history, as I like it".to_owned());
    refused(place.resolve(), "serial number 2 is not the one that this follows");
    put_back();
    bend(&paths[2], place.key("promote"), |it| it.previous = None);
    refused(place.resolve(), "says that it is the first");
    put_back();
    bend(&paths[2], place.key("promote"), |it| it.channel = "staging".to_owned());
    refused(place.resolve(), "one of the channel `staging`");
    put_back();
    bend(&paths[2], place.key("promote"), |it| it.model.uri = Some("x:y".to_owned()));
    refused(place.resolve(), "exactly one of `path` and `uri`");
    put_back();
    let text = String::from_utf8(bytes[2].clone()).unwrap();
    let mut bundle = Bundle::parse(text.as_bytes()).unwrap();
    bundle.payload = String::from_utf8(bundle.payload).unwrap().replace("gate P", "Gate P").into();
    fs::write(&paths[2], bundle.to_json()).unwrap();
    refused(place.resolve(), "did not sign this");
    for damage in ["", "{", "null", &text[..text.len() / 2]] {
        fs::write(&paths[2], damage).unwrap();
        refused(place.resolve(), "damaged");
    }
    fs::write(&paths[2], vec![b' '; 300 << 10]).unwrap();
    refused(place.resolve(), "more than");
    fs::write(&paths[2], text.replace("channel+json", "other+json")).unwrap();
    refused(place.resolve(), "not a channel pointer");
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_no_pointers() {
    let place = Place::new();
    let entry = place.promote(&place.passed("a")).unwrap();
    let real = place.path("real.json");
    fs::rename(&entry.path, &real).unwrap();
    std::os::unix::fs::symlink(&real, &entry.path).unwrap();
    assert!(place.resolve().is_err());
    fs::remove_file(&entry.path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&entry.path).status().unwrap();
    assert!(made.success());
    refused(place.resolve(), "only regular files");
}

#[test]
fn an_expired_pointer_counts_no_more_and_can_be_renewed() {
    let place = Place::new();
    let model = place.passed("a");
    place.promote(&model).unwrap();
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(31 * 24);
    let resolve = |days: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(days * 24);
        place.channel().resolve(None, &place.trust().at(time), &place.seen())
    };
    resolve(29).unwrap();
    refused(resolve(31), "expired at");
    let (trust, seen) = (place.trust().at(later), place.seen());
    let by = Authority { key: place.key("promote"), trust: &trust, seen: &seen };
    let renewed = Promotion { days: 60, ..promotion(&model) };
    place.channel().promote(&renewed, &by).unwrap();
    resolve(31).unwrap();
    refused(resolve(61), "expired at");
}

#[test]
fn a_revoked_key_closes_the_channel_for_readers_until_a_good_one_writes() {
    let mut place = Place::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| place.passed(name));
    place.promote(&a).unwrap();
    place.promote(&b).unwrap();
    // The old key is known as one that is revoked; a new one takes over.
    let old = place.replace("promote");
    place.revoke(&old);
    refused(place.resolve(), "was revoked");
    let error = place.roll_back(None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the channel `production` has no good model to go back to
  because serial number 1: the pointer does not count: the key [HEX] was revoked: stolen

hint: `--to SERIAL` goes back to a model that was taken back once
"#]],
    );
    place.promote(&c).unwrap();
    assert_eq!(place.resolve().unwrap().path(), c);
    let error = place.roll_back(None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the channel `production` has no good model to go back to
  because serial number 2: the pointer does not count: the key [HEX] was revoked: stolen
  because serial number 1: the pointer does not count: the key [HEX] was revoked: stolen

hint: `--to SERIAL` goes back to a model that was taken back once
"#]],
    );
}

#[test]
fn a_key_whose_time_is_over_still_vouches_for_what_it_signed_then() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.passed(name));
    place.promote(&a).unwrap();
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let mut place = place;
    let old = place.replace("promote");
    place.trust_until(&old, in_an_hour);
    place.promote(&b).unwrap();
    let chain = place.channel().read().unwrap();
    let trust = place.trust().at(in_an_hour + jiff::SignedDuration::from_hours(1));
    says(
        chain.entries[0].signed(&trust).objection.unwrap(),
        snapbox::str!["the key [HEX] expired on [NOW], and it is now [NOW]"],
    );
    assert_eq!(chain.entries[0].signed_then(&trust).objection, None);
    place.roll_back(None).unwrap();
}

#[test]
fn a_model_in_the_registry_outlives_the_run() {
    let place = Place::new();
    let model = place.passed("a");
    let copy = Promotion { copy: true, reason: Some("by hand\n\u{1b}[2J"), ..promotion(&model) };
    let entry = place.promote_with(&copy).unwrap();
    assert_eq!(entry.pointer.reason, "by hand [2J");
    fs::remove_dir_all(&model).unwrap();
    let found = place.resolve().unwrap();
    let sig = entry.pointer.model.sig_sha256.to_string();
    assert_eq!(found.path(), place.path("registry").join(MODELS).join(&sig));
    assert_eq!(found.entry.pointer.model.path, Some(format!("models/{sig}")));
    fs::write(found.path().join("weights"), "other").unwrap();
    refused(place.resolve(), "tampered");
}

/// Two channels of one name that begin in the same second, with the same model, by the same key,
/// are two: what is known of one says nothing of the other.
#[test]
fn every_channel_begins_with_a_number_of_its_own() {
    let place = Place::new();
    let model = place.passed("a");
    let first = place.promote(&model).unwrap();
    let second = place.promote(&model).unwrap();
    assert!(first.pointer.nonce.is_some() && second.pointer.nonce.is_none());
    place.resolve().unwrap();
    let (old, moved) = (place.path("registry"), place.path("moved"));
    fs::rename(&old, &moved).unwrap();
    let other = place.path("other");
    let channel = Channel::new(&other, "production").unwrap();
    let (trust, seen) = (place.trust(), place.seen());
    let by = Authority { key: place.key("promote"), trust: &trust, seen: &seen };
    let begun = channel.promote(&promotion(&model), &by).unwrap();
    assert_ne!(begun.pointer.nonce, first.pointer.nonce);
    // A new channel with one pointer is no older copy of one with two.
    channel.resolve(None, &trust, &seen).unwrap();
    // The first one cut short is.
    fs::remove_file(moved.join("channels/production/00000002.json")).unwrap();
    let cut = Channel::new(&moved, "production").unwrap();
    refused(cut.resolve(None, &trust, &seen), "2 was seen before");
    // Channels that earlier versions began go on.
    bend(&begun.path, place.key("promote"), |pointer| pointer.nonce = None);
    place.forget();
    channel.resolve(None, &trust, &place.seen()).unwrap();
}

#[cfg(unix)]
#[test]
fn what_a_killed_promotion_left_goes_with_the_next_one() {
    let place = Place::new();
    let (a, b) = (place.passed("a"), place.passed("b"));
    let copy = |model| place.promote_with(&Promotion { copy: true, ..promotion(model) });
    copy(&a).unwrap();
    let models = place.path("registry/models");
    let half = models.join(".tmp-0123.4000000-0-1");
    fs::create_dir_all(half.join("inside")).unwrap();
    fs::write(half.join("inside/more"), "mo").unwrap();
    let pointer = place.path("registry/channels/production/.tmp-00000002.json.4000000-0-1");
    fs::write(&pointer, "{").unwrap();
    let elsewhere = place.path("a");
    std::os::unix::fs::symlink(&elsewhere, models.join(".tmp-link")).unwrap();
    fs::write(models.join(".keep"), "").unwrap();
    // Someone else is writing: it may be theirs.
    let other = fs::File::open(place.path("registry")).unwrap();
    other.lock_shared().unwrap();
    copy(&b).unwrap();
    assert!(half.exists() && pointer.exists());
    drop(other);
    place.promote(&a).unwrap();
    assert!(!half.exists() && !pointer.exists());
    assert!(models.join(".tmp-link").symlink_metadata().is_err());
    assert!(elsewhere.join("weights").exists(), "links are removed, not followed");
    let left: Vec<_> = models.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    let hidden = left.iter().filter(|name| name.to_string_lossy().starts_with('.')).count();
    assert_eq!(hidden, 1, "what is not ours stays: {left:?}");
}

#[test]
fn a_model_that_was_published_is_found_where_the_reader_has_it() {
    let place = Place::new();
    let (model, other) = (place.passed("a"), place.passed("b"));
    let uri = Some("https://example.com/a.tar.gz");
    place.promote_with(&Promotion { uri, ..promotion(&model) }).unwrap();
    let resolve =
        |given: Option<&Path>| place.channel().resolve(given, &place.trust(), &place.seen());
    says(
        resolve(None).unwrap_err(),
        snapbox::str![[r#"
error[channel]: the model was published at https://example.com/a.tar.gz

hint: fetch it from there and name its folder with `--model`
"#]],
    );
    let place_of = || place.channel().where_to(&place.trust(), &place.seen());
    assert_eq!(Some(place_of().unwrap().as_str()), uri);
    assert_eq!(resolve(Some(&model)).unwrap().path(), model);
    refused(resolve(Some(&other)), "another model");
    let later = place.trust().at("2999-01-01T00:00:00Z".parse().unwrap());
    refused(place.channel().where_to(&later, &place.seen()), "expired");
    place.promote(&model).unwrap();
    assert_eq!(place_of().unwrap(), model.display().to_string());
}

#[test]
fn what_lies_in_the_folder_otherwise_changes_nothing_and_is_shown() {
    let place = Place::new();
    place.promote(&place.passed("a")).unwrap();
    let folder = place.path("registry/channels/production");
    for name in ["README.md", "1.json", "00000000.json", "00000002.json.bak", ".hidden"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    place.resolve().unwrap();
    let found = place.channel().look().unwrap();
    assert_eq!(found.len(), 5);
    assert_eq!(found.iter().filter(|found| found.entry.is_ok()).count(), 1);
}

#[test]
fn a_rollback_that_is_about_another_pointer_is_not_made() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.passed(name));
    place.promote(&a).unwrap();
    place.promote(&b).unwrap();
    let (trust, seen) = (place.trust(), place.seen());
    let by = Authority { key: place.key("promote"), trust: &trust, seen: &seen };
    let back = Return { from: Some(1), to: None, model: None, reason: "drift", days: 30 };
    let error = place.channel().roll_back(&back, &by).unwrap_err().to_string();
    says(
        &error,
        snapbox::str!["error[channel]: the channel has meanwhile reached serial number 2"],
    );
    let nothing = Return { from: None, reason: " \n", ..back };
    let error = place.channel().roll_back(&nothing, &by).unwrap_err().to_string();
    says(&error, snapbox::str!["error[channel]: a reason is required"]);
    assert_eq!(place.channel().read().unwrap().entries.len(), 2);
}

#[test]
fn a_disk_that_fails_in_the_middle_leaves_the_channel_as_it_was() {
    use crate::files::{Call, watch};
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.passed(name));
    place.promote(&a).unwrap();
    let folder = place.path("registry/channels/production");
    for call in [Call::Open, Call::Write, Call::Sync, Call::Rename] {
        let watch = watch(&folder, move |asked, _| match asked == call {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        let error = place.promote(&b).unwrap_err();
        assert_eq!(error.code, ErrorCode::DiskFull, "{call:?}: {error}");
        drop(watch);
        assert_eq!(folder.read_dir().unwrap().count(), 1, "{call:?}");
        assert_eq!(place.resolve().unwrap().path(), a);
    }
    // So does a copy that cannot be finished.
    let registry = place.path("registry/models");
    for call in [Call::CreateDir, Call::Open, Call::Write, Call::Sync, Call::Rename] {
        let watch = watch(&registry, move |asked, _| match asked == call {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        let copy = Promotion { copy: true, ..promotion(&b) };
        assert!(place.promote_with(&copy).is_err(), "{call:?}");
        drop(watch);
        assert_eq!(registry.read_dir().map_or(0, Iterator::count), 0, "{call:?}");
    }
    place.promote_with(&Promotion { copy: true, ..promotion(&b) }).unwrap();
    place.resolve().unwrap();
}
