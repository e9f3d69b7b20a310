//! `--dashboard` in a terminal of its own (util-linux's `script`): it is shown, answers keys, and
//! the terminal is as it was however the run ends. Elsewhere there are lines.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::common::{Run, say_not_tested, says, this_test, wait, without_progress};
use snapbox::str;

/// Begin and end of the other screen of a terminal.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";
/// A run that is not over before somebody stops it.
const LONG: &str = "--set train.max_steps=100000 --set checkpoint.every_steps=50000";

/// A shell script in a terminal of its own.
struct OnTerminal<'a> {
    run: &'a Run,
    child: Child,
    keys: Option<ChildStdin>,
    seen: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl<'a> OnTerminal<'a> {
    /// `body` between two looks at the settings of the terminal; `firebrand` is the program.
    fn begin(run: &'a Run, body: &str) -> Option<Self> {
        if Command::new("script").arg("--version").output().is_err() {
            say_not_tested("the dashboard: there is no `script` here, which makes a terminal");
            return None;
        }
        let script = format!(
            "firebrand() {{ '{}' \"$@\"; }}\nstty cols 100 rows 30\ntty > tty.txt\nstty -g > before.txt\n\
             {body}\necho $? > code.txt\nstty -g > after.txt\n",
            env!("CARGO_BIN_EXE_firebrand")
        );
        run.write("script.sh", &script);
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--command", "bash script.sh", "/dev/null"])
            .current_dir(run.path(""))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stdout.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Some(Self { run, child, keys, seen, reader: Some(reader) })
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.wait_until(text, |seen| seen.contains(text));
    }

    /// Waits for what is shown to be so. A program that ends before, or never shows it, fails the
    /// test with all that it showed.
    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let ended = self.run.path("after.txt");
        let begun = Instant::now();
        while !is_so(&self.seen()) {
            let over = ended.exists();
            // What was shown at the end may have come since.
            assert!(!over || is_so(&self.seen()), "it ended without `{what}`: {}", self.seen());
            assert!(begun.elapsed() < wait::NEVER, "waited in vain for `{what}`: {}", self.seen());
            std::thread::sleep(wait::BETWEEN);
        }
    }

    fn press(&mut self, key: &str) {
        let keys = self.keys.as_mut().unwrap();
        keys.write_all(key.as_bytes()).and_then(|()| keys.flush()).unwrap();
    }

    /// Another size, as a window gets it.
    fn resize(&self, columns: u16, rows: u16) {
        let tty = self.run.read("tty.txt");
        let size = ["cols".to_owned(), columns.to_string(), "rows".to_owned(), rows.to_string()];
        let status = Command::new("stty").args(["-F", tty.trim()]).args(size).status().unwrap();
        assert!(status.success());
    }

    /// The exit code of the program, and what was shown after the view; the terminal has the
    /// settings that it had.
    fn ends(mut self) -> (String, String) {
        let seen = self.all_seen();
        assert_eq!(self.run.read("before.txt"), self.run.read("after.txt"), "{seen}");
        let [entered, left] = [ENTERED, LEFT].map(|it| seen.matches(it).count());
        assert!(entered > 0 && entered == left, "entered {entered}, left {left}: {seen}");
        assert!(seen.rfind("\u{1b}[?25h") > seen.rfind("\u{1b}[?25l"), "the cursor: {seen}");
        let after = seen.rsplit(LEFT).next().unwrap().to_owned();
        (self.run.read("code.txt").trim().to_owned(), after)
    }

    /// What was shown from the beginning to the end.
    fn all_seen(&mut self) -> String {
        wait::until("the end", || self.run.path("after.txt").exists() && !self.is_running());
        self.reader.take().unwrap().join().unwrap();
        self.seen()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for OnTerminal<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_is_shown_to_its_end_and_what_was_said_stays() {
    let run = Run::new();
    let Some(terminal) = OnTerminal::begin(&run, "firebrand train tiny.toml --dashboard") else {
        return;
    };
    let (code, after) = terminal.ends();
    assert_eq!(code, "0", "{after}");
    for line in ["saved step 4 in ", "checkpoints/tiny/artifact\r\n", "before:", "check it:"] {
        assert!(after.contains(line), "no `{line}` in: {after}");
    }
}

#[test]
fn the_view_follows_the_size_and_q_leaves_it_to_the_line_of_progress() {
    let run = Run::new();
    let line = format!("firebrand train tiny.toml --dashboard {LONG}");
    let Some(mut terminal) = OnTerminal::begin(&run, &line) else { return };
    terminal.wait_for("q closes this view, the run goes on");
    terminal.wait_for("tokens/s");
    terminal.resize(50, 16);
    terminal.wait_for("q leaves (run goes on)  Ctrl-C stops");
    terminal.resize(30, 5);
    terminal.wait_for("too small: 30x5");
    terminal.resize(100, 30);
    // Crossterm 0.29 forgets a key that comes in the moment in which it hears of another size,
    // until there is a next one: it leaves the loop over what was ready with the first of both.
    let roomy = "q closes this view, the run goes on";
    terminal.wait_until("the large view again", |seen| seen.matches(roomy).count() == 2);
    terminal.press("q");
    terminal.wait_for(LEFT);
    terminal.wait_until("the line of progress", |seen| {
        seen.rsplit(LEFT).next().unwrap().contains("/100000 ")
    });
    assert!(terminal.is_running(), "the run goes on");
    // Without the view, it is the terminal that makes a signal of the key.
    terminal.press("\u{3}");
    let (code, after) = terminal.ends();
    assert_eq!(code, "130", "{after}");
    assert!(after.contains("stopped after step"), "{after}");
}

#[test]
fn ctrl_c_saves_and_stops_and_the_run_goes_on_later() {
    let run = Run::new();
    let line = format!("firebrand train tiny.toml --dashboard {LONG}");
    let Some(mut terminal) = OnTerminal::begin(&run, &line) else { return };
    terminal.wait_for("tokens/s");
    terminal.press("\u{3}");
    let (code, after) = terminal.ends();
    assert_eq!(code, "130", "{after}");
    assert!(after.contains("again to stop now") && after.contains("saved step"), "{after}");
    let line = format!("firebrand resume tiny --dashboard {LONG}");
    std::fs::remove_file(run.path("after.txt")).unwrap();
    let mut terminal = OnTerminal::begin(&run, &line).unwrap();
    terminal.wait_for("validation loss");
    terminal.press("\u{3}");
    assert_eq!(terminal.ends().0, "130");
}

#[test]
fn a_second_ctrl_c_stops_at_once_and_gives_the_terminal_back() {
    let run = Run::new();
    let line = format!("firebrand train tiny.toml --dashboard {LONG}");
    let Some(mut terminal) = OnTerminal::begin(&run, &line) else { return };
    terminal.wait_for("q closes this view");
    // Both at once: a step that lasts until a second one is pressed depends on the machine.
    terminal.press("\u{3}\u{3}");
    let (code, after) = terminal.ends();
    assert_eq!(code, "130", "{after}");
}

#[test]
fn a_signal_from_elsewhere_gives_the_terminal_back() {
    let run = Run::new();
    let program = env!("CARGO_BIN_EXE_firebrand");
    let line =
        format!("bash -c 'echo $$ > pid.txt; exec {program} train tiny.toml --dashboard {LONG}'");
    let Some(terminal) = OnTerminal::begin(&run, &line) else { return };
    terminal.wait_for("tokens/s");
    let pid = rustix::process::Pid::from_raw(run.read("pid.txt").trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (code, after) = terminal.ends();
    assert_eq!(code, "143", "{after}");
}

/// With job control, as an interactive shell has it.
#[test]
fn a_suspended_run_gives_the_terminal_back_and_takes_it_again() {
    let run = Run::new();
    let body = format!(
        "set -m\n'{}' train tiny.toml --dashboard {LONG}\necho $? > stopped.txt\n\
         stty -g > between.txt\nfg > /dev/null",
        env!("CARGO_BIN_EXE_firebrand")
    );
    let Some(mut terminal) = OnTerminal::begin(&run, &body) else { return };
    terminal.wait_for("tokens/s");
    terminal.press("\u{1a}");
    terminal.wait_for(LEFT);
    terminal.wait_until("the view once more", |seen| seen.matches(ENTERED).count() == 2);
    assert_eq!(run.read("stopped.txt").trim(), "147", "128 + SIGSTOP");
    assert_eq!(run.read("before.txt"), run.read("between.txt"));
    terminal.press("\u{3}");
    let (code, after) = terminal.ends();
    assert_eq!(code, "130", "{after}");
}

#[test]
fn a_run_in_the_background_leaves_the_terminal_to_the_shell() {
    let run = Run::new();
    let program = env!("CARGO_BIN_EXE_firebrand");
    let body = format!("set -m\n'{program}' train tiny.toml --dashboard &\nwait $!");
    let Some(mut terminal) = OnTerminal::begin(&run, &body) else { return };
    let seen = terminal.all_seen();
    assert_eq!(run.read("code.txt").trim(), "0", "{seen}");
    assert!(seen.contains("saved step 4 in "), "{seen}");
    for steering in [ENTERED, "\u{1b}[?25l"] {
        assert!(!seen.contains(steering), "{steering:?}: {seen}");
    }
}

#[test]
fn an_error_in_the_middle_gives_the_terminal_back_and_is_read_after_it() {
    let run = Run::new();
    let line = "firebrand train tiny.toml --dashboard --set train.max_steps=100000";
    let Some(terminal) = OnTerminal::begin(&run, line) else { return };
    terminal.wait_for("tokens/s");
    std::fs::rename(run.path("checkpoints/tiny"), run.path("elsewhere")).unwrap();
    run.write("checkpoints/tiny", "in the way");
    let (code, after) = terminal.ends();
    assert_eq!(code, "2", "{after}");
    assert!(after.contains("error["), "{after}");
}

/// Set for the test that panics.
const PANICS: &str = "FIREBRAND_TEST_PANICS";

#[test]
fn a_panic_gives_the_terminal_back() {
    let run = Run::new();
    let command = this_test!("panics_in_the_view");
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|it| format!("'{}'", it.to_str().unwrap())).collect();
    let body = format!("{PANICS}=1 {}", words.join(" "));
    let Some(terminal) = OnTerminal::begin(&run, &body) else { return };
    let (code, after) = terminal.ends();
    assert_eq!(code, "101", "{after}");
    assert!(after.contains("said in the view"), "{after}");
}

#[test]
#[ignore = "run by the test above, in a terminal of its own"]
fn panics_in_the_view() {
    if std::env::var_os(PANICS).is_none() {
        return; // whoever runs all tests keeps the terminal
    }
    let mut screen = firebrand::terminal::FullScreen::open().unwrap();
    firebrand::terminal::say("said in the view");
    screen.draw(|_| panic!("in the middle of a picture")).unwrap();
}

#[test]
fn without_a_terminal_there_are_lines() {
    let run = Run::new();
    let output = run.command(&["train", "tiny.toml", "--dashboard"]).output().unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !lines.contains('\u{1b}'), "{lines}");
    assert!(lines.contains("step 6/6"), "{lines}");
    says(
        without_progress(&lines),
        str![[r#"
note: `--dashboard` needs a terminal for input and messages (stdin, stderr), and messages that are text: there are lines in its place



"#]],
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "checkpoints/tiny/artifact\n");
    run.fails_with(
        2,
        &["train", "tiny.toml", "--dashboard", "--quiet"],
        str![[r#"
error: the argument '--dashboard' cannot be used with '--quiet'

Usage: firebrand train --dashboard <CONFIG>

For more information, try '--help'.

"#]],
    );
}
