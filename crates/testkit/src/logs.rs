//! Catches warnings, errors and panics of the processes under test, and tells which cluster each belongs to.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Once};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{EnvFilter, Layer};

/// Set to a filter in RUST_LOG's form to see the logs of all clusters on standard error.
const SHOW: &str = "STROM_TEST_LOG";

thread_local! {
    static CLUSTER: Cell<Option<u64>> = const { Cell::new(None) };
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Watched {
    next: u64,
    clusters: BTreeMap<u64, Cluster>,
}

struct Cluster {
    dirs: Vec<PathBuf>,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// One warning, error or panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// `WARN`, `ERROR` or `PANIC`.
    pub level: String,
    /// Target, message and fields.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level, self.text)
    }
}

/// The lines of one cluster, collected until this is dropped.
pub(crate) struct Watch {
    id: u64,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Watch {
    /// `dirs` are the cluster's own: lines from threads of libraries are told apart by them.
    pub(crate) fn start(dirs: Vec<PathBuf>) -> Self {
        install();
        let mut watched = WATCHED.lock();
        watched.next += 1;
        let (id, lines) = (watched.next, Arc::default());
        watched.clusters.insert(
            id,
            Cluster {
                dirs,
                lines: Arc::clone(&lines),
            },
        );
        Watch { id, lines }
    }

    /// Marks the threads on which the returned function is called as this cluster's.
    pub(crate) fn marker(&self) -> impl Fn() + Send + Sync + 'static {
        let id = self.id;
        move || CLUSTER.set(Some(id))
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.lock().clusters.remove(&self.id);
    }
}

/// Once per test process: the subscriber and the panic hook are global.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = std::env::var(SHOW).ok().map(|filter| {
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_filter(EnvFilter::new(filter))
        });
        let subscriber = tracing_subscriber::registry()
            .with(Catch.with_filter(LevelFilter::WARN))
            .with(shown);
        // A test that has set its own subscriber does not want this one.
        let _ = tracing::subscriber::set_global_default(subscriber);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if CLUSTER.get().is_some() {
                note("PANIC", panic.to_string());
            }
            before(panic);
        }));
    });
}

fn note(level: &str, text: String) {
    let line = Line {
        level: level.to_owned(),
        text,
    };
    let watched = WATCHED.lock();
    let owner = CLUSTER.get().or_else(|| {
        let names = |dir: &PathBuf| line.text.contains(&*dir.to_string_lossy());
        let mut named = watched.clusters.iter();
        named
            .find(|(_, cluster)| cluster.dirs.iter().any(names))
            .map(|(id, _)| *id)
    });
    for (id, cluster) in &watched.clusters {
        // What cannot be told apart is everyone's.
        if owner.is_none_or(|owner| owner == *id) {
            cluster.lines.lock().push(line.clone());
        }
    }
}

struct Catch;

impl<S: Subscriber> Layer<S> for Catch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text(metadata.target().to_owned());
        event.record(&mut text);
        let level = if *metadata.level() == Level::ERROR {
            "ERROR"
        } else {
            "WARN"
        };
        note(level, text.0);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, ": {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
