//! How the built-in server answers when it stands for a well-known image: what labs and tutorials ask of that image, and no more.

use std::net::SocketAddr;
use std::time::Duration;

use super::agnhost::{self, Tool};
use super::dial::dial;
use super::files::Files;
use super::http::Head;

/// Where `minisvc/echo` listens unless `PORT` says otherwise.
const PORT: u16 = 8080;

/// How long `agnhost liveness` is well.
const WELL: Duration = Duration::from_secs(10);

/// How a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manner {
    /// `minisvc/echo`: who answered, whom it saw, what was asked.
    Echo,
    /// `agnhost netexec`: the paths that tests of Kubernetes ask for.
    Netexec,
    /// `agnhost serve-hostname`: the pod's name.
    Hostname,
    /// `agnhost test-webserver`: files.
    Files(Files),
    /// `agnhost porter`: a text, the same for every path.
    Port(String),
    /// `agnhost liveness`: well for ten seconds.
    Liveness,
    /// Google's `hello-app`, with its version.
    Hello(String),
    /// `hashicorp/http-echo`: a status and a text.
    Text(String, String),
    /// `nginxdemos/hello` as plain text.
    Nginx,
    /// `traefik/whoami`.
    Whoami,
}

/// A manner and where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) manner: Manner,
    pub(super) port: u16,
    /// For datagrams, if it takes any.
    pub(super) udp_port: Option<u16>,
    /// For SCTP, if it speaks that.
    pub(super) sctp_port: Option<u16>,
    /// With a certificate that nobody vouches for.
    pub(super) tls: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// All of these at once.
    Serve(Vec<Plan>),
    /// `agnhost pause`.
    Pause,
    /// One of `agnhost`'s tools.
    Tool(Tool),
}

/// What the environment says.
#[derive(Debug, Default, Clone)]
pub(super) struct Surroundings {
    /// `PORT`.
    pub(super) port: Option<u16>,
    /// Every variable.
    pub(super) variables: Vec<(String, String)>,
}

/// Reads what follows the hidden command: nothing, or `--as MANNER [--tag TAG] -- ARGS`.
///
/// # Errors
/// A sentence for the container's log.
pub(super) fn plan(args: &[String], surroundings: &Surroundings) -> Result<Task, String> {
    let port = surroundings.port;
    let at = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (ours, theirs) = args.split_at(at);
    let theirs = theirs.get(1..).unwrap_or_default();
    let option = |name: &str| {
        let value = ours.iter().position(|arg| arg == name)?;
        ours.get(value + 1).map(String::as_str)
    };
    let serve =
        |manner, port| Ok(Task::Serve(vec![Plan { manner, port, udp_port: Some(port), sctp_port: None, tls: false }]));
    match option("--as").unwrap_or("echo") {
        "echo" => serve(Manner::Echo, port.unwrap_or(PORT)),
        "echo-80" => serve(Manner::Echo, port.unwrap_or(80)),
        "echo-9898" => serve(Manner::Echo, port.unwrap_or(9898)),
        "whoami" => serve(Manner::Whoami, flag(theirs, "port")?.unwrap_or(80)),
        "nginx-hello" => serve(Manner::Nginx, 80),
        "nginx-hello-8080" => serve(Manner::Nginx, 8080),
        "hello-app" => serve(Manner::Hello(version(option("--tag"))), port.unwrap_or(PORT)),
        "serve-hostname" => serve(Manner::Hostname, flag(theirs, "port")?.unwrap_or(9376)),
        "http-echo" => {
            let text: String = flag(theirs, "text")?.unwrap_or_default();
            let status = flag(theirs, "status-code")?.unwrap_or(200);
            let listen: Option<String> = flag(theirs, "listen")?;
            let port = match listen.as_deref().and_then(|listen| listen.rsplit_once(':')) {
                Some((_, port)) => port.parse().map_err(|_| format!("-listen {port:?} names no port"))?,
                None => 5678,
            };
            serve(Manner::Text(status_line(status), text), port)
        }
        "agnhost" => agnhost::task(theirs, &surroundings.variables),
        other => Err(format!("there is no built-in server {other:?}")),
    }
}

/// The value of `-name=value`, `--name=value` or `--name value`.
pub(super) fn flag<T: std::str::FromStr>(args: &[String], name: &str) -> Result<Option<T>, String> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let bare = word.trim_start_matches('-');
        if bare.len() == word.len() {
            continue;
        }
        let value = match bare.split_once('=') {
            Some((found, value)) if found == name => Some(value),
            None if bare == name => words.next().map(String::as_str),
            _ => continue,
        };
        let parsed = value.and_then(|value| value.parse().ok());
        return parsed.map(Some).ok_or_else(|| format!("{word} has no usable value"));
    }
    Ok(None)
}

/// `hello-app:2.0` says that it is version 2.0.0.
fn version(tag: Option<&str>) -> String {
    let number = tag.filter(|tag| tag.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("1.0");
    let dots = number.matches('.').count();
    format!("{number}{}", ".0".repeat(2_usize.saturating_sub(dots)))
}

fn status_line(code: u16) -> String {
    match http::StatusCode::from_u16(code) {
        Ok(status) => status.to_string(),
        Err(_) => "200 OK".to_owned(),
    }
}

/// What is known of a request besides its head.
pub(super) struct Facts<'a> {
    pub(super) host: &'a str,
    pub(super) server: SocketAddr,
    pub(super) client: SocketAddr,
    /// For people.
    pub(super) now: &'a dyn Fn() -> String,
    /// Since the server began.
    pub(super) age: Duration,
}

impl Manner {
    /// Status and body of the answer; `None` where it answers as `minisvc/echo` does.
    pub(super) fn answer(&self, head: &Head, facts: &Facts<'_>) -> Option<(String, Vec<u8>)> {
        if let Self::Files(files) = self {
            return Some(files.get(&head.path));
        }
        self.text(head, facts).map(|(status, text)| (status, text.into_bytes()))
    }

    fn text(&self, head: &Head, facts: &Facts<'_>) -> Option<(String, String)> {
        let ok = |text: String| Some(("200 OK".to_owned(), text));
        let Facts { host, server, client, now, age } = facts;
        let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
        match self {
            Self::Echo | Self::Files(_) => None,
            Self::Port(text) => ok(text.clone()),
            Self::Liveness if *age < WELL => ok("ok".to_owned()),
            Self::Liveness => Some(("500 Internal Server Error".to_owned(), format!("error: {}", age.as_secs_f64()))),
            Self::Hostname => ok((*host).to_owned()),
            Self::Hello(version) => ok(format!("Hello, world!\nVersion: {version}\nHostname: {host}\n")),
            Self::Text(status, text) => Some((status.clone(), format!("{text}\n"))),
            Self::Nginx => ok(format!(
                "Server address: {server}\nServer name: {host}\nDate: {}\nURI: {}\nRequest ID: {:x}\n",
                now(),
                head.path,
                client.port()
            )),
            Self::Whoami => ok(format!(
                "Hostname: {host}\nIP: {}\nRemoteAddr: {client}\n{} {} HTTP/1.1\n",
                server.ip(),
                head.method,
                head.path
            )),
            Self::Netexec => match path {
                "/" => ok(format!("NOW: {}", now())),
                "/hostname" | "/hostName" => ok((*host).to_owned()),
                "/clientip" => ok(client.to_string()),
                "/dial" => Some(dial(query)),
                "/echo" => ok(parameter(query, "msg").unwrap_or_default()),
                // Its readiness can be switched, as that of minisvc/echo.
                "/healthz" | "/readyz" | "/readyz/fail" | "/readyz/ok" => None,
                _ => Some(("404 Not Found".to_owned(), "404 page not found\n".to_owned())),
            },
        }
    }

    /// The answer to a datagram.
    pub(super) fn datagram(&self, bytes: &[u8], host: &str, client: SocketAddr) -> Vec<u8> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end();
        match self {
            Self::Hostname => host.as_bytes().to_vec(),
            Self::Netexec if text.eq_ignore_ascii_case("hostname") => host.as_bytes().to_vec(),
            Self::Netexec if text.eq_ignore_ascii_case("clientip") => client.to_string().into_bytes(),
            Self::Netexec if text.starts_with("echo ") => text.get(5..).unwrap_or_default().as_bytes().to_vec(),
            _ => bytes.to_vec(),
        }
    }
}

pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    Some(value.replace('+', " ").replace("%20", " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn asked(text: &str, port: Option<u16>) -> String {
        match plan(&words(text), &Surroundings { port, variables: Vec::new() }) {
            Ok(Task::Pause) => "pause".to_owned(),
            Ok(Task::Tool(tool)) => format!("{tool:?}"),
            Ok(Task::Serve(plans)) => {
                let plan = |plan: &Plan| {
                    let udp = plan.udp_port.map(|port| format!(" {port}")).unwrap_or_default();
                    let sctp = plan.sctp_port.map(|port| format!(" sctp {port}")).unwrap_or_default();
                    format!("{:?} {}{udp}{sctp}", plan.manner, plan.port)
                };
                plans.iter().map(plan).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error,
        }
    }

    #[test]
    fn command_lines_of_images_are_understood() {
        for (line, port, expected) in [
            ("", None, "Echo 8080 8080"),
            ("", Some(9), "Echo 9 9"),
            ("--as echo-80 --", None, "Echo 80 80"),
            ("--as agnhost --tag 2.53 -- netexec --http-port=80 --udp-port 81", Some(9), "Netexec 80 81"),
            ("--as agnhost -- netexec --sctp-port=82", None, "Netexec 8080 8081 sctp 82"),
            // What manifests of Kubernetes say to have none.
            ("--as agnhost -- netexec --sctp-port=-1", None, "Netexec 8080 8081"),
            ("--as agnhost -- serve-hostname", None, "Hostname 9376 9376"),
            ("--as agnhost --", None, "pause"),
            ("--as agnhost -- liveness", None, "Liveness 8080"),
            ("--as agnhost -- test-webserver --port 81", None, "Files(Files([])) 81"),
            ("--as hello-app --tag 2.0 --", None, "Hello(\"2.0.0\") 8080 8080"),
            ("--as hello-app --tag latest --", None, "Hello(\"1.0.0\") 8080 8080"),
            (
                "--as http-echo -- -text=apple -listen=:80 -status-code=404",
                None,
                "Text(\"404 Not Found\", \"apple\") 80 80",
            ),
            ("--as http-echo -- --text banana", None, "Text(\"200 OK\", \"banana\") 5678 5678"),
            ("--as whoami -- --port 8000", None, "Whoami 8000 8000"),
        ] {
            assert_eq!(asked(line, port), expected, "{line}");
        }
        assert!(asked("--as agnhost -- porter", None).contains("set SERVE_PORT_80=TEXT"));
        assert!(asked("--as agnhost -- netexec --http-port=x", None).contains("--http-port=x"));
    }

    #[test]
    fn each_answers_as_its_image() {
        let facts = Facts {
            host: "web-0",
            server: "10.244.0.2:80".parse().expect("an address"),
            client: "10.95.0.1:4000".parse().expect("an address"),
            now: &|| "today".to_owned(),
            age: WELL,
        };
        let said = |manner: &Manner, path: &str| {
            let head = Head { method: "GET".into(), path: path.into(), keep_alive: true, body: 0, length: 0 };
            manner.answer(&head, &facts).map_or_else(
                || "as echo".to_owned(),
                |(status, body)| format!("{status}|{}", String::from_utf8_lossy(&body)),
            )
        };
        for (manner, path, expected) in [
            (Manner::Echo, "/", "as echo"),
            (Manner::Netexec, "/hostName", "200 OK|web-0"),
            (Manner::Netexec, "/clientip", "200 OK|10.95.0.1:4000"),
            (Manner::Netexec, "/echo?msg=a+b", "200 OK|a b"),
            (Manner::Netexec, "/healthz", "as echo"),
            (Manner::Netexec, "/nope", "404 Not Found|404 page not found\n"),
            (Manner::Netexec, "/dial", "400 Bad Request|dial needs host=NAME and port=NUMBER\n"),
            (Manner::Hostname, "/x", "200 OK|web-0"),
            (Manner::Port("b".into()), "/x", "200 OK|b"),
            (Manner::Liveness, "/healthz", "500 Internal Server Error|error: 10"),
            (Manner::Hello("2.0.0".into()), "/", "200 OK|Hello, world!\nVersion: 2.0.0\nHostname: web-0\n"),
            (Manner::Text("200 OK".into(), "apple".into()), "/", "200 OK|apple\n"),
            (
                Manner::Nginx,
                "/a",
                "200 OK|Server address: 10.244.0.2:80\nServer name: web-0\nDate: today\nURI: /a\nRequest ID: fa0\n",
            ),
            (
                Manner::Whoami,
                "/a",
                "200 OK|Hostname: web-0\nIP: 10.244.0.2\nRemoteAddr: 10.95.0.1:4000\nGET /a HTTP/1.1\n",
            ),
        ] {
            assert_eq!(said(&manner, path), expected, "{manner:?} {path}");
        }
        let datagram = |manner: &Manner, text: &str| {
            String::from_utf8(manner.datagram(text.as_bytes(), facts.host, facts.client)).expect("text")
        };
        assert_eq!(datagram(&Manner::Netexec, "hostName\n"), "web-0");
        assert_eq!(datagram(&Manner::Netexec, "echo hi"), "hi");
        assert_eq!(datagram(&Manner::Echo, "hi"), "hi");
    }
}
