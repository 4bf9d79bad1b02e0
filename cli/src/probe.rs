//! Two hidden commands that look at a lab from inside, so that tests need no program but ours: `__get` requests a page,
//! `__dig` asks a name server one question. They run on the workstation or in a pod, as `minisvc exec -- minisvc __get`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use minisvc_podd::builtin::sctp_connect;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Everything takes less than this, or has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a pod finds the certificate of the API and its own token (P-076).
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest answer over UDP or TCP, in bytes.
const MAX_MESSAGE: usize = u16::MAX as usize;

/// Anything that can go wrong; it is only ever printed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `__get URL`: prints the status code and the body of an answer. An `https` URL is asked as programs in a pod do it, with
/// the certificate and the token of their ServiceAccount, an `sctp` URL as `http` over SCTP. Ends with 1 if there is no answer.
pub(crate) fn get_main() -> ExitCode {
    finish(argument(2).and_then(|url| get(&url)))
}

/// `__dig udp|tcp SERVER TYPE NAME`: prints the response code, `aa` and `tc` if they are set, and the records of the
/// answer and the additional section. Ends with 1 if there is no answer.
pub(crate) fn dig_main() -> ExitCode {
    let arguments = || Ok((argument(2)?, argument(3)?, argument(4)?, argument(5)?));
    finish(arguments().and_then(|(transport, server, kind, name): (String, String, String, String)| {
        dig(&transport, &server, kind.parse()?, &name)
    }))
}

fn argument(number: usize) -> Result<String, Failure> {
    std::env::args().nth(number).ok_or_else(|| "an argument is missing".into())
}

fn finish(result: Result<String, Failure>) -> ExitCode {
    let written = match &result {
        Ok(text) => writeln!(std::io::stdout(), "{text}"),
        Err(error) => writeln!(std::io::stderr(), "{error}"),
    };
    if result.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn get(url: &str) -> Result<String, Failure> {
    let (scheme, rest) = url.split_once("://").ok_or("no URL")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let default_port = if scheme == "https" { 443 } else { 80 };
    let authority: http::uri::Authority = authority.parse()?;
    let host = authority.host().trim_matches(['[', ']']);
    let connect = if scheme == "sctp" { connect_sctp } else { connect };
    let stream = connect(host, authority.port_u16().unwrap_or(default_port))?;
    let path = if path.is_empty() { "/" } else { path };
    // HTTP/1.0, so that the body is what follows until the end, in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n");
    let answer = if scheme == "https" {
        let token = std::fs::read_to_string(format!("{ACCOUNT}/token"))?;
        let request = format!("{request}Authorization: Bearer {}\r\n\r\n", token.trim());
        exchange(encrypt(stream, host)?, &request)?
    } else {
        exchange(stream, &format!("{request}\r\n"))?
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no head")?;
    let status = head.split_whitespace().nth(1).ok_or("the answer has no status")?;
    Ok(format!("{status} {}", body.trim_end()))
}

/// Connects to the first address that lets us.
fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut last: Failure = format!("{host} has no address").into();
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// The same over SCTP.
fn connect_sctp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let address = (host, port).to_socket_addrs()?.next().ok_or_else(|| format!("{host} has no address"))?;
    Ok(sctp_connect(address, PATIENCE)?)
}

fn encrypt(stream: TcpStream, host: &str) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(format!("{ACCOUNT}/ca.crt"))? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Result<String, Failure> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // An end without TLS's own farewell; the answer is whole all the same.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn dig(transport: &str, server: &str, kind: RecordType, name: &str) -> Result<String, Failure> {
    let answer = ask(transport == "tcp", server.parse()?, kind, name)?;
    let flag = |set: bool, name: &str| if set { format!(" {name}") } else { String::new() };
    let head = format!(
        "{:?}{}{}",
        answer.metadata.response_code,
        flag(answer.metadata.authoritative, "aa"),
        flag(answer.metadata.truncation, "tc")
    );
    let records = answer.answers.iter().chain(&answer.additionals);
    Ok(std::iter::once(head).chain(records.map(ToString::to_string)).collect::<Vec<_>>().join("\n"))
}

/// Asks a name server one question.
///
/// # Errors
/// When there is no answer, or none that can be read.
pub(crate) fn ask(tcp: bool, server: IpAddr, kind: RecordType, name: &str) -> Result<Message, Failure> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    let question = message.to_vec()?;
    let server = SocketAddr::new(server, 53);
    Ok(Message::from_vec(&if tcp { ask_tcp(server, &question)? } else { ask_udp(server, &question)? })?)
}

fn ask_udp(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, Failure> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Connected, so that only the server that was asked can answer (N-069).
    socket.connect(server)?;
    socket.send(question)?;
    let mut answer = vec![0; MAX_MESSAGE];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn ask_tcp(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&u16::try_from(question.len())?.to_be_bytes())?;
    stream.write_all(question)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
