//! How soon a change is true: in the store, in the slices, and for the next connection.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::api::Api;
use crate::figures::{goal, line, median, millis, spread};
use crate::lab::{Lab, PATIENCE};
use crate::load::now;

/// Objects that each client creates one after the other.
const OBJECTS: usize = 200;

/// Clients that create at once.
const CLIENTS: usize = 16;

/// How often a pod joins and leaves a Service: so often that the slowest of a hundred is not simply the slowest.
const CHANGES: usize = 200;

/// Between two changes: long enough for everything to be quiet again.
const PAUSE: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Where the Service that is changed answers.
const WEB: &str = "10.96.77.79:80";

/// A pod that is ready all the time; a label decides whether the Service has it.
const PAIR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: echo, image: minisvc/echo}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.77.79
  selector: {app: web, joined: 'yes'}
  ports: [{port: 80, targetPort: 8080}]
";

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = Lab::start(&[])?;
    line("state on", &filesystem(&lab), "");
    let socket = lab.api_socket();
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"key": "value"}});
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    let times = create(&socket, "configmaps", "one", map)?;
    line("create a ConfigMap, 1 client, p50 / p99", &spread(&times), "written to disk before the answer");
    let times = create(&socket, "services", "one", service)?;
    line("create a Service, 1 client, p50 / p99", &spread(&times), "");
    let began = Instant::now();
    let times = create_at_once(&socket)?;
    let each = f64::from(u32::try_from(times.len())?) / began.elapsed().as_secs_f64();
    line(&format!("create Services, {CLIENTS} clients"), &format!("{each:.0} /s"), &spread(&times));
    lab.down()?;
    let lab = Lab::start(&[])?;
    let times = changes(&lab)?;
    line("pod changed: patch sent → answered, p50 / p99", &spread(&times.patch), "");
    line("pod changed: patch sent → EndpointSlice seen, p50 / p99", &spread(&times.slice), "");
    let judged = |times: &[f64]| goal(median(times) < 10.0, "10 ms");
    line("pod joins: patch sent → first new connection, p50 / p99", &spread(&times.join), &judged(&times.join));
    line("pod leaves: patch sent → no new connection, p50 / p99", &spread(&times.leave), &judged(&times.leave));
    lab.down()?;
    Ok(())
}

/// Type of the file system that holds the lab's state.
fn filesystem(lab: &Lab) -> String {
    let known = nix::sys::statfs::statfs(lab.folder()).map(|stat| stat.filesystem_type());
    match known {
        Ok(nix::sys::statfs::TMPFS_MAGIC) => "tmpfs: no disk is waited for".to_owned(),
        Ok(nix::sys::statfs::EXT4_SUPER_MAGIC) => "ext4".to_owned(),
        Ok(nix::sys::statfs::OVERLAYFS_SUPER_MAGIC) => "overlayfs".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

/// Creates objects one after the other; milliseconds of each.
fn create(socket: &Path, plural: &str, prefix: &str, object: impl Fn(&str) -> Value) -> Result<Vec<f64>, Failure> {
    let mut api = Api::connect(socket)?;
    let path = format!("/api/v1/namespaces/default/{plural}");
    let mut times = Vec::new();
    for number in 0..OBJECTS {
        let body = object(&format!("{prefix}-{number}")).to_string();
        let began = Instant::now();
        api.ask("POST", &path, JSON, &body)?;
        times.push(millis(began.elapsed()));
    }
    Ok(times)
}

fn create_at_once(socket: &Path) -> Result<Vec<f64>, Failure> {
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || create(socket, "services", &format!("many-{client}"), service)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        Ok(all)
    })
}

/// What a change has led to, with its time in microseconds since 1970.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    /// The slice has so many endpoints.
    Slice(usize),
    /// New connections are accepted, or not.
    Flow(bool),
}

/// How long it took from sending a change, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Until the answer.
    patch: Vec<f64>,
    /// Until a watcher saw the slice.
    slice: Vec<f64>,
    /// Until the first new connection, for a pod that joins.
    pub(crate) join: Vec<f64>,
    /// The same from when the change was answered, that is in the API. 0 if the connection came before the answer.
    pub(crate) join_after: Vec<f64>,
    /// Until no new connection, for one that leaves.
    pub(crate) leave: Vec<f64>,
}

/// A ready pod joins and leaves a Service again and again.
pub(crate) fn changes(lab: &Lab) -> Result<Changes, Failure> {
    lab.apply(PAIR)?;
    lab.until_ready(1)?;
    let (effects_tx, effects) = channel();
    let watch = Api::connect(&lab.api_socket())?;
    let slices_tx = effects_tx.clone();
    // Both threads end with the lab, or when nobody listens any more.
    thread::spawn(move || {
        let path = "/apis/discovery.k8s.io/v1/endpointslices?watch=1&labelSelector=kubernetes.io%2Fservice-name%3Dweb";
        watch.watch(path, |event| {
            let endpoints = event["object"]["endpoints"].as_array().map_or(0, Vec::len);
            slices_tx.send((now(), Effect::Slice(endpoints))).is_ok()
        })
    });
    let mut follower = lab.inside_in_background(None, &["__follow", WEB, "120"])?;
    let lines = BufReader::new(follower.stdout.take().ok_or("no pipe")?).lines();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let Some((time, state)) = line.split_once(' ') else { continue };
            let _ = effects_tx.send((time.parse().unwrap_or_default(), Effect::Flow(state == "up")));
        }
    });
    wait_for(&effects, &Effect::Flow(false))?;
    let mut api = Api::connect(&lab.api_socket())?;
    let mut times = Changes::default();
    for _ in 0..CHANGES {
        for joins in [true, false] {
            let label = if joins { json!("yes") } else { Value::Null };
            let body = json!({"metadata": {"labels": {"joined": label}}}).to_string();
            let began = now();
            api.ask("PATCH", &format!("{PODS}/web"), "application/merge-patch+json", &body)?;
            let answered = now();
            times.patch.push(since(began, answered));
            let (slice_at, flow_at) = both(&effects, joins)?;
            times.slice.push(since(began, slice_at));
            if joins {
                times.join.push(since(began, flow_at));
                times.join_after.push(since(answered, flow_at));
            } else {
                times.leave.push(since(began, flow_at));
            }
            thread::sleep(PAUSE);
        }
    }
    follower.kill()?;
    follower.wait()?;
    Ok(times)
}

fn since(began: u128, at: u128) -> f64 {
    f64::from(u32::try_from(at.saturating_sub(began)).unwrap_or(u32::MAX)) / 1000.0
}

fn wait_for(effects: &Receiver<(u128, Effect)>, wanted: &Effect) -> Result<u128, Failure> {
    loop {
        let (at, effect) = effects.recv_timeout(PATIENCE).map_err(|_| format!("waited for {wanted:?}"))?;
        if effect == *wanted {
            return Ok(at);
        }
    }
}

/// When the slice and the next connection have followed.
fn both(effects: &Receiver<(u128, Effect)>, joins: bool) -> Result<(u128, u128), Failure> {
    let (mut slice, mut flow) = (None, None);
    loop {
        if let (Some(slice), Some(flow)) = (slice, flow) {
            return Ok((slice, flow));
        }
        match effects.recv_timeout(PATIENCE).map_err(|_| "a change had no effect")? {
            (at, Effect::Slice(endpoints)) if (endpoints > 0) == joins => slice = slice.or(Some(at)),
            (at, Effect::Flow(up)) if up == joins => flow = flow.or(Some(at)),
            _ => {}
        }
    }
}
