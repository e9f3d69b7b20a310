//! Settings of other tools that have no key here, and what takes their place.
//!
//! Names that do have a counterpart stand with their key in the table.

use super::KeyTable;

/// What takes the place of another tool's setting.
pub(crate) fn note(known: &KeyTable, name: &str) -> Option<String> {
    let (tool, name, says) = known.notes().find(|(_, theirs, _)| *theirs == name)?;
    Some(format!("`{name}` is {} and has no key here: {says}", possessive(tool)))
}

/// Whether another tool has this key in a section of this name.
pub(super) fn in_section(known: &KeyTable, section: &str, name: &str) -> bool {
    let path = || section.chars().chain(['.']).chain(name.chars());
    known.keys().flat_map(|key| key.names).any(|(_, foreign)| path().eq(foreign.chars()))
}

/// "axolotl's".
pub(super) fn possessive(tool: &str) -> String {
    if tool.ends_with('s') { format!("{tool}'") } else { format!("{tool}'s") }
}
