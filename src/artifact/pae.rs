//! What a DSSE signature is over (github.com/secure-systems-lab/dsse, protocol.md).

/// What DSSE signs: type and length of the payload come first, so nothing can be confused.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
