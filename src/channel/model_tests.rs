//! Tests of the model that a pointer names.

use std::fs;

use super::super::fixture::Place;
use super::*;
use crate::snapshots::says;

#[test]
fn a_model_is_checked_to_the_last_byte() {
    let place = Place::new();
    let model = place.passed("a");
    let checked = Checked::new(&model, &place.trust()).unwrap();
    assert_eq!((checked.name(), checked.files.len()), ("a".to_owned(), 3));
    let named = ModelRef {
        name: "a".to_owned(),
        path: None,
        uri: None,
        root_sha256: checked.root,
        sig_sha256: checked.sig_sha256,
    };
    Checked::named(&model, &named, &place.trust()).unwrap();
    let other = place.passed("b");
    let error = Checked::named(&other, &named, &place.trust()).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: this is another model than the channel names
  at [FOLDER]/b
  because its `model.sig` has the digest [HEX], and [HEX] is named
"#]],
    );
    fs::write(model.join("inside/more"), "less").unwrap();
    let error = Checked::new(&model, &place.trust()).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the model does not verify: tampered: the files are not those that were signed
  at [FOLDER]/a
  because files unchanged: changed: `inside/more`
  because attestation: line 1: the statement is about other files: `inside/more`

hint: `firebrand verify [FOLDER]/a` says all
"#]],
    );
    fs::remove_file(other.join("model.sig")).unwrap();
    let error = Checked::new(&other, &place.trust()).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the model does not verify: unsigned: no key attests this model
  at [FOLDER]/b
  because signature file: there is no `model.sig`
  because attestation: line 1: the statement is about other files: `model.sig`

hint: `firebrand verify [FOLDER]/b` says all
"#]],
    );
    assert!(Checked::new(&place.path("none"), &place.trust()).is_err());
}

#[test]
fn the_artifact_of_a_run_is_called_as_the_run() {
    let place = Place::new();
    fs::create_dir(place.path("nightly")).unwrap();
    let model = place.model("nightly/artifact");
    assert_eq!(Checked::new(&model, &place.trust()).unwrap().name(), "nightly");
}

#[test]
fn a_copy_is_whole_and_learns_of_later_verdicts() {
    let place = Place::new();
    let (model, registry) = (place.passed("a"), place.path("registry"));
    let checked = Checked::new(&model, &place.trust()).unwrap();
    let copy = checked.copy_into(&registry).unwrap();
    let again = Checked::new(&copy, &place.trust()).unwrap();
    assert_eq!((again.files, again.root), (checked.files.clone(), checked.root));
    let beside = |model: &Path| fs::read_to_string(attestations_of(model).unwrap()).unwrap();
    assert_eq!(beside(&copy), beside(&model));
    place.verdict(&model, "FAILED", "2026-05-01T00:00:00Z");
    assert_eq!(checked.copy_into(&registry).unwrap(), copy);
    assert_eq!(beside(&copy), beside(&model));
    assert_eq!(fs::read_dir(registry.join(FOLDER)).unwrap().count(), 2, "nothing is left over");
    // What changed since it was checked is not copied.
    fs::remove_dir_all(&copy).unwrap();
    fs::write(model.join("weights"), "other").unwrap();
    let error = checked.copy_into(&registry).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[file-changed]: the file changed while it was copied
  at [FOLDER]/a/weights
"#]],
    );
    assert!(!copy.exists());
    assert_eq!(fs::read_dir(registry.join(FOLDER)).unwrap().count(), 1);
}

#[test]
fn many_may_copy_the_same_model_at_once() {
    let place = Place::new();
    let checked = Checked::new(&place.passed("a"), &place.trust()).unwrap();
    let registry = place.path("registry");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| checked.copy_into(&registry).unwrap());
        }
    });
    assert_eq!(fs::read_dir(registry.join(FOLDER)).unwrap().count(), 2);
}

#[test]
fn paths_are_relative_where_registry_and_model_may_move_together() {
    let place = Place::new();
    let (inside, beside) = (place.path("all/registry/models/x"), place.path("all/runs/x"));
    let elsewhere = place.path("x");
    for folder in [&inside, &beside, &elsewhere] {
        fs::create_dir_all(folder).unwrap();
    }
    let registry = place.path("all/registry");
    let path = |folder: &Path| path_from(&registry, folder).unwrap();
    assert_eq!(path(&inside), "models/x");
    assert_eq!(path(&beside), "../runs/x");
    let full = elsewhere.canonicalize().unwrap().display().to_string();
    assert_eq!(path(&elsewhere), full);
    let model = |path: &str| ModelRef {
        name: "x".to_owned(),
        path: Some(path.to_owned()),
        uri: None,
        root_sha256: Digest([0; 32]),
        sig_sha256: Digest([0; 32]),
    };
    let found = |path: &str| place_of(&registry, &model(path));
    assert_eq!(found("models/x"), inside);
    assert_eq!(found("../runs/x"), beside);
    assert_eq!(found(&full).canonicalize().unwrap(), elsewhere.canonicalize().unwrap());
    let uri = ModelRef { path: None, uri: Some("https://example.com/x".to_owned()), ..model("") };
    let error = super::place(&registry, &uri, None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the model was published at https://example.com/x

hint: fetch it from there and name its folder with `--model`
"#]],
    );
    assert_eq!(super::place(&registry, &uri, Some(&beside)).unwrap(), beside);
}

fn place_of(registry: &Path, model: &ModelRef) -> PathBuf {
    place(registry, model, None).unwrap()
}
