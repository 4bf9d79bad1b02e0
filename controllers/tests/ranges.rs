//! ServiceCIDRs, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{Lab, becomes, settles};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

fn ready(cidr: &ServiceCIDR) -> Option<String> {
    let conditions = cidr.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|known| known.type_ == "Ready").map(|known| known.status.clone())
}

// S-220, S-221
#[tokio::test(flavor = "multi_thread")]
async fn a_range_becomes_ready_and_goes_after_its_grace() {
    let lab = Lab::start(0).await;
    let ranges: Api<ServiceCIDR> = Api::all(lab.client.clone());
    let extra = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "extra"},
        "spec": {"cidrs": ["10.97.0.0/24"]},
    });
    ranges.create(&PostParams::default(), &serde_json::from_value(extra).unwrap()).await.unwrap();
    let extra =
        becomes(ranges.clone(), "extra", "ready", |cidr: &ServiceCIDR| ready(cidr).as_deref() == Some("True")).await;
    assert_eq!(extra.metadata.finalizers.unwrap(), ["networking.k8s.io/service-cidr-finalizer"]);
    ranges.delete("extra", &DeleteParams::default()).await.unwrap();
    becomes(ranges.clone(), "extra", "terminating", |cidr: &ServiceCIDR| ready(cidr).as_deref() == Some("False")).await;
    settles(ranges, "gone", |all: &[ServiceCIDR]| {
        !all.iter().any(|cidr| cidr.metadata.name.as_deref() == Some("extra"))
    })
    .await;
    lab.stop().await;
}
