//! The highest serial number that was seen of each signed list, so that an older copy of it,
//! validly signed as it is, is noticed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, read_json, write_atomic};

/// The file's name in the folder of the user's settings.
pub const FILE: &str = "seen-serials.json";
/// Thousands of lists have less.
const BYTES_MAX: u64 = 1 << 20;

/// A memory of serial numbers, kept in a folder.
#[derive(Debug, Clone)]
pub struct Seen {
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenEntry {
    serial: u64,
    sha256: Digest,
}

impl Seen {
    /// The memory in the folder of the user's settings.
    pub fn of_user(config_home: &Path) -> Self {
        Self { path: config_home.join(FILE) }
    }

    /// Notes that the list `name` was seen with a serial number; `sha256` is that of its bytes.
    ///
    /// # Errors
    /// Refuses a smaller number than the highest one seen, and the same number with other bytes.
    pub fn note(&self, name: &str, serial: u64, sha256: Digest) -> Result<()> {
        let folder = crate::files::folder_of(&self.path);
        std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        let lock = folder.join(format!(".{FILE}.lock"));
        let mut open = OpenOptions::new();
        let lock_file = open.create(true).truncate(false).write(true).open(&lock);
        let lock_file = lock_file.context_at("cannot lock the serial numbers", &lock)?;
        lock_file.lock().context_at("cannot lock the serial numbers", &lock)?;
        let mut entries = self.read()?;
        match entries.get(name) {
            Some(known) if known.serial > serial => {
                return Err(Error::refused(
                    ErrorCode::Untrusted,
                    format!(
                        "`{name}` has the serial number {serial}, but {} was seen before",
                        known.serial
                    ),
                )
                .because("an older copy was put in the place of the newer one")
                .hint(self.hint()));
            }
            Some(known) if known.serial == serial && known.sha256 != sha256 => {
                return Err(Error::refused(ErrorCode::Untrusted, format!(
                    "`{name}` has the serial number {serial}, which was seen with other contents"
                ))
                .hint(self.hint()));
            }
            Some(known) if known.serial == serial => return Ok(()),
            _ => {}
        }
        entries.insert(name.to_owned(), SeenEntry { serial, sha256 });
        let mut text = serde_json::to_string_pretty(&entries).context("cannot encode them")?;
        text.push('\n');
        write_atomic(&self.path, text.as_bytes())
    }

    fn hint(&self) -> String {
        format!(
            "get the newest copy; the serial numbers that were seen are in {}",
            self.path.display()
        )
    }

    fn read(&self) -> Result<BTreeMap<String, SeenEntry>> {
        if !self.path.exists() {
            return Ok(BTreeMap::new());
        }
        let json = read_json(&self.path, BYTES_MAX)?;
        serde_json::from_value(json).context_at("cannot understand the serial numbers", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn a_serial_number_never_goes_back_and_stands_for_one_content() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::of_user(folder.path());
        let [one, two] = [b"1", b"2"].map(|bytes| Digest::of(bytes));
        seen.note("registry acme", 3, one).unwrap();
        seen.note("registry acme", 3, one).unwrap();
        seen.note("registry other", 1, two).unwrap();
        let error = seen.note("registry acme", 2, one).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[untrusted]: `registry acme` has the serial number 2, but 3 was seen before
  because an older copy was put in the place of the newer one

hint: get the newest copy; the serial numbers that were seen are in [FOLDER]/seen-serials.json
"#]],
        );
        let error = seen.note("registry acme", 3, two).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[untrusted]: `registry acme` has the serial number 3, which was seen with other contents

hint: get the newest copy; the serial numbers that were seen are in [FOLDER]/seen-serials.json
"#]],
        );
        seen.note("registry acme", 4, two).unwrap();
        assert!(seen.note("registry acme", 3, one).is_err());
    }

    #[test]
    fn a_damaged_memory_is_an_error_and_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Seen::of_user(folder.path()).note("a", 1, Digest::of(b"")).is_err());
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), b"{");
    }
}
