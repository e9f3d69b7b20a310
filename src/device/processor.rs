//! What the processor has that decides how fast things are.

use serde::Serialize;

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

/// The instructions that kernels choose between, of those that this machine has.
pub fn instructions() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! look {
            ($($name:tt)*) => {
                $(if std::arch::is_x86_feature_detected!($name) { found.push($name) })*
            };
        }
        look!("sse4.1" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni");
        look!("avx512bf16");
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! look {
            ($($name:tt)*) => {
                $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name) })*
            };
        }
        look!("neon" "fp16" "dotprod" "sve");
    }
    found.shrink_to_fit();
    found
}

/// Whether there are instructions for products of bfloat16 that our kernels know (AVX512-BF16, with
/// the loads of AVX512-BW).
pub fn multiplies_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
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
