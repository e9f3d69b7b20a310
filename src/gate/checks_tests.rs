//! Tests of the checklist: what each point demands of signature and lineage.

use serde_json::json;

use super::super::fixture::{Folder, evaluation, family, item, record, with_parent};
use super::*;
use crate::files::FileEntry;
use crate::snapshots::says;
use crate::verify::{Finding, Signer};

fn verified(verdict: Verdict, findings: &[(verify::Check, CheckVerdict, &str)]) -> Verified {
    let finding = |(check, verdict, detail): &(verify::Check, CheckVerdict, &str)| Finding {
        check: *check,
        verdict: *verdict,
        detail: (*detail).to_owned(),
        hint: None,
    };
    let file = FileEntry { path: "a".to_owned(), size: 1, sha256: Digest::of(b"a") };
    Verified {
        directory: "model".into(),
        verdict,
        signer: Some(Signer {
            hint: "ab".repeat(32),
            certificate: None,
            issuer: None,
            key_file: None,
        }),
        name: Some("model".to_owned()),
        root: Some(Digest::of(b"root")),
        checks: findings.iter().map(finding).collect(),
        unsigned: Vec::new(),
        files: vec![file],
    }
}

#[test]
fn a_signature_counts_whole_or_not_at_all() {
    use CheckVerdict::{Fail, Pass, Unchecked};
    let of = |verdict, findings: &[_]| signature(&verified(verdict, findings));
    let good = of(Verdict::Verified, &[(verify::Check::Key, Pass, "")]);
    assert_eq!(good, (TestOutcome::Passed, "signed by key abababababab, 1 files".to_owned()));
    for (verdict, check) in [
        (Verdict::Untrusted, verify::Check::Key),
        (Verdict::Tampered, verify::Check::Manifest),
        (Verdict::Unsigned, verify::Check::Bundle),
        (Verdict::Untrusted, verify::Check::Attestation),
    ] {
        let (outcome, detail) = of(verdict, &[(check, Fail, "why")]);
        assert_eq!(outcome, TestOutcome::Failed);
        assert!(detail.contains(check.label()) && detail.contains("why"), "{detail}");
        assert!(!is_signed(&verified(verdict, &[(check, Fail, "why")])));
    }
    let stuck = [(verify::Check::Bundle, Unchecked, "a kind of its own")];
    let (outcome, detail) = of(Verdict::CouldNotCheck, &stuck);
    assert_eq!(outcome, TestOutcome::Undecided);
    assert!(detail.contains("a kind of its own"), "{detail}");
    assert!(is_signed(&verified(Verdict::Verified, &[])));
    // A damaged lineage is a matter of the lineage.
    let lineage = [(verify::Check::LineageSubjects, Fail, "other files")];
    assert_eq!(of(Verdict::Tampered, &lineage).0, TestOutcome::Passed);
}

/// Everything that a trained model names.
fn pinned() -> Vec<Item> {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let uri = format!("hf://datasets/o/d@{commit}/train.jsonl");
    let mut source = item("source", "source", b"", json!({"dirty": false}));
    source.digest = [("gitCommit".to_owned(), json!(commit))].into_iter().collect();
    vec![
        source,
        item("base-model", "config.json", b"c", json!({"trust": "allowlist"})),
        item("base-model", "model.safetensors", b"w", json!({"trust": "signature"})),
        item("dataset", "o/d/train.jsonl", b"d", json!({"trust": "allowlist", "uri": uri})),
    ]
}

fn with_notes(mut items: Vec<Item>, place: usize, notes: Value) -> Vec<Item> {
    let notes = notes.as_object().unwrap().clone();
    items[place].notes.extend(notes);
    items
}

#[test]
fn model_data_and_source_must_be_known_for_good() {
    let report = evaluation(&[], &[]);
    let papers = verified(Verdict::Verified, &[]);
    let of = |family: &Ancestry, approved: bool| {
        let papers = Papers {
            verified: &papers,
            family: Ok(family),
            evaluation: &report,
            trust: &Trust::default(),
        };
        [
            model_pinned(&papers, approved),
            data_pinned(&papers, approved),
            source_clean(&papers),
            lineage(&papers),
        ]
    };
    let outcomes = |family: &Ancestry, approved| of(family, approved).map(|answer| answer.0);
    use TestOutcome::{Failed, Passed, Undecided};
    let good = family("lora", pinned());
    assert_eq!(outcomes(&good, true), [Passed; 4], "{:?}", of(&good, true));
    // What a lock alone vouches for.
    let tofu = family("lora", with_notes(pinned(), 2, json!({"trust": "tofu"})));
    assert_eq!(outcomes(&tofu, false), [Passed; 4]);
    assert_eq!(outcomes(&tofu, true), [Failed, Passed, Passed, Passed]);
    assert!(of(&tofu, true)[0].1.contains("no trusted allowlist has `model.safetensors`"));
    let tofu = family("lora", with_notes(pinned(), 3, json!({"trust": "tofu"})));
    assert_eq!(outcomes(&tofu, true), [Passed, Failed, Passed, Passed]);
    // A branch is no commit.
    let uri = json!({"uri": "hf://datasets/o/d@main/train.jsonl"});
    let branch = family("lora", with_notes(pinned(), 3, uri));
    assert_eq!(outcomes(&branch, false), [Passed, Failed, Passed, Passed]);
    assert!(of(&branch, false)[1].1.contains("has no commit"));
    let mut moving = family("lora", pinned());
    moving.base.revision = Some("main".to_owned());
    assert_eq!(outcomes(&moving, false), [Failed, Passed, Passed, Passed]);
    let mut bare = pinned();
    bare[1].digest.clear();
    assert_eq!(outcomes(&family("full", bare), false), [Failed, Passed, Passed, Passed]);
    // Nothing said is nothing known.
    assert_eq!(outcomes(&family("full", Vec::new()), false), [Failed, Failed, Failed, Passed]);
    let dirty = family("lora", with_notes(pinned(), 0, json!({"dirty": true})));
    assert_eq!(outcomes(&dirty, false), [Passed, Passed, Failed, Passed]);
    assert!(of(&dirty, false)[2].1.contains("changes that are not in the commit 0123456789ab"));
    // A merge is what it was merged from.
    let merged = with_parent(family("merge", Vec::new()), Some(good));
    assert_eq!(outcomes(&merged, true), [Passed; 4]);
    let lost = with_parent(family("merge", Vec::new()), None);
    assert_eq!(outcomes(&lost, false), [Undecided, Undecided, Undecided, Passed]);
    let mut forged = with_parent(family("lora", pinned()), Some(family("full", pinned())));
    forged.parent.as_mut().unwrap().found = verify::ParentState::Other;
    assert_eq!(outcomes(&forged, false), [Passed, Passed, Passed, Failed]);
}

#[test]
fn an_adapter_is_judged_on_the_base_that_it_was_trained_on() {
    let papers = verified(Verdict::Verified, &[]);
    let good = family("lora", pinned());
    let mut report = evaluation(&[], &[]);
    let file = |bytes: &[u8]| FileEntry {
        path: "base/model.safetensors".to_owned(),
        size: 1,
        sha256: Digest::of(bytes),
    };
    report.model.files = vec![file(b"w")];
    let of = |report: &Evaluation| {
        let trust = &Trust::default();
        let papers = Papers { verified: &papers, family: Ok(&good), evaluation: report, trust };
        model_pinned(&papers, false)
    };
    assert_eq!(of(&report).0, TestOutcome::Passed);
    report.model.files = vec![file(b"other")];
    let (outcome, detail) = of(&report);
    assert_eq!(outcome, TestOutcome::Failed);
    assert!(detail.contains("another `model.safetensors`"), "{detail}");
}

#[test]
fn a_model_without_lineage_has_nothing_to_show() {
    let papers = verified(Verdict::Verified, &[]);
    let (report, trust) = (evaluation(&[], &[]), &Trust::default());
    let why = "there is no lineage";
    let bare = Papers { verified: &papers, family: Err(why), evaluation: &report, trust };
    for answer in [lineage(&bare), model_pinned(&bare, false), source_clean(&bare)] {
        assert_eq!(answer, (TestOutcome::Failed, why.to_owned()));
    }
    let bent = [(verify::Check::LineageStatement, CheckVerdict::Fail, "bent")];
    let papers = verified(Verdict::Tampered, &bent);
    let good = family("lora", pinned());
    let bent = Papers { verified: &papers, family: Ok(&good), evaluation: &report, trust };
    assert_eq!(lineage(&bent).0, TestOutcome::Failed);
}

/// Who counts, `tests/it/gate.rs` tries; here nothing is attested.
#[test]
fn what_nobody_has_made_again_is_told_from_what_nobody_can() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("model");
    std::fs::create_dir(&directory).unwrap();
    let papers = Verified { directory: directory.clone(), ..verified(Verdict::Verified, &[]) };
    let (report, trust) = (evaluation(&[], &[]), &Trust::default());
    let of = |family: &Ancestry| {
        let papers = Papers { verified: &papers, family: Ok(family), evaluation: &report, trust };
        reproduced_by(&papers, 2)
    };
    let trained = family("lora", pinned());
    let nobody = of(&trained);
    assert_eq!(nobody.0, TestOutcome::Failed);
    says(
        &nobody.1,
        snapbox::str![
            "0 of 2 others got the same bytes; 2 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`"
        ],
    );
    // The merge is judged, and nobody vouches that it is what the adapter makes.
    let (outcome, detail) = of(&with_parent(family("merge", Vec::new()), Some(trained.clone())));
    assert_eq!(outcome, TestOutcome::Failed);
    says(
        detail,
        snapbox::str![
            "only what was trained can be made again, and it was made by `merge`: judge the model that it was made of"
        ],
    );
    // Without a lineage there is still what others attest.
    let bare = Papers { verified: &papers, family: Err("none"), evaluation: &report, trust };
    assert_eq!(reproduced_by(&bare, 2), nobody);
    // What cannot be read is no answer.
    let attested = crate::artifact::signature::attestations_of(&directory).unwrap();
    std::fs::create_dir(attested).unwrap();
    let (outcome, detail) = of(&trained);
    assert_eq!(outcome, TestOutcome::Undecided);
    assert!(detail.starts_with("could not be checked: "), "{detail}");
}

#[test]
fn answers_must_fit_their_schemas() {
    let folder = Folder::new();
    let policy = |text: &str| folder.policy(&format!("[eval]\n{text}")).unwrap();
    let of = |policy: &Policy, shares: &[f64]| {
        let records: Vec<_> = shares
            .iter()
            .enumerate()
            .map(|(number, share)| record(number, 1.0, 1, &[("form", *share), ("ours", 0.0)]))
            .collect();
        output_schema(policy, &evaluation(&records, &[])).0
    };
    let strict = policy("SUITE\n");
    assert_eq!(of(&strict, &[1.0; 4]), TestOutcome::Passed);
    assert_eq!(of(&strict, &[1.0, 1.0, 1.0, 0.0]), TestOutcome::Failed);
    let lenient = policy("SUITE\n[checks]\nmin_valid = 0.75\n");
    assert_eq!(of(&lenient, &[1.0, 1.0, 1.0, 0.0]), TestOutcome::Passed);
    assert_eq!(of(&lenient, &[]), TestOutcome::Failed, "no number at all");
    assert_eq!(of(&policy("PLAIN\n"), &[1.0]), TestOutcome::Skipped);
}

#[test]
fn checks_that_are_switched_off_are_not_made() {
    let folder = Folder::new();
    let papers = verified(Verdict::Verified, &[]);
    let (report, trust) = (evaluation(&[], &[]), &Trust::default());
    let good = family("lora", pinned());
    let papers = Papers { verified: &papers, family: Ok(&good), evaluation: &report, trust };
    let names = |text: &str| -> Vec<String> {
        let policy = folder.policy(&format!("[eval]\nPLAIN\n{text}")).unwrap();
        all(&policy, &papers).iter().map(Test::name).collect()
    };
    let every = names("");
    assert_eq!(every.len(), 6);
    for check in ["signature", "lineage", "model_pinned", "data_pinned", "source_clean"] {
        let name = format!("check:{check}");
        assert!(every.contains(&name));
        let rest = names(&format!("[checks]\n{check} = false\n"));
        assert!(rest.len() == 5 && !rest.contains(&name), "{rest:?}");
    }
    let more = names("[checks]\nreproduced_by = 1\n");
    assert!(more.len() == 7 && more.contains(&"check:reproduced_by".to_owned()), "{more:?}");
    assert_eq!(names("[checks]\nreproduced_by = 0\n"), every);
    let policy = folder.policy("[eval]\nPLAIN\n[checks]\nlineage = true\n").unwrap();
    assert_eq!(all(&policy, &papers)[1].line, Some(4));
}
