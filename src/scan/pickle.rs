//! Pickles of protocols 0 to 5, read as far as it takes to know one: nothing is built or run.
//!
//! A pickle is a program for a machine with a stack. What it names and what it calls is found by
//! following its instructions; one that breaks off later has done its work by then, so a broken
//! end saves nobody.

use std::collections::BTreeSet;

use memchr::memchr;

use super::report::Report;
use super::rules::{DISGUISED, EMBEDDED_PICKLE, JOBLIB, PICKLE, Rule};
use super::sample::Sample;
use super::{kinds, sample};

/// How many names one finding shows.
const MAX_NAMES: usize = 5;
/// The longest name that is taken for one.
const MAX_NAME: usize = 200;
/// How many instructions are followed; what a pickle imports stands near its beginning.
const MAX_STEPS: usize = 2_000_000;
/// How many instructions may be followed in search of a hidden pickle.
const SEARCH_STEPS: usize = 4_000_000;
/// What is only ever found in attacks: instructions of the oldest protocol that import these.
const ATTACKS: [&str; 7] = [
    "cos\nsystem\n",
    "cposix\nsystem\n",
    "cnt\nsystem\n",
    "csubprocess\nPopen\n",
    "c__builtin__\neval\n",
    "cbuiltins\nexec\n",
    "cbuiltins\neval\n",
];

/// What a pickle does, as far as it was followed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pickle {
    /// The version that it names; the oldest two name none.
    pub protocol: Option<u8>,
    /// What it imports, `module.name`.
    pub imports: BTreeSet<String>,
    /// Whether it calls anything.
    pub calls: bool,
    steps: usize,
    /// Where it ended by itself.
    stopped: Option<usize>,
    /// The bytes ran out, or patience did, while all was well.
    cut: bool,
}

impl Pickle {
    /// What it is, in a sentence.
    pub fn describe(&self) -> String {
        let protocol = self.protocol.map_or_else(|| "0 or 1".to_owned(), |p| p.to_string());
        let names: Vec<_> =
            self.imports.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
        match names.is_empty() {
            true => format!("it is a Python pickle of protocol {protocol}"),
            false => format!(
                "it is a Python pickle of protocol {protocol} that imports {}{}",
                names.join(", "),
                if self.imports.len() > MAX_NAMES { " and more" } else { "" }
            ),
        }
    }

    /// By which rule it is reported.
    pub fn rule(&self) -> &'static Rule {
        let joblib = self.imports.iter().any(|name| name.starts_with("joblib."));
        if joblib { &JOBLIB } else { &PICKLE }
    }
}

/// Reports a file that is a pickle, or hides one.
pub(super) fn look(sample: &Sample, report: &mut Report) {
    if sample.is_safetensors() {
        return search(sample, report);
    }
    let complete = sample.size == sample.head.len() as u64;
    let Some(pickle) = recognise(&sample.head, complete) else {
        // The members of a zip archive are looked at one by one.
        if !sample.head.starts_with(b"PK\x03\x04") {
            search(sample, report);
        }
        return;
    };
    report.add(pickle.rule(), &sample.name, pickle.describe());
    if kinds::promises_plain(&sample.extension()) {
        let detail = format!("it is a pickle, not {}", sample::extension(&sample.name));
        report.add(&DISGUISED, &sample.name, detail);
    }
}

fn search(sample: &Sample, report: &mut Report) {
    let mut windows = vec![&sample.head];
    if sample.size > sample.head.len() as u64 {
        windows.push(&sample.tail);
    }
    if let Some(pickle) = windows.into_iter().find_map(|window| hidden(window)) {
        let detail = format!("behind other bytes {}", pickle.describe());
        report.add(&EMBEDDED_PICKLE, &sample.name, detail);
    }
}

/// The pickle that these bytes begin with. `complete` says that nothing follows them.
pub(super) fn recognise(bytes: &[u8], complete: bool) -> Option<Pickle> {
    let skipped = bytes.iter().take(64).take_while(|byte| byte.is_ascii_whitespace()).count();
    [0, skipped].into_iter().find_map(|start| {
        let body = bytes.get(start..)?;
        let pickle = follow(body, MAX_STEPS);
        let known = match pickle.protocol {
            Some(_) => {
                pickle.stopped.is_some()
                    || !pickle.imports.is_empty()
                    || (pickle.cut && pickle.steps >= 3)
                    || pickle.steps >= 8
            }
            // Without a version it is told from text by what it does, or by ending as it should.
            None => {
                let ends = pickle.stopped.is_some_and(|end| body[end..].trim_ascii().is_empty());
                let called = !pickle.imports.is_empty() && pickle.calls;
                let named = !pickle.imports.is_empty() && (pickle.stopped.is_some() || pickle.cut);
                called || named || (complete && ends && pickle.steps >= 3)
            }
        };
        known.then_some(pickle)
    })
}

/// A pickle somewhere in these bytes that imports something, calls it and ends.
fn hidden(bytes: &[u8]) -> Option<Pickle> {
    let mut left = SEARCH_STEPS;
    let mut at = 0;
    while left > 0
        && let Some(found) = memchr(0x80, &bytes[at..])
    {
        at += found;
        if bytes.get(at + 1).is_some_and(|version| (2..=5).contains(version)) {
            let pickle = follow(&bytes[at..], left);
            left = left.saturating_sub(pickle.steps);
            if pickle.stopped.is_some() && !pickle.imports.is_empty() && pickle.calls {
                return Some(pickle);
            }
        }
        at += 1;
    }
    if std::str::from_utf8(bytes).is_ok() {
        return None; // a text may tell of attacks
    }
    let found = ATTACKS.iter().find_map(|text| memchr::memmem::find(bytes, text.as_bytes()))?;
    let pickle = follow(&bytes[found..], MAX_STEPS);
    (pickle.calls && !pickle.imports.is_empty()).then_some(pickle)
}

/// What an instruction has behind it.
#[derive(Clone, Copy)]
enum Operand {
    None,
    Bytes(usize),
    /// A length of so many bytes, then that many bytes.
    Counted(usize),
    Line,
    TwoLines,
}

/// Follows instructions until they end, make no sense, or are too many.
fn follow(bytes: &[u8], max_steps: usize) -> Pickle {
    let mut machine = Machine::default();
    let mut at = 0;
    loop {
        let Some(&opcode) = bytes.get(at) else {
            machine.pickle.cut = machine.pickle.steps > 0;
            return machine.pickle;
        };
        if machine.pickle.steps == max_steps {
            machine.pickle.cut = true;
            return machine.pickle;
        }
        at += 1;
        let Some(operand) = operand(opcode) else { return machine.pickle };
        let Some((first, second, length)) = take(&bytes[at..], operand) else {
            // A string longer than what is at hand is fine; a line without an end is not.
            machine.pickle.cut = matches!(operand, Operand::Counted(_) | Operand::Bytes(_));
            return machine.pickle;
        };
        if machine.step(opcode, first, second).is_none() {
            return machine.pickle;
        }
        at += length;
        machine.pickle.steps += 1;
        if opcode == b'.' {
            machine.pickle.stopped = Some(at);
            return machine.pickle;
        }
    }
}

fn operand(opcode: u8) -> Option<Operand> {
    Some(match opcode {
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'}'
        | b'e'
        | b'l'
        | b']'
        | b'o'
        | b's'
        | b't'
        | b')'
        | b'u'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Operand::None,
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Operand::Bytes(1),
        b'M' | 0x83 => Operand::Bytes(2),
        b'J' | b'j' | b'r' | 0x84 => Operand::Bytes(4),
        b'G' | 0x95 => Operand::Bytes(8),
        b'U' | b'C' | 0x8a | 0x8c => Operand::Counted(1),
        b'T' | b'X' | b'B' | 0x8b => Operand::Counted(4),
        0x8d | 0x8e | 0x96 => Operand::Counted(8),
        b'F' | b'I' | b'L' | b'P' | b'S' | b'V' | b'g' | b'p' => Operand::Line,
        b'c' | b'i' => Operand::TwoLines,
        _ => return None,
    })
}

/// The operand's parts and its length with everything.
fn take(bytes: &[u8], operand: Operand) -> Option<(&[u8], &[u8], usize)> {
    let line = |bytes: &[u8]| memchr(b'\n', bytes);
    Some(match operand {
        Operand::None => (&[], &[], 0),
        Operand::Bytes(count) => (bytes.get(..count)?, &[], count),
        Operand::Counted(size) => {
            let mut length = [0; 8];
            length[..size].copy_from_slice(bytes.get(..size)?);
            let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
            let end = size.checked_add(length)?;
            (bytes.get(size..end)?, &[], end)
        }
        Operand::Line => {
            let end = line(bytes)?;
            (&bytes[..end], &[], end + 1)
        }
        Operand::TwoLines => {
            let first = line(bytes)?;
            let second = first + 1 + line(&bytes[first + 1..])?;
            (&bytes[..first], &bytes[first + 1..second], second + 1)
        }
    })
}

/// The stack, of which only the height counts.
#[derive(Default)]
struct Machine<'a> {
    pickle: Pickle,
    height: usize,
    marks: Vec<usize>,
    /// The last two strings: what an import takes from the stack.
    strings: [&'a [u8]; 2],
}

impl<'a> Machine<'a> {
    /// One instruction; `None` if it cannot be one.
    fn step(&mut self, opcode: u8, first: &'a [u8], second: &'a [u8]) -> Option<()> {
        match opcode {
            0x80 => {
                // It may only stand at the beginning.
                let version = first.first().copied().filter(|version| *version <= 5)?;
                (self.pickle.steps == 0).then(|| self.pickle.protocol = Some(version))
            }
            0x95 => Some(()),
            b'(' => {
                self.marks.push(self.height);
                Some(())
            }
            b'c' => {
                self.import(first, second)?;
                self.change(0, 1)
            }
            b'i' => {
                self.import(first, second)?;
                self.pickle.calls = true;
                self.pop_mark(0, 1)
            }
            0x93 => {
                let [module, name] = self.strings;
                // Only the last strings are followed, not what a memo brings back.
                if self.import(module, name).is_none() {
                    self.pickle.imports.insert("something".to_owned());
                }
                self.change(2, 1)
            }
            b'I' | b'L' | b'F' | b'g' | b'p' | b'S' => {
                plausible(opcode, first)?;
                if opcode == b'p' { self.change(1, 1) } else { self.push(opcode, first) }
            }
            b'R' | 0x81 | b'b' => {
                self.pickle.calls = true;
                self.change(2, 1)
            }
            0x92 => {
                self.pickle.calls = true;
                self.change(3, 1)
            }
            b'o' => {
                self.pickle.calls = true;
                self.pop_mark(0, 1)
            }
            b'1' => self.pop_mark(0, 0),
            b't' | b'd' | b'l' | 0x91 => self.pop_mark(0, 1),
            b'e' | b'u' | 0x90 => self.pop_mark(1, 1),
            b'0' => match self.marks.last() {
                Some(mark) if *mark == self.height => self.marks.pop().map(drop),
                _ => self.change(1, 0),
            },
            b'2' => self.change(1, 2),
            b'a' | 0x86 => self.change(2, 1),
            b's' | 0x87 => self.change(3, 1),
            b'Q' | 0x85 | 0x94 | 0x98 | b'q' | b'r' => self.change(1, 1),
            b'.' => self.change(1, 0),
            _ => self.push(opcode, first),
        }
    }

    fn push(&mut self, opcode: u8, operand: &'a [u8]) -> Option<()> {
        if [b'S', b'T', b'U', b'V', b'X', 0x8c, 0x8d].contains(&opcode) {
            let text = if opcode == b'S' { &operand[1..operand.len() - 1] } else { operand };
            self.strings = [self.strings[1], text];
        }
        self.change(0, 1)
    }

    fn change(&mut self, pops: usize, pushes: usize) -> Option<()> {
        self.height = self.height.checked_sub(pops)? + pushes;
        Some(())
    }

    /// Takes everything down to the last mark, and `below` more.
    fn pop_mark(&mut self, below: usize, pushes: usize) -> Option<()> {
        let mark = self.marks.pop()?;
        self.height = mark.min(self.height).checked_sub(below)? + pushes;
        Some(())
    }

    /// Notes `module.name`, if the two can be names.
    fn import(&mut self, module: &[u8], name: &[u8]) -> Option<()> {
        let (module, name) = (plain_name(module)?, plain_name(name)?);
        if self.pickle.imports.len() < 1000 {
            self.pickle.imports.insert(format!("{module}.{name}"));
        }
        Some(())
    }
}

fn plain_name(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\r');
    let good = |c: char| c.is_alphanumeric() || "_.<>-".contains(c);
    (!text.is_empty() && text.len() <= MAX_NAME && text.chars().all(good)).then_some(text)
}

/// Whether a line can stand behind this instruction.
fn plausible(opcode: u8, line: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let good = match opcode {
        b'F' => text.parse::<f64>().is_ok(),
        b'S' => {
            let quoted = |quote: u8| {
                line.len() >= 2 && line.first() == Some(&quote) && line.last() == Some(&quote)
            };
            quoted(b'\'') || quoted(b'"')
        }
        _ => {
            let digits = text.trim_end_matches('L').trim_start_matches('-');
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        }
    };
    good.then_some(())
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
pub(super) mod tests;
