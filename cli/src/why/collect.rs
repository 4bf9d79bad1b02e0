//! Gathers the facts: objects from the API, tables from the data plane, and what only a look inside tells.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use minisvc_why::{
    Clash, Client, Facts, Findings, Flow, Frontend, Key, LogWanted, Outcome, Question, Seen, Target, Wanted, Workload,
    diagnose, wanted,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::inside::run_own;
use super::look::Errand;
use crate::api::LabApi;
use crate::config::CLUSTER_DOMAIN;
use crate::control::Place;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;

/// How long a look into one place may take. Nothing there waits for more than a second and a half.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Connections of late that are told of.
const FLOWS: usize = 200;

/// How the workstation is called.
const WORKSTATION: &str = "the workstation";

/// The longest last line that is quoted, in characters.
const LINE: usize = 200;

/// Gathers what has to be known and answers the question.
///
/// # Errors
/// When the lab does not run or its API does not answer. What cannot be seen inside is left out.
pub(crate) async fn answer(home: &LabHome, question: &Question) -> Result<Findings, CliError> {
    let api = LabApi::of(home)?;
    let mut facts = objects(&api).await?;
    let (faults, machines, places) = tokio::try_join!(recent(&api, "faults"), recent(&api, "machines"), places(&api))?;
    facts.places = places;
    facts.faults = read(faults)?;
    facts.stopped = stopped(machines);
    if question.client == Client::Workstation {
        facts.seen.source = workstation(&facts, question);
    }
    let mut wanted = wanted(&facts, question);
    if diagnose(&facts, question).outcome == Outcome::Broken {
        // It will fail, and perhaps slowly; why is known already.
        wanted.connect = None;
    }
    let place = place_of(&facts, &question.client);
    let (sockets, lines, seen, flows) = tokio::join!(
        futures::future::join_all(wanted.sockets.iter().map(|(pod, container)| sockets(home, pod, container))),
        futures::future::join_all(wanted.logs.iter().map(|log| last_line(&api, log))),
        look(home, place, &wanted),
        flows(&api),
    );
    facts.sockets = sockets.into_iter().flatten().collect();
    facts.last_lines = lines.into_iter().flatten().collect();
    facts.flows = flows;
    if let Some(seen) = seen {
        facts.seen = Seen { source: seen.source.or(facts.seen.source), ..seen };
    }
    Ok(diagnose(&facts, question))
}

async fn objects(api: &LabApi) -> Result<Facts, CliError> {
    let core = |plural: &str| format!("/api/v1/{plural}");
    let apps = |plural: &str| format!("/apis/apps/v1/{plural}");
    let dev = |plural: &str| format!("/apis/minisvc.dev/v1/{plural}");
    let paths = [
        core("namespaces"),
        core("services"),
        core("pods"),
        "/apis/discovery.k8s.io/v1/endpointslices".to_owned(),
        core("nodes"),
        core("events"),
        "/apis/networking.k8s.io/v1/servicecidrs".to_owned(),
        dev("frontends"),
        dev("clashes"),
        apps("deployments"),
        apps("replicasets"),
        apps("statefulsets"),
        apps("daemonsets"),
    ];
    let mut answers = futures::future::try_join_all(paths.iter().map(|path| api.get(path))).await?.into_iter();
    // There are as many answers as paths.
    let mut next = || answers.next().unwrap_or_default();
    let name = |object: Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut facts = Facts {
        domain: CLUSTER_DOMAIN.to_owned(),
        namespaces: items(next()).into_iter().map(name).collect(),
        services: read(next())?,
        pods: read(next())?,
        slices: read(next())?,
        nodes: read(next())?,
        events: read(next())?,
        service_cidrs: cidrs(next()),
        frontends: Some(items(next()).iter().filter_map(frontend).collect()),
        clashes: items(next()).iter().filter_map(clash).collect(),
        ..Facts::default()
    };
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        let found: Vec<Workload> = read(next())?;
        facts.workloads.extend(found.into_iter().map(|workload| Workload { kind: kind.to_owned(), ..workload }));
    }
    Ok(facts)
}

fn items(mut list: Value) -> Vec<Value> {
    match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn read<T: DeserializeOwned>(list: Value) -> Result<Vec<T>, CliError> {
    let doing = || "an object of the lab makes no sense".to_owned();
    items(list).into_iter().map(|item| serde_json::from_value(item).context(doing)).collect()
}

fn cidrs(list: Value) -> Vec<ipnet::IpNet> {
    let all = items(list);
    let texts = all.iter().flat_map(|range| range["spec"]["cidrs"].as_array().into_iter().flatten());
    texts.filter_map(|text| text.as_str()?.parse().ok()).collect()
}

fn frontend(item: &Value) -> Option<Frontend> {
    let protocol = item["protocol"].as_str()?.to_owned();
    Some(Frontend { at: item["address"].as_str()?.parse().ok()?, protocol })
}

fn clash(item: &Value) -> Option<Clash> {
    Some(Clash { at: item["address"].as_str()?.parse().ok()?, holder: item["holder"].as_str()?.to_owned() })
}

async fn flows(api: &LabApi) -> Vec<Flow> {
    let flow = |item: &Value| {
        let address = |field: &str| item[field].as_str()?.parse::<SocketAddr>().ok();
        Some(Flow {
            service: item["service"].as_str().map(str::to_owned),
            client: address("client")?,
            endpoint: address("endpoint")?,
            state: item["state"].as_str()?.to_owned(),
        })
    };
    let answer = api.get(&format!("/apis/minisvc.dev/v1/flows?limit={FLOWS}")).await;
    // They only add to the answer.
    answer.map(|list| items(list).iter().filter_map(flow).collect()).unwrap_or_default()
}

/// A list that only a lab of this program's age has.
async fn recent(api: &LabApi, plural: &str) -> Result<Value, CliError> {
    match api.get(&format!("/apis/minisvc.dev/v1/{plural}")).await {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        answer => answer,
    }
}

fn stopped(machines: Value) -> Vec<String> {
    let stopped = items(machines).into_iter().filter(|machine| machine["running"] == false);
    stopped.filter_map(|machine| machine["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

/// Addresses of what is no object, with what it is.
async fn places(api: &LabApi) -> Result<BTreeMap<IpAddr, String>, CliError> {
    let routes = items(api.get("/apis/minisvc.dev/v1/routes").await?);
    let place = |route: &Value| {
        let what = match route["to"]["kind"].as_str()? {
            "Workstation" => WORKSTATION,
            "ControlPlane" => "the control plane: the API and DNS",
            "Outside" => "this machine, as the lab sees it",
            _ => return None,
        };
        Some((route["address"].as_str()?.parse().ok()?, what.to_owned()))
    };
    Ok(routes.iter().filter_map(place).collect())
}

/// The workstation's address of the family that is asked.
fn workstation(facts: &Facts, question: &Question) -> Option<IpAddr> {
    let fits = |address: &IpAddr| match &question.target {
        Target::Address(target) => target.is_ipv4() == address.is_ipv4(),
        _ => true,
    };
    let own = facts.places.iter().filter(|(_, what)| *what == WORKSTATION);
    own.map(|(address, _)| *address).find(fits)
}

fn place_of(facts: &Facts, client: &Client) -> Option<Place> {
    let (namespace, pod) = match client {
        Client::Workstation => return Some(Place::Workstation),
        Client::Pod(key) => key.clone(),
    };
    let found = facts.pods.iter().find(|found| found.metadata.key() == (namespace.clone(), pod.clone()))?;
    let running = found.status.container_statuses.iter().find(|status| status.state.running.is_some())?;
    Some(Place::Pod { namespace, pod, container: Some(running.name.clone()) })
}

async fn sockets(home: &LabHome, pod: &Key, container: &str) -> Option<(Key, Vec<minisvc_why::Listener>)> {
    let (namespace, name) = pod.clone();
    let place = Place::Pod { namespace, pod: name, container: Some(container.to_owned()) };
    let printed = run_own(home, place, &["__sockets".to_owned()], LOOK_WITHIN).await.ok()?;
    Some((pod.clone(), serde_json::from_str(&printed.out).ok()?))
}

async fn look(home: &LabHome, place: Option<Place>, wanted: &Wanted) -> Option<Seen> {
    let errand = Errand {
        names: wanted.names.clone(),
        types: vec!["A".to_owned(), "AAAA".to_owned()],
        connect: wanted.connect,
        towards: wanted.towards,
    };
    let text = serde_json::to_string(&errand).ok()?;
    let printed = run_own(home, place?, &["__look".to_owned(), text], LOOK_WITHIN).await.ok()?;
    serde_json::from_str(&printed.out).ok()
}

async fn last_line(api: &LabApi, log: &LogWanted) -> Option<((Key, String), String)> {
    let LogWanted { pod: (namespace, pod), container, previous } = log;
    let path =
        format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&previous={previous}&tailLines=5");
    let text = api.text(&path).await.ok()?;
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(((log.pod.clone(), container.clone()), line.chars().take(LINE).collect()))
}
