//! Tests of `trusted-keys.toml`: what it allows, what it takes away, and its mistakes.

use snapbox::data::Inline;

use super::*;
use crate::snapshots::says;
use crate::verify::{KeyLimits, Role, TRUSTED_KEYS_FILE};

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(keys::TRUSTED_FOLDER)).unwrap();
    fs::write(home.path().join("trusted-keys/one.pem"), known_key().public().pem()).unwrap();
    home
}

fn trust(home: &tempfile::TempDir, text: &str) -> crate::error::Result<Trust> {
    fs::write(home.path().join(TRUSTED_KEYS_FILE), text).unwrap();
    Trust::of_user(home.path())
}

/// The fixture's answer where `trusted-keys.toml` says this of its key, on the first of May 2026.
fn report(text: &str) -> Report {
    let home = home();
    let mut fixture = Fixture::artifact();
    let entry = format!("[[key]]\nfile = \"trusted-keys/one.pem\"\n{text}");
    fixture.trust = trust(&home, &entry).unwrap().at("2026-05-01T12:00:00Z".parse().unwrap());
    fixture.report()
}

#[track_caller]
fn untrusted(text: &str, detail: Inline) {
    let report = report(text);
    assert_eq!(report.verdict, Verdict::Untrusted, "{report:#?}");
    let key = report.checks.iter().find(|finding| finding.check == Check::Key).unwrap();
    says(&key.detail, detail);
    assert_eq!(verdict_of(&report, Check::Signature), CheckVerdict::Pass, "it is still checked");
    assert_eq!(report.signer.unwrap().key_file, None);
}

#[track_caller]
fn trusted(text: &str) {
    let report = report(text);
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
}

#[test]
fn a_revoked_key_is_untrusted_with_the_reason() {
    untrusted(
        "revoked = true\nreason = \"laptop stolen\"\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) was revoked: laptop stolen"
        ],
    );
    untrusted(
        "revoked = true\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) was revoked: no reason is given"
        ],
    );
    trusted("revoked = false\n");
}

#[test]
fn a_key_with_another_role_is_untrusted() {
    untrusted(
        "roles = [\"gate\", \"promote\"]\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) has the role `gate` and `promote`, and `train` is needed"
        ],
    );
    trusted("roles = [\"promote\", \"train\"]\n");
    trusted("");
}

#[test]
fn a_key_counts_only_in_its_time() {
    untrusted(
        "not_after = \"2026-04-30T00:00:00Z\"\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) expired on 2026-04-30T00:00:00Z, and it is now 2026-05-01T12:00:00Z"
        ],
    );
    untrusted(
        "not_before = \"2026-05-02T00:00:00Z\"\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) is valid from 2026-05-02T00:00:00Z on, and it is now 2026-05-01T12:00:00Z"
        ],
    );
    trusted("not_before = \"2025-01-01T00:00:00+01:00\"\nnot_after = \"2027-01-01T00:00:00Z\"\n");
    // TOML's own times, too.
    untrusted(
        "not_after = 2026-04-30T00:00:00Z\n",
        snapbox::str![
            "the key [SHA256] ([FOLDER]/trusted-keys/one.pem) expired on 2026-04-30T00:00:00Z, and it is now 2026-05-01T12:00:00Z"
        ],
    );
}

#[test]
fn what_the_lineage_says_of_the_time_can_only_take_trust_away() {
    let finished: jiff::Timestamp = provenance::tests::outcome().finished.parse().unwrap();
    let later = finished + jiff::SignedDuration::from_hours(1);
    let limits = KeyLimits { not_before: Some(later), ..KeyLimits::default() };
    let now = later + jiff::SignedDuration::from_hours(1);
    let why = limits.objection(Some(Role::Train), now, Some(finished)).unwrap();
    says(
        why,
        snapbox::str![
            "is valid from 2026-10-20T11:02:07Z on, and what it signed says that it was finished on 2026-10-20T10:02:07Z"
        ],
    );
    assert_eq!(limits.objection(Some(Role::Train), now, None), None);

    // The whole way: the lineage of the fixture ends before the key counts.
    let home = home();
    let mut fixture = Fixture::of_before();
    let text = format!("[[key]]\nfile = \"trusted-keys/one.pem\"\nnot_before = \"{later}\"\n");
    fixture.trust = trust(&home, &text).unwrap().at(now);
    fixture.expect(Verdict::Untrusted, Check::Key, "what it signed says that it was finished on");
    fs::remove_file(fixture.path(crate::artifact::parent::STATEMENT_FILE)).unwrap();
    fs::remove_file(fixture.path(lineage::INPUTS_FILE)).unwrap();
    fixture.sign();
    assert_eq!(fixture.report().verdict, Verdict::Verified);
}

#[test]
fn limits_hold_wherever_else_the_key_lies() {
    let home = home();
    let pem = known_key().public().pem().to_owned();
    let text = format!("[[key]]\npem = \"\"\"\n{pem}\"\"\"\nrevoked = true\n");
    let all = trust(&home, &text).unwrap();
    assert_eq!(all.keys().len(), 1);
    assert_eq!(all.keys()[0].limits.revoked.as_deref(), Some(""));
    let named = Trust::key_file(&home.path().join("trusted-keys/one.pem")).unwrap();
    assert_eq!(named.keys()[0].limits, KeyLimits::default());
    let named = named.limited_by(home.path()).unwrap();
    assert_eq!(named.keys()[0].limits.revoked.as_deref(), Some(""));
}

fn repository(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn identity(root: &str) -> String {
    format!(
        "[[identity]]\ntrusted_root = \"{}\"\nidentity = \"a@example.com\"\n\
         issuer = \"https://accounts.example.com\"\n",
        repository(root)
    )
}

/// Of everybody who is trusted, whether they were revoked.
fn revoked(trust: &Trust) -> Vec<bool> {
    let keys = trust.keys().iter().map(|key| &key.limits);
    let authorities = trust.authorities().iter().map(|authority| &authority.limits);
    let identities = trust.identities().iter().map(|identity| &identity.limits);
    keys.chain(authorities).chain(identities).map(|it| it.revoked.is_some()).collect()
}

const REVOKED: &str = "revoked = true\n";

#[test]
fn no_list_gives_back_what_another_takes() {
    let home = home();
    let path = |name: &str| home.path().join(name).display().to_string();
    let key = format!("[[key]]\nfile = \"{}\"\n", path("trusted-keys/one.pem"));
    let authority = format!("[[authority]]\nfile = \"{}\"\n", repository("certificates/root.pem"));
    for entry in [key, authority, identity("keyless/trusted_root.json")] {
        let (free, taken) = (path("free.toml"), path("taken.toml"));
        fs::write(&free, &entry).unwrap();
        fs::write(&taken, format!("{entry}{REVOKED}")).unwrap();
        for lists in [[&free, &taken], [&taken, &free]] {
            let both = Trust::key_files(&lists.map(String::clone)).unwrap();
            assert_eq!(revoked(&both), [true], "{entry}");
            // One of them is the user's.
            fs::copy(lists[1], home.path().join(TRUSTED_KEYS_FILE)).unwrap();
            let named = Trust::key_files(&[lists[0].clone()]).unwrap();
            assert_eq!(revoked(&named.limited_by(home.path()).unwrap()), [true], "{entry}");
        }
    }
    // The key by itself, and in a list.
    fs::write(path("taken.toml"), format!("[[key]]\nfile = \"trusted-keys/one.pem\"\n{REVOKED}"))
        .unwrap();
    let (pem, list) = (path("trusted-keys/one.pem"), path("taken.toml"));
    for files in [[pem.clone(), list.clone()], [list, pem]] {
        assert_eq!(revoked(&Trust::key_files(&files).unwrap()), [true]);
    }
}

#[test]
fn an_identity_is_limited_under_its_own_root_or_else_under_any() {
    let home = home();
    let roots = ["keyless/trusted_root.json", "keyless/other_root.json"].map(identity);
    let named = |root: &str| {
        let path = home.path().join("named.toml");
        fs::write(&path, root).unwrap();
        let named = Trust::key_files(&[path.display().to_string()]).unwrap();
        revoked(&named.limited_by(home.path()).unwrap())
    };
    let user = |text: String| fs::write(home.path().join(TRUSTED_KEYS_FILE), text).unwrap();
    user(format!("{}{REVOKED}{}", roots[0], roots[1]));
    assert_eq!([named(&roots[0]), named(&roots[1])], [[true], [false]]);
    user(format!("{}{}{REVOKED}", roots[1], roots[0]));
    assert_eq!([named(&roots[0]), named(&roots[1])], [[true], [false]]);
    // Nothing is said under this root.
    user(format!("{}{REVOKED}", roots[0]));
    assert_eq!(named(&roots[1]), [true]);
}

#[test]
fn limits_of_two_lists_both_hold() {
    let time = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap());
    let (early, late) = (time("2026-01-01T00:00:00Z"), time("2026-06-01T00:00:00Z"));
    let none = KeyLimits::default();
    let one = KeyLimits {
        roles: Some(vec![Role::Train, Role::Gate]),
        not_before: early,
        not_after: late,
        revoked: None,
    };
    assert_eq!([one.narrowed(&none), none.narrowed(&one)], [one.clone(), one.clone()]);
    let other = KeyLimits {
        roles: Some(vec![Role::Gate, Role::Promote]),
        not_before: late,
        not_after: early,
        revoked: Some("lost".to_owned()),
    };
    let both = KeyLimits { roles: Some(vec![Role::Gate]), ..other.clone() };
    assert_eq!([one.narrowed(&other), other.narrowed(&one)], [both.clone(), both]);
    // Where nothing is left, nobody counts, whatever is asked.
    let promote = KeyLimits { roles: Some(vec![Role::Promote]), ..none };
    let left = KeyLimits { roles: one.roles, ..KeyLimits::default() }.narrowed(&promote);
    for role in [None, Some(Role::Promote)] {
        says(
            left.objection(role, jiff::Timestamp::now(), None).unwrap(),
            snapbox::str!["has no role that each list with it gives"],
        );
    }
}

#[test]
fn mistakes_are_told_with_their_line() {
    let home = home();
    let pem = known_key().public().pem().replace('\n', "\\n");
    let key = format!("[[key]]\npem = \"{pem}\"\n");
    for (text, place, part) in [
        (format!("{key}rolls = []\n"), ":3:1", "did you mean `roles`?"),
        ("keys = []\n".to_owned(), ":1:1", "did you mean `key`?"),
        (format!("{key}roles = [\"train\", \"test\"]\n"), ":3:19", "not `\"test\"`"),
        (format!("{key}roles = []\n"), ":3:9", "at least one of"),
        (format!("{key}not_after = \"2026-05-01\"\n"), ":3:13", "a time of RFC 3339"),
        (format!("{key}not_after = 2026-05-01\n"), ":3:13", "not the date `2026-05-01`"),
        (
            format!(
                "{key}not_before = \"2026-05-01T00:00:00Z\"\nnot_after = \"2026-05-01T00:00:00Z\"\n"
            ),
            ":4:13",
            "not later than",
        ),
        (
            format!("{key}reason = \"x\"\n"),
            ":3:10",
            "means nothing when `key.0.revoked` is `false`",
        ),
        (format!("{key}revoked = \"yes\"\n"), ":3:11", "must be `true` or `false`"),
        (format!("{key}{key}"), ":3:1", "is listed twice"),
        ("\n[[key]]\nroles = [\"train\"]\n".to_owned(), ":2:1", "either `file` or `pem`"),
        (format!("{key}file = \"x.pem\"\n"), ":3:8", "exclude each other"),
        ("[[key]]\nfile = \"none.pem\"\n".to_owned(), ":2:8", "cannot read the public key"),
        ("[[key]]\npem = \"nonsense\"\n".to_owned(), ":2:7", "there is no `PUBLIC KEY` block"),
        ("[[key]\n".to_owned(), ":1:", ""),
    ] {
        let error = trust(&home, &text).unwrap_err().to_string();
        assert!(error.contains(&format!("{TRUSTED_KEYS_FILE}{place}")), "{place}: {error}");
        assert!(error.contains(part), "{part}: {error}");
    }
}
