//! The container of a signature, also as older versions wrote it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::artifact::certificate::Certificate;
use crate::artifact::ecdsa::Public;
use crate::artifact::envelope::{IN_TOTO, MEDIA_TYPE};
use crate::artifact::pae::pre_authentication_encoding;
use crate::files;

/// A payload and its signature.
pub(super) struct Signed {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The signature, in DER.
    pub signature: Vec<u8>,
    /// Whose it is.
    pub material: Material,
}

/// What a signature names its key by.
pub(super) enum Material {
    /// A key that the verifier must know.
    Key(NamedKey),
    /// The signer's certificate, then those above it.
    Chain(Vec<Certificate>),
}

/// How a key is named.
pub(super) enum NamedKey {
    /// Not at all.
    Nowise,
    /// By the digest of its PEM text.
    Hint(String),
    /// By itself, up to version 1.0.
    Whole(Box<Public>),
}

impl NamedKey {
    /// Whether the name is this key's.
    pub fn fits(&self, key: &Public) -> bool {
        match self {
            Self::Nowise => true,
            Self::Hint(hint) => key.hint().is_ok_and(|own| own == *hint),
            Self::Whole(named) => **named == *key,
        }
    }
}

impl Signed {
    /// Reads a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value = files::parse_json(bytes).map_err(|error| error.with_causes())?;
        let bundle = object(Some(&value), "the bundle")?;
        only(bundle, &["mediaType", "verificationMaterial", "dsseEnvelope"])?;
        if bundle.get("mediaType").and_then(Value::as_str) != Some(MEDIA_TYPE) {
            return Err(format!("`mediaType` is not `{MEDIA_TYPE}`"));
        }
        let material = object(bundle.get("verificationMaterial"), "`verificationMaterial`")?;
        let envelope = object(bundle.get("dsseEnvelope"), "`dsseEnvelope`")?;
        only(envelope, &["payload", "payloadType", "signatures"])?;
        if text(envelope, "payloadType")? != IN_TOTO {
            return Err(format!("`payloadType` is not `{IN_TOTO}`"));
        }
        let signatures = envelope.get("signatures").and_then(Value::as_array);
        let Some([signature]) = signatures.map(Vec::as_slice) else {
            return Err("there is not exactly one signature".to_owned());
        };
        let signature = object(Some(signature), "the signature")?;
        Ok(Self {
            payload: decode(envelope, "payload")?,
            signature: decode(signature, "sig")?,
            material: parse_material(material)?,
        })
    }

    /// The bytes over which the signature goes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(IN_TOTO, &self.payload)
    }

    /// What version 0.2 signed in their place, always by SHA-256: Python's way to show the payload
    /// as text, which its author took for the payload itself.
    pub fn old_signed_bytes(&self) -> Vec<u8> {
        let quote =
            if self.payload.contains(&b'\'') && !self.payload.contains(&b'"') { '"' } else { '\'' };
        let length = self.payload.len();
        let mut text = format!("DSSEV1 {} {IN_TOTO} {length} b{quote}", IN_TOTO.len());
        for &byte in &self.payload {
            match byte {
                b'\\' => text.push_str("\\\\"),
                b'\n' => text.push_str("\\n"),
                b'\r' => text.push_str("\\r"),
                b'\t' => text.push_str("\\t"),
                b' '..=b'~' if char::from(byte) == quote => text.extend(['\\', quote]),
                b' '..=b'~' => text.push(char::from(byte)),
                _ => text.push_str(&format!("\\x{byte:02x}")),
            }
        }
        text.push(quote);
        text.into_bytes()
    }
}

fn parse_material(material: &Map<String, Value>) -> Result<Material, String> {
    match (material.get("publicKey"), material.get("x509CertificateChain")) {
        (Some(key), None) => {
            let key = object(Some(key), "`publicKey`")?;
            only(key, &["hint", "rawBytes", "keyDetails"])?;
            if key.contains_key("rawBytes") {
                let bytes = decode(key, "rawBytes")?;
                let pem = std::str::from_utf8(&bytes).ok().and_then(Public::from_pem);
                let key = pem.or_else(|| Public::from_der(&bytes)).ok_or("`rawBytes` is no key")?;
                return Ok(Material::Key(NamedKey::Whole(Box::new(key))));
            }
            let hint = key.get("hint").and_then(Value::as_str).unwrap_or_default();
            let named =
                if hint.is_empty() { NamedKey::Nowise } else { NamedKey::Hint(hint.into()) };
            Ok(Material::Key(named))
        }
        (None, Some(chain)) => {
            let chain = object(Some(chain), "`x509CertificateChain`")?;
            let list = chain.get("certificates").and_then(Value::as_array);
            let list = list.ok_or("there are no certificates")?;
            let read = |value: &Value| {
                Certificate::from_der(&decode(object(Some(value), "a certificate")?, "rawBytes")?)
            };
            Ok(Material::Chain(list.iter().map(read).collect::<Result<_, _>>()?))
        }
        _ => Err("neither a key nor certificates are named".to_owned()),
    }
}

fn object<'a>(value: Option<&'a Value>, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.and_then(Value::as_object).ok_or_else(|| format!("{what} is not an object"))
}

fn only(map: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("the key `{key}` is unknown")),
        None => Ok(()),
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    map.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` is not text"))
}

fn decode(map: &Map<String, Value>, key: &str) -> Result<Vec<u8>, String> {
    let bytes = STANDARD.decode(text(map, key)?);
    bytes.map_err(|error| format!("`{key}` is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_shown_as_python_shows_bytes() {
        let shown = |payload: &[u8]| {
            let material = Material::Key(NamedKey::Nowise);
            let signed = Signed { payload: payload.to_vec(), signature: Vec::new(), material };
            String::from_utf8(signed.old_signed_bytes()).unwrap()
        };
        let head = "DSSEV1 28 application/vnd.in-toto+json";
        assert_eq!(shown(b"{\n \"a\"\t}"), format!("{head} 8 b'{{\\n \"a\"\\t}}'"));
        assert_eq!(shown(b"it's"), format!("{head} 4 b\"it's\""));
        assert_eq!(shown(b"'\"\\"), format!("{head} 3 b'\\'\"\\\\'"));
        assert_eq!(shown("\u{e9}\0\r".as_bytes()), format!("{head} 4 b'\\xc3\\xa9\\x00\\r'"));
    }
}
