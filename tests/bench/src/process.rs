//! Starts the skeleton's processes and reads what they cost.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Error, Load, producer};

/// Runs broker, gateway and producer, and reports.
pub(crate) async fn skeleton(load: Load, sync: bool, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir)?;
    let data = tempfile::tempdir_in(dir)?;
    let mut broker_args = vec![
        "broker".to_owned(),
        "--dir".to_owned(),
        data.path().display().to_string(),
    ];
    if sync {
        broker_args.push("--sync".to_owned());
    }
    let (broker, broker_address) = start(&broker_args).await?;
    let (gateway, address) = start(&["gateway".to_owned(), "--broker".to_owned(), broker_address]).await?;
    let pids = [broker.id().unwrap_or(0), gateway.id().unwrap_or(0)];
    let before: f64 = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
    let took = producer::framed(load, &address).await?;
    let cpu = pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>() - before;
    report(if sync { "skeleton-sync" } else { "skeleton" }, load, took, cpu);
    Ok(())
}

/// Starts this program in a hidden role; the first line it prints is its address.
async fn start(arguments: &[String]) -> Result<(Child, String), Error> {
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
