//! Tests of who counts as another that made a model again.

use super::*;
use crate::artifact::attestations::append;
use crate::artifact::certificate::Certificate;
use crate::artifact::reproduction;

const ROOT: &str = "tests/fixtures/certificates/root.pem";

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates")
}

/// A key that signs in its own name.
fn key(name: &str) -> SigningKey {
    let text = fs::read_to_string(certificates().join(format!("{name}.key.pem"))).unwrap();
    SigningKey::from_pem(&text, name).unwrap()
}

/// The same with its certificate, which is `CN=Release,O=Example` for each of them.
fn certified(name: &str, chain: &str) -> SigningKey {
    let chain = certificates().join(format!("{chain}.chain.pem"));
    key(name).certified(Certificate::all_from_file(&chain).unwrap()).unwrap()
}

/// An entry of `trusted-keys.toml`.
fn listed(key: &SigningKey, roles: &str) -> String {
    format!("[[key]]\npem = \"\"\"\n{}\"\"\"\n{roles}", key.public().pem())
}

fn authority(roles: &str) -> String {
    format!("[[authority]]\nfile = \"{}/{ROOT}\"\n{roles}", env!("CARGO_MANIFEST_DIR"))
}

/// What is told of a model by one signer that others made again, for somebody who trusts these.
fn told(model: SigningKey, others: &[SigningKey], list: &[String]) -> String {
    let fixture = Fixture { key: model, ..Fixture::plain() };
    fixture.sign();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.toml");
    fs::write(&path, list.concat()).unwrap();
    let trust = Trust::key_files(&[path.display().to_string()]).unwrap();
    let trust = trust.at("2030-06-01T00:00:00Z".parse().unwrap());
    let report = verify(fixture.folder.path(), &trust);
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    let statement =
        reproduction::statement(&report.files, &reproduction::of_same_bytes()).into_bytes();
    let sign = |key: &SigningKey| Bundle::sign(IN_TOTO, statement.clone(), key).unwrap();
    let bundles: Vec<Bundle> = others.iter().map(sign).collect();
    let directory = folder.path().join("model");
    fs::create_dir(&directory).unwrap();
    append(&directory, &bundles).unwrap();
    reproducers(&directory, &report, &trust).unwrap().told(9).1
}

const TRAIN: &str = "roles = [\"train\"]\n";
const REPRODUCE: &str = "roles = [\"reproduce\"]\n";
const BOTH: &str = "roles = [\"train\", \"reproduce\"]\n";

#[test]
fn certificates_of_one_subject_are_of_one_signer() {
    let (mine, next) = (certified("release", "good"), certified("p384", "p384"));
    says(
        told(mine, &[next], &[authority(BOTH)]),
        snapbox::str![
            "0 of 9 others got the same bytes; not counted: line 1: the certificate `CN=Release,O=Example` has signed the model itself"
        ],
    );
    let list = [listed(&known_key(), TRAIN), authority(REPRODUCE)];
    says(
        told(known_key(), &[certified("p384", "p384"), certified("p521", "p521")], &list),
        snapbox::str!["1 of 9 others got the same bytes: certificate `CN=Release,O=Example`"],
    );
}

#[test]
fn a_key_and_a_certificate_of_it_are_one() {
    let list =
        [listed(&known_key(), TRAIN), listed(&key("release"), REPRODUCE), authority(REPRODUCE)];
    let both = || [key("release"), certified("release", "good")];
    says(
        told(known_key(), &both(), &list),
        snapbox::str!["1 of 9 others got the same bytes: key [HEX]"],
    );
    let [bare, with] = both();
    says(
        told(known_key(), &[with, bare], &list),
        snapbox::str!["1 of 9 others got the same bytes: certificate `CN=Release,O=Example`"],
    );
    // Nor does either count for the other where one of them signed the model.
    let list = [listed(&key("release"), BOTH), authority(BOTH)];
    let [bare, with] = both();
    says(
        told(bare, &[with], &list),
        snapbox::str![
            "0 of 9 others got the same bytes; not counted: line 1: the certificate `CN=Release,O=Example` has signed the model itself"
        ],
    );
    let [bare, with] = both();
    says(
        told(with, &[bare], &list),
        snapbox::str![
            "0 of 9 others got the same bytes; not counted: line 1: the key [HEX] has signed the model itself"
        ],
    );
}

/// As where another key signs again what the user's own key has made: nobody says who trained.
#[test]
fn only_who_is_named_for_it_makes_models_again() {
    let list = [listed(&known_key(), ""), listed(&key("release"), TRAIN), authority("")];
    says(
        told(key("release"), &[known_key(), certified("p384", "p384")], &list),
        snapbox::str![
            "0 of 9 others got the same bytes; not counted: line 1: the key [HEX] has no list of `roles`, and `reproduce` must be named in one; line 2: the certificate `CN=Release,O=Example` comes from an authority that has no list of `roles`, and `reproduce` must be named in one"
        ],
    );
}

#[test]
fn the_time_that_is_stated_is_that_of_the_work() {
    let late = format!("{REPRODUCE}not_before = \"2026-10-21T00:00:00Z\"\n");
    let list = [listed(&known_key(), TRAIN), listed(&key("release"), &late)];
    says(
        told(known_key(), &[key("release")], &list),
        snapbox::str![
            "0 of 9 others got the same bytes; not counted: line 1: the key [HEX] is valid from 2026-10-21T00:00:00Z on, and what it signed says that it was finished on 2026-10-20T10:02:07Z"
        ],
    );
}
