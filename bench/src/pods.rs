//! How soon a pod is ready, and what two hundred of them cost when nothing happens.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Failure;
use crate::api::Api;
use crate::figures::{goal, line, millis, quantile, spread};
use crate::lab::Lab;
use crate::memory::family;
use crate::start::PODS;

/// How often a Deployment is made.
const ROUNDS: usize = 30;
/// How long the idle lab is watched; three periods of its probes.
const WATCH: Duration = Duration::from_secs(30);
/// The kernel counts processor time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = Lab::start(&[])?;
    for (what, container) in [
        ("without a probe", "{name: pause, image: minisvc/pause}"),
        (
            "with a readiness probe",
            "{name: echo, image: minisvc/echo, readinessProbe: {httpGet: {path: /readyz, port: 8080}}}",
        ),
    ] {
        let times = first_ready(&lab, container)?;
        let met = quantile(&times, 50) < 100.0;
        line(&format!("Deployment created → first pod ready, {what}"), &spread(&times), &goal(met, "100 ms"));
    }
    lab.down()?;
    let lab = Lab::start(&["--nodes", "4"])?;
    let mut manifest = String::new();
    for number in 0..PODS {
        write!(
            manifest,
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p{number}}}, spec: {{containers: [{{name: echo, image: \
             minisvc/echo,\n  readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}}}, livenessProbe: {{httpGet: \
             {{path: /healthz, port: 8080}}}}}}]}}}}\n---\n"
        )?;
    }
    let began = Instant::now();
    lab.apply(&manifest)?;
    lab.until_ready(PODS)?;
    let took = began.elapsed().as_secs_f64();
    line(&format!("{PODS} pods with probes: apply → all ready"), &format!("{took:.2} s"), &goal(took < 5.0, "5 s"));
    // Until the last of the events has been written.
    std::thread::sleep(Duration::from_secs(10));
    let before = ticks(&lab)?;
    std::thread::sleep(WATCH);
    let used = (ticks(&lab)? - before) / TICKS_PER_SECOND / WATCH.as_secs_f64() * 100.0;
    line(
        &format!("{PODS} idle pods with probes: processor time of minisvc"),
        &format!("{used:.1} % of a core"),
        &goal(used < 2.0, "2 %"),
    );
    lab.down()?;
    Ok(())
}

/// From the request that creates a Deployment to the event that says that its pod is ready, in milliseconds.
fn first_ready(lab: &Lab, container: &str) -> Result<Vec<f64>, Failure> {
    let mut api = Api::connect(&lab.api_socket())?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("first-{round}-{}", if container.contains("Probe") { "b" } else { "a" });
        let deployment = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{selector: {{matchLabels: {{app: \
             {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{container}]}}}}}}}}"
        );
        let watching = Api::connect(&lab.api_socket())?;
        let path = format!("/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3D{name}");
        let seen = std::thread::spawn(move || {
            let mut at = None;
            let result = watching.watch(&path, |event| {
                at = is_ready(&event["object"]).then(Instant::now);
                at.is_none()
            });
            result.map(|()| at)
        });
        let began = Instant::now();
        api.ask("POST", "/apis/apps/v1/namespaces/default/deployments", "application/yaml", &deployment)?;
        let at = seen.join().map_err(|_| "the watch failed")??.ok_or("no pod became ready")?;
        times.push(millis(at.duration_since(began)));
    }
    Ok(times)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// What the main process, the helper and the agents have used so far; not what runs in the pods.
fn ticks(lab: &Lab) -> Result<f64, Failure> {
    let mut all = 0.0;
    for pid in std::iter::once(lab.pid()).chain(family(lab)?) {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the name, which may hold anything: state is the first, user and system time are the 12th and 13th.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        all += fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(all)
}
