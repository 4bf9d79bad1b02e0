//! The resources: what each lists, and which columns kubectl shows of it.

use minisvc_apiserver::ExtensionResource;
use minisvc_apiserver::error::ApiError;
use minisvc_apiserver::registry::Column;
use minisvc_apiserver::table;
use minisvc_netd::observe::{self, AddressMatch, FlowQuery, ServicePortQuery};
use serde_json::{Value, json};

use super::parameters::{self, Parameters};
use super::{Sources, View, machines, object, or_none};

/// Flows in an answer, unless the client asks for more or fewer.
const FLOWS: usize = 1000;

/// In the order of discovery.
pub(super) const ALL: &[View] = &[
    View {
        resource: resource("flows", "flow", "Flow", &["fl"], false),
        columns: &[
            Column::text("Protocol", "TCP or UDP."),
            Column::text("Client", "Who began it."),
            Column::text("Service", "The Service it was sent to."),
            Column::text("Destination", "Where the client sends to."),
            Column::text("Endpoint", "Where that ends up."),
            Column::text("State", "What it is doing."),
            Column::integer("Bytes Out", "From the client, with IP headers."),
            Column::integer("Bytes In", "From the endpoint, with IP headers."),
            Column::text("From", "What the client is.").wide(),
            Column::text("To", "What the endpoint is.").wide(),
            Column::text("Source", "The client as the endpoint sees it.").wide(),
            Column::integer("Packets Out", "From the client.").wide(),
            Column::integer("Packets In", "From the endpoint.").wide(),
            Column::text("Since", "When the first packet came.").wide(),
        ],
        parameters: &["client", "service", "pod", "node", "port", "limit"],
        look: flows,
        row: |flow, _| {
            let field = |name: &str| flow[name].clone();
            vec![
                field("protocol"),
                field("client"),
                or_none(&flow["service"]),
                field("destination"),
                field("endpoint"),
                field("state"),
                flow["bytes"][0].clone(),
                flow["bytes"][1].clone(),
                place(&flow["from"]),
                place(&flow["to"]),
                field("source"),
                flow["packets"][0].clone(),
                flow["packets"][1].clone(),
                field("created"),
            ]
        },
    },
    View {
        resource: resource("serviceports", "serviceport", "ServicePort", &["svcport"], true),
        columns: &[
            Column::text("Service", "The Service."),
            Column::text("Port", "Name of the port."),
            Column::text("Protocol", "TCP, UDP, …"),
            Column::text("Frontends", "Where it is reached."),
            Column::text("Candidates", "Endpoints that new flows may go to, of all."),
            Column::integer("Flows", "Flows in the table."),
            Column::text("Endpoints", "Who answers.").wide(),
        ],
        parameters: &["service"],
        look: service_ports,
        row: |port, _| {
            let endpoints = list(port, "endpoints");
            let candidates = endpoints.iter().filter(|endpoint| endpoint["candidate"] == true).count();
            let flows: u64 = endpoints.iter().filter_map(|endpoint| endpoint["flows"].as_u64()).sum();
            vec![
                port["service"].clone(),
                or_none(&port["port"]),
                port["protocol"].clone(),
                joined(list(port, "frontends").iter().map(|frontend| &frontend["address"])),
                format!("{candidates}/{}", endpoints.len()).into(),
                flows.into(),
                joined(endpoints.iter().map(|endpoint| &endpoint["address"])),
            ]
        },
    },
    View {
        resource: resource("frontends", "frontend", "Frontend", &[], false),
        columns: &[
            Column::text("Address", "Where the Service is reached."),
            Column::text("Protocol", "TCP, UDP, …"),
            Column::text("Kind", "Which of the Service's addresses it is."),
            Column::text("Service", "The Service port."),
            Column::text("Candidates", "Endpoints that new flows may go to."),
            Column::integer("Others", "Endpoints that they may not."),
        ],
        parameters: &[],
        look: |sources, _| {
            let named = |frontend: observe::ServedFrontend| {
                let name = format!("{}-{}", frontend.protocol, frontend.address).to_lowercase();
                object(json!({"name": name}), &frontend)
            };
            observe::frontends(&sources.netd).into_iter().map(named).collect()
        },
        row: |frontend, _| {
            let mut cells = fields(frontend, ["address", "protocol", "kind", "service"]);
            cells.extend([joined(list(frontend, "candidates").iter()), frontend["others"].clone()]);
            cells
        },
    },
    View {
        resource: resource("routes", "route", "Route", &[], false),
        columns: &[
            Column::text("Address", "The address."),
            Column::text("To", "Who has it."),
            Column::text("Node", "The node it is on."),
        ],
        parameters: &[],
        look: |sources, _| {
            let named = |route: observe::RouteView| object(json!({"name": route.address}), &route);
            observe::routes(&sources.netd).into_iter().map(named).collect()
        },
        row: |route, _| vec![route["address"].clone(), place(&route["to"]), or_none(&route["to"]["node"])],
    },
    View {
        resource: resource("affinities", "affinity", "Affinity", &[], false),
        columns: &[
            Column::text("Client", "The client."),
            Column::text("From", "What the client is."),
            Column::text("Service", "The Service port."),
            Column::text("Endpoint", "Where its last new flow went."),
            Column::text("To", "What that is."),
            Column::text("Remaining", "How long that counts if no other flow comes."),
        ],
        parameters: &[],
        look: |sources, _| {
            let named = |record: observe::AffinityView| {
                let name = format!("{}-{}", record.client, record.service.replace(['/', ':'], "-"));
                object(json!({"name": name}), &record)
            };
            observe::affinities(&sources.netd).into_iter().map(named).collect()
        },
        row: |record, _| {
            let remaining = record["remainingSeconds"].as_i64().unwrap_or_default();
            vec![
                record["client"].clone(),
                place(&record["from"]),
                record["service"].clone(),
                record["endpoint"].clone(),
                place(&record["to"]),
                table::human_duration(remaining).into(),
            ]
        },
    },
    View {
        resource: resource("clashes", "clash", "Clash", &[], false),
        columns: &[
            Column::text("Address", "What was claimed."),
            Column::text("Protocol", "TCP, UDP, …"),
            Column::text("Kind", "As what."),
            Column::text("Claimant", "Who claimed it."),
            Column::text("Holder", "Whose it is."),
        ],
        parameters: &[],
        look: |sources, _| {
            let named = |clash: observe::ClashView| {
                let name = format!("{}-{}", clash.protocol, clash.address).to_lowercase();
                object(json!({"name": name}), &clash)
            };
            observe::clashes(&sources.netd).into_iter().map(named).collect()
        },
        row: |clash, _| fields(clash, ["address", "protocol", "kind", "claimant", "holder"]),
    },
    View {
        resource: resource("counters", "counter", "Counter", &[], false),
        columns: &[
            Column::text("Name", "What is counted."),
            Column::text("Label", "What tells it from others of its name."),
            Column::text("Kind", "Counter, gauge or limit."),
            Column::integer("Value", "The number."),
            Column::text("Help", "What is counted.").wide(),
        ],
        parameters: &[],
        look: |sources, _| {
            let named = |figure: observe::Figure| {
                let label = figure.label.map(|(_, value)| format!("-{value}")).unwrap_or_default();
                object(json!({"name": format!("{}{label}", figure.name)}), &figure)
            };
            observe::figures(&sources.netd).into_iter().map(named).collect()
        },
        row: |figure, _| {
            let label = match figure["label"].as_array().map(Vec::as_slice) {
                Some([name, value]) => {
                    format!("{}={}", name.as_str().unwrap_or_default(), value.as_str().unwrap_or_default()).into()
                }
                _ => or_none(&Value::Null),
            };
            let help = figure["help"].clone();
            vec![figure["name"].clone(), label, figure["kind"].clone(), figure["value"].clone(), help]
        },
    },
    View {
        resource: machines::RESOURCE,
        columns: &[
            Column::NAME,
            Column::text("State", "Whether it has power."),
            Column::text("Zone", "The zone it is in."),
            Column::text("Addresses", "Its own addresses."),
            Column::text("Pod Ranges", "Where its pods' addresses are from."),
        ],
        parameters: &[],
        look: |sources, _| Ok(machines::all(sources)),
        row: |machine, _| machines::row(machine),
    },
];

const fn resource(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    namespaced: bool,
) -> ExtensionResource {
    ExtensionResource { plural, singular, kind, short_names, namespaced, verbs: &["get", "list"] }
}

fn flows(sources: &Sources, asked: &Parameters) -> Result<Vec<Value>, ApiError> {
    let client = |text| parameters::parse::<AddressMatch>("client", text, "address, with or without a port");
    let query = FlowQuery {
        clients: asked.all("client").map(client).collect::<Result<_, _>>()?,
        service: asked.name("service"),
        pod: asked.name("pod"),
        node: asked.text("node").map(str::to_owned),
        port: asked.parsed("port", "port")?,
        limit: asked.parsed("limit", "number")?.filter(|&limit| limit > 0).unwrap_or(FLOWS),
    };
    let named = |flow: observe::FlowView| {
        let name = format!("{}-{}-{}", flow.protocol, flow.client, flow.destination).to_lowercase();
        object(json!({"name": name, "creationTimestamp": flow.created}), &flow)
    };
    observe::flows(&sources.netd, &query).into_iter().map(named).collect()
}

fn service_ports(sources: &Sources, asked: &Parameters) -> Result<Vec<Value>, ApiError> {
    let query = ServicePortQuery { service: asked.name("service"), namespace: asked.namespace.clone() };
    let named = |port: observe::ServicePortView| {
        let parts = [&*port.service, &*port.port, &*port.protocol, port.family];
        let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-").to_lowercase();
        object(json!({"name": name, "namespace": port.namespace}), &port)
    };
    observe::service_ports(&sources.netd, &query).into_iter().map(named).collect()
}

fn fields<const N: usize>(object: &Value, names: [&str; N]) -> Vec<Value> {
    names.iter().map(|name| object[*name].clone()).collect()
}

fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn joined<'a>(texts: impl Iterator<Item = &'a Value>) -> Value {
    let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
    or_none(&texts.join(",").into())
}

/// `pod/default/web-1`, `node/node-1`, `workstation`.
fn place(place: &Value) -> Value {
    let (Some(kind), Some(name)) = (place["kind"].as_str(), place["name"].as_str()) else {
        return or_none(&Value::Null);
    };
    match kind {
        "Pod" | "Node" => format!("{}/{name}", kind.to_lowercase()).into(),
        _ => name.into(),
    }
}
