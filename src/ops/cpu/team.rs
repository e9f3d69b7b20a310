//! A team of threads that stand ready while text is written. Each token is some hundred pieces of
//! work, one after the other, of some hundred thousandths of a second each. Threads that had gone
//! to sleep would wake for a tenth of that; those of a team look for the next piece all the time,
//! and sleep only when none comes for longer than a token takes.

#![allow(unsafe_code)] // threads that outlive a piece of work are lent it

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// How often a thread that waits looks before it lets others have the core.
const LOOKS: u32 = 2000;
/// How long it goes on then before it sleeps.
const AWAKE: Duration = Duration::from_millis(2);

thread_local! {
    /// The team that this thread leads.
    static LED: Cell<*const Team> = const { Cell::new(ptr::null()) };
}

/// What the threads of a team share.
#[derive(Default)]
struct Team {
    /// What is to be done; null between two pieces.
    piece: AtomicPtr<Piece<'static>>,
    /// How many there were.
    pieces: AtomicUsize,
    /// Helpers that hold the piece.
    inside: AtomicUsize,
    /// Helpers that sleep, or are about to.
    asleep: AtomicUsize,
    dismissed: AtomicBool,
    /// Whether the leader is at a piece, in which there is no other.
    busy: AtomicBool,
    helpers: Mutex<Vec<Thread>>,
}

/// Work in parts that threads take one after the other.
struct Piece<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    parts: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Piece<'_> {
    /// Does parts until none is left.
    fn take_part(&self) {
        let all = || {
            loop {
                let part = self.next.fetch_add(1, SeqCst);
                if part >= self.parts {
                    return;
                }
                (self.work)(part);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

/// One look of a thread that waits.
fn look(looks: &mut u32) {
    match *looks < LOOKS {
        true => spin_loop(),
        false => thread::yield_now(),
    }
    *looks = looks.saturating_add(1);
}

impl Team {
    /// Waits for pieces and takes part in them until the team is dismissed.
    fn help(&self) {
        let (mut seen, mut looks, mut since) = (0, 0, None);
        while !self.dismissed.load(SeqCst) {
            let pieces = self.pieces.load(SeqCst);
            if pieces == seen {
                look(&mut looks);
                if looks > LOOKS && since.get_or_insert_with(Instant::now).elapsed() > AWAKE {
                    self.sleep(seen);
                    since = None;
                }
                continue;
            }
            (seen, looks, since) = (pieces, 0, None);
            self.inside.fetch_add(1, SeqCst);
            // SAFETY: the leader takes a piece away before it ends, and then waits until nobody is
            // inside: what is seen here after `inside` was raised lives until it is lowered.
            if let Some(piece) = unsafe { self.piece.load(SeqCst).as_ref() } {
                piece.take_part();
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Sleeps until there is another piece than the last that was seen.
    fn sleep(&self, seen: usize) {
        self.asleep.fetch_add(1, SeqCst);
        while self.pieces.load(SeqCst) == seen && !self.dismissed.load(SeqCst) {
            thread::park();
        }
        self.asleep.fetch_sub(1, SeqCst);
    }

    fn wake(&self) {
        let helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        helpers.iter().for_each(Thread::unpark);
    }

    /// Does a piece with all who help.
    fn lead(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let piece = Piece { work, parts, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.busy.store(true, SeqCst);
        self.piece.store(ptr::from_ref(&piece).cast_mut().cast(), SeqCst);
        self.pieces.fetch_add(1, SeqCst);
        if self.asleep.load(SeqCst) > 0 {
            self.wake();
        }
        piece.take_part();
        // Every part is taken; those who took them are inside.
        self.piece.store(ptr::null_mut(), SeqCst);
        let mut looks = 0;
        while self.inside.load(SeqCst) > 0 {
            look(&mut looks);
        }
        self.busy.store(false, SeqCst);
        if let Some(panic) = piece.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

/// Ends a team, whatever ends its work.
struct Leading<'a>(&'a Team);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        LED.set(ptr::null());
        self.0.dismissed.store(true, SeqCst);
        self.0.wake();
    }
}

/// Does some work, in which [`each`] has as many threads ready as the pool has.
pub fn together<T>(work: impl FnOnce() -> T) -> T {
    let helpers = rayon::current_num_threads() - 1;
    if helpers == 0 || is_here() {
        return work();
    }
    let team = Team::default();
    thread::scope(|scope| {
        let _leading = Leading(&team);
        for _ in 0..helpers {
            // With fewer it takes longer, and that is all.
            let Ok(helper) = thread::Builder::new().spawn_scoped(scope, || team.help()) else {
                break;
            };
            let mut helpers = team.helpers.lock().unwrap_or_else(PoisonError::into_inner);
            helpers.push(helper.thread().clone());
        }
        LED.set(&raw const team);
        work()
    })
}

/// Whether this thread has a team at hand.
pub fn is_here() -> bool {
    !LED.get().is_null()
}

/// Does all tasks, each on some thread: of the team that is at hand, or else of the pool.
pub fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
    if tasks.len() < 2 {
        return tasks.into_iter().for_each(work);
    }
    // SAFETY: a team lives for as long as this thread leads it.
    let Some(team) = (unsafe { LED.get().as_ref() }) else {
        return tasks.into_par_iter().for_each(&work);
    };
    if team.busy.load(SeqCst) {
        return tasks.into_iter().for_each(work);
    }
    let tasks: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|it| Mutex::new(Some(it))).collect();
    team.lead(tasks.len(), &|number| {
        let task = tasks[number].lock().unwrap_or_else(PoisonError::into_inner).take();
        work(task.expect("each is taken once"));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The squares of some numbers, each written by a task.
    fn squares(count: usize) -> Vec<usize> {
        let mut squares = vec![0; count];
        each(squares.iter_mut().enumerate().collect(), |(number, square)| {
            *square = number * number;
        });
        squares
    }

    fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(work)
    }

    #[test]
    fn a_team_does_every_task_once_piece_after_piece() {
        let wanted: Vec<usize> = (0..37).map(|number| number * number).collect();
        for threads in [1, 2, 5] {
            in_pool(threads, || {
                together(|| {
                    assert_eq!(is_here(), threads > 1);
                    for _ in 0..2000 {
                        assert_eq!(squares(37), wanted);
                    }
                    // Long enough for all to fall asleep.
                    thread::sleep(AWAKE * 4);
                    assert_eq!(squares(37), wanted);
                });
                assert!(!is_here());
            });
        }
        assert_eq!(squares(37), wanted, "without one it is the pool's");
    }

    #[test]
    fn tasks_within_tasks_are_done() {
        let sums = in_pool(3, || {
            together(|| {
                let mut sums = vec![0; 20];
                each(sums.iter_mut().enumerate().collect(), |(number, sum)| {
                    *sum = squares(number).into_iter().sum();
                });
                sums
            })
        });
        let wanted: Vec<usize> = (0..20).map(|number| (0..number).map(|x| x * x).sum()).collect();
        assert_eq!(sums, wanted);
    }

    #[test]
    fn a_panic_of_a_task_is_one_of_the_whole() {
        in_pool(3, || {
            let all = || {
                together(|| {
                    each((0..100).collect(), |number| assert!(number != 71, "seventy-one"))
                });
            };
            let panic = catch_unwind(all).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"seventy-one"));
            assert!(!is_here());
            assert_eq!(together(|| squares(3)), [0, 1, 4]);
        });
    }
}
