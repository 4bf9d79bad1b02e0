//! `node`: the nodes as machines, which can lose their power.

use http::Method;
use serde_json::Value;

use crate::api::LabApi;
use crate::args::{NodeAction, NodeArgs, Output};
use crate::commands::table;
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// Lists the nodes, fails one, or brings one back.
///
/// # Errors
/// When the lab does not run, there is no such node, or it does so already.
pub(crate) async fn node(args: &NodeArgs) -> Result<(), CliError> {
    let (lab, action, name) = match &args.action {
        NodeAction::List { lab, output } => {
            let api = LabApi::of(&LabHome::of(lab)?)?;
            return list(&api, *output).await;
        }
        NodeAction::Stop { lab, node } => (lab, "stop", node),
        NodeAction::Start { lab, node } => (lab, "start", node),
    };
    let name = name.trim_start_matches("node/");
    let api = LabApi::of(&LabHome::of(lab)?)?;
    let path = format!("{}/machines/{name}/{action}", table::EXTENSION);
    let told = api.json(Method::POST, &path, "application/json", None).await;
    told.map_err(|error| error.hint("see which there are: minisvc node list"))?;
    match action {
        "stop" => {
            eprintln!("Nobody is told. After a while the node counts as lost: minisvc get nodes -w");
            eprintln!("Bring it back: minisvc node start {name}");
        }
        _ => eprintln!("It registers and runs what is bound to it: minisvc get pods -A -o wide"),
    }
    let done = if action == "stop" { "stopped" } else { "started" };
    output::print(&format!("node/{name} {done}\n"))
}

async fn list(api: &LabApi, format: Output) -> Result<(), CliError> {
    let machines = api.get(&table::path("machines", &[])).await?["items"].take();
    if !matches!(format, Output::Table | Output::Wide) {
        return table::print_items(&machines, "machine", format);
    }
    let objects = api.get("/api/v1/nodes").await?;
    let pods = api.get("/api/v1/pods").await?;
    output::print(&rows(&machines, &objects, &pods, format == Output::Wide).render_all())
}

/// What is, beside what the API has noticed of it.
fn rows(machines: &Value, objects: &Value, pods: &Value, wide: bool) -> Table {
    let mut header = vec!["NAME", "MACHINE", "READY", "ZONE", "PODS"];
    if wide {
        header.extend(["ADDRESSES", "POD RANGES"]);
    }
    let mut table = Table::new(&header);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let joined = |value: &Value| list(value).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    for machine in list(machines) {
        let name = machine["metadata"]["name"].as_str().unwrap_or_default();
        let object = list(&objects["items"]).into_iter().find(|object| object["metadata"]["name"] == name);
        let conditions = object.map(|object| list(&object["status"]["conditions"])).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let bound = list(&pods["items"]).iter().filter(|pod| pod["spec"]["nodeName"] == name).count();
        let mut row = vec![
            name.to_owned(),
            if machine["running"] == true { "Running" } else { "Stopped" }.to_owned(),
            ready.and_then(|ready| ready["status"].as_str()).unwrap_or("Unknown").to_owned(),
            machine["zone"].as_str().unwrap_or("<none>").to_owned(),
            bound.to_string(),
        ];
        if wide {
            row.extend([joined(&machine["addresses"]), joined(&machine["podRanges"])]);
        }
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_is_shown_beside_what_the_api_knows_of_it() {
        let machines = json!([
            {"metadata": {"name": "node-1"}, "running": true, "zone": "zone-a", "addresses": ["10.95.0.11"], "podRanges": []},
            {"metadata": {"name": "node-2"}, "running": false, "zone": null, "addresses": [], "podRanges": []}]);
        let ready = |name: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let nodes = json!({"items": [ready("node-2"), ready("node-1")]});
        let pods = json!({"items": [{"spec": {"nodeName": "node-2"}}, {"spec": {"nodeName": "node-2"}}, {"spec": {}}]});
        let text = rows(&machines, &nodes, &pods, true).render_all();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "node-1 Running True zone-a 0 10.95.0.11");
        assert_eq!(lines[2].join(" "), "node-2 Stopped True <none> 2", "it is not noticed yet");
    }
}
