//! Holds what Services say against what is recorded as taken, at the start and now and then (S-113, S-125).
//!
//! Both are written in one transaction, so they can only differ by a defect or a store that was put together by hand. It
//! never changes a Service: what is not recorded is recorded, what nobody has is freed, and what cannot be put right is told in
//! an Event. Judging is a plain function.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;
use minisvc_store::{Expectation, Key, Op, Record, Txn};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bootstrap;
use crate::error::ApiError;
use crate::meta;
use crate::registry::Claim;
use crate::resources::ipaddress;
use crate::server::{Server, address_key, claim_key};
use crate::stored::{self, Encoded};

/// How often it is done while the server runs, as upstream does it for node ports.
const PERIOD: Duration = Duration::from_secs(180);

/// Where the store keeps Services.
const SERVICES: &str = "services";

/// A Service and what it holds.
struct Holder {
    record: Arc<Record>,
    object: Value,
    claims: Vec<Claim>,
}

/// Something that a Service says and that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    reason: &'static str,
    message: String,
    /// What is to be recorded, if that mends it.
    record: Option<Claim>,
}

/// What holds of the pools.
struct Rules {
    ranges: Vec<IpNet>,
    node_ports: RangeInclusive<u16>,
}

/// Does it every few minutes until the server is closed or dropped.
pub(crate) async fn keep(server: Weak<Server>, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = closing.cancelled() => return,
        }
        let Some(server) = server.upgrade() else { return };
        run(&server).await;
    }
}

/// Does it once. What cannot be written now is found again the next time.
pub(crate) async fn run(server: &Server) {
    // The claims first: one that is listed and has no Service afterwards has really lost it.
    let recorded = recorded(server);
    let holders = holders(server);
    let rules =
        server.with_pools(|pools| Rules { ranges: pools.ranges.clone(), node_ports: pools.config.node_ports.clone() });
    let keys: Vec<(&Key, &[Claim])> = holders.iter().map(|holder| (&holder.record.key, &holder.claims[..])).collect();
    let owners: BTreeMap<Claim, Key> = recorded.iter().map(|(claim, (_, owner))| (*claim, owner.clone())).collect();
    let owners = rightful(&keys, &owners);
    for holder in &holders {
        let is_recorded = |claim: &Claim| {
            let owner = recorded.get(claim).map(|(_, owner)| owner);
            let has_address = address_key(claim).is_none_or(|key| server.store.get(&key).is_some());
            owner == Some(&holder.record.key) && has_address
        };
        for finding in judge(holder, &owners, is_recorded, &rules) {
            let known = finding.record.and_then(|claim| recorded.get(&claim)).map(|(record, _)| record);
            let done = match finding.record {
                Some(claim) => take(server, holder, &claim, known.map(Arc::as_ref)).await,
                None => true,
            };
            // Somebody wrote in between: then it was no more than that.
            if done {
                tell(server, holder, &finding).await;
            }
        }
    }
    for (claim, (record, owner)) in recorded.iter().filter(|(claim, _)| !owners.contains_key(claim)) {
        tracing::warn!(claim = %claim.name(), %owner, "freed: recorded for a Service that does not have it");
        let (key, value) = (record.key.clone(), record.value.clone());
        let expect = vec![Expectation::At(key.clone(), record.revision)];
        let txn = Txn { expect, ops: vec![Op::delete(key, move |_| value)] };
        if let Err(error) = server.store.commit(txn).await {
            tracing::debug!(%error, "not freed");
        }
    }
}

/// What is recorded as taken, and for whom.
fn recorded(server: &Server) -> BTreeMap<Claim, (Arc<Record>, Key)> {
    let parse = |record: &Record| match &*record.key.resource {
        resource if resource == Claim::NodePort(0).storage() => record.key.name.parse().ok().map(Claim::NodePort),
        _ => record.key.name.parse().ok().map(Claim::ClusterIp),
    };
    let samples = [Claim::NodePort(0), Claim::ClusterIp(std::net::Ipv4Addr::UNSPECIFIED.into())];
    samples
        .iter()
        .flat_map(|sample| server.store.list(sample.storage(), Some("")).0)
        .filter_map(|record| {
            let owner = stored::decode(&record.value);
            let part = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            let owner = Key::new(part("resource"), part("namespace"), part("name"));
            Some((parse(&record)?, (record, owner)))
        })
        .collect()
}

/// All Services, the oldest first: of two that hold the same it is the rightful one.
fn holders(server: &Server) -> Vec<Holder> {
    let Some(resource) = server.registry.find("", "v1", SERVICES) else { return Vec::new() };
    let (records, _) = server.store.list(SERVICES, None);
    let mut holders: Vec<Holder> = server.with_pools(|pools| {
        let holder = |record: Arc<Record>| {
            let object = stored::decode(&record.value);
            let plan = resource.allocate.map(|kind| kind.plan(None, Some(&object), pools, false));
            let claims = plan.and_then(Result::ok).map(|plan| plan.give).unwrap_or_default();
            Holder { record, object, claims }
        };
        records.into_iter().map(holder).collect()
    });
    let created = |holder: &Holder| meta::text(&holder.object, "creationTimestamp").to_owned();
    holders.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.record.key.cmp(&b.record.key)));
    holders
}

/// Who holds each claim by right: for whom it is recorded, if that Service has it, else the oldest that has it.
fn rightful(holders: &[(&Key, &[Claim])], recorded: &BTreeMap<Claim, Key>) -> BTreeMap<Claim, Key> {
    let mut owners: BTreeMap<Claim, Key> = BTreeMap::new();
    for (key, claims) in holders {
        for claim in *claims {
            let is_recorded = recorded.get(claim) == Some(*key);
            if is_recorded || !owners.contains_key(claim) {
                owners.insert(*claim, (*key).clone());
            }
        }
    }
    owners
}

fn judge(
    holder: &Holder,
    owners: &BTreeMap<Claim, Key>,
    is_recorded: impl Fn(&Claim) -> bool,
    rules: &Rules,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |reason, message, record| findings.push(Finding { reason, message, record });
    let addresses = holder.object.pointer("/spec/clusterIPs").and_then(Value::as_array);
    for text in addresses.into_iter().flatten().filter_map(Value::as_str).filter(|text| !["", "None"].contains(text)) {
        if text.parse::<std::net::IpAddr>().is_err() {
            find("ClusterIPNotValid", format!("Cluster IP {text} is not a valid IP; recreate the Service"), None);
        }
    }
    let mut seen = BTreeSet::new();
    for claim in holder.claims.iter().filter(|claim| seen.insert(**claim)) {
        let name = claim.name();
        let (words, taken, missing, outside, inside) = match claim {
            Claim::ClusterIp(address) => (
                "Cluster IP",
                "ClusterIPAlreadyAllocated",
                "ClusterIPNotAllocated",
                "ClusterIPOutOfRange",
                rules.ranges.iter().any(|range| range.contains(address)),
            ),
            Claim::NodePort(port) => {
                ("Port", "PortAlreadyAllocated", "PortNotAllocated", "PortOutOfRange", rules.node_ports.contains(port))
            }
        };
        if !inside {
            find(outside, format!("{words} {name} is not within any configured range; recreate the Service"), None);
            continue;
        }
        match owners.get(claim) {
            Some(owner) if *owner != holder.record.key => {
                let other = format!("{}/{}", owner.namespace, owner.name);
                let message = format!("{words} {name} belongs to the Service {other}; recreate one of the two");
                find(taken, message, None);
            }
            _ if is_recorded(claim) => {}
            _ => find(missing, format!("{words} {name} was not recorded as taken; it is now"), Some(*claim)),
        }
    }
    findings
}

/// Records a claim for a Service that is as it was; answers whether it was so.
async fn take(server: &Server, holder: &Holder, claim: &Claim, known: Option<&Record>) -> bool {
    let Key { resource, namespace, name } = &holder.record.key;
    let text = Bytes::from(json!({"resource": &**resource, "namespace": &**namespace, "name": &**name}).to_string());
    let key = claim_key(claim);
    let mut txn = Txn {
        expect: vec![
            Expectation::At(holder.record.key.clone(), holder.record.revision),
            known.map_or_else(
                || Expectation::Absent(key.clone()),
                |record| Expectation::At(key.clone(), record.revision),
            ),
        ],
        ops: vec![Op::put(key, move |_| text)],
    };
    if let (Claim::ClusterIp(address), Some(key)) = (claim, address_key(claim))
        && server.store.get(&key).is_none()
    {
        let (uid, created) = (Uuid::new_v4().to_string(), meta::timestamp(Timestamp::now()));
        let encoded = Encoded::new(&ipaddress::of_service(*address, namespace, name, &uid, &created));
        txn.expect.push(Expectation::Absent(key.clone()));
        txn.ops.push(Op::put(key, move |revision| encoded.at(revision)));
    }
    let done = server.store.commit(txn).await;
    if let Err(error) = &done {
        tracing::debug!(claim = %claim.name(), %error, "not recorded");
    }
    done.is_ok()
}

/// Writes an Event about the Service.
async fn tell(server: &Server, holder: &Holder, finding: &Finding) {
    let Key { namespace, name, .. } = &holder.record.key;
    tracing::warn!(service = %format!("{namespace}/{name}"), reason = finding.reason, "{}", finding.message);
    let is_port = finding.reason.starts_with("Port");
    let component = if is_port { "portallocator-repair-controller" } else { "ipallocator-repair-controller" };
    let now = meta::timestamp(Timestamp::now());
    let event = json!({
        "metadata": {"name": format!("{name}.{}", Uuid::new_v4().simple()), "namespace": &**namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Service", "namespace": &**namespace, "name": &**name,
            "uid": meta::text(&holder.object, "uid"),
        },
        "type": "Warning",
        "reason": finding.reason,
        "message": finding.message,
        "source": {"component": component},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": component,
        "reportingInstance": "",
    });
    let written: Result<(), ApiError> = bootstrap::create(server, "", "events", namespace, event).await;
    if let Err(error) = written {
        // Usually a namespace that is being deleted; the log has it.
        tracing::debug!(%error, "event not written");
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
