//! IPAddress: an address that is in use, and by whom (S-224 to S-226).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::address::is_canonical_ip;
use super::check::Errors;
use super::json::{at, has, text};
use super::printing::or_none;
use crate::registry::{Column, FieldError, NameRule, Resource};
use crate::table;

/// Under which resource the store keeps them.
pub(crate) const STORAGE: &str = "ipaddresses.networking.k8s.io";

const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Who has made the object; those with [`ALLOCATOR`] come and go with their Service.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("ParentRef", "Who uses the address.")];

pub(super) fn resource() -> Resource {
    Resource {
        group: "networking.k8s.io",
        kind: "IPAddress",
        plural: "ipaddresses",
        singular: "ipaddress",
        short_names: &["ip"],
        namespaced: false,
        name_rule: NameRule::IpAddress,
        columns: COLUMNS,
        row: |object, _| vec![table::name(object).into(), or_none(parent(object))],
        validate,
        ..Resource::BASE
    }
}

/// The object that goes with the address of a Service.
pub(crate) fn of_service(address: IpAddr, namespace: &str, name: &str, uid: &str, created: &str) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address,
            "uid": uid,
            "creationTimestamp": created,
            "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

/// Whether the object was made for this Service and goes with it.
pub(crate) fn is_of_service(object: &Value, namespace: &str, name: &str) -> bool {
    let parent = at(object, "/spec/parentRef");
    let is = |field: &str, expected: &str| text(parent, field) == expected;
    at(object, "/metadata/labels")[MANAGED_BY] == ALLOCATOR
        && is("/group", "")
        && is("/resource", "services")
        && is("/namespace", namespace)
        && is("/name", name)
}

/// `services/default/web`
fn parent(object: &Value) -> String {
    let part = |field: &str| text(object, &format!("/spec/parentRef/{field}"));
    let resource = match (part("resource"), part("group")) {
        ("", _) => return String::new(),
        (resource, "") => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    };
    match part("namespace") {
        "" => format!("{resource}/{}", part("name")),
        namespace => format!("{resource}/{namespace}/{}", part("name")),
    }
}

/// S-225
fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let name = text(new, "/metadata/name");
    if old.is_none() && !is_canonical_ip(name) {
        errors.invalid("metadata.name", name, "must be an IP address in canonical form");
    }
    let parent = at(new, "/spec/parentRef");
    if !has(new, "/spec/parentRef") {
        errors.required("spec.parentRef", "");
    } else {
        for field in ["resource", "name"] {
            if text(parent, &format!("/{field}")).is_empty() {
                errors.required(format!("spec.parentRef.{field}"), "");
            }
        }
    }
    if let Some(old) = old {
        errors.immutable("spec.parentRef", parent, at(old, "/spec/parentRef"));
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old).into_iter().map(|error| error.field).collect()
    }

    // S-225, A-067
    #[test]
    fn names_are_canonical_and_parents_stay() {
        let object = |name: &str| json!({"metadata": {"name": name}, "spec": {"parentRef": {"resource": "services", "name": "s"}}});
        let rows = [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("010.0.0.1", false),
            ("FD00::1", false),
            ("::ffff:10.0.0.1", false),
            ("x", false),
        ];
        for (name, good) in rows {
            assert_eq!(fields(&object(name), None).is_empty(), good, "{name}");
        }
        assert_eq!(fields(&json!({"metadata": {"name": "10.0.0.1"}}), None), ["spec.parentRef"]);
        let nobody = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {}}});
        assert_eq!(fields(&nobody, None), ["spec.parentRef.resource", "spec.parentRef.name"]);
        let mut other = object("10.0.0.1");
        other["spec"]["parentRef"]["name"] = json!("t");
        assert_eq!(fields(&other, Some(&object("10.0.0.1"))), ["spec.parentRef"]);
    }

    // S-224, S-226
    #[test]
    fn the_table_names_the_service() {
        let object = of_service("fd00::1".parse().unwrap(), "default", "web", "u", "2026-01-01T00:00:00Z");
        assert!(fields(&object, None).is_empty());
        assert_eq!(object["metadata"]["labels"][FAMILY], "IPv6");
        assert!(is_of_service(&object, "default", "web") && !is_of_service(&object, "other", "web"));
        let cells = (resource().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["fd00::1", "services/default/web"]));
        let gateway = json!({"spec": {"parentRef": {"group": "g.io", "resource": "gateways", "name": "x"}}});
        assert_eq!((parent(&gateway).as_str(), parent(&json!({})).as_str()), ("gateways.g.io/x", ""));
    }
}
