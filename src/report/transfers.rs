//! Downloads on the screen: a bar per file and one for all on a terminal, elsewhere a plain line
//! when a file is done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{self, bytes};
use crate::terminal::{self, one_line};

/// More bars than this would scroll.
const BARS_MAX: usize = 8;
const FILE_BAR: &str = "{bar:24} {bytes:>11}/{total_bytes:<11} {binary_bytes_per_sec:>13}  {msg}";
const TOTAL_BAR: &str = "{bar:24} {bytes:>11}/{total_bytes:<11} {eta:>4} left       in all";

/// A transfer that a person may watch.
struct Transfer {
    name: String,
    size: u64,
    here: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

/// The watcher that a person sees.
pub struct Transfers {
    bars: Option<MultiProgress>,
    quiet: bool,
    next: AtomicU64,
    state: Mutex<TransferState>,
}

#[derive(Default)]
struct TransferState {
    running: BTreeMap<u64, Transfer>,
    total: Option<ProgressBar>,
    expected: u64,
}

impl Transfers {
    /// Shows bars if stderr is a terminal; nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let terminal = !quiet && terminal::draws();
        let target = || ProgressDrawTarget::stderr_with_hz(10);
        Self {
            bars: terminal.then(|| MultiProgress::with_draw_target(target())),
            quiet,
            next: AtomicU64::new(0),
            state: Mutex::new(TransferState::default()),
        }
    }

    /// The place of all bars, for other bars to stand there too.
    pub fn bars(&self) -> Option<MultiProgress> {
        self.bars.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, TransferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: &str) {
        terminal::say_above(self.bars.as_ref(), None, line);
    }

    fn bar(&self, length: u64, template: &str) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        let bar = bars.add(ProgressBar::new(length));
        bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        Some(bar)
    }
}

impl event::Transfers for Transfers {
    fn expect(&self, bytes: u64) {
        let mut state = self.state();
        state.expected += bytes;
        if let Some(total) = &state.total {
            total.set_length(state.expected);
        }
    }

    fn begin(&self, name: &str, size: u64) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = one_line(name);
        let transfer = Transfer { name, size, here: 0, began: Instant::now(), bar: None };
        self.state().running.insert(number, transfer);
        number
    }

    fn advance(&self, number: u64, here: u64) {
        let mut state = self.state();
        let shown = state.running.values().filter(|transfer| transfer.bar.is_some()).count();
        let TransferState { running, total, expected } = &mut *state;
        let Some(transfer) = running.get_mut(&number) else { return };
        let count = here.saturating_sub(transfer.here);
        transfer.here = here; // less than before when a damaged part was thrown away
        // Bars appear with the first byte: what is here already needs none.
        if transfer.bar.is_none() && shown < BARS_MAX {
            transfer.bar = self.bar(transfer.size, FILE_BAR);
            if let Some(bar) = &transfer.bar {
                terminal::label(bar, &transfer.name);
            }
        }
        if total.is_none() && *expected > 0 {
            *total = self.bar(*expected, TOTAL_BAR);
        }
        for bar in transfer.bar.iter().chain(total.iter()) {
            bar.inc(count);
        }
    }

    fn end(&self, number: u64, moved: bool) {
        let mut state = self.state();
        let Some(transfer) = state.running.remove(&number) else { return };
        if let Some(total) = &state.total {
            total.inc(transfer.size.saturating_sub(transfer.here));
        }
        let last = state.running.is_empty();
        let done = match (last, state.total.take()) {
            (true, Some(total)) => {
                state.expected = 0;
                Some(total)
            }
            (_, total) => {
                state.total = total;
                None
            }
        };
        drop(state);
        for bar in transfer.bar.iter().chain(done.iter()) {
            bar.finish_and_clear();
        }
        if moved && !self.quiet {
            let seconds = transfer.began.elapsed().as_secs_f64();
            let size = bytes(transfer.size);
            self.say(&format!("{:>12}  {}, {size} in {seconds:.1} s", "fetched", transfer.name));
        }
    }

    fn tell(&self, text: &str) {
        // Shown even when quiet: it says why nothing moves.
        self.say(&format!("{:>12}  {}", "hub", text));
    }
}
