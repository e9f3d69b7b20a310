//! How much memory the process has used, and how much the machine has left.

/// Peak resident bytes of this process, where the system tells (Linux: `VmHWM`).
pub fn memory_bytes_peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Bytes that can be had without swapping (Linux: `MemAvailable`).
pub fn memory_bytes_available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
