//! What the machine of a measurement is, as far as `/proc` tells.

use std::fs;

use serde::Serialize;

/// The facts that make two results comparable, or not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    os: &'static str,
    arch: &'static str,
    kernel: Option<String>,
    cpu: Option<String>,
    cpus: usize,
    memory_bytes: Option<u64>,
    /// Load average over the last minute when it began: what else was going on.
    load_1m: Option<f64>,
    /// A debug build measures nothing.
    debug_build: bool,
}

impl Machine {
    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            cpu: read("/proc/cpuinfo").and_then(|text| field(&text, "model name")),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: read("/proc/meminfo").and_then(|text| memory_bytes(&text)),
            load_1m: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            debug_build: cfg!(debug_assertions),
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} {}, {} cpus ({}), load {:.1}{}",
            self.os,
            self.kernel.as_deref().unwrap_or("?"),
            self.cpus,
            self.cpu.as_deref().unwrap_or(self.arch),
            self.load_1m.unwrap_or(0.0),
            if self.debug_build {
                ", DEBUG BUILD: these figures mean nothing"
            } else {
                ""
            },
        )
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn memory_bytes(text: &str) -> Option<u64> {
    let kib: u64 = field(text, "MemTotal")?
        .trim_end_matches("kB")
        .trim()
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            memory_bytes("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(
            field("processor : 0\nmodel name\t: A B\n", "model name"),
            Some("A B".to_owned())
        );
        assert_eq!(field("", "x"), None);
    }
}
