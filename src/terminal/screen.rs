//! A view that takes the whole terminal for a while, and gives it back however it ends.
//!
//! What the program says meanwhile is kept for the view, and written to where it belongs as soon as
//! the terminal is given back: nothing that was said is lost with the view.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Stderr, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

/// So many lines are kept of what is said while the view is shown.
const LINES_MAX: usize = 2000;
/// For how long a picture that is being drawn is waited for before the terminal is given back.
const DRAWING_MAX: Duration = Duration::from_millis(200);

/// Whether there is a view, shown or not.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Whether the terminal shows it; whoever makes it false gives the terminal back.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// Held while a picture is drawn.
static DRAWING: Mutex<()> = Mutex::new(());
static SAID: Mutex<SaidLines> = Mutex::new(SaidLines::new());

/// What was said since the view was opened.
struct SaidLines {
    lines: VecDeque<String>,
    /// The last so many have not been written to the terminal.
    unwritten: usize,
    /// Earlier ones that were too many to keep.
    lost: usize,
}

impl SaidLines {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), unwritten: 0, lost: 0 }
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            self.lines.push_back(line.to_owned());
            self.unwritten += 1;
        }
        while self.lines.len() > LINES_MAX {
            self.lines.pop_front();
            if self.unwritten > self.lines.len() {
                (self.unwritten, self.lost) = (self.lines.len(), self.lost + 1);
            }
        }
    }

    /// What has yet to be written to the terminal.
    fn rest(&mut self) -> Vec<String> {
        let lost = std::mem::take(&mut self.lost);
        let lost = (lost > 0).then(|| format!("({lost} earlier lines are not shown)"));
        let from = self.lines.len() - std::mem::take(&mut self.unwritten);
        lost.into_iter().chain(self.lines.range(from..).cloned()).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is said for the view, if it is shown; says whether it was.
pub(super) fn keep(text: &str) -> bool {
    let mut said = locked(&SAID);
    let shown = SHOWN.load(Ordering::SeqCst);
    if shown {
        said.add(text);
    }
    shown
}

/// What was said since the view was opened, oldest first.
pub fn said() -> Vec<String> {
    locked(&SAID).lines.iter().cloned().collect()
}

/// Closes the view, if there is one, and writes what was said meanwhile. Any thread may do it, at
/// any time.
pub fn close_screen() {
    OPEN.store(false, Ordering::SeqCst);
    give_back();
}

/// Gives the terminal back as it was.
fn give_back() {
    if !SHOWN.load(Ordering::SeqCst) {
        return;
    }
    let since = Instant::now();
    // A thread that panics while it draws waits for nobody but itself.
    let alone = loop {
        match DRAWING.try_lock() {
            Ok(alone) => break Some(alone),
            Err(_) if since.elapsed() > DRAWING_MAX => break None,
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // Whoever says something now waits until it can be read.
    let mut said = locked(&SAID);
    if SHOWN.swap(false, Ordering::SeqCst) {
        let _ = execute!(super::errors(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        write_rest(&mut said);
    }
    drop((said, alone));
}

/// Leaves the terminal as it is to whoever has it now and has set it up.
fn leave_to_others() {
    let mut said = locked(&SAID);
    if SHOWN.swap(false, Ordering::SeqCst) {
        write_rest(&mut said);
    }
}

fn write_rest(said: &mut SaidLines) {
    let mut out = super::errors();
    for line in said.rest() {
        let _ = writeln!(out, "{line}");
    }
}

/// Where pictures are drawn: a terminal that is gone is nobody's problem.
struct Canvas(BufWriter<Stderr>);

impl Write for Canvas {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Which one.
    pub code: KeyCode,
    /// Together with Ctrl.
    pub ctrl: bool,
}

/// The view: it has the terminal from [`FullScreen::open`] until it is dropped or closed, but for
/// the time in which the process is stopped or in the background.
pub struct FullScreen {
    terminal: Terminal<CrosstermBackend<Canvas>>,
    jobs: jobs::Jobs,
}

impl FullScreen {
    /// Takes the terminal, as soon as this process is in its foreground.
    ///
    /// # Errors
    /// When there is no terminal, or it cannot be changed.
    pub fn open() -> io::Result<Self> {
        *locked(&SAID) = SaidLines::new();
        let mut screen = Self { terminal: terminal()?, jobs: jobs::Jobs::listen()? };
        OPEN.store(true, Ordering::SeqCst);
        screen.follow_jobs()?;
        Ok(screen)
    }

    /// Whether it was closed, by whomever.
    pub fn is_closed(&self) -> bool {
        !OPEN.load(Ordering::SeqCst)
    }

    /// Draws the next picture, if the view is shown.
    ///
    /// # Errors
    /// When the terminal does not say how large it is.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        let _alone = locked(&DRAWING);
        if SHOWN.load(Ordering::SeqCst) {
            self.terminal.draw(render)?;
        }
        Ok(())
    }

    /// The next key, if one is pressed within this time. It returns sooner when the terminal gets
    /// another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn key(&mut self, patience: Duration) -> io::Result<Option<Key>> {
        self.follow_jobs()?;
        if !SHOWN.load(Ordering::SeqCst) {
            std::thread::sleep(patience);
            return Ok(None);
        }
        if !event::poll(patience)? {
            return Ok(None);
        }
        let Event::Key(key) = event::read()? else { return Ok(None) };
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        if ctrl && key.code == KeyCode::Char('z') {
            self.jobs.ask_to_stop();
            return Ok(None);
        }
        let pressed = key.kind != KeyEventKind::Release;
        Ok(pressed.then_some(Key { code: key.code, ctrl }))
    }

    /// Gives the terminal back where the process is stopped, and takes it again where it goes on in
    /// the foreground.
    fn follow_jobs(&mut self) -> io::Result<()> {
        if self.jobs.take_quit() {
            close_screen();
            self.jobs.quit();
        }
        if self.jobs.take_stop() {
            give_back();
            self.jobs.stop(); // and goes on here
        }
        if !jobs::in_foreground() {
            leave_to_others();
            return Ok(());
        }
        if OPEN.load(Ordering::SeqCst)
            && (self.jobs.take_continued() | !SHOWN.load(Ordering::SeqCst))
        {
            self.take()?;
        }
        Ok(())
    }

    /// Takes the terminal, also where somebody has changed its modes since.
    fn take(&mut self) -> io::Result<()> {
        let _alone = locked(&DRAWING);
        let _ = disable_raw_mode();
        enable_raw_mode()?;
        execute!(super::errors(), EnterAlternateScreen, Hide)?;
        self.terminal = terminal()?; // which knows of nothing that was drawn
        SHOWN.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        close_screen();
    }
}

fn terminal() -> io::Result<Terminal<CrosstermBackend<Canvas>>> {
    Terminal::new(CrosstermBackend::new(Canvas(BufWriter::new(super::errors()))))
}

#[cfg(unix)]
mod jobs {
    //! Stopping, going on, and the background, as shells do it.

    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::{SIGCONT, SIGQUIT, SIGTSTP};
    use signal_hook::flag::{register, register_conditional_default};
    use signal_hook::low_level::emulate_default_handler;

    /// Signals that were heard.
    pub struct Jobs {
        stop: Arc<AtomicBool>,
        quit: Arc<AtomicBool>,
        continued: Arc<AtomicBool>,
        /// From then on the signals do what they do otherwise.
        over: Arc<AtomicBool>,
    }

    impl Jobs {
        pub fn listen() -> io::Result<Self> {
            let flag = || Arc::new(AtomicBool::new(false));
            let jobs = Self { stop: flag(), quit: flag(), continued: flag(), over: flag() };
            for (signal, heard) in [(SIGTSTP, &jobs.stop), (SIGQUIT, &jobs.quit)] {
                register_conditional_default(signal, Arc::clone(&jobs.over))?;
                register(signal, Arc::clone(heard))?;
            }
            register(SIGCONT, Arc::clone(&jobs.continued))?;
            Ok(jobs)
        }

        pub fn take_stop(&self) -> bool {
            self.stop.swap(false, Ordering::SeqCst)
        }

        pub fn take_quit(&self) -> bool {
            self.quit.swap(false, Ordering::SeqCst)
        }

        pub fn take_continued(&self) -> bool {
            self.continued.swap(false, Ordering::SeqCst)
        }

        /// What the terminal itself does at Ctrl-Z, while no program reads its keys.
        pub fn ask_to_stop(&self) {
            let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
        }

        /// Stops this process, until it is to go on.
        pub fn stop(&self) {
            let _ = emulate_default_handler(SIGTSTP);
        }

        pub fn quit(&self) {
            let _ = emulate_default_handler(SIGQUIT);
        }
    }

    impl Drop for Jobs {
        fn drop(&mut self) {
            self.over.store(true, Ordering::SeqCst);
        }
    }

    /// Whether keys and pictures are this process's.
    pub fn in_foreground() -> bool {
        let owner = rustix::termios::tcgetpgrp(super::super::errors());
        owner.is_ok_and(|owner| owner == rustix::process::getpgrp())
    }
}

#[cfg(not(unix))]
mod jobs {
    //! There are no jobs.

    use std::io;

    pub struct Jobs;

    impl Jobs {
        pub fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        pub fn take_stop(&self) -> bool {
            false
        }

        pub fn take_quit(&self) -> bool {
            false
        }

        pub fn take_continued(&self) -> bool {
            false
        }

        pub fn ask_to_stop(&self) {}

        pub fn stop(&self) {}

        pub fn quit(&self) {}
    }

    pub fn in_foreground() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_written_once_and_what_was_too_much_is_counted() {
        let mut said = SaidLines::new();
        said.add("one\n    more of it");
        assert_eq!(said.rest(), ["one", "    more of it"]);
        assert!(said.rest().is_empty());
        (0..LINES_MAX + 3).for_each(|number| said.add(&number.to_string()));
        let rest = said.rest();
        assert_eq!(rest[0], "(3 earlier lines are not shown)");
        assert_eq!((rest[1].as_str(), rest.len()), ("3", LINES_MAX + 1));
        assert!(said.rest().is_empty());
    }

    /// One test, since there is one terminal.
    #[test]
    fn what_is_said_is_kept_while_the_view_is_shown_and_written_when_it_goes() {
        assert!(!keep("without a view"));
        close_screen(); // and nothing happens
        SHOWN.store(true, Ordering::SeqCst);
        let drawing = locked(&DRAWING);
        let giver = std::thread::spawn(give_back);
        std::thread::sleep(DRAWING_MAX / 4);
        assert!(keep("while a picture is drawn that is waited for"));
        drop(drawing);
        giver.join().unwrap();
        assert_eq!(locked(&SAID).unwritten, 0);
        assert!(!keep("after it"));
        SHOWN.store(true, Ordering::SeqCst);
        assert!(keep("before somebody else takes the terminal"));
        leave_to_others();
        assert_eq!(locked(&SAID).unwritten, 0);
        assert!(!keep("in the background"));
    }
}
