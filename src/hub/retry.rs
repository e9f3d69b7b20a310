//! Failures of a request, and when to try again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ureq::http::HeaderMap;

use super::header_text::header;
use super::settings::Timing;

/// How often the stop flag is looked at while waiting.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pauses from this length on are told to the user.
const NOTICE_FROM: Duration = Duration::from_secs(2);

/// Why a try did not bring what it should.
#[derive(Debug)]
pub(super) struct Failure {
    /// Who answered what.
    pub cause: String,
    /// May another try go better?
    pub again: bool,
    /// The pause that the hub asks for.
    pub pause: Option<Duration>,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// The hub's own word for it, e.g. `GatedRepo`.
    pub code: Option<String>,
    /// Did the hub itself answer, not a store that it redirects to?
    pub at_hub: bool,
}

impl Failure {
    /// Something that may pass.
    pub fn again(cause: String) -> Self {
        Self { cause, again: true, pause: None, status: None, code: None, at_hub: false }
    }

    /// Something that another try cannot change.
    pub fn for_good(cause: String) -> Self {
        Self { again: false, ..Self::again(cause) }
    }

    /// Whether the hub refuses for want of rights: a token, or terms that were not accepted.
    pub fn is_about_rights(&self) -> bool {
        self.at_hub
            && (self.code.as_deref() == Some("GatedRepo") || matches!(self.status, Some(401 | 403)))
    }
}

/// Counts failures in a row and waits between them.
pub(super) struct Tries<'a> {
    timing: &'a Timing,
    stop: &'a (dyn Fn() -> bool + Sync),
    notice: &'a (dyn Fn(String) + Sync),
    failures: u32,
}

/// Why there will be no other try.
pub(super) enum End {
    /// The failure is final, or there were too many.
    Failed(Failure, u32),
    /// The user wants to stop.
    Stopped,
}

impl<'a> Tries<'a> {
    pub fn new(
        timing: &'a Timing,
        stop: &'a (dyn Fn() -> bool + Sync),
        notice: &'a (dyn Fn(String) + Sync),
    ) -> Self {
        Self { timing, stop, notice, failures: 0 }
    }

    /// New bytes came: all tries are there again.
    pub fn progress(&mut self) {
        self.failures = 0;
    }

    /// Waits until the next try is due.
    ///
    /// # Errors
    /// When there is no next try.
    pub fn wait(&mut self, failure: Failure) -> Result<(), End> {
        if (self.stop)() {
            return Err(End::Stopped);
        }
        self.failures += 1;
        if !failure.again || self.failures >= self.timing.tries {
            return Err(End::Failed(failure, self.failures));
        }
        let own = backoff(self.timing, self.failures - 1, random_share());
        let asked = failure.pause.unwrap_or_default().min(self.timing.retry_after_cap);
        let pause = own.max(asked);
        if pause >= NOTICE_FROM {
            (self.notice)(format!(
                "trying again in {:.0} s: {}",
                pause.as_secs_f64(),
                failure.cause
            ));
        }
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            if (self.stop)() {
                return Err(End::Stopped);
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        Ok(())
    }
}

/// The base times two for each failure before, capped; of that a random share, so that many
/// clients that failed together do not come back together.
fn backoff(timing: &Timing, failures_before: u32, share: f64) -> Duration {
    let whole =
        timing.backoff_base.saturating_mul(1_u32.checked_shl(failures_before).unwrap_or(u32::MAX));
    whole.min(timing.backoff_cap).mul_f64(share)
}

/// A number in [0, 1), another one each time: pauses are no part of what a run computes.
fn random_share() -> f64 {
    let bits = RandomState::new().hash_one(0) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

/// The pause that an answer asks for: `Retry-After` in seconds or as a date, else the time until
/// the hub's own limit is lifted (`RateLimit: "api";r=0;t=55`).
pub(super) fn asked_pause(status: u16, headers: &HeaderMap) -> Option<Duration> {
    if let Some(text) = header(headers, "retry-after") {
        if let Ok(seconds) = text.trim().parse::<u32>() {
            return Some(Duration::from_secs(u64::from(seconds)));
        }
        let date =
            |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
        let until = date(text)?;
        // By the hub's own clock where it tells: ours may be wrong.
        let now = header(headers, "date").and_then(date).unwrap_or_else(Timestamp::now);
        return Duration::try_from(until.duration_since(now)).ok();
    }
    if status != 429 {
        return None;
    }
    let limit = header(headers, "ratelimit")?;
    let field = |name: &str| {
        limit.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u32>().ok())
    };
    // Sent with every answer: it is the reason only when nothing is left.
    (field("r=") == Some(0)).then(|| field("t=")).flatten().map(|t| Duration::from_secs(t.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        asked_pause(status, &map).map(|pause| pause.as_secs())
    }

    #[test]
    fn a_hub_may_ask_for_a_pause_in_three_ways() {
        assert_eq!(asked(503, &[("retry-after", "3")]), Some(3));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        let later = ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT");
        assert_eq!(asked(429, &[date, later]), Some(30));
        assert_eq!(asked(429, &[later, ("date", "Wed, 21 Oct 2026 07:29:00 GMT")]), None);
        assert_eq!(asked(429, &[("ratelimit", "\"api\";r=0;t=55")]), Some(55));
        assert_eq!(asked(429, &[("ratelimit", "\"api\";r=9;t=55")]), None);
        assert_eq!(asked(500, &[("ratelimit", "\"api\";r=0;t=55")]), None);
        assert_eq!(asked(429, &[("retry-after", "soon")]), None);
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let timing = Timing::default();
        let seconds = |n| backoff(&timing, n, 1.0).as_secs_f64();
        assert_eq!([0, 1, 5, 6, 40].map(seconds), [0.5, 1.0, 16.0, 30.0, 30.0]);
        assert_eq!(backoff(&timing, 3, 0.25).as_secs_f64(), 1.0);
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.5) && shares.iter().any(|s| *s > 0.5));
    }

    #[test]
    fn tries_end_unless_there_is_progress() {
        let timing = Timing::default().scaled(0.001);
        let (stop, notice) = (|| false, |_| ());
        let mut tries = Tries::new(&timing, &stop, &notice);
        for _ in 0..3 {
            for _ in 0..7 {
                assert!(tries.wait(Failure::again("x".to_owned())).is_ok());
            }
            tries.progress();
        }
        assert!(tries.wait(Failure::for_good("x".to_owned())).is_err());
        tries.progress();
        for _ in 0..7 {
            assert!(tries.wait(Failure::again("x".to_owned())).is_ok());
        }
        assert!(matches!(tries.wait(Failure::again("x".to_owned())), Err(End::Failed(_, 8))));
        let stop = || true;
        let mut tries = Tries::new(&timing, &stop, &notice);
        assert!(matches!(tries.wait(Failure::again("x".to_owned())), Err(End::Stopped)));
    }
}
