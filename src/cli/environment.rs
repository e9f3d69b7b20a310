//! Numbers that libraries take from the environment before anything of ours has run, and that can
//! end the process: threads without number, stacks without room. And what of ours is named there.

use crate::device::{TILE, tile_problem};
use crate::error::{Error, Result};
use crate::terminal::{LOG_FORMAT, LOG_FORMATS};

/// A variable, what it counts, and its least and largest value.
type Bounds = (&'static str, &'static str, u64, u64);

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// 0 lets rayon choose. Linux gives a process some 32,000 threads; past a few hundred they only
/// cost memory.
const BOUNDS: [Bounds; 3] = [
    ("RAYON_NUM_THREADS", "threads", 0, 1024),
    ("RAYON_RS_NUM_CPUS", "threads", 0, 1024),
    ("RUST_MIN_STACK", "bytes for the stack of a thread", 64 * KIB, GIB),
];

/// Looks at those that are set.
///
/// # Errors
/// All that are out of bounds, or no numbers, at once.
pub fn check(variable: impl Fn(&str) -> Option<String>) -> Result<()> {
    let problem = |(name, what, least, most): &Bounds| {
        let value = variable(name).filter(|value| !value.trim().is_empty())?;
        let fits = value.trim().parse::<u64>().is_ok_and(|it| (*least..=*most).contains(&it));
        let error = || {
            Error::usage(format!("the environment variable `{name}` is `{value}`"))
                .because(format!("it is a number of {what}, from {least} to {most}"))
                .hint(format!("unset it, or set it to such a number: `unset {name}`"))
        };
        (!fits).then(error)
    };
    let format = variable(LOG_FORMAT).filter(|value| !value.is_empty());
    let format = format.filter(|value| !LOG_FORMATS.contains(&value.as_str())).map(|value| {
        Error::usage(format!("the environment variable `{LOG_FORMAT}` is `{value}`"))
            .hint(format!("set it to `{}`, or unset it", LOG_FORMATS.join("` or `")))
    });
    let tile = variable(TILE).filter(|value| !value.is_empty()).and_then(|value| {
        let (why, instead) = tile_problem(&value)?;
        let what = format!("the environment variable `{TILE}` is `{value}`");
        Some(Error::usage(what).because(why).hint(instead))
    });
    let problems = BOUNDS.iter().filter_map(problem).chain(format).chain(tile);
    Error::all(problems.collect()).map_or(Ok(()), Err)
}

/// The value of a variable, whatever bytes it has.
pub fn value_of(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_bounds_are_refused_by_the_name_of_their_variable() {
        for (name, _, least, most) in BOUNDS {
            let with = |value: &str| check(|asked| (asked == name).then(|| value.to_owned()));
            for value in [least, most].map(|it| it.to_string()).iter().map(String::as_str) {
                assert!(with(value).is_ok(), "{name}={value}");
            }
            assert!(with("").is_ok());
            for value in ["-1", "x", "1e3", "18446744073709551616", "99999999999", "\u{1b}"] {
                let error = with(value).unwrap_err().to_string();
                assert!(error.contains(name) && !error.contains('\u{1b}'), "{error}");
            }
        }
    }
}
