//! What stands in the view: charts, numbers, answers, messages.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, Paragraph};

use super::run_view::RunView;
use super::series::Series;
use super::shown::{Panel, Shown};
use crate::event::bytes;
use crate::report::chart::{SMOOTHED_FROM, short, smoothed};
use crate::terminal::{one_line, printable};

/// Charts of fewer rows, frame and steps included, have no numbers at the left.
const ROWS_LABELLED: u16 = 6;

/// A line of a chart.
struct Curve<'a> {
    series: &'a Series,
    colour: Color,
    /// Whether its moving mean is drawn over it.
    smoothed: bool,
}

/// Draws a part of the view.
pub(super) fn draw(panel: Panel, frame: &mut Frame, area: Rect, view: &RunView, shown: &Shown) {
    let curve = |series, colour| Curve { series, colour, smoothed: false };
    let last = view.last.as_ref();
    let now = |value: Option<String>| value.unwrap_or_default();
    match panel {
        Panel::Loss => {
            let curve = Curve { smoothed: true, ..curve(&view.loss, Color::Cyan) };
            let title = format!("loss {}", now(last.map(|(step, _)| format!("{:.4}", step.loss))));
            chart(frame, area, &title, &[curve], short, shown);
        }
        Panel::Validation => {
            let title = validation(view);
            chart(frame, area, &title, &[curve(&view.eval_loss, Color::Magenta)], short, shown);
        }
        Panel::LearningRate => {
            let rate = now(last.map(|(step, _)| format!("{:.2e}", step.learning_rate)));
            let curves = [curve(&view.learning_rate, Color::Yellow)];
            chart(frame, area, &format!("learning rate {rate}"), &curves, short, shown);
        }
        Panel::GradNorm => {
            let norm = now(last.map(|(step, _)| format!("{:.2}", step.grad_norm)));
            let curves = [curve(&view.grad_norm, Color::Yellow)];
            chart(frame, area, &format!("gradient norm {norm}"), &curves, short, shown);
        }
        Panel::Speed => {
            let speed = now(view.speed().map(|speed| format!("{speed:.0}")));
            let curves = [curve(&view.tokens_per_second, Color::Green)];
            chart(frame, area, &format!("tokens/s {speed}"), &curves, whole, shown);
        }
        Panel::Memory => {
            let process = curve(&view.memory, Color::Blue);
            let device = curve(&view.device_memory, Color::Red);
            chart(frame, area, &memory(view), &[process, device], in_bytes, shown);
        }
        Panel::Samples => samples(frame, area, view, shown),
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bytes were counted
fn in_bytes(value: f64) -> String {
    bytes(value as u64)
}

fn validation(view: &RunView) -> String {
    let shown = |found: &crate::event::Evaluation| match found.reward() {
        Some(reward) => format!("{:.4}, reward {reward:.4}", found.eval_loss),
        None => format!("{:.4}", found.eval_loss),
    };
    let now = view.evaluation.as_ref().map(shown).unwrap_or_default();
    let best = view.best.as_ref().filter(|best| view.evaluation.as_ref() != Some(best));
    let best = best.map(|best| format!(", best {} at {}", shown(best), best.step));
    format!("validation loss {now}{}", best.unwrap_or_default())
}

fn memory(view: &RunView) -> String {
    let Some((_, timing)) = &view.last else { return "memory".to_owned() };
    let host = timing.memory_bytes.map(bytes);
    let device = timing.device_bytes_in_use.map(|used| format!("{} on the GPU", bytes(used)));
    let both: Vec<String> = host.into_iter().chain(device).collect();
    format!("memory {}", both.join(", "))
}

fn frame_of<'a>(title: &str) -> Block<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().add_modifier(Modifier::DIM))
        .title(Span::styled(format!(" {} ", title.trim_end()), bold))
}

/// Curves over steps.
fn chart(
    frame: &mut Frame,
    area: Rect,
    title: &str,
    curves: &[Curve],
    number: fn(f64) -> String,
    shown: &Shown,
) {
    let mut lines: Vec<(Vec<(f64, f64)>, Style)> = Vec::new();
    for curve in curves {
        let points = curve.series.points();
        let pairs = |points: &[[f64; 2]]| points.iter().map(|[x, y]| (*x, *y)).collect();
        let style = shown.colour(curve.colour);
        if curve.smoothed && points.len() >= SMOOTHED_FROM {
            lines.push((pairs(&points), style.add_modifier(Modifier::DIM)));
            lines.push((pairs(&smoothed(&points)), style.add_modifier(Modifier::BOLD)));
        } else {
            lines.push((pairs(&points), style));
        }
    }
    let all = lines.iter().flat_map(|(points, _)| points);
    let ends = |axis: fn(&(f64, f64)) -> f64| {
        let values = || all.clone().map(axis);
        let low = values().min_by(f64::total_cmp)?;
        let high = values().max_by(f64::total_cmp)?;
        Some([low, high])
    };
    let (Some(across), Some(up)) = (ends(|point| point.0), ends(|point| point.1)) else {
        let nothing = Paragraph::new("nothing yet").block(frame_of(title));
        return frame.render_widget(nothing, area);
    };
    let label = |value: f64, number: fn(f64) -> String| Line::from(number(value));
    let datasets = lines.iter().map(|(points, style)| {
        let graph = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
        Dataset::default().marker(Marker::Braille).graph_type(graph).style(*style).data(points)
    });
    let labels = |ends: [f64; 2], number| match ends[0] == ends[1] {
        // The place of one number is the middle; an axis wants two.
        true => vec![Line::from(""), label(ends[0], number), Line::from("")],
        false => vec![label(ends[0], number), label(ends[1], number)],
    };
    let x = Axis::default().bounds(widened(across)).labels(labels(across, whole));
    // In a single row all numbers would stand in the same place.
    let up_labels = if area.height < ROWS_LABELLED { Vec::new() } else { labels(up, number) };
    let y = Axis::default().bounds(widened(up)).labels(up_labels);
    let chart = Chart::new(datasets.collect())
        .block(frame_of(title))
        .x_axis(x)
        .y_axis(y)
        .legend_position(None);
    frame.render_widget(chart, area);
}

/// Ends that are apart: a single number stands in the middle.
fn widened([low, high]: [f64; 2]) -> [f64; 2] {
    match low == high {
        true => [low - low.abs().max(1.0) / 2.0, high + high.abs().max(1.0) / 2.0],
        false => [low, high],
    }
}

/// The newest step in numbers, as many as there is room for.
pub(super) fn numbers<'a>(view: &RunView, width: u16) -> Line<'a> {
    let Some((step, timing)) = &view.last else { return Line::default() };
    let norm = match step.skipped {
        true => "too large for 16 bits, skipped".to_owned(),
        false => format!("{:.2}", step.grad_norm),
    };
    let mut all = vec![
        format!("norm {norm}"),
        format!("{} target tokens of {}", step.target_tokens, step.tokens),
        format!("{:.2} s a step", timing.step_seconds),
    ];
    let share = timing.data_seconds / timing.step_seconds.max(1e-9);
    all.push(format!("{:.0} % waiting for data", share * 100.0));
    all.extend(view.saved.map(|step| format!("saved at step {step}")));
    all.extend(step.metrics.iter().map(|(name, value)| format!("{name} {}", short(*value))));
    let mut line = String::new();
    for part in all {
        let more = format!("{}{}", if line.is_empty() { " " } else { " · " }, one_line(&part));
        if Span::raw(line.as_str()).width() + Span::raw(more.as_str()).width() > width.into() {
            break;
        }
        line.push_str(&more);
    }
    Line::from(line)
}

/// The newest answers, each under its prompt.
fn samples(frame: &mut Frame, area: Rect, view: &RunView, shown: &Shown) {
    let step = view.samples.iter().map(|sample| sample.step).max();
    let title = match step {
        Some(step) => format!("answers after step {step}"),
        None => "answers".to_owned(),
    };
    let width = usize::from(area.width.saturating_sub(2));
    let mut lines = Vec::new();
    for sample in &view.samples {
        let prompt = format!("> {}", one_line(&sample.prompt));
        let style = shown.colour(Color::Cyan);
        lines.extend(folded(&prompt, width).into_iter().map(|line| Line::styled(line, style)));
        for text in printable(sample.answer.trim()).lines() {
            lines.extend(folded(text, width).into_iter().map(Line::raw));
        }
    }
    let text = match lines.is_empty() {
        true => vec![Line::raw("nothing yet")],
        false => lines,
    };
    frame.render_widget(Paragraph::new(text).block(frame_of(&title)), area);
}

/// What was said, the newest last.
pub(super) fn messages(frame: &mut Frame, area: Rect, shown: &mut Shown) {
    let [width, height] = [area.width, area.height].map(|size| usize::from(size.saturating_sub(2)));
    let mut lines = Vec::new();
    for message in &shown.messages {
        let style = match message.starts_with("warning: ") || message.starts_with("error") {
            true => shown.colour(Color::Yellow),
            false => Style::new(),
        };
        for text in printable(message).lines() {
            lines.extend(folded(text, width).into_iter().map(|line| Line::styled(line, style)));
        }
    }
    let range = shown.lines_in(lines.len(), height);
    let title = if shown.is_scrolled() { "messages (End: the newest)" } else { "messages" };
    let text = lines[range].to_vec();
    frame.render_widget(Paragraph::new(text).block(frame_of(title)), area);
}

/// A line in pieces that are not wider than this, broken between words where that is possible.
fn folded(line: &str, width: usize) -> Vec<String> {
    let wide = |text: &str| Span::raw(text).width();
    let mut pieces = vec![String::new()];
    for word in line.replace('\t', " ").split_inclusive(' ') {
        let here = pieces.last().map_or(0, |piece| wide(piece));
        if here > 0 && here + wide(word.trim_end()) > width {
            pieces.push(String::new());
        }
        for c in word.chars() {
            let here = pieces.last().map_or(0, |piece| wide(piece));
            let room = here + wide(c.encode_utf8(&mut [0; 4])) <= width;
            if !room && c == ' ' {
                continue; // at the end of a piece
            }
            if !room && here > 0 {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(c);
            }
        }
    }
    pieces
}
