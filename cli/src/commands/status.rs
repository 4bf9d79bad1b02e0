//! `status`: which labs run, and what is in one.

use serde_json::{Value, json};

use crate::api::LabApi;
use crate::args::{Output, StatusArgs};
use crate::commands::fault;
use crate::error::CliError;
use crate::home::{LabHome, LabRecord};
use crate::output::{self, Table};

/// Shows every lab in the folder, and the contents of the named one if it runs.
///
/// # Errors
/// When the lab runs but does not answer.
pub(crate) async fn status(args: &StatusArgs) -> Result<(), CliError> {
    let home = LabHome::of(&args.lab)?;
    let labs: Vec<LabRecord> = home.siblings().iter().filter_map(LabHome::running).collect();
    let contents = match home.running() {
        Some(_) => Some(contents(&LabApi::of(&home)?).await?),
        None => None,
    };
    let published = if contents.is_some() { home.published() } else { json!([]) };
    let (faults, suffered) = match home.running() {
        Some(_) => fault::shown_in_status(&LabApi::of(&home)?).await?,
        None => (json!([]), String::new()),
    };
    let everything =
        json!({"labs": labs, "lab": home.name, "contents": contents, "published": published, "faults": faults});
    match args.output {
        Output::Json => output::print_json(&everything),
        Output::Yaml => output::print_yaml(&everything),
        Output::Name => output::print(&labs.iter().map(|lab| format!("{}\n", lab.name)).collect::<String>()),
        Output::Table | Output::Wide => {
            if labs.is_empty() {
                eprintln!("No lab runs. Start one: minisvc up");
                return Ok(());
            }
            output::print(&(render(&labs, contents.as_ref()) + &render_published(&published) + &suffered))
        }
    }
}

fn render(labs: &[LabRecord], contents: Option<&Value>) -> String {
    let mut table = Table::new(&["LAB", "API", "NETWORK", "PID", "STARTED"]);
    for lab in labs {
        table.push(vec![
            lab.name.clone(),
            lab.server.clone(),
            lab.network.clone(),
            lab.pid.to_string(),
            lab.started.clone(),
        ]);
    }
    let mut text = table.render_all();
    let Some(contents) = contents else { return text };
    let mut services = Table::new(&["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "READY", "NOT READY"]);
    for service in contents["services"].as_array().into_iter().flatten() {
        let cell = |name: &str| match &service[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        services.push(["namespace", "name", "address", "ports", "ready", "notReady"].map(cell).to_vec());
    }
    text += &format!(
        "\n{} nodes, {} pods ({} ready)\n\n{}",
        contents["nodes"],
        contents["pods"],
        contents["readyPods"],
        services.render_all()
    );
    text
}

/// Where this machine reaches Services without entering the lab; an exclamation mark says that the port is not the usual one.
fn render_published(published: &Value) -> String {
    let rows: Vec<&Value> = published.as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["NAMESPACE", "SERVICE", "PROTOCOL", "ON THIS MACHINE", "IN THE LAB"]);
    for row in rows {
        let cell = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let moved = if row["address"] == row["wanted"] { "" } else { " !" };
        let address = cell("address") + moved;
        table.push(vec![cell("namespace"), cell("service"), cell("protocol"), address, cell("target")]);
    }
    format!("\n{}", table.render_all())
}

/// Counts what the lab holds and lists its Services with their endpoints.
async fn contents(api: &LabApi) -> Result<Value, CliError> {
    let nodes = api.get("/api/v1/nodes").await?;
    let pods = api.get("/api/v1/pods").await?;
    let services = api.get("/api/v1/services").await?;
    let slices = api.get("/apis/discovery.k8s.io/v1/endpointslices").await?;
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let pods = items(&pods);
    let slices = items(&slices);
    Ok(json!({
        "nodes": items(&nodes).len(),
        "pods": pods.len(),
        "readyPods": pods.iter().filter(|pod| is_ready(pod)).count(),
        "services": items(&services).iter().map(|service| describe(service, &slices)).collect::<Vec<_>>(),
    }))
}

fn describe(service: &Value, slices: &[Value]) -> Value {
    let metadata = &service["metadata"];
    let mine = |slice: &&Value| {
        slice["metadata"]["namespace"] == metadata["namespace"]
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == metadata["name"]
    };
    let endpoints = || slices.iter().filter(mine).flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    // An unset condition means ready (S-195).
    let is_ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != json!(false);
    let ready = endpoints().filter(is_ready).count();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<String> =
        ports.map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))).collect();
    let address = match service["spec"]["type"].as_str() {
        Some("ExternalName") => &service["spec"]["externalName"],
        _ => &service["spec"]["clusterIP"],
    };
    json!({
        "namespace": metadata["namespace"], "name": metadata["name"], "address": address,
        "ports": if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") },
        "ready": ready, "notReady": endpoints().count() - ready,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_shown_with_a_mark_where_the_port_is_another() {
        let port = |address: &str| {
            json!({"namespace": "n", "service": "web", "protocol": "TCP", "target": "10.95.1.7:80",
                "wanted": "127.95.1.7:80", "address": address})
        };
        let text = render_published(&json!([port("127.95.1.7:80"), port("127.95.1.7:40000")]));
        assert!(text.contains("127.95.1.7:80 ") && text.contains("127.95.1.7:40000 !"), "{text}");
        assert_eq!(text.matches('!').count(), 1, "{text}");
        assert_eq!(render_published(&json!([])), "");
    }

    #[test]
    fn a_service_is_shown_with_the_endpoints_of_all_its_slices() {
        let service = json!({"metadata": {"namespace": "n", "name": "web"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP"}]}});
        let slice = |name: &str, conditions: Value| {
            json!({"metadata": {"namespace": "n", "labels": {"kubernetes.io/service-name": name}},
                   "endpoints": [{"addresses": ["10.244.0.2"], "conditions": conditions}]})
        };
        let slices =
            [slice("web", json!({})), slice("web", json!({"ready": false})), slice("other", json!({"ready": true}))];
        let shown = describe(&service, &slices);
        assert_eq!((&shown["ready"], &shown["notReady"], &shown["ports"]), (&json!(1), &json!(1), &json!("80/TCP")));
        let contents = json!({"nodes": 1, "pods": 2, "readyPods": 1, "services": [shown]});
        let lab = LabRecord {
            name: "default".into(),
            pid: 7,
            server: "https://127.0.0.1:6443".into(),
            network: "private".into(),
            started: "2026-01-01T00:00:00Z".into(),
            version: "0".into(),
        };
        let text = render(&[lab], Some(&contents));
        assert!(text.contains("n           web       10.96.0.9   80/TCP   1       1"), "{text}");
    }
}
