//! The rows of each view. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Model, Sample, View};
use crate::live::{Key, Kind, PodRecord, Record, ServiceRecord};

/// A table: its header, and each row with the object it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<(Option<Key>, Vec<String>)>,
}

/// What the view shows, filtered.
pub(super) fn of(model: &Model) -> Rows {
    let mut rows = match &model.view {
        View::Services => services(model),
        View::Endpoints(service) => endpoints(model, service),
        View::Pods => pods(model),
        View::Flows => flows(model),
        View::Drops => drops(model),
        View::Events => events(model),
        View::Text(_) | View::Help => Rows::default(),
    };
    let wanted = model.filter.to_lowercase();
    rows.rows.retain(|(_, cells)| cells.iter().any(|cell| cell.to_lowercase().contains(&wanted)));
    rows
}

/// The objects of the rows.
pub(super) fn keys(model: &Model) -> Vec<Option<Key>> {
    of(model).rows.into_iter().map(|(key, _)| key).collect()
}

/// How far the cursor can go.
pub(super) fn length(model: &Model) -> usize {
    match model.view {
        View::Text(_) => model.text.len(),
        View::Help => 0,
        _ => of(model).rows.len(),
    }
}

fn all(model: &Model, kind: Kind) -> impl Iterator<Item = (&Key, &Record)> {
    model.objects.iter().filter(move |((of, _), _)| *of == kind).map(|((_, key), record)| (key, record))
}

fn services(model: &Model) -> Rows {
    let flows = flows_by_service(&model.now);
    let rows = all(model, Kind::Service).filter_map(|(key, record)| {
        let Record::Service(service) = record else { return None };
        let (ready, of) = readiness(model, key);
        let rate = model.rates.get(key).copied().unwrap_or_default();
        let cells = vec![
            key.clone(),
            service.kind.clone(),
            address(service),
            ports(service),
            format!("{ready}/{of}"),
            flows.get(key).copied().unwrap_or_default().to_string(),
            bytes(rate),
        ];
        Some((Some(key.clone()), cells))
    });
    Rows { header: vec!["SERVICE", "TYPE", "ADDRESS", "PORTS", "READY", "FLOWS", "BYTES/S"], rows: rows.collect() }
}

fn address(service: &ServiceRecord) -> String {
    let first = service.addresses.first().or(service.external_name.as_ref());
    first.cloned().unwrap_or_else(|| "None".to_owned())
}

fn ports(service: &ServiceRecord) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| {
            let node_port = port.node_port.map(|number| format!(":{number}")).unwrap_or_default();
            format!("{}{node_port}/{}", port.port, port.protocol)
        })
        .collect();
    ports.join(",")
}

/// How many endpoints are ready, of how many.
fn readiness(model: &Model, service: &Key) -> (usize, usize) {
    let mut ready: BTreeMap<&str, bool> = BTreeMap::new();
    for (_, record) in all(model, Kind::Slice) {
        if let Record::Slice(slice) = record
            && slice.service == *service
        {
            ready.extend(slice.endpoints.iter().map(|endpoint| (endpoint.address.as_str(), endpoint.ready)));
        }
    }
    (ready.values().filter(|ready| **ready).count(), ready.len())
}

fn endpoints(model: &Model, service: &Key) -> Rows {
    let mine = model.now.service_ports.iter().filter(|port| service_of(port) == *service);
    let rows = mine.flat_map(|port| {
        let name = port["port"].as_str().unwrap_or_default();
        port["endpoints"].as_array().into_iter().flatten().map(move |endpoint| {
            let state = match (endpoint["ready"] == true, endpoint["terminating"] == true) {
                (_, true) => "terminating",
                (true, false) => "ready",
                (false, false) => "not ready",
            };
            let pod = (endpoint["at"]["kind"] == "Pod").then(|| text(&endpoint["at"]["name"]));
            let figure = |value: &Value| value.as_u64().unwrap_or_default().to_string();
            let cells = vec![
                text(&endpoint["address"]),
                name.to_owned(),
                state.to_owned(),
                pod.clone().unwrap_or_default(),
                text(&endpoint["node"]),
                text(&endpoint["zone"]),
                figure(&endpoint["flows"]),
            ];
            (pod, cells)
        })
    });
    Rows { header: vec!["ENDPOINT", "PORT", "STATE", "POD", "NODE", "ZONE", "FLOWS"], rows: rows.collect() }
}

fn pods(model: &Model) -> Rows {
    let rows = all(model, Kind::Pod).filter_map(|(key, record)| {
        let Record::Pod(pod) = record else { return None };
        let cells = vec![
            key.clone(),
            if pod.ready { "yes" } else { "no" }.to_owned(),
            state(pod),
            pod.restarts.to_string(),
            pod.addresses.first().cloned().unwrap_or_default(),
            pod.node.clone().unwrap_or_default(),
        ];
        Some((Some(key.clone()), cells))
    });
    Rows { header: vec!["POD", "READY", "STATUS", "RESTARTS", "ADDRESS", "NODE"], rows: rows.collect() }
}

fn state(pod: &PodRecord) -> String {
    if pod.terminating {
        return "Terminating".to_owned();
    }
    pod.reason.clone().unwrap_or_else(|| pod.phase.clone())
}

fn flows(model: &Model) -> Rows {
    let rows = model.now.flows.iter().rev().map(|flow| {
        let cells = ["protocol", "client", "service", "destination", "endpoint", "state"].map(|name| text(&flow[name]));
        (None, cells.to_vec())
    });
    Rows { header: vec!["PROTOCOL", "CLIENT", "SERVICE", "DESTINATION", "ENDPOINT", "STATE"], rows: rows.collect() }
}

fn drops(model: &Model) -> Rows {
    let rows = drops_by_reason(&model.now).into_iter().filter(|(_, count)| *count > 0).map(|(reason, count)| {
        let rate = model.drop_rates.get(&reason).copied().unwrap_or_default();
        (None, vec![reason.replace('_', " "), count.to_string(), format!("{rate:.0}")])
    });
    Rows { header: vec!["REASON", "PACKETS", "A SECOND"], rows: rows.collect() }
}

fn events(model: &Model) -> Rows {
    let mut events: Vec<&Value> = model.now.events.iter().collect();
    let when = |event: &Value| {
        let times = [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
        times.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
    };
    events.sort_by_key(|event| std::cmp::Reverse(when(event)));
    let rows = events.into_iter().map(|event| {
        let about = format!("{}/{}", text(&event["involvedObject"]["kind"]), text(&event["involvedObject"]["name"]));
        (None, vec![when(event), text(&event["type"]), text(&event["reason"]), about, text(&event["message"])])
    });
    Rows { header: vec!["TIME", "TYPE", "REASON", "OBJECT", "MESSAGE"], rows: rows.collect() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn service_of(port: &Value) -> Key {
    format!("{}/{}", text(&port["metadata"]["namespace"]), text(&port["service"]))
}

/// The sum of a figure over the endpoints of each Service.
fn by_service(sample: &Sample, figure: impl Fn(&Value) -> u64) -> BTreeMap<Key, u64> {
    let mut sums = BTreeMap::new();
    for port in &sample.service_ports {
        let sum: u64 = port["endpoints"].as_array().into_iter().flatten().map(&figure).sum();
        *sums.entry(service_of(port)).or_default() += sum;
    }
    sums
}

fn flows_by_service(sample: &Sample) -> BTreeMap<Key, u64> {
    by_service(sample, |endpoint| endpoint["flows"].as_u64().unwrap_or_default())
}

/// Bytes of the flows of each Service, both ways.
pub(super) fn bytes_by_service(sample: &Sample) -> BTreeMap<Key, u64> {
    by_service(sample, |endpoint| endpoint["bytes"].as_array().into_iter().flatten().filter_map(Value::as_u64).sum())
}

/// Packets that were dropped, by reason.
pub(super) fn drops_by_reason(sample: &Sample) -> BTreeMap<String, u64> {
    let drops = sample.counters.iter().filter(|counter| counter["name"] == "packets_dropped");
    drops.map(|counter| (text(&counter["label"][1]), counter["value"].as_u64().unwrap_or_default())).collect()
}

/// A rate for people: three digits and a unit.
fn bytes(rate: f64) -> String {
    let units = ["B", "kB", "MB", "GB"];
    let mut rate = rate;
    let mut unit = 0;
    while rate >= 1000.0 && unit + 1 < units.len() {
        rate /= 1000.0;
        unit += 1;
    }
    let digits = if rate >= 100.0 || unit == 0 { 0 } else { 1 };
    format!("{rate:.digits$} {}", units[unit])
}
