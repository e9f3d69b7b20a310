//! The picture as a whole: what stands where, at every size of a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph};

use super::panels;
use super::run_view::RunView;
use super::shown::{Panel, Shown};
use crate::event::duration;
use crate::terminal::one_line;

/// Below this nothing can be read.
const LEAST: [u16; 2] = [40, 10];
/// From this on there is room for all panels at once.
const ROOMY: [u16; 2] = [76, 22];
/// Rows from which on a small terminal has messages below its panel.
const TWO_PANELS: u16 = 9;

/// Draws a run.
pub(super) fn draw(frame: &mut Frame, view: &RunView, shown: &mut Shown) {
    let area = frame.area();
    if area.width < LEAST[0] || area.height < LEAST[1] {
        return too_small(frame, area, shown);
    }
    let [title, gauge, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(titled(view, shown, title.width)), title);
    progress(frame, gauge, view, shown);
    let roomy = area.width >= ROOMY[0] && area.height >= ROOMY[1];
    if roomy {
        all_panels(frame, body, view, shown);
    } else {
        one_panel(frame, body, view, shown);
    }
    frame.render_widget(Paragraph::new(keys_line(shown, keys.width, roomy)), keys);
}

/// Every panel: losses above, what they cost below, then what was answered and said.
fn all_panels(frame: &mut Frame, area: Rect, view: &RunView, shown: &mut Shown) {
    let [losses, numbers, costs, texts] = Layout::vertical([
        Constraint::Fill(3),
        Constraint::Length(1),
        Constraint::Fill(2),
        Constraint::Fill(2),
    ])
    .areas(area);
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    if view.eval_loss.is_empty() {
        panels::draw(Panel::Loss, frame, losses, view, shown);
    } else {
        let [left, right] = halves.areas(losses);
        panels::draw(Panel::Loss, frame, left, view, shown);
        panels::draw(Panel::Validation, frame, right, view, shown);
    }
    frame.render_widget(Paragraph::new(panels::numbers(view, numbers.width)), numbers);
    let [rate, speed, memory] = Layout::horizontal([Constraint::Fill(1); 3]).areas(costs);
    panels::draw(Panel::LearningRate, frame, rate, view, shown);
    panels::draw(Panel::Speed, frame, speed, view, shown);
    panels::draw(Panel::Memory, frame, memory, view, shown);
    if view.samples.is_empty() {
        return panels::messages(frame, texts, shown);
    }
    let [left, right] = halves.areas(texts);
    panels::draw(Panel::Samples, frame, left, view, shown);
    panels::messages(frame, right, shown);
}

/// The panel that was chosen, and messages where there is room for some.
fn one_panel(frame: &mut Frame, area: Rect, view: &RunView, shown: &mut Shown) {
    let rest = if area.height < TWO_PANELS { Constraint::Length(0) } else { Constraint::Fill(2) };
    let [chosen, numbers, messages] =
        Layout::vertical([Constraint::Fill(3), Constraint::Length(1), rest]).areas(area);
    panels::draw(shown.panel, frame, chosen, view, shown);
    frame.render_widget(Paragraph::new(panels::numbers(view, numbers.width)), numbers);
    panels::messages(frame, messages, shown);
}

fn too_small(frame: &mut Frame, area: Rect, shown: &Shown) {
    let [columns, rows] = LEAST;
    let lines = [
        format!("too small: {}x{}", area.width, area.height),
        format!("the dashboard needs {columns}x{rows}"),
        "q closes it, the run goes on".to_owned(),
    ];
    let style = shown.colour(Color::Yellow);
    let lines: Vec<Line> = lines.into_iter().map(|line| Line::styled(line, style)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// The name, where the run is, and what it does.
fn titled<'a>(view: &RunView, shown: &Shown, width: u16) -> Line<'a> {
    let name = Span::styled(one_line(&view.name), Style::new().add_modifier(Modifier::BOLD));
    let step = format!("  step {} of {}", view.done, view.total);
    let epoch = view.last.as_ref().map(|(report, _)| format!("  epoch {:.2}", report.epoch));
    let doing = match view.doing.as_str() {
        "" => None,
        doing => Some(Span::styled(format!("  {}", one_line(doing)), shown.colour(Color::Cyan))),
    };
    let all = [Some(Span::raw(step)), epoch.map(Span::raw), doing];
    let mut line = Line::from(name);
    for span in all.into_iter().flatten() {
        if line.width() + span.width() <= usize::from(width) {
            line.push_span(span);
        }
    }
    line
}

fn progress(frame: &mut Frame, area: Rect, view: &RunView, shown: &Shown) {
    let left = match view.seconds_left() {
        Some(left) => format!("{} left", duration(left)),
        None => "-".to_owned(),
    };
    let label = format!(
        "{:>3.0} %  {} here, {left}",
        view.share() * 100.0,
        duration(shown.elapsed.as_secs_f64())
    );
    let gauge = LineGauge::default()
        .filled_symbol("█")
        .unfilled_symbol("░")
        .filled_style(shown.colour(Color::Green))
        .label(label)
        .ratio(view.share());
    frame.render_widget(gauge, area);
}

/// What keys do, in as many words as there is room for.
fn keys_line<'a>(shown: &Shown, width: u16, roomy: bool) -> Line<'a> {
    let choices: &[&str] = match (shown.stopping, roomy) {
        (true, _) => &[
            "stopping once everything is saved; Ctrl-C again stops at once",
            "saving; Ctrl-C again stops at once",
        ],
        (false, true) => &[
            "q closes this view, the run goes on   Ctrl-C saves and stops   \
             Ctrl-Z suspends   ↑ ↓ messages",
            "q closes this view, the run goes on   Ctrl-C saves and stops   ↑ ↓ messages",
        ],
        (false, false) => &[
            "q closes this view, the run goes on   Ctrl-C saves, stops   Tab next   ↑ ↓ messages",
            "q closes, the run goes on   Ctrl-C saves, stops   Tab next",
            "q leaves (run goes on)  Ctrl-C stops",
        ],
    };
    let fits = |text: &&&str| Span::raw(**text).width() <= usize::from(width);
    let text = choices.iter().find(fits).or(choices.last()).copied().unwrap_or_default();
    let style = match shown.stopping {
        true => shown.colour(Color::Yellow).add_modifier(Modifier::BOLD),
        false => Style::new().add_modifier(Modifier::DIM),
    };
    Line::styled(text.to_owned(), style)
}
