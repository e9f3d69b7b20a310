//! Tests of the ancestry on statements made by hand; whole artifacts are in `tests/it/scan.rs`.

use std::fs;

use serde_json::json;

use super::*;

/// Writes a statement with a parent in the folder `base`; gives its digest.
fn write(root: &Path, name: &str, base: &str, parent: Option<Digest>) -> Digest {
    let mut dependencies = vec![json!({
        "name": "data\u{1b}[2J.jsonl\n", "digest": {"sha256": "0".repeat(64)},
        "annotations": {"role": "dataset", "rows": "7"},
    })];
    if let Some(parent) = parent {
        dependencies.push(json!({
            "name": format!("{base}/{STATEMENT_FILE}"), "digest": {"sha256": parent},
            "annotations": {"role": "base-lineage", "signature": "verified"},
        }));
    }
    let statement = json!({
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "externalParameters": {"method": "lora", "baseModel": {"id": base}},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"byproducts": []},
        },
    });
    fs::create_dir_all(root.join(name)).unwrap();
    let text = statement.to_string();
    fs::write(root.join(name).join(STATEMENT_FILE), &text).unwrap();
    Digest::of(text.as_bytes())
}

fn generations(family: &Ancestry) -> usize {
    1 + family.parent.as_ref().and_then(|p| p.family.as_ref()).map_or(0, generations)
}

#[test]
fn generations_are_followed_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = write(folder.path(), "m0", "nothing", None);
    for number in 1..=MAX_GENERATIONS + 4 {
        let base = format!("m{}", number - 1);
        last = write(folder.path(), &format!("m{number}"), &base, Some(last));
    }
    let read = |name: &str| family(&folder.path().join(name), &Trust::default()).unwrap();
    assert_eq!(generations(&read("m3")), 4);
    let newest = read(&format!("m{}", MAX_GENERATIONS + 4));
    assert_eq!(generations(&newest), MAX_GENERATIONS);
    assert!(newest.lines().iter().any(|line| line.contains("only 16 generations")));
}

#[test]
fn a_parent_is_known_by_its_digest_and_not_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let true_one = write(folder.path(), "parent", "nothing", None);
    write(folder.path(), "child", "parent", Some(true_one));
    let child = folder.path().join("child");
    let read = || family(&child, &Trust::default()).unwrap();
    let found = |family: &Ancestry| family.parent.as_ref().map(|parent| parent.found);
    assert_eq!(found(&read()), Some(ParentState::Same));
    assert!(read().is_sound());
    write(folder.path(), "parent", "something else", None);
    assert_eq!(found(&read()), Some(ParentState::Other));
    assert!(!read().is_sound());
    fs::remove_dir_all(folder.path().join("parent")).unwrap();
    assert_eq!(found(&read()), Some(ParentState::Missing));
    assert!(read().is_sound(), "what is not there is not wrong");
    // One that names itself is not its own parent.
    write(folder.path(), "child", "child", Some(true_one));
    assert_eq!(found(&read()), Some(ParentState::Missing));
}

#[test]
fn names_in_a_lineage_stay_on_their_line() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m", "nothing", None);
    let lines = family(&folder.path().join("m"), &Trust::default()).unwrap().lines();
    assert!(lines.iter().any(|line| line.contains("data\\u{1b}[2J.jsonl")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
}
