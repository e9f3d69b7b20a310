//! PEM text of one key: read from a file that is fit for it, and cut down to the block that counts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// No PEM file of one key comes near this size.
const MAX_PEM_BYTES: u64 = 64 * 1024;

/// A private key that others can read is no secret.
pub(super) fn refuse_shared(file: &File, path: &Path) -> Result<()> {
    let metadata = file.metadata().context_at("cannot read the signing key", path)?;
    if !metadata.is_file() {
        return Err(Error::key("the signing key is not a regular file").at(path));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::key(format!(
                "other users have access to the private key (mode {mode:04o})"
            ))
            .at(path)
            .hint(format!("run `chmod 600 {}`", path.display())));
        }
    }
    Ok(())
}

/// The text of a PEM file.
pub(super) fn read_pem(file: &mut File, path: &Path) -> Result<String> {
    let mut text = String::new();
    file.take(MAX_PEM_BYTES).read_to_string(&mut text).context_at("cannot read the key", path)?;
    Ok(text)
}

/// The one PEM block with one of these labels; other blocks, such as `EC PARAMETERS`, may stand
/// beside it.
pub(super) fn only_block(text: &str, labels: &[&str]) -> Result<String> {
    let mut blocks = labels.iter().flat_map(|label| {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        text.match_indices(&begin)
            .filter_map(|(start, _)| {
                let length = text[start..].find(&end)? + end.len();
                Some(format!("{}\n", &text[start..start + length]))
            })
            .collect::<Vec<_>>()
    });
    match (blocks.next(), blocks.next()) {
        (Some(block), None) => Ok(block),
        (Some(_), Some(_)) => Err(Error::key("the PEM text holds more than one key")
            .hint("put each key into a file of its own")),
        (None, _) => {
            let wanted = labels.join("` or `");
            Err(Error::key(format!("there is no `{wanted}` block in the PEM text")))
        }
    }
}
