//! Rows and their order: complete, apart, repeatable, found again.

use std::collections::BTreeSet;

use super::*;
use crate::data::corpus::Statistics;
use crate::data::example::{Example, RecordId};
use crate::data::fixture;
use crate::files::Digest;

/// Examples of pseudo-random lengths whose tokens name them.
fn part(count: u64, longest: u64) -> Part {
    let entry = |line: u64| {
        let length = 2 + Stream::new(9).bits(line) % (longest - 1);
        let example = Example {
            tokens: vec![u32::try_from(line).unwrap(); length as usize],
            learn: (0..length).map(|i| i >= length / 2 && i > 0).collect(),
        };
        Entry { record: RecordId { file: "f".into(), line }, digest: Digest::of(b""), example }
    };
    Part { entries: (1..=count).map(entry).collect(), statistics: Statistics::default() }
}

fn plan(count: u64, change: impl Fn(&mut DataConfig)) -> Plan {
    let mut config = fixture::config(&[]);
    change(&mut config);
    Plan::new(&part(count, 40), &config, 7)
}

fn epoch(plan: &Plan, number: u64, micro_batches: usize, size: usize) -> Vec<Batch> {
    let mut cursor = Cursor { epoch: number, ..Cursor::default() };
    let mut batches = Vec::new();
    while cursor.epoch == number {
        batches.extend(plan.take(&mut cursor, micro_batches, size).unwrap());
    }
    assert_eq!(cursor, Cursor { epoch: number + 1, window: 0, row: 0 });
    batches
}

fn lines(batches: &[Batch]) -> Vec<u64> {
    batches.iter().flat_map(|batch| batch.sources.concat()).map(|record| record.line).collect()
}

#[test]
fn an_epoch_has_every_example_once_whatever_the_settings() {
    for (packing, shuffle, window_rows) in [
        (true, true, 16_000),
        (true, true, 300),
        (true, false, 2000),
        (false, true, 1),
        (false, false, 7),
    ] {
        let plan = plan(3456, |config| {
            (config.packing, config.shuffle) = (packing, shuffle);
            config.window_rows = window_rows;
        });
        let batches = epoch(&plan, 1, 3, 4);
        let mut seen = lines(&batches);
        if shuffle {
            assert!(!seen.is_sorted());
        } else {
            assert!(seen.is_sorted(), "file order is kept");
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(1..=3456));
        let rows: usize = batches.iter().map(|batch| batch.rows).sum();
        assert_eq!(rows as u64, plan.rows_in_epoch(1));
        assert_eq!(plan.steps_in_epoch(1, 12), plan.rows_in_epoch(1).div_ceil(12));
    }
}

#[test]
fn rows_keep_documents_apart_and_learn_only_inside_them() {
    let plan = plan(500, |_| {});
    for batch in epoch(&plan, 0, 2, 3) {
        assert_eq!(batch.tokens.len(), batch.rows * batch.length);
        assert!(batch.length <= 64);
        let longest = (0..batch.rows).map(|row| {
            let documents = &batch.documents[row * batch.length..][..batch.length];
            documents.iter().filter(|document| **document > 0).count()
        });
        assert_eq!(longest.max().unwrap(), batch.length, "no more padding than needed");
        for (place, &document) in batch.documents.iter().enumerate() {
            if document == 0 {
                assert_eq!((batch.tokens[place], batch.positions[place]), (0, 0));
                continue;
            }
            let column = place % batch.length;
            let begins = column == 0 || batch.documents[place - 1] != document;
            assert_eq!(batch.positions[place] == 0, begins);
            if !begins {
                assert_eq!(batch.positions[place], batch.positions[place - 1] + 1);
                assert_eq!(batch.tokens[place], batch.tokens[place - 1], "one example");
            }
        }
        for target in &batch.targets {
            let place = target.index as usize;
            assert_eq!(batch.tokens[place + 1], target.token);
            assert_eq!(batch.documents[place], batch.documents[place + 1]);
            assert_eq!(batch.positions[place + 1], batch.positions[place] + 1);
        }
    }
}

#[test]
fn all_learnt_tokens_are_targets() {
    let part = part(500, 40);
    let learnt: usize = part.entries.iter().map(|entry| entry.example.learnt()).sum();
    let plan = Plan::new(&part, &fixture::config(&[]), 1);
    let targets: usize = epoch(&plan, 0, 2, 3).iter().map(|batch| batch.targets.len()).sum();
    assert_eq!(targets, learnt);
}

#[test]
fn going_on_at_any_position_gives_the_same_batches() {
    for window_rows in [16_000, 100] {
        let change = |config: &mut DataConfig| config.window_rows = window_rows;
        let whole = plan(450, change);
        let (mut cursor, mut cursors, mut digests) = (Cursor::default(), Vec::new(), Vec::new());
        while cursor.epoch < 2 {
            cursors.push(cursor);
            let batches = whole.take(&mut cursor, 2, 3).unwrap();
            digests.push(batches.iter().map(Batch::digest).collect::<Vec<_>>());
        }
        let steps = whole.steps_in_epochs(2, 6);
        assert_eq!(digests.len() as u64, steps);
        for (start, cursor) in cursors.iter().enumerate() {
            let text = serde_json::to_string(cursor).unwrap();
            let mut cursor: Cursor = serde_json::from_str(&text).unwrap();
            let fresh = plan(450, change);
            for expected in &digests[start..(start + 4).min(digests.len())] {
                let batches = fresh.take(&mut cursor, 2, 3).unwrap();
                assert!(batches.iter().map(Batch::digest).eq(expected.iter().copied()));
            }
        }
    }
}

#[test]
fn a_step_ends_with_its_epoch_and_positions_are_shares_of_it() {
    let plan = plan(100, |config| config.packing = false);
    let mut cursor = Cursor::default();
    let sizes = |batches: Vec<Batch>| -> Vec<usize> { batches.iter().map(|b| b.rows).collect() };
    assert_eq!(sizes(plan.take(&mut cursor, 3, 15).unwrap()), [15, 15, 15]);
    assert!((plan.epochs_at(&cursor).unwrap() - 0.45).abs() < 1e-12);
    plan.take(&mut cursor, 3, 15).unwrap();
    assert_eq!(sizes(plan.take(&mut cursor, 3, 15).unwrap()), [10]);
    assert_eq!(cursor, Cursor { epoch: 1, window: 0, row: 0 });
    assert!((plan.epochs_at(&cursor).unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn seed_and_epoch_change_the_order_and_nothing_else_does() {
    let part = part(3000, 40);
    let config = fixture::config(&[]);
    let order = |seed, number| lines(&epoch(&Plan::new(&part, &config, seed), number, 1, 8));
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(2, 0));
    assert_ne!(order(1, 0), order(1, 1));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| order(1, 0)), order(1, 0));
}

#[test]
fn windows_mix_distant_blocks() {
    let plan = plan(20_000, |config| config.window_rows = 4000);
    assert_eq!(plan.windows(), 5);
    let (mut cursor, mut seen) = (Cursor::default(), BTreeSet::new());
    while cursor.window == 0 && cursor.epoch == 0 {
        seen.extend(lines(&plan.take(&mut cursor, 1, 1).unwrap()).iter().map(|n| (n - 1) / 1000));
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().max().unwrap() - seen.iter().min().unwrap() > 3, "{seen:?}");
}

#[test]
fn a_position_of_other_data_is_refused() {
    let plan = plan(10, |_| {});
    for cursor in [Cursor { epoch: 0, window: 1, row: 0 }, Cursor { epoch: 0, window: 0, row: 999 }]
    {
        let error = plan.take(&mut cursor.clone(), 1, 1).unwrap_err().to_string();
        assert!(error.contains("other data"), "{error}");
    }
}

#[test]
fn the_longest_row_is_that_of_the_batches() {
    let plan = plan(700, |_| {});
    let longest = epoch(&plan, 0, 1, 2).iter().map(|batch| batch.length).max().unwrap();
    assert_eq!(plan.longest_row(), longest);
}
