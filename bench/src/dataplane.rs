//! One stream, requests and connections from pod to pod through a virtual IP, beside the same over loopback in one pod.

use crate::Failure;
use crate::figures::{goal, line, median};
use crate::lab::{Lab, myself};
use crate::load::PORT;

/// Rounds; each measures everything once, in turn, so that what else runs on the machine hits all alike.
const ROUNDS: usize = 5;

/// Seconds of each measurement.
const SECONDS: &str = "2";

/// Where the server answers behind its virtual IP.
pub(crate) const VIP: &str = "10.96.77.78:5001";

/// What is measured.
struct Kind {
    name: &'static str,
    unit: &'static str,
    /// A hidden command of `load.rs`, and what it needs after target and time.
    command: &'static str,
    more: &'static [&'static str],
    /// The least part of loopback that it should reach.
    goal: Option<f64>,
}

const fn kind(name: &'static str, unit: &'static str, command: &'static str, more: &'static [&'static str]) -> Kind {
    Kind { name, unit, command, more, goal: None }
}

const KINDS: [Kind; 5] = [
    Kind { goal: Some(0.4), ..kind("one TCP stream", "Gbit/s", "__stream", &[]) },
    kind("requests of 256 bytes, 16 connections", "/s", "__requests", &["16"]),
    kind("connections, 1 client", "/s", "__connections", &["1"]),
    kind("connections, 16 clients", "/s", "__connections", &["16"]),
    kind("a request on an idle connection (median)", "µs", "__trip", &[]),
];

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = lab()?;
    let congestion = lab.run(&["exec", "client", "--", "cat", "/proc/sys/net/ipv4/tcp_congestion_control"])?;
    line("congestion control on both sides", congestion.trim(), "");
    let loopback = format!("127.0.0.1:{PORT}");
    let mut found = vec![(Vec::new(), Vec::new()); KINDS.len()];
    for _ in 0..ROUNDS {
        for (kind, (through, beside)) in KINDS.iter().zip(&mut found) {
            let ask = |pod, target: &str| -> Result<f64, Failure> {
                let arguments = [&[kind.command, target, SECONDS], kind.more].concat();
                Ok(lab.inside(Some(pod), &arguments)?.trim().parse()?)
            };
            // A server of its own for each, so that neither sees the other's closed connections.
            beside.push(ask("loopback", &loopback)?);
            through.push(ask("client", VIP)?);
        }
    }
    for (Kind { name, unit, goal: least, .. }, (through, beside)) in KINDS.iter().zip(&found) {
        let ratios: Vec<f64> = through.iter().zip(beside).map(|(one, other)| one / other).collect();
        let ratio = median(&ratios);
        let judged = least.map(|least| goal(ratio >= least, &format!("{least}"))).unwrap_or_default();
        let (through, beside) = (median(through), median(beside));
        let figure = if *unit == "/s" { format!("{through:.0} {unit}") } else { format!("{through:.1} {unit}") };
        line(&format!("VIP: {name}"), &figure, &format!("{ratio:.2} of loopback ({beside:.1})  {judged}"));
    }
    lab.down()?;
    Ok(())
}

/// A lab with a server behind a virtual IP, another one without, and a client.
pub(crate) fn lab() -> Result<Lab, Failure> {
    let lab = Lab::start(&[])?;
    lab.apply(&manifest(&myself()?.to_string_lossy()))?;
    lab.until_ready(3)?;
    Ok(lab)
}

fn manifest(program: &str) -> String {
    let pod = |name: &str, command: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers:\n  - \
             name: main\n    image: local\n    command: {command}\n    readinessProbe: {{tcpSocket: {{port: {PORT}}}, \
             periodSeconds: 1}}\n---\n"
        )
    };
    let serve = format!("[{program:?}, __serve]");
    let idle = "apiVersion: v1\nkind: Pod\nmetadata: {name: client}\nspec: {containers: [{name: main, image: \
                minisvc/pause}]}\n---\n";
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server}}\nspec: {{clusterIP: 10.96.77.78, selector: {{app: \
         server}}, ports: [{{port: {PORT}}}]}}\n"
    );
    pod("server", &serve) + &pod("loopback", &serve) + idle + &service
}
