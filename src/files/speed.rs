//! How fast a folder's disk is: what a checkpoint costs there.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::files::disk::{NewFile, failed, remove_file};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiskSpeed {
    /// The folder.
    pub path: PathBuf,
    /// Bytes a second, written and made durable.
    pub write_bytes_per_second: f64,
    /// Bytes a second, read again; from memory where the system does not let go of them.
    pub read_bytes_per_second: f64,
    /// How long a small file takes to be durable: the median of some, in seconds.
    pub sync_seconds: f64,
    /// Free bytes, where the system tells.
    pub free_bytes: Option<u64>,
}

/// Bytes that are written, and how often a small file is.
const BYTES: usize = 64 << 20;
const SMALL: usize = 9;

/// Measures the disk of a folder that exists; what is written is removed.
pub fn disk_speed(folder: &Path) -> Result<DiskSpeed> {
    let name = format!(".firebrand-speed-{}", std::process::id());
    let path = folder.join(name);
    let measured = measure(folder, &path);
    if path.exists() {
        remove_file(&path)?;
    }
    measured
}

fn measure(folder: &Path, path: &Path) -> Result<DiskSpeed> {
    let what = "cannot measure the disk";
    let broken = |error: std::io::Error| failed(what, folder, &error);
    // Not zeros, which some file systems do not write.
    let block: Vec<u8> =
        (0..1_usize << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    let mut file = NewFile::begin(path).map_err(broken)?;
    let began = Instant::now();
    for _ in 0..BYTES / block.len() {
        file.write_all(&block).map_err(broken)?;
    }
    file.sync().map_err(broken)?;
    let written = began.elapsed().as_secs_f64();
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed);

    let began = Instant::now();
    let mut source = std::fs::File::open(path).context_at(what, path)?;
    let mut buffer = vec![0; block.len()];
    let mut read = 0;
    loop {
        let count = source.read(&mut buffer).context_at(what, path)?;
        if count == 0 {
            break;
        }
        read += count;
    }
    let reading = began.elapsed().as_secs_f64();
    if read != BYTES {
        return Err(Error::file("the disk gave back other bytes than were written").at(path));
    }
    let mut syncs = Vec::new();
    for _ in 0..SMALL {
        let began = Instant::now();
        file.write_all(&block[..4096]).map_err(broken)?;
        file.sync().map_err(broken)?;
        syncs.push(began.elapsed().as_secs_f64());
    }
    syncs.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss)] // for people
    let speed = |seconds: f64| BYTES as f64 / seconds.max(1e-9);
    Ok(DiskSpeed {
        path: folder.to_owned(),
        write_bytes_per_second: speed(written),
        read_bytes_per_second: speed(reading),
        sync_seconds: syncs[SMALL / 2],
        free_bytes: crate::files::disk::free_bytes(folder),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn a_disk_is_measured_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let speed = disk_speed(folder.path()).unwrap();
        assert!(speed.write_bytes_per_second > 0.0 && speed.read_bytes_per_second > 0.0);
        assert!(speed.sync_seconds > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let none = disk_speed(&folder.path().join("none")).unwrap_err().to_string();
        says(
            &none,
            snapbox::str![[r#"
error[file]: cannot measure the disk
  at [FOLDER]/none
  because No such file or directory (os error 2)
"#]],
        );
    }
}
