//! Documents that go on in several ways.

use std::ops::Range;

/// One of several ways in which a document goes on after its beginning. It sees that beginning and
/// itself, and none of the other branches that lie between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Number of the document.
    pub document: usize,
    /// Its places in the document.
    pub places: Range<usize>,
    /// Places before it that it does not see.
    pub hidden: Range<usize>,
}
