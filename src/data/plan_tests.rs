//! Rows and their order: complete, apart, repeatable, found again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::config::DataConfig;
use crate::data::epoch::{Curriculum, Lengths};
use crate::data::example::{Example, RecordId};
use crate::data::examples::ExampleFacts;
use crate::data::filter::Filter;
use crate::data::fixture;
use crate::data::layout::Blocks;
use crate::data::layout::{BlockSize, SetShape};
use crate::data::property_tests::cases;
use crate::files::Digest;
use crate::random::Stream;
use crate::snapshots::says;

/// Blocks of a thousand examples in memory.
struct Memory {
    sets: Vec<SetShape>,
    files: Vec<Vec<Vec<CorpusEntry>>>,
    /// Every so many questions for a file, it cannot be had.
    fails_every: u64,
    asked: AtomicU64,
    /// Other threads than this one panic when they ask for a file.
    only: Option<ThreadId>,
}

impl Blocks for Memory {
    fn sets(&self) -> &[SetShape] {
        &self.sets
    }

    fn sizes(&self, file: FileId) -> Result<Arc<[BlockSize]>> {
        let here = std::thread::current().id();
        assert!(self.only.is_none_or(|only| only == here), "no thread but one may ask");
        if self.fails_every > 0
            && (self.asked.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.fails_every)
        {
            return Err(Error::hub("the file cannot be had now"));
        }
        let entries = &self.files[file.set as usize][file.file as usize];
        let size = |block: &[CorpusEntry]| BlockSize {
            examples: block.len() as u32,
            tokens: block.iter().map(|entry| entry.example.tokens.len() as u64).sum(),
        };
        Ok(entries.chunks(1000).map(size).collect())
    }

    fn read(&self, file: FileId, block: u32) -> Result<Vec<CorpusEntry>> {
        let entries = &self.files[file.set as usize][file.file as usize];
        Ok(entries.chunks(1000).nth(block as usize).unwrap().to_vec())
    }

    fn facts(&self, file: FileId, block: u32) -> Result<Vec<ExampleFacts>> {
        let facts = |entry: &CorpusEntry| ExampleFacts {
            digest: entry.digest,
            line: entry.record.line,
            order: 0.0,
            tokens: entry.example.tokens.len() as u32,
            targets: entry.example.target_count() as u32,
        };
        Ok(self.read(file, block)?.iter().map(facts).collect())
    }

    fn stop(&self) {}
}

/// Examples of pseudo-random lengths whose tokens name them.
fn entries(lines: std::ops::RangeInclusive<u64>, longest: u64) -> Vec<CorpusEntry> {
    let entry = |line: u64| {
        let length = 2 + Stream::new(9).bits(line) % (longest - 1);
        let example = Example {
            tokens: vec![u32::try_from(line).unwrap(); length as usize],
            loss_mask: (0..length).map(|i| i >= length / 2 && i > 0).collect(),
        };
        let record = RecordId { file: "f".into(), line };
        let digest = Digest::of(&line.to_le_bytes());
        CorpusEntry { record, digest, weight: 1.0, margin: 0.0, example }
    };
    lines.map(entry).collect()
}

/// Sets with their weights; a file of a set is as many bytes long as it has examples.
fn plan_of(
    sets: Vec<(f64, Vec<Vec<CorpusEntry>>)>,
    change: impl Fn(&mut DataConfig),
    seed: u64,
) -> Plan {
    plan_that_fails(sets, change, seed, (0, None))
}

fn plan_that_fails(
    sets: Vec<(f64, Vec<Vec<CorpusEntry>>)>,
    change: impl Fn(&mut DataConfig),
    seed: u64,
    (fails_every, only): (u64, Option<ThreadId>),
) -> Plan {
    let mut config = fixture::config(&[]);
    change(&mut config);
    let shape = |(weight, files): &(f64, Vec<Vec<CorpusEntry>>)| SetShape {
        sizes: files.iter().map(|file| file.len() as u64).collect(),
        weight: *weight,
    };
    let memory = Memory {
        sets: sets.iter().map(shape).collect(),
        files: sets.into_iter().map(|(_, files)| files).collect(),
        fails_every,
        asked: AtomicU64::new(0),
        only,
    };
    let mut lengths = Lengths::new();
    for (set, files) in (0..).zip(&memory.files) {
        for (file, entries) in (0..).zip(files) {
            let of_file = entries.iter().map(|entry| entry.example.tokens.len() as u32).collect();
            lengths.insert(FileId { set, file }, of_file);
        }
    }
    let retracted = config.retracted.iter().copied().collect();
    let filter = Filter { retracted, ..Filter::default() };
    let curriculum = config.order.as_ref().map(|order| {
        let numbers = (order != "length").then(|| numbers(&memory));
        Arc::new(Curriculum { lengths: lengths.clone(), numbers })
    });
    let read = (Some(lengths), curriculum);
    let recipe = Recipe::new(Arc::new(memory), filter, read, &config, seed);
    Plan::new(recipe, config.prefetch_windows)
}

/// What a column of the records says: three different numbers, none of them in file order.
fn numbers(memory: &Memory) -> BTreeMap<FileId, Arc<[f64]>> {
    let mut numbers = BTreeMap::new();
    for (set, files) in (0..).zip(&memory.files) {
        for (file, entries) in (0..).zip(files) {
            let of_file = entries.iter().map(|entry| rank(entry.record.line)).collect();
            numbers.insert(FileId { set, file }, of_file);
        }
    }
    numbers
}

fn rank(line: u64) -> f64 {
    (line * 7 % 3) as f64 - 1.0
}

fn plan(count: u64, change: impl Fn(&mut DataConfig)) -> Plan {
    plan_of(vec![(1.0, vec![entries(1..=count, 40)])], change, 7)
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
        assert_eq!(rows as u64, plan.rows_in_epoch(1).unwrap());
        let steps = |epochs| plan.steps_in_epochs(epochs, 12).unwrap();
        assert_eq!(steps(2) - steps(1), plan.rows_in_epoch(1).unwrap().div_ceil(12));
    }
}

#[test]
fn a_curriculum_goes_from_the_least_to_the_greatest_in_every_epoch() {
    for (order, window_rows, packing, shuffle) in
        [("length", 16_000, true, true), ("rank", 300, false, true), ("rank", 700, true, false)]
    {
        let plan = plan(2345, |config| {
            config.order = Some(order.to_owned());
            (config.window_rows, config.packing, config.shuffle) = (window_rows, packing, shuffle);
        });
        let number = |line: &u64| match order {
            "length" => (2 + Stream::new(9).bits(*line) % 39) as f64,
            _ => rank(*line),
        };
        let epochs = [0, 1].map(|number| lines(&epoch(&plan, number, 2, 3)));
        for (at, seen) in epochs.iter().enumerate() {
            assert!(seen.is_sorted_by_key(number), "{order}");
            let mut seen = seen.clone();
            // Among equal ones the order of the file holds, unless they are shuffled.
            assert_eq!(seen.is_sorted_by_key(|line| (number(line), *line)), !shuffle);
            seen.sort_unstable();
            assert!(seen.into_iter().eq(1..=2345));
            assert_eq!(plan.windows(at as u64).unwrap(), 2345_u64.div_ceil(window_rows));
        }
        assert_eq!(epochs[0] == epochs[1], !shuffle, "equal ones are drawn each epoch");
    }
}

#[test]
fn a_curriculum_merges_data_sets_by_their_weights() {
    let sets = vec![(2.0, vec![entries(1..=300, 40)]), (0.5, vec![entries(1001..=1200, 40)])];
    let plan = plan_of(sets, |config| config.order = Some("rank".to_owned()), 7);
    let seen = lines(&epoch(&plan, 0, 2, 3));
    assert!(seen.is_sorted_by_key(|line| rank(*line)));
    let counts = counts(&plan, 0);
    assert!((1..=300).all(|line| counts[&line] == 2));
    assert_eq!(counts.range(1001..).map(|(_, count)| *count).sum::<u32>(), 100);
    assert_eq!(seen.len(), 700);
    // Each epoch has others of a part of a set.
    assert_ne!(counts, self::counts(&plan, 1));
}

#[test]
fn a_temperature_mixes_sets_by_powers_of_their_sizes() {
    let sets = || vec![(1.0, vec![entries(1..=100, 40)]), (1.0, vec![entries(1001..=1900, 40)])];
    let shares = |temperature| {
        let plan = plan_of(sets(), |config| config.mixing_temperature = temperature, 7);
        let counts = counts(&plan, 0);
        let sum = |range: std::ops::Range<u64>| counts.range(range).map(|it| *it.1).sum::<u32>();
        (sum(1..1000), sum(1000..2000))
    };
    assert_eq!(shares(1.0), (100, 900));
    assert_eq!(shares(2.0), (250, 750));
    assert_eq!(shares(1000.0), (500, 501)); // whole examples of each
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
fn all_target_tokens_are_targets() {
    let expected: usize =
        entries(1..=500, 40).iter().map(|entry| entry.example.target_count()).sum();
    let plan = plan(500, |_| {});
    let targets: usize = epoch(&plan, 0, 2, 3).iter().map(|batch| batch.targets.len()).sum();
    assert_eq!(targets, expected);
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
        let steps = whole.steps_in_epochs(2, 6).unwrap();
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
    let order = |seed, number| {
        let plan = plan_of(vec![(1.0, vec![entries(1..=3000, 40)])], |_| {}, seed);
        lines(&epoch(&plan, number, 1, 8))
    };
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(2, 0));
    assert_ne!(order(1, 0), order(1, 1));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| order(1, 0)), order(1, 0));
}

#[test]
fn windows_mix_distant_blocks() {
    let plan = plan(20_000, |config| config.window_rows = 4000);
    assert_eq!(plan.windows(0).unwrap(), 5);
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
    let refused = |window, row| plan.take(&mut Cursor { epoch: 0, window, row }, 1, 1).unwrap_err();
    says(
        refused(1, 0),
        snapbox::str![[r#"
error[data]: there is no row 0 in window 1 of epoch 0

hint: the position belongs to other data or other `[data]` settings
"#]],
    );
    says(
        refused(0, 999),
        snapbox::str![[r#"
error[data]: there is no row 999 in window 0 of epoch 0

hint: the position belongs to other data or other `[data]` settings
"#]],
    );
}

#[test]
fn what_is_retracted_leaves_every_other_place_as_it_was() {
    let retracted = [5_u64, 77, 311, 312];
    for (packing, shuffle, window_rows) in
        [(true, true, 16_000), (true, true, 90), (true, false, 16_000), (false, true, 16_000)]
    {
        let change = |config: &mut DataConfig| {
            (config.packing, config.shuffle) = (packing, shuffle);
            config.window_rows = window_rows;
        };
        let without = |config: &mut DataConfig| {
            change(config);
            config.retracted = retracted.map(|line| Digest::of(&line.to_le_bytes())).to_vec();
        };
        let rows = |plan: &Plan| -> Vec<Vec<u64>> {
            epoch(plan, 0, 1, 1).iter().map(|row| lines(std::slice::from_ref(row))).collect()
        };
        let (all, less) = (plan(400, change), plan(400, without));
        let mut expected = rows(&all);
        expected.iter_mut().for_each(|row| row.retain(|line| !retracted.contains(line)));
        expected.retain(|row| !row.is_empty());
        let found = rows(&less);
        assert_eq!(found, expected);
        assert_eq!(less.rows_in_epoch(0).unwrap(), found.len() as u64);
        assert_eq!(all.rows_in_epoch(0).unwrap() > found.len() as u64, !packing);
    }
}

#[test]
fn the_longest_row_is_that_of_the_batches() {
    let plan = plan(700, |_| {});
    let longest = epoch(&plan, 0, 1, 2).iter().map(|batch| batch.length).max().unwrap();
    assert_eq!(plan.longest_row().unwrap(), longest);
}

#[test]
fn prefetching_changes_nothing() {
    let digests = |prefetch: u64| {
        let plan = plan(4000, |config| {
            (config.prefetch_windows, config.window_rows) = (prefetch, 700);
        });
        let all = (0..2).flat_map(|number| epoch(&plan, number, 2, 3));
        all.map(|batch| batch.digest()).collect::<Vec<_>>()
    };
    let without = digests(0);
    assert!(without.len() > 20);
    assert_eq!(without, digests(1));
    assert_eq!(without, digests(5));
}

/// How often each line comes in an epoch.
fn counts(plan: &Plan, number: u64) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for line in lines(&epoch(plan, number, 1, 4)) {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

#[test]
fn weights_say_how_often_records_come() {
    for shuffle in [true, false] {
        let sets = vec![
            (2.5, vec![entries(1..=300, 40), entries(301..=1500, 40)]),
            (0.25, vec![entries(10_001..=12_000, 40)]),
        ];
        let plan = plan_of(sets, |config| config.shuffle = shuffle, 3);
        let [first, second] = [0, 1].map(|number| counts(&plan, number));
        for counts in [&first, &second] {
            let many: u32 = counts.range(..10_000).map(|(_, count)| count).sum();
            let few: u32 = counts.range(10_000..).map(|(_, count)| count).sum();
            assert!(counts.range(..10_000).all(|(_, count)| [2, 3].contains(count)));
            assert_eq!(counts.range(..10_000).count(), 1500, "each comes at least twice");
            assert!(many.abs_diff(3750) <= 1, "{many}");
            assert!(few.abs_diff(500) <= 1 && counts.range(10_000..).all(|(_, count)| *count == 1));
        }
        assert_eq!(first == second, !shuffle, "each epoch takes others of a quarter");
        let all = plan.rows_in_epoch(0).unwrap();
        assert_eq!(all, epoch(&plan, 0, 1, 1).len() as u64, "counted without reading");
    }
}

#[test]
fn sets_are_mixed_evenly() {
    let sets = vec![
        (1.0, vec![entries(1..=9000, 40)]),
        (1.0, vec![entries(100_001..=102_000, 40), entries(102_001..=103_000, 40)]),
    ];
    let plan = plan_of(sets, |config| config.window_rows = 4000, 3);
    let mut cursor = Cursor::default();
    let mut shares = Vec::new();
    while cursor.epoch == 0 {
        let (window, mut of_window) = (cursor.window, Vec::new());
        while (cursor.epoch, cursor.window) == (0, window) {
            of_window.extend(lines(&plan.take(&mut cursor, 1, 1).unwrap()));
        }
        let second = of_window.iter().filter(|line| **line > 100_000).count();
        shares.push((of_window.len(), second));
    }
    assert_eq!(shares.iter().map(|(all, _)| all).sum::<usize>(), 12_000);
    assert!(
        shares.iter().all(|(all, second)| (500..=1000).contains(second) || *all < 4000),
        "{shares:?}"
    );
}

#[test]
fn windows_stay_below_their_bytes() {
    let plan = plan(5000, |config| config.window_bytes = 20_000);
    let mut cursor = Cursor::default();
    let mut seen = Vec::new();
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    while cursor.epoch == 0 {
        let window = cursor.window;
        for batch in plan.take(&mut cursor, 1, 1).unwrap() {
            *sizes.entry(window).or_default() += batch.tokens_without_padding() as usize;
            seen.extend(lines(&[batch]));
        }
    }
    assert!(sizes.values().all(|tokens| tokens * 5 <= 22_000), "{sizes:?}");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=5000));
}

/// Digests of two epochs, row by row, with a new plan whenever `cut` says so.
fn rows_with_cuts(cut: impl Fn(u64) -> bool) -> Vec<Digest> {
    let new = || {
        let sets = vec![
            (1.5, vec![entries(1..=40, 40), entries(41..=70, 40)]),
            (1.0, vec![entries(101..=125, 40)]),
        ];
        plan_of(sets, |config| config.window_rows = 9, 5)
    };
    let (mut plan, mut cursor, mut digests) = (new(), Cursor::default(), Vec::new());
    while cursor.epoch < 2 {
        if cut(digests.len() as u64) {
            let text = serde_json::to_string(&cursor).unwrap();
            (plan, cursor) = (new(), serde_json::from_str(&text).unwrap());
        }
        digests.extend(plan.take(&mut cursor, 1, 1).unwrap().iter().map(Batch::digest));
    }
    digests
}

#[test]
fn any_number_of_resumes_anywhere_gives_the_rows_of_none() {
    let straight = rows_with_cuts(|_| false);
    assert!(straight.len() > 100);
    assert_eq!(rows_with_cuts(|_| true), straight, "before every row");
    for at in 0..straight.len() as u64 {
        assert_eq!(rows_with_cuts(|row| row == at), straight, "once, before row {at}");
    }
    // Ten times, at other places in each round.
    for round in 0..20 {
        let stream = Stream::new(round);
        let cuts: BTreeSet<u64> =
            (0..10).map(|number| stream.bits(number) % straight.len() as u64).collect();
        assert_eq!(rows_with_cuts(|row| cuts.contains(&row)), straight, "{cuts:?}");
    }
}

#[test]
fn a_file_that_cannot_be_had_for_a_while_changes_no_row() {
    let rows = |fails_every: u64, prefetch: u64| {
        let files = (0..7).map(|file| entries(file * 30 + 1..=file * 30 + 30, 40)).collect();
        let change = |config: &mut DataConfig| {
            (config.window_rows, config.prefetch_windows) = (50, prefetch);
        };
        let plan = plan_that_fails(vec![(1.0, files)], change, 5, (fails_every, None));
        let (mut cursor, mut digests, mut failures) = (Cursor::default(), Vec::new(), 0);
        while cursor.epoch < 2 {
            let mut after = cursor;
            match plan.take(&mut after, 2, 3) {
                Ok(batches) => {
                    digests.extend(batches.iter().map(Batch::digest));
                    cursor = after;
                }
                Err(_) => failures += 1,
            }
        }
        (digests, failures)
    };
    let (expected, none) = rows(0, 0);
    assert_eq!(none, 0);
    for fails_every in [2, 3, 5] {
        let (digests, failures) = rows(fails_every, 0);
        assert!(failures > 0);
        assert_eq!(digests, expected, "every {fails_every}");
        assert_eq!(rows(fails_every, 2).0, expected, "every {fails_every}, ahead");
    }
}

#[test]
fn a_panic_while_reading_ahead_leaves_nobody_waiting() {
    let rows = |only: Option<ThreadId>| {
        let files = (0..4).map(|file| entries(file * 30 + 1..=file * 30 + 30, 40)).collect();
        let change = |config: &mut DataConfig| {
            (config.window_rows, config.prefetch_windows) = (20, 3);
        };
        let plan = plan_that_fails(vec![(1.0, files)], change, 5, (0, only));
        // Counting its rows would ask from other threads.
        let mut cursor = Cursor::default();
        let mut digests = Vec::new();
        while cursor.epoch < 1 {
            digests.extend(plan.take(&mut cursor, 1, 2).unwrap().iter().map(Batch::digest));
        }
        digests
    };
    assert_eq!(rows(Some(std::thread::current().id())), rows(None));
}

proptest! {
    #![proptest_config(cases(48))]

    /// Whatever the data and the settings: every example comes as often as its weight says, and a
    /// cursor that was written down anywhere leads on to the same rows.
    #[test]
    fn a_cursor_goes_on_to_the_same_rows_whatever_the_data_and_the_settings(
        files in vec(1_u64..70, 1..5),
        seed in any::<u64>(),
        (packing, shuffle) in (any::<bool>(), any::<bool>()),
        (window_rows, prefetch) in (1_u64..60, 0_u64..3),
        (micro_batches, size) in (1_usize..4, 1_usize..5),
        cut in any::<proptest::sample::Index>(),
    ) {
        let new = || {
            let mut first = 1;
            let entries = files.iter().map(|count| {
                first += count;
                entries(first - count..=first - 1, 40)
            });
            let change = |config: &mut DataConfig| {
                (config.packing, config.shuffle) = (packing, shuffle);
                (config.window_rows, config.prefetch_windows) = (window_rows, prefetch);
            };
            plan_of(vec![(1.0, entries.collect())], change, seed)
        };
        let (plan, mut cursor) = (new(), Cursor::default());
        let (mut cursors, mut digests, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        while cursor.epoch < 2 {
            cursors.push(cursor);
            let batches = plan.take(&mut cursor, micro_batches, size).unwrap();
            digests.push(batches.iter().map(Batch::digest).collect::<Vec<_>>());
            seen.extend(lines(&batches));
        }
        seen.sort_unstable();
        let count: u64 = files.iter().sum();
        prop_assert!(seen.into_iter().eq((1..=count).flat_map(|line| [line, line])));
        let steps = plan.steps_in_epochs(2, (micro_batches * size) as u64).unwrap();
        prop_assert_eq!(steps, digests.len() as u64);
        let start = cut.index(cursors.len());
        let mut cursor = cursors[start];
        let fresh = new();
        for expected in &digests[start..] {
            let batches = fresh.take(&mut cursor, micro_batches, size).unwrap();
            prop_assert!(batches.iter().map(Batch::digest).eq(expected.iter().copied()));
        }
    }
}
