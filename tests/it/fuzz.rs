//! The fuzz targets of `fuzz/`, on inputs of a mutator with a fixed seed, so that every run of the
//! suite tries the same. libFuzzer finds more: see `fuzz/Cargo.toml`.
//!
//! The whole process may use [`MEMORY`]; what asks for more, overflows a stack or panics ends the
//! test, and the input that did it lies where the message says.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use firebrand::random::Stream;
use targets::{TARGETS, Target};

/// Address space of the process, in bytes: the tokenizers' tables and the allocator's reservations
/// fit, a length that a file made up does not.
const MEMORY: u64 = 6 << 30;
/// No input of a few kilobytes may take so long, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer inputs are cut, so that rounds stay short.
const LONGEST: usize = 256 << 10;

/// Changes an input, by numbers that are a function of the stream.
struct Mutator<'a> {
    numbers: Stream,
    drawn: u64,
    words: &'a [&'a str],
}

impl Mutator<'_> {
    fn draw(&mut self, below: usize) -> usize {
        self.drawn += 1;
        (self.numbers.bits(self.drawn) % below.max(1) as u64) as usize
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.draw(seeds.len())].clone();
        for _ in 0..=self.draw(4) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.draw(bytes.len() + 1);
        let length = self.draw(1 + (bytes.len() - at).min(64));
        match self.draw(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.draw(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n'][self.draw(6)],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copy = bytes[at..at + length].repeat(1 + self.draw(40));
                bytes.splice(at..at, copy);
            }
            4 => {
                let other = &seeds[self.draw(seeds.len())];
                let from = self.draw(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 => {
                let large = [u64::MAX, 1 << 63, 1 << 32, (1 << 31) - 1, 0][self.draw(5)];
                let large = large.to_le_bytes();
                let width = [4, 8][self.draw(2)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&large[..width]);
            }
            6 => self.number(bytes, at),
            7 => bytes.truncate(at),
            _ if !self.words.is_empty() => {
                let word = self.words[self.draw(self.words.len())].repeat(1 + self.draw(3));
                bytes.splice(at..at, word.into_bytes());
            }
            _ => {}
        }
    }

    /// The next number in a text becomes another one.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found)
        else {
            return;
        };
        let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let others: [&[u8]; 6] =
            [b"0", b"-1", b"2147483648", b"99999999999999999999", b"1e99", b""];
        let other = others[self.draw(others.len())];
        bytes.splice(start..start + digits, other.iter().copied());
    }
}

#[cfg(unix)]
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    setrlimit(Resource::As, limit).expect("a process may lower its own limits");
}

#[cfg(not(unix))]
fn limit_memory() {
    eprintln!("no limit of memory on this system: {MEMORY} bytes are not enforced");
}

/// Runs a target on all its seeds and on what becomes of them.
fn fuzz(target: &Target) {
    let folder = tempfile::tempdir().unwrap();
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
    let seeds = (target.seeds)();
    let numbers = Stream::new(20_261_128).site(target.name);
    let mutated = (0..target.rounds).map(|round| {
        let mut mutator = Mutator { numbers: numbers.number(round), drawn: 0, words: target.words };
        mutator.mutate(&seeds)
    });
    for (round, input) in seeds.iter().cloned().chain(mutated).enumerate() {
        // Before it runs: nothing is left to write it when a stack overflows.
        fs::write(&last, &input).unwrap();
        let place = folder.path().join("input");
        fs::create_dir(&place).unwrap();
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&input, &place)));
        let told = format!("{}, input {round}, which lies in {}", target.name, last.display());
        assert!(ended.is_ok(), "it panics: {told}");
        assert!(began.elapsed() < PATIENCE, "it takes {:?}: {told}", began.elapsed());
        fs::remove_dir_all(&place).unwrap();
    }
    fs::remove_file(&last).unwrap();
}

#[test]
fn every_parser_of_strange_bytes_comes_back() {
    limit_memory();
    // Templates end the process that renders them, not this one.
    firebrand::data::render_with(env!("CARGO_BIN_EXE_firebrand").into());
    for target in TARGETS {
        let began = Instant::now();
        fuzz(target);
        println!("{}: {} inputs in {:.1?}", target.name, target.rounds, began.elapsed());
    }
}

#[test]
fn every_target_has_its_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let mut programs: Vec<String> = fs::read_dir(root.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    programs.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(programs, names);
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in fuzz/Cargo.toml");
    }
}
