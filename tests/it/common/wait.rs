//! Waiting for a state, however long a loaded machine takes to reach it.

use std::time::{Duration, Instant};

/// What has not come by then never comes. No test may depend on how soon it does.
pub const NEVER: Duration = Duration::from_secs(600);

/// How long is waited before asking again.
pub const BETWEEN: Duration = Duration::from_millis(5);

/// Asks again and again until something is so.
///
/// # Panics
/// Where it never is, with what was waited for.
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < NEVER, "waited {NEVER:?} in vain: {what}");
        std::thread::sleep(BETWEEN);
    }
}
