//! What holds of packing, order and the files of examples for whatever goes in: cases are drawn
//! with a fixed seed, so that every machine tries the same, and one that fails is made smaller and
//! printed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::example::{CorpusEntry, Example, RecordId, RecordNumbers};
use super::examples::{Reader, Writer};
use super::order::permuted;
use super::pack::{Packing, pack};
use crate::files::Digest;
use crate::random::Stream;

/// So many cases of each property, the same ones each time.
pub fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        rng_seed: RngSeed::Fixed(20_261_129),
        // A case that once failed becomes a test of its own.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn packings() -> impl Strategy<Value = Packing> {
    prop_oneof![Just(Packing::None), Just(Packing::InOrder), Just(Packing::BestFit)]
}

/// Examples of up to 40 tokens below a vocabulary; the first token is never a target.
fn examples(vocabulary: u32) -> impl Strategy<Value = Vec<Example>> {
    let example = vec((0..vocabulary, any::<bool>()), 1..40).prop_map(|pairs| {
        let (tokens, mut loss_mask): (Vec<u32>, Vec<bool>) = pairs.into_iter().unzip();
        loss_mask[0] = false;
        Example { tokens, loss_mask }
    });
    vec(example, 0..60)
}

/// Narrow tokens, which take two bytes in a file, and wide ones.
fn vocabulary() -> impl Strategy<Value = (u32, Vec<Example>)> {
    prop_oneof![Just(1), Just(300), Just(1 << 16), Just((1 << 16) + 1), Just(u32::MAX)]
        .prop_flat_map(|vocabulary| (Just(vocabulary), examples(vocabulary)))
}

proptest! {
    #![proptest_config(cases(256))]

    /// Lengths may be 0 and above the row: what does not fit has a row of its own.
    #[test]
    fn packing_puts_every_document_into_one_row_of_at_most_the_length(
        lengths in vec(0_usize..130, 0..400),
        max in 1_usize..120,
        packing in packings(),
    ) {
        let documents = || (0..).zip(lengths.iter().copied());
        let rows = pack(documents(), max, packing);
        let mut seen = vec![0; lengths.len()];
        for row in &rows {
            prop_assert!(!row.is_empty() && row.is_sorted());
            row.iter().for_each(|place| seen[*place as usize] += 1);
            let sum: usize = row.iter().map(|place| lengths[*place as usize]).sum();
            prop_assert!(sum <= max || row.len() == 1, "{row:?} has {sum} tokens");
            prop_assert!(packing != Packing::None || row.len() == 1);
        }
        prop_assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
        let firsts: Vec<u32> = rows.iter().map(|row| row[0]).collect();
        prop_assert!(firsts.is_sorted(), "rows come in the order in which they were begun");
        prop_assert_eq!(pack(documents(), max, packing), rows, "it depends on nothing else");
    }

    #[test]
    fn an_order_is_a_permutation_and_each_position_is_found_alone(
        seed in any::<u64>(),
        epoch in any::<u64>(),
        length in 1_u64..700,
    ) {
        let key = Stream::new(seed).site("data.records").number(epoch);
        let order: Vec<u64> = (0..length).map(|place| permuted(key, length, place)).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert!(sorted.into_iter().eq(0..length));
        // From the end, by a key that is made anew.
        for place in (0..length).rev() {
            let key = Stream::new(seed).site("data.records").number(epoch);
            prop_assert_eq!(permuted(key, length, place), order[place as usize]);
        }
    }

    /// Too large to go through: two positions never have the same number.
    #[test]
    fn no_two_positions_of_a_long_order_meet(
        seed in any::<u64>(),
        length in 2_u64..,
        places in vec(any::<u64>(), 2..20),
    ) {
        let key = Stream::new(seed);
        let mut places: Vec<u64> = places.into_iter().map(|place| place % length).collect();
        places.sort_unstable();
        places.dedup();
        let mut found: Vec<u64> =
            places.iter().map(|place| permuted(key, length, *place)).collect();
        found.sort_unstable();
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        prop_assert!(found.iter().all(|number| *number < length));
    }
}

proptest! {
    #![proptest_config(cases(64))] // each writes a file

    #[test]
    fn examples_are_read_as_they_were_written(
        (vocabulary, examples) in vocabulary(),
        lines in vec(any::<u64>(), 60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.examples");
        let mut writer = Writer::new(folder.path(), vocabulary as usize).unwrap();
        for (example, line) in examples.iter().zip(&lines) {
            let digest = Digest::of(&line.to_le_bytes());
            writer.push(*line, &digest, RecordNumbers::default(), example).unwrap();
        }
        writer.commit(&path, &vocabulary).unwrap();
        let reader = Reader::<u32>::open(&path).unwrap();
        prop_assert_eq!(reader.about, vocabulary);
        let mut entries: Vec<CorpusEntry> = Vec::new();
        for number in 0..reader.blocks.len() {
            let block = reader.block(number, &"a".into()).unwrap();
            for (facts, entry) in reader.facts(number).unwrap().iter().zip(&block) {
                prop_assert_eq!((facts.digest, facts.line), (entry.digest, entry.record.line));
                prop_assert_eq!(facts.tokens as usize, entry.example.tokens.len());
                prop_assert_eq!(facts.targets as usize, entry.example.target_count());
            }
            entries.extend(block);
        }
        prop_assert_eq!(entries.len(), examples.len());
        for ((entry, example), line) in entries.iter().zip(&examples).zip(&lines) {
            prop_assert_eq!(&entry.example, example);
            prop_assert_eq!(&entry.record, &RecordId { file: "a".into(), line: *line });
            prop_assert_eq!(entry.digest, Digest::of(&line.to_le_bytes()));
        }
    }
}
