//! Rows as the model takes them: packed documents, their positions, and what to predict.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::example::CorpusEntry;
use super::example::{Example, RecordId};
use crate::files::Digest;

/// One token to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Target {
    /// The place in the batch, row after row, whose output predicts the token: the one before it.
    pub index: u32,
    /// The token.
    pub token: u32,
}

/// What a target that the model has sampled itself is learnt by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampledToken {
    /// How much better than expected the completion is that it belongs to.
    pub advantage: f32,
    /// Its log-probability when it was sampled, in nats, where the model has learnt since.
    pub log_prob: Option<f32>,
    /// Whether it is left out of the loss.
    pub masked: bool,
}

/// Documents of a batch of one row that begin alike: what they begin with is there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedBeginning {
    /// Place of its first token.
    pub first: usize,
    /// How many tokens it has.
    pub length: usize,
    /// How many follow of each document.
    pub parts: Vec<usize>,
}

/// What a teacher makes of the place of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherTop {
    /// Its likeliest tokens with their log-probabilities in nats, the likeliest first.
    pub likeliest: Arc<[(u32, f32)]>,
    /// The log-probability of all other tokens together.
    pub rest: f32,
}

/// A micro-batch: the rows of one forward pass. All lists but the last seven go row after row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// How many rows.
    pub rows: usize,
    /// The length of the longest row; shorter ones are padded.
    pub length: usize,
    /// Token ids; padding is 0.
    pub tokens: Vec<u32>,
    /// Places within each document, from 0.
    pub positions: Vec<u32>,
    /// Documents of each row, counted from 1; padding is 0.
    pub documents: Vec<u32>,
    /// What to predict.
    pub targets: Vec<Target>,
    /// What the loss of each target is multiplied with, in their order; none where that is 1.
    pub weights: Vec<f32>,
    /// By how much more the chosen answer of the pair of each target is to be scored, in their
    /// order; none where that is 0.
    pub margins: Vec<f32>,
    /// Of each target, in their order, where the model has sampled them; else none.
    pub sampled: Vec<SampledToken>,
    /// Of each target, in their order, where a teacher is learnt from; else none.
    pub teacher: Vec<TeacherTop>,
    /// Per row, the records that went into it, in order.
    pub sources: Vec<Vec<RecordId>>,
    /// What documents have in common, of a batch that is not divided or changed any more.
    pub shared: Vec<SharedBeginning>,
}

impl Batch {
    /// Lays out rows, each a list of examples.
    pub fn new(rows: &[Vec<&CorpusEntry>]) -> Self {
        let long = |row: &Vec<&CorpusEntry>| {
            row.iter().map(|entry| entry.example.tokens.len()).sum::<usize>()
        };
        let length = rows.iter().map(long).max().unwrap_or(0);
        let size = rows.len() * length;
        let [tokens, positions, documents] = [(); 3].map(|()| Vec::with_capacity(size));
        let mut batch =
            Self { rows: rows.len(), length, tokens, positions, documents, ..Self::default() };
        for (number, row) in (1..).zip(rows) {
            for (document, entry) in (1..).zip(row) {
                batch.put(document, &entry.example);
                batch.weights.resize(batch.targets.len(), entry.weight);
                batch.margins.resize(batch.targets.len(), entry.margin);
            }
            for list in [&mut batch.tokens, &mut batch.positions, &mut batch.documents] {
                list.resize(number * length, 0);
            }
            batch.sources.push(row.iter().map(|entry| entry.record.clone()).collect());
        }
        #[expect(clippy::float_cmp)] // what no column says is 1 itself
        if batch.weights.iter().all(|weight| *weight == 1.0) {
            batch.weights.clear();
        }
        if batch.margins.iter().all(|margin| *margin == 0.0) {
            batch.margins.clear();
        }
        batch
    }

    /// Writes one document behind what is there.
    fn put(&mut self, document: u32, example: &Example) {
        let tokens = &example.tokens;
        let first = u32::try_from(self.tokens.len()).expect("a batch has less than 2^32 tokens");
        let length = u32::try_from(tokens.len()).expect("a batch has less than 2^32 tokens");
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(0..length);
        self.documents.resize(self.documents.len() + tokens.len(), document);
        let mut begin = 0;
        for run in example.loss_mask.chunk_by(|one, next| one == next) {
            let end = begin + run.len();
            if run[0] {
                // The first token has nothing before it to be predicted from.
                let begin = begin.max(1);
                let index = first + begin as u32 - 1..;
                let targets = tokens[begin..end].iter().zip(index);
                self.targets.extend(targets.map(|(&token, index)| Target { index, token }));
            }
            begin = end;
        }
    }

    /// Parts of at most so many rows, each with the number of tokens before it, padding included.
    /// Rows stay as long as they are here.
    pub fn split(&self, rows: usize) -> Vec<(usize, Self)> {
        let rows = rows.max(1);
        (0..self.rows).step_by(rows).map(|first| self.part(first, rows)).collect()
    }

    fn part(&self, first: usize, rows: usize) -> (usize, Self) {
        let rows = rows.min(self.rows - first);
        let places = first * self.length..(first + rows) * self.length;
        let sources = self.sources.iter().skip(first).take(rows).cloned().collect();
        let size = Self { rows, length: self.length, sources, ..Self::default() };
        (places.start, self.within(places, size))
    }

    /// A part of the first row, which may begin and end within documents.
    pub fn of_first_row(&self, places: Range<usize>) -> Self {
        assert!(places.end <= self.length, "the row has {} places", self.length);
        let sources = self.sources.iter().take(1).cloned().collect();
        let size = Self { rows: 1, length: places.len(), sources, ..Self::default() };
        self.within(places, size)
    }

    /// What lies in some places.
    fn within(&self, places: Range<usize>, size: Self) -> Self {
        let before = u32::try_from(places.start).expect("a batch has less than 2^32 tokens");
        let inside = |target: &&Target| places.contains(&(target.index as usize));
        let moved = |target: &Target| Target { index: target.index - before, ..*target };
        let sampled = self.targets.iter().zip(&self.sampled);
        let sampled = sampled.filter(|(target, _)| inside(target));
        let weights = self.targets.iter().zip(&self.weights);
        let weights = weights.filter(|(target, _)| inside(target));
        let margins = self.targets.iter().zip(&self.margins);
        let margins = margins.filter(|(target, _)| inside(target));
        let teacher = self.targets.iter().zip(&self.teacher);
        let teacher = teacher.filter(|(target, _)| inside(target));
        Self {
            tokens: self.tokens[places.clone()].to_vec(),
            positions: self.positions[places.clone()].to_vec(),
            documents: self.documents[places.clone()].to_vec(),
            targets: self.targets.iter().filter(inside).map(moved).collect(),
            weights: weights.map(|(_, weight)| *weight).collect(),
            margins: margins.map(|(_, margin)| *margin).collect(),
            sampled: sampled.map(|(_, sampled)| *sampled).collect(),
            teacher: teacher.map(|(_, top)| top.clone()).collect(),
            ..size
        }
    }

    /// The same with `rows` rows of `length` tokens, at least as many as there are: what is new is
    /// padding, which nothing sees and nothing is trained on. A batch of another size names no
    /// records.
    pub fn padded(&self, rows: usize, length: usize) -> Cow<'_, Self> {
        let (rows, length) = (rows.max(self.rows), length.max(self.length));
        if (rows, length) == (self.rows, self.length) {
            return Cow::Borrowed(self);
        }
        let wider = |list: &[u32]| {
            let mut wider = vec![0; rows * length];
            let old = list.chunks_exact(self.length.max(1));
            for (new, old) in wider.chunks_exact_mut(length).zip(old) {
                new[..self.length].copy_from_slice(old);
            }
            wider
        };
        let moved = |target: &Target| {
            let index = target.index as usize;
            let index = index / self.length * length + index % self.length;
            let index = u32::try_from(index).expect("a batch has less than 2^32 tokens");
            Target { index, ..*target }
        };
        Cow::Owned(Self {
            rows,
            length,
            tokens: wider(&self.tokens),
            positions: wider(&self.positions),
            documents: wider(&self.documents),
            targets: self.targets.iter().map(moved).collect(),
            weights: self.weights.clone(),
            margins: self.margins.clone(),
            sampled: self.sampled.clone(),
            teacher: self.teacher.clone(),
            sources: Vec::new(),
            shared: Vec::new(),
        })
    }

    /// All that is no padding in one row, and the place that each token had; nothing if there is no
    /// padding. A batch of another size names no records.
    pub fn without_padding(&self) -> Option<(Self, Vec<usize>)> {
        let real = |place: &usize| self.documents[*place] > 0;
        let places: Vec<usize> = (0..self.documents.len()).filter(real).collect();
        if places.len() == self.documents.len() {
            return None;
        }
        let picked = |list: &[u32]| places.iter().map(|place| list[*place]).collect();
        // A document does not go on where another row began.
        let document = |place: &usize| (place / self.length, self.documents[*place]);
        let same = places.chunk_by(|a, b| document(a) == document(b));
        let documents = (1..).zip(same).flat_map(|(number, all)| all.iter().map(move |_| number));
        let moved = |target: &Target| {
            let index = places.partition_point(|place| *place < target.index as usize);
            let index = u32::try_from(index).expect("a batch has less than 2^32 tokens");
            Target { index, ..*target }
        };
        let batch = Self {
            rows: 1,
            length: places.len(),
            tokens: picked(&self.tokens),
            positions: picked(&self.positions),
            documents: documents.collect(),
            targets: self.targets.iter().map(moved).collect(),
            weights: self.weights.clone(),
            margins: self.margins.clone(),
            sampled: self.sampled.clone(),
            teacher: self.teacher.clone(),
            sources: Vec::new(),
            shared: Vec::new(),
        };
        Some((batch, places))
    }

    /// The documents that have targets: the places of each, and its targets in the list of all.
    pub fn documents_with_targets(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let (mut all, mut place, mut first) = (Vec::new(), 0, 0);
        for row in self.documents.chunks(self.length.max(1)) {
            for document in row.chunk_by(|one, next| one == next) {
                let places = place..place + document.len();
                place = places.end;
                let inside = |target: &Target| (target.index as usize) < places.end;
                let count = self.targets[first..].partition_point(inside);
                if count > 0 {
                    all.push((places, first..first + count));
                }
                first += count;
            }
        }
        all
    }

    /// How many tokens are no padding.
    pub fn tokens_without_padding(&self) -> u64 {
        self.documents.iter().filter(|document| **document > 0).count() as u64
    }

    /// Per row, the places of its records, for people.
    pub fn describe_rows(&self) -> Vec<String> {
        let names = |row: &Vec<RecordId>| -> String {
            let names: Vec<String> = row.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        self.sources.iter().map(names).collect()
    }

    /// The digest of everything that the model sees; what a teacher makes of it follows from that
    /// and the teacher.
    ///
    /// SHA-256 over little-endian numbers: rows and length as 64 bits; then as 32 bits each all
    /// tokens, all positions, all documents, and index and token of all targets; then the bits of
    /// their weights, where those are not all 1, and of their margins, where those are not all 0;
    /// of those that were sampled then the bits of the advantage, those of the log-probability or
    /// -1, and 1 or 0 for whether it is left out.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::with_capacity(16 + 12 * self.tokens.len() + 8 * self.targets.len());
        bytes.extend_from_slice(&(self.rows as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.length as u64).to_le_bytes());
        let mut put = |number: u32| bytes.extend_from_slice(&number.to_le_bytes());
        for list in [&self.tokens, &self.positions, &self.documents] {
            list.iter().copied().for_each(&mut put);
        }
        for target in &self.targets {
            put(target.index);
            put(target.token);
        }
        self.weights.iter().chain(&self.margins).for_each(|number| put(number.to_bits()));
        for sampled in &self.sampled {
            put(sampled.advantage.to_bits());
            put(sampled.log_prob.map_or(u32::MAX, f32::to_bits));
            put(sampled.masked.into());
        }
        Digest::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_rows_and_targets_in_order() {
        let batch = Batch {
            rows: 5,
            length: 3,
            tokens: (0..15).collect(),
            positions: [0, 1, 2].repeat(5),
            documents: vec![1; 15],
            targets: (0..15).map(|index| Target { index, token: index + 100 }).collect(),
            ..Batch::default()
        };
        for rows in 1..=7 {
            let parts = batch.split(rows);
            assert_eq!(parts.len(), 5_usize.div_ceil(rows));
            let mut tokens = Vec::new();
            for (before, part) in &parts {
                assert_eq!(*before, tokens.len());
                for target in &part.targets {
                    assert_eq!(target.index + *before as u32 + 100, target.token);
                }
                assert_eq!(part.targets.len(), part.rows * 3);
                tokens.extend(part.tokens.clone());
            }
            assert_eq!(tokens, batch.tokens);
        }
        assert_eq!(batch.split(9)[0].1, batch);
    }

    #[test]
    fn weights_and_what_was_sampled_stay_with_their_targets() {
        let sampled = |advantage| SampledToken { advantage, log_prob: None, masked: false };
        let top = |rest| TeacherTop { likeliest: [(7, -0.1)].into(), rest };
        let batch = Batch {
            rows: 3,
            length: 2,
            tokens: (0..6).collect(),
            positions: [0, 1].repeat(3),
            documents: vec![1, 1, 1, 0, 1, 1],
            targets: [0, 4].map(|index| Target { index, token: 7 }).to_vec(),
            sampled: vec![sampled(0.5), sampled(-1.5)],
            weights: vec![2.0, 0.5],
            teacher: [-0.5, -2.0].map(top).to_vec(),
            ..Batch::default()
        };
        let parts = batch.split(1);
        let of_parts: Vec<_> = parts.iter().map(|(_, part)| part.sampled.clone()).collect();
        assert_eq!(of_parts, [vec![sampled(0.5)], vec![], vec![sampled(-1.5)]]);
        let of_parts: Vec<_> = parts.iter().map(|(_, part)| part.weights.clone()).collect();
        assert_eq!(of_parts, [vec![2.0], vec![], vec![0.5]]);
        let of_parts: Vec<_> = parts.iter().map(|(_, part)| part.teacher.clone()).collect();
        assert_eq!(of_parts, [vec![top(-0.5)], vec![], vec![top(-2.0)]]);
        assert_eq!(batch.padded(4, 3).teacher, batch.teacher);
        assert_eq!(batch.without_padding().unwrap().0.teacher, batch.teacher);
        assert_eq!(batch.documents_with_targets(), [(0..2, 0..1), (4..6, 1..2)]);
        assert_eq!(batch.padded(4, 3).weights, batch.weights);
        assert_eq!(batch.without_padding().unwrap().0.weights, batch.weights);
        let plain = Batch { weights: Vec::new(), ..batch.clone() };
        assert_ne!(plain.digest(), batch.digest());
        assert_eq!(batch.padded(4, 3).sampled, batch.sampled);
        assert_eq!(batch.without_padding().unwrap().0.sampled, batch.sampled);
        let other = Batch { sampled: vec![sampled(0.5), sampled(1.5)], ..batch.clone() };
        assert_ne!(other.digest(), batch.digest());
    }

    #[test]
    fn padding_moves_targets_and_adds_nothing_else() {
        let batch = Batch {
            rows: 2,
            length: 3,
            tokens: vec![1, 2, 3, 4, 5, 6],
            positions: vec![0, 1, 2, 0, 1, 0],
            documents: vec![1, 1, 1, 1, 1, 2],
            targets: vec![Target { index: 1, token: 3 }, Target { index: 3, token: 5 }],
            ..Batch::default()
        };
        let wider = batch.padded(3, 5);
        assert_eq!(wider.tokens, [1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wider.positions, [0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wider.documents, [1, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wider.targets, [Target { index: 1, token: 3 }, Target { index: 5, token: 5 }]);
        assert_eq!(wider.tokens_without_padding(), batch.tokens_without_padding());
        assert!(matches!(batch.padded(1, 3), Cow::Borrowed(same) if *same == batch));

        assert_eq!(batch.without_padding(), None);
        let (short, places) = wider.without_padding().unwrap();
        assert_eq!(places, [0, 1, 2, 5, 6, 7]);
        assert_eq!((short.rows, short.length), (1, 6));
        assert_eq!((&short.tokens, &short.positions), (&batch.tokens, &batch.positions));
        assert_eq!(short.documents, [1, 1, 1, 2, 2, 3]);
        assert_eq!(short.targets, batch.targets);
    }
}
