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
    /// Keys that a query sees at most.
    window: usize,
}

/// Queries `first..first + count` of a document.
#[derive(Debug, Clone, Copy)]
pub struct QueryBlock {
    /// Place of the first.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// The first key whose scores are computed, the first of a panel.
    pub first_key: usize,
    /// How many there are: whole panels, or all that are left of the document.
    pub keys: usize,
}

impl Task {
    /// Blocks of the queries, in order.
    pub fn blocks(&self) -> impl Iterator<Item = QueryBlock> + use<> {
        let Range { start, end } = self.queries;
        let (length, window) = (self.length, self.window);
        (start..end).step_by(QUERIES).map(move |first| {
            let count = QUERIES.min(end - first);
            let first_key = first_seen(first, window);
            QueryBlock { first, count, first_key, keys: seen(first + count, length) - first_key }
        })
    }

    /// Keys whose scores are computed for any of the queries.
    pub fn keys(&self) -> Range<usize> {
        first_seen(self.queries.start, self.window)..seen(self.queries.end, self.length)
    }
}

/// Where the keys end that are computed for the queries before `end`.
fn seen(end: usize, length: usize) -> usize {
    end.next_multiple_of(PANEL).min(length)
}

/// The first key that is computed for the queries from `query` on.
fn first_seen(query: usize, window: usize) -> usize {
    (query + 1).saturating_sub(window) / PANEL * PANEL
}

/// All tasks: document after document, in each group after group, in each from the first query on.
pub struct Tasks {
    /// In that order.
    pub all: Vec<Task>,
    /// First task of each document, and where its parts end.
    documents: Vec<(usize, Vec<usize>)>,
    window: usize,
}

impl Tasks {
    /// Divides the attention of documents of some lengths, in which a query sees the last keys of a
    /// window or all before it.
    pub fn new(
        lengths: impl Iterator<Item = usize> + Clone,
        kv_heads: usize,
        window: Option<usize>,
    ) -> Self {
        let window = window.unwrap_or(usize::MAX);
        let blocks = |length: usize| length.div_ceil(QUERIES);
        let work = |length: usize| work_before(blocks(length), window);
        let total = kv_heads * lengths.clone().map(work).sum::<usize>();
        let (mut all, mut documents) = (Vec::new(), Vec::new());
        for (document, length) in lengths.enumerate() {
            let parts = (work(length) * TASKS).div_ceil(total.max(1)).next_power_of_two();
            let ends = ends(blocks(length), parts, window);
            let ends: Vec<_> = ends.map(|block| (block * QUERIES).min(length)).collect();
            documents.push((all.len(), ends.clone()));
            for group in 0..kv_heads {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                all.extend(starts.zip(&ends).map(|(start, end)| {
                    let queries = start..*end;
                    Task { document, group, queries, length, window }
                }));
            }
        }
        Self { all, documents, window }
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
        // Parts begin where others end; those whose window begins later do not see the key.
        let begins = &ends[..ends.len() - 1];
        let last = begins.partition_point(|begin| first_seen(*begin, self.window) <= place);
        let first = first + group * ends.len();
        first + part..first + last + 1
    }
}

/// Keys that all tasks together see, for so many documents of a length: each task has gradients of
/// its own for them.
pub fn task_keys(
    (documents, length): (usize, usize),
    kv_heads: usize,
    window: Option<usize>,
) -> u64 {
    let tasks = Tasks::new(std::iter::repeat_n(length, documents), kv_heads, window);
    tasks.all.iter().map(|task| task.keys().len() as u64).sum()
}

/// Panels of keys that are computed for the blocks before one: each sees one more than the last, as
/// long as none leaves the window.
fn work_before(block: usize, window: usize) -> usize {
    let whole = window.div_ceil(PANEL).saturating_add(1);
    let growing = block.min(whole);
    growing * (growing + 1) / 2 + (block - growing) * whole
}

/// Where `parts` of about as much work as another end.
fn ends(blocks: usize, parts: usize, window: usize) -> impl Iterator<Item = usize> {
    let total = work_before(blocks, window);
    let mut last = 0;
    (1..=parts).filter_map(move |part| {
        let wanted = total * part / parts;
        // The first block before which there is as much, or the one before that if it is nearer.
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low.midpoint(high);
            if work_before(middle, window) < wanted { low = middle + 1 } else { high = middle }
        }
        let before = |block| work_before(block, window).abs_diff(wanted);
        let end = if low > 0 && before(low - 1) < before(low) { low - 1 } else { low };
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
            for window in [None, Some(1), Some(64), Some(100), Some(700)] {
                check(&lengths, window);
            }
        }
    }

    fn check(lengths: &[usize], window: Option<usize>) {
        let kv_heads = 3;
        let tasks = Tasks::new(lengths.iter().copied(), kv_heads, window);
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
                        let sees = here && task.keys().contains(&place);
                        assert_eq!(seeing.contains(&number), sees);
                    }
                }
            }
        }
        let work = |task: &Task| task.blocks().map(|block| block.keys).sum::<usize>();
        let most = tasks.all.iter().map(work).max().unwrap_or(0);
        let all: usize = tasks.all.iter().map(work).sum();
        if lengths.iter().any(|length| *length > 500) {
            // Blocks are few where each sees as much as the others.
            let parts = if window.is_none() { 9 } else { 8 };
            assert!(most * parts <= all, "{most} of {all} for {lengths:?} and {window:?}");
        }
    }

    /// Every key that a query sees is computed, and of the others as many as panels ask for: the
    /// work grows with the length of a document and not with its square.
    #[test]
    fn keys_outside_of_a_window_are_not_computed() {
        for (length, window) in [(5000, 1), (5000, 64), (5000, 100), (5000, 128), (100, 300)] {
            let tasks = Tasks::new(std::iter::once(length), 1, Some(window));
            let mut scores = 0;
            for block in tasks.all.iter().flat_map(Task::blocks) {
                for query in block.first..block.first + block.count {
                    let sees = (query + 1).saturating_sub(window)..query + 1;
                    let computed = block.first_key..block.first_key + block.keys;
                    assert!(computed.start <= sees.start && sees.end <= computed.end);
                }
                scores += block.count * block.keys;
            }
            let seen: usize = (0..length).map(|query| window.min(query + 1)).sum();
            assert!(scores >= seen && scores <= seen + length * 2 * PANEL, "{scores}, {seen}");
        }
    }
}
