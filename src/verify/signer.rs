//! Who signed a bundle, and whether that is someone whom the user trusts: a key by its own name, a
//! certificate that leads to an authority, or an identity that a trusted root proves.

use jiff::Timestamp;

use super::chain::{self, Reading};
use super::keyless::{self, SignedContent, Unproven};
use super::report::{Check, Report, Signer, Verdict};
use super::trust::Trust;
use super::trusted_keys::{STATED, TrustedIdentity};
use super::trusted_keys_table::Role;
use crate::artifact::certificate::Certificate;
use crate::artifact::envelope::{Bundle, Keyless, Material};
use crate::files::Digest;

/// Who signed a bundle, and whether that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who it is.
    pub signer: Signer,
    /// The same for one line, in short.
    pub name: String,
    /// Whether the signature is this signer's; `None` if the key is not known.
    pub holds: Option<bool>,
    /// Why it does not count; `None` if it does.
    pub objection: Option<String>,
}

/// Who signed a bundle, and why that does not count for `role`, if it does not. `finished` is when
/// the work was done, if the bundle says so.
pub fn who_signed(
    bundle: &Bundle,
    trust: &Trust,
    role: Role,
    finished: Option<Timestamp>,
) -> Signed {
    let judged = judge(bundle, trust, Some(role), finished);
    let forged = || format!("the {} did not sign this", judged.short);
    let objection = match (judged.signed, &judged.objection) {
        (Some(false), _) => Some(forged()),
        (_, Some(why)) => Some(format!("the {} {why}", judged.short)),
        (None, None) => Some(forged()), // nobody counts whose signature was not checked
        (Some(true), None) => None,
    };
    Signed { signer: judged.signer, name: judged.short, holds: judged.signed, objection }
}

/// What is known of a signer.
#[derive(Debug)]
pub(super) struct Judged {
    /// Who it is, for the report.
    pub signer: Signer,
    /// Who it is, for one line.
    pub name: String,
    /// The same in short.
    pub short: String,
    /// Why it does not count; `None` if it does.
    pub objection: Option<String>,
    /// What the user can do about that.
    pub hint: &'static str,
    /// Whether the signature is this signer's; `None` if the key is not known.
    pub signed: Option<bool>,
    /// Which signatures it makes.
    pub algorithm: &'static str,
}

impl Judged {
    /// Puts it into a report, with what is said of a signature that was not checked, and of one
    /// that is not this signer's.
    pub fn tell(self, (unchecked, forged): (&str, &str), report: &mut Report) {
        match &self.objection {
            None => report.pass(Check::Key, self.name.trim_start_matches("key ")),
            Some(why) => {
                let detail = format!("the {} {why}", self.name);
                report.fail(Check::Key, Verdict::Untrusted, detail, self.hint);
            }
        }
        match self.signed {
            None => report.skip(Check::Signature, unchecked),
            // A signature over the bytes of a file says nothing of how it was made.
            Some(true) if self.algorithm.is_empty() => {
                report.pass(Check::Signature, "over the file");
            }
            Some(true) => report.pass(Check::Signature, self.algorithm),
            Some(false) => report.fail(Check::Signature, Verdict::Tampered, forged, ""),
        }
        report.signer = Some(self.signer);
    }
}

/// Looks at the signer of a bundle who should be one for `role`.
///
/// `finished` is when the work was done, if something says so.
pub(super) fn judge(
    bundle: &Bundle,
    trust: &Trust,
    role: Option<Role>,
    finished: Option<Timestamp>,
) -> Judged {
    match &bundle.material {
        Material::Key(hint) => judge_key(hint, bundle, trust, role, finished),
        Material::Chain(chain) => judge_chain(chain, bundle, trust, role, finished),
        Material::Keyless(keyless) => {
            let key = keyless.key();
            let signed = key.check(&bundle.signed_bytes(), &bundle.signature).is_ok();
            let content = SignedContent::Statement(&bundle.payload);
            let judged = judge_keyless(keyless, content, trust, role, finished);
            Judged { signed: Some(signed), algorithm: key.algorithm(), ..judged }
        }
    }
}

/// Looks at who signed a statement or a file keyless. A signature that counts was checked, one that
/// does not was not.
pub(super) fn judge_keyless(
    keyless: &Keyless,
    content: SignedContent,
    trust: &Trust,
    role: Option<Role>,
    finished: Option<Timestamp>,
) -> Judged {
    let claims = keyless::claims(&keyless.certificate);
    let (identity, issuer) =
        claims.map_or((String::new(), String::new()), |claims| (claims.identity, claims.issuer));
    let counted = proven(&identity, &issuer, trust, |known| known.root.check(keyless, content));
    let counted = counted.and_then(|(known, time)| {
        let stated = finished.map(|time| (time, STATED));
        let times: Vec<_> = [Some((time, "it signed on")), stated].into_iter().flatten().collect();
        let limits = &known.limits;
        match limits.objection_at(role, &times).or_else(|| limits.unnamed(role)) {
            Some(why) => Err(why.into()),
            None => Ok((known, time)),
        }
    });
    let (objection, signed, known) = match counted {
        Ok(known) => (None, Some(true), Some(known)),
        Err(Unproven { why, other }) => (Some(why), other.then_some(false), None),
    };
    let key_file = known.map(|(known, _)| known.file.clone());
    let (signer, short) = if identity.is_empty() {
        let signer = Signer::of_key(&keyless.key().hint().unwrap_or_default(), None);
        (signer, "short-lived certificate".to_owned())
    } else {
        // The key is another one for each signature: the identity is who it is.
        let signer = Signer {
            hint: Digest::of_parts(&[issuer.as_bytes(), b"\n", identity.as_bytes()]).to_string(),
            certificate: Some(identity),
            issuer: Some(issuer),
            key_file,
        };
        let short = signer.short();
        (signer, short)
    };
    Judged {
        name: match known {
            Some((known, time)) => {
                format!("{short}, signed on {time:.0} ({})", known.file.display())
            }
            None => short.clone(),
        },
        short,
        signer,
        signed,
        objection,
        hint: "if you trust this identity, name it as an `[[identity]]` in `trusted-keys.toml` of \
               your settings, or with `--trusted-root`, `--identity` and `--identity-provider`",
        algorithm: "",
    }
}

/// The trusted identity that a certificate claims, if one of its roots proves it, with the time.
fn proven<'a>(
    identity: &str,
    issuer: &str,
    trust: &'a Trust,
    check: impl Fn(&TrustedIdentity) -> Result<Timestamp, Unproven>,
) -> Result<(&'a TrustedIdentity, Timestamp), Unproven> {
    let refused = |why: String| Err(Unproven::from(why));
    if identity.is_empty() {
        return refused("does not count: it names no identity and issuer as Sigstore's do".into());
    }
    let all = trust.identities();
    let same: Vec<&TrustedIdentity> = all.iter().filter(|it| it.identity == identity).collect();
    match (all.len(), same.first()) {
        (0, _) => return refused("is not trusted: you trust no identity yet".to_owned()),
        (count, None) => {
            return refused(format!("is not among the identities that you trust ({count})"));
        }
        (_, Some(other)) if same.iter().all(|it| it.issuer != issuer) => {
            let trusted = &other.issuer;
            return refused(format!("has another issuer than you trust with it, `{trusted}`"));
        }
        _ => {}
    }
    let mut last = Unproven::from(String::new());
    let mut named: Vec<_> = same.into_iter().filter(|it| it.issuer == issuer).collect();
    // Several roots may prove it: one with which it was revoked has the first word.
    named.sort_by_key(|known| known.limits.revoked.is_none());
    for known in named {
        match check(known) {
            Ok(time) => return Ok((known, time)),
            Err(unproven) => last = unproven,
        }
    }
    Err(Unproven { why: format!("does not count: {}", last.why), ..last })
}

fn judge_key(
    hint: &str,
    bundle: &Bundle,
    trust: &Trust,
    role: Option<Role>,
    finished: Option<Timestamp>,
) -> Judged {
    let signer = Signer::of_key(hint, None);
    let short = signer.short();
    let Some(trusted) = trust.find(hint) else {
        return Judged {
            name: signer.name(),
            signer,
            short,
            objection: Some(match trust.keys().len() {
                0 => "is not trusted: you trust no key yet".to_owned(),
                count => format!("is not among the keys that you trust ({count})"),
            }),
            hint: "if you know whose key it is, `firebrand trust add KEY.pem` trusts its public \
                   key, `--key` does so once",
            signed: None,
            algorithm: "",
        };
    };
    let limits = &trusted.limits;
    let objection = trust.objection(limits, role, finished).or_else(|| limits.unnamed(role));
    let key_file = Some(trusted.file.clone()).filter(|_| objection.is_none());
    Judged {
        name: format!("{} ({})", signer.name(), trusted.file.display()),
        signer: Signer { key_file, ..signer },
        short,
        objection,
        hint: "get a copy that is signed by a key that still counts",
        signed: Some(trusted.key.accepts(&bundle.signed_bytes(), &bundle.signature)),
        algorithm: "ECDSA P-256 with SHA-256",
    }
}

fn judge_chain(
    chain: &[Certificate],
    bundle: &Bundle,
    trust: &Trust,
    role: Option<Role>,
    finished: Option<Timestamp>,
) -> Judged {
    let leaf = chain.first();
    let subject = leaf.map_or_else(String::new, Certificate::subject);
    let key = leaf.and_then(Certificate::key);
    let hint = key.and_then(|key| key.hint().ok()).unwrap_or_default();
    let certificates: Vec<_> = trust.authorities().iter().map(|it| &it.certificate).collect();
    let found = chain::anchor(chain, &certificates, trust.now(), Reading::Strict);
    let authority = found.as_ref().ok().map(|index| &trust.authorities()[*index]);
    let objection = match (&found, authority) {
        (Err(why), _) => Some(format!("does not count: {why}")),
        (_, Some(authority)) => trust
            .objection(&authority.limits, role, finished)
            .or_else(|| authority.limits.unnamed(role))
            .map(|why| format!("comes from an authority that {why}"))
            // A key that was revoked under its own name is not to come back with a certificate.
            .or_else(|| trust.objection(&trust.find(&hint)?.limits, role, finished))
            .or_else(|| {
                let why = chain::check_time(leaf?, finished?).err()?;
                Some(format!("was not valid when what it signed was finished, as that says: {why}"))
            }),
        (Ok(_), None) => None,
    };
    let key_file = authority.filter(|_| objection.is_none()).map(|it| it.file.clone());
    let place = key_file.as_ref().map(|file| format!(" ({})", file.display()));
    let signer = Signer { hint, certificate: Some(subject), issuer: None, key_file };
    Judged {
        name: format!("{}{}", signer.name(), place.unwrap_or_default()),
        short: signer.short(),
        signer,
        objection,
        hint: "name the authorities that you trust with `--roots`, or in `trusted-keys.toml` of \
               your settings",
        signed: key.map(|key| key.check(&bundle.signed_bytes(), &bundle.signature).is_ok()),
        algorithm: key.map_or("", |key| key.algorithm()),
    }
}
