//! Asks gRPC's standard health service whether a server serves (P-023). HTTP/2 is hyper's; of gRPC and protocol buffers one
//! question and one answer are spoken, which deserves no code generator.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::pod::sandbox::chain;

/// The method of the health service, as a path.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A longer answer is none of the health service's, in bytes.
const ANSWER_LIMIT: usize = 10 << 10;
/// A frame's flag and length.
const FRAME_HEAD: usize = 5;

/// Asks on this connection for the health of `service` (empty: of the server); an error is for the user.
pub(super) async fn check<S>(stream: S, authority: &str, service: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("gRPC: {}", chain(&error));
    let request = Request::post(format!("http://{authority}{CHECK}"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, super::USER_AGENT)
        .body(Full::new(question(service)))
        .map_err(|error| format!("gRPC request: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let talking = async {
        let answer: http::Response<Incoming> = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("gRPC: the server answered HTTP {}", head.status));
        }
        // An answer without a body may have its trailers among the headers.
        refusal(&head.headers, service)?;
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| format!("gRPC: {error}"))?;
        if let Some(trailers) = body.trailers() {
            refusal(trailers, service)?;
        }
        serves(body.to_bytes())
    };
    // The connection is driven beside the conversation and ends with it.
    tokio::pin!(talking, connection);
    tokio::select! {
        answer = &mut talking => answer,
        result = &mut connection => {
            result.map_err(failed)?;
            talking.await
        }
    }
}

/// A `HealthCheckRequest` in its frame.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, of variable length.
        message.put_u8(0x0a);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + message.len());
    // Not compressed.
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).unwrap_or_default());
}

/// What a status other than OK means.
fn refusal(trailers: &HeaderMap, service: &str) -> Result<(), String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some("12") => Err("the server does not have gRPC's health service (grpc.health.v1.Health)".to_owned()),
        Some("5") => Err(format!("the health service does not know the service {service:?}")),
        Some(code) => {
            Err(format!("the health service answered gRPC status {code}: {}", text("grpc-message").unwrap_or_default()))
        }
    }
}

/// Whether the `HealthCheckResponse` in this frame says SERVING.
fn serves(mut frame: Bytes) -> Result<(), String> {
    let broken = || "the answer of the health service cannot be read".to_owned();
    if frame.len() < FRAME_HEAD || frame.get_u8() != 0 {
        return Err(broken());
    }
    let length = usize::try_from(frame.get_u32()).map_err(|_| broken())?;
    if frame.len() < length {
        return Err(broken());
    }
    match status(frame.split_to(length)).ok_or_else(broken)? {
        1 => Ok(()),
        code => {
            let name = match code {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "an unknown status",
            };
            Err(format!("the health service says {name} (only SERVING is healthy)"))
        }
    }
}

/// Field 1 of the message, 0 if it is absent; other fields are skipped.
fn status(mut message: Bytes) -> Option<u64> {
    let mut status = 0;
    while message.has_remaining() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        if message.remaining() < length {
            return None;
        }
        message.advance(length);
    }
    Some(status)
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::service::service_fn;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// A server whose only answer has these parts.
    async fn asked(service: &str, http: u16, trailers: &[(&'static str, &'static str)], body: &'static [u8]) -> String {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let answer = move |trailers: HeaderMap| {
            service_fn(move |request: Request<Incoming>| {
                let trailers = trailers.clone();
                async move {
                    assert_eq!((request.uri().path(), request.method().as_str()), (CHECK, "POST"));
                    assert_eq!(request.headers()["te"], "trailers");
                    let body =
                        Full::new(Bytes::from_static(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
                    let answer = http::Response::builder().status(http).header("content-type", "application/grpc");
                    Ok::<_, Infallible>(answer.body(body).expect("an answer"))
                }
            })
        };
        let trailers = trailers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)));
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(theirs), answer(trailers.collect()));
        let server = tokio::spawn(async move {
            // The client hangs up when it knows.
            let _ = serving.await;
        });
        let result = check(ours, "10.244.1.2:9000", service).await;
        server.abort();
        result.err().unwrap_or_else(|| "healthy".to_owned())
    }

    // P-023
    #[tokio::test]
    async fn only_a_server_that_says_serving_is_healthy() {
        let ok: &[_] = &[("grpc-status", "0")];
        for (http, trailers, body, expected) in [
            (200, ok, &b"\0\0\0\0\x02\x08\x01"[..], "healthy"),
            (200, ok, b"\0\0\0\0\x02\x08\x02", "NOT_SERVING"),
            (200, ok, b"\0\0\0\0\0", "UNKNOWN"),
            (200, ok, b"\0\0\0\0\x09\x08\x01", "cannot be read"),
            (200, ok, b"", "cannot be read"),
            (200, &[("grpc-status", "12")], b"", "does not have gRPC's health service"),
            (200, &[("grpc-status", "5")], b"", "does not know the service \"db\""),
            (200, &[("grpc-status", "14"), ("grpc-message", "busy")], b"", "status 14: busy"),
            (404, ok, b"", "HTTP 404"),
        ] {
            let answer = asked("db", http, trailers, body).await;
            assert!(answer.contains(expected), "{answer} instead of {expected}");
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_an_error() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut theirs, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        assert!(check(ours, "10.244.1.2:9000", "").await.is_err());
    }

    #[test]
    fn the_question_names_the_service() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("db")[..], b"\0\0\0\0\x04\x0a\x02db");
        let long = "x".repeat(300);
        assert_eq!(&question(&long)[5..8], b"\x0a\xac\x02");
    }

    #[test]
    fn other_fields_are_skipped() {
        let message = Bytes::from_static(b"\x12\x02hi\x08\x01\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0");
        assert_eq!(status(message), Some(1));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = serves(Bytes::from(bytes));
        }
    }
}
