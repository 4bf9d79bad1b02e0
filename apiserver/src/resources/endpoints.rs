//! Endpoints: the legacy list of a Service's addresses, still written and still tested (S-174).

use std::net::IpAddr;

use serde_json::Value;

use super::address::{check_not_special, is_canonical_ip, lenient_ip, strict_ip};
use super::check::Errors;
use super::json::{at, integer, list, list_mut, set_default_text, text};
use super::meta;
use super::printing::{NONE, first_three};
use crate::registry::{Column, FieldError, Resource};
use crate::table;

/// What every request to this resource is told (S-072).
const DEPRECATED: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
/// Objects of the endpoint controller carry this label with this value and are not warned about (S-072, S-181).
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

const COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Endpoints", "The first few ready addresses with ports."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        allow_create_on_update: true,
        deprecated: Some(DEPRECATED),
        columns: COLUMNS,
        row: |object, now| vec![table::name(object).into(), endpoints(object).into(), table::age(object, now).into()],
        default: |object| {
            for subset in list_mut(object, "/subsets") {
                list_mut(subset, "/ports").for_each(|port| set_default_text(port, "protocol", "TCP"));
            }
        },
        validate,
        warnings,
        ..Resource::BASE
    }
}

fn endpoints(object: &Value) -> String {
    let subsets = list(object, "/subsets");
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut parts = Vec::new();
    for subset in subsets {
        let addresses: Vec<&str> = list(subset, "/addresses").iter().map(|address| text(address, "/ip")).collect();
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            parts.extend(addresses.iter().map(|ip| (*ip).to_owned()));
        }
        for port in ports {
            let port = integer(port, "/port").unwrap_or_default();
            parts.extend(addresses.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    first_three(&parts)
}

fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if at(new, "/metadata/labels").get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1) {
        return warnings;
    }
    for (field, address) in addresses(new) {
        let ip = text(address, "/ip");
        if !is_canonical_ip(ip) && lenient_ip(ip).is_some() {
            warnings.push(format!("{field}.ip: non-standard IP address {ip:?} will be considered invalid"));
        }
    }
    warnings
}

/// Every address, ready or not, with its path.
fn addresses(object: &Value) -> impl Iterator<Item = (String, &Value)> {
    list(object, "/subsets").iter().enumerate().flat_map(|(subset_index, subset)| {
        ["addresses", "notReadyAddresses"].into_iter().flat_map(move |which| {
            let entries = list(subset, &format!("/{which}")).iter().enumerate();
            entries.map(move |(index, address)| (format!("subsets[{subset_index}].{which}[{index}]"), address))
        })
    })
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let stored: Vec<&str> = old.into_iter().flat_map(addresses).map(|(_, address)| text(address, "/ip")).collect();
    for (field, address) in addresses(new) {
        let ip = text(address, "/ip");
        // A stored text stays valid (S-083).
        let parsed: Result<IpAddr, String> = match lenient_ip(ip) {
            Some(address) if stored.contains(&ip) => Ok(address),
            _ => strict_ip(ip),
        };
        match parsed {
            Ok(parsed) => check_not_special(&mut errors, &format!("{field}.ip"), ip, parsed),
            Err(why) => errors.invalid(format!("{field}.ip"), ip, why),
        }
        let hostname = text(address, "/hostname");
        if !hostname.is_empty() {
            errors.rule(format!("{field}.hostname"), hostname, meta::label_1123(hostname));
        }
    }
    for (index, subset) in list(new, "/subsets").iter().enumerate() {
        let field = format!("subsets[{index}]");
        if list(subset, "/addresses").is_empty() && list(subset, "/notReadyAddresses").is_empty() {
            errors.required(field.as_str(), "must specify `addresses` or `notReadyAddresses`");
        }
        ports(&mut errors, &field, list(subset, "/ports"));
    }
    errors.into_list()
}

fn ports(errors: &mut Errors, field: &str, ports: &[Value]) {
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        match text(port, "/name") {
            "" if ports.len() > 1 => errors.required(format!("{field}.name"), ""),
            "" => {}
            name => errors.rule(format!("{field}.name"), name, meta::label_1123(name)),
        }
        errors.between(format!("{field}.port"), Some(integer(port, "/port").unwrap_or_default()), 1, 65_535);
        errors.one_of(format!("{field}.protocol"), text(port, "/protocol"), &["SCTP", "TCP", "UDP"]);
        let application = text(port, "/appProtocol");
        if !application.is_empty() {
            errors.rule(format!("{field}.appProtocol"), application, meta::qualified_name(application));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    //
    #[test]
    fn the_table_shows_three_ready_endpoints() {
        let subset = |addresses: &[&str], ports: Value| {
            let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"addresses": addresses, "ports": ports})
        };
        let rows = [
            (json!({}), "<none>"),
            (json!({"subsets": [subset(&["10.0.0.1", "fd00::1"], json!([{"port": 80}]))]}), "10.0.0.1:80,[fd00::1]:80"),
            (json!({"subsets": [subset(&["10.0.0.1"], json!([]))]}), "10.0.0.1"),
            (
                json!({"subsets": [subset(&["10.0.0.1", "10.0.0.2"], json!([{"port": 80}, {"port": 81}]))]}),
                "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...",
            ),
        ];
        for (object, expected) in rows {
            assert_eq!(endpoints(&object), expected);
        }
    }

    // S-072
    #[test]
    fn writers_are_warned_unless_they_are_the_controller() {
        let new = json!({"subsets": [{"addresses": [{"ip": "010.0.0.1"}]}]});
        assert_eq!(warnings(&new, None).len(), 1);
        let mut managed = new;
        managed["metadata"] = json!({"labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}});
        assert!(warnings(&managed, None).is_empty());
    }

    #[test]
    fn addresses_and_ports_are_checked() {
        let new = json!({"subsets": [
            {"ports": [{"port": 80}]},
            {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}], "ports": [{"port": 0, "protocol": "TCP"}, {"name": "b", "port": 1, "protocol": "ICMP"}]},
        ]});
        let found: Vec<String> = validate(&new, None).into_iter().map(|e| e.field).collect();
        let expected = [
            "subsets[1].addresses[0].ip",
            "subsets[1].addresses[1].ip",
            "subsets[0]",
            "subsets[0].ports[0].protocol",
            "subsets[1].ports[0].name",
            "subsets[1].ports[0].port",
            "subsets[1].ports[1].protocol",
        ];
        assert_eq!(found, expected);
    }

    // S-083
    #[test]
    fn a_stored_address_stays_valid() {
        let stored = json!({"subsets": [{"addresses": [{"ip": "010.0.0.1"}]}]});
        assert!(validate(&stored, Some(&stored)).is_empty());
        assert_eq!(validate(&stored, None).len(), 1);
    }
}
