//! The container of every signature: a DSSE envelope inside a sigstore bundle v0.3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::keys::SigningKey;
use crate::error::Result;
use crate::files;

/// The only bundle version that is written and read.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The payload type of every in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What DSSE signs: type and length of the payload come first, so nothing can be confused.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
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
    /// SHA-256 of the public key's PEM text, in hex.
    pub hint: String,
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
        let hint = key.public().hint().to_owned();
        Ok(Self { payload_type: payload_type.to_owned(), payload, signature, hint })
    }

    /// The bytes over which the signature goes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload)
    }

    /// One line of JSON, without a line end.
    pub fn to_json(&self) -> String {
        // The key identifier repeats the hint: the bundle's definition wants them equal.
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&self.payload),
                "payloadType": self.payload_type,
                "signatures": [{"sig": STANDARD.encode(&self.signature), "keyid": self.hint}],
            },
        })
        .to_string()
    }

    /// Reads a bundle strictly: whatever two readers could understand differently is a defect.
    pub fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let value = files::parse_json(bytes).map_err(|error| {
            Defect::Malformed([vec![error.what], error.causes].concat().join(": "))
        })?;
        let bundle = object(&value, "the bundle")?;
        only_keys(bundle, "the bundle", &["mediaType", "verificationMaterial", "dsseEnvelope"])?;
        if text(bundle, "mediaType")? != MEDIA_TYPE {
            return Err(malformed(format!("`mediaType` is not `{MEDIA_TYPE}`")));
        }
        let hint = parse_material(member(bundle, "verificationMaterial")?)?;
        let envelope = object(member(bundle, "dsseEnvelope")?, "`dsseEnvelope`")?;
        only_keys(envelope, "`dsseEnvelope`", &["payload", "payloadType", "signatures"])?;
        let payload_type = text(envelope, "payloadType")?.to_owned();
        let payload = decode(text(envelope, "payload")?, "payload")?;
        let signature = parse_signature(member(envelope, "signatures")?, &hint)?;
        Ok(Self { payload_type, payload, signature, hint })
    }
}

fn parse_material(value: &Value) -> Result<String, Defect> {
    let material = object(value, "`verificationMaterial`")?;
    for unsupported in ["x509CertificateChain", "certificate"] {
        if material.contains_key(unsupported) {
            let message = format!("it is signed by `{unsupported}`, not by a plain key");
            return Err(Defect::Unsupported(message));
        }
    }
    only_keys(
        material,
        "`verificationMaterial`",
        &["publicKey", "tlogEntries", "timestampVerificationData"],
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
    let key = object(member(material, "publicKey")?, "`publicKey`")?;
    only_keys(key, "`publicKey`", &["hint"])?;
    let hint = text(key, "hint")?;
    if hint.parse::<files::Digest>().is_err() {
        return Err(malformed("the key's `hint` is not a lower-case SHA-256 digest"));
    }
    Ok(hint.to_owned())
}

fn parse_signature(value: &Value, hint: &str) -> Result<Vec<u8>, Defect> {
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
        Some(Value::String(id)) if id.is_empty() || id == hint => {}
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
