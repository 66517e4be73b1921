//! A running cluster and what tests do to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::builder::ClusterBuilder;
use crate::certificates::Authority;
use crate::logs::{Line, Watch};
use crate::metrics;
use crate::port::Port;
use crate::process::Process;

const READY_MAX: Duration = Duration::from_secs(20);
/// The promise of an orderly stop.
const STOP_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// What healthy processes say of one that has been killed or stopped.
const SAID_OF_LOST_PEERS: &[&str] = &[
    "metadata watch broke; trying again",
    "a produce stream broke",
    "a fetch stream broke",
    "not registered yet; trying again",
    "cannot follow a leader; trying again",
    "stopping without the controllers' word",
    "the broker's process is gone",
    "fencing a silent broker",
];

/// A role by its number: the n-th controller, broker id n, the n-th gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    Controller(u16),
    Broker(u16),
    Gateway(u16),
}

/// What a cluster is made of, before it runs.
pub(crate) struct Layout {
    pub dir: TempDir,
    /// The gateways'.
    pub ports: Vec<Port>,
    /// Of internal listeners.
    pub reserved: Vec<Port>,
    pub processes: Vec<Process>,
    pub authority: Authority,
    pub allowed_logs: Vec<String>,
}

/// Processes are killed when this is dropped; then the test fails if one of them has warned of something that was not
/// allowed.
pub struct Cluster {
    processes: Vec<Process>,
    ports: Vec<Port>,
    /// Those of internal listeners.
    _reserved: Vec<Port>,
    authority: Authority,
    watch: Watch,
    allowed_logs: Vec<String>,
    /// A process has been killed, stopped or restarted.
    disturbed: bool,
    dir: TempDir,
}

impl Cluster {
    /// One controller, one broker and one gateway in one process, unless told otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    pub(crate) fn new(layout: Layout) -> Self {
        let data_dirs = layout
            .processes
            .iter()
            .map(|process| process.spec().data_dir.clone());
        let dirs = data_dirs.chain([layout.dir.path().to_owned()]).collect();
        Cluster {
            processes: layout.processes,
            ports: layout.ports,
            _reserved: layout.reserved,
            authority: layout.authority,
            watch: Watch::start(dirs),
            allowed_logs: layout.allowed_logs,
            disturbed: false,
            dir: layout.dir,
        }
    }

    pub(crate) fn start_all(&mut self) {
        for process in &mut self.processes {
            process.start(self.watch.marker());
        }
    }

    /// `host:port` of every gateway, comma-separated. The same over restarts.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.ports.iter().map(|port| port.address().to_string()).collect();
        addresses.join(",")
    }

    /// `host:port` of one gateway.
    pub fn gateway(&self, n: u16) -> String {
        let port = self.ports.get(usize::from(n));
        port.expect("a gateway of that number").address().to_string()
    }

    /// Where other processes reach a member's.
    ///
    /// # Panics
    ///
    /// When it has no internal listener.
    pub fn internal_address(&self, member: Member) -> String {
        let endpoint = self.process(member).spec().grpc.as_ref();
        endpoint.expect("an internal listener").to_string()
    }

    /// Signs what the processes trust, with [`Wiring::Mtls`](crate::Wiring::Mtls).
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where a member's process keeps its data, `broker` and `controller` in it.
    pub fn data_dir(&self, member: Member) -> PathBuf {
        self.process(member).spec().data_dir.clone()
    }

    /// A directory of the cluster's own, removed with it.
    pub fn scratch_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every process that runs is ready and the gateways serve.
    ///
    /// # Panics
    ///
    /// After 20 s, with what is not ready; at once when a process has ended by itself.
    pub async fn wait_ready(&self) {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let running = self.processes.iter().filter(|process| process.is_running());
            let missing: Vec<String> = running.filter_map(|p| p.ready().err()).flatten().collect();
            if missing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not ready after {READY_MAX:?}: {missing:?}; logs: {:#?}",
                self.logs()
            );
            sleep(POLL).await;
        }
    }

    /// Ends the member's process as abruptly as SIGKILL.
    pub async fn kill(&mut self, member: Member) {
        self.disturbed = true;
        self.process_mut(member).kill();
    }

    /// Ends the member's process as SIGTERM does.
    ///
    /// # Panics
    ///
    /// When that takes more than 5 s or ends with an error.
    pub async fn stop(&mut self, member: Member) {
        self.disturbed = true;
        if let Err(error) = self.process_mut(member).stop(STOP_MAX).await {
            panic!("{error}; logs: {:#?}", self.logs());
        }
    }

    /// Starts the member's process again on its data, stopping it first if it runs. Does not wait for readiness.
    pub async fn restart(&mut self, member: Member) {
        if self.process(member).is_running() {
            self.stop(member).await;
        }
        let marker = self.watch.marker();
        self.process_mut(member).start(marker);
    }

    pub async fn kill_broker(&mut self, id: u16) {
        self.kill(Member::Broker(id)).await;
    }

    pub async fn stop_broker(&mut self, id: u16) {
        self.stop(Member::Broker(id)).await;
    }

    pub async fn restart_broker(&mut self, id: u16) {
        self.restart(Member::Broker(id)).await;
    }

    /// Kills every process at once, as a power switch does to processes.
    pub async fn kill_all(&mut self) {
        self.disturbed = true;
        self.processes.iter_mut().for_each(Process::kill);
    }

    /// Starts every process that does not run, and waits until all are ready.
    pub async fn restart_all(&mut self) {
        for process in self.processes.iter_mut().filter(|process| !process.is_running()) {
            process.start(self.watch.marker());
        }
        self.wait_ready().await;
    }

    /// Stops every process in order: gateways, brokers, controllers.
    ///
    /// # Panics
    ///
    /// When one takes more than 5 s or ends with an error.
    pub async fn stop_all(&mut self) {
        self.disturbed = true;
        for n in (0..self.processes.len()).rev() {
            let stopped = match self.processes.get_mut(n) {
                Some(process) => process.stop(STOP_MAX).await,
                None => Ok(()),
            };
            if let Err(error) = stopped {
                panic!("{error}; logs: {:#?}", self.logs());
            }
        }
    }

    /// Changes a configuration key of every process from its next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        for process in &mut self.processes {
            let settings = &mut process.spec_mut().settings;
            settings.retain(|(set, _)| set != key);
            settings.push((key.to_owned(), value.to_owned()));
        }
    }

    /// The metrics of the member's process, as OpenMetrics text.
    pub fn metrics(&self, member: Member) -> String {
        let life = self.process(member).life();
        let encoded = life.map(|life| life.metrics.encode());
        encoded.and_then(Result::ok).unwrap_or_default()
    }

    /// The sum of the samples of one metric with these labels; 0 when there is none.
    pub fn metric(&self, member: Member, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::sum(&self.metrics(member), name, labels)
    }

    /// Lets pass warnings and errors that contain `text`, those already logged too.
    pub fn allow_log(&mut self, text: &str) {
        self.allowed_logs.push(text.to_owned());
    }

    /// Warnings, errors and panics so far.
    pub fn logs(&self) -> Vec<Line> {
        self.watch.lines()
    }

    fn unexpected_logs(&self) -> Vec<Line> {
        let allowed = |line: &Line| {
            let of_lost = SAID_OF_LOST_PEERS.iter().filter(|_| self.disturbed);
            let mut texts = self
                .allowed_logs
                .iter()
                .map(String::as_str)
                .chain(of_lost.copied());
            texts.any(|text| line.text.contains(text))
        };
        self.logs().into_iter().filter(|line| !allowed(line)).collect()
    }

    fn position(&self, member: Member) -> usize {
        let nth = |n: u16, matches: fn(&Process) -> bool| {
            let positions = self.processes.iter().enumerate();
            let mut of_role = positions
                .filter(|(_, process)| matches(process))
                .map(|(at, _)| at);
            of_role.nth(usize::from(n))
        };
        let found = match member {
            Member::Controller(n) => nth(n, |p| p.spec().controller.is_some()),
            Member::Broker(n) => nth(n, |p| p.spec().broker.is_some()),
            Member::Gateway(n) => nth(n, |p| p.spec().gateway.is_some()),
        };
        found.unwrap_or_else(|| panic!("there is no {member:?}"))
    }

    fn process(&self, member: Member) -> &Process {
        let at = self.position(member);
        self.processes.get(at).expect("a position of this cluster")
    }

    fn process_mut(&mut self, member: Member) -> &mut Process {
        let at = self.position(member);
        self.processes.get_mut(at).expect("a position of this cluster")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let unexpected = self.unexpected_logs();
        self.processes.iter_mut().for_each(Process::kill);
        if !std::thread::panicking() {
            let lines: Vec<String> = unexpected.iter().map(Line::to_string).collect();
            assert!(unexpected.is_empty(), "unexpected logs:\n{}", lines.join("\n"));
        }
    }
}
