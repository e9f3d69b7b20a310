//! What the processor has that decides how fast things are.

use serde::Serialize;

use super::instructions;

/// Facts about the processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Processor {
    /// What it calls itself, where the system tells.
    pub name: Option<String>,
    /// Threads that the system offers.
    pub threads: usize,
    /// Kind of machine, as Rust names it.
    pub architecture: String,
    /// Instructions that kernels choose between.
    pub instructions: Vec<&'static str>,
    /// Whether it has instructions for SHA-256: hashing is faster with them.
    pub sha: bool,
}

/// Looks at the processor.
pub fn processor() -> Processor {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    Processor {
        name: name.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        architecture: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        instructions: instructions(),
        sha: sha(),
    }
}

fn sha() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    let found = std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = false;
    found
}
