//! How long a tokenizer may take, and how many large texts it works on at a time.
//!
//! A tokenizer comes with its own patterns, from a stranger: to split a text with one may take a
//! time that grows with the square of its length, or faster, and the library cannot be
//! interrupted. So where a pattern is none of those that are known to be harmless, texts are
//! tokenised on a thread that is waited for, for a time that depends on their length. If that is
//! over, the tokenizer is not asked again: the thread goes on until the program ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::Inner;
use crate::error::{Context, Error, Result};

/// Time for any text, and for so many bytes of it a second more. The exact engine takes a
/// thousandth of that.
const PATIENCE: Duration = Duration::from_secs(20);
const BYTES_PER_SECOND: u64 = 16 << 10;
/// A text of so many bytes is tokenised alone: it takes from seventy to two hundred times its size
/// in memory. Those that are taken apart have shorter parts.
const LARGE: usize = 128 << 10;
/// What stands in a pattern of BPE's own kind that splits words, numbers and what is between them:
/// each of these parts is tried at a place once, and goes forward from there.
const HARMLESS: [&str; 19] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"'s|'t|'re|'ve|'m|'ll|'d",
    r"'(?i:[sdmt]|ll|ve|re)",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r" ?\p{L}+",
    r"\p{L}+",
    r"\p{N}",
    r"\p{N}+",
    r"\p{N}{1,3}",
    r" ?\p{N}+",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s+(?!\S)",
    r"\s+",
    r"\s",
];

/// Has a tokenizer work, and stops waiting for it.
pub struct Patience {
    /// Whether it is waited for on another thread.
    watched: bool,
    begin: Duration,
    idle: Mutex<Vec<Worker>>,
    overran: AtomicBool,
    large: Mutex<()>,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after another.
struct Worker {
    jobs: SyncSender<Job>,
}

impl Patience {
    /// For a tokenizer as the library read it.
    pub fn of(inner: &Inner) -> Self {
        let normalizer = serde_json::to_value(inner.get_normalizer());
        let parts = [normalizer, serde_json::to_value(inner.get_pre_tokenizer())];
        let harmless = |part: &Result<Value, _>| part.as_ref().is_ok_and(is_harmless);
        Self::new(!parts.iter().all(harmless), PATIENCE)
    }

    fn new(watched: bool, begin: Duration) -> Self {
        let (idle, overran, large) = (Mutex::default(), AtomicBool::new(false), Mutex::new(()));
        Self { watched, begin, idle, overran, large }
    }

    /// Whether texts are tokenised on another thread.
    pub fn is_needed(&self) -> bool {
        self.watched
    }

    /// Waits until no other large text is worked on, where this one is large.
    pub fn alone(&self, text: &str) -> Option<MutexGuard<'_, ()>> {
        (text.len() >= LARGE).then(|| lock(&self.large))
    }

    /// Has `work` done on a text of so many bytes.
    ///
    /// # Errors
    /// When it takes too long, and whenever something was tried after that.
    pub fn wait<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let most = self.begin + Duration::from_secs(bytes as u64 / BYTES_PER_SECOND);
        let too_long = || {
            let seconds = most.as_secs_f64();
            Error::tokenizer("the tokenizer takes too long")
                .because(format!(
                    "it splits texts with a pattern of its own, and was not done with one in \
                     {seconds:.0} s"
                ))
                .hint("use the tokenizer of a model that you trust; `firebrand scan` looks at them")
        };
        if self.overran.load(Ordering::Relaxed) {
            return Err(too_long());
        }
        let idle = lock(&self.idle).pop();
        let worker = idle.map_or_else(Worker::start, Ok)?;
        let (give, answer) = sync_channel(1);
        let job: Job = Box::new(move || {
            let _ = give.send(work()); // nobody may wait any more
        });
        let ended = || Error::tokenizer("a thread that tokenises has ended");
        worker.jobs.send(job).map_err(|_| ended())?;
        match answer.recv_timeout(most) {
            Ok(answer) => {
                lock(&self.idle).push(worker);
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.overran.store(true, Ordering::Relaxed);
                Err(too_long())
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

impl Worker {
    fn start() -> Result<Self> {
        let (jobs, taken): (_, Receiver<Job>) = sync_channel(1);
        std::thread::Builder::new()
            .name("tokenizer".to_owned())
            .spawn(move || taken.into_iter().for_each(|job| job()))
            .context("cannot start a thread")?;
        Ok(Self { jobs })
    }
}

/// Whether a part of a tokenizer has no pattern but those that are known.
fn is_harmless(part: &Value) -> bool {
    match part {
        Value::Object(fields) => fields.iter().all(|(name, value)| match value.as_str() {
            Some(pattern) if name == "Regex" => is_known(pattern),
            _ => is_harmless(value),
        }),
        Value::Array(items) => items.iter().all(is_harmless),
        _ => true,
    }
}

/// Whether a pattern is made of known parts, one of which is tried after another.
fn is_known(pattern: &str) -> bool {
    parts(pattern, &HARMLESS).is_some()
}

/// The parts of a pattern of which one is tried after another, where all of them are known.
pub fn parts<'p>(pattern: &'p str, known: &[&str]) -> Option<Vec<&'p str>> {
    let (mut rest, mut parts) = (pattern, Vec::new());
    loop {
        // The longest, since some begin like others.
        let fits = |part: &&&str| {
            let after = rest.strip_prefix(**part);
            after.is_some_and(|after| after.is_empty() || after.starts_with('|'))
        };
        let part = known.iter().filter(fits).max_by_key(|part| part.len())?;
        let (part, after) = rest.split_at(part.len());
        parts.push(part);
        match after.strip_prefix('|') {
            Some(after) => rest = after,
            None => return Some(parts),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn needed(pre_tokenizer: &Value, normalizer: &Value) -> bool {
        let file = json!({
            "version": "1.0", "added_tokens": [], "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
            "truncation": null, "padding": null,
            "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] },
        });
        Patience::of(&Inner::from_bytes(file.to_string()).unwrap()).is_needed()
    }

    #[test]
    fn patterns_in_use_are_known_and_others_are_waited_for() {
        let of = |pattern: &str| {
            let split = json!({
                "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
                "invert": false,
            });
            needed(&json!({ "type": "Sequence", "pretokenizers": [split] }), &Value::Null)
        };
        let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}";
        let others = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert!(!of(&format!("{words}|{others}")));
        for pattern in ["a*b", r"(a|a)*$", r"\p{L}+\p{L}+", r"\s+|", r"(\s+)+"] {
            assert!(of(pattern), "{pattern}");
        }
        assert!(!needed(&Value::Null, &Value::Null));
        let replace = json!({ "type": "Replace", "pattern": { "Regex": "a*b" }, "content": "c" });
        assert!(needed(&Value::Null, &replace));
    }

    #[test]
    fn a_tokenizer_that_does_not_end_is_given_up_for_good() {
        let patience = Patience::new(true, Duration::from_millis(50));
        assert_eq!(patience.wait(10, || 7).unwrap(), 7);
        assert_eq!(lock(&patience.idle).len(), 1, "the thread waits for more");
        let (end, waits) = sync_channel::<()>(0);
        let error = patience.wait(10, move || waits.recv().is_err()).unwrap_err();
        crate::snapshots::says(
            error,
            snapbox::str![[r#"
error[tokenizer]: the tokenizer takes too long
  because it splits texts with a pattern of its own, and was not done with one in 0 s

hint: use the tokenizer of a model that you trust; `firebrand scan` looks at them
"#]],
        );
        assert!(patience.wait(10, || 7).is_err(), "it is not asked again");
        drop(end); // the thread ends
    }
}
