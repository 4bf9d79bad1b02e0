//! As much of HTTP/1.1 as an echo server needs: request heads in, short bodies out.

/// A longer head is not from a client we know, in bytes.
pub(super) const HEAD_LIMIT: usize = 16 << 10;

/// What a client asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) keep_alive: bool,
    /// Bytes of the body that follows.
    pub(super) body: usize,
    /// Bytes of the head itself, with the empty line.
    pub(super) length: usize,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole head.
    Head(Head),
    /// The beginning of one.
    Partial,
    /// Something else: raw bytes to be echoed.
    Raw,
}

/// Looks at what a client has sent so far.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if !looks_like_http(bytes) {
        return Parsed::Raw;
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_LIMIT { Parsed::Raw } else { Parsed::Partial };
    };
    let Ok(text) = std::str::from_utf8(bytes.get(..end).unwrap_or_default()) else { return Parsed::Raw };
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Parsed::Raw;
    };
    let mut keep_alive = version == "HTTP/1.1";
    let mut body = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            keep_alive = if value.eq_ignore_ascii_case("close") {
                false
            } else {
                keep_alive || value.eq_ignore_ascii_case("keep-alive")
            };
        } else if name.eq_ignore_ascii_case("content-length") {
            body = value.parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // We do not find the end of such a body, so there is no next request.
            keep_alive = false;
        }
    }
    Parsed::Head(Head { method: method.to_owned(), path: path.to_owned(), keep_alive, body, length: end + 4 })
}

/// A method and a space, or the beginning of that.
fn looks_like_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];
    METHODS.iter().any(|method| {
        let common = method.len().min(bytes.len());
        method.get(..common) == bytes.get(..common)
    })
}

/// A whole answer.
pub(super) fn answer(head: &Head, status: &str, body: &[u8]) -> Vec<u8> {
    let connection = if head.keep_alive { "keep-alive" } else { "close" };
    let length = body.len();
    // As servers in Go guess it.
    let kind = if body.starts_with(b"<") { "html" } else { "plain" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    )
    .into_bytes();
    if head.method != "HEAD" {
        answer.extend_from_slice(body);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        match parse(text.as_bytes()) {
            Parsed::Head(head) => head,
            other => panic!("not a head: {other:?}"),
        }
    }

    #[test]
    fn heads_and_other_bytes_are_told_apart() {
        assert_eq!(parse(b""), Parsed::Partial);
        assert_eq!(parse(b"GE"), Parsed::Partial);
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n"), Parsed::Partial);
        assert_eq!(parse(b"hello\n"), Parsed::Raw);
        assert_eq!(parse(b"GETTING\n"), Parsed::Raw);
        assert_eq!(parse(&[b"GET /".to_vec(), vec![b'x'; HEAD_LIMIT]].concat()), Parsed::Raw);
    }

    #[test]
    fn connections_are_kept_as_the_client_wishes() {
        assert!(head("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").keep_alive);
        let post = head("POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((post.path.as_str(), post.body, post.length), ("/b", 3, 39));
    }

    #[test]
    fn answers_say_what_becomes_of_the_connection() {
        let request = head("HEAD / HTTP/1.1\r\n\r\n");
        let text = String::from_utf8(answer(&request, "200 OK", b"body\n")).expect("text");
        assert!(text.contains("Content-Length: 5\r\n") && text.contains("Connection: keep-alive\r\n"));
        assert!(text.contains("Content-Type: text/plain;") && text.ends_with("\r\n\r\n"), "no body for HEAD");
        let request = head("GET / HTTP/1.1\r\n\r\n");
        let text = String::from_utf8(answer(&request, "200 OK", b"<a>")).expect("text");
        assert!(text.contains("Content-Type: text/html;") && text.ends_with("\r\n\r\n<a>"));
    }
}
