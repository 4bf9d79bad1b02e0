//! Liveness and readiness: plain text, and without credentials.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::request_info::Query;
use crate::server::Server;

/// Answers `/healthz`, `/livez`, `/readyz`; a server that is closing is alive but not ready.
pub(crate) fn check(server: &Server, path: &str, query: &Query) -> Response {
    let ready = !server.closing.is_cancelled();
    let mark = |good: bool| if good { "[+]" } else { "[-]" };
    let word = |good: bool| if good { "ok" } else { "failed" };
    let mut checks = vec![("ping", true)];
    if path == "readyz" {
        checks.push(("shutdown", ready));
    }
    let passed = checks.iter().all(|(_, good)| *good);
    let text = if query.flag("verbose") || !passed {
        let lines: Vec<String> =
            checks.iter().map(|(name, good)| format!("{}{name} {}", mark(*good), word(*good))).collect();
        let verdict = if passed { "passed" } else { "failed" };
        format!("{}\n{path} check {verdict}\n", lines.join("\n"))
    } else {
        "ok".to_owned()
    };
    let code = if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
