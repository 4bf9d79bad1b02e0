//! Clients that make new connections as fast as they can, and what is known about each that failed.

#![allow(clippy::print_stdout, reason = "what was measured is for whoever reads the log")]

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Lab, MINISVC};

/// A flow of the client's port that began this long before or after the client says is still the same connection: the
/// two are timed in different processes by different clocks. The port itself comes round again only after seconds.
const SAME_CONNECTION: SignedDuration = SignedDuration::from_millis(500);

/// One failed connection.
#[derive(Debug)]
pub struct Failure {
    pub client: SocketAddr,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub error: String,
    /// When the SYN came and where it was sent, if the data plane has it.
    pub flow: Option<(Timestamp, IpAddr)>,
    /// What the data plane had of this client instead.
    pub others: Vec<String>,
}

/// A client that makes connections as fast as it can, somewhere in the lab.
pub struct Client {
    name: &'static str,
    process: Child,
    /// Yields the failures and the last line, which counts.
    watch: JoinHandle<(Vec<Failure>, Value)>,
}

impl Client {
    pub fn start(lab: &Lab, name: &'static str, place: &[&str], address: IpAddr, target: &str, seconds: u64) -> Self {
        let seconds = seconds.to_string();
        let args = [&["exec"], place, &["--", MINISVC, "__load", target, &seconds]].concat();
        let mut process = lab.command(&args).stdout(Stdio::piped()).spawn().expect("started");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (lines_tx, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines_tx.send(line)));
        let finder = FlowFinder { command: lab.command(&["flows", "-o", "json"]) };
        let watch = std::thread::spawn(move || watch(&lines, address, finder));
        Self { name, process, watch }
    }

    pub fn finish(mut self) -> (Vec<Failure>, u64) {
        let (failures, total) = self.watch.join().expect("no panic");
        assert!(self.process.wait().expect("ended").success(), "{}", self.name);
        let answered = total["answered"].as_u64().expect("a number");
        println!(
            "{}: {answered} connections answered, {} failed, the slowest took {:.1} ms",
            self.name,
            failures.len(),
            total["slowestMicros"].as_f64().expect("a number") / 1000.0
        );
        (failures, answered)
    }
}

/// Asks for the flow of each failed connection while the data plane still has it.
fn watch(lines: &Receiver<String>, address: IpAddr, mut finder: FlowFinder) -> (Vec<Failure>, Value) {
    let mut failures: Vec<Failure> = Vec::new();
    while let Ok(first) = lines.recv() {
        let batch: Vec<Value> = std::iter::once(first)
            .chain(lines.try_iter().take(100))
            .map(|line| serde_json::from_str(&line).expect("JSON"))
            .collect();
        let new = batch.iter().filter(|line| line.get("port").is_some()).map(|line| failure(line, address));
        let mut new: Vec<Failure> = new.collect();
        finder.find(&mut new);
        failures.extend(new);
        if let Some(total) = batch.into_iter().find(|line| line.get("answered").is_some()) {
            return (failures, total);
        }
    }
    panic!("a client ended without its last line");
}

fn failure(line: &Value, address: IpAddr) -> Failure {
    let began: Timestamp = line["began"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let took = SignedDuration::from_micros(line["tookMicros"].as_i64().expect("a number"));
    let port = line["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    Failure {
        client: SocketAddr::new(address, port),
        began,
        ended: began + took,
        error: line["error"].as_str().unwrap_or_default().to_owned(),
        flow: None,
        others: Vec::new(),
    }
}

/// `minisvc flows` with everything but the clients.
struct FlowFinder {
    command: std::process::Command,
}

impl FlowFinder {
    fn find(&mut self, failures: &mut [Failure]) {
        if failures.is_empty() {
            return;
        }
        let mut command = std::process::Command::new(self.command.get_program());
        command.args(self.command.get_args()).stdin(Stdio::null());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for failure in &*failures {
            command.args(["--client", &failure.client.to_string()]);
        }
        let flows: Value = serde_json::from_str(&super::succeed(&mut command)).expect("JSON");
        for failure in failures {
            let of_client = flows.as_array().into_iter().flatten();
            let of_client = of_client.filter(|flow| flow["client"] == failure.client.to_string());
            failure.others =
                of_client.map(|flow| format!("{} {} {}", flow["state"], flow["endpoint"], flow["created"])).collect();
            failure.flow = flows.as_array().expect("a list").iter().rev().find_map(|flow| {
                let created: Timestamp = flow["created"].as_str()?.parse().ok()?;
                let endpoint: SocketAddr = flow["endpoint"].as_str()?.parse().ok()?;
                // The port may have been used before, or again since. But a SYN that nobody answered keeps its flow for two
                // minutes, and its endpoint with it: whoever comes from the same port meanwhile goes there too, as with the
                // connection tracking of Linux.
                let since = created >= failure.began - SAME_CONNECTION || flow["state"] == "SynSent";
                let same =
                    flow["client"] == failure.client.to_string() && since && created <= failure.ended + SAME_CONNECTION;
                same.then_some((created, endpoint.ip()))
            });
        }
    }
}
