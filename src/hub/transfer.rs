//! Bytes on their way from the network to a partial file, and past a second thread that hashes
//! them: SHA-256 takes about as long as the fastest networks, so it must not stand in between.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::file::{Digester, Digests, RemoteFile};
use super::http::BUFFER_BYTES;
use super::settings::Timing;

/// Buffers on their way: 8 MiB at most.
const BUFFERS: usize = 8;

/// On a slow line, what has come is written down this often: a killed process loses no more.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// What takes the bytes of one file.
pub(super) struct Sink<'a> {
    file: &'a File,
    written: u64,
    buffer: Vec<u8>,
    filled: usize,
    last_write: Instant,
    made: usize,
    to_hash: SyncSender<Vec<u8>>,
    hashed: Receiver<Vec<u8>>,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// Why a body was not read to its end.
pub(super) enum Broken {
    /// The line.
    Network(io::Error),
    /// The line, which brings so few bytes a second.
    Slow(f64),
    /// The disk.
    Disk(io::Error),
    /// The user wants to stop.
    Stopped,
}

/// How fast a body comes: a line that is never silent may still bring next to nothing.
pub(super) struct Pace<'a> {
    timing: &'a Timing,
    /// For bytes, since it was looked at the speed last.
    waited: Duration,
    came: u64,
}

impl<'a> Pace<'a> {
    pub fn new(timing: &'a Timing) -> Self {
        Self { timing, waited: Duration::ZERO, came: 0 }
    }

    /// Counts bytes; an error once those of a while were too few. Time in which nobody asked for
    /// bytes (a slow disk) is no fault of the line.
    fn count(&mut self, bytes: usize, waited: Duration) -> Result<(), Broken> {
        self.came += bytes as u64;
        self.waited += waited;
        if self.waited < self.timing.slow {
            return Ok(());
        }
        let seconds = self.waited.as_secs_f64();
        #[expect(clippy::cast_precision_loss)] // a number of bytes
        let speed = self.came as f64 / seconds;
        *self = Self::new(self.timing);
        if speed < f64::from(self.timing.slowest) { Err(Broken::Slow(speed)) } else { Ok(()) }
    }
}

/// Lets `fill` fill a partial file that already has `kept` bytes, and hashes all of it beside.
/// The digests are those of the whole file if `fill` came to its end.
pub(super) fn hashed<E>(
    partial: &File,
    kept: u64,
    file: &RemoteFile,
    progress: &(dyn Fn(u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
    fill: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<io::Result<Digests>, E> {
    let (to_hash, taken) = sync_channel(BUFFERS);
    let (give_back, hashed) = sync_channel(BUFFERS);
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hashing = scope.spawn(|| {
            let begin = |digester: &mut Digester| {
                hash_kept(partial, kept, digester, &|| given_up.load(Ordering::Relaxed) || stop())
            };
            hash(file, begin, taken, give_back)
        });
        let mut sink = Sink {
            file: partial,
            written: kept,
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
            last_write: Instant::now(),
            made: 1,
            to_hash,
            hashed,
            progress,
        };
        let result = fill(&mut sink);
        given_up.store(result.is_err(), Ordering::Relaxed);
        drop(sink); // nothing more will come
        let digests = hashing.join().expect("the hashing thread does not panic");
        result.map(|()| digests)
    })
}

/// The second thread.
fn hash(
    file: &RemoteFile,
    begin: impl FnOnce(&mut Digester) -> io::Result<()>,
    taken: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
) -> io::Result<Digests> {
    let mut digester = Digester::new(file);
    begin(&mut digester)?;
    for bytes in taken {
        digester.update(&bytes);
        let _ = give_back.try_send(bytes); // at the end nobody wants it
    }
    Ok(digester.finish())
}

/// Hashes what an earlier try left.
fn hash_kept(
    mut partial: &File,
    kept: u64,
    digester: &mut Digester,
    given_up: &dyn Fn() -> bool,
) -> io::Result<()> {
    if kept == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while at < kept {
        if given_up() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = BUFFER_BYTES.min(usize::try_from(kept - at).unwrap_or(BUFFER_BYTES));
        let count = read_at(&mut partial, &mut buffer[..most], at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        digester.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(())
}

#[cfg(unix)]
fn read_at(file: &mut &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(*file, buffer, at)
}

#[cfg(not(unix))]
fn read_at(file: &mut &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(*file, buffer, at)
}

impl Sink<'_> {
    /// Bytes of the file that have come.
    pub fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Takes bytes from `source`, after `skip` that are already there, until the file has `size`
    /// or the source ends. Whatever came is in the file afterwards, also after an error.
    pub fn take(
        &mut self,
        source: &mut dyn Read,
        skip: u64,
        size: u64,
        pace: &mut Pace,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Broken> {
        let taken = self.take_some(source, skip, size, pace, stop);
        let written = self.hand_over();
        taken.and(written)
    }

    fn take_some(
        &mut self,
        source: &mut dyn Read,
        mut skip: u64,
        size: u64,
        pace: &mut Pace,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Broken> {
        while skip > 0 || self.position() < size {
            if stop() {
                return Err(Broken::Stopped);
            }
            let wanted = if skip > 0 { skip } else { size - self.position() };
            let free = self.buffer.len() - self.filled;
            let most = free.min(usize::try_from(wanted).unwrap_or(free));
            let into = &mut self.buffer[self.filled..self.filled + most];
            let asked = Instant::now();
            let count = match source.read(into) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Network(error)),
            };
            if count == 0 {
                return Ok(());
            }
            let fast_enough = pace.count(count, asked.elapsed());
            if skip > 0 {
                skip -= count as u64;
                fast_enough?;
                continue;
            }
            self.filled += count;
            fast_enough?;
            if self.filled == self.buffer.len() || self.last_write.elapsed() >= WRITE_EVERY {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    /// Writes the buffer down, passes it on to be hashed, and takes a free one.
    fn hand_over(&mut self) -> Result<(), Broken> {
        if self.filled == 0 {
            return Ok(());
        }
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.written)).map_err(Broken::Disk)?;
        file.write_all(&self.buffer[..self.filled]).map_err(Broken::Disk)?;
        let mut next = match self.hashed.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if self.made < BUFFERS => {
                self.made += 1;
                Vec::new()
            }
            // The thread that hashes ends only after this one, or with an error of the disk.
            Err(_) => self.hashed.recv().map_err(|_| {
                Broken::Disk(io::Error::other("the part that was kept cannot be read"))
            })?,
        };
        next.resize(BUFFER_BYTES, 0);
        let mut full = std::mem::replace(&mut self.buffer, next);
        full.truncate(self.filled);
        self.written += self.filled as u64;
        self.filled = 0;
        self.last_write = Instant::now();
        (self.progress)(self.written);
        let _ = self.to_hash.send(full); // as above: its error is told when it is joined
        Ok(())
    }
}
