//! How often the records of each data set come in an epoch, where sets are mixed by a temperature
//! (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
//! Transformer", 3.5.2): the share of a set is `size^(1/T)`, of which the size is the number of
//! its examples times its weight. An epoch stays as long as it was.

use super::epoch::Lengths;
use super::layout::SetShape;

/// Weights are multiples of this, so that the last bits of a power, which machines may compute
/// differently, decide nothing.
const STEPS: f64 = 1_048_576.0;

/// The sets with weights that mix them by a temperature; with 1, as they are.
#[expect(clippy::cast_precision_loss)] // counts stay far below 2^53
pub fn mixed(sets: &[SetShape], lengths: &Lengths, temperature: f64) -> Vec<SetShape> {
    #[expect(clippy::float_cmp)] // the default, which changes no bit
    if temperature == 1.0 {
        return sets.to_vec();
    }
    let examples = |set: u32| -> u64 {
        let of_set = lengths.iter().filter(|(file, _)| file.set == set);
        let placed = |lengths: &[u32]| lengths.iter().filter(|length| **length > 0).count() as u64;
        of_set.map(|(_, lengths)| placed(lengths)).sum()
    };
    let counts: Vec<f64> = (0..).zip(sets).map(|(set, _)| examples(set) as f64).collect();
    let sizes = || sets.iter().zip(&counts).map(|(set, count)| set.weight * count);
    let power = |size: f64| if size > 0.0 { size.powf(1.0 / temperature) } else { 0.0 };
    let total = sizes().sum::<f64>() / sizes().map(power).sum::<f64>().max(f64::MIN_POSITIVE);
    let weighted = sets.iter().zip(&counts).zip(sizes()).map(|((set, count), size)| {
        let weight = match *count > 0.0 {
            true => ((total * power(size) / count * STEPS).round() / STEPS).max(1.0 / STEPS),
            false => set.weight,
        };
        SetShape { weight, ..set.clone() }
    });
    weighted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::layout::FileId;

    fn sets(counts: &[(u32, f64)]) -> (Vec<SetShape>, Lengths) {
        let shape = |(_, weight): &(u32, f64)| SetShape { sizes: vec![100], weight: *weight };
        let lengths = |(set, (count, _)): (u32, &(u32, f64))| {
            // One example of each set has no place in a row.
            let all = (0..=*count).map(|place| u32::from(place > 0) * 7).collect();
            (FileId { set, file: 0 }, all)
        };
        (counts.iter().map(shape).collect(), (0..).zip(counts).map(lengths).collect())
    }

    fn weights(counts: &[(u32, f64)], temperature: f64) -> Vec<f64> {
        let (sets, lengths) = sets(counts);
        mixed(&sets, &lengths, temperature).into_iter().map(|set| set.weight).collect()
    }

    #[test]
    fn shares_are_powers_of_sizes_and_an_epoch_stays_as_long() {
        // Shares 1 : 10 of what was 1 : 100, of 101 records together.
        let found = weights(&[(1, 1.0), (100, 1.0)], 2.0);
        let wanted = [101.0 / 11.0, 1010.0 / 11.0 / 100.0];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert!((found[0] + 100.0 * found[1] - 101.0).abs() < 1e-4);
        // Without end, shares are the same.
        let flat = weights(&[(10, 1.0), (40, 1.0)], 1e6);
        assert!((flat[0] - 2.5).abs() < 1e-4 && (flat[1] - 0.625).abs() < 1e-4, "{flat:?}");
    }

    #[test]
    fn weights_are_parts_of_sizes_and_one_changes_nothing() {
        assert_eq!(weights(&[(10, 2.5), (40, 0.3)], 1.0), [2.5, 0.3]);
        // Of the same size when weighted: they stay so.
        let even = weights(&[(10, 4.0), (40, 1.0)], 3.0);
        assert!((even[0] - 4.0).abs() < 1e-5 && (even[1] - 1.0).abs() < 1e-5, "{even:?}");
        assert_eq!(weights(&[(0, 1.0), (5, 1.0)], 2.0), [1.0, 1.0]);
    }
}
