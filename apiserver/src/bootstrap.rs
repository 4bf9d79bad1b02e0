//! What exists from the start: four namespaces, the first roles and the Service `kubernetes` (A-059, S-169 to S-172).

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::meta;
use crate::rbac;
use crate::registry::Resource;
use crate::server::Server;
use crate::write::{Part, Writer};

/// How often the Service `kubernetes` is looked after (S-170).
const PERIOD: Duration = Duration::from_secs(10);

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing.
pub(crate) async fn run(server: &Server) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let namespace = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        create(server, "", "namespaces", "", namespace).await?;
    }
    let roles = rbac::defaults::objects();
    let roles = roles.into_iter().map(|(plural, object)| create(server, rbac::GROUP, plural, "", object));
    // All at once, so that a disk has to sync only a few times.
    futures::future::try_join_all(roles).await?;
    look_after_kubernetes(server).await
}

/// Brings back the Service `kubernetes` and its endpoints until the server is closed or dropped.
pub(crate) async fn keep(server: Weak<Server>, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = closing.cancelled() => return,
        }
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = look_after_kubernetes(&server).await {
            tracing::warn!(%error, "the Service kubernetes could not be looked after");
        }
    }
}

/// Takes this server's address out of its endpoints, because it is about to go (S-173).
pub(crate) async fn withdraw(server: &Server) -> Result<(), ApiError> {
    let nowhere = json!({"metadata": {"name": "kubernetes"}, "subsets": [], "endpoints": []});
    change(server, "", "endpoints", &nowhere, &["subsets"]).await?;
    change(server, "discovery.k8s.io", "endpointslices", &nowhere, &["endpoints"]).await
}

async fn look_after_kubernetes(server: &Server) -> Result<(), ApiError> {
    let address = server.options.advertise;
    let (ip, port) = (address.ip(), address.port());
    look_after_ranges(server).await?;
    create(server, "", "services", "default", kubernetes_service(server, port)).await?;
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": labels},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    ensure(server, "", "endpoints", endpoints, &["subsets"]).await?;
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family(ip),
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    ensure(server, "discovery.k8s.io", "endpointslices", slice, &["endpoints", "ports"]).await
}

/// Makes the ServiceCIDR `kubernetes` of the configured ranges, or adds the second family that has been configured since
/// (S-218, S-219). Other ranges than those it began with cannot be given to it.
async fn look_after_ranges(server: &Server) -> Result<(), ApiError> {
    let Some(resource) = find(server, "networking.k8s.io", "servicecidrs") else { return Ok(()) };
    let cidrs = json!(server.options.service_cidrs);
    let object = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
    let mut change = |old: &Value| {
        let mut new = old.clone();
        let stored = old.pointer("/spec/cidrs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if stored.len() == 1 && object["spec"]["cidrs"][0] == stored[0] {
            new["spec"]["cidrs"] = object["spec"]["cidrs"].clone();
        }
        Ok(new)
    };
    match writer(server, resource, "").update("kubernetes", &mut change).await {
        Err(ApiError::NotFound(_)) => create(server, "networking.k8s.io", "servicecidrs", "", object).await,
        other => other.map(|_| ()),
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn kubernetes_service(server: &Server, port: u16) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
    });
    // The first address of the primary range (S-169).
    if let Some(first) = server.options.service_cidrs.first().and_then(first_address) {
        spec["clusterIP"] = json!(first);
        spec["clusterIPs"] = json!([first]);
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    json!({"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec})
}

/// The address of the Service `kubernetes` in a range: the one after the network address, in IPv6 too.
pub(crate) fn first_address(range: &IpNet) -> Option<IpAddr> {
    range.hosts().find(|address| *address != range.network())
}

/// Creates an object unless it is there.
pub(crate) async fn create(
    server: &Server,
    group: &str,
    plural: &str,
    namespace: &str,
    object: Value,
) -> Result<(), ApiError> {
    let Some(resource) = find(server, group, plural) else { return Ok(()) };
    if server.record(resource, namespace, meta::text(&object, "name")).is_ok() {
        return Ok(());
    }
    match writer(server, resource, namespace).create(object).await {
        Ok(_) | Err(ApiError::AlreadyExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates an object in `default`, or puts the given fields of an existing one right.
async fn ensure(server: &Server, group: &str, plural: &str, object: Value, fields: &[&str]) -> Result<(), ApiError> {
    match change(server, group, plural, &object, fields).await {
        Err(ApiError::NotFound(_)) => create(server, group, plural, "default", object).await,
        other => other,
    }
}

/// Puts the given fields of an existing object in `default` right; what is right already is not written.
async fn change(server: &Server, group: &str, plural: &str, object: &Value, fields: &[&str]) -> Result<(), ApiError> {
    let Some(resource) = find(server, group, plural) else { return Ok(()) };
    let mut change = |old: &Value| {
        let mut new = old.clone();
        for field in fields {
            new[*field] = object[*field].clone();
        }
        Ok(new)
    };
    writer(server, resource, "default").update(meta::text(object, "name"), &mut change).await.map(|_| ())
}

fn find<'a>(server: &'a Server, group: &str, plural: &str) -> Option<&'a Arc<Resource>> {
    server.registry.find(group, "v1", plural)
}

fn writer<'a>(server: &'a Server, resource: &'a Arc<Resource>, namespace: &'a str) -> Writer<'a> {
    Writer {
        server,
        resource,
        namespace,
        part: Part::Object,
        subresource: "",
        applied: false,
        dry_run: false,
        manager: "apiserver",
        asker: None,
        now: Timestamp::now(),
    }
}
