//! A whole bundle from a program: for keyless signing, where certificate, log entry and time stamp
//! come from services, and the key is thrown away.

use super::envelope::{Bundle, Defect, Material};
use super::program::Program;
use crate::error::{Error, Result};

/// Lets a program sign a statement keyless: it gets the bytes of the statement on stdin and prints
/// a bundle around them. That the bundle is about these very bytes, and that its certificate's key
/// has signed them, is checked here; its evidence is checked by who has a trusted root.
///
/// # Errors
/// When the program fails, or prints anything else.
pub fn sign_keyless(program: &Program, payload_type: &str, payload: &[u8]) -> Result<Bundle> {
    let answer = program.ask(payload)?;
    let refused = |why: String| {
        Error::key(format!("what the program `{}` printed cannot be used", program.name()))
            .because(why)
            .hint(
                "it must print one Sigstore bundle (v0.3) with a DSSE envelope around the bytes \
                 that it got on stdin, and nothing else",
            )
    };
    let bundle = Bundle::parse(&answer).map_err(|defect| {
        refused(match defect {
            Defect::Unsigned => "the envelope holds no signature".to_owned(),
            Defect::Unsupported(why) | Defect::Malformed(why) => why,
        })
    })?;
    let Material::Keyless(keyless) = &bundle.material else {
        return Err(refused("it carries no short-lived `certificate`".to_owned())
            .hint("a program that signs with a key of its own is for `--method key`"));
    };
    if bundle.payload_type != payload_type || bundle.payload != payload {
        return Err(refused("it signed other bytes than it got".to_owned()));
    }
    let key = keyless.key();
    key.check(&bundle.signed_bytes(), &bundle.signature)
        .map_err(|why| refused(format!("its signature {why}")))?;
    Ok(bundle)
}
