//! The container of every signature: a DSSE envelope inside a sigstore bundle v0.3.

use crate::artifact::pae::pre_authentication_encoding;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::certificate::Certificate;
use super::keys::SigningKey;
use crate::error::Result;
use crate::files;

/// The only bundle version that is written and read.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The payload type of every in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The most certificates that one signature carries.
const MAX_CERTIFICATES: usize = 10;

/// What a signature names its key by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// SHA-256 of the public key's PEM text, in hex.
    Key(String),
    /// The signer's certificate, then those that vouch for it, each for the one before.
    Chain(Vec<Certificate>),
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
        let material = parse_material(member(bundle, "verificationMaterial")?)?;
        let envelope = object(member(bundle, "dsseEnvelope")?, "`dsseEnvelope`")?;
        only_keys(envelope, "`dsseEnvelope`", &["payload", "payloadType", "signatures"])?;
        let payload_type = text(envelope, "payloadType")?.to_owned();
        let payload = decode(text(envelope, "payload")?, "payload")?;
        let signature = parse_signature(member(envelope, "signatures")?, &material)?;
        Ok(Self { payload_type, payload, signature, material })
    }
}

fn parse_material(value: &Value) -> Result<Material, Defect> {
    let material = object(value, "`verificationMaterial`")?;
    if material.contains_key("certificate") {
        let message = "it is signed by a short-lived `certificate` without a key of its own";
        return Err(Defect::Unsupported(message.to_owned()));
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
    let read = |value: &Value| {
        let certificate = object(value, "a certificate")?;
        only_keys(certificate, "a certificate", &["rawBytes"])?;
        Certificate::from_der(&decode(text(certificate, "rawBytes")?, "rawBytes")?)
            .map_err(malformed)
    };
    list.iter().map(read).collect()
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
