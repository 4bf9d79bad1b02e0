//! Whether anything grows with the number of Services: how soon a change is true, and how many connections can be made.

use std::path::Path;
use std::thread;

use serde_json::json;

use crate::Failure;
use crate::api::Api;
use crate::control;
use crate::figures::{goal, line, median, quantile, spread};
use crate::lab::Lab;

/// Services beside the one that is measured.
const SIZES: [usize; 3] = [10, 1000, 5000];

/// Clients that make them at once.
const CLIENTS: usize = 16;

/// Seconds of new connections, and how many clients make them.
const SECONDS: &str = "3";
const CONNECTORS: &str = "4";

/// A Service that never had an endpoint, so that no earlier flow stands in the way.
const NOBODY: &str = "10.96.77.80:80";

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = Lab::start(&[])?;
    let nobody = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody"},
        "spec": {"clusterIP": "10.96.77.80", "ports": [{"port": 80}]},
    });
    lab.apply(&nobody.to_string())?;
    let mut made = 0;
    for size in SIZES {
        fill(&lab.api_socket(), made, size)?;
        made = size;
        let times = control::changes(&lab)?;
        line(
            &format!("{size} Services: change sent → first new connection to a pod"),
            &spread(&times.join),
            "kube-proxy p50 63 ms with few, 2950 with 5000",
        );
        line(
            &format!("{size} Services: change in the API → first new connection"),
            &spread(&times.join_after),
            &goal(quantile(&times.join_after, 99) < 5.0, "p99 5 ms"),
        );
        line(&format!("{size} Services: pod leaves → no new connection"), &spread(&times.leave), "");
        connections(&lab, size)?;
    }
    lab.down()?;
    Ok(())
}

/// Connections that are refused at once, so that nothing but the data plane is measured: by a Service without endpoints, and
/// by a port of the workstation's own.
fn connections(lab: &Lab, size: usize) -> Result<(), Failure> {
    let ask = |target: &str| -> Result<f64, Failure> {
        Ok(lab.inside(None, &["__refusals", target, SECONDS, CONNECTORS])?.trim().parse()?)
    };
    let rounds: Vec<(f64, f64)> =
        (0..3).map(|_| Ok((ask(NOBODY)?, ask("127.0.0.1:9")?))).collect::<Result<_, Failure>>()?;
    let ratios: Vec<f64> = rounds.iter().map(|(through, beside)| through / beside).collect();
    let through: Vec<f64> = rounds.iter().map(|(through, _)| *through).collect();
    line(
        &format!("{size} Services: new flows looked up and refused"),
        &format!("{:.0} /s", median(&through)),
        &format!("{:.2} of loopback", median(&ratios)),
    );
    Ok(())
}

/// Makes Services with two endpoints each, up to a number.
fn fill(socket: &Path, from: usize, to: usize) -> Result<(), Failure> {
    thread::scope(|scope| {
        let makers: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || make(socket, (from + client..to).step_by(CLIENTS))))
            .collect();
        for maker in makers {
            maker.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    })
}

fn make(socket: &Path, numbers: impl Iterator<Item = usize>) -> Result<(), Failure> {
    let mut api = Api::connect(socket)?;
    for number in numbers {
        let name = format!("crowd-{number}");
        let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        api.ask("POST", "/api/v1/namespaces/default/services", "application/json", &service.to_string())?;
        let [high, low] = [number / 200, number % 200];
        let endpoint = |last: usize| json!({"addresses": [format!("10.244.{}.{}", 100 + high, last)]});
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "ports": [{"port": 80}], "endpoints": [endpoint(low + 2), endpoint(low + 3)],
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        api.ask("POST", path, "application/json", &slice.to_string())?;
    }
    Ok(())
}
