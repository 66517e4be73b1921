//! Starts the skeleton's processes and reads what they cost.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Error, Load, producer};

/// Runs brokers, gateway and producer, and reports.
pub(crate) async fn skeleton(load: Load, sync: bool, brokers: usize, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir)?;
    let data = tempfile::tempdir_in(dir)?;
    let addresses = free_addresses(brokers)?;
    let mut children = Vec::new();
    for address in &addresses {
        let files = tempfile::tempdir_in(data.path())?.keep();
        let mut arguments = vec!["broker", "--listen", address, "--dir"];
        let files = files.display().to_string();
        arguments.push(&files);
        for other in addresses.iter().filter(|other| *other != address) {
            arguments.extend(["--follower", other]);
        }
        arguments.extend(sync.then_some("--sync"));
        children.push(start(&arguments).await?.0);
    }
    let leaders = addresses.iter().flat_map(|address| ["--broker", address]);
    let arguments: Vec<&str> = std::iter::once("gateway").chain(leaders).collect();
    let (gateway, address) = start(&arguments).await?;
    children.push(gateway);
    let pids: Vec<u32> = children.iter().filter_map(Child::id).collect();
    let before: f64 = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
    let took = producer::framed(load, &address).await?;
    let cpu = pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>() - before;
    report(if sync { "skeleton-sync" } else { "skeleton" }, load, took, cpu);
    Ok(())
}

/// Addresses that nobody listens on just now.
fn free_addresses(count: usize) -> Result<Vec<String>, Error> {
    let bound: Result<Vec<_>, _> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect();
    let addresses = bound?
        .into_iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()));
    addresses.collect()
}

/// Starts this program in a hidden role; the first line it prints is its address.
async fn start(arguments: &[&str]) -> Result<(Child, String), Error> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let line = BufReader::new(stdout)
        .lines()
        .next_line()
        .await?
        .ok_or("it ended at once")?;
    Ok((child, line))
}

pub(crate) fn report(what: &str, load: Load, took: Duration, cpu_seconds: f64) {
    let bytes = (load.mb * 1024 * 1024) as f64;
    let line = serde_json::json!({
        "what": what,
        "mb_per_s": (bytes / 1e6 / took.as_secs_f64()).round(),
        "server_cpu_s_per_gb": (cpu_seconds / (bytes / 1e9) * 100.0).round() / 100.0,
        "batch_bytes": load.batch_bytes,
        "window": load.window,
        "seconds": took.as_secs_f64(),
    });
    println!("{line}");
}

/// CPU seconds of every process in a `name pid` file; 0 without one.
pub(crate) fn cpu_of(pids: Option<&Path>) -> Result<f64, Error> {
    let Some(path) = pids else { return Ok(0.0) };
    let text = std::fs::read_to_string(path)?;
    let pids = text
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.parse().ok());
    Ok(pids.map(cpu_seconds).sum())
}

/// User and system time so far; 0 for a process that is gone.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}
