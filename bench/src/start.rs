//! From `minisvc up` to the first byte, and 200 pods up and down.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Failure;
use crate::figures::{goal, line, median, millis};
use crate::lab::Lab;

/// How often the start is repeated.
const ROUNDS: usize = 7;

/// How often many pods are started.
const CROWDS: usize = 3;

/// Pods of a crowd.
pub(crate) const PODS: usize = 200;

/// Services of a crowd.
pub(crate) const SERVICES: usize = 50;

/// Deployments of a crowd.
const DEPLOYMENTS: usize = 10;

/// One echo pod behind an address that is known beforehand, so that a client can try it from the first moment.
const FIRST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: first, labels: {app: first}}
spec:
  containers: [{name: echo, image: minisvc/echo}]
---
apiVersion: v1
kind: Service
metadata: {name: first}
spec:
  clusterIP: 10.96.77.77
  selector: {app: first}
  ports: [{port: 80, targetPort: 8080}]
";

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (all, one) in times.iter_mut().zip(first_byte()?) {
            all.push(millis(one));
        }
    }
    let [api, names, nodes, byte] = times.map(|all| median(&all));
    line("up → API answers", &format!("{api:.0} ms"), "");
    line("up → names resolve", &format!("{names:.0} ms"), "");
    line("up → nodes are ready for pods", &format!("{nodes:.0} ms"), "");
    line("up -f pod+Service → first byte through the VIP", &format!("{byte:.0} ms"), &goal(byte <= 500.0, "500 ms"));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..CROWDS {
        let (lab, ready) = crowd(PODS)?;
        up.push(ready.as_secs_f64());
        down.push(lab.down()?.as_secs_f64());
    }
    line(&format!("{PODS} pods of {DEPLOYMENTS} Deployments: apply → all ready"), &format!("{:.2} s", median(&up)), "");
    line(
        &format!("{PODS} pods: Ctrl-C → nothing left"),
        &format!("{:.2} s", median(&down)),
        &goal(median(&down) < 2.0, "2 s"),
    );
    Ok(())
}

/// Times from the start of the process to: API, names, nodes, first byte.
fn first_byte() -> Result<[Duration; 4], Failure> {
    let now = SystemTime::now();
    let lab = Lab::begin(&[], Some(FIRST))?;
    let api = lab.until_said("the API answers")?;
    let names = lab.until_said("resolve at")?;
    let nodes = lab.until_said("nodes are ready")?;
    let answered: u64 = lab.inside(None, &["__await", "10.96.77.77:80"])?.trim().parse()?;
    let byte = Duration::from_micros(answered).saturating_sub(now.duration_since(UNIX_EPOCH)?);
    lab.down()?;
    Ok([api, names, nodes, byte])
}

/// A lab with so many pods, and Services for them, and how long the pods took to be ready.
pub(crate) fn crowd(pods: usize) -> Result<(Lab, Duration), Failure> {
    let lab = Lab::start(&["--nodes", "4"])?;
    let mut manifest = String::new();
    for number in 0..DEPLOYMENTS {
        write!(
            manifest,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: crowd-{number}}}\nspec:\n  replicas: {}\n  \
             selector: {{matchLabels: {{app: crowd-{number}}}}}\n  template:\n    metadata: {{labels: {{app: \
             crowd-{number}}}}}\n    spec: {{containers: [{{name: pause, image: minisvc/pause}}]}}\n---\n",
            pods / DEPLOYMENTS
        )?;
    }
    for number in 0..SERVICES {
        write!(
            manifest,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{number}}}\nspec:\n  selector: {{app: crowd-{}}}\n  \
             ports: [{{port: 80}}]\n---\n",
            number % DEPLOYMENTS
        )?;
    }
    let began = Instant::now();
    lab.apply(&manifest)?;
    lab.until_ready(pods)?;
    let took = began.elapsed();
    Ok((lab, took))
}
