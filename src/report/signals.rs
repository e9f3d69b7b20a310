//! Ctrl-C and termination: the first asks the run to save and stop, and is answered at once; the
//! second ends it, which is safe, since a checkpoint is committed by a single rename.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar};

use crate::error::{Context, Result};
use crate::event::Stop;
use crate::terminal;

/// What asks for a stop, with the exit code of a second one.
#[cfg(unix)]
const STOPS: [(std::ffi::c_int, std::ffi::c_int); 3] = [
    (signal_hook::consts::SIGINT, 130),
    (signal_hook::consts::SIGTERM, 143),
    (signal_hook::consts::SIGHUP, 143),
];

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
        Self::install_beside(false)
    }

    /// The same beside a view that fills the terminal: a second signal ends the run once the
    /// terminal was given back, which a handler cannot do.
    #[cfg(unix)]
    pub fn install_beside(full_screen: bool) -> Result<Self> {
        use signal_hook::consts::SIGXFSZ;
        use signal_hook::flag;
        let failed = "cannot listen to signals";
        let signals = Self::default();
        let asked = [&signals.interrupt, &signals.terminate, &signals.hangup];
        for ((signal, exit_code), asked) in STOPS.into_iter().zip(asked) {
            if !full_screen {
                // Registered first, so that it acts on the second signal only.
                flag::register_conditional_shutdown(signal, exit_code, Arc::clone(asked))
                    .context(failed)?;
            }
            flag::register(signal, Arc::clone(asked)).context(failed)?;
        }
        signals.answer_first(full_screen)?;
        // A file that grows beyond the limit of its user is an error of the write, not the end.
        flag::register(SIGXFSZ, Arc::default()).context(failed)?;
        Ok(signals)
    }

    /// Answers the first signal from a thread of its own: the one that computes may be busy for
    /// minutes, and a handler must not print. Beside a view it also ends the run at the second.
    #[cfg(unix)]
    fn answer_first(&self, full_screen: bool) -> Result<()> {
        let failed = "cannot listen to signals";
        let signals = STOPS.map(|(signal, _)| signal);
        let mut heard = signal_hook::iterator::Signals::new(signals).context(failed)?;
        let answer = Arc::clone(&self.answer);
        let listen = move || {
            let mut before = Vec::new();
            for signal in heard.forever() {
                if before.is_empty() {
                    answer.lock().unwrap_or_else(PoisonError::into_inner).give();
                }
                let stop = STOPS.into_iter().find(|stop| full_screen && stop.0 == signal);
                if let Some((_, exit_code)) = stop.filter(|_| before.contains(&signal)) {
                    terminal::close_screen();
                    signal_hook::low_level::exit(exit_code);
                }
                before.push(signal);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context(failed)?;
        Ok(())
    }

    /// Does what the terminal itself does at Ctrl-C while no program reads its keys.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    }

    /// The same where there are no signals.
    #[cfg(not(unix))]
    pub fn interrupt(&self) {
        if self.interrupt.swap(true, Ordering::Relaxed) {
            terminal::close_screen();
            std::process::exit(130);
        }
        self.answer().give();
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
        Self::install_beside(false)
    }

    /// The same.
    #[cfg(not(unix))]
    pub fn install_beside(_full_screen: bool) -> Result<Self> {
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
