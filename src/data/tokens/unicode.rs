//! Characters about which the two engines may disagree: those of newer versions of Unicode.
//!
//! Splitting rules speak of letters, numbers, marks and so on. The fast engine follows Unicode 17,
//! the exact one an older version, to which characters that came later are nothing at all. A text
//! with such a character is left to the exact engine.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// One bit for every code point that is no character yet; `None` if that cannot be found out.
static UNKNOWN: LazyLock<Option<Vec<u64>>> = LazyLock::new(|| {
    let all: String = ('\u{80}'..=char::MAX).collect();
    let pattern = SysRegex::new(r"\p{Cn}+").ok()?;
    let mut bits = vec![0_u64; 0x11_0000 / 64];
    for (start, end) in pattern.find_iter(&all) {
        for c in all.get(start..end)?.chars() {
            let (word, bit) = place(c);
            *bits.get_mut(word)? |= bit;
        }
    }
    Some(bits)
});

fn place(c: char) -> (usize, u64) {
    let code = c as usize;
    (code / 64, 1 << (code % 64))
}

/// Whether a text has characters that the exact engine's version of Unicode does not have.
pub fn has_unknown(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let Some(bits) = UNKNOWN.as_deref() else { return true };
    text.chars().filter(|c| !c.is_ascii()).any(|c| {
        let (word, bit) = place(c);
        bits.get(word).is_none_or(|word| word & bit != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_known_from_the_version_of_unicode_on_that_has_them() {
        for known in ["", "abc", "größe", "日本", "\u{1f389}", "\u{10fffd}", "\u{301}", "\u{1c89}"]
        {
            assert!(!has_unknown(known), "{known:?}");
        }
        // Of Unicode 17, never assigned, and not a character for good.
        for unknown in ["\u{1aeb}", "a\u{378}", "\u{ffff}", "x\u{10ffff}y"] {
            assert!(has_unknown(unknown), "{unknown:?}");
        }
    }
}
