//! A chain of certificates: does it lead from a signer to an authority that the user trusts?

use jiff::Timestamp;

use crate::artifact::certificate::{Certificate, Uses};

/// How the signer's own certificate is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It must be a signer's and no authority's, and nothing in it may speak against signing.
    Strict,
    /// As the standard's reference program has it: one word for signing is enough.
    Standard,
}

/// Which of the authorities vouches for the first certificate of a chain, by way of the others.
///
/// Every certificate on the way must be valid `now`, also the authority's; each must be an
/// authority that may vouch for that many below it, and have signed the one before it. What stands
/// in the chain beyond that point is not looked at.
///
/// # Errors
/// Says why none does.
pub(super) fn anchor(
    chain: &[Certificate],
    authorities: &[&Certificate],
    now: Timestamp,
    reading: Reading,
) -> Result<usize, String> {
    let mut below = 0; // authorities between the signer and the certificate that is looked at
    let mut objection = None;
    for (index, certificate) in chain.iter().enumerate() {
        let pinned = authorities.iter().position(|authority| *authority == certificate);
        if index == 0 {
            check_signer(certificate, pinned.is_some(), reading)?;
        } else {
            check_authority(certificate, below)?;
            chain[index - 1].check_issued_by(certificate)?;
            below += usize::from(!certificate.is_self_issued());
        }
        check_time(certificate, now)?;
        if let Some(found) = pinned {
            return Ok(found);
        }
        for (found, authority) in authorities.iter().enumerate() {
            if certificate.check_issued_by(authority).is_err() {
                continue;
            }
            match check_authority(authority, below).and_then(|()| check_time(authority, now)) {
                Ok(()) => return Ok(found),
                Err(why) => objection = objection.or(Some(why)),
            }
        }
    }
    Err(objection.unwrap_or_else(|| match (chain.last(), authorities.len()) {
        (None, _) => "there is no certificate".to_owned(),
        (_, 0) => "you trust no authority".to_owned(),
        (Some(last), count) => {
            format!(
                "it is issued by `{}`, which is not among the authorities that you trust ({count})",
                last.issuer()
            )
        }
    }))
}

/// The signer's own certificate.
fn check_signer(certificate: &Certificate, pinned: bool, reading: Reading) -> Result<(), String> {
    let name = certificate.subject();
    let uses = certificate.uses().map_err(|why| format!("`{name}`: {why}"))?;
    if certificate.key().is_none() {
        return Err(format!("the key of `{name}` is none for ECDSA on P-256, P-384 or P-521"));
    }
    let says_yes = uses.signs_data == Some(true) || uses.for_code == Some(true);
    let Uses { signs_data, for_code, .. } = uses;
    match reading {
        _ if !says_yes => Err(format!("`{name}` does not say that it may sign models")),
        Reading::Standard => Ok(()),
        // One that the user trusts by itself vouches for nobody else.
        Reading::Strict if uses.authority && !pinned => {
            Err(format!("`{name}` is the certificate of an authority, not of a signer"))
        }
        Reading::Strict if signs_data == Some(false) => {
            Err(format!("`{name}` may not sign data (key usage)"))
        }
        Reading::Strict if for_code == Some(false) => {
            Err(format!("`{name}` is not for code signing (extended key usage)"))
        }
        Reading::Strict => Ok(()),
    }
}

/// One that vouches for others, with so many authorities between it and the signer.
fn check_authority(certificate: &Certificate, below: usize) -> Result<(), String> {
    let name = certificate.subject();
    let uses = certificate.uses().map_err(|why| format!("`{name}`: {why}"))?;
    if !uses.authority || uses.signs_certificates == Some(false) {
        return Err(format!(
            "`{name}` is not a certificate authority: it may not sign other certificates"
        ));
    }
    if uses.for_code == Some(false) {
        return Err(format!("`{name}` may not certify code signing (extended key usage)"));
    }
    match uses.path_length {
        Some(longest) if below > usize::from(longest) => {
            Err(format!("`{name}` may have at most {longest} authorities below it, not {below}"))
        }
        _ => Ok(()),
    }
}

/// Whether a certificate is valid at a time.
pub(super) fn check_time(certificate: &Certificate, time: Timestamp) -> Result<(), String> {
    let (start, end) = certificate.validity();
    let said = |seconds| Timestamp::from_second(seconds).map_or("?".to_owned(), |t| t.to_string());
    let name = certificate.subject();
    if time.as_second() < start {
        return Err(format!("`{name}` is valid from {} on", said(start)));
    }
    if time.as_second() > end {
        return Err(format!("`{name}` expired on {}", said(end)));
    }
    Ok(())
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
