//! The memory of this process as Linux counts it.

use std::fs;

/// Resident memory now, in bytes (`VmRSS`); 0 where /proc is missing.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The most resident memory since the last [`reset_peak_resident_bytes`] (`VmHWM`).
pub fn peak_resident_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Sets the peak back to what is resident now. Where the kernel refuses, the peak of the process's life stays.
pub fn reset_peak_resident_bytes() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
