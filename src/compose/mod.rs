//! Base, adapters in order, tokenizer and quantisation as one signed statement that a server checks
//! before it loads them together.
//!
//! - `statement`: what is stated
//! - `check`: whether what lies here is that, and fits together

mod statement;
mod check;

use std::path::Path;

use jiff::Timestamp;

pub use check::{CompositionFinding, Places, check};
pub use statement::{COMPOSITION, Composition, Part, UNQUANTISED};

use crate::artifact::envelope::{Bundle, Defect, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::past::Past;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{parse_json, read_bytes, write_atomic};
use crate::verify::{Role, Trust, who_signed};
use check::files_of;
use statement::{BASE, adapter};

/// A statement about some thousands of files.
const BYTES_MAX: u64 = 16 << 20;

/// What is to be composed: the parts as they are named, and where they lie.
pub struct Request<'a> {
    /// The base.
    pub base: &'a str,
    /// The adapters, in the order in which they are to be added.
    pub adapters: &'a [String],
    /// Where these lie.
    pub places: &'a Places,
    /// The format of the base's weights in memory.
    pub quantisation: &'a str,
    /// Whose signatures of adapters count.
    pub trust: &'a Trust,
}

/// Looks at the parts; what would not pass a check is refused.
///
/// # Errors
/// When a part cannot be read, or they do not fit together.
pub fn compose(request: &Request) -> Result<(Composition, Vec<CompositionFinding>)> {
    let part = |name: &str, place: &Path| -> Result<Part> {
        let past = Past::read(place)?;
        let trained_beside = past.weight_format().map(str::to_owned);
        Ok(Part { name: name.to_owned(), files: files_of(place)?, trained_beside })
    };
    let places = request.places;
    let base = Part { trained_beside: None, ..part(request.base, &places.base)? };
    let adapters = request.adapters.iter().zip(&places.adapters);
    let adapters: Vec<Part> =
        adapters.map(|(name, place)| part(name, place)).collect::<Result<_>>()?;
    // The last one that brings a tokenizer was trained with it.
    let brings = |part: &Part| part.files.contains_key("tokenizer.json");
    let tokenizer = adapters.iter().rposition(brings);
    let composition = Composition {
        time: format!("{:.0}", Timestamp::now()),
        base,
        quantisation: request.quantisation.to_owned(),
        tokenizer: tokenizer.map_or(BASE.to_owned(), |index| adapter(index + 1)),
        adapters,
    };
    let findings = check(&composition, places, request.trust)?;
    let failed: Vec<&CompositionFinding> = findings.iter().filter(|it| !it.holds).collect();
    if !failed.is_empty() {
        let error = Error::refused(ErrorCode::Adapter, "these parts cannot be composed");
        let why = |it: &&CompositionFinding| format!("{}, {}: {}", it.part, it.check, it.detail);
        return Err(failed.iter().map(why).fold(error, |error, why| error.because(why)));
    }
    Ok((composition, findings))
}

/// Where the part lies that is called so.
pub fn place_of<'a>(composition: &Composition, called: &str, places: &'a Places) -> &'a Path {
    let number = composition.parts().position(|(name, _)| name == called).unwrap_or_default();
    match number.checked_sub(1) {
        None => &places.base,
        Some(index) => &places.adapters[index],
    }
}

/// Signs a composition and writes it.
///
/// # Errors
/// When it cannot be signed or written.
pub fn write(composition: &Composition, key: &SigningKey, path: &Path) -> Result<()> {
    let bundle = Bundle::sign(IN_TOTO, composition.to_statement().into_bytes(), key)?;
    write_atomic(path, format!("{}\n", bundle.to_json()).as_bytes())
}

/// Whether a file is a bundle around a composition, whoever signed it.
///
/// # Errors
/// When it cannot be read.
pub fn is_composition(path: &Path) -> Result<bool> {
    let size = std::fs::metadata(path).context_at("cannot read the file", path)?.len();
    if size > BYTES_MAX {
        return Ok(false);
    }
    let Ok(bundle) = Bundle::parse(read_bytes(path, BYTES_MAX)?.trim_ascii()) else {
        return Ok(false);
    };
    let statement = parse_json(&bundle.payload);
    Ok(statement.is_ok_and(|statement| statement["predicateType"] == COMPOSITION))
}

/// Reads a signed composition, with what its signature is worth.
///
/// # Errors
/// When the file is none.
pub fn read(path: &Path, trust: &Trust) -> Result<(Composition, CompositionFinding)> {
    let no = |why: String| Error::signature("this is no composition").at(path).because(why);
    let bundle = Bundle::parse(read_bytes(path, BYTES_MAX)?.trim_ascii()).map_err(|defect| {
        no(match defect {
            Defect::Unsigned => "it is not signed".to_owned(),
            Defect::Unsupported(why) | Defect::Malformed(why) => why,
        })
    })?;
    if bundle.payload_type != IN_TOTO {
        return Err(no(format!("`payloadType` is not `{IN_TOTO}`")));
    }
    let statement = parse_json(&bundle.payload).map_err(|error| no(error.into_what()))?;
    let composition = Composition::parse(&statement).map_err(no)?;
    let signed = who_signed(&bundle, trust, Role::Train, composition.time.parse().ok());
    let finding = CompositionFinding {
        part: "statement".to_owned(),
        check: "signature",
        holds: signed.objection.is_none(),
        detail: signed.objection.unwrap_or_else(|| format!("signed by the {}", signed.name)),
    };
    Ok((composition, finding))
}
