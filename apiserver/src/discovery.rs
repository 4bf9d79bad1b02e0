//! What is served, told to clients: versions, groups, resources; aggregated and legacy.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::Options;
use crate::error::ApiError;
use crate::extension::{Extension, ExtensionResource};
use crate::negotiate;
use crate::registry::{Registry, Resource, Subresource, group_version};
use crate::render::json_value;
use crate::reviews::{self, Review};

/// The version of the Kubernetes API that is served: tools choose by its minor what they send.
pub(crate) const GIT_VERSION: &str = "v1.36.0";
const MINOR: &str = "36";

/// Verbs of every stored kind, in the order of the alphabet.
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Verbs of a kind of which there is none.
const READING: &[&str] = &["get", "list", "watch"];

/// What there is to discover: the stored kinds, and what somebody else answers for.
pub(crate) struct Offer<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) extension: Option<&'a Extension>,
}

impl Offer<'_> {
    /// The resources of a group-version that somebody else answers for.
    fn extension(&self, group: &str, version: &str) -> impl Iterator<Item = &ExtensionResource> {
        let here = self.extension.filter(|extension| extension.group == group && extension.version == version);
        here.into_iter().flat_map(|extension| &extension.resources)
    }
}

/// `/version`.
pub(crate) fn version() -> Response {
    json_value(
        StatusCode::OK,
        &json!({
            "major": "1",
            "minor": MINOR,
            "gitVersion": GIT_VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
        }),
    )
}

/// The machine in the words of clients.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`.
pub(crate) fn core_versions(offer: &Offer<'_>, headers: &HeaderMap, options: &Options) -> Response {
    if let Some(version) = negotiate::discovery_version(headers) {
        return aggregated(offer, version, |group| group.is_empty());
    }
    let address = options.advertise.to_string();
    json_value(
        StatusCode::OK,
        &json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }),
    )
}

/// `/apis`.
pub(crate) fn groups(offer: &Offer<'_>, headers: &HeaderMap) -> Response {
    if let Some(version) = negotiate::discovery_version(headers) {
        return aggregated(offer, version, |group| !group.is_empty());
    }
    let groups: Vec<Value> = named_groups(offer).iter().map(|group| group_object(offer, group)).collect();
    json_value(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/G`.
pub(crate) fn group(offer: &Offer<'_>, group: &str) -> Result<Response, ApiError> {
    if !named_groups(offer).contains(&group) {
        return Err(ApiError::UnknownPath);
    }
    let mut object = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(fields), Value::Object(rest)) = (object.as_object_mut(), group_object(offer, group)) {
        fields.extend(rest);
    }
    Ok(json_value(StatusCode::OK, &object))
}

/// `/api/v1`, `/apis/G/V`.
pub(crate) fn resources(offer: &Offer<'_>, group: &str, version: &str) -> Result<Response, ApiError> {
    let mut entries = Vec::new();
    for resource in offer.registry.iter().filter(|r| r.group == group && r.version == version) {
        entries.push(legacy_entry(resource));
        entries.extend(resource.subresources.iter().map(|sub| legacy_subresource(resource, sub)));
    }
    entries.extend(reviews::ALL.iter().filter(|r| r.group == group && r.version == version).map(legacy_review));
    entries.extend(offer.extension(group, version).map(legacy_extension));
    if entries.is_empty() {
        return Err(ApiError::UnknownPath);
    }
    Ok(json_value(
        StatusCode::OK,
        &json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": entries,
        }),
    ))
}

/// All group-versions, the stored kinds' first.
fn group_versions(offer: &Offer<'_>) -> Vec<(&'static str, &'static str)> {
    let mut all = offer.registry.group_versions();
    let reviews = reviews::ALL.iter().map(|review| (review.group, review.version));
    let extension = offer.extension.map(|extension| (extension.group, extension.version));
    for version in reviews.chain(extension) {
        if !all.contains(&version) {
            all.push(version);
        }
    }
    all
}

fn named_groups(offer: &Offer<'_>) -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    for (group, _) in group_versions(offer) {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn group_object(offer: &Offer<'_>, group: &str) -> Value {
    let versions: Vec<Value> = group_versions(offer)
        .iter()
        .filter(|(g, _)| *g == group)
        .map(|(g, v)| json!({"groupVersion": group_version(g, v), "version": v}))
        .collect();
    let preferred = versions.first().cloned();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

fn legacy_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs(resource),
    });
    add_names(&mut entry, resource);
    entry
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.why_none.is_some() { READING } else { VERBS }
}

fn add_names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// Group, version and kind of what a subresource takes and gives, and its verbs.
fn subresource_kind(
    resource: &Resource,
    sub: &Subresource,
) -> (&'static str, &'static str, &'static str, &'static [&'static str]) {
    let (group, version, kind) = (resource.group, resource.version, resource.kind);
    match sub {
        Subresource::Status => (group, version, kind, &["get", "patch", "update"]),
        Subresource::Scale(_) => ("autoscaling", "v1", "Scale", &["get", "patch", "update"]),
        Subresource::Log => (group, version, kind, &["get"]),
        Subresource::Binding => ("", "v1", "Binding", &["create"]),
        Subresource::Eviction => ("policy", "v1", "Eviction", &["create"]),
        Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest", &["create"]),
        Subresource::Finalize => (group, version, kind, &["update"]),
        Subresource::Exec => (group, version, "PodExecOptions", &["create", "get"]),
        Subresource::Attach => (group, version, "PodAttachOptions", &["create", "get"]),
        Subresource::PortForward => (group, version, "PodPortForwardOptions", &["create", "get"]),
        Subresource::Proxy => {
            (group, version, proxy_options(resource.kind), &["create", "delete", "get", "patch", "update"])
        }
    }
}

fn proxy_options(kind: &str) -> &'static str {
    match kind {
        "Pod" => "PodProxyOptions",
        "Node" => "NodeProxyOptions",
        _ => "ServiceProxyOptions",
    }
}

fn legacy_subresource(resource: &Resource, sub: &Subresource) -> Value {
    let (group, version, kind, verbs) = subresource_kind(resource, sub);
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.segment()),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": verbs,
    });
    if (group, version) != (resource.group, resource.version) {
        entry["group"] = json!(group);
        entry["version"] = json!(version);
    }
    entry
}

fn legacy_review(review: &Review) -> Value {
    json!({
        "name": review.plural,
        "singularName": review.plural.trim_end_matches('s'),
        "namespaced": review.namespaced,
        "kind": review.kind,
        "verbs": ["create"],
    })
}

fn legacy_extension(resource: &ExtensionResource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    entry
}

/// An `APIGroupDiscoveryList` of the groups that `wanted` accepts.
fn aggregated(offer: &Offer<'_>, version: &str, wanted: impl Fn(&str) -> bool) -> Response {
    let mut items: Vec<Value> = Vec::new();
    let all = group_versions(offer);
    let mut seen: Vec<&str> = Vec::new();
    for (group, _) in &all {
        if !wanted(group) || seen.contains(group) {
            continue;
        }
        seen.push(group);
        let versions: Vec<Value> = all
            .iter()
            .filter(|(g, _)| g == group)
            .map(|(g, v)| json!({"version": v, "resources": aggregated_resources(offer, g, v), "freshness": "Current"}))
            .collect();
        let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let mut response = json_value(StatusCode::OK, &list).into_response();
    // Clients decide by the answer's type which form they got.
    let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

fn aggregated_resources(offer: &Offer<'_>, group: &str, version: &str) -> Vec<Value> {
    let stored =
        offer.registry.iter().filter(|r| r.group == group && r.version == version).map(|r| aggregated_entry(r));
    let reviews = reviews::ALL.iter().filter(|r| r.group == group && r.version == version).map(|review| {
        json!({
            "resource": review.plural,
            "responseKind": response_kind(review.group, review.version, review.kind),
            "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": review.plural.trim_end_matches('s'),
            "verbs": ["create"],
        })
    });
    let extension = offer.extension(group, version).map(|resource| {
        json!({
            "resource": resource.plural,
            "responseKind": response_kind(group, version, resource.kind),
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular,
            "shortNames": resource.short_names,
            "verbs": resource.verbs,
        })
    });
    stored.chain(reviews).chain(extension).collect()
}

fn aggregated_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": response_kind(resource.group, resource.version, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    add_names(&mut entry, resource);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, kind, verbs) = subresource_kind(resource, sub);
            let response_kind = response_kind(group, version, kind);
            json!({"subresource": sub.segment(), "responseKind": response_kind, "verbs": verbs})
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = Value::Array(subresources);
    }
    entry
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    let mut fields = Map::new();
    for (key, text) in [("group", group), ("version", version), ("kind", kind)] {
        fields.insert(key.to_owned(), Value::from(text));
    }
    Value::Object(fields)
}
