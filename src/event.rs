//! What a run tells its watchers: plain data, known to every module that has something to say.

use std::collections::BTreeMap;

use serde::Serialize;

/// One optimiser step, as written to `metrics.jsonl`. It holds only values that a rerun repeats
/// bit for bit on the CPU; what depends on the clock is in [`Timing`].
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct StepReport {
    /// Step number, from 1.
    pub step: u64,
    /// Position in the data, in epochs, after this step.
    pub epoch: f64,
    /// Mean negative log-likelihood of the target tokens of this step, in nats.
    pub loss: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Target tokens in this step.
    pub target_tokens: u64,
    /// All tokens in this step, without padding.
    pub tokens: u64,
    /// What the loss was multiplied with, in arithmetic that needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Whether the update was left out, since that product was too large for 16 bits; `grad_norm`
    /// is 0 then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skipped: bool,
    /// Rows that were computed at once, where memory did not suffice for a whole micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_at_once: Option<usize>,
    /// What the objective reports beside the loss, by name: means over what it counts.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What one step cost, as written to `timings.jsonl`. A GPU is not waited for within a step: of
/// one, forward, backward and update are the times in which the host said what is to be done, and
/// the whole step is the time from when the numbers of the step before were known.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Timing {
    /// Step number, from 1.
    pub step: u64,
    /// Wall time of the whole step.
    pub step_seconds: f64,
    /// Share of it spent waiting for data.
    pub data_seconds: f64,
    /// Forward passes and losses.
    pub forward_seconds: f64,
    /// Backward passes.
    pub backward_seconds: f64,
    /// Clipping and the optimiser.
    pub update_seconds: f64,
    /// Before the step, and no part of it: for how long a checkpoint stalled training for a save.
    pub save_seconds: f64,
    /// Peak resident memory of the process so far, where the system tells.
    pub memory_bytes_peak: Option<u64>,
    /// Resident memory of the process after the step, where the system tells.
    pub memory_bytes: Option<u64>,
    /// Memory of tensors on a GPU after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_in_use: Option<u64>,
    /// Memory taken from a GPU, pages kept for later included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_reserved: Option<u64>,
}

/// The result over a fixed set of examples: means over what the objective counts.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// After how many steps.
    pub step: u64,
    /// The loss; negative log-likelihood of the target tokens in nats, or that of the objective.
    pub eval_loss: f64,
    /// Target tokens that were evaluated.
    pub target_tokens: u64,
    /// What the objective reports beside the loss, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// A validation result, as written to `metrics.jsonl`: its names are not those of a step, so that
/// nobody who adds up tokens takes what was measured on for what was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct EvaluationLine {
    /// After how many steps.
    pub step: u64,
    /// [`Evaluation::eval_loss`].
    pub eval_loss: f64,
    /// Target tokens that were evaluated.
    pub eval_target_tokens: u64,
    /// What the objective reports beside the loss; names begin with `eval_`.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

impl From<&Evaluation> for EvaluationLine {
    fn from(found: &Evaluation) -> Self {
        Self {
            step: found.step,
            eval_loss: found.eval_loss,
            eval_target_tokens: found.target_tokens,
            metrics: found.prefixed().collect(),
        }
    }
}

impl From<EvaluationLine> for Evaluation {
    fn from(line: EvaluationLine) -> Self {
        let named = |(name, value): (String, f64)| {
            (name.strip_prefix("eval_").map_or_else(|| name.clone(), str::to_owned), value)
        };
        Self {
            step: line.step,
            eval_loss: line.eval_loss,
            target_tokens: line.eval_target_tokens,
            metrics: line.metrics.into_iter().map(named).collect(),
        }
    }
}

impl Evaluation {
    /// What is reported beside the loss, under names that are not those of a step.
    pub fn prefixed(&self) -> impl Iterator<Item = (String, f64)> {
        self.metrics.iter().map(|(name, value)| (format!("eval_{name}"), *value))
    }

    /// The mean reward, where the model writes itself what is valued.
    pub fn reward(&self) -> Option<f64> {
        self.metrics.get("reward").copied()
    }

    /// What the best of several is chosen by, of which less is better: the loss, or the reward with
    /// its sign turned.
    pub fn criterion(&self) -> f64 {
        self.reward().map_or(self.eval_loss, |reward| -reward)
    }

    /// The loss or the reward that it is chosen by, for people.
    pub fn described(&self) -> String {
        match self.reward() {
            Some(reward) => format!("validation reward {reward:.4}"),
            None => format!("validation loss {:.4}", self.eval_loss),
        }
    }

    /// What a model would have to choose among for the same loss, where that is a likelihood of
    /// tokens: not where the objective compares answers, and reports more.
    pub fn perplexity(&self) -> Option<f64> {
        self.metrics.is_empty().then(|| self.eval_loss.exp())
    }

    /// Whether it is one of those that every run with the same settings has, however long it is: at
    /// the beginning, and after each `every` steps (`eval.every_steps`). Others are of a run's end.
    pub fn is_due(&self, every: u64) -> bool {
        self.step == 0 || (every > 0 && self.step.is_multiple_of(every))
    }
}

/// A prompt and what the model made of it.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Sample {
    /// After how many steps.
    pub step: u64,
    /// As the user wrote it.
    pub prompt: String,
    /// The continuation.
    pub answer: String,
}

/// Everything a watcher may hear.
#[derive(Debug, Clone)]
pub enum Event {
    /// A sentence worth reading, such as which record shape was chosen and why.
    Note(String),
    /// One line of what the run is about to do: a label and its value.
    Fact(&'static str, String),
    /// Something that needs the user's attention but stops nothing.
    Warning(String),
    /// The loop begins: first step to do, steps in all, target tokens are unknown beforehand.
    Begin {
        /// Steps already done, from a checkpoint.
        done: u64,
        /// Steps in all.
        total: u64,
        /// Where a record of what steps cost may be kept.
        timings: std::path::PathBuf,
    },
    /// What is being done, such as `step 41`: what a wish to stop waits for.
    Doing(String),
    /// A step was begun, and will be done: it counts where a run is to stop.
    Begun(u64),
    /// One step is done. On a GPU the next one was begun already.
    Step(StepReport, Timing),
    /// Validation was run.
    Evaluation(Evaluation),
    /// The prompts are being answered: how many of them, tokens written so far for each, and how
    /// many it may become.
    Answering {
        /// Prompts.
        prompts: usize,
        /// Tokens of the longest answer so far.
        done: usize,
        /// Most tokens of an answer.
        most: usize,
    },
    /// A prompt was answered.
    Sample(Sample),
    /// A checkpoint is durable.
    Saved {
        /// Its step.
        step: u64,
        /// Where it lies.
        path: std::path::PathBuf,
        /// How long checkpoint stall: it.
        seconds: f64,
    },
    /// The loop is over, or paused.
    End,
}

/// Someone who listens.
pub trait Observer {
    /// Called in the order in which things happen.
    fn on(&mut self, event: Event);
    /// Asked after each step: stop as soon as everything is saved?
    fn stop_requested(&self) -> Option<Stop> {
        None
    }
}

/// Someone who hears of files that are being fetched; called by several threads at once.
pub trait Transfers: Send + Sync {
    /// So many bytes are going to be looked at, some of which may be here already.
    fn expect(&self, bytes: u64);
    /// A file of so many bytes begins; the number stands for it from now on.
    fn begin(&self, name: &str, bytes: u64) -> u64;
    /// So many bytes of a file are here now.
    fn advance(&self, transfer: u64, bytes: u64);
    /// A file is here, or was given up; `moved` says whether anything had to be fetched for it.
    fn end(&self, transfer: u64, moved: bool);
    /// Something that a user may wonder about: a pause, a damaged file.
    fn tell(&self, text: &str);
}

/// Hears, and says nothing.
pub struct Silence;

impl Transfers for Silence {
    fn expect(&self, _: u64) {}
    fn begin(&self, _: &str, _: u64) -> u64 {
        0
    }
    fn advance(&self, _: u64, _: u64) {}
    fn end(&self, _: u64, _: bool) {}
    fn tell(&self, _: &str) {}
}

/// Why a run stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: exit code 130 after saving.
    Interrupt,
    /// SIGTERM or SIGHUP: exit code 143 after saving.
    Terminate,
    /// `--stop-after-steps` was reached: exit code 0 after saving.
    Asked,
}

/// Bytes for people: `8.1 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss)] // for display
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Seconds for people: `42s`, `3m05s`, `2h07m`.
pub fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a sane range
    let seconds = seconds.clamp(0.0, 1e9).round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let shown: Vec<_> = [12, 8_123_456, 2_500_000_000].into_iter().map(bytes).collect();
        assert_eq!(shown, ["12 B", "8.1 MB", "2.5 GB"]);
    }

    #[test]
    fn durations_are_short() {
        let shown: Vec<_> = [0.4, 59.0, 185.0, 7620.0].into_iter().map(duration).collect();
        assert_eq!(shown, ["0s", "59s", "3m05s", "2h07m"]);
    }
}
