//! Who signed a bundle, and whether that is someone whom the user trusts: a key by its own name, or
//! a certificate that leads to an authority.

use jiff::Timestamp;

use super::chain::{self, Reading};
use super::report::Signer;
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::certificate::Certificate;
use crate::artifact::envelope::{Bundle, Material};

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
    }
}

fn judge_key(
    hint: &str,
    bundle: &Bundle,
    trust: &Trust,
    role: Option<Role>,
    finished: Option<Timestamp>,
) -> Judged {
    let short = format!("key {}", hint.get(..12).unwrap_or_default());
    let Some(trusted) = trust.find(hint) else {
        return Judged {
            signer: Signer { hint: hint.to_owned(), certificate: None, key_file: None },
            name: format!("key {hint}"),
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
    let objection = trust.objection(&trusted.limits, role, finished);
    let key_file = Some(trusted.file.clone()).filter(|_| objection.is_none());
    Judged {
        signer: Signer { hint: hint.to_owned(), certificate: None, key_file },
        name: format!("key {hint} ({})", trusted.file.display()),
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
            .map(|why| format!("comes from an authority that {why}"))
            // A key that was revoked under its own name is not to come back with a certificate.
            .or_else(|| trust.objection(&trust.find(&hint)?.limits, role, finished))
            .or_else(|| {
                let why = chain::check_time(leaf?, finished?).err()?;
                Some(format!("was not valid at the end that the lineage states: {why}"))
            }),
        (Ok(_), None) => None,
    };
    let key_file = authority.filter(|_| objection.is_none()).map(|it| it.file.clone());
    let place = key_file.as_ref().map(|file| format!(" ({})", file.display()));
    Judged {
        name: format!("certificate `{subject}`{}", place.unwrap_or_default()),
        short: format!("certificate `{subject}`"),
        signer: Signer { hint, certificate: Some(subject), key_file },
        objection,
        hint: "name the authorities that you trust with `--roots`, or in `trusted-keys.toml` of \
               your settings",
        signed: key.map(|key| key.check(&bundle.signed_bytes(), &bundle.signature).is_ok()),
        algorithm: key.map_or("", |key| key.algorithm()),
    }
}
