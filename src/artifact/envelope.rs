//! The container of every signature: a DSSE envelope inside a sigstore bundle v0.3.

use std::path::{Path, PathBuf};

use crate::artifact::pae::pre_authentication_encoding;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::certificate::Certificate;
use super::ecdsa::Public;
use super::keys::SigningKey;
use crate::error::Result;
use crate::files;

/// The only bundle version that is written and read.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The payload type of every in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The most certificates that one signature carries.
const MAX_CERTIFICATES: usize = 10;
/// The most entries of transparency logs, and the most time stamps, that one signature carries:
/// each costs a few signature checks.
const MAX_EVIDENCE: usize = 8;

/// Where the bundle of a file lies, if nobody says otherwise: where `sigstore sign` puts it.
pub fn bundle_beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".sigstore.json");
    file.with_file_name(name)
}

/// What a signature names its key by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// SHA-256 of the public key's PEM text, in hex.
    Key(String),
    /// The signer's certificate, then those that vouch for it, each for the one before.
    Chain(Vec<Certificate>),
    /// A certificate of minutes, with what proves when it signed.
    Keyless(Box<Keyless>),
}

/// A signature without a key that lasts (Sigstore's keyless signing): the signer's certificate is
/// valid for minutes, and entries of transparency logs and time stamps prove that it was used then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// The signer's certificate, whose key is one for ECDSA.
    pub certificate: Certificate,
    /// The whole bundle as compact JSON, in which the entries and time stamps are.
    pub json: String,
}

impl Keyless {
    /// The key of the certificate.
    pub fn key(&self) -> &Public {
        self.certificate.key().expect("a certificate with another key is not read")
    }
}

/// A payload, its signature, and the name of the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What kind of payload it is.
    pub payload_type: String,
    /// The signed bytes, exactly as carried.
    pub payload: Vec<u8>,
    /// ECDSA signature over the pre-authentication encoding, ASN.1 DER.
    pub signature: Vec<u8>,
    /// Whose signature it is.
    pub material: Material,
}

/// Why a bundle cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// There is an envelope, but no signature in it.
    Unsigned,
    /// Legal, but of a kind that this program cannot check.
    Unsupported(String),
    /// Not a bundle as the standard has it.
    Malformed(String),
}

impl Bundle {
    /// Signs a payload.
    pub fn sign(payload_type: &str, payload: Vec<u8>, key: &SigningKey) -> Result<Self> {
        let signature = key.sign(&pre_authentication_encoding(payload_type, &payload))?;
        let material = match key.chain() {
            [] => Material::Key(key.public().hint().to_owned()),
            chain => Material::Chain(chain.to_vec()),
        };
        Ok(Self { payload_type: payload_type.to_owned(), payload, signature, material })
    }

    /// The bytes over which the signature goes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload)
    }

    /// One line of JSON, without a line end.
    pub fn to_json(&self) -> String {
        if let Material::Keyless(keyless) = &self.material {
            return keyless.json.clone();
        }
        let signature = STANDARD.encode(&self.signature);
        // The key identifier repeats the hint: the bundle's definition wants them equal.
        let (material, signature) = match &self.material {
            Material::Key(hint) => (
                json!({"publicKey": {"hint": hint}, "tlogEntries": []}),
                json!({"sig": signature, "keyid": hint}),
            ),
            Material::Chain(chain) => {
                let raw = |it: &Certificate| json!({"rawBytes": STANDARD.encode(it.der())});
                let list: Vec<Value> = chain.iter().map(raw).collect();
                (
                    json!({"x509CertificateChain": {"certificates": list}, "tlogEntries": []}),
                    json!({"sig": signature, "keyid": ""}),
                )
            }
            Material::Keyless(_) => unreachable!("it is given back as it came"),
        };
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": STANDARD.encode(&self.payload),
                "payloadType": self.payload_type,
                "signatures": [signature],
            },
        })
        .to_string()
    }

    /// Reads a bundle strictly: whatever two readers could understand differently is a defect.
    pub fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let value =
            files::parse_json(bytes).map_err(|error| Defect::Malformed(error.with_causes()))?;
        let bundle = object(&value, "the bundle")?;
        only_keys(bundle, "the bundle", &["mediaType", "verificationMaterial", "dsseEnvelope"])?;
        if text(bundle, "mediaType")? != MEDIA_TYPE {
            return Err(malformed(format!("`mediaType` is not `{MEDIA_TYPE}`")));
        }
        let material = parse_material(bundle, &value)?;
        let envelope = object(member(bundle, "dsseEnvelope")?, "`dsseEnvelope`")?;
        only_keys(envelope, "`dsseEnvelope`", &["payload", "payloadType", "signatures"])?;
        let payload_type = text(envelope, "payloadType")?.to_owned();
        let payload = decode(text(envelope, "payload")?, "payload")?;
        let signature = parse_signature(member(envelope, "signatures")?, &material)?;
        Ok(Self { payload_type, payload, signature, material })
    }
}

fn parse_material(bundle: &Map<String, Value>, whole: &Value) -> Result<Material, Defect> {
    let material = object(member(bundle, "verificationMaterial")?, "`verificationMaterial`")?;
    if material.contains_key("certificate") {
        return parse_keyless(material, whole).map(|it| Material::Keyless(Box::new(it)));
    }
    only_keys(
        material,
        "`verificationMaterial`",
        &["publicKey", "x509CertificateChain", "tlogEntries", "timestampVerificationData"],
    )?;
    for log in ["tlogEntries", "timestampVerificationData"] {
        let empty = match material.get(log) {
            None | Some(Value::Null) => true,
            Some(Value::Array(entries)) => entries.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(_) => return Err(malformed(format!("`{log}` has the wrong type"))),
        };
        if !empty {
            return Err(Defect::Unsupported(format!("it carries `{log}`")));
        }
    }
    match (material.get("publicKey"), material.get("x509CertificateChain")) {
        (Some(key), None) => Ok(Material::Key(parse_hint(key)?)),
        (None, Some(chain)) => Ok(Material::Chain(parse_chain(chain)?)),
        (None, None) => Err(malformed("`publicKey` is missing")),
        _ => Err(malformed("both a key and certificates are named")),
    }
}

/// The shape alone: whether the evidence holds is for who has a trusted root to check it with.
fn parse_keyless(material: &Map<String, Value>, whole: &Value) -> Result<Keyless, Defect> {
    let known = ["certificate", "tlogEntries", "timestampVerificationData"];
    only_keys(material, "`verificationMaterial`", &known)?;
    let certificate = parse_certificate(member(material, "certificate")?)?;
    if certificate.key().is_none() {
        return Err(Defect::Unsupported("the key of its certificate is not for ECDSA".to_owned()));
    }
    let list = |value: Option<&Value>, name: &str| match value {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Array(all)) if all.len() <= MAX_EVIDENCE => Ok(all.len()),
        Some(Value::Array(all)) => {
            let message = format!("{} of `{name}`, more than {MAX_EVIDENCE}", all.len());
            Err(malformed(message))
        }
        Some(_) => Err(malformed(format!("`{name}` is not a list"))),
    };
    if list(material.get("tlogEntries"), "tlogEntries")? == 0 {
        let message = "a short-lived `certificate` without an entry of a transparency log";
        return Err(Defect::Unsupported(message.to_owned()));
    }
    match material.get("timestampVerificationData") {
        None | Some(Value::Null) => {}
        Some(data) => {
            let data = object(data, "`timestampVerificationData`")?;
            only_keys(data, "`timestampVerificationData`", &["rfc3161Timestamps"])?;
            list(data.get("rfc3161Timestamps"), "rfc3161Timestamps")?;
        }
    }
    Ok(Keyless { certificate, json: whole.to_string() })
}

fn parse_hint(value: &Value) -> Result<String, Defect> {
    let key = object(value, "`publicKey`")?;
    only_keys(key, "`publicKey`", &["hint"])?;
    let hint = text(key, "hint")?;
    if hint.parse::<files::Digest>().is_err() {
        return Err(malformed("the key's `hint` is not a lower-case SHA-256 digest"));
    }
    Ok(hint.to_owned())
}

fn parse_chain(value: &Value) -> Result<Vec<Certificate>, Defect> {
    let chain = object(value, "`x509CertificateChain`")?;
    only_keys(chain, "`x509CertificateChain`", &["certificates"])?;
    let Value::Array(list) = member(chain, "certificates")? else {
        return Err(malformed("`certificates` is not a list"));
    };
    if list.is_empty() || list.len() > MAX_CERTIFICATES {
        let count = list.len();
        return Err(malformed(format!("{count} certificates, not 1 to {MAX_CERTIFICATES}")));
    }
    list.iter().map(parse_certificate).collect()
}

fn parse_certificate(value: &Value) -> Result<Certificate, Defect> {
    let certificate = object(value, "a certificate")?;
    only_keys(certificate, "a certificate", &["rawBytes"])?;
    Certificate::from_der(&decode(text(certificate, "rawBytes")?, "rawBytes")?).map_err(malformed)
}

/// Reads a bundle around the signature of a file (`cosign sign-blob`, `sigstore sign`): only such a
/// one is read that has a short-lived certificate, as strictly as [`Bundle::parse`] reads others.
pub fn parse_message_bundle(value: &Value) -> Result<Keyless, Defect> {
    let bundle = object(value, "the bundle")?;
    only_keys(bundle, "the bundle", &["mediaType", "verificationMaterial", "messageSignature"])?;
    if text(bundle, "mediaType")? != MEDIA_TYPE {
        return Err(malformed(format!("`mediaType` is not `{MEDIA_TYPE}`")));
    }
    let message = object(member(bundle, "messageSignature")?, "`messageSignature`")?;
    only_keys(message, "`messageSignature`", &["messageDigest", "signature"])?;
    match parse_material(bundle, value)? {
        Material::Keyless(keyless) => Ok(*keyless),
        _ => Err(Defect::Unsupported("it signs a file with a key, not keyless".to_owned())),
    }
}

fn parse_signature(value: &Value, material: &Material) -> Result<Vec<u8>, Defect> {
    let Value::Array(signatures) = value else {
        return Err(malformed("`signatures` is not a list"));
    };
    let signature = match signatures.as_slice() {
        [] => return Err(Defect::Unsigned),
        [one] => object(one, "the signature")?,
        _ => return Err(malformed("there is more than one signature")),
    };
    only_keys(signature, "the signature", &["sig", "keyid"])?;
    match signature.get("keyid") {
        None | Some(Value::Null) => {}
        // The empty text is protobuf's way of leaving a field out.
        Some(Value::String(id)) if id.is_empty() => {}
        Some(Value::String(id)) if matches!(material, Material::Key(hint) if hint == id) => {}
        Some(_) => return Err(malformed("`keyid` names another key than the `hint`")),
    }
    decode(text(signature, "sig")?, "sig")
}

fn decode(text: &str, name: &str) -> Result<Vec<u8>, Defect> {
    // This engine wants the standard alphabet, full padding and no stray bits.
    STANDARD.decode(text).map_err(|error| malformed(format!("`{name}` is not base64: {error}")))
}

fn malformed(message: impl Into<String>) -> Defect {
    Defect::Malformed(message.into())
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, Defect> {
    value.as_object().ok_or_else(|| malformed(format!("{what} is not an object")))
}

fn member<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a Value, Defect> {
    map.get(key).ok_or_else(|| malformed(format!("`{key}` is missing")))
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str, Defect> {
    member(map, key)?.as_str().ok_or_else(|| malformed(format!("`{key}` is not text")))
}

fn only_keys(map: &Map<String, Value>, what: &str, known: &[&str]) -> Result<(), Defect> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(malformed(format!("{what} has the unknown key `{key}`"))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
