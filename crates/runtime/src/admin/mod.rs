//! The admin HTTP server of a process: `/livez /readyz /startupz /metrics /status`.

mod health;
mod metrics;
mod process;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

pub use health::{Health, Pulse};
pub use metrics::Metrics;
pub use process::BuildInfo;

use crate::shutdown::Shutdown;

/// What OpenMetrics text is served as.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Gives the body of `/status`: whatever the process wants to tell about itself.
pub type StatusFn = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The server; everything is passed in.
#[derive(Clone)]
pub struct Admin {
    pub health: Health,
    pub metrics: Metrics,
    /// Beside the health, which is always there.
    pub status: Option<StatusFn>,
}

impl Admin {
    /// Serves on `listener` until the shutdown; open requests are answered first.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> io::Result<()> {
        axum::serve(listener, self.routes())
            .with_graceful_shutdown(async move { shutdown.cancelled().await })
            .await
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/startupz", get(startupz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(self)
    }
}

async fn livez(State(admin): State<Admin>) -> Response {
    probe(&admin.health.live())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    probe(&admin.health.ready())
}

async fn startupz(State(admin): State<Admin>) -> Response {
    probe(&admin.health.started())
}

/// 200 `ok`, or 503 with one reason a line.
fn probe(result: &Result<(), Vec<String>>) -> Response {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reasons) => {
            let mut body = reasons.join("\n");
            body.push('\n');
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    let reasons = |result: Result<(), Vec<String>>| serde_json::json!(result.err().unwrap_or_default());
    let mut body = serde_json::json!({
        "live": admin.health.live().is_ok(),
        "ready": admin.health.ready().is_ok(),
        "started": admin.health.started().is_ok(),
        "not_live": reasons(admin.health.live()),
        "not_ready": reasons(admin.health.ready()),
    });
    if let (Some(status), Some(fields)) = (&admin.status, body.as_object_mut()) {
        fields.insert("process".to_owned(), status());
    }
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body:#}\n"),
    )
        .into_response()
}
