//! How attention is divided into tasks. That follows from the documents alone and not from the
//! number of threads: what tasks give for the same keys is added in one order, whoever made it.

use std::ops::Range;

use super::packed::PANEL;

/// Queries of a block: as many as keys of a panel, so that what they see ends where a panel ends,
/// and whole squares to transpose.
pub const QUERIES: usize = PANEL;
/// Tasks of all documents together, if they can be divided so far: each thread of a few has as much
/// to do as the others then.
const TASKS: usize = 12;

/// Some queries of a document, of all heads that share a group of keys and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Number of the document.
    pub document: usize,
    /// Number of the group.
    pub group: usize,
    /// Places in the document, whole blocks.
    pub queries: Range<usize>,
    /// Length of the document.
    pub length: usize,
}

/// Queries `first..first + count` of a document.
#[derive(Debug, Clone, Copy)]
pub struct QueryBlock {
    /// Place of the first.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Keys whose scores are computed, from the first of the document on: whole panels, or all.
    pub keys: usize,
}

impl Task {
    /// Blocks of the queries, in order.
    pub fn blocks(&self) -> impl Iterator<Item = QueryBlock> + use<> {
        let Range { start, end } = self.queries;
        let length = self.length;
        (start..end).step_by(QUERIES).map(move |first| {
            let count = QUERIES.min(end - first);
            QueryBlock { first, count, keys: seen(first + count, length) }
        })
    }

    /// Keys whose scores are computed for any of the queries.
    pub fn keys(&self) -> usize {
        seen(self.queries.end, self.length)
    }
}

/// Keys that are computed for the queries before `end`.
fn seen(end: usize, length: usize) -> usize {
    end.next_multiple_of(PANEL).min(length)
}

/// All tasks: document after document, in each group after group, in each from the first query on.
pub struct Tasks {
    /// In that order.
    pub all: Vec<Task>,
    /// First task of each document, and where its parts end.
    documents: Vec<(usize, Vec<usize>)>,
}

impl Tasks {
    /// Divides the attention of documents of some lengths.
    pub fn new(lengths: impl Iterator<Item = usize> + Clone, kv_heads: usize) -> Self {
        let blocks = |length: usize| length.div_ceil(QUERIES);
        let work = |length: usize| blocks(length) * (blocks(length) + 1) / 2;
        let total = kv_heads * lengths.clone().map(work).sum::<usize>();
        let (mut all, mut documents) = (Vec::new(), Vec::new());
        for (document, length) in lengths.enumerate() {
            let parts = (work(length) * TASKS).div_ceil(total.max(1)).next_power_of_two();
            let ends = ends(blocks(length), parts);
            let ends: Vec<_> = ends.map(|block| (block * QUERIES).min(length)).collect();
            documents.push((all.len(), ends.clone()));
            for group in 0..kv_heads {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                all.extend(starts.zip(&ends).map(|(start, end)| {
                    let queries = start..*end;
                    Task { document, group, queries, length }
                }));
            }
        }
        Self { all, documents }
    }

    /// The task that has a query, and its place among the task's.
    pub fn of_query(&self, (document, place): (usize, usize), group: usize) -> (usize, usize) {
        let (first, ends) = &self.documents[document];
        let part = ends.partition_point(|end| *end <= place);
        let start = if part == 0 { 0 } else { ends[part - 1] };
        (first + group * ends.len() + part, place - start)
    }

    /// The tasks that computed something for a key.
    pub fn of_key(&self, (document, place): (usize, usize), group: usize) -> Range<usize> {
        let (first, ends) = &self.documents[document];
        let part = ends.partition_point(|end| end.next_multiple_of(PANEL) <= place);
        let first = first + group * ends.len();
        first + part..first + ends.len()
    }
}

/// Where `parts` of as much work as another end, of blocks each of which sees one more than the
/// last: the work before a block grows with the square of its number.
fn ends(blocks: usize, parts: usize) -> impl Iterator<Item = usize> {
    let mut last = 0;
    (1..=parts).filter_map(move |part| {
        #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss)]
        #[expect(clippy::cast_possible_truncation)] // few blocks, fewer parts
        let end = (blocks as f64 * (part as f64 / parts as f64).sqrt()).round() as usize;
        (end > last).then(|| {
            last = end;
            end
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_all_queries_of_all_documents_once_and_alike() {
        for lengths in [vec![], vec![1], vec![582], vec![1500, 3, 64, 65], vec![700; 9]] {
            let kv_heads = 3;
            let tasks = Tasks::new(lengths.iter().copied(), kv_heads);
            let work = |task: &Task| task.blocks().map(|block| block.keys).sum::<usize>();
            for (document, length) in lengths.iter().enumerate() {
                for group in 0..kv_heads {
                    let of: Vec<usize> = (0..*length)
                        .map(|place| tasks.of_query((document, place), group))
                        .map(|(number, place)| {
                            let task = &tasks.all[number];
                            assert_eq!((task.document, task.group), (document, group));
                            task.queries.start + place
                        })
                        .collect();
                    assert!(of.into_iter().eq(0..*length));
                    for place in 0..*length {
                        let seeing = tasks.of_key((document, place), group);
                        for (number, task) in tasks.all.iter().enumerate() {
                            let here = (task.document, task.group) == (document, group);
                            assert_eq!(seeing.contains(&number), here && task.keys() > place);
                        }
                    }
                }
            }
            let most = tasks.all.iter().map(work).max().unwrap_or(0);
            let all: usize = tasks.all.iter().map(work).sum();
            if lengths.iter().any(|length| *length > 500) {
                assert!(most * 9 <= all, "{most} of {all} for {lengths:?}");
            }
        }
    }
}
