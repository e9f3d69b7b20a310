//! What is asked of a store: requests by kind, and bytes, as they go over the network.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::bytes;

/// Counted while a store is used.
#[derive(Debug, Default)]
pub struct Traffic {
    reads: AtomicU64,
    lists: AtomicU64,
    writes: AtomicU64,
    deletes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Counts of one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TrafficCount {
    /// Objects, or parts of them, that were read.
    pub reads: u64,
    /// Pages of lists.
    pub lists: u64,
    /// Objects, or parts of them, that were written.
    pub writes: u64,
    /// Objects that were removed.
    pub deletes: u64,
    /// Bytes of bodies that were sent.
    pub sent: u64,
    /// Bytes of bodies that were received.
    pub received: u64,
}

impl Traffic {
    /// Another request, whatever its answer.
    pub(super) fn request(&self, method: &str, query: Option<&str>, sent: usize) {
        let lists = query.is_some_and(|query| query.contains("list-type="));
        let counter = match method {
            "GET" if lists => &self.lists,
            "GET" | "HEAD" => &self.reads,
            "DELETE" => &self.deletes,
            "POST" if query == Some("delete") => &self.deletes,
            _ => &self.writes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }

    /// The body of its answer.
    pub(super) fn answer(&self, received: usize) {
        self.received.fetch_add(received as u64, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn count(&self) -> TrafficCount {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TrafficCount {
            reads: of(&self.reads),
            lists: of(&self.lists),
            writes: of(&self.writes),
            deletes: of(&self.deletes),
            sent: of(&self.sent),
            received: of(&self.received),
        }
    }
}

impl TrafficCount {
    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.reads + self.lists + self.writes + self.deletes
    }
}

impl fmt::Display for TrafficCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, lists, writes, deletes, sent, received } = self;
        let (sent, received) = (bytes(*sent), bytes(*received));
        write!(f, "{} requests ({reads} reads, {lists} lists, ", self.requests())?;
        write!(f, "{writes} writes, {deletes} deletes), {sent} sent, {received} received")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_do() {
        let traffic = Traffic::default();
        traffic.request("GET", Some("list-type=2&prefix=a"), 0);
        traffic.request("GET", None, 0);
        traffic.request("HEAD", None, 0);
        traffic.request("PUT", None, 2000);
        traffic.request("POST", Some("uploads"), 0);
        traffic.request("DELETE", None, 0);
        traffic.request("POST", Some("delete"), 0);
        traffic.answer(10);
        let shown = traffic.count().to_string();
        let said = "7 requests (2 reads, 1 lists, 2 writes, 2 deletes), 2.0 kB sent, 10 B received";
        assert_eq!(shown, said);
    }
}
