//! EndpointSlice: part of a Service's endpoints, all of one address type (S-186).

use serde_json::Value;

use super::address::{check_not_special, strict_ip};
use super::check::Errors;
use super::json::{has, integer, list, list_mut, set_default, set_default_text, text, texts};
use super::meta;
use super::printing::first_three;
use crate::registry::{Column, FieldError, Resource};
use crate::table;

const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;
const PORTS: usize = 20_000;
/// Entries of `forZones` and of `forNodes` (S-211).
const HINTS: usize = 8;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("AddressType", "What the addresses are."),
    Column::text("Ports", "The first few ports."),
    Column::text("Endpoints", "The first few addresses."),
    Column::AGE,
];

pub(super) fn resource() -> Resource {
    Resource {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        has_generation: true,
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                text(object, "/addressType").into(),
                or_unset(list(object, "/ports").iter().map(port_cell).collect()),
                or_unset(
                    list(object, "/endpoints").iter().flat_map(|e| texts(e, "/addresses")).map(str::to_owned).collect(),
                ),
                table::age(object, now).into(),
            ]
        },
        default: |object| {
            for port in list_mut(object, "/ports") {
                set_default(port, "name", "");
                set_default_text(port, "protocol", "TCP");
            }
        },
        validate,
        ..Resource::BASE
    }
}

fn port_cell(port: &Value) -> String {
    match (integer(port, "/port"), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    }
}

fn or_unset(parts: Vec<String>) -> Value {
    let joined = first_three(&parts);
    Value::from(if joined.is_empty() { "<unset>".to_owned() } else { joined })
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    match text(new, "/addressType") {
        "" => errors.required("addressType", ""),
        kind => errors.one_of("addressType", kind, &["FQDN", "IPv4", "IPv6"]),
    }
    if let Some(old) = old {
        errors.immutable("addressType", &new["addressType"], &old["addressType"]);
    }
    ports(&mut errors, new);
    let endpoints = list(new, "/endpoints");
    if endpoints.len() > ENDPOINTS {
        errors.too_many("endpoints", endpoints.len(), ENDPOINTS);
        return errors.into_list();
    }
    // The stored list was checked when it was written; an unchanged one need not be again.
    if old.is_some_and(|old| old["endpoints"] == new["endpoints"] && old["addressType"] == new["addressType"]) {
        return errors.into_list();
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        check_endpoint(&mut errors, &format!("endpoints[{index}]"), endpoint, text(new, "/addressType"));
    }
    errors.into_list()
}

fn ports(errors: &mut Errors, new: &Value) {
    let ports = list(new, "/ports");
    if ports.len() > PORTS {
        errors.too_many("ports", ports.len(), PORTS);
        return;
    }
    for (index, port) in ports.iter().enumerate() {
        let field = format!("ports[{index}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            errors.rule(format!("{field}.name"), name, meta::label_1123(name));
        }
        if ports[..index].iter().any(|other| text(other, "/name") == name) {
            errors.duplicate(format!("{field}.name"), name);
        }
        errors.between(format!("{field}.port"), integer(port, "/port"), 1, 65_535);
        errors.one_of(format!("{field}.protocol"), text(port, "/protocol"), &["SCTP", "TCP", "UDP"]);
        let application = text(port, "/appProtocol");
        if !application.is_empty() {
            errors.rule(format!("{field}.appProtocol"), application, meta::qualified_name(application));
        }
    }
}

fn check_endpoint(errors: &mut Errors, field: &str, endpoint: &Value, kind: &str) {
    let addresses = texts(endpoint, "/addresses");
    match addresses.len() {
        0 => errors.required(format!("{field}.addresses"), "must contain at least 1 address"),
        1..=ADDRESSES => {}
        more => errors.too_many(format!("{field}.addresses"), more, ADDRESSES),
    }
    for (index, address) in addresses.iter().take(ADDRESSES).enumerate() {
        check_address(errors, &format!("{field}.addresses[{index}]"), address, kind);
    }
    let hostname = text(endpoint, "/hostname");
    if !hostname.is_empty() {
        errors.rule(format!("{field}.hostname"), hostname, meta::label_1123(hostname));
    }
    let node = text(endpoint, "/nodeName");
    if !node.is_empty() {
        errors.rule(format!("{field}.nodeName"), node, meta::subdomain(node));
    }
    for hint in ["forZones", "forNodes"].into_iter().filter(|hint| has(endpoint, &format!("/hints/{hint}"))) {
        let entries = list(endpoint, &format!("/hints/{hint}"));
        if entries.len() > HINTS {
            errors.too_many(format!("{field}.hints.{hint}"), entries.len(), HINTS);
        }
        for (index, entry) in entries.iter().enumerate().take(HINTS) {
            let name = text(entry, "/name");
            let rule = if hint == "forZones" { meta::label_value(name) } else { meta::subdomain(name) };
            errors.rule(format!("{field}.hints.{hint}[{index}].name"), name, rule);
            if entries[..index].iter().any(|other| text(other, "/name") == name) {
                errors.duplicate(format!("{field}.hints.{hint}[{index}].name"), name);
            }
        }
    }
}

fn check_address(errors: &mut Errors, field: &str, address: &str, kind: &str) {
    let parsed = match kind {
        "FQDN" => {
            let name = address.strip_suffix('.').unwrap_or(address);
            if !name.contains('.') {
                errors.invalid(field, address, "should be a domain with at least two segments separated by dots");
            }
            return errors.rule(field, address, meta::subdomain(name));
        }
        "IPv4" | "IPv6" => strict_ip(address),
        _ => return,
    };
    match parsed {
        Ok(ip) if ip.is_ipv4() == (kind == "IPv4") => check_not_special(errors, field, address, ip),
        Ok(_) => errors.invalid(field, address, format!("must be an {kind} address")),
        Err(why) => errors.invalid(field, address, why),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(kind: &str, addresses: &[&str]) -> Value {
        json!({"addressType": kind, "endpoints": [{"addresses": addresses}]})
    }

    fn fields(new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(new, old).into_iter().map(|error| error.field).collect()
    }

    // S-186, S-206
    #[test]
    fn addresses_fit_their_type() {
        let one = ["endpoints[0].addresses[0]"].as_slice();
        let rows = [
            ("good v4", slice("IPv4", &["10.0.0.1"]), &[][..]),
            ("good v6", slice("IPv6", &["fd00::1"]), &[]),
            ("good name", slice("FQDN", &["db.example.com"]), &[]),
            ("other family", slice("IPv4", &["fd00::1"]), one),
            ("loopback", slice("IPv4", &["127.0.0.1"]), one),
            ("link-local", slice("IPv6", &["fe80::1"]), one),
            ("unspecified", slice("IPv4", &["0.0.0.0"]), one),
            ("leading zero", slice("IPv4", &["010.0.0.1"]), one),
            ("one label", slice("FQDN", &["db"]), one),
            ("no address", slice("IPv4", &[]), &["endpoints[0].addresses"]),
            ("101 addresses", slice("IPv4", &["10.0.0.1"; 101]), &["endpoints[0].addresses"]),
            ("no type", slice("", &["10.0.0.1"]), &["addressType"]),
            ("odd type", slice("IPX", &["10.0.0.1"]), &["addressType"]),
        ];
        for (label, new, expected) in rows {
            assert_eq!(fields(&new, None), expected, "{label}");
        }
        let many = json!({"addressType": "IPv4", "endpoints": vec![json!({"addresses": ["10.0.0.1"]}); 1001]});
        assert_eq!(fields(&many, None), ["endpoints"]);
    }

    // S-186, A-067
    #[test]
    fn the_address_type_is_immutable() {
        let old = slice("IPv4", &["10.0.0.1"]);
        assert_eq!(fields(&slice("IPv6", &["fd00::1"]), Some(&old)), ["addressType"]);
        assert!(fields(&slice("IPv4", &["10.0.0.2"]), Some(&old)).is_empty());
    }

    // S-186
    #[test]
    fn ports_have_unique_names_and_default_to_tcp() {
        let mut new = json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}, {"name": "a"}]});
        (resource().default)(&mut new);
        assert_eq!(new["ports"][0], json!({"port": 80, "name": "", "protocol": "TCP"}));
        assert!(fields(&new, None).is_empty());
        let port =
            |name: &str, number: i64, protocol: &str| json!({"name": name, "port": number, "protocol": protocol});
        new["ports"] = json!([port("a", 1, "UDP"), port("a", 0, "SCTP"), port("A", 1, "ICMP")]);
        assert_eq!(fields(&new, None), ["ports[1].name", "ports[1].port", "ports[2].name", "ports[2].protocol"]);
    }

    // S-211
    #[test]
    fn hints_are_few() {
        let zones: Vec<Value> = (0..9).map(|i| json!({"name": format!("z{i}")})).collect();
        let new =
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": zones}}]});
        assert_eq!(fields(&new, None), ["endpoints[0].hints.forZones"]);
    }

    //
    #[test]
    fn the_table_shows_three_of_each() {
        let object = json!({
            "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}],
            "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.4"]}],
        });
        let row = (resource().row)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            [
                json!("s"),
                json!("IPv4"),
                json!("80,x,*"),
                json!("10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."),
                json!("<unknown>")
            ]
        );
        let bare = (resource().row)(&json!({"metadata": {"name": "s"}}), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(bare[2..4], [json!("<unset>"), json!("<unset>")]);
    }
}
