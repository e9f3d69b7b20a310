//! Tests of the reading of pickles: those that Python writes, and texts that look alike.

use super::*;

/// `pickle.dumps` of an object whose `__reduce__` is `os.system("id")`, by protocol.
pub(in crate::scan) const PROTOCOL_0: &[u8] = b"cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.";
const PROTOCOL_1: &[u8] = b"cposix\nsystem\nq\x00(X\x02\x00\x00\x00idq\x01tq\x02Rq\x03.";
const PROTOCOL_2: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.";
pub(in crate::scan) const PROTOCOL_4: &[u8] =
    b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\
    \x85\x94R\x94.";

fn imports(bytes: &[u8]) -> Vec<String> {
    recognise(bytes, true).expect("a pickle").imports.into_iter().collect()
}

#[test]
fn pickles_of_every_protocol_are_known_and_what_they_import() {
    for bytes in [PROTOCOL_0, PROTOCOL_1, PROTOCOL_2, PROTOCOL_4] {
        assert_eq!(imports(bytes), ["posix.system"]);
        assert!(recognise(bytes, true).unwrap().calls);
    }
    let mut three = PROTOCOL_2.to_vec();
    three[1] = 3;
    let mut five = PROTOCOL_4.to_vec();
    five[1] = 5;
    assert_eq!((imports(&three).len(), imports(&five).len()), (1, 1));
    // INST, and harmless lists and dictionaries of the oldest protocol.
    assert_eq!(imports(b"(S'id'\nios\nsystem\n."), ["os.system"]);
    assert!(recognise(b"(lp0\nI1\naI2\na.", true).is_some());
    assert!(recognise(b"(dp0\nVa\np1\nI1\ns.\n", true).is_some());
}

#[test]
fn a_pickle_that_breaks_off_is_one() {
    let broken = [&PROTOCOL_2[..PROTOCOL_2.len() - 1], b"\xff\xff\xff"].concat();
    assert!(recognise(&broken, true).is_some());
    let cut = &PROTOCOL_4[..PROTOCOL_4.len() - 6];
    assert!(recognise(cut, false).is_some());
    assert!(recognise(&[b"\n\n ", PROTOCOL_0].concat(), true).is_some());
}

#[test]
fn texts_and_weights_are_no_pickles() {
    for text in [
        &b"{\"a\": [1, 2.5, null]}\n"[..],
        b"I am a text. It has words.",
        b"I\n",
        b"Very\nNice\nand long.",
        b"(a)",
        b"(.",
        b".",
        b"",
        b"Note\n.",
        b"china\nis far away\nRome is not.",
        b"S is a letter\n.",
        b"\x80\x02\0\0\0\0\0\0{\"a\":",
        b"\x80\x02",
        b"\x80\x09N.",
        b"}{",
        b"]",
    ] {
        assert_eq!(recognise(text, true), None, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_hidden_pickle_is_found_where_it_imports_and_calls() {
    for body in [PROTOCOL_2, PROTOCOL_4, PROTOCOL_0] {
        let bytes = [&[0xfe; 100][..], body, &[0xfe; 9]].concat();
        assert_eq!(hidden(&bytes).unwrap().imports.len(), 1);
    }
    // One that calls nothing is not told from chance.
    assert_eq!(hidden(&[&[7; 9][..], b"\x80\x02K\x01."].concat()), None);
    let text = format!("This text tells of attacks: {}", String::from_utf8_lossy(PROTOCOL_0));
    assert_eq!(hidden(text.as_bytes()), None);
}

#[test]
fn hostile_lengths_and_endless_instructions_end() {
    assert!(recognise(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffx", true).is_none());
    let mut long = b"\x80\x02".to_vec();
    long.extend(std::iter::repeat_n(b'N', 3_000_000));
    assert!(recognise(&long, true).is_some());
    let many = b"\x80\x02NNN".repeat(200_000);
    assert_eq!(hidden(&many), None);
    assert_eq!(hidden(&b"\x80\x02(".repeat(100_000)), None);
}
