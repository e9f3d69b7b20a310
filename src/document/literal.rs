//! Values of other documents: kept as TOML with their places, and checked where they are put.

use super::place::join;
use super::quoted::quoted;
use super::tree::{Node, Table, Tree, Word};
use super::value::Literal;

/// A value as it goes into another document.
pub(super) fn literal(node: &Node) -> Literal {
    Literal { toml: toml_of(node), origin: node.origin }
}

/// The settings of a table by dotted path: `a = { b = 1 }` and `"a.b" = 1` are the same.
pub(super) fn settings(table: &Table) -> Vec<(String, Literal)> {
    let mut found = Vec::new();
    collect(table, "", &mut found);
    found
}

fn collect(table: &Table, prefix: &str, found: &mut Vec<(String, Literal)>) {
    for (word, node) in table {
        let path = join(prefix, word.text.trim());
        match &node.tree {
            Tree::Table(inner) if !inner.is_empty() => collect(inner, &path, found),
            _ => found.push((path, literal(node))),
        }
    }
}

fn toml_of(node: &Node) -> String {
    match &node.tree {
        Tree::Text(text) => quoted(text),
        Tree::Integer(Some(integer), _) => integer.to_string(),
        Tree::Integer(None, text) | Tree::Float(_, text) | Tree::Date(text) => text.clone(),
        Tree::Boolean(boolean) => boolean.to_string(),
        Tree::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_of).collect();
            format!("[{}]", items.join(", "))
        }
        Tree::Table(table) => {
            let entry =
                |(word, node): &(Word, Node)| format!("{} = {}", quoted(&word.text), toml_of(node));
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}
