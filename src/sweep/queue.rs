//! Which point is to run next: pure, so that it is the same after every restart.
//!
//! A point that takes its first steps from another waits until that one has saved them. The other
//! one stops there for a moment, so that they can be taken, and goes on like any other.

use std::collections::BTreeMap;

use super::manifest::PlannedPoint;

/// What is known of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PointState {
    /// It is to run, and has so many steps.
    Waiting { reached: u64 },
    /// A process is at work in it.
    Running { reached: u64 },
    /// Another worker has it, which has told of so many steps.
    Elsewhere { reached: u64 },
    /// Nothing more is to be done.
    Settled,
}

#[derive(Debug)]
struct Entry {
    state: PointState,
    /// The entry whose steps it takes, and how many.
    shares: Option<(usize, u64)>,
    /// Steps at which others take what it has, in rising order.
    stops: Vec<u64>,
    /// The step at which it waits to be compared with others.
    limit: Option<u64>,
}

/// A run to begin or to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextRun {
    /// The number in the selection.
    pub entry: usize,
    /// The step at which it stops for others; none for its end.
    pub stop_at: Option<u64>,
}

/// The points that this process is to run, among all points.
#[derive(Debug)]
pub struct Queue(Vec<Entry>);

/// What is known of a point at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// It is to run here, and has so many steps.
    Here(u64),
    /// Another worker has it, which has told of so many steps.
    Elsewhere(u64),
    /// Nothing more is to be done.
    Done,
}

impl Queue {
    /// The queue of all points. What runs elsewhere is waited for only with `waits`: where its
    /// steps can be had.
    pub fn new(
        points: &[&PlannedPoint],
        waits: bool,
        begins: impl Fn(&PlannedPoint) -> Begins,
    ) -> Self {
        let number: BTreeMap<&str, usize> =
            points.iter().enumerate().map(|(number, point)| (point.id.as_str(), number)).collect();
        let entry = |point: &&PlannedPoint| Entry {
            state: match begins(point) {
                Begins::Here(reached) => PointState::Waiting { reached },
                Begins::Elsewhere(reached) => PointState::Elsewhere { reached },
                Begins::Done => PointState::Settled,
            },
            shares: point
                .shares
                .as_ref()
                .and_then(|shared| Some((*number.get(shared.point.as_str())?, shared.steps))),
            stops: Vec::new(),
            limit: None,
        };
        let mut entries: Vec<Entry> = points.iter().map(entry).collect();
        for taker in 0..entries.len() {
            let Some((with, steps)) = entries[taker].shares else { continue };
            if !waits && entries[with].is_elsewhere() {
                entries[taker].shares = None;
                continue;
            }
            // Who has steps of its own does not take any.
            let takes = match entries[taker].state {
                PointState::Waiting { reached } => reached == 0,
                PointState::Elsewhere { reached } => waits && reached == 0,
                PointState::Running { .. } | PointState::Settled => false,
            };
            if takes && points[with].steps.is_none_or(|all| steps < all) {
                entries[with].stops.push(steps);
            }
        }
        for entry in &mut entries {
            entry.stops.sort_unstable();
            entry.stops.dedup();
        }
        Self(entries)
    }

    /// The run that is to begin now, if there is one that `may` begin. Those for which others wait
    /// come first.
    pub fn next(&self, may: impl Fn(usize) -> bool) -> Option<NextRun> {
        let ready = || (0..self.0.len()).filter(|entry| self.is_ready(*entry));
        let wanted = ready().find(|entry| self.stop_of(*entry).is_some() && may(*entry));
        let entry = wanted.or_else(|| ready().find(|entry| may(*entry)))?;
        Some(NextRun { entry, stop_at: self.stop_of(entry) })
    }

    fn is_ready(&self, entry: usize) -> bool {
        let PointState::Waiting { reached } = self.0[entry].state else { return false };
        if self.0[entry].limit.is_some_and(|limit| reached >= limit) {
            return false;
        }
        match self.0[entry].shares {
            Some((with, steps)) if reached == 0 => match self.0[with].state {
                PointState::Waiting { reached }
                | PointState::Running { reached }
                | PointState::Elsewhere { reached } => reached >= steps,
                PointState::Settled => true,
            },
            _ => true,
        }
    }

    fn stop_of(&self, entry: usize) -> Option<u64> {
        match self.0[entry].state {
            PointState::Waiting { reached } => {
                let Entry { stops, limit, .. } = &self.0[entry];
                let stop = stops.iter().copied().find(|stop| *stop > reached);
                stop.into_iter().chain(*limit).min()
            }
            PointState::Running { .. } | PointState::Elsewhere { .. } | PointState::Settled => None,
        }
    }

    /// A process has begun with it.
    pub fn begin(&mut self, entry: usize) {
        if let PointState::Waiting { reached } = self.0[entry].state {
            self.0[entry].state = PointState::Running { reached };
        }
    }

    /// It stopped and is to go on.
    pub fn pause(&mut self, entry: usize, reached: u64) {
        self.0[entry].state = PointState::Waiting { reached };
    }

    /// The worker that has a point has told of so many steps.
    pub fn hear(&mut self, entry: usize, reached: u64) {
        self.0[entry].state = PointState::Elsewhere { reached };
    }

    /// Steps of other workers are not waited for any more; how many points did.
    pub fn wait_no_longer(&mut self) -> usize {
        let mut waited = 0;
        for entry in 0..self.0.len() {
            let Some((with, steps)) = self.0[entry].shares else { continue };
            let lacks =
                matches!(self.0[with].state, PointState::Elsewhere { reached } if reached < steps);
            if lacks && matches!(self.0[entry].state, PointState::Waiting { reached: 0 }) {
                self.0[entry].shares = None;
                waited += 1;
            }
        }
        waited
    }

    /// It is finished, or will not work: nobody waits for it any more.
    pub fn settle(&mut self, entry: usize) {
        self.0[entry].state = PointState::Settled;
    }

    /// It runs no further than to this step for now.
    pub fn limit(&mut self, entry: usize, step: Option<u64>) {
        self.0[entry].limit = step;
    }

    /// The steps that a point has which is to run or runs.
    pub fn reached(&self, entry: usize) -> Option<u64> {
        match self.0[entry].state {
            PointState::Waiting { reached }
            | PointState::Running { reached }
            | PointState::Elsewhere { reached } => Some(reached),
            PointState::Settled => None,
        }
    }

    /// Whether a point is to run and does not.
    pub fn is_open(&self, entry: usize) -> bool {
        matches!(self.0[entry].state, PointState::Waiting { .. })
    }

    /// Whether nothing is to be done here any more.
    pub fn is_settled(&self) -> bool {
        self.0.iter().all(|entry| entry.state == PointState::Settled || entry.is_elsewhere())
    }
}

impl Entry {
    fn is_elsewhere(&self) -> bool {
        matches!(self.state, PointState::Elsewhere { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Digest;
    use crate::sweep::manifest::SharedWith;

    fn point(id: &str, steps: u64, shares: Option<(&str, u64)>) -> PlannedPoint {
        PlannedPoint {
            id: id.to_owned(),
            config: String::new(),
            config_sha256: Digest::of(b""),
            settings_sha256: Digest::of(b""),
            from: String::new(),
            dataset: None,
            settings: serde_json::Map::new(),
            steps: Some(steps),
            shares: shares.map(|(point, steps)| SharedWith { point: point.to_owned(), steps }),
            memory_bytes: None,
            seconds: None,
        }
    }

    fn next(queue: &Queue) -> Option<(usize, Option<u64>)> {
        queue.next(|_| true).map(|next| (next.entry, next.stop_at))
    }

    #[test]
    fn who_shares_steps_waits_until_they_are_saved() {
        let all = [
            point("a", 40, None),
            point("b", 40, Some(("a", 20))),
            point("c", 50, Some(("a", 40))),
            point("d", 9, None),
        ];
        let all: Vec<&PlannedPoint> = all.iter().collect();
        let mut queue = Queue::new(&all, true, |_| Begins::Here(0));
        assert_eq!(next(&queue), Some((0, Some(20))));
        queue.begin(0);
        assert_eq!(next(&queue), Some((3, None)), "b and c wait");
        queue.begin(3);
        assert_eq!(next(&queue), None);
        queue.pause(0, 20);
        // Its end is where c begins: no stop is needed for that.
        assert_eq!(next(&queue), Some((0, None)));
        queue.begin(0);
        assert_eq!(next(&queue), Some((1, None)));
        queue.begin(1);
        assert_eq!(next(&queue), None);
        queue.settle(0);
        assert_eq!(next(&queue), Some((2, None)));
        for entry in [1, 2, 3] {
            queue.settle(entry);
        }
        assert!(queue.is_settled());
    }

    #[test]
    fn nobody_waits_for_what_failed_or_runs_elsewhere() {
        let all = [point("a", 40, None), point("b", 40, Some(("a", 20)))];
        let all: Vec<&PlannedPoint> = all.iter().collect();
        let mut queue = Queue::new(&all, true, |_| Begins::Here(0));
        queue.begin(0);
        queue.settle(0);
        assert_eq!(next(&queue), Some((1, None)));
        assert_eq!(next(&Queue::new(&all[1..], true, |_| Begins::Here(0))), Some((0, None)));
        // One that has begun goes on with its own steps, and nobody stops for it.
        let begun =
            Queue::new(&all, true, |point| Begins::Here(if point.id == "b" { 3 } else { 0 }));
        assert_eq!(next(&begun), Some((0, None)));
        let done = Queue::new(&all, true, |point| match point.id.as_str() {
            "a" => Begins::Done,
            _ => Begins::Here(0),
        });
        assert_eq!(next(&done), Some((1, None)));
    }

    #[test]
    fn steps_of_another_worker_are_waited_for_where_they_can_be_had() {
        let all = [point("a", 40, None), point("b", 40, Some(("a", 20)))];
        let all: Vec<&PlannedPoint> = all.iter().collect();
        let split = |waits, here: &'static str| {
            Queue::new(&all, waits, move |point| match point.id == here {
                true => Begins::Here(0),
                false => Begins::Elsewhere(0),
            })
        };
        // The worker with `a` stops where that with `b` begins.
        assert_eq!(next(&split(true, "a")), Some((0, Some(20))));
        assert_eq!(next(&split(false, "a")), Some((0, None)));
        assert_eq!(next(&split(false, "b")), Some((1, None)));
        let mut queue = split(true, "b");
        assert_eq!(next(&queue), None);
        queue.hear(0, 19);
        assert_eq!(next(&queue), None);
        assert_eq!(queue.wait_no_longer(), 1, "nobody hears of that worker any more");
        assert_eq!(next(&queue), Some((1, None)));
        let mut queue = split(true, "b");
        queue.hear(0, 20);
        assert_eq!(next(&queue), Some((1, None)));
        queue.settle(1);
        assert!(queue.is_settled());
    }
}
