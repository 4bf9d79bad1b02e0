//! A controller as somebody else would write it with kube-rs: every Deployment with the annotation `example.com/expose:
//! PORT` gets a Service of its name, and loses it with the annotation. `testing/tests/controller.rs` tests it with a lab: the
//! Service that it makes is asked for real.
//!
//! Against any cluster: `KUBECONFIG=$(minisvc kubeconfig)` and `kube::Client::try_default()`. To look at it here, start a lab
//! with the example: `cargo run -p minisvc-testing --example controller`.

#![allow(clippy::print_stdout, reason = "an example talks to who runs it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};

const EXPOSE: &str = "example.com/expose";

/// Runs until it is dropped.
pub async fn run(client: Client) {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let services: Api<Service> = Api::all(client.clone());
    Controller::new(deployments, watcher::Config::default())
        .owns(services, watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client))
        .for_each(|_| async {})
        .await;
}

async fn reconcile(deployment: Arc<Deployment>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let services: Api<Service> = Api::namespaced(Client::clone(&client), &namespace);
    let name = deployment.name_any();
    match desired(&deployment) {
        Some(service) => {
            let parameters = PatchParams::apply("expose.example.com").force();
            services.patch(&name, &parameters, &Patch::Apply(service)).await?;
        }
        // Only what this controller made: it has the Deployment as its owner.
        None => {
            let ours = services.get_opt(&name).await?.filter(|service| {
                service.owner_references().iter().any(|owner| Some(&owner.uid) == deployment.uid().as_ref())
            });
            if ours.is_some() {
                services.delete(&name, &DeleteParams::default()).await?;
            }
        }
    }
    Ok(Action::await_change())
}

/// The Service that a Deployment asks for.
fn desired(deployment: &Deployment) -> Option<Service> {
    let port: i32 = deployment.annotations().get(EXPOSE)?.parse().ok()?;
    let labels: BTreeMap<String, String> = deployment.spec.as_ref()?.selector.match_labels.clone()?;
    let mut service = Service {
        spec: Some(ServiceSpec {
            selector: Some(labels),
            ports: Some(vec![ServicePort {
                port: 80,
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    service.metadata.name = deployment.metadata.name.clone();
    service.metadata.owner_references = Some(vec![deployment.controller_owner_ref(&())?]);
    Some(service)
}

#[allow(dead_code, reason = "the test includes this file and has no use for its main")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lab = minisvc_testing::Lab::start().await?;
    println!("KUBECONFIG={} has a lab with the controller; Ctrl-C ends both.", lab.kubeconfig().display());
    tokio::select! {
        () = run(lab.client()) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
