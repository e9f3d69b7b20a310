//! Tests of verdicts: which count, which do not, and which is the newest.

use super::super::fixture::{Place, summary};
use super::*;
use crate::artifact::envelope::Bundle;
use crate::artifact::signature::STATEMENT_TYPE;
use crate::files::hash_tree;
use crate::snapshots::says;
use serde_json::{Value, json};

fn read(place: &Place, model: &Path) -> Verdicts {
    Verdicts::read(model, &hash_tree(model).unwrap(), &place.trust()).unwrap()
}

#[test]
fn the_newest_by_its_time_counts_not_the_last_line() {
    let place = Place::new();
    let model = place.model("a");
    assert!(read(&place, &model).newest().is_none());
    place.verdict(&model, "PASSED", "2026-03-01T00:00:00Z");
    place.verdict(&model, "FAILED", "2026-02-01T00:00:00Z");
    let found = read(&place, &model);
    assert_eq!(found.valid.len(), 2);
    let newest = found.passed(&model, None).unwrap();
    assert_eq!(newest.metrics["loss"], 1.25);
    assert_eq!(newest.policy, "gate.toml");
    place.verdict(&model, "FAILED", "2026-04-01T00:00:00Z");
    let error = read(&place, &model).passed(&model, None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the gate's newest verdict on this model is a refusal
  at [FOLDER]/a
  because it was given at 2026-04-01T00:00:00Z by the key [HEX]
"#]],
    );
}

#[test]
fn one_that_is_older_than_a_rollback_is_not_enough() {
    let place = Place::new();
    let model = place.passed("a");
    let since = |text: &str| Some(text.parse().unwrap());
    let found = read(&place, &model);
    found.passed(&model, since("2025-12-31T00:00:00Z")).unwrap();
    let mut messages = String::new();
    for time in ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"] {
        let error = found.passed(&model, since(time)).unwrap_err().to_string();
        messages += &format!("{error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
error[channel]: this model was taken back after the gate had passed it
  at [FOLDER]/a
  because the verdict is of 2026-01-01T00:00:00Z, the rollback of 2026-01-01T00:00:00Z

hint: run `firebrand gate` on it again, for a newer verdict
error[channel]: this model was taken back after the gate had passed it
  at [FOLDER]/a
  because the verdict is of 2026-01-01T00:00:00Z, the rollback of 2026-01-02T00:00:00Z

hint: run `firebrand gate` on it again, for a newer verdict

"#]],
    );
}

#[test]
fn what_does_not_count_is_told_with_its_reason() {
    let place = Place::new();
    let model = place.model("a");
    let good = summary(&model, "PASSED", "2026-01-01T00:00:00Z");
    let bent = |change: &dyn Fn(&mut Value)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement
    };
    let cases: [(Value, &str, &str); 8] = [
        (good.clone(), "promote", "`gate` is needed"),
        (bent(&|it| it["subject"][0]["digest"]["sha256"] = json!("00")), "gate", "exactly these"),
        (
            bent(&|it| drop(it["subject"].as_array_mut().unwrap().pop())),
            "gate",
            "not about exactly these files",
        ),
        (
            bent(&|it| {
                let first = it["subject"][0].clone();
                it["subject"].as_array_mut().unwrap().push(first);
            }),
            "gate",
            "twice",
        ),
        (bent(&|it| it["_type"] = json!("x")), "gate", "`_type`"),
        (bent(&|it| it["predicate"]["verifier"]["id"] = json!("me")), "gate", "verifier"),
        (bent(&|it| it["predicate"]["timeVerified"] = json!("today")), "gate", "no time"),
        (bent(&|it| it["predicate"]["verificationResult"] = json!("OK")), "gate", "neither"),
    ];
    for (number, (statement, role, why)) in cases.iter().enumerate() {
        place.attest(&model, statement, role);
        let found = read(&place, &model);
        assert!(found.valid.is_empty(), "{why}");
        assert_eq!(found.others.len(), number + 1, "{why}");
        let last = &found.others[number];
        assert!(last.starts_with(&format!("line {}", number + 1)) && last.contains(why), "{last}");
    }
    let error = read(&place, &model).passed(&model, None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[channel]: the gate has given no verdict on exactly these files
  at [FOLDER]/a
  because line 1: the key [HEX] has the role `promote`, and `gate` is needed
  because line 2: it is not about exactly these files
  because line 3: it is not about exactly these files
  because line 4: it names `inside/more` twice
  because line 5: `_type` is not `https://in-toto.io/Statement/v1`

hint: `firebrand gate --policy gate.toml --candidate [FOLDER]/a` gives one; its key needs the role `gate`
"#]],
    );
}

#[test]
fn other_statements_and_noise_are_not_verdicts() {
    let place = Place::new();
    let model = place.passed("a");
    let other = json!({"_type": STATEMENT_TYPE, "predicateType": "x", "predicate": {}});
    place.attest(&model, &other, "gate");
    crate::artifact::attestations::append_lines(&model, &["no json"]).unwrap();
    let found = read(&place, &model);
    assert_eq!((found.valid.len(), found.others.len()), (1, 0));
}

#[test]
fn a_revoked_key_and_a_forged_signature_judge_nothing() {
    let place = Place::new();
    let model = place.passed("a");
    place.trust_with(|role| if role == "gate" { "revoked = true" } else { "" }.to_owned());
    let found = read(&place, &model);
    assert!(found.valid.is_empty(), "{found:?}");
    says(&found.others[0], snapbox::str!["line 1: the key [HEX] was revoked: no reason is given"]);
    place.trust_with(|_| String::new());
    let path = attestations_of(&model).unwrap();
    let mut bundle = Bundle::parse(std::fs::read(&path).unwrap().trim_ascii_end()).unwrap();
    bundle.payload = String::from_utf8(bundle.payload).unwrap().replace("1.25", "0.25").into();
    std::fs::write(&path, format!("{}\n", bundle.to_json())).unwrap();
    let found = read(&place, &model);
    assert!(found.valid.is_empty(), "{found:?}");
    says(&found.others[0], snapbox::str!["line 1: the key [HEX] did not sign this"]);
}
