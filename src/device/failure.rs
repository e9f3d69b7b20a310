//! What a device does when it cannot go on: its runtime panics, in the middle of anything. Here
//! that becomes a value, and being out of memory is told from everything else.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorCode, Result, catch_panic};

/// Why a device did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It has no room; its words.
    Memory(String),
    /// Anything else; its words.
    Other(String),
}

/// Words of drivers, of wgpu and of its runtime.
const MEMORY: [&str; 5] = [
    "out of memory",
    "out of device memory",
    "can't allocate buffer",
    "out_of_device_memory",
    "not enough memory",
];

impl Failure {
    /// By what it says.
    pub fn of(text: &str) -> Self {
        let line = text.lines().next().unwrap_or("it gave no reason").trim().to_owned();
        let all = text.to_lowercase();
        match MEMORY.iter().any(|words| all.contains(words)) {
            true => Self::Memory(line),
            false => Self::Other(line),
        }
    }

    /// As an error; `doing` goes on from "the device failed while".
    pub fn while_doing(self, doing: &str) -> Error {
        let (what, why, code) = match self {
            Self::Memory(why) => ("has no memory left for", why, ErrorCode::OutOfMemory),
            Self::Other(why) => ("failed while", why, ErrorCode::Device),
        };
        Error::device(format!("the device {what} {doing}"))
            .code(code)
            .because(why)
            .hint("`firebrand doctor` checks the device; `device.name = \"cpu\"` works without it")
    }
}

/// Does work on a device. On the CPU a panic is a defect of ours and goes on; elsewhere it is how
/// the device tells that it cannot.
///
/// # Errors
/// When the device failed. What was being computed is lost; tensors of before are as they were.
pub fn attempt<T>(on_gpu: bool, work: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
    if !on_gpu {
        return Ok(work());
    }
    catch_panic(work).map_err(|text| Failure::of(&text))
}

/// The same, with the failure as an error ([`Failure::while_doing`]).
pub fn guarded<T>(on_gpu: bool, doing: &str, work: impl FnOnce() -> T) -> Result<T> {
    attempt(on_gpu, work).map_err(|failure| failure.while_doing(doing))
}

type Hook = Arc<dyn Fn(usize) -> bool + Send + Sync>;
static WATCHER: Mutex<Option<Hook>> = Mutex::new(None);

/// Somebody decides whether there is room, until this is dropped. For tests.
#[must_use]
pub struct MemoryWatch(());

/// Lets `fits` decide whether so many rows can be computed at once.
pub fn watch_memory(fits: impl Fn(usize) -> bool + Send + Sync + 'static) -> MemoryWatch {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fits));
    MemoryWatch(())
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Asks the watcher, if there is one.
///
/// # Errors
/// When it says that there is no room.
pub fn room_for(rows: usize) -> std::result::Result<(), Failure> {
    let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match watcher {
        Some(fits) if !fits(rows) => {
            Err(Failure::Memory(format!("a test allows no {rows} rows at once")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn want_of_memory_is_told_from_other_failures() {
        for text in [
            "wgpu error: Out of Memory",
            "called `Result::unwrap()`: out of device memory allocating 12 bytes\nbacktrace",
            "Error while reading data: WithContext { can't allocate buffer of size: 99 }",
            "ERROR_OUT_OF_DEVICE_MEMORY",
        ] {
            let Failure::Memory(line) = Failure::of(text) else { panic!("{text}") };
            assert!(!line.contains('\n'));
        }
        for text in ["the wgpu device was lost", "Validation Error", ""] {
            assert!(matches!(Failure::of(text), Failure::Other(_)), "{text}");
        }
    }

    #[test]
    fn a_panic_becomes_a_value_on_a_gpu_only() {
        assert_eq!(attempt(true, || 3), Ok(3));
        let failed: std::result::Result<(), Failure> =
            attempt(true, || panic!("Out of Memory, {}", 5));
        assert_eq!(failed, Err(Failure::Memory("Out of Memory, 5".to_owned())));
        let error = guarded(true, "loading the model", || -> u8 { panic!("lost") }).unwrap_err();
        let text = Error::to_string(&error);
        says(
            &text,
            snapbox::str![[r#"
error[device]: the device failed while loading the model
  because lost

hint: `firebrand doctor` checks the device; `device.name = "cpu"` works without it
"#]],
        );
        let passed_on = std::panic::catch_unwind(|| attempt(false, || std::hint::black_box(1)));
        assert!(passed_on.is_ok());
    }
}
