//! A run that fills the terminal: curves, rates, memory, answers and messages while it trains.
//!
//! It hears the same events as the line of progress, and changes nothing of the run: a thread of
//! its own draws, so that keys and another size of the terminal are answered while a step is
//! computed. Whoever leaves it has the line of progress in its place.

mod draw;
mod panels;
mod run_view;
mod series;
mod shown;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::KeyCode;

use self::draw::draw;
use self::run_view::RunView;
use self::shown::Shown;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::report::Signals;
use crate::terminal::{self, FullScreen, Key};

/// How long a key is waited for before the next picture.
const TICK: Duration = Duration::from_millis(200);

/// The view of a run.
pub struct Dashboard {
    view: Arc<Mutex<RunView>>,
    signals: Signals,
    /// Whether the thread is to end, or has ended.
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// A view that is shown as soon as the steps begin: what comes before are messages and
    /// downloads, which are worth keeping on the terminal.
    pub fn new(name: &str, signals: Signals) -> Self {
        let view = Arc::new(Mutex::new(RunView::new(name)));
        Self { view, signals, over: Arc::default(), thread: None }
    }

    /// Hears of the next event.
    ///
    /// # Errors
    /// When the steps begin, and the terminal cannot show the view.
    pub fn hear(&mut self, event: &Event) -> Result<()> {
        locked(&self.view).hear(event);
        match event {
            Event::Begin { .. } if self.thread.is_none() => self.open(),
            _ => Ok(()),
        }
    }

    fn open(&mut self) -> Result<()> {
        let screen = FullScreen::open().context("cannot show the dashboard")?;
        let (view, over) = (Arc::clone(&self.view), Arc::clone(&self.over));
        let signals = self.signals.clone();
        let watch = move || {
            // A terminal that is gone is told by its signal; the run does not need it.
            let _ = watch(screen, &view, &signals, &over);
            over.store(true, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("dashboard".to_owned()).spawn(watch);
        self.thread = Some(thread.context("cannot show the dashboard")?);
        Ok(())
    }

    /// Whether somebody has left it, or its terminal is gone.
    pub fn was_left(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(view: &Mutex<RunView>) -> MutexGuard<'_, RunView> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws and reads keys, until the view is left or the run is over.
fn watch(
    mut screen: FullScreen,
    view: &Mutex<RunView>,
    signals: &Signals,
    over: &AtomicBool,
) -> std::io::Result<()> {
    let began = Instant::now();
    let mut shown = Shown { colours: terminal::wants_colours(), ..Shown::default() };
    while !over.load(Ordering::SeqCst) && !screen.is_closed() {
        shown.stopping = signals.stop_requested().is_some();
        shown.elapsed = began.elapsed();
        let said = terminal::said();
        screen.draw(|frame| {
            let view = locked(view);
            shown.messages = view.before.iter().cloned().chain(said).collect();
            draw(frame, &view, &mut shown);
        })?;
        let Some(key) = screen.key(TICK)? else { continue };
        match key {
            Key { code: KeyCode::Char('c'), ctrl: true } => signals.interrupt(),
            Key { code: KeyCode::Char('q'), ctrl: false } => break,
            Key { code, ctrl: false } => shown.pressed(code),
            Key { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "dashboard_tests.rs"]
mod tests;
