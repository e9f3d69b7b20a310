//! Sentences with gaps: how a fact is stated, taken up again, asked for and answered.
//!
//! A gap is `{key}`; `{Key}` begins with a capital, `{a key}` is preceded by "a" or "an".

pub mod everyday;
pub mod nature;
pub mod people;
pub mod stories;
pub mod world;

/// All the ways in which one kind of fact is put into words.
pub struct Topic {
    pub name: &'static str,
    /// Sentences that stand alone.
    pub state: &'static [&'static str],
    /// Sentences that go on about a subject already named; empty where there is none.
    pub follow: &'static [&'static str],
    pub ask: &'static [&'static str],
    /// Whole sentences; the first is the one that the chat data set teaches.
    pub answer: &'static [&'static str],
}
