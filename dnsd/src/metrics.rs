//! The server's counters over HTTP, where the `metrics` port of its Service leads (N-001).

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::stats::Counters;

/// The media type of OpenMetrics.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` on each of the listeners until `shutdown`.
pub(crate) async fn serve(listeners: Vec<TcpListener>, counters: Arc<Counters>, shutdown: CancellationToken) {
    let page = get(move || async move {
        let mut text = String::new();
        counters.openmetrics(&mut text);
        text.push_str("# EOF\n");
        ([(CONTENT_TYPE, TEXT)], text)
    });
    let app = Router::new().route("/metrics", page);
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let server = axum::serve(listener, app.clone());
        tasks.spawn(server.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
    }
    while let Some(ended) = tasks.join_next().await {
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the DNS counters are served no more");
        }
    }
}
