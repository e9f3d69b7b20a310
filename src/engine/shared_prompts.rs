//! Documents that begin alike, computed once to where they part: both answers of a pair after their
//! prompt, or all completions of one. What each of them sees, and at which positions, is what it
//! sees alone, so that losses and gradients are the same but for rounding.

use std::borrow::Cow;
use std::ops::Range;

use crate::data::{Batch, SharedBeginning, Target};
use crate::model::Model;
use crate::model::description::BlockDescription;
use crate::objectives::Objective;
use crate::ops::cpu::Products;
use crate::ops::{Branch, Frequencies};

/// Fewer tokens are not worth it.
const FEWEST: usize = 16;

/// The batch as the model is to see it: as the objective arranges it and, where every document is
/// computed by itself anyway (`shares`), with what documents have in common once.
pub fn arranged<'a>(
    model: &Model,
    objective: &dyn Objective,
    batch: &'a Batch,
    shares: bool,
) -> Cow<'a, Batch> {
    let arranged = objective.arrange(batch);
    match longest(model).filter(|_| shares && objective.shares_prompts()) {
        Some(most) => shared(&arranged, most).map_or(arranged, Cow::Owned),
        None => arranged,
    }
}

/// The most tokens of documents that a model computes together: none where something goes through a
/// document from its beginning, where positions are turned by its length, or where these kernels
/// are not used.
fn longest(model: &Model) -> Option<usize> {
    Products::of(model.computing)?;
    let by_length = model.frequencies.iter().any(Frequencies::depend_on_length);
    if by_length || model.computing.pad_multiple > 1 {
        return None;
    }
    let layers = model.description.layers.iter().flat_map(|layer| &layer.residuals);
    layers.map(|residual| sight(&residual.block)).try_fold(usize::MAX, |a, b| Some(a.min(b?)))
}

/// How far back a token sees; none where that is no attention.
fn sight(block: &BlockDescription) -> Option<usize> {
    match block {
        BlockDescription::Attention(of) => Some(of.config.window.unwrap_or(usize::MAX)),
        BlockDescription::GatedMlp(_)
        | BlockDescription::Experts(_)
        | BlockDescription::Sum(_)
        | BlockDescription::LayerInput(_) => Some(usize::MAX),
        BlockDescription::DeltaNet(_) | BlockDescription::ShortConv(_) => None,
    }
}

/// A document of a batch.
struct Document {
    tokens: Range<usize>,
    /// As many as come before the first token whose output is trained on.
    before_targets: usize,
    /// Its number in a batch of one row.
    number: u32,
}

/// The documents of a batch in their order.
fn documents_of(batch: &Batch) -> Vec<Document> {
    let mut documents: Vec<Document> = Vec::new();
    let (mut place, mut numbers) = (0, 0);
    let mut targets = batch.targets.iter().map(|target| target.index as usize).peekable();
    for row in batch.documents.chunks(batch.length.max(1)) {
        for document in row.chunk_by(|one, next| one == next) {
            let tokens = place..place + document.len();
            place = tokens.end;
            while targets.next_if(|index| *index < tokens.start).is_some() {}
            if document[0] > 0 {
                let first = targets.peek().copied().unwrap_or(tokens.end).min(tokens.end - 1);
                let before_targets = first - tokens.start;
                documents.push(Document { tokens, before_targets, number: numbers + document[0] });
            }
        }
        // Both documents of a pair keep numbers of which the first is odd.
        numbers += row.iter().copied().max().unwrap_or(0).next_multiple_of(2);
    }
    documents
}

/// Documents that follow each other and begin alike as one, of at most so many tokens; none where
/// there are none.
fn shared(batch: &Batch, most: usize) -> Option<Batch> {
    let documents = documents_of(batch);
    let common = |a: &Document, b: &Document| {
        let [one, other] = [a, b].map(|it| {
            let tokens = it.tokens.start..it.tokens.start + it.before_targets;
            batch.tokens[tokens.clone()].iter().zip(&batch.positions[tokens])
        });
        one.zip(other).take_while(|(one, other)| one == other).count()
    };
    let (mut places, mut numbers, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = documents.as_slice();
    while let Some((first, others)) = rest.split_first() {
        let prefix = others.first().map_or(0, |next| common(first, next));
        let mut parts = vec![first.tokens.len() - prefix];
        let mut length = first.tokens.len();
        for next in others.iter().take_while(|next| common(first, next) >= prefix.max(FEWEST)) {
            length += next.tokens.len() - prefix;
            if length > most {
                break;
            }
            parts.push(next.tokens.len() - prefix);
        }
        let begin = places.len();
        for (number, document) in rest[..parts.len()].iter().enumerate() {
            let skipped = if number == 0 { 0 } else { prefix };
            places.extend(document.tokens.start + skipped..document.tokens.end);
            numbers.resize(places.len(), document.number);
        }
        rest = &rest[parts.len()..];
        if parts.len() > 1 {
            groups.push(SharedBeginning { first: begin, length: prefix, parts });
        }
    }
    if groups.is_empty() {
        return None;
    }
    let picked = |list: &[u32]| places.iter().map(|place| list[*place]).collect();
    let moved = |target: &Target| {
        let index = places.partition_point(|place| *place < target.index as usize);
        Target { index: u32::try_from(index).expect("it was one before"), ..*target }
    };
    Some(Batch {
        rows: 1,
        length: places.len(),
        tokens: picked(&batch.tokens),
        positions: picked(&batch.positions),
        targets: batch.targets.iter().map(moved).collect(),
        documents: numbers,
        weights: batch.weights.clone(),
        margins: batch.margins.clone(),
        sampled: batch.sampled.clone(),
        teacher: batch.teacher.clone(),
        sources: Vec::new(),
        shared: groups,
    })
}

/// The number of each token's document as attention is to see it, and how documents go on.
pub fn branching(batch: &Batch) -> (Cow<'_, [u32]>, Vec<Branch>) {
    if batch.shared.is_empty() {
        return (Cow::Borrowed(&batch.documents), Vec::new());
    }
    let (mut numbers, mut branches) = (batch.documents.clone(), Vec::new());
    for SharedBeginning { first, length, parts } in &batch.shared {
        let whole = length + parts.iter().sum::<usize>();
        let number = numbers[*first];
        numbers[*first..first + whole].fill(number);
    }
    let begins: Vec<usize> = begins(&numbers);
    for SharedBeginning { first, length, parts } in &batch.shared {
        let document = begins.partition_point(|begin| begin < first);
        let mut begin = length + parts[0];
        for part in &parts[1..] {
            let places = begin..begin + part;
            branches.push(Branch { document, hidden: *length..begin, places });
            begin += part;
        }
    }
    (Cow::Owned(numbers), branches)
}

/// Where the documents of a row begin.
fn begins(numbers: &[u32]) -> Vec<usize> {
    let mut begin = 0;
    let runs = numbers.chunk_by(|one, next| one == next);
    runs.map(|run| {
        begin += run.len();
        begin - run.len()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::{Kernels, Recompute};
    use crate::device::ComputeConfig;
    use crate::engine::parity::small_model;
    use crate::engine::{Pass, forward_backward};
    use crate::model::Gradients;
    use crate::ops::host;

    /// Documents of tokens, of which the last ones are targets, with padding behind each row.
    fn batch(rows: &[&[(u32, &[u32], usize)]], length: usize) -> Batch {
        let mut batch = Batch { rows: rows.len(), length, ..Batch::default() };
        for (number, row) in (1..).zip(rows) {
            for (document, tokens, targets) in *row {
                let first = batch.tokens.len();
                batch.tokens.extend_from_slice(tokens);
                batch.positions.extend((0..).take(tokens.len()));
                batch.documents.resize(batch.tokens.len(), *document);
                for place in tokens.len() - targets..tokens.len() {
                    let index = u32::try_from(first + place - 1).unwrap();
                    batch.targets.push(Target { index, token: tokens[place] });
                }
            }
            for list in [&mut batch.tokens, &mut batch.positions, &mut batch.documents] {
                list.resize(number * length, 0);
            }
        }
        batch
    }

    #[test]
    fn what_documents_begin_with_is_there_once() {
        let prompt: Vec<u32> = (1..=20).collect();
        let answer = |tokens: &[u32]| [&prompt[..], tokens].concat();
        let [a, b, c] = [&[31, 32][..], &[41, 42, 43], &[51, 52]].map(answer);
        let other: Vec<u32> = (60..90).collect();
        let pairs = batch(&[&[(1, &a, 2), (2, &b, 3)], &[(1, &other, 4), (2, &c, 2)]], 60);
        let found = shared(&pairs, usize::MAX).unwrap();
        assert_eq!((found.rows, found.length), (1, 22 + 4 + 30 + 22));
        // The last token of the prompt is trained on in each, and so is there for each.
        assert_eq!(found.tokens[..26], [&a[..], &[20, 41, 42, 43]].concat());
        assert_eq!(found.positions[19..26], [19, 20, 21, 19, 20, 21, 22]);
        assert_eq!(found.documents[21..27], [1, 2, 2, 2, 2, 3]);
        let targets: Vec<(u32, u32)> =
            found.targets.iter().map(|target| (target.index, target.token)).collect();
        assert_eq!(targets[..5], [(19, 31), (20, 32), (22, 41), (23, 42), (24, 43)]);
        assert_eq!(found.shared, [SharedBeginning { first: 0, length: 19, parts: vec![3, 4] }]);
        let (numbers, branches) = branching(&found);
        assert_eq!((numbers[21], numbers[22], numbers[26], numbers[56]), (1, 1, 3, 4));
        assert_eq!(branches, [Branch { document: 0, places: 22..26, hidden: 19..22 }]);
        // Not more than a window sees.
        assert_eq!(shared(&pairs, 25), None);
        assert_eq!(shared(&batch(&[&[(1, &other, 4), (2, &c, 2)]], 60), usize::MAX), None);
        // All completions of a prompt.
        let all = batch(&[&[(1, &other, 2)], &[(1, &a, 2)], &[(1, &b, 3)], &[(1, &c, 2)]], 60);
        let found = shared(&all, usize::MAX).unwrap();
        let parts = vec![3, 4, 3];
        assert_eq!(found.shared, [SharedBeginning { first: 30, length: 19, parts }]);
        let branch = |places, hidden| Branch { document: 1, places, hidden };
        assert_eq!(branching(&found).1, [branch(22..26, 19..22), branch(26..29, 19..26)]);
    }

    /// The portable operations share nothing.
    #[test]
    fn losses_and_gradients_are_those_of_documents_by_themselves() {
        let tokens = |seed: u32, count: u32| (0..count).map(move |at| (seed + at * 37) % 320);
        let prompt: Vec<u32> = tokens(5, 40).collect();
        let answer = |seed, count| prompt.iter().copied().chain(tokens(seed, count)).collect();
        let [a, b, c, d]: [Vec<u32>; 4] =
            [(1, 9), (2, 30), (3, 70), (4, 12)].map(|(seed, count)| answer(seed, count));
        // Examples of pairs: prompt and answer, twice.
        let [first, second] = [[&a[..], &b[..]].concat(), [&c[..], &d[..]].concat()];
        let mut pairs = batch(&[&[(1, &first, 0)], &[(1, &second, 0)]], 165);
        let rows = [(0, [(40, 9), (89, 30)], &first), (165, [(40, 70), (150, 12)], &second)];
        for (begin, answers, tokens) in rows {
            for (from, count) in answers {
                let places = from..from + count;
                pairs.targets.extend(places.map(|place| Target {
                    index: u32::try_from(begin + place - 1).unwrap(),
                    token: tokens[place],
                }));
            }
        }
        let (pairs, _) = pairs.without_padding().unwrap();
        for name in ["simpo", "orpo"] {
            let objective = crate::objectives::with(name, &[]);
            let [fast, portable] = [Kernels::Fast, Kernels::Portable].map(|kernels| {
                let computing = ComputeConfig { kernels, ..ComputeConfig::default() };
                let model = small_model(&Device::flex(), computing).unwrap();
                let shared = arranged(&model, &*objective, &pairs, true).shared.len();
                // All four have the same prompt.
                assert_eq!(shared, if kernels == Kernels::Fast { 1 } else { 0 });
                let pass = Pass {
                    scale: 0.5,
                    recompute: Recompute::None,
                    loss_chunk_tokens: 50,
                    dropout: None,
                    noise: None,
                };
                let mut sums = Gradients::default();
                let (loss, _) = forward_backward(&model, &*objective, &pairs, pass, &mut sums);
                (loss.number(), sums.into_sums())
            });
            assert!((fast.0 - portable.0).abs() < 1e-5 * portable.0.abs(), "{name}");
            assert!(fast.1.keys().eq(portable.1.keys()));
            for ((path, ours), theirs) in fast.1.into_iter().zip(portable.1.into_values()) {
                let (ours, theirs) = (host(ours), host(theirs));
                let most = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert!(most > 0.0, "{path}");
                for (a, b) in ours.iter().zip(&theirs) {
                    assert!((a - b).abs() < 1e-4 * most, "{name} {path}: {a} {b}");
                }
            }
        }
    }
}
