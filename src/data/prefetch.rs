//! Windows made ready on another thread while one is trained on. What is made, and in which
//! order it is used, does not depend on it: a window is a pure function of its number.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::window::{Key, Packed, Recipe};
use crate::error::Result;

/// What the threads know of each other.
#[derive(Default)]
struct PrefetchState {
    /// Windows that are ready; `None` is one beyond the end of its epoch.
    ready: BTreeMap<Key, Option<Arc<Packed>>>,
    /// The window in use, and the one that was before.
    used: [Option<Key>; 2],
    /// Being made by the other thread.
    making: Option<Key>,
    /// Could not be made; whoever needs it meets the error on its own.
    failed: Option<Key>,
    /// The window in use when the file after the ready windows was last asked for.
    reached: Option<Key>,
    stop: bool,
}

struct Shared {
    recipe: Recipe,
    state: Mutex<PrefetchState>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PrefetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The windows, ready or made on demand.
pub struct Ahead {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// `depth` windows are made ready ahead; 0 makes none.
    pub fn new(recipe: Recipe, depth: u64) -> Self {
        let state = Mutex::new(PrefetchState::default());
        let shared = Arc::new(Shared { recipe, state, changed: Condvar::new() });
        let work = shared.clone();
        let thread = (depth > 0).then(|| std::thread::spawn(move || run(&work, depth)));
        Self { shared, thread }
    }

    /// How windows are made.
    pub fn recipe(&self) -> &Recipe {
        &self.shared.recipe
    }

    /// Whether a window is ready.
    pub fn has(&self, key: Key) -> bool {
        self.shared.lock().ready.contains_key(&key)
    }

    /// A window, or `None` beyond the end of its epoch.
    pub fn get(&self, key: Key) -> Result<Option<Arc<Packed>>> {
        let mut state = self.shared.lock();
        if state.used[0] != Some(key) {
            state.used = [Some(key), state.used[0]];
            let keep = state.used;
            let last = keep.into_iter().flatten().min();
            state.ready.retain(|found, _| Some(*found) >= last);
            self.shared.changed.notify_all();
        }
        loop {
            if let Some(found) = state.ready.get(&key) {
                return Ok(found.clone());
            }
            if state.making != Some(key) {
                break;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let made = self.shared.recipe.window(key)?.map(Arc::new);
        self.shared.lock().ready.insert(key, made.clone());
        Ok(made)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.recipe.stop();
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has cost nothing but time
        }
    }
}

/// The other thread: makes the next windows, then sees to it that the file after them is at
/// hand, then waits until another window is used.
fn run(shared: &Shared, depth: u64) {
    let mut state = shared.lock();
    while !state.stop {
        if let Some(key) = next(&state, depth) {
            state.making = Some(key);
            drop(state);
            // A panic here must not leave anyone waiting: whoever needs the window meets it too.
            let made = catch_unwind(AssertUnwindSafe(|| shared.recipe.window(key)));
            state = shared.lock();
            state.making = None;
            match made {
                Ok(Ok(made)) => drop(state.ready.insert(key, made.map(Arc::new))),
                Ok(Err(_)) | Err(_) => state.failed = Some(key),
            }
            shared.changed.notify_all();
        } else if state.used[0].is_some() && state.reached != state.used[0] {
            state.reached = state.used[0];
            let last = state.ready.keys().next_back().copied().max(state.used[0]);
            drop(state);
            // An error here is met again by whoever needs the file.
            let _ =
                catch_unwind(AssertUnwindSafe(|| last.map(|key| shared.recipe.reach_beyond(key))));
            state = shared.lock();
        } else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The nearest window after the one in use that is not ready.
fn next(state: &PrefetchState, depth: u64) -> Option<Key> {
    let (mut epoch, mut window) = state.used[0]?;
    window += 1;
    let mut missing = depth;
    while missing > 0 {
        let key = (epoch, window);
        match state.ready.get(&key) {
            Some(Some(_)) => {
                missing -= 1;
                window += 1;
            }
            Some(None) if window == 0 => return None, // an epoch without examples
            Some(None) => (epoch, window) = (epoch + 1, 0),
            None => return (state.failed != Some(key)).then_some(key),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_window_that_is_missing_comes_next() {
        let mut state = PrefetchState::default();
        assert_eq!(next(&state, 2), None, "nothing is in use yet");
        state.used[0] = Some((0, 0));
        assert_eq!(next(&state, 1), Some((0, 1)));
        state.ready.insert((0, 1), Some(Arc::new(Packed::default())));
        assert_eq!(next(&state, 1), None);
        assert_eq!(next(&state, 2), Some((0, 2)));
        state.ready.insert((0, 2), None);
        assert_eq!(next(&state, 2), Some((1, 0)), "the next epoch follows");
        state.failed = Some((1, 0));
        assert_eq!(next(&state, 2), None, "what failed is left to whoever needs it");
    }
}
