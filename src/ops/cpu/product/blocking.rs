//! How the inner numbers of a product are divided: in passes, from which the order of its sums
//! follows, and those in steps, which fit the caches of the processor and change no bit.
//!
//! A tile multiplies a step's part of a panel of right factors with rows of left ones, and all rows
//! read the same part. A core that does one 512-bit multiplication with addition a cycle hides that
//! a long part comes from its second-level cache: 256 bytes for each 24 of them. One that does two
//! does not, so that there a part must stay in its first-level cache.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::packed::PANEL;

/// Inner numbers of a pass, whose sums are added to the target: a panel of them fits into the
/// second-level cache of a core.
pub const PASS: usize = 2048;
/// Steps are multiples of this: whole groups of every format, and whole lines of a cache.
const UNIT: usize = 16;
/// Bytes of a first-level cache where the system does not tell.
const FIRST_LEVEL: usize = 32 << 10;

/// Inner numbers of one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which.
    pub term: usize,
    /// The first, and where they end.
    pub inner: (usize, usize),
}

/// What is gone through at once, of one term or of several.
pub type Step = Vec<Piece>;
/// Steps whose sums are added to the target together.
pub type Pass = Vec<Step>;

/// Divides the inner numbers of terms, so many each, into passes of a length, and those into steps
/// of a depth.
pub fn divided(lengths: impl Iterator<Item = usize>, length: usize, depth: usize) -> Vec<Pass> {
    let whole = lengths.enumerate().map(|(term, length)| Piece { term, inner: (0, length) });
    parts(whole, length).into_iter().map(|pass| parts(pass, depth)).collect()
}

/// Divides pieces, one after the other, into parts of a length; the last is what is left.
fn parts(pieces: impl IntoIterator<Item = Piece>, length: usize) -> Vec<Vec<Piece>> {
    let mut parts = vec![Vec::new()];
    let mut room = length;
    for Piece { term, inner: (mut first, last) } in pieces {
        while first < last {
            if room == 0 {
                parts.push(Vec::new());
                room = length;
            }
            let end = last.min(first.saturating_add(room));
            room -= end - first;
            parts.last_mut().expect("there is one").push(Piece { term, inner: (first, end) });
            first = end;
        }
    }
    parts
}

/// What [`step_depth`] is; 0 before it is known.
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// Inner numbers of a step at most.
pub fn step_depth() -> usize {
    match DEPTH.load(Ordering::Relaxed) {
        0 => {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let cache = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index0/size");
            let depth = depth_for(&cpuinfo, cache.unwrap_or_default().trim());
            DEPTH.store(depth, Ordering::Relaxed);
            depth
        }
        depth => depth,
    }
}

/// Makes steps of this depth from now on, a multiple of 16: for tests and measurements. No bit of a
/// product depends on it.
pub fn set_step_depth(depth: usize) {
    assert!(depth > 0 && depth.is_multiple_of(UNIT), "steps are whole units");
    DEPTH.store(depth, Ordering::Relaxed);
}

/// The depth for a processor, by what Linux says of it and of the size of its first-level cache.
/// Where it says nothing, that of a processor with two units.
fn depth_for(cpuinfo: &str, cache: &str) -> usize {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    };
    // Zen 4 does 512-bit instructions in two halves: one multiplication with addition a cycle.
    let has_vectors =
        field("flags").is_some_and(|flags| flags.split(' ').any(|it| it == "avx512f"));
    let is_zen_4 = field("vendor_id") == Some("AuthenticAMD") && field("cpu family") == Some("25");
    if is_zen_4 && has_vectors {
        return PASS;
    }
    let bytes = cache.strip_suffix('K').and_then(|size| size.parse::<usize>().ok());
    let bytes = bytes.map_or(FIRST_LEVEL, |size| size.saturating_mul(1 << 10));
    // Three quarters of it; the rest is for left factors and sums.
    let depth = bytes / 4 * 3 / (PANEL * size_of::<f32>()) / UNIT * UNIT;
    depth.clamp(UNIT, PASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_inner_numbers_in_order() {
        for (lengths, pass, step) in [
            (vec![0], 8, 4),
            (vec![5], 8, 4),
            (vec![8], 8, 8),
            (vec![17, 0, 3], 8, 4),
            (vec![100, 7, 2048], 2048, 96),
            (vec![33], usize::MAX, 16),
        ] {
            let divided = divided(lengths.iter().copied(), pass, step);
            let mut found: Vec<Vec<usize>> = lengths.iter().map(|_| Vec::new()).collect();
            let size = |step: &Step| step.iter().map(|it| it.inner.1 - it.inner.0).sum::<usize>();
            for steps in &divided {
                assert!(steps.iter().map(size).sum::<usize>() <= pass);
                assert!(steps.iter().all(|it| size(it) <= step));
                for piece in steps.iter().flatten() {
                    found[piece.term].extend(piece.inner.0..piece.inner.1);
                }
            }
            for (found, length) in found.into_iter().zip(&lengths) {
                assert!(found.into_iter().eq(0..*length));
            }
            assert_eq!(divided.len(), lengths.iter().sum::<usize>().div_ceil(pass).max(1));
        }
    }

    #[test]
    fn a_step_fits_the_cache_of_the_processor() {
        let zen_4 = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: avx2 avx512f\n";
        assert_eq!(depth_for(zen_4, "32K"), PASS);
        let zen_3 = zen_4.replace(" avx512f", "");
        assert_eq!(depth_for(&zen_3, "32K"), 96);
        let zen_5 = zen_4.replace("25", "26");
        assert_eq!(depth_for(&zen_5, "48K"), 144);
        let ice_lake = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nflags\t\t: avx512f\n";
        assert_eq!(depth_for(ice_lake, "48K"), 144);
        for unknown in ["", "K", "-1K", "0K", "99999999999999999999K", "18446744073709551615K"] {
            let depth = depth_for("", unknown);
            assert!((UNIT..=PASS).contains(&depth) && depth.is_multiple_of(UNIT), "{unknown}");
        }
    }
}
