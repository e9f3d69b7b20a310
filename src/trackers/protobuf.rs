//! Messages of Protocol Buffers, written by hand: trackers need a few fields of a few of them.

/// The number and the kind of a field (Protocol Buffers, "Encoding").
fn tag(message: &mut Vec<u8>, field: u64, wire: u64) {
    varint(message, field << 3 | wire);
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

pub fn double(message: &mut Vec<u8>, field: u64, number: f64) {
    tag(message, field, 1);
    message.extend(number.to_le_bytes());
}

pub fn float(message: &mut Vec<u8>, field: u64, number: f32) {
    tag(message, field, 5);
    message.extend(number.to_le_bytes());
}

pub fn bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    tag(message, field, 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

pub fn number(message: &mut Vec<u8>, field: u64, number: u64) {
    tag(message, field, 0);
    varint(message, number);
}
