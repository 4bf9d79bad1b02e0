//! Connections that stop being HTTP: what the client asks for, what is agreed, and the answer. Pure.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ring::digest;

use crate::error::ApiError;
use crate::node_service::Framing;

/// Names the protocol of a SPDY connection.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What every WebSocket server appends to the client's key (RFC 6455 section 1.3).
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A protocol that is spoken here: its name, and how its streams share the connection.
pub(crate) type Offer = (&'static str, Framing);

/// What exec and attach are spoken in, over WebSocket.
pub(crate) const REMOTE_WEBSOCKET: &[Offer] =
    &[("v5.channel.k8s.io", Framing::ChannelsV5), ("v4.channel.k8s.io", Framing::ChannelsV4)];
/// The same over SPDY, where the versions differ in nothing that is sent.
pub(crate) const REMOTE_SPDY: &[Offer] = &[("v5.channel.k8s.io", Framing::Spdy), ("v4.channel.k8s.io", Framing::Spdy)];
/// What port-forward is spoken in, over WebSocket.
pub(crate) const FORWARD_WEBSOCKET: &[Offer] = &[
    ("SPDY/3.1+portforward.k8s.io", Framing::SpdyInWebSocket),
    ("v5.channel.k8s.io", Framing::ChannelsV5),
    ("v4.channel.k8s.io", Framing::ChannelsV4),
];
/// The same over SPDY.
pub(crate) const FORWARD_SPDY: &[Offer] = &[("portforward.k8s.io", Framing::Spdy)];

/// What the client wants the connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    WebSocket,
    Spdy,
}

impl Wanted {
    /// Reads `Connection` and `Upgrade`; `None` for an ordinary request.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        if !words(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        words(headers, &header::UPGRADE).find_map(|word| match word.to_ascii_lowercase().as_str() {
            "websocket" => Some(Self::WebSocket),
            "spdy/3.1" => Some(Self::Spdy),
            _ => None,
        })
    }
}

/// The first protocol of the client's list that is also in ours, and the 101 that says so.
///
/// # Errors
/// 400 when there is none, or the handshake is not complete.
pub(crate) fn agree(headers: &HeaderMap, websocket: &[Offer], spdy: &[Offer]) -> Result<(Framing, Response), ApiError> {
    match Wanted::of(headers) {
        Some(Wanted::WebSocket) => {
            let offer = common(headers, &header::SEC_WEBSOCKET_PROTOCOL, websocket)?;
            let mut response = web_socket(headers)?;
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer.0));
            Ok((offer.1, response))
        }
        Some(Wanted::Spdy) => {
            let offer = common(headers, &STREAM_PROTOCOL, spdy)?;
            let mut response = switching("SPDY/3.1");
            response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(offer.0));
            Ok((offer.1, response))
        }
        None => Err(ApiError::bad_request("Upgrade request required")),
    }
}

/// The 101 of a WebSocket without a subprotocol.
///
/// # Errors
/// 400 when the handshake is not complete (RFC 6455 section 4.2.1).
pub(crate) fn web_socket(headers: &HeaderMap) -> Result<Response, ApiError> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(key) = text(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty()) else {
        return Err(ApiError::bad_request("a WebSocket handshake needs the header Sec-WebSocket-Key"));
    };
    if text(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(ApiError::bad_request("only version 13 of the WebSocket protocol is spoken here"));
    }
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{WEBSOCKET_GUID}").as_bytes());
    let mut response = switching("websocket");
    // Base64 is always a header value.
    if let Ok(accept) = HeaderValue::from_str(&STANDARD.encode(hash)) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

fn switching(protocol: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn common(headers: &HeaderMap, name: &HeaderName, ours: &[Offer]) -> Result<Offer, ApiError> {
    let theirs: Vec<&str> = words(headers, name).collect();
    let found = theirs.iter().find_map(|wanted| ours.iter().find(|(name, _)| name == wanted)).copied();
    found.ok_or_else(|| {
        let known: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
        let (theirs, known) = (theirs.join(", "), known.join(", "));
        ApiError::BadRequest(format!(
            "unable to upgrade: the client offers [{theirs}] in {name}, the server speaks [{known}]"
        ))
    })
}

/// The words of a list that may come in several header lines.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn get<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    const HANDSHAKE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        // The example of RFC 6455 section 1.3.
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    //
    #[test]
    fn a_websocket_gets_the_first_protocol_that_both_know() {
        for (offered, expected) in [
            ("v5.channel.k8s.io", Framing::ChannelsV5),
            ("v5.channel.k8s.io, v4.channel.k8s.io", Framing::ChannelsV5),
            ("unknown,v4.channel.k8s.io", Framing::ChannelsV4),
        ] {
            let headers = headers(&[&HANDSHAKE[..], &[("sec-websocket-protocol", offered)]].concat());
            let (framing, response) = agree(&headers, REMOTE_WEBSOCKET, REMOTE_SPDY).expect("agreed");
            assert_eq!((framing, response.status()), (expected, StatusCode::SWITCHING_PROTOCOLS));
            assert_eq!(get(&response, "sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert!(offered.contains(get(&response, "sec-websocket-protocol")));
            assert_eq!((get(&response, "upgrade"), get(&response, "connection")), ("websocket", "Upgrade"));
        }
        let tunnel = headers(&[&HANDSHAKE[..], &[("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")]].concat());
        assert_eq!(agree(&tunnel, FORWARD_WEBSOCKET, FORWARD_SPDY).expect("agreed").0, Framing::SpdyInWebSocket);
        let refused = agree(&tunnel, REMOTE_WEBSOCKET, REMOTE_SPDY).expect_err("not for exec");
        assert!(matches!(refused, ApiError::BadRequest(_)), "{refused}");
    }

    //
    #[test]
    fn spdy_gets_the_first_version_that_both_know() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let versions =
            [("x-stream-protocol-version", "v4.channel.k8s.io"), ("x-stream-protocol-version", "v3.channel.k8s.io")];
        let (framing, response) =
            agree(&headers(&[&upgrade[..], &versions].concat()), REMOTE_WEBSOCKET, REMOTE_SPDY).expect("agreed");
        assert_eq!((framing, get(&response, "x-stream-protocol-version")), (Framing::Spdy, "v4.channel.k8s.io"));
        assert_eq!(get(&response, "upgrade"), "SPDY/3.1");
        let old = headers(&[&upgrade[..], &[("x-stream-protocol-version", "v2.channel.k8s.io")]].concat());
        assert!(agree(&old, REMOTE_WEBSOCKET, REMOTE_SPDY).is_err());
        assert_eq!(Wanted::of(&headers(&[("upgrade", "websocket")])), None, "without Connection it is no upgrade");
    }
}
