//! One file from the hub into a partial file, through every fault on the way, and the proof that
//! it is the file that was listed.

use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read};
use std::path::Path;

use super::file::{Digests, RemoteFile};
use super::header_text::header;
use super::http::{Answer, Client, read_within};
use super::refusal::{Asked, stopped};
use super::retry::{Failure, Tries};
use super::settings::Timing;
use super::transfer::{Broken, Pace, Sink, hashed};
use super::url::Url;
use crate::error::{Context, Error, Result};
use crate::event::bytes;
use crate::files::folder_of;

/// Enough of a body to see what it begins with.
const SNIFFED_BYTES: u64 = 512;

/// A file that is being fetched.
pub(super) struct Download<'a> {
    pub client: &'a Client,
    pub timing: &'a Timing,
    pub asked: Asked<'a>,
    pub file: &'a RemoteFile,
    /// Its address on the hub, by commit.
    pub url: Url,
    /// Where bytes are kept until all are there.
    pub partial: &'a Path,
    pub progress: &'a (dyn Fn(u64) + Sync),
    pub stop: &'a (dyn Fn() -> bool + Sync),
    pub notice: &'a (dyn Fn(String) + Sync),
}

impl Download<'_> {
    /// Fetches what is missing. The partial file is then whole, checked and on the disk; its name
    /// among the blobs comes back with its digests.
    pub fn run(&self) -> Result<(String, Digests)> {
        let mut chances = 2;
        loop {
            let partial = self.open()?;
            let kept = self.kept(&partial)?;
            self.check_space(kept)?;
            (self.progress)(kept);
            let fill = |sink: &mut Sink| self.fill(sink);
            let digests = hashed(&partial, kept, self.file, self.progress, self.stop, fill)?;
            if (self.stop)() {
                return Err(stopped());
            }
            let digests = digests.context_at("cannot read what has come so far", self.partial)?;
            if let Some(name) = self.file.accepts(&digests) {
                partial.sync_all().map_err(|error| {
                    // What the system could not write it may have forgotten.
                    let _ = std::fs::remove_file(self.partial);
                    self.disk_error(&error)
                })?;
                return Ok((name, digests));
            }
            // What an earlier process left may be to blame: then this was no try yet.
            chances -= u32::from(kept == 0);
            drop(partial);
            std::fs::remove_file(self.partial)
                .context_at("cannot remove the damaged download", self.partial)?;
            if chances == 0 {
                return Err(self.wrong_bytes(&digests));
            }
            (self.notice)(format!(
                "`{}` came damaged and is fetched again: its digest is not that in the hub's list",
                self.file.path
            ));
        }
    }

    fn open(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let follow_no_link = rustix::fs::OFlags::NOFOLLOW.bits();
            options.custom_flags(i32::try_from(follow_no_link).unwrap_or(0));
        }
        options.open(self.partial).context_at("cannot write into the cache", self.partial)
    }

    /// Bytes of an earlier try; more than the file has cannot be its beginning.
    fn kept(&self, partial: &File) -> Result<u64> {
        let length = partial.metadata().map(|found| found.len());
        let length = length.context_at("cannot look at the download", self.partial)?;
        if length <= self.file.size {
            return Ok(length);
        }
        partial.set_len(0).context_at("cannot write into the cache", self.partial)?;
        Ok(0)
    }

    /// Asks until the file has its size.
    fn fill(&self, sink: &mut Sink) -> Result<()> {
        let mut tries = Tries::new(self.timing, self.stop, self.notice);
        let mut ranges = true;
        while sink.position() < self.file.size {
            let before = sink.position();
            let mut slow = false;
            let failure = match self.attempt(sink, &mut ranges) {
                Ok(()) => {
                    let had = sink.position();
                    Failure::again(format!("{} ended after {had} bytes", self.url.shown()))
                }
                Err(Trouble::Disk(error)) => return Err(self.disk_error(&error)),
                Err(Trouble::Stopped) => return Err(stopped()),
                Err(Trouble::Failed(failure)) => failure,
                Err(Trouble::Slow(failure)) => {
                    slow = true;
                    failure
                }
            };
            // A byte a try would come to no end, either.
            if !slow && sink.position() - before >= self.timing.least() {
                tries.progress();
            }
            if sink.position() < self.file.size {
                let had = format!(
                    "{} of {} were received and are kept",
                    bytes(sink.position()),
                    bytes(self.file.size)
                );
                let had = (sink.position() > 0).then_some(had);
                tries.wait(failure).map_err(|end| self.asked.error(end, had))?;
            }
        }
        Ok(())
    }

    /// One request, and its body as far as it comes. Each begins at the hub, so that an address
    /// that expired is replaced.
    fn attempt(&self, sink: &mut Sink, ranges: &mut bool) -> Result<(), Trouble> {
        let at = sink.position();
        let from = Some(at).filter(|at| *at > 0 && *ranges);
        let answer = self.client.get(&self.url, from).inspect_err(|failure| {
            // 416: whoever answered does not know as many bytes. Then all of them, and skip.
            *ranges &= failure.status != Some(416);
        })?;
        self.check_commit(&answer)?;
        let wanted = format!("`{}`", self.file.path);
        let is_page = [".html", ".htm", ".xhtml"].iter().any(|end| self.file.path.ends_with(end));
        if answer.is_web_page() && !is_page {
            return Err(answer.web_page_instead_of(&wanted).into());
        }
        let begins_at = if answer.status == 206 { at } else { 0 };
        if answer.status == 206 && !self.is_wanted_range(&answer, at) {
            *ranges = false;
            let range = header(&answer.headers, "content-range").unwrap_or("none");
            let url = answer.url.shown();
            return Err(Failure::again(format!("{url} answered the wrong range, `{range}`")).into());
        }
        let rest = self.file.size - begins_at;
        let declared = answer.body.content_length();
        // A part may be cut short, by a proxy for one; the whole may not.
        let fits =
            declared.is_none_or(
                |length| {
                    if answer.status == 206 { length <= rest } else { length == rest }
                },
            );
        let shown = answer.url.shown().to_owned();
        let (status, page) = (answer.status, answer.web_page_instead_of(&wanted));
        let mut body = answer.body.into_reader();
        let mut start = Vec::new();
        if !fits || declared.is_none() {
            let mut head = body.by_ref().take(SNIFFED_BYTES);
            let sniffed = read_within(&mut head, &mut start, self.timing.answer);
            if status == 200 && !is_page && looks_like_web_page(&start) {
                return Err(page.into());
            }
            if !fits {
                let length = declared.unwrap_or_default();
                let cause = format!("{shown} offers {length} bytes where {rest} are missing");
                return Err(Failure::again(cause).into());
            }
            // What came before the line broke is as good as any.
            let _ = sniffed;
        }
        let mut body = Cursor::new(start).chain(body);
        let mut pace = Pace::new(self.timing);
        sink.take(&mut body, at - begins_at, self.file.size, &mut pace, self.stop).map_err(
            |broken| match broken {
                Broken::Slow(speed) => {
                    let limit = self.timing.slowest;
                    Trouble::Slow(Failure::again(format!(
                        "{shown} sent {speed:.0} bytes a second for {:.0} s, and at least {limit} \
                         are expected",
                        self.timing.slow.as_secs_f64().ceil(),
                    )))
                }
                Broken::Network(error) => {
                    Trouble::Failed(Failure::again(format!("{shown} broke off: {error}")))
                }
                Broken::Disk(error) => Trouble::Disk(error),
                Broken::Stopped => Trouble::Stopped,
            },
        )
    }

    fn check_commit(&self, answer: &Answer) -> Result<(), Failure> {
        match &answer.commit {
            Some(commit) if commit != self.asked.revision => Err(Failure::for_good(format!(
                "{} answers for the commit {commit}, not for {}",
                self.url.shown(),
                self.asked.revision
            ))),
            _ => Ok(()),
        }
    }

    /// `bytes AT-END/SIZE`; the size may be `*`.
    fn is_wanted_range(&self, answer: &Answer, at: u64) -> bool {
        let range = header(&answer.headers, "content-range");
        let Some((part, size)) =
            range.and_then(|text| text.trim().strip_prefix("bytes ")?.split_once('/'))
        else {
            return false;
        };
        let begins = part.split_once('-').and_then(|(begin, _)| begin.trim().parse().ok());
        begins == Some(at) && (size == "*" || size.parse() == Ok(self.file.size))
    }

    /// Better told before than after an hour.
    #[cfg(unix)]
    fn check_space(&self, kept: u64) -> Result<()> {
        let folder = folder_of(self.partial);
        let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = self.file.size - kept;
        if needed <= free {
            return Ok(());
        }
        Err(Error::disk_full(format!(
            "there is not enough room on the disk for `{}`",
            self.file.path
        ))
        .at(folder)
        .because(format!("{} are missing and {} are free", bytes(needed), bytes(free)))
        .hint("free some, or name a folder on another disk in `HF_HUB_CACHE`"))
    }

    #[cfg(not(unix))]
    fn check_space(&self, _kept: u64) -> Result<()> {
        Ok(())
    }

    /// A full disk stops more than this download, so its part is given up.
    fn disk_error(&self, error: &io::Error) -> Error {
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let told = Error::file(format!("cannot write `{}` into the cache", self.file.path))
            .at(self.partial)
            .because(error);
        if !full {
            return told;
        }
        let _ = std::fs::remove_file(self.partial); // freeing the room is all it is for
        told.because("the partial file was removed, so that the disk has room again")
            .hint("free some, or name a folder on another disk in `HF_HUB_CACHE`")
    }

    fn wrong_bytes(&self, digests: &Digests) -> Error {
        let Asked { repo, .. } = self.asked;
        let expected = match self.file.sha256 {
            Some(sha256) => format!("SHA-256 {sha256}"),
            None => format!("git's id {}", self.file.oid),
        };
        Error::hub(format!("`{}` of the {} `{repo}` arrives damaged", self.file.path, repo.kind()))
            .because(format!(
                "the hub's list says {expected}; {} twice sent other bytes, the last time with \
                 SHA-256 {}",
                self.url.shown(),
                digests.sha256
            ))
            .hint("nothing was stored. Try again later; if it stays, tell the operators of the hub")
    }
}

/// Why an attempt did not bring everything.
enum Trouble {
    Failed(Failure),
    /// It came too slowly to be a try that brought something.
    Slow(Failure),
    Disk(io::Error),
    Stopped,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Does a body begin as web pages do?
fn looks_like_web_page(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_seen_by_its_beginning() {
        for page in ["<html>log in</html>", "\n <!DOCTYPE HTML><p>", "<!doctype html>"] {
            assert!(looks_like_web_page(page.as_bytes()), "{page}");
        }
        for other in ["{}", "", "PAR1", "# <html>"] {
            assert!(!looks_like_web_page(other.as_bytes()), "{other}");
        }
    }
}
