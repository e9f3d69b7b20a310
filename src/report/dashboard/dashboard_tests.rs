//! Pictures of a recorded run: `SNAPSHOTS=overwrite` writes them, and the one in `docs/`, anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Modifier};

use super::draw::draw;
use super::run_view::RunView;
use super::shown::Shown;
use crate::event::{Evaluation, EvaluationLine, Event, Sample};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A run of `configs/quickstart.toml` as `FIREBRAND_LOG_FORMAT=json` recorded it: its first steps.
/// `lines` gets what its messages were.
fn recorded(lines: &mut Vec<String>) -> RunView {
    let text = std::fs::read_to_string(repository("tests/fixtures/dashboard.jsonl")).unwrap();
    let mut view = RunView::new("quickstart");
    let mut begun = false;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| line[name].clone();
        match line["event"].as_str() {
            Some("step") => {
                if !std::mem::replace(&mut begun, true) {
                    let timings = PathBuf::from("none/timings.jsonl");
                    view.hear(&Event::Begin { done: 0, total: 215, timings });
                }
                let report = serde_json::from_value(field("step")).unwrap();
                let timing = serde_json::from_value(field("timing")).unwrap();
                view.hear(&Event::Step(report, timing));
            }
            Some("validation") => {
                let found: EvaluationLine = serde_json::from_value(field("validation")).unwrap();
                let found = Evaluation::from(found);
                let Evaluation { step, eval_loss, .. } = found;
                view.hear(&Event::Evaluation(found));
                lines.push(format!("validation after step {step}: loss {eval_loss:.4}"));
            }
            _ => lines.push(line["message"].as_str().unwrap().to_owned()),
        }
    }
    let path = PathBuf::from("checkpoints/quickstart/step-00000050");
    view.hear(&Event::Saved { step: 50, path, seconds: 0.01 });
    view.hear(&Event::Doing("step 61".to_owned()));
    view
}

fn answers(view: &mut RunView) {
    for (prompt, answer) in [
        ("What is the capital of Mongolia?", "The capital of Mongolia is Ulaanbaatar."),
        (
            "Give the person as JSON: In Denver lives Ingrid Petit, who is 41 years old.",
            "{\"name\": \"Ingrid Petit\", \"age\": 41, \"city\": \"Denver\"}",
        ),
    ] {
        let (prompt, answer) = (prompt.to_owned(), answer.to_owned());
        view.hear(&Event::Sample(Sample { step: 0, prompt: prompt.clone(), answer: "?".into() }));
        view.hear(&Event::Sample(Sample { step: 50, prompt, answer }));
    }
}

fn shown(messages: &[String]) -> Shown {
    let (messages, elapsed) = (messages.to_vec(), Duration::from_millis(7_400));
    Shown { messages, elapsed, colours: true, ..Shown::default() }
}

fn picture(view: &RunView, shown: &mut Shown, [width, height]: [u16; 2]) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, shown)).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width))
}

fn text(buffer: &Buffer) -> String {
    let line = |row: &[Cell]| row.iter().map(Cell::symbol).collect::<String>();
    rows(buffer).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

#[track_caller]
fn is_snapshot(found: &str, path: &str) {
    let path = repository(path);
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        std::fs::write(&path, found).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == committed.replace("\r\n", "\n"), "{} is other:\n{found}", path.display());
}

#[test]
fn a_run_is_shown_at_every_size_of_a_terminal() {
    let mut lines = Vec::new();
    let mut view = recorded(&mut lines);
    for (name, size) in [("80x24", [80, 24]), ("60x16", [60, 16]), ("40x10", [40, 10])] {
        let found = text(&picture(&view, &mut shown(&lines), size));
        is_snapshot(&found, &format!("tests/snapshots/dashboard-{name}.txt"));
    }
    answers(&mut view);
    let found = text(&picture(&view, &mut shown(&lines), [120, 40]));
    is_snapshot(&found, "tests/snapshots/dashboard-120x40.txt");
    // Whatever the size, something is drawn, and nothing fails.
    for width in 1..90 {
        for height in 1..30 {
            picture(&view, &mut shown(&lines), [width, height]);
        }
    }
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let found = text(&picture(&RunView::new("a"), &mut shown(&[]), [39, 10]));
    let found: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        found,
        ["too small: 39x10", "the dashboard needs 40x10", "q closes it, the run goes on"]
    );
}

#[test]
fn a_run_before_its_first_step_says_what_it_waits_for() {
    let mut view = RunView::new("new");
    view.hear(&Event::Note("chat template: none".to_owned()));
    view.hear(&Event::Fact("model", "a small one".to_owned()));
    let timings = PathBuf::from("none/timings.jsonl");
    view.hear(&Event::Begin { done: 0, total: 4, timings });
    view.hear(&Event::Doing("step 1".to_owned()));
    assert_eq!(view.before, ["chat template: none", "       model  a small one"]);
    let found = text(&picture(&view, &mut shown(&[]), [80, 24]));
    assert!(found.starts_with("new  step 0 of 4  step 1\n  0 %  7s here, - "), "{found}");
    assert_eq!(found.matches("nothing yet").count(), 4, "{found}");
}

#[test]
fn a_run_that_goes_on_has_its_whole_curves() {
    let folder = tempfile::tempdir().unwrap();
    let step = |step: u64| {
        format!(
            "{{\"step\":{step},\"epoch\":0.1,\"loss\":{}.0,\"learning_rate\":0.1,\
             \"grad_norm\":1.0,\"target_tokens\":3,\"tokens\":4}}\n",
            10 - step
        )
    };
    let validation = |step: u64, loss: f64| {
        format!("{{\"step\":{step},\"eval_loss\":{loss},\"eval_target_tokens\":3}}\n")
    };
    let metrics = [validation(0, 5.0), step(1), step(2), validation(2, 3.0), step(3)].concat();
    std::fs::write(folder.path().join("metrics.jsonl"), metrics).unwrap();
    let timings = folder.path().join("timings.jsonl");
    let timing = |step: u64, bytes: u64| {
        format!(
            "{{\"step\":{step},\"step_seconds\":1.0,\"data_seconds\":0.0,\"forward_seconds\":0.5,\
             \"backward_seconds\":0.5,\"update_seconds\":0.0,\"save_seconds\":0.0,\
             \"memory_bytes_peak\":9,\"memory_bytes\":{bytes}}}\n"
        )
    };
    let all = [timing(1, 5), timing(2, 6), timing(3, 7), timing(3, 8), "{half".to_owned()];
    std::fs::write(&timings, all.concat()).unwrap();
    let mut view = RunView::new("a");
    view.hear(&Event::Begin { done: 3, total: 9, timings });
    assert_eq!(view.loss.points(), [[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]]);
    assert_eq!(view.eval_loss.points(), [[0.0, 5.0], [2.0, 3.0]]);
    assert_eq!(view.memory.points(), [[1.0, 5.0], [2.0, 6.0], [3.0, 8.0]]);
    assert_eq!(view.best.as_ref().unwrap().step, 2);
    assert_eq!((view.done, view.total), (3, 9));
}

#[test]
fn keys_change_the_panel_and_go_through_the_messages() {
    let mut lines: Vec<String> = (0..40).map(|number| format!("message {number}")).collect();
    let view = recorded(&mut Vec::new());
    let mut shown = shown(&lines);
    let size = [60, 16];
    let titled = |found: &str, title: &str| found.lines().any(|line| line.contains(title));
    let found = text(&picture(&view, &mut shown, size));
    assert!(titled(&found, "╭ loss ") && found.contains("message 39"), "{found}");
    shown.pressed(KeyCode::Tab);
    assert!(titled(&text(&picture(&view, &mut shown, size)), "╭ validation loss "));
    shown.pressed(KeyCode::BackTab);
    shown.pressed(KeyCode::BackTab);
    assert!(titled(&text(&picture(&view, &mut shown, size)), "╭ answers "));
    shown.pressed(KeyCode::Up);
    let found = text(&picture(&view, &mut shown, size));
    assert!(!found.contains("message 39") && found.contains("message 38"), "{found}");
    assert!(titled(&found, "messages (End: the newest)"), "{found}");
    shown.pressed(KeyCode::Home);
    let found = text(&picture(&view, &mut shown, size));
    assert!(found.contains("message 0\n") || found.contains("message 0 "), "{found}");
    shown.pressed(KeyCode::PageDown);
    assert!(!text(&picture(&view, &mut shown, size)).contains("message 0 "));
    shown.pressed(KeyCode::End);
    lines.push("the end".to_owned());
    shown.messages = lines;
    assert!(text(&picture(&view, &mut shown, size)).contains("the end"));
}

#[test]
fn what_others_wrote_is_text() {
    let hostile = "x\u{1b}[2J\u{202e}y\u{9b}\n::error::z";
    let mut view = RunView::new(hostile);
    let timings = PathBuf::from("none/timings.jsonl");
    view.hear(&Event::Begin { done: 0, total: 4, timings });
    view.hear(&Event::Doing(hostile.to_owned()));
    let (prompt, answer) = (hostile.to_owned(), hostile.to_owned());
    view.hear(&Event::Sample(Sample { step: 1, prompt, answer }));
    let found = text(&picture(&view, &mut shown(&[hostile.to_owned()]), [120, 40]));
    let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!found.contains(steers), "{found}");
    assert!(found.contains("\\u{1b}[2J\\u{202e}y"), "{found}");
}

#[test]
fn a_run_that_is_to_stop_says_so_and_colours_can_be_left_out() {
    let view = recorded(&mut Vec::new());
    let mut shown = shown(&[]);
    shown.stopping = true;
    let found = text(&picture(&view, &mut shown, [80, 24]));
    let last = found.lines().last().unwrap();
    assert_eq!(last, "stopping once everything is saved; Ctrl-C again stops at once");
    shown.colours = false;
    let plain = picture(&view, &mut shown, [80, 24]);
    let coloured = |cell: &Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
    assert!(!plain.content.iter().any(coloured), "NO_COLOR");
    assert_eq!(text(&plain), found);
}

/// The picture in the docs is what the program draws.
#[test]
fn the_docs_show_the_dashboard_as_it_is() {
    let mut lines = Vec::new();
    let mut view = recorded(&mut lines);
    answers(&mut view);
    let buffer = picture(&view, &mut shown(&lines), [110, 34]);
    is_snapshot(&svg(&buffer), "docs/dashboard.svg");
}

const CELL: [f64; 2] = [8.4, 16.0];

/// A terminal as a picture.
fn svg(buffer: &Buffer) -> String {
    let [width, height] = [buffer.area.width, buffer.area.height];
    let size = [f64::from(width) * CELL[0] + 16.0, f64::from(height) * CELL[1] + 16.0];
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"14\" \
         role=\"img\" aria-label=\"The dashboard of a run: curves, numbers, answers, messages\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#14161b\"/>\n",
        size[0], size[1]
    );
    for (y, row) in rows(buffer).enumerate() {
        let mut x = 0;
        while x < row.len() {
            let style = |cell: &Cell| (cell.fg, cell.modifier);
            let same = |cell: &&Cell| style(cell) == style(&row[x]);
            let count = row[x..].iter().take_while(same).count();
            let text: String = row[x..x + count].iter().map(Cell::symbol).collect();
            if !text.trim().is_empty() {
                run(&mut out, &text, [x, y], count, &row[x]);
            }
            x += count;
        }
    }
    out + "</svg>\n"
}

#[expect(clippy::cast_precision_loss)] // columns
fn run(out: &mut String, text: &str, [x, y]: [usize; 2], count: usize, cell: &Cell) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace(' ', "\u{a0}");
    let colour = match cell.fg {
        Color::Cyan => "#4cc9d9",
        Color::Magenta => "#c792ea",
        Color::Yellow => "#e5c07b",
        Color::Green => "#7ec97e",
        Color::Blue => "#6ea8fe",
        Color::Red => "#ef6b73",
        _ => "#d6d9de",
    };
    let dim = if cell.modifier.contains(Modifier::DIM) { " opacity=\"0.55\"" } else { "" };
    let bold = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{colour}\"{dim}{bold}>{escaped}</text>",
        8.0 + x as f64 * CELL[0],
        8.0 + (y as f64 + 0.78) * CELL[1],
        count as f64 * CELL[0],
    );
}
