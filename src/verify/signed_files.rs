//! What a trusted signature says of a model's files, for whoever reads only some of them: the
//! snapshot of a hub is a folder of links, which [`super::verify`] refuses as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use super::directory::MAX_SIGNATURE_BYTES;
use super::signer::judge;
use super::statement::{self, Problem};
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::envelope::{Bundle, Defect, IN_TOTO};
use crate::artifact::signature;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::Digest;

/// Name and digest of every file that a signature by a key of `trust` covers.
///
/// # Errors
/// Refuses a model without a signature, one that does not hold, and one by another key.
pub fn signed_files(directory: &Path, trust: &Trust) -> Result<BTreeMap<String, Digest>> {
    let path = directory.join(signature::FILE);
    if !path.is_file() {
        return Err(Error::refused(ErrorCode::Signature, "the model is not signed")
            .at(directory)
            .because(format!("there is no `{}`", signature::FILE)));
    }
    let size = std::fs::metadata(&path).context_at("cannot read the signature", &path)?.len();
    if size > MAX_SIGNATURE_BYTES {
        return Err(Error::refused(
            ErrorCode::Signature,
            format!("a signature of {size} bytes is refused"),
        )
        .at(path));
    }
    let bytes = std::fs::read(&path).context_at("cannot read the signature", &path)?;
    let refused = |what: &str| Error::refused(ErrorCode::Signature, what).at(&path);
    let bundle = Bundle::parse(&bytes).map_err(|defect| match defect {
        Defect::Unsigned => refused("the model is not signed"),
        Defect::Unsupported(why) => {
            Error::signature("the signature cannot be checked").because(why)
        }
        Defect::Malformed(why) => refused("the signature is damaged").because(why),
    })?;
    let judged = judge(&bundle, trust, Some(Role::Train), None);
    if let Some(why) = judged.objection {
        return Err(refused("the model is signed by a key that is not trusted with it")
            .because(format!("the {} {why}", judged.name)));
    }
    if bundle.payload_type != IN_TOTO || judged.signed != Some(true) {
        return Err(refused("the model's signature does not hold"));
    }
    let manifest = statement::parse(&bundle.payload).map_err(|problem| match problem {
        Problem::Unsupported(why) => {
            Error::signature("the signature cannot be checked").because(why)
        }
        Problem::Malformed(why) => refused("the signed statement is damaged").because(why),
    })?;
    Ok(manifest.resources.into_iter().collect())
}
