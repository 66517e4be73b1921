//! Metrics of the process as the system sees it, read at each scrape.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use rustix::time::{ClockId, clock_gettime};
use strom_types::WallMs;

/// Labels of `strom_build_info`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildInfo {
    pub version: &'static str,
    /// The roles of the process, comma-separated.
    pub roles: String,
}

#[derive(Debug)]
pub(super) struct ProcessCollector {
    start_seconds: f64,
    build: BuildInfo,
}

impl ProcessCollector {
    /// `start` is when the process began, to the precision of its own start-up.
    pub(super) fn new(start: WallMs, build: BuildInfo) -> Self {
        ProcessCollector {
            start_seconds: start.0 as f64 / 1_000.0,
            build,
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            let into = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(into)
        };
        gauge(
            "process_start_time_seconds",
            "Start of the process since the Unix epoch",
            self.start_seconds,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Resident memory", bytes as f64)?;
        }
        if let Some(count) = open_files() {
            gauge("process_open_fds", "Open file descriptors", count as f64)?;
        }
        if let Some(most) = most_open_files() {
            gauge("process_max_fds", "Limit of open file descriptors", most as f64)?;
        }
        let cpu = ConstCounter::new(cpu_seconds());
        let help = "CPU time of the process, user and system";
        let into = encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?;
        cpu.encode(into)?;
        let info = Info::new(vec![
            ("version".to_owned(), self.build.version.to_owned()),
            ("roles".to_owned(), self.build.roles.clone()),
        ]);
        let into = encoder.encode_descriptor("strom_build", "What runs here", None, info.metric_type())?;
        info.encode(into)
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn open_files() -> Option<usize> {
    // The directory is open itself while it is read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn most_open_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
