//! The API with many objects: how soon they are stored, listed and told to watchers, and what they cost in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::api::Api;
use crate::figures::{goal, line, median, millis, spread};
use crate::lab::{Lab, PATIENCE};
use crate::memory;

/// Pods, and half as many Services.
const PODS: usize = 5000;
const SERVICES: usize = PODS / 2;

/// Clients that create at once.
const CLIENTS: usize = 16;

/// Objects that one client creates alone.
const ALONE: usize = 200;

/// Watchers of one kind at once.
const WATCHERS: usize = 1000;

/// Events that each of them must get, in order.
const EVENTS: usize = 100;

/// How often a list is asked for.
const LISTS: usize = 10;

const PATH: &str = "/api/v1/namespaces/default/pods";

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = Lab::start(&[])?;
    let socket = lab.api_socket();
    let times = create(&socket, PATH, "alone", 0..ALONE, pod)?;
    let judged = goal(median(&times) < 0.65, "0.65 ms; kube-apiserver 1.95 ms");
    line("create a Pod, 1 client, p50 / p99", &spread(&times), &judged);
    let began = Instant::now();
    create_at_once(&socket, PATH, PODS - ALONE, pod)?;
    let rate = per_second(PODS - ALONE, began.elapsed());
    line(
        &format!("create Pods, {CLIENTS} clients"),
        &format!("{rate:.0} /s"),
        &goal(rate > 4590.0, "4590 /s; kube-apiserver 918 /s"),
    );
    lists(&socket)?;
    watch(&socket)?;
    watchers(&socket)?;
    create_at_once(&socket, "/api/v1/namespaces/default/services", SERVICES, service)?;
    thread::sleep(Duration::from_secs(5));
    let resident = memory::resident(lab.pid())?;
    line(
        &format!("{PODS} pods, {SERVICES} Services: main process (RSS)"),
        &format!("{resident:.0} MB"),
        &goal(resident < 120.0, "120 MB; Kubernetes' three 1027 MB"),
    );
    lab.down()?;
    Ok(())
}

/// A pod that nobody schedules, as large as a running one.
fn pod(name: &str) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "lastProbeTime": null});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "metadata": {"name": name, "labels": {"app": "bench", "pod-template-hash": "5d4f7c8b9"},
            "annotations": {"bench/status": json!({"conditions": conditions, "phase": "Running"}).to_string()}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "minisvc/echo",
            "env": [{"name": "PORT", "value": "8080"}], "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}}}]},
    })
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}})
}

/// Creates objects one after the other; milliseconds of each.
fn create(
    socket: &Path,
    path: &str,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    object: fn(&str) -> Value,
) -> Result<Vec<f64>, Failure> {
    let mut api = Api::connect(socket)?;
    let mut times = Vec::new();
    for number in numbers {
        let body = object(&format!("{prefix}-{number}")).to_string();
        let began = Instant::now();
        api.ask("POST", path, "application/json", &body)?;
        times.push(millis(began.elapsed()));
    }
    Ok(times)
}

fn create_at_once(socket: &Path, path: &str, count: usize, object: fn(&str) -> Value) -> Result<(), Failure> {
    thread::scope(|scope| {
        let share = |client: usize| client * count / CLIENTS..(client + 1) * count / CLIENTS;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || create(socket, path, &format!("many-{client}"), share(client), object)))
            .collect();
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    })
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

fn lists(socket: &Path) -> Result<(), Failure> {
    for (what, query, least, peer) in [
        ("all", "", 19.0, "19 ms; kube-apiserver 190 ms"),
        ("a page of 500 of", "?limit=500", 1.9, "1.9 ms; kube-apiserver 19 ms"),
    ] {
        let (mut times, mut size) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let began = Instant::now();
            size = Api::connect(socket)?.read(&format!("{PATH}{query}"))?;
            times.push(millis(began.elapsed()));
        }
        let megabytes = f64::from(u32::try_from(size)?) / 1e6;
        let what = format!("list {what} {PODS} pods ({megabytes:.1} MB)");
        line(&what, &format!("{:.1} ms", median(&times)), &goal(median(&times) < least, peer));
    }
    Ok(())
}

/// From a create that is sent to its event at a watcher.
fn watch(socket: &Path) -> Result<(), Failure> {
    let (name_tx, names) = channel();
    follow(socket.to_owned(), "configmaps", move |event| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        name_tx.send((Instant::now(), name)).is_ok()
    });
    let mut api = Api::connect(socket)?;
    let mut times = Vec::new();
    for number in 0..ALONE {
        let name = format!("watched-{number}");
        let began = Instant::now();
        let object = json!({"metadata": {"name": name}});
        api.ask("POST", "/api/v1/namespaces/default/configmaps", "application/json", &object.to_string())?;
        loop {
            let (at, seen) = names.recv_timeout(PATIENCE).map_err(|_| "an event did not come")?;
            if seen == name {
                times.push(millis(at.duration_since(began)));
                break;
            }
        }
    }
    line(
        "create sent → event at a watcher, p50 / p99",
        &spread(&times),
        &goal(median(&times) < 0.6, "0.6 ms; kube-apiserver 1.8 / 8.2 ms"),
    );
    Ok(())
}

/// A thousand watchers of a busy kind: each gets everything, in order.
fn watchers(socket: &Path) -> Result<(), Failure> {
    let complete = Arc::new(AtomicUsize::new(0));
    let (ready_tx, ready) = channel();
    for _ in 0..WATCHERS {
        let (complete, ready_tx) = (Arc::clone(&complete), ready_tx.clone());
        let mut next = 0;
        follow(socket.to_owned(), "secrets", move |event| {
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            if name == "begin" {
                return ready_tx.send(()).is_ok();
            }
            if name != format!("busy-{next}") {
                return true;
            }
            next += 1;
            if next == EVENTS {
                complete.fetch_add(1, Ordering::Relaxed);
            }
            next < EVENTS
        });
    }
    let mut api = Api::connect(socket)?;
    let path = "/api/v1/namespaces/default/secrets";
    api.ask("POST", path, "application/json", &json!({"metadata": {"name": "begin"}}).to_string())?;
    for _ in 0..WATCHERS {
        ready.recv_timeout(PATIENCE).map_err(|_| "a watcher did not begin")?;
    }
    let began = Instant::now();
    create(socket, path, "busy", 0..EVENTS, |name| json!({"metadata": {"name": name}}))?;
    while complete.load(Ordering::Relaxed) < WATCHERS {
        if began.elapsed() > PATIENCE {
            return Err(format!("{} of {WATCHERS} watchers got everything", complete.load(Ordering::Relaxed)).into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let rate = per_second(EVENTS * WATCHERS, began.elapsed());
    line(&format!("{WATCHERS} watchers, {EVENTS} events each, all in order"), &format!("{rate:.0} events/s"), "");
    Ok(())
}

/// Watches a kind on a thread of its own, which ends when `event` says so, or with the lab.
fn follow(socket: PathBuf, plural: &'static str, event: impl FnMut(&Value) -> bool + Send + 'static) {
    thread::spawn(move || {
        // A watch that breaks off shows as events that do not come.
        let _ = Api::connect(&socket).and_then(|api| api.watch(&format!("/api/v1/{plural}?watch=1"), event));
    });
}
