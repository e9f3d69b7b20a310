//! Tests of keeping evaluation and training data apart, on files of both.

use std::sync::Arc;

use serde_json::json;

use super::super::fixture::{Folder, family, item, supply, with_parent};
use super::*;
use crate::data::{Case, CorpusFile, RecordId, Role};
use crate::files::FileEntry;
use crate::verify::Item;

struct Fixture {
    folder: Folder,
    cache: tempfile::TempDir,
}

/// A text of its own for each number.
fn line(number: usize) -> String {
    let words: String = (0..30).map(|at| format!("w{number}x{at} ")).collect();
    format!("{}\n", json!({"prompt": words, "completion": format!("answer number {number}")}))
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(line).collect()
}

impl Fixture {
    fn new() -> Self {
        Self { folder: Folder::new(), cache: tempfile::tempdir().unwrap() }
    }

    /// A data file, and its entry in a lineage.
    fn data(&self, name: &str, text: &str, split: &str) -> Item {
        self.folder.write(name, text);
        let path = self.folder.path(name).display().to_string();
        item("dataset", &path, text.as_bytes(), json!({"split": split, "rows": "1"}))
    }

    /// What an evaluation reads from a file.
    fn judged(&self, text: &str) -> Cases {
        self.folder.write("judged.jsonl", text);
        let path = self.folder.path("judged.jsonl");
        let mut cases = Vec::new();
        let file = each_record(&path, &mut |records| {
            for record in records {
                cases.push(Case {
                    record: RecordId { file: Arc::from("judged.jsonl"), line: 1 },
                    digest: record.digest,
                    fields: record.fields.clone().unwrap(),
                    examples: Vec::new(),
                    question: None,
                });
            }
        });
        let file = FileEntry { path: "judged.jsonl".to_owned(), ..file.unwrap() };
        let (format, role) = ("completion".to_owned(), Role::Validation);
        let files = vec![CorpusFile { file, uri: None, role, format, rows: cases.len() as u64 }];
        Cases { cases, files, ..Cases::default() }
    }

    fn tests(&self, checks: &str, family: &Ancestry, judged: &str) -> Vec<Test> {
        let policy = self.folder.policy(&format!("[eval]\nPLAIN\n[checks]\n{checks}\n")).unwrap();
        let supply = supply(self.cache.path());
        let places =
            Places { candidate: self.folder.0.path(), supply: &supply, cache: self.cache.path() };
        check(&policy, Ok(family), &self.judged(judged), &places).unwrap()
    }

    /// By file, by record, by words.
    fn outcomes(&self, checks: &str, family: &Ancestry, judged: &str) -> Vec<TestOutcome> {
        self.tests(checks, family, judged).iter().map(|test| test.outcome).collect()
    }
}

use TestOutcome::{Failed, Passed, Undecided, Warned};

#[test]
fn what_was_trained_on_is_found_by_file_by_record_and_by_words() {
    let fixture = Fixture::new();
    let model = family("full", vec![fixture.data("train.jsonl", &lines(0..20), "train")]);
    let of = |judged: &str| fixture.outcomes("", &model, judged);
    assert_eq!(of(&lines(20..30)), [Passed, Passed, Passed]);
    assert_eq!(of(&lines(0..20)), [Failed, Failed, Failed], "the same file");
    assert_eq!(of(&format!("{}{}", lines(20..29), line(7))), [Passed, Failed, Failed]);
    // The same words in another shape, so that it is another record.
    let text: serde_json::Value = serde_json::from_str(&line(7)).unwrap();
    let prompt = text["prompt"].as_str().unwrap().to_uppercase();
    let other = format!("{}\n", json!({"prompt": format!("{prompt}!"), "completion": "other"}));
    let judged = format!("{}{other}", lines(20..29));
    assert_eq!(of(&judged), [Passed, Passed, Failed]);
    let tests = fixture.tests("", &model, &judged);
    assert!(tests[2].detail.contains("1 of 10 records have more than 80 %"), "{:?}", tests[2]);
    assert_eq!(tests[1].name(), "check:evaluation_apart/records");
    // As much as the policy lets pass.
    assert_eq!(fixture.outcomes("max_overlap = 0.1", &model, &judged), [Passed, Passed, Passed]);
    let judged = format!("{}{}{}", lines(20..28), line(7), line(8));
    let of = fixture.outcomes("max_overlap = 0.1", &model, &judged);
    assert_eq!(of, [Passed, Failed, Failed]);
    assert!(fixture.tests("evaluation_apart = false", &model, &judged).is_empty());
}

#[test]
fn half_a_record_counts_as_the_policy_says() {
    let fixture = Fixture::new();
    let half: String = (0..20).map(|at| format!("w50x{at} ")).collect();
    let training = format!("{}\n", json!({ "text": half }));
    let model = family("full", vec![fixture.data("train.jsonl", &training, "train")]);
    let judged = line(50);
    assert_eq!(fixture.outcomes("", &model, &judged)[2], Passed);
    assert_eq!(fixture.outcomes("ngram_share = 0.4", &model, &judged)[2], Failed);
    assert_eq!(fixture.outcomes("ngram_share = 0.4\nngram = 25", &model, &judged)[2], Passed);
}

#[test]
fn what_a_run_measured_on_was_not_trained_on_wherever_else_it_stands() {
    let fixture = Fixture::new();
    let training = fixture.data("train.jsonl", &lines(0..20), "train");
    let validation = fixture.data("validation.jsonl", &lines(15..25), "validation");
    let model = family("full", vec![training.clone(), validation.clone()]);
    assert_eq!(fixture.outcomes("", &model, &lines(15..25)), [Passed, Passed, Passed]);
    assert_eq!(fixture.outcomes("", &model, &lines(14..25)), [Passed, Failed, Failed]);
    // Another training in the ancestry did learn it.
    let parent = family("full", vec![training]);
    let child = with_parent(family("lora", vec![validation]), Some(parent));
    assert_eq!(fixture.outcomes("", &child, &lines(15..25)), [Passed, Failed, Failed]);
}

#[test]
fn what_cannot_be_looked_at_decides_nothing_unless_it_is_allowed() {
    let fixture = Fixture::new();
    let gone = item("dataset", "gone.jsonl", b"?", json!({"split": "train"}));
    let here = fixture.data("train.jsonl", &lines(0..20), "train");
    let model = family("full", vec![gone, here]);
    let clean = lines(20..30);
    assert_eq!(fixture.outcomes("", &model, &clean), [Passed, Undecided, Undecided]);
    let detail = &fixture.tests("", &model, &clean)[1].detail;
    assert!(detail.contains("`gone.jsonl` is not on this machine"), "{detail}");
    let allowed = "missing_training_data = \"allow\"";
    assert_eq!(fixture.outcomes(allowed, &model, &clean), [Passed, Warned, Warned]);
    // What was found is found, whatever else is missing.
    assert_eq!(fixture.outcomes(allowed, &model, &lines(5..30)), [Passed, Failed, Failed]);
    // Other bytes under the same name are another file.
    let other = fixture.data("moved.jsonl", &lines(0..20), "train");
    fixture.folder.write("moved.jsonl", &lines(0..19));
    let model = family("full", vec![other]);
    assert_eq!(fixture.outcomes("", &model, &clean)[1], Undecided);
    // An ancestor without a lineage, and a model that names no data.
    let orphan = with_parent(
        family("lora", vec![fixture.data("train.jsonl", &lines(0..20), "train")]),
        None,
    );
    let test = &fixture.tests("", &orphan, &clean)[1];
    assert!(test.outcome == Undecided && test.detail.contains("lineage of `older`"));
    let silent = family("merge", Vec::new());
    assert_eq!(fixture.outcomes("", &silent, &clean), [Passed, Undecided, Undecided]);
}

#[test]
fn files_are_found_near_the_candidate_and_in_the_cache_of_a_hub() {
    let fixture = Fixture::new();
    let mut near = fixture.data("train.jsonl", &lines(0..20), "train");
    near.name = "train.jsonl".to_owned(); // as a configuration in that folder names it
    let candidate = fixture.folder.path("checkpoints/run/artifact");
    std::fs::create_dir_all(&candidate).unwrap();
    let supply = supply(fixture.cache.path());
    let places = Places { candidate: &candidate, supply: &supply, cache: fixture.cache.path() };
    let (found, _) = trainings(&family("full", vec![near]));
    let path = find(&found[0].files[0], &places).unwrap();
    assert_eq!(path, fixture.folder.path("train.jsonl").canonicalize().unwrap());
    // Addresses from a lineage never lead out of the cache.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let inside = of_hub(&format!("hf://datasets/o/d@{commit}/a/b.jsonl"), &supply).unwrap();
    assert!(inside.ends_with(format!("snapshots/{commit}/a/b.jsonl")), "{inside:?}");
    for uri in [
        format!("hf://datasets/o/d@{commit}/../../secret"),
        format!("hf://datasets/o/../d@{commit}/a"),
        "hf://datasets/o/d@main/a".to_owned(),
        format!("file:///o/d@{commit}/a"),
    ] {
        assert_eq!(of_hub(&uri, &supply), None, "{uri}");
    }
}
