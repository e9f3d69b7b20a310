//! Where the answers of pairs are: an example of a pair holds the prompt with the chosen answer and
//! the prompt with the rejected one, and the model is to see two documents.

use std::ops::Range;

use crate::data::{Batch, Target};

/// A pair as the targets have it: those of the chosen answer, then those of the rejected one.
#[derive(Debug, Clone)]
pub struct PairTargets {
    /// Of the chosen answer.
    pub chosen: Range<usize>,
    /// Of the rejected answer.
    pub rejected: Range<usize>,
}

/// How many pairs are in a batch, arranged or not: one for each example.
pub fn count(batch: &Batch) -> u64 {
    let places = batch.documents.chunks(batch.length.max(1));
    let of_row = |row: &[u32]| {
        let begun = row.chunk_by(|one, next| one == next);
        begun.filter(|document| document[0] > 0).count() as u64
    };
    places.map(of_row).sum()
}

/// An example holds both answers, each after the prompt: they become two documents.
pub fn arranged(batch: &Batch) -> Batch {
    let mut arranged = batch.clone();
    let mut place = 0;
    let mut targets = batch.targets.as_slice();
    for row in batch.documents.chunks(batch.length.max(1)) {
        let mut number = 0;
        for document in row.chunk_by(|one, next| one == next) {
            let (begin, end) = (place, place + document.len());
            place = end;
            let count = targets.partition_point(|target| (target.index as usize) < end);
            let (inside, after) = targets.split_at(count);
            targets = after;
            if document[0] == 0 {
                continue;
            }
            let middle = end_of_first(inside, end);
            for (from, to) in [(begin, middle), (middle, end)] {
                number += 1;
                arranged.documents[from..to].fill(number);
                let positions = arranged.positions[from..to].iter_mut();
                positions.zip(0..).for_each(|(position, number)| *position = number);
            }
        }
    }
    arranged
}

/// The last token of each answer of all pairs of an arranged batch, the chosen one first.
pub fn answer_ends(batch: &Batch) -> Vec<Target> {
    let last = |answer: &Range<usize>| {
        let last = batch.targets[answer.end - 1];
        Target { index: last.index + 1, ..last }
    };
    pairs_of(batch).iter().flat_map(|pair| [last(&pair.chosen), last(&pair.rejected)]).collect()
}

/// Where the first of two answers ends: behind the first run of targets, of which each stands one
/// place before the token that it predicts.
fn end_of_first(targets: &[Target], end: usize) -> usize {
    let first = targets.chunk_by(|one, next| one.index + 1 == next.index).next();
    let last = first.and_then(<[Target]>::last);
    last.map_or(end, |last| last.index as usize + 2).min(end)
}

/// The targets of each pair of an arranged batch: of two documents, one after the other.
pub fn pairs_of(batch: &Batch) -> Vec<PairTargets> {
    let row = |target: &Target| target.index as usize / batch.length.max(1);
    let document = |target: &Target| (row(target), batch.documents[target.index as usize]);
    let mut answers = Vec::new();
    let mut begin = 0;
    for run in batch.targets.chunk_by(|one, next| document(one) == document(next)) {
        answers.push((document(&run[0]), begin..begin + run.len()));
        begin += run.len();
    }
    answers
        .windows(2)
        .filter(|both| {
            let ((row, chosen), (same, rejected)) = (both[0].0, both[1].0);
            row == same && chosen % 2 == 1 && rejected == chosen + 1
        })
        .map(|both| PairTargets { chosen: both[0].1.clone(), rejected: both[1].1.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answers_of_an_example_become_documents() {
        let target = |index| Target { index, token: 9 };
        let batch = Batch {
            rows: 2,
            length: 9,
            tokens: (0..18).collect(),
            // Two pairs in the first row (5 and 3 tokens, 1 of padding), one in the second.
            documents: [vec![1; 5], vec![2; 3], vec![0], vec![1; 6], vec![0; 3]].concat(),
            positions: [vec![0, 1, 2, 3, 4, 0, 1, 2, 0], vec![0, 1, 2, 3, 4, 5, 0, 0, 0]].concat(),
            targets: vec![
                target(0),
                target(3),
                target(5),
                target(6),
                target(9),
                target(10),
                target(13),
            ],
            ..Batch::default()
        };
        assert_eq!(count(&batch), 3);
        let arranged = arranged(&batch);
        let wanted = [vec![1, 1, 2, 2, 2, 3, 3, 3, 0], vec![1, 1, 1, 2, 2, 2, 0, 0, 0]].concat();
        assert_eq!(arranged.documents, wanted);
        assert_eq!(arranged.positions[..5], [0, 1, 0, 1, 2]);
        assert_eq!(arranged.positions[9..15], [0, 1, 2, 0, 1, 2]);
        let pairs: Vec<_> =
            pairs_of(&arranged).into_iter().map(|pair| (pair.chosen, pair.rejected)).collect();
        // The second example of the first row has one answer alone, which is no pair.
        assert_eq!(pairs, [(0..1, 1..2), (4..6, 6..7)]);
    }
}
