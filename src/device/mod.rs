//! Where a run computes, in which precision, and why.

mod memory;

pub use memory::{memory_bytes_available, memory_bytes_peak};

use burn::tensor::Device;

use crate::config::DeviceChoice;
use crate::error::{Error, Result};

/// A device that was opened, with the words to say about it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Burn's handle.
    pub device: Device,
    /// For people and the lineage, e.g. `CPU, 2 threads`.
    pub name: String,
    /// `flex` or `wgpu`.
    pub backend: &'static str,
    /// Why this one.
    pub reason: String,
    /// Are results bit-equal from run to run?
    pub deterministic: bool,
}

impl Opened {
    /// What decides the bits of a result besides its inputs: the backend, the machine's kind, and
    /// the instructions that kernels choose between. The number of threads does not.
    pub fn class(&self) -> String {
        if self.backend != "flex" {
            return format!("{} {}", self.backend, self.name);
        }
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! look {
                ($($name:tt)*) => {
                    $(if std::arch::is_x86_feature_detected!($name) { found.push($name) })*
                };
            }
            look!("sse4.1" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni");
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
        let names: &[&str] = &found;
        format!(
            "{} {} {} {}",
            self.backend,
            std::env::consts::OS,
            std::env::consts::ARCH,
            names.join(" ")
        )
    }
}

/// Opens the wanted device; `threads` = 0 means one per core.
///
/// # Errors
/// When a GPU is demanded and none can be opened, or the thread pool was started before with
/// another size.
pub fn open(wanted: DeviceChoice, threads: usize) -> Result<Opened> {
    let threads = start_threads(threads)?;
    match wanted {
        DeviceChoice::Cpu => Ok(cpu(threads, "asked for")),
        DeviceChoice::Gpu => gpu().map_err(|why| {
            Error::new("no GPU can be used")
                .because(why)
                .hint("set `device.name = \"cpu\"`, or install the Vulkan driver of your card")
        }),
        DeviceChoice::Auto => Ok(match gpu() {
            Ok(opened) => opened,
            Err(why) => cpu(threads, &format!("no GPU: {why}")),
        }),
    }
}

/// Sizes the pool that all CPU operations share, once per process; 0 means a thread per core.
/// Returns how many there are.
///
/// # Errors
/// When the pool was started before with another size.
pub fn start_threads(threads: usize) -> Result<usize> {
    if threads > 0 {
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        if built.is_err() && rayon::current_num_threads() != threads {
            return Err(Error::new(format!(
                "cannot use {threads} threads: {} are already running",
                rayon::current_num_threads()
            )));
        }
    }
    Ok(rayon::current_num_threads())
}

fn cpu(threads: usize, reason: &str) -> Opened {
    Opened {
        device: Device::flex(),
        name: format!("CPU, {threads} threads"),
        backend: "flex",
        reason: reason.to_owned(),
        deterministic: true,
    }
}

/// The first real graphics card. A software rasteriser is never chosen: it is slower than the
/// CPU backend by an order of magnitude.
#[cfg(feature = "gpu")]
fn gpu() -> std::result::Result<Opened, String> {
    use burn::tensor::DeviceKind;

    let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0)];
    for kind in kinds {
        if let Ok(device) = Device::wgpu_options().device_kind(kind).init() {
            let identity = device.identity();
            let name = identity.map_or_else(|| "GPU".to_owned(), |found| found.name);
            return Ok(Opened {
                device,
                name,
                backend: "wgpu",
                reason: "the first graphics card found".to_owned(),
                deterministic: false,
            });
        }
    }
    // Burn's own message lists every adapter that will not do, over several lines.
    Err("no graphics card with a usable driver was found".to_owned())
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> std::result::Result<Opened, String> {
    Err("this build has no GPU support (feature `gpu`)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_can_always_be_opened_and_says_why() {
        let opened = open(DeviceChoice::Cpu, 0).unwrap();
        assert_eq!((opened.backend, opened.reason.as_str()), ("flex", "asked for"));
        assert!(opened.deterministic);
    }

    #[test]
    fn auto_never_fails() {
        open(DeviceChoice::Auto, 0).unwrap();
    }
}
