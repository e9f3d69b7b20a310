//! How a run is shown: what keys have chosen, and what was said.

use std::ops::Range;
use std::time::Duration;

use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Style};

/// A part of the view of which a small terminal shows one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panel {
    #[default]
    Loss,
    Validation,
    LearningRate,
    GradNorm,
    Speed,
    Memory,
    Samples,
}

impl Panel {
    const ALL: [Self; 7] = [
        Self::Loss,
        Self::Validation,
        Self::LearningRate,
        Self::GradNorm,
        Self::Speed,
        Self::Memory,
        Self::Samples,
    ];

    /// The one so many places on.
    fn next(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|panel| *panel == self).unwrap_or_default();
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// How a run is shown, beside what there is to show.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// What was said, oldest first.
    pub messages: Vec<String>,
    /// Since the view is there.
    pub elapsed: Duration,
    /// Whether the run was asked to stop.
    pub stopping: bool,
    /// Whether colours are wanted.
    pub colours: bool,
    /// So many lines of messages are below those that are shown.
    pub scrolled: usize,
    /// Lines of messages that were shown last.
    pub page: usize,
    /// The panel of a small terminal.
    pub panel: Panel,
}

impl Shown {
    /// Does what a key says.
    pub fn pressed(&mut self, key: KeyCode) {
        let page = self.page.max(1);
        match key {
            KeyCode::Up => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Down => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_add(page),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_sub(page),
            KeyCode::Home => self.scrolled = usize::MAX,
            KeyCode::End => self.scrolled = 0,
            KeyCode::Tab => self.panel = self.panel.next(1),
            KeyCode::BackTab => self.panel = self.panel.next(Panel::ALL.len() - 1),
            _ => {}
        }
    }

    /// A style in colour, where colours are wanted.
    pub fn colour(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Which lines of so many to show in a place of a height, in the same place where more come.
    pub fn lines_in(&mut self, lines: usize, height: usize) -> Range<usize> {
        self.page = height;
        self.scrolled = self.scrolled.min(lines.saturating_sub(height));
        let end = lines - self.scrolled;
        end.saturating_sub(height)..end
    }

    /// Whether later messages are out of sight.
    pub fn is_scrolled(&self) -> bool {
        self.scrolled > 0
    }
}
