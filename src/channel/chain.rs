//! The folder of a channel: one file per pointer, never rewritten, each naming the bytes of the
//! one before, so that the newest vouches for all.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::leftovers::{SCRATCH, Writing};
use super::pointer::{PAYLOAD_TYPE, Pointer, Previous, SERIAL_MAX, check_name};
use crate::artifact::envelope::{Bundle, Defect};
use crate::artifact::keys::SigningKey;
use crate::error::{Context, Error, ErrorCode as Code, Result};
use crate::files::{Digest, open_unlinked, remove_file, rename_new, sync_dir, write_synced};
use crate::verify::{self, Role, Seen, Trust, who_signed};

/// The folder of all channels in a registry.
const FOLDER: &str = "channels";
/// A pointer with a thousand numbers has less.
const BYTES_MAX: u64 = 256 << 10;
/// All pointers of a channel together: a hundred thousand.
const ALL_BYTES_MAX: u64 = 256 << 20;

/// A channel of a registry.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The registry's folder.
    pub registry: PathBuf,
    /// The channel's name.
    pub name: String,
}

/// A pointer as it lies there.
#[derive(Debug, Clone)]
pub struct ChannelEntry {
    /// What it says.
    pub pointer: Pointer,
    /// With its signature.
    pub bundle: Bundle,
    /// Of the file.
    pub sha256: Digest,
    /// The file.
    pub path: PathBuf,
}

impl ChannelEntry {
    /// Who signed it, and why that does not count now, if it does not.
    pub fn signed(&self, trust: &Trust) -> verify::Signed {
        who_signed(&self.bundle, trust, Role::Promote, None)
    }

    /// The same at the time when it was signed. Only pointers that a newer one vouches for may be
    /// asked so: when a signature was made is but its signer's word.
    pub fn signed_then(&self, trust: &Trust) -> verify::Signed {
        self.signed(&trust.clone().at(self.pointer.issued))
    }
}

/// A file of a channel's folder, as found.
#[derive(Debug)]
pub struct ChannelFile {
    /// The file.
    pub path: PathBuf,
    /// The serial number of its name; none if it has no such name.
    pub serial: Option<u64>,
    /// What it holds, or why it does not belong here.
    pub entry: Result<ChannelEntry>,
}

/// All pointers of a channel, without a gap.
#[derive(Debug)]
pub struct Chain {
    /// Whose they are.
    pub channel: Channel,
    /// In the order of their serial numbers, from 1 on.
    pub entries: Vec<ChannelEntry>,
}

impl Channel {
    /// A channel that may not exist yet.
    ///
    /// # Errors
    /// When this is no name of one.
    pub fn new(registry: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self { registry: registry.to_path_buf(), name: name.to_owned() })
    }

    /// Where its pointers lie.
    pub(super) fn folder(&self) -> PathBuf {
        self.registry.join(FOLDER).join(&self.name)
    }

    /// Where a pointer lies.
    pub fn path_of(&self, serial: u64) -> PathBuf {
        self.folder().join(format!("{serial:08}.json"))
    }

    /// Every file that is there, sound or not, in the order of serial numbers. Hidden files are
    /// other programs' own.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds more than any channel would.
    pub fn look(&self) -> Result<Vec<ChannelFile>> {
        let folder = self.folder();
        if folder.symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        let mut bytes = 0_u64;
        for item in folder.read_dir().context_at("cannot list the channel", &folder)? {
            let item = item.context_at("cannot list the channel", &folder)?;
            let name = item.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let size = item.path().symlink_metadata().map_or(0, |found| found.len());
            bytes = bytes.saturating_add(size.max(1024));
            files.push((serial_of(&name), name, item.path()));
        }
        if bytes > ALL_BYTES_MAX {
            let what = format!("{} files of {bytes} bytes are too much for a channel", files.len());
            return Err(Error::channel(what).at(folder));
        }
        files.sort_by_key(|(serial, name, _)| (serial.unwrap_or(u64::MAX), name.clone()));
        let mut found: Vec<ChannelFile> = Vec::new();
        for (serial, _, path) in files {
            let before = found.last();
            let entry =
                match serial {
                    Some(serial) => self.read_one(serial, &path, before),
                    None => Err(Error::refused(Code::Channel, "this is not the name of a pointer")
                        .at(&path)),
                };
            found.push(ChannelFile { path, serial, entry });
        }
        Ok(found)
    }

    fn read_one(
        &self,
        serial: u64,
        path: &Path,
        before: Option<&ChannelFile>,
    ) -> Result<ChannelEntry> {
        let entry = read(path)?;
        let refused = |what: String| Err(Error::refused(Code::Channel, what).at(path));
        let pointer = &entry.pointer;
        if pointer.channel != self.name {
            return refused(format!("this pointer is one of the channel `{}`", pointer.channel));
        }
        if pointer.serial != serial {
            return refused(format!("this is the pointer of serial number {}", pointer.serial));
        }
        match (before, &pointer.previous) {
            (None, None) if serial == 1 => Ok(entry),
            (None, Some(_)) if serial == 1 => refused("the first pointer follows none".to_owned()),
            (None, _) => refused(format!("serial number {} is missing", serial - 1))
                .map_err(|error| error.hint(ALL_HINT)),
            (Some(before), _) if before.serial != Some(serial - 1) => {
                refused(format!("serial number {} is missing", serial - 1))
                    .map_err(|error| error.hint(ALL_HINT))
            }
            (Some(ChannelFile { entry: Ok(before), .. }), Some(previous)) => {
                if *previous == previous_of(before) {
                    return Ok(entry);
                }
                refused(format!("serial number {} is not the one that this follows", serial - 1))
                    .map_err(|error| error.because("one of the two files was changed or replaced"))
            }
            // What comes before is damaged; that is told at its own place.
            (Some(ChannelFile { entry: Err(_), .. }), Some(_)) => Ok(entry),
            (Some(_), None) => refused("this pointer says that it is the first".to_owned()),
        }
    }

    /// All pointers, which must be whole and in order.
    ///
    /// # Errors
    /// Refuses a channel in which anything is missing, damaged or changed.
    pub fn read(&self) -> Result<Chain> {
        let mut entries = Vec::new();
        for found in self.look()?.into_iter().filter(|found| found.serial.is_some()) {
            entries.push(found.entry?);
        }
        Ok(Chain { channel: self.clone(), entries })
    }

    /// All pointers, and what `check` makes of them. Where one was added meanwhile, it is asked
    /// again: others may have seen that one already.
    pub fn read_checked<T>(&self, check: impl Fn(&Chain) -> Result<T>) -> Result<(Chain, T)> {
        let mut chain = self.read()?;
        loop {
            let error = match check(&chain) {
                Ok(found) => return Ok((chain, found)),
                Err(error) => error,
            };
            let again = self.read()?;
            if again.entries.len() <= chain.entries.len() {
                return Err(error);
            }
            chain = again;
        }
    }
}

const ALL_HINT: &str = "get all pointers of the channel: none is ever removed";

/// The serial number of a file's name.
fn serial_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|serial| plain && *serial > 0)
}

fn previous_of(entry: &ChannelEntry) -> Previous {
    let Pointer { serial, model, .. } = &entry.pointer;
    Previous { serial: *serial, sig_sha256: model.sig_sha256, sha256: entry.sha256 }
}

fn read(path: &Path) -> Result<ChannelEntry> {
    let mut bytes = Vec::new();
    open_unlinked(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .context_at("cannot read the pointer", path)?;
    if bytes.len() as u64 > BYTES_MAX {
        let what = format!("a pointer of more than {BYTES_MAX} bytes is refused");
        return Err(Error::refused(Code::Channel, what).at(path));
    }
    let refused = |what: &str| Error::refused(Code::Signature, what).at(path);
    let bundle = Bundle::parse(&bytes).map_err(|defect| match defect {
        Defect::Unsigned => refused("the pointer is not signed"),
        Defect::Unsupported(why) => {
            Error::signature("the pointer's signature cannot be checked").at(path).because(why)
        }
        Defect::Malformed(why) => refused("the pointer is damaged").because(why),
    })?;
    if bundle.payload_type != PAYLOAD_TYPE {
        return Err(refused("the signed statement is not a channel pointer"));
    }
    let pointer = Pointer::parse(&bundle.payload).map_err(|error| {
        let parts = error.into_parts();
        let whole = std::iter::once(parts.what).chain(parts.causes);
        whole.fold(refused("the pointer is damaged"), Error::because)
    })?;
    let sha256 = Digest::of(&bytes);
    Ok(ChannelEntry { pointer, bundle, sha256, path: path.to_path_buf() })
}

impl Chain {
    /// The pointer that counts.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn newest(&self) -> Result<&ChannelEntry> {
        self.entries.last().ok_or_else(|| {
            let Channel { registry, name } = &self.channel;
            Error::channel(format!("there is no channel `{name}`"))
                .at(registry)
                .hint(format!("`firebrand promote ARTIFACT --channel {name}` creates it"))
        })
    }

    /// Who signed the newest pointer, of which the signature holds and counts, and which is not
    /// older than any that was seen before.
    ///
    /// # Errors
    /// Refuses a channel that someone signed whom `trust` does not let promote, or of which newer
    /// pointers were seen.
    pub fn trusted(&self, trust: &Trust, seen: &Seen) -> Result<verify::Signed> {
        let newest = self.newest()?;
        let signed = newest.signed(trust);
        if let Some(why) = &signed.objection {
            return Err(untrusted(newest, why));
        }
        self.intact(trust)?;
        self.note(seen)?;
        Ok(signed)
    }

    /// The same for whoever puts another pointer on top: a key that counted once and no more, since
    /// it was revoked or its time is over, does not close the channel for good.
    pub fn appendable(&self, trust: &Trust, seen: &Seen) -> Result<()> {
        let Some(newest) = self.entries.last() else { return Ok(()) };
        let signed = newest.signed(trust);
        if let Some(why) = &signed.objection {
            let known = trust.find(&signed.signer.hint).map(|key| &key.limits.roles);
            let promoter = known.is_some_and(|roles| {
                roles.as_ref().is_none_or(|roles| roles.contains(&Role::Promote))
            });
            if signed.holds != Some(true) || !promoter {
                return Err(untrusted(newest, why));
            }
        }
        self.intact(trust)?;
        self.note(seen)
    }

    /// No older pointer is a forgery under the name of a key that is known.
    fn intact(&self, trust: &Trust) -> Result<()> {
        let forged = self.entries.iter().find(|entry| entry.signed(trust).holds == Some(false));
        match forged {
            Some(entry) => {
                let why = entry.signed(trust).objection.unwrap_or_default();
                Err(Error::refused(Code::Signature, "the pointer's signature does not hold")
                    .at(&entry.path)
                    .because(why))
            }
            None => Ok(()),
        }
    }

    /// Remembers how far the channel has come, by its place (another channel may be put there) and
    /// by its beginning (it may be moved).
    fn note(&self, seen: &Seen) -> Result<()> {
        let (Some(first), Some(newest)) = (self.entries.first(), self.entries.last()) else {
            return Ok(());
        };
        let Channel { registry, name } = &self.channel;
        let place = registry.canonicalize().context_at("cannot find the registry", registry)?;
        let (serial, sha256) = (newest.pointer.serial, newest.sha256);
        seen.note(&format!("channel {name} in {}", place.display()), serial, sha256)?;
        seen.note(&format!("channel {name} since {}", first.sha256.short()), serial, sha256)
    }

    /// What the next pointer follows, and its serial number.
    pub fn next(&self) -> (Option<Previous>, u64) {
        let previous = self.entries.last().map(previous_of);
        let serial = previous.as_ref().map_or(1, |previous| previous.serial + 1);
        (previous, serial)
    }

    /// Signs the next pointer and puts it into its place, which must be free.
    ///
    /// # Errors
    /// When `trust` does not let the key promote, or someone else was faster.
    pub fn append(
        &self,
        pointer: Pointer,
        key: &SigningKey,
        trust: &Trust,
    ) -> Result<ChannelEntry> {
        if pointer.serial > SERIAL_MAX {
            return Err(Error::channel("the channel is full; create another"));
        }
        let bundle = pointer.sign(key)?;
        // What nobody could accept is not written.
        if let Some(why) = who_signed(&bundle, trust, Role::Promote, None).objection {
            let what = "this key may not promote models";
            return Err(Error::refused(Code::Untrusted, what).because(why).hint(
                "sign with a key of the role `promote` (`--key`), and have it in your own trusted \
                 keys",
            ));
        }
        let path = self.channel.path_of(pointer.serial);
        let folder = crate::files::folder_of(&path);
        std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        let _writing = Writing::begin(&self.channel.registry);
        let text = format!("{}\n", bundle.to_json());
        let scratch = scratch_name(&path);
        let written = write_synced(&scratch, text.as_bytes()).and_then(|()| {
            rename_new(&scratch, &path).map_err(|error| self.beaten(pointer.serial, error))
        });
        if let Err(error) = written {
            let _ = remove_file(&scratch);
            return Err(error);
        }
        sync_dir(folder)?;
        Ok(ChannelEntry { pointer, bundle, sha256: Digest::of(text.as_bytes()), path })
    }

    fn beaten(&self, serial: u64, error: Error) -> Error {
        let path = self.channel.path_of(serial);
        if path.symlink_metadata().is_err() {
            return error;
        }
        Error::already_running(format!("someone else has just written serial number {serial}"))
            .at(path)
            .hint("nothing of yours was written; look at it with `firebrand log`, and try again")
    }
}

fn untrusted(entry: &ChannelEntry, why: &str) -> Error {
    let what = "the channel's newest pointer is signed by a key that may not promote";
    Error::refused(Code::Untrusted, what).at(&entry.path).because(why).hint(
        "if you know whose key it is, put it into `trusted-keys.toml` with the role `promote`",
    )
}

/// A name that no other process, nor another thread of this one, takes.
pub(super) fn scratch_name(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let time = Timestamp::now().as_nanosecond();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{SCRATCH}{name}.{}-{number}-{time:x}", std::process::id()))
}
