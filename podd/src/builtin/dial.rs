//! `/dial` of `agnhost netexec`: a pod asks another server on behalf of whoever asks it, and tells what it heard.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::json;

use super::agnhost::{exchange, open};
use super::manner::parameter;
use super::sctp::sctp_connect;

/// For each try.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody needs more answers of one request than this.
const TRIES: u32 = 100;
/// Of one answer, in bytes.
const ANSWER: u64 = 64 << 10;

/// Status and body of the answer to `/dial?host=H&port=P&request=R&protocol=http|udp|sctp&tries=N`.
pub(super) fn dial(query: &str) -> (String, String) {
    let asked = |name| parameter(query, name).filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (asked("host"), asked("port").and_then(|port| port.parse::<u16>().ok())) else {
        return ("400 Bad Request".to_owned(), "dial needs host=NAME and port=NUMBER\n".to_owned());
    };
    let (request, protocol) =
        (asked("request").unwrap_or_default(), asked("protocol").unwrap_or_else(|| "http".to_owned()));
    let tries = asked("tries").and_then(|tries| tries.parse().ok()).unwrap_or(1).min(TRIES);
    let (mut responses, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        match once(&host, port, &request, &protocol) {
            Ok(text) => responses.push(text),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let mut found = json!({ "responses": responses });
    if !errors.is_empty() {
        found["errors"] = json!(errors);
    }
    ("200 OK".to_owned(), found.to_string())
}

fn once(host: &str, port: u16, request: &str, protocol: &str) -> io::Result<String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
    let address = *addresses.first().ok_or_else(|| io::Error::other("the name has no address"))?;
    match protocol {
        "http" => http(address, request),
        "udp" => {
            exchange(address, request.as_bytes(), PATIENCE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        "sctp" => message(address, request),
        other => Err(io::Error::other(format!("protocol {other:?} is neither http, udp nor sctp"))),
    }
}

/// A message over SCTP, and the one that answers it.
fn message(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = sctp_connect(address, PATIENCE)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 64 << 10];
    let count = stream.read(&mut answer)?;
    answer.truncate(count);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn http(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = open(address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let path = request.trim_start_matches('/');
    // At once, because a server may have answered and closed after the first piece.
    stream.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer over HTTP"))?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(body.to_owned()) } else { Err(io::Error::other(format!("status {status}"))) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn what_the_other_side_says_is_passed_on() {
        let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let web_port = web.local_addr().expect("an address").port();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let udp_port = udp.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for status in ["200 OK", "200 OK", "404 Not Found"] {
                let (mut stream, _) = web.accept().expect("a client");
                let mut asked = [0; 64];
                let count = stream.read(&mut asked).expect("a request");
                let line = String::from_utf8_lossy(&asked[..count]).lines().next().unwrap_or_default().to_owned();
                stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n{line}").as_bytes()).expect("answered");
            }
        });
        std::thread::spawn(move || {
            let mut asked = [0; 64];
            let (count, client) = udp.recv_from(&mut asked).expect("a datagram");
            udp.send_to(&asked[..count], client).expect("answered");
        });
        let web = format!("request=hostname&protocol=http&host=127.0.0.1&port={web_port}");
        let line = "GET /hostname HTTP/1.0";
        assert_eq!(dial(&format!("{web}&tries=2")).1, json!({ "responses": [line, line] }).to_string());
        assert_eq!(dial(&web).1, json!({ "responses": [], "errors": ["status 404"] }).to_string());
        let udp = format!("request=hostname&protocol=udp&host=127.0.0.1&port={udp_port}");
        assert_eq!(dial(&udp).1, json!({ "responses": ["hostname"] }).to_string());
        assert_eq!(dial("host=127.0.0.1").0, "400 Bad Request");
        assert!(dial("host=127.0.0.1&port=1&protocol=icmp").1.contains("neither http, udp nor sctp"));
    }
}
