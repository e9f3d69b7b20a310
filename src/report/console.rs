//! Shows a run to a person: a live bar on a terminal, a plain line every few seconds elsewhere.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::event::{
    Evaluation, EvaluationLine, Event, Observer, StepReport, Stop, Timing, bytes, duration,
};
use crate::report::recent_steps::RecentSteps;
use crate::report::{Dashboard, Signals};
use crate::terminal;
use crate::trackers::Trackers;

/// Between plain lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// Between lines about answers that are being written, on a terminal.
const ANSWERING_INTERVAL: Duration = Duration::from_secs(1);

/// The watcher that a person sees.
pub struct Console {
    signals: Signals,
    timings: Option<File>,
    trackers: Trackers,
    /// In the bar's place, until somebody leaves it.
    dashboard: Option<Dashboard>,
    bar: Option<ProgressBar>,
    /// Where bars of downloads stand, if there are any.
    bars: Option<MultiProgress>,
    quiet: bool,
    total: u64,
    stop_after: Option<u64>,
    /// The step after which the run is to stop.
    stop_at: Option<u64>,
    done: u64,
    /// Steps that were done before this process.
    done_before: u64,
    recent: RecentSteps,
    last_plain: Option<Instant>,
    /// When something was last said of answers that are being written, or they were begun.
    answered: Option<Instant>,
}

impl Console {
    /// A watcher that also answers for signals and `--stop-after-steps`.
    pub fn new(signals: Signals, quiet: bool, stop_after: Option<u64>) -> Self {
        Self {
            signals,
            timings: None,
            trackers: Trackers::default(),
            dashboard: None,
            bar: None,
            bars: None,
            quiet,
            total: 0,
            stop_after,
            stop_at: None,
            done: 0,
            done_before: 0,
            recent: RecentSteps::default(),
            last_plain: None,
            answered: None,
        }
    }

    /// Also asks the run to stop after a step of its own counting.
    #[must_use]
    pub fn stopping_at(mut self, step: Option<u64>) -> Self {
        self.stop_at = step;
        self
    }

    /// Puts the bar of the steps among those of downloads.
    #[must_use]
    pub fn among(mut self, bars: Option<MultiProgress>) -> Self {
        self.signals.show_above(bars.as_ref(), None);
        self.bars = bars;
        self
    }

    /// Has trackers told what happens.
    #[must_use]
    pub fn tracked(mut self, trackers: Trackers) -> Self {
        self.trackers = trackers;
        self
    }

    /// Shows the run in a view that fills the terminal.
    #[must_use]
    pub fn with_dashboard(mut self, dashboard: Option<Dashboard>) -> Self {
        self.dashboard = dashboard;
        self
    }

    /// Whether the first step was reached.
    pub fn has_begun(&self) -> bool {
        self.total > 0
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// A line above all bars.
    fn line(&self, line: &str) {
        terminal::say_above(self.bars.as_ref(), self.bar.as_ref(), line);
    }

    fn begin(&mut self, done: u64, total: u64) {
        (self.done, self.done_before, self.total) = (done, done, total);
        if self.dashboard.is_none() {
            self.draw_bar(done, total);
        }
    }

    fn draw_bar(&mut self, done: u64, total: u64) {
        if self.quiet || !terminal::draws() {
            return;
        }
        let bar = match &self.bars {
            Some(bars) => bars.add(ProgressBar::new(total)),
            None => {
                let target = ProgressDrawTarget::stderr_with_hz(10);
                ProgressBar::with_draw_target(Some(total), target)
            }
        };
        // What is last gives way where the terminal is narrow, also one that became so.
        let style = "{pos}/{len} {bar:12} {eta} left  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
        bar.set_position(done);
        bar.reset_eta();
        self.signals.show_above(self.bars.as_ref(), Some(&bar));
        bar.tick();
        self.bar = Some(bar);
    }

    /// Tells the view of an event. Where it was left, or cannot be shown, the bar takes its place.
    fn show(&mut self, event: &Event) {
        let Some(dashboard) = &mut self.dashboard else { return };
        let failed = dashboard.hear(event).err();
        if failed.is_none() && !dashboard.was_left() {
            return;
        }
        self.dashboard = None;
        if let Some(error) = failed {
            self.line(&format!("warning: {}", error.with_causes()));
        }
        if self.total > 0 && !matches!(event, Event::End) {
            self.draw_bar(self.done, self.total);
        }
    }

    /// The first step, a save or a validation can take a while: the bar says what it waits for.
    fn doing(&mut self, what: String) {
        if let Some(bar) = &self.bar
            && (self.done == self.done_before || !what.starts_with("step "))
        {
            terminal::label(bar, &what);
            bar.tick();
        }
        self.signals.doing(what);
    }

    fn step(&mut self, report: &StepReport, timing: &Timing) {
        self.recent.add(report.tokens, timing.step_seconds);
        let speed = self.recent.tokens_per_second().unwrap_or_default();
        let reward = report.metrics.get("reward");
        let reward = reward.map_or_else(String::new, |reward| format!("reward {reward:.3}  "));
        let message = format!(
            "loss {:.4}  {reward}{speed:.0} tokens/s  norm {}  lr {:.2e}{}",
            report.loss,
            norm(report),
            report.learning_rate,
            memory(timing)
        );
        if terminal::is_json() {
            if !self.quiet {
                let more = json!({"event": "step", "step": report, "timing": timing});
                terminal::log("info", &format!("step {}/{}", report.step, self.total), more);
            }
        } else if let Some(bar) = &self.bar {
            terminal::label(bar, &message);
            bar.set_position(report.step);
        } else if self.dashboard.is_none() && self.plain_due(report.step) {
            let left = self.recent.seconds_of(self.total - report.step).unwrap_or_default();
            let left = duration(left);
            self.say(&format!("step {}/{}  {message}  {left} left", report.step, self.total));
        }
        if let Some(file) = &mut self.timings {
            // The file is a record for people; losing a line must not stop a run. Each is written
            // at once and as a whole: others read it while the run is at work.
            let line = serde_json::to_string(timing).unwrap_or_default();
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Long answers are not waited for in silence.
    fn answering(&mut self, prompts: usize, done: usize, most: usize) {
        let last = self.answered.get_or_insert_with(Instant::now);
        let watched = terminal::draws();
        if last.elapsed() < if watched { ANSWERING_INTERVAL } else { PLAIN_INTERVAL } {
            return;
        }
        *last = Instant::now();
        self.say(&format!("answering {prompts} prompts: {done} of at most {most} tokens each"));
    }

    fn plain_due(&mut self, step: u64) -> bool {
        let due = step == self.total
            || self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if due {
            self.last_plain = Some(Instant::now());
        }
        due
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            self.signals.show_above(self.bars.as_ref(), None);
            bar.finish_and_clear();
        }
    }
}

impl Observer for Console {
    fn on(&mut self, event: Event) {
        for warning in self.trackers.on(&event) {
            self.line(&format!("warning: {warning}"));
        }
        self.show(&event);
        match event {
            Event::Note(text) => self.say(&text),
            Event::Fact(label, value) => self.say(&format!("{label:>12}  {value}")),
            Event::Warning(text) => {
                // Shown even when quiet: it needs attention.
                self.line(&format!("warning: {text}"));
            }
            Event::Begin { done, total, timings } => {
                // A record for people: without it the run goes on.
                self.timings = File::options().append(true).create(true).open(&timings).ok();
                for place in self.trackers.places() {
                    let run = timings.parent().unwrap_or(&timings);
                    self.say(&format!("{:>12}  {}", "curves", run.join(place).display()));
                }
                self.begin(done, total);
            }
            Event::Doing(what) => self.doing(what),
            Event::Begun(step) => self.done = step,
            Event::Step(report, timing) => self.step(&report, &timing),
            Event::Evaluation(found) if terminal::is_json() => {
                let more =
                    json!({"event": "validation", "validation": EvaluationLine::from(&found)});
                terminal::log("info", &format!("validation after step {}", found.step), more);
            }
            Event::Evaluation(found) => self.say(&validation(&found)),
            Event::Answering { prompts, done, most } => self.answering(prompts, done, most),
            Event::Sample(_) => self.answered = None, // shown before and after together, at the end
            Event::Saved { step, path, seconds } => {
                self.say(&format!("saved step {step} in {seconds:.2} s: {}", path.display()))
            }
            Event::End => self.end(),
        }
    }

    fn stop_requested(&self) -> Option<Stop> {
        let after = self.stop_after.is_some_and(|limit| self.done - self.done_before >= limit);
        let at = self.stop_at.is_some_and(|step| self.done >= step);
        let asked = (after || at).then_some(Stop::Asked);
        self.signals.stop_requested().or(asked)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        for warning in self.trackers.finish() {
            self.line(&format!("warning: {warning}"));
        }
        self.dashboard = None; // the terminal is given back
        self.end(); // an error in mid-run must not leave a bar on the terminal
    }
}

/// The norm of the gradient, or what happened to it.
fn norm(report: &StepReport) -> String {
    match (report.skipped, report.loss_scale) {
        (true, Some(scale)) => format!("too large for 16 bits at scale {scale}, skipped"),
        _ => format!("{:.2}", report.grad_norm),
    }
}

/// Memory that is held: of the process, and of a GPU.
fn memory(timing: &Timing) -> String {
    let host = timing.memory_bytes.map(bytes);
    let device = timing.device_bytes_in_use.zip(timing.device_bytes_reserved);
    let device = device.map(|(used, taken)| format!("{} of {} on it", bytes(used), bytes(taken)));
    let both: Vec<String> = host.into_iter().chain(device).collect();
    if both.is_empty() { String::new() } else { format!("  {}", both.join(", ")) }
}

/// A validation result in one line.
fn validation(found: &Evaluation) -> String {
    let of = |name: &str| found.metrics.get(name);
    let more = match (found.perplexity(), found.reward(), of("rewards/accuracies")) {
        (Some(perplexity), ..) => format!("perplexity {perplexity:.2}, "),
        (_, Some(reward), _) => format!("reward {reward:.4}, "),
        (_, _, Some(share)) => format!("{:.1} % of the pairs preferred rightly, ", share * 100.0),
        _ => String::new(),
    };
    let Evaluation { step, eval_loss, target_tokens: tokens, .. } = found;
    format!("validation after step {step}: loss {eval_loss:.4}, {more}measured on {tokens} tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_cost_can_be_read_while_the_run_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let timings = folder.path().join("timings.jsonl");
        let mut console = Console::new(Signals::default(), true, None);
        console.on(Event::Begin { done: 0, total: 9, timings: timings.clone() });
        let step = json!({
            "step": 1, "epoch": 0.1, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0,
            "target_tokens": 3, "tokens": 4,
        });
        let timing = json!({
            "step": 1, "step_seconds": 1.0, "data_seconds": 0.0, "forward_seconds": 0.5,
            "backward_seconds": 0.5, "update_seconds": 0.0, "save_seconds": 0.0,
            "memory_bytes_peak": 9, "memory_bytes": 8,
        });
        let of = |json: &serde_json::Value| serde_json::from_value::<Timing>(json.clone()).unwrap();
        console.on(Event::Step(serde_json::from_value(step).unwrap(), of(&timing)));
        let written = std::fs::read_to_string(&timings).unwrap();
        assert_eq!(serde_json::from_str::<Timing>(&written).unwrap(), of(&timing));
    }
}
