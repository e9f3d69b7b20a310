//! Tests of reports: weights, slices without records, and the table.

use super::*;

fn record(id: &str, loss_sum: f64, targets: u64, correct: u64) -> Record {
    Record {
        id: id.to_owned(),
        sha256: Digest::of(id.as_bytes()),
        tokens: targets + 1,
        score: Score { loss_sum, targets, correct },
        tasks: BTreeMap::new(),
        label: None,
    }
}

const NONE: Draws = Draws { seed: 1, samples: 0, confidence: 0.95 };

#[test]
fn numbers_are_weighted_by_tokens_and_tasks_by_records() {
    let mut records = [record("a", 2.0, 1, 1), record("b", 9.0, 9, 3), record("c", 0.0, 0, 0)];
    records[0].tasks.insert("json".into(), 1.0);
    records[2].tasks.insert("json".into(), 0.0);
    let all: Vec<&Record> = records.iter().collect();
    let found = metrics(&all, &["json".into(), "other".into()], &NONE);
    assert_eq!(found["loss"].value, 1.1);
    assert_eq!(found["perplexity"].value, 1.1_f64.exp());
    assert_eq!(found["accuracy"].value, 0.4);
    assert_eq!(found["loss"].records, 2, "a record without judged tokens says nothing");
    assert_eq!((found["json"].value, found["json"].records), (0.5, 2));
    assert!(!found.contains_key("other"));
}

#[test]
fn drawn_twice_counts_twice() {
    let records = [record("a", 2.0, 1, 1), record("b", 9.0, 9, 3)];
    let all: Vec<&Record> = records.iter().collect();
    assert_eq!(statistic("loss", &all, &[2, 1]), 13.0 / 11.0);
    assert_eq!(statistic("accuracy", &all, &[0, 3]), 1.0 / 3.0);
    assert!(statistic("loss", &all, &[0, 0]).is_nan());
}

fn report() -> Report {
    let records = vec![record("a", 2.0, 1, 1), record("b", 9.0, 9, 3)];
    let names = vec!["x|y\u{1b}[2J".to_owned(), "empty".to_owned()];
    let slices = Slices { by: "lang".into(), names, of: vec![Some(0), None] };
    let all: Vec<&Record> = records.iter().collect();
    let draws = Draws { samples: 50, ..NONE };
    Report {
        version: VERSION,
        model: ModelRecord { name: "m".into(), sha256: Digest::of(b"m"), files: vec![] },
        suite: SuiteRecord {
            name: "s".into(),
            path: "s.toml".into(),
            sha256: Digest::of(b"s"),
            data: vec![],
            commit: None,
            truncated: 0,
        },
        metrics: metrics(&all, &[], &draws),
        slices: sliced(&[slices], &records, (&[], None), &NONE),
        confusion: None,
        performance: Performance {
            device: "CPU".into(),
            class: "flex".into(),
            tokens_per_second: 1.0,
            answer_tokens_per_second: None,
            first_token_seconds: None,
            memory_bytes_peak: None,
        },
        records,
    }
}

#[test]
fn slices_keep_their_order_and_an_empty_one_stays_visible() {
    let report = report();
    let empty = report.slice("lang", "empty").unwrap();
    assert_eq!((empty.records, empty.metrics.len()), (0, 0));
    assert_eq!(report.slice("lang", "nobody"), None);
    assert_eq!(report.slices[0].slices[0].metrics["loss"].value, 2.0);
}

#[test]
fn the_table_is_a_table_whatever_slices_are_called() {
    let table = report().to_markdown();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[2].starts_with("| all | 2 |"), "{table}");
    assert!(lines[3].starts_with("| lang = `x\\|y"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    assert!(lines[4].contains("| lang = `empty` | 0 | – | – | – |"), "{table}");
    assert!(lines[2].contains(" … "), "intervals: {table}");
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{table}");
}

#[test]
fn a_report_is_read_again_as_it_was_written() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
