//! `endpoints`: who answers for a Service, as the data plane has it.

use serde_json::Value;

use crate::api::LabApi;
use crate::args::{EndpointsArgs, Output};
use crate::commands::table;
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// Shows each endpoint of each port of a Service.
///
/// # Errors
/// When the lab does not run, there is no such Service, or it has no address of its own.
pub(crate) async fn endpoints(args: &EndpointsArgs) -> Result<(), CliError> {
    let name = service_name(&args.service)?;
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let plural = format!("namespaces/{}/serviceports", args.namespace);
    let ports = api.get(&table::path(&plural, &[("service", name.to_owned())])).await?["items"].take();
    if ports.as_array().is_none_or(Vec::is_empty) {
        return Err(explain(&api, &args.namespace, name).await);
    }
    if !matches!(args.output, Output::Table | Output::Wide) {
        return table::print_items(&ports, "serviceport", args.output);
    }
    let shown = rows(&ports, args.output == Output::Wide);
    if shown.is_empty() {
        eprintln!("The Service has no endpoint. See: minisvc get pods --show-labels, minisvc get svc {name} -o wide");
        return Ok(());
    }
    output::print(&shown.render_all())
}

/// `web` of `web`, `svc/web` and `service/web`.
pub(crate) fn service_name(text: &str) -> Result<&str, CliError> {
    match text.split_once('/') {
        None => Ok(text),
        Some(("svc" | "service" | "services", name)) => Ok(name),
        Some(_) => Err(CliError::usage(format!("{text:?} is no Service")).hint("name one: minisvc endpoints svc/NAME")),
    }
}

/// Why a Service has no port in the data plane.
async fn explain(api: &LabApi, namespace: &str, name: &str) -> CliError {
    let service = match api.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")).await {
        Ok(service) => service,
        Err(error) => return error.hint(format!("see which there are: minisvc get svc -n {namespace}")),
    };
    let (why, hint) = match (service["spec"]["type"].as_str(), service["spec"]["clusterIP"].as_str()) {
        (Some("ExternalName"), _) => {
            ("is of type ExternalName: its name is an alias, and nothing is translated", format!("minisvc dns {name}"))
        }
        (_, Some("None")) => (
            "is headless: its name has the addresses of its pods, and nothing is translated",
            format!("minisvc dns {name}"),
        ),
        _ => (
            "is not translated: it has no port, or a label hands it to another proxy",
            format!("minisvc get svc {name} -n {namespace} -o yaml"),
        ),
    };
    CliError::not_found(format!("service {name:?} {why}")).hint(format!("see {hint}"))
}

fn rows(ports: &Value, wide: bool) -> Table {
    let mut header = vec!["PORT", "ENDPOINT", "AT", "NODE", "ZONE", "READY", "SERVING", "TERMINATING", "NEW FLOWS"];
    header.extend(["FLOWS", "BYTES OUT", "BYTES IN"]);
    if wide {
        header.extend(["HINTS", "PACKETS OUT", "PACKETS IN"]);
    }
    let mut table = Table::new(&header);
    for port in ports.as_array().into_iter().flatten() {
        for endpoint in port["endpoints"].as_array().into_iter().flatten() {
            table.push(row(port, endpoint, wide));
        }
    }
    table
}

fn row(port: &Value, endpoint: &Value, wide: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| "<none>".to_owned(), str::to_owned);
    let said = |value: &Value| if value == &Value::Bool(true) { "yes" } else { "no" }.to_owned();
    let name = match port["port"].as_str() {
        Some(name) if !name.is_empty() => format!("{name}/{}", text(&port["protocol"])),
        _ => text(&port["protocol"]),
    };
    let mut row = vec![
        name,
        text(&endpoint["address"]),
        text(&endpoint["at"]["name"]),
        text(&endpoint["node"]),
        text(&endpoint["zone"]),
        said(&endpoint["ready"]),
        said(&endpoint["serving"]),
        said(&endpoint["terminating"]),
        said(&endpoint["candidate"]),
        endpoint["flows"].to_string(),
        endpoint["bytes"][0].to_string(),
        endpoint["bytes"][1].to_string(),
    ];
    if wide {
        let hints = endpoint["hints"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let hints = hints.collect::<Vec<_>>().join(",");
        row.push(if hints.is_empty() { "<none>".to_owned() } else { hints });
        row.extend([endpoint["packets"][0].to_string(), endpoint["packets"][1].to_string()]);
    }
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_endpoint_has_a_line_with_what_it_gets() {
        let ports = json!([{"port": "http", "protocol": "TCP", "endpoints": [
            {"address": "10.244.0.2:8080", "at": {"kind": "Pod", "name": "default/web-1"}, "node": "node-1",
             "zone": "zone-a", "ready": true, "serving": true, "terminating": false, "candidate": true,
             "hints": ["zone-a"], "flows": 3, "packets": [9, 8], "bytes": [300, 200]},
            {"address": "192.0.2.1:80", "at": null, "node": null, "zone": null, "ready": false, "serving": true,
             "terminating": true, "candidate": false, "hints": [], "flows": 0, "packets": [0, 0], "bytes": [0, 0]}]}]);
        let text = rows(&ports, false).render_all();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let ready = "http/TCP 10.244.0.2:8080 default/web-1 node-1 zone-a yes yes no yes 3 300 200";
        assert_eq!(lines[1].join(" "), ready);
        assert_eq!(lines[2].join(" "), "http/TCP 192.0.2.1:80 <none> <none> <none> no yes yes no 0 0 0");
        assert!(rows(&ports, true).render_all().contains("zone-a   9"), "wide has hints and packets");
    }

    #[test]
    fn a_service_goes_by_its_kinds_names() {
        for text in ["web", "svc/web", "service/web"] {
            assert_eq!(service_name(text).expect("legal"), "web");
        }
        let error = service_name("pod/web").expect_err("no Service").render();
        assert!(error.contains("svc/NAME"), "{error}");
    }
}
