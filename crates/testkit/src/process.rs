//! One process of a cluster: a tokio runtime of its own with the roles on it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::roles::{Life, Spec, run};

/// How long an abrupt end waits for what cannot be interrupted: blocking disk work.
const KILL_MAX: Duration = Duration::from_secs(10);
const WORKERS: usize = 2;

pub(crate) struct Process {
    spec: Spec,
    alive: Option<Alive>,
}

struct Alive {
    runtime: Runtime,
    life: Life,
    ended: Arc<Mutex<Option<Result<(), String>>>>,
    end: oneshot::Receiver<()>,
}

impl Process {
    pub(crate) fn new(spec: Spec) -> Self {
        Process { spec, alive: None }
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    pub(crate) fn is_running(&self) -> bool {
        self.alive.is_some()
    }

    pub(crate) fn life(&self) -> Option<&Life> {
        self.alive.as_ref().map(|alive| &alive.life)
    }

    /// Starts it; `mark` is called on each of its threads.
    pub(crate) fn start(&mut self, mark: impl Fn() + Send + Sync + 'static) {
        assert!(!self.is_running(), "{} runs already", self.spec.name);
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(&self.spec.name)
            .on_thread_start(mark)
            .enable_all()
            .build()
            .expect("a runtime");
        let life = Life::new(&self.spec);
        let ended = Arc::new(Mutex::new(None));
        let (report, end) = oneshot::channel();
        let (spec, of, into) = (self.spec.clone(), life.clone(), Arc::clone(&ended));
        runtime.spawn(async move {
            let outcome = run(spec, of).await.map_err(|error| error.to_string());
            *into.lock() = Some(outcome);
            // The other side may be dropped first.
            let _ = report.send(());
        });
        self.alive = Some(Alive {
            runtime,
            life,
            ended,
            end,
        });
    }

    /// Why it ended by itself, or is not ready yet.
    pub(crate) fn ready(&self) -> Result<(), Vec<String>> {
        let name = &self.spec.name;
        let Some(alive) = &self.alive else {
            return Err(vec![format!("{name} is not running")]);
        };
        match &*alive.ended.lock() {
            Some(Ok(())) => panic!("{name} has stopped by itself"),
            Some(Err(error)) => panic!("{name} has stopped: {error}"),
            None => {}
        }
        let named = |reason: String| format!("{name}: {reason}");
        let ready = alive.life.health.ready();
        ready.map_err(|reasons| reasons.into_iter().map(named).collect())
    }

    /// Ends it as SIGKILL does: no task of it runs on, nothing is said to anybody, its locks are free on return.
    pub(crate) fn kill(&mut self) {
        if let Some(alive) = self.alive.take() {
            end(alive.runtime, alive.life);
        }
    }

    /// Stops it as SIGTERM does, and returns what it ended with.
    pub(crate) async fn stop(&mut self, within: Duration) -> Result<(), String> {
        let Some(alive) = self.alive.take() else {
            return Ok(());
        };
        alive.life.shutdown.trigger("the test stops it");
        let in_time = timeout(within, alive.end).await;
        let outcome = alive.ended.lock().take();
        end(alive.runtime, alive.life);
        match (in_time, outcome) {
            (Err(_), _) => Err(format!("{} did not stop within {within:?}", self.spec.name)),
            (Ok(_), Some(outcome)) => outcome.map_err(|error| format!("{}: {error}", self.spec.name)),
            (Ok(_), None) => Err(format!("{} panicked", self.spec.name)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A runtime may not be dropped on a thread of another one.
fn end(runtime: Runtime, life: Life) {
    let ending = thread::spawn(move || {
        runtime.shutdown_timeout(KILL_MAX);
        life.end();
    });
    // It only fails by a panic, which the hook has shown.
    let _ = ending.join();
}
