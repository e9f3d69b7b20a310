//! The ancestry of a model as a picture: one SVG that needs nothing from elsewhere and runs
//! nothing. Time goes downwards: what a model was made from is above it, what went in beside it.

use std::fmt::Write as _;

use crate::error::printable;
use crate::verify::{Ancestry, Item, Parent, ParentState, Verdict};

/// Width of the picture, and of the boxes of models and of what went in.
const WIDTH: usize = 960;
const MODEL: [usize; 2] = [420, 520];
const INPUT: [usize; 2] = [20, 320];
const LINE: usize = 18;
const GAP: usize = 34;
const PADDING: usize = 12;
/// Letters that fit a line of a box; the whole text is in its title.
const MODEL_LETTERS: usize = 66;
const INPUT_LETTERS: usize = 40;
/// So many files of one sort are drawn.
const MAX_DRAWN: usize = 8;

/// One box.
struct TreeBox {
    lines: Vec<String>,
    colour: &'static str,
}

/// A model with what went into it.
struct Generation {
    model: TreeBox,
    inputs: Vec<TreeBox>,
}

/// The tree as a picture.
pub fn picture(family: &Ancestry) -> String {
    let mut generations = Vec::new();
    collect(family, None, &mut generations);
    let mut body = String::new();
    let mut top = GAP;
    let mut above: Option<usize> = None;
    for generation in generations.iter().rev() {
        top = draw(generation, top, above, &mut body);
        above = Some(top);
        top += GAP;
    }
    let name = escaped(&family.directory.display().to_string());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n<title>Where {name} comes \
         from</title>\n<rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// This model, then those it was made from.
fn collect(family: &Ancestry, found: Option<&Parent>, list: &mut Vec<Generation>) {
    let mut lines = vec![family.directory.display().to_string()];
    lines.push(format!("{}; signature {}", family.method, family.signature));
    lines.push(format!("statement sha256 {}", &family.statement.to_string()[..32]));
    if let [_, Some(finished)] = &family.time {
        lines.push(format!("finished {finished}"));
    }
    let device: Vec<_> = family.device.values().filter_map(|value| value.as_str()).collect();
    if !device.is_empty() {
        lines.push(format!("on {}", device.join(", ")));
    }
    for (name, value) in family.metrics.iter().filter(|(name, _)| !name.contains('/')) {
        lines.push(format!("{name} {}", value.as_f64().map_or(value.to_string(), short)));
    }
    let changed = found.is_some_and(|parent| parent.problem.is_some());
    let colour = if changed { BAD } else { colour(family.signature) };
    let mut inputs = Vec::new();
    for items in [&family.datasets, &family.config, &family.source, &family.text] {
        input(items, &mut inputs);
    }
    list.push(Generation { model: TreeBox { lines, colour }, inputs });
    match &family.parent {
        Some(parent) => match &parent.family {
            Some(own) => collect(own, Some(parent), list),
            None => list.push(Generation { model: lost(parent), inputs: Vec::new() }),
        },
        None => {
            let mut lines = vec![family.base.id.clone()];
            lines.extend(family.base.revision.as_ref().map(|commit| format!("commit {commit}")));
            let files = &family.base.files;
            lines.extend(files.iter().take(MAX_DRAWN).map(ToString::to_string));
            if files.len() > MAX_DRAWN {
                lines.push(format!("and {} more files", files.len() - MAX_DRAWN));
            }
            list.push(Generation { model: TreeBox { lines, colour: NEUTRAL }, inputs: Vec::new() });
        }
    }
}

fn input(items: &[Item], inputs: &mut Vec<TreeBox>) {
    for item in items.iter().take(MAX_DRAWN) {
        let whole = item.to_string();
        let rest = whole.strip_prefix(&format!("{}, ", item.name)).unwrap_or(&whole);
        let lines = vec![format!("{}: {}", item.role, item.name), rest.to_owned()];
        inputs.push(TreeBox { lines, colour: NEUTRAL });
    }
    if items.len() > MAX_DRAWN {
        let lines = vec![format!("and {} more", items.len() - MAX_DRAWN)];
        inputs.push(TreeBox { lines, colour: NEUTRAL });
    }
}

/// A parent that is recorded and cannot be shown.
fn lost(parent: &Parent) -> TreeBox {
    let found = match parent.found {
        ParentState::Same => "found, but damaged",
        ParentState::Other => "NOT the one that was recorded",
        ParentState::Missing => "not found",
        ParentState::NotFollowed => "not followed",
    };
    let mut lines = vec![format!("{}: {found}", parent.name)];
    lines.push(format!("recorded: statement sha256 {}", parent.statement));
    lines.extend(parent.problem.clone());
    let sound = matches!(parent.found, ParentState::Missing | ParentState::NotFollowed);
    TreeBox { lines, colour: if sound { OPEN } else { BAD } }
}

const GOOD: &str = "#1a7f37";
const OPEN: &str = "#9a6700";
const BAD: &str = "#cf222e";
const NEUTRAL: &str = "#57606a";

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => GOOD,
        Verdict::UnsignedFiles
        | Verdict::Untrusted
        | Verdict::Unsigned
        | Verdict::CouldNotCheck => OPEN,
        Verdict::Tampered => BAD,
    }
}

fn short(number: f64) -> String {
    let digits = if number.fract() == 0.0 { 0 } else { 4 };
    format!("{number:.digits$}")
}

/// Draws a generation below `top`; returns where it ends. `above` is where the one before ended.
fn draw(generation: &Generation, top: usize, above: Option<usize>, out: &mut String) -> usize {
    let mut below = top;
    let mut middles = Vec::new();
    for block in &generation.inputs {
        let height = height(block);
        write_block(block, [INPUT[0], below], [INPUT[1], height], INPUT_LETTERS, out);
        middles.push(below + height / 2);
        below += height + PADDING;
    }
    let inputs = below.saturating_sub(top + PADDING);
    let height = height(&generation.model);
    let begin = top + inputs.saturating_sub(height) / 2;
    write_block(&generation.model, [MODEL[0], begin], [MODEL[1], height], MODEL_LETTERS, out);
    for from in middles {
        arrow([INPUT[0] + INPUT[1], from], [MODEL[0], begin + height / 2], out);
    }
    if let Some(above) = above {
        let x = MODEL[0] + MODEL[1] / 2;
        arrow([x, above], [x, begin], out);
    }
    // The arrow to the next one begins under the model, whatever stands beside it.
    let end = begin + height;
    let lowest = end.max(top + inputs);
    if lowest > end {
        let x = MODEL[0] + MODEL[1] / 2;
        line([x, end], [x, lowest], out);
    }
    lowest
}

fn height(block: &TreeBox) -> usize {
    block.lines.len() * LINE + PADDING
}

fn write_block(
    block: &TreeBox,
    [x, y]: [usize; 2],
    [width, height]: [usize; 2],
    letters: usize,
    out: &mut String,
) {
    let whole = escaped(&block.lines.join("; "));
    let colour = block.colour;
    let written = write!(
        out,
        "<g><title>{whole}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
         rx=\"6\" fill=\"#f6f8fa\" stroke=\"{colour}\" stroke-width=\"2\"/>"
    );
    written.expect("writing into a string");
    for (number, text) in block.lines.iter().enumerate() {
        let below = y + PADDING / 2 + LINE * (number + 1) - 5;
        let left = x + PADDING;
        let weight = if number == 0 { " font-weight=\"bold\"" } else { "" };
        let text = escaped(&cut(text, letters));
        let written = write!(out, "<text x=\"{left}\" y=\"{below}\"{weight}>{text}</text>");
        written.expect("writing into a string");
    }
    out.push_str("</g>\n");
}

fn line([x1, y1]: [usize; 2], [x2, y2]: [usize; 2], out: &mut String) {
    let written = writeln!(
        out,
        "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{NEUTRAL}\"/>"
    );
    written.expect("writing into a string");
}

/// A line that ends in a small circle: heads of arrows would have to be turned.
fn arrow(from: [usize; 2], to: [usize; 2], out: &mut String) {
    line(from, to, out);
    let [x, y] = to;
    let written = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{NEUTRAL}\"/>");
    written.expect("writing into a string");
}

fn cut(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text that stays text: no marks of XML, no control characters, and none that turn a line around.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            // Not allowed in XML at all.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_on_its_line() {
        assert_eq!(
            escaped("<script>alert(\"a\" & 'b')</script>"),
            "&lt;script&gt;alert(&quot;a&quot; &amp; &#39;b&#39;)&lt;/script&gt;"
        );
        assert_eq!(escaped("a\u{1b}[2J\nb\u{202e}c\u{ffff}"), "a\\u{1b}[2J b\\u{202e}c\\u{ffff}");
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!((short(2112.0), short(1.32393)), ("2112".to_owned(), "1.3239".to_owned()));
    }
}
