//! Where a template writes: no further than to a limit.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::MAX_RENDERED;

/// Output that cannot grow without bound.
#[derive(Default)]
pub struct Bounded {
    /// What was written.
    pub bytes: Vec<u8>,
    /// How many bytes that are, for those who watch.
    pub written: Arc<AtomicUsize>,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_RENDERED {
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(bytes);
        self.written.store(self.bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
