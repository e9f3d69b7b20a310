//! Ctrl-C and termination: the first asks the run to save and stop, the second ends it at once,
//! which is safe, since a checkpoint is committed by a single rename.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Context, Result};
use crate::event::Stop;

/// Flags that the handlers set.
#[derive(Debug, Default, Clone)]
pub struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    /// Apart from the above, since some systems send both at once.
    hangup: Arc<AtomicBool>,
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
        // A file that grows beyond the limit of its user is an error of the write, not the end.
        flag::register(SIGXFSZ, Arc::default()).context("cannot listen to signals")?;
        Ok(signals)
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
