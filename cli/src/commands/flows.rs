//! `flows`: what the data plane is translating, and which endpoint each connection was given.

use crate::args::{FlowsArgs, Output};
use crate::control::{Conversation, FlowQuery, FlowView};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// Shows the flows of a lab, the oldest first.
///
/// # Errors
/// When the lab does not run.
pub(crate) async fn flows(args: &FlowsArgs) -> Result<(), CliError> {
    let query = FlowQuery { clients: args.clients.clone(), limit: args.limit };
    let mut flows = Conversation::with(&LabHome::of(&args.lab)?)?.flows(query).await?;
    flows.sort_by_key(|flow| flow.created);
    match args.output {
        Output::Json => output::print_json(&serde_json::json!(flows)),
        Output::Yaml => output::print_yaml(&serde_json::json!(flows)),
        Output::Name => output::print(
            &flows.iter().map(|flow| format!("{}-{}\n", flow.client, flow.destination)).collect::<String>(),
        ),
        Output::Table | Output::Wide => {
            if flows.is_empty() {
                eprintln!("No flows. Make one: minisvc exec -- curl -s http://SERVICE");
                return Ok(());
            }
            output::print(&render(&flows, args.output == Output::Wide))
        }
    }
}

fn render(flows: &[FlowView], wide: bool) -> String {
    let mut header = vec!["PROTOCOL", "CLIENT", "SERVICE", "DESTINATION", "ENDPOINT", "STATE", "BYTES OUT", "BYTES IN"];
    if wide {
        header.extend(["PACKETS OUT", "PACKETS IN", "SINCE"]);
    }
    let mut table = Table::new(&header);
    for flow in flows {
        let mut row = vec![
            flow.protocol.clone(),
            flow.client.to_string(),
            flow.service.clone().unwrap_or_else(|| "<none>".to_owned()),
            flow.destination.to_string(),
            flow.endpoint.to_string(),
            flow.state.clone(),
            flow.bytes.0.to_string(),
            flow.bytes.1.to_string(),
        ];
        if wide {
            row.extend([flow.packets.0.to_string(), flow.packets.1.to_string(), flow.created.to_string()]);
        }
        table.push(row);
    }
    table.render_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_shown_from_client_to_endpoint() {
        let address = |text: &str| text.parse().expect("an address");
        let flow = FlowView {
            protocol: "TCP".into(),
            client: address("10.95.0.1:4000"),
            destination: address("10.96.0.9:80"),
            endpoint: address("10.244.0.2:8080"),
            service: Some("default/web:http".into()),
            state: "Established".into(),
            created: "2026-01-01T00:00:00Z".parse().expect("a time"),
            packets: (3, 2),
            bytes: (300, 200),
        };
        let text = render(std::slice::from_ref(&flow), false);
        assert!(text.starts_with("PROTOCOL   CLIENT           SERVICE            DESTINATION    ENDPOINT"), "{text}");
        assert!(
            text.contains("TCP        10.95.0.1:4000   default/web:http   10.96.0.9:80   10.244.0.2:8080"),
            "{text}"
        );
        assert!(render(&[flow], true).contains("2026-01-01T00:00:00Z"));
    }
}
