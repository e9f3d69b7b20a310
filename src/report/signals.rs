//! Ctrl-C and termination: the first asks the run to save and stop, and is answered at once; the
//! second ends it, which is safe, since a checkpoint is committed by a single rename.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar};

use crate::error::{Context, Result};
use crate::event::Stop;
#[cfg(unix)]
use crate::terminal;

/// Flags that the handlers set.
#[derive(Debug, Default, Clone)]
pub struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    /// Apart from the above, since some systems send both at once.
    hangup: Arc<AtomicBool>,
    answer: Arc<Mutex<Answer>>,
}

/// What is said to the first signal, and where.
#[derive(Debug, Default)]
struct Answer {
    /// Such as `step 41`.
    doing: Option<String>,
    bars: Option<MultiProgress>,
    bar: Option<ProgressBar>,
}

impl Answer {
    fn text(&self) -> String {
        match &self.doing {
            Some(doing) => format!("finishing {doing}; again to stop now"),
            None => "stopping; again to stop now".to_owned(),
        }
    }

    #[cfg(unix)]
    fn give(&self) {
        terminal::say_above(self.bars.as_ref(), self.bar.as_ref(), &self.text());
    }
}

/// Asks this process to save and stop when its input ends, as the system does when a terminal is
/// closed: for runs that another process starts, which is then nowhere to be found.
///
/// # Errors
/// When no thread can be started.
#[cfg(unix)]
pub fn stop_at_end_of_input() -> Result<()> {
    let wait = || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGHUP); // it is a known signal
    };
    let failed = "cannot listen to the input";
    std::thread::Builder::new().name("input".to_owned()).spawn(wait).context(failed)?;
    Ok(())
}

/// Without signals nothing can be asked.
#[cfg(not(unix))]
pub fn stop_at_end_of_input() -> Result<()> {
    Ok(())
}

impl Signals {
    /// Installs the handlers.
    #[cfg(unix)]
    pub fn install() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
        use signal_hook::flag;
        let signals = Self::default();
        let all = [
            (SIGINT, 130, &signals.interrupt),
            (SIGTERM, 143, &signals.terminate),
            (SIGHUP, 143, &signals.hangup),
        ];
        for (signal, exit_code, asked) in all {
            // Registered first, so that it acts on the second signal only.
            flag::register_conditional_shutdown(signal, exit_code, Arc::clone(asked))
                .and_then(|_| flag::register(signal, Arc::clone(asked)))
                .context("cannot listen to signals")?;
        }
        signals.answer_first([SIGINT, SIGTERM, SIGHUP])?;
        // A file that grows beyond the limit of its user is an error of the write, not the end.
        flag::register(SIGXFSZ, Arc::default()).context("cannot listen to signals")?;
        Ok(signals)
    }

    /// Answers the first signal from a thread of its own: the one that computes may be busy for
    /// minutes, and a handler must not print.
    #[cfg(unix)]
    fn answer_first(&self, signals: [std::ffi::c_int; 3]) -> Result<()> {
        let failed = "cannot listen to signals";
        let mut heard = signal_hook::iterator::Signals::new(signals).context(failed)?;
        let answer = Arc::clone(&self.answer);
        let listen = move || {
            if heard.forever().next().is_some() {
                answer.lock().unwrap_or_else(PoisonError::into_inner).give();
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context(failed)?;
        Ok(())
    }

    /// What is being done now: what a wish to stop waits for.
    pub fn doing(&self, what: String) {
        self.answer().doing = Some(what);
    }

    /// Where progress bars stand, above which there is talk.
    pub fn show_above(&self, bars: Option<&MultiProgress>, bar: Option<&ProgressBar>) {
        let mut answer = self.answer();
        (answer.bars, answer.bar) = (bars.cloned(), bar.cloned());
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without signals there is nothing to install.
    #[cfg(not(unix))]
    pub fn install() -> Result<Self> {
        Ok(Self::default())
    }

    /// What was asked for so far.
    pub fn stop_requested(&self) -> Option<Stop> {
        if self.interrupt.load(Ordering::Relaxed) {
            Some(Stop::Interrupt)
        } else if [&self.terminate, &self.hangup].iter().any(|flag| flag.load(Ordering::Relaxed)) {
            Some(Stop::Terminate)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_is_waited_for() {
        let signals = Signals::default();
        assert_eq!(signals.answer().text(), "stopping; again to stop now");
        signals.doing("step 41".to_owned());
        assert_eq!(signals.answer().text(), "finishing step 41; again to stop now");
    }
}
