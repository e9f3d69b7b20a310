//! How much memory a run uses, on the device and on the host, and how much there is.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// What a device and this process hold at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of tensors on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_in_use: Option<u64>,
    /// Bytes that were taken from a GPU, pages kept for later included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_reserved: Option<u64>,
    /// Resident bytes of this process, where the system tells.
    pub host_bytes: Option<u64>,
}

/// What is held at the moment.
pub fn usage(device: &Device) -> Usage {
    let pool = device.memory_pool_usage();
    Usage {
        device_bytes_in_use: pool.as_ref().map(|pool| pool.bytes_in_use),
        device_bytes_reserved: pool.as_ref().map(|pool| pool.bytes_reserved),
        host_bytes: field("/proc/self/status", "VmRSS:"),
    }
}

/// Peak resident bytes of this process, where the system tells (Linux: `VmHWM`).
pub fn memory_bytes_peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Bytes that can be had without swapping (Linux: `MemAvailable`).
pub fn memory_bytes_available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// Asks the system for small pages from now on: a large one is taken whole, however little of it
/// is needed. What is computed takes about 3 % longer. Linux alone; others go on as they are.
pub fn prefer_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true); // it is a wish
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_host_tells_what_it_holds() {
        let used = usage(&Device::flex());
        assert!(used.host_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(memory_bytes_peak() >= used.host_bytes);
        assert_eq!(used.device_bytes_in_use, None, "the CPU has no memory of its own");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn small_pages_are_preferred_from_then_on() {
        prefer_small_pages();
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
    }
}
