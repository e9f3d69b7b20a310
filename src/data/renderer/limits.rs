//! What the process that renders may take: memory for what it is given, and time.
//!
//! The system keeps these limits, since the template engine cannot: a string that doubles, a list
//! of lists, a filter that pads to any width. Where the system has no such limits (Windows; memory
//! on macOS), the patience of the program that waits is what remains.

use std::time::Duration;

use crate::data::formats::Conversation;

/// The stack of the thread that renders, in bytes. A list of 100,000 lists in each other needs 20
/// MB to be let go of.
pub const STACK: usize = 64 << 20;
/// Address space beyond what the process has when it starts, in bytes: a rendering of a common
/// conversation takes less than one MiB.
pub const MEMORY: u64 = 256 << 20;
/// And so many bytes for each byte of what it is given. An empty list takes two bytes in JSON, and
/// some hundred here.
pub const MEMORY_FACTOR: u64 = 64;
/// Processor time in seconds for a request; a common conversation takes a ten-thousandth of one.
/// A machine whose host is short of memory was seen to take two to hand out what is allowed.
const SECONDS: u64 = 6;
/// A MiB of text takes much less than a second.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// And for each turn, in milliseconds.
const TURN: u64 = 10;
/// Where a template cannot be watched, the time grows with the square of the number of turns: a
/// hundred take less than a second. A millisecond for so many pairs of them.
const TURNS_SQUARED: u64 = 10;
/// Other programs may want the processor too: how many times as long the program waits.
const PATIENCE: u64 = 10;

/// The processor time in milliseconds that a rendering may take beyond what any may.
pub fn time(conversation: &Conversation) -> u64 {
    let turns = conversation.messages.len() as u64;
    turns.saturating_mul(TURN).saturating_add(turns.saturating_mul(turns) / TURNS_SQUARED)
}

/// The processor time in seconds for a request of so many bytes, and so many milliseconds more.
pub fn seconds(bytes: u64, more: u64) -> u64 {
    SECONDS.saturating_add(bytes / BYTES_PER_SECOND).saturating_add(more / 1000)
}

/// How long the program waits for an answer to a request of so many bytes, and so many milliseconds
/// more.
pub fn patience(bytes: u64, more: u64) -> Duration {
    Duration::from_secs(60 + seconds(bytes, more).saturating_mul(PATIENCE))
}

/// How much address space a request of so many bytes may need, in bytes.
pub fn memory(bytes: u64) -> u64 {
    bytes.saturating_mul(MEMORY_FACTOR).saturating_add(MEMORY)
}

#[cfg(unix)]
mod system {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// The unit of processor times in `/proc`, which is the same on every Linux.
    const TICKS_PER_SECOND: u64 = 100;

    /// The limits of this process.
    pub struct ChildLimits {
        /// The address space that it had when it started, in bytes; `None` where that is not told.
        start: Option<u64>,
    }

    impl ChildLimits {
        /// Of this process, as large as it is now.
        pub fn new() -> Self {
            set(Resource::Core, 0);
            Self { start: address_space() }
        }

        /// So much more address space than at the start.
        pub fn memory(&self, bytes: u64) {
            if let Some(start) = self.start {
                set(Resource::As, start.saturating_add(bytes));
            }
        }

        /// So many seconds of processor time from now on.
        pub fn time(seconds: u64) {
            if let Some(ticks) = processor_time() {
                let used = ticks.div_ceil(TICKS_PER_SECOND);
                set(Resource::Cpu, used.saturating_add(seconds));
            }
        }
    }

    /// Where a limit cannot be set, the patience of the program remains. The hard limit stays, so
    /// that the next request may get more.
    fn set(resource: Resource, most: u64) {
        let maximum = getrlimit(resource).maximum;
        let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }

    fn address_space() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// What was used so far, in ticks: the fields 14 and 15, of the user and of the system.
    fn processor_time() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name in brackets, which may hold spaces.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        fields.next()?.ok()?.checked_add(fields.next()?.ok()?)
    }
}

#[cfg(not(unix))]
mod system {
    /// The limits of this process: this system has none.
    pub struct ChildLimits;

    impl ChildLimits {
        /// Of this process.
        pub fn new() -> Self {
            Self
        }

        /// Not kept here.
        pub fn memory(&self, _bytes: u64) {}

        /// Not kept here.
        pub fn time(_seconds: u64) {}
    }
}

pub use system::ChildLimits;
