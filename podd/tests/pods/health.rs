//! A server with gRPC's health service, as a program for pods: healthy while a file exists.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// `__health PORT FILE`
pub(crate) fn main() -> ExitCode {
    let port: u16 = std::env::args().nth(2).and_then(|text| text.parse().ok()).expect("a port");
    let file = PathBuf::from(std::env::args().nth(3).expect("a file"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(serve(port, file))
}

async fn serve(port: u16, file: PathBuf) -> ExitCode {
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.expect("a free port");
    loop {
        let (stream, _) = listener.accept().await.expect("a client");
        let file = file.clone();
        let answer = service_fn(move |_| {
            // A HealthCheckResponse: SERVING or NOT_SERVING.
            let body: &[u8] = if file.exists() { b"\0\0\0\0\x02\x08\x01" } else { b"\0\0\0\0\x02\x08\x02" };
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]);
            let body = Full::new(Bytes::from_static(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
            let answer = http::Response::builder().header("content-type", "application/grpc").body(body);
            async move { Ok::<_, Infallible>(answer.expect("an answer")) }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(async move {
            // A client that hangs up ends its connection, nothing else.
            let _ = serving.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
