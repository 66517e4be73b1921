//! Named, supervised tasks in stages that stop one after the other.
//!
//! ```text
//! Supervisor ── stage "gateway"  (declared first, stops first)
//!            ├─ stage "broker"
//!            └─ stage "controller" (stops last)
//! ```
//! Every task has a name and a declared policy for its failure. A panic is a failure like any other. When the
//! shutdown is triggered, each stage's token is cancelled and its tasks are waited for before the next stage's;
//! what still runs at the deadline is dropped, by name, in the log.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::shutdown::Shutdown;

/// What the failure of a task (an error or a panic) means for the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// The process cannot do its work without this task: stop it in order.
    Shutdown,
    /// Log it; the rest goes on.
    Log,
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SupervisorError {
    #[error("the task {task} failed: {problem}")]
    TaskFailed { task: String, problem: String },
    #[error("tasks still running at the deadline: {}", .0.join(", "))]
    Deadline(Vec<String>),
}

/// Owns the stages of one process.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    stages: Vec<TaskGroup>,
    failure: Arc<Mutex<Option<SupervisorError>>>,
}

impl Supervisor {
    /// `shutdown` starts the ordered stop, and is triggered by tasks that fail with [`OnFailure::Shutdown`].
    pub fn new(shutdown: Shutdown) -> Self {
        Supervisor {
            shutdown,
            stages: Vec::new(),
            failure: Arc::default(),
        }
    }

    /// Declares the next stage. Stages stop in the order in which they were declared.
    pub fn stage(&mut self, name: &'static str) -> TaskGroup {
        let group = TaskGroup {
            name,
            // Not a child of the process's token: a later stage must go on while an earlier one stops.
            stop: Shutdown::new(),
            tracker: TaskTracker::new(),
            running: Arc::default(),
            process: self.shutdown.clone(),
            failure: Arc::clone(&self.failure),
        };
        self.stages.push(group.clone());
        group
    }

    /// Waits for the shutdown, then stops stage after stage, all within `deadline`; each stage may use an equal share
    /// of the time that is left. The error is the failure that caused the shutdown, else the tasks that did not
    /// stop in time.
    pub async fn run(self, deadline: Duration) -> Result<(), SupervisorError> {
        self.shutdown.cancelled().await;
        let end = Instant::now() + deadline;
        let mut late = Vec::new();
        for (n, stage) in self.stages.iter().enumerate() {
            // A stage that hangs must not take the time of those behind it, nor one that is empty anybody's.
            let behind = self.stages.iter().skip(n + 1);
            let left = 1 + behind.filter(|stage| !stage.tracker.is_empty()).count();
            let share =
                end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            late.extend(stage.stop(share).await);
        }
        if let Some(failure) = self.failure.lock().take() {
            return Err(failure);
        }
        if late.is_empty() {
            Ok(())
        } else {
            Err(SupervisorError::Deadline(late))
        }
    }
}

#[derive(Default, Debug)]
struct Running {
    next_id: u64,
    /// By a number of its own, since two tasks may share a name.
    tasks: BTreeMap<u64, (String, Option<AbortHandle>)>,
}

/// Spawns tasks of one stage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    name: &'static str,
    stop: Shutdown,
    tracker: TaskTracker,
    running: Arc<Mutex<Running>>,
    process: Shutdown,
    failure: Arc<Mutex<Option<SupervisorError>>>,
}

impl TaskGroup {
    /// A group outside any supervisor, for tests and tools: its owner calls [`TaskGroup::stop`].
    pub fn detached(name: &'static str, process: Shutdown) -> Self {
        Supervisor::new(process).stage(name)
    }

    /// Triggered when this stage is to stop.
    pub fn stop_signal(&self) -> Shutdown {
        self.stop.clone()
    }

    /// Runs a task. `task` gets the stage's stop signal and should return soon after it. Returning `Ok` at any
    /// time is no failure.
    pub fn spawn<F, T, E>(&self, name: impl Into<String>, on_failure: OnFailure, task: F)
    where
        F: FnOnce(Shutdown) -> T,
        T: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let name = name.into();
        let future = task(self.stop.clone());
        let id = {
            let mut running = self.running.lock();
            running.next_id += 1;
            let id = running.next_id;
            running.tasks.insert(id, (name.clone(), None));
            id
        };
        let group = self.clone();
        let handle = self.tracker.spawn(async move {
            // A panicking task's state is dropped with it, and what it shared is behind locks that do not poison.
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            group.running.lock().tasks.remove(&id);
            match outcome {
                Ok(Ok(())) => tracing::debug!(task = %name, "task finished"),
                Ok(Err(error)) => group.failed(name, on_failure, error.to_string()),
                Err(panic) => group.failed(name, on_failure, format!("panic: {}", panic_text(&*panic))),
            }
        });
        // The task may be over already, and then has taken its entry away.
        if let Some((_, abort)) = self.running.lock().tasks.get_mut(&id) {
            *abort = Some(handle.abort_handle());
        }
    }

    /// Names of the tasks that run, in the order they were started.
    pub fn running(&self) -> Vec<String> {
        let running = self.running.lock();
        running.tasks.values().map(|(name, _)| name.clone()).collect()
    }

    /// Stops the stage and waits for its tasks for at most `deadline`; returns those that had to be dropped.
    pub async fn stop(&self, deadline: Duration) -> Vec<String> {
        self.stop
            .trigger(self.process.reason().unwrap_or_else(|| "stopped".to_owned()));
        self.tracker.close();
        if timeout(deadline, self.tracker.wait()).await.is_ok() {
            tracing::debug!(stage = self.name, "stage stopped");
            return Vec::new();
        }
        let late: Vec<String> = self.running();
        tracing::warn!(stage = self.name, tasks = ?late, "tasks did not stop in time and are dropped");
        let mut running = self.running.lock();
        for (_, abort) in std::mem::take(&mut running.tasks).into_values() {
            if let Some(abort) = abort {
                abort.abort();
            }
        }
        late
    }

    fn failed(&self, task: String, on_failure: OnFailure, problem: String) {
        match on_failure {
            OnFailure::Log => tracing::error!(task, problem, "task failed"),
            OnFailure::Shutdown => {
                tracing::error!(task, problem, "task failed, the process stops");
                let failure = SupervisorError::TaskFailed { task, problem };
                let reason = failure.to_string();
                self.failure.lock().get_or_insert(failure);
                self.process.trigger(reason);
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
