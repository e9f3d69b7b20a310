//! Where in conversations of an outline other words can be put.

use super::outline::Outline;
use crate::data::formats::REASONING;
use crate::data::template::Shape;

/// A place where a text is put, as [`Turns::probes`] does with what is rendered.
///
/// [`Turns::probes`]: crate::data::template::Turns
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The text or value in this hole.
    Hole(usize),
    /// Something without a hole: that would be a conversation of another outline.
    Elsewhere,
}

/// The places in a message.
#[derive(Debug)]
pub struct MessageLayout {
    /// Its content.
    pub content: Target,
    /// All that is tried, in this order.
    pub probes: Vec<Target>,
}

/// The places in all messages; `None` if it is no outline.
pub fn layouts(outline: &str) -> Option<Vec<MessageLayout>> {
    Some(Outline::read(outline)?.messages.iter().map(layout).collect())
}

fn layout(message: &Shape) -> MessageLayout {
    let given = field(message, "content");
    let content = match given {
        Some(Shape::List(parts)) => {
            parts.iter().find_map(|part| field(part, "text")).map_or(Target::Elsewhere, target)
        }
        Some(shape) => target(shape),
        None => Target::Elsewhere,
    };
    let has_content = match given {
        Some(Shape::Text(_)) => true,
        Some(Shape::List(parts)) => !parts.is_empty(),
        _ => false,
    };
    let mut probes: Vec<Target> = has_content.then_some(content).into_iter().collect();
    match field(message, "tool_calls") {
        Some(Shape::List(calls)) => {
            let function = calls.first().map(|call| field(call, "function").unwrap_or(call));
            let arguments = function.and_then(|function| field(function, "arguments"));
            probes.extend(arguments.map(target));
            probes.extend(function.map(|it| field(it, "name").map_or(Target::Elsewhere, target)));
        }
        Some(_) => probes.push(Target::Elsewhere),
        None => {}
    }
    for name in [REASONING[0], REASONING[1], REASONING[2]] {
        if let Some(shape @ (Shape::Text(_) | Shape::Known(_))) = field(message, name) {
            probes.push(target(shape));
        }
    }
    probes.extend((!has_content).then_some(content));
    MessageLayout { content, probes }
}

/// A field that is there and not null.
fn field<'s>(of: &'s Shape, name: &str) -> Option<&'s Shape> {
    let Shape::Object(fields) = of else { return None };
    let found = fields.iter().find(|(key, _)| key == name).map(|(_, shape)| shape);
    found.filter(|shape| !matches!(shape, Shape::Null))
}

fn target(shape: &Shape) -> Target {
    match shape {
        Shape::Text(hole) | Shape::Opaque(hole) => Target::Hole(*hole),
        _ => Target::Elsewhere,
    }
}
