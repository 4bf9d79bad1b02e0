//! Many pods at once: nothing may wait for its turn.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::lab::{Lab, condition};
use crate::tests;

tests![test_two_hundred_pods_come_and_go, test_the_range_of_a_node_can_run_out];

/// Generous, because other tests share the cores.
const LIMIT: Duration = Duration::from_secs(120);

// P-002, P-057
async fn test_two_hundred_pods_come_and_go() {
    let lab = Lab::start().await;
    let begun = Instant::now();
    let creating = (0..200).map(|number| {
        let spec = json!({"nodeName": format!("node-{}", number % 2 + 1), "containers": [{"name": "pause", "image": "minisvc/pause"}]});
        let lab = &lab;
        async move { lab.pod(&format!("p{number}"), spec).await }
    });
    futures::stream::iter(creating).buffer_unordered(16).count().await;
    let all = wait_for(&lab, |pods| pods.iter().filter(|pod| condition(pod, "Ready") == "True").count() == 200).await;
    println!("200 pods were ready after {:.1} s", begun.elapsed().as_secs_f32());
    let mut addresses: Vec<_> = all.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 200, "each has its own address");
    let begun = Instant::now();
    lab.pods().delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("deleted");
    wait_for(&lab, |pods| pods.is_empty()).await;
    println!("200 pods were gone after {:.1} s", begun.elapsed().as_secs_f32());
    assert_eq!(lab.plug.attached().len(), 2, "only the nodes are left");
    lab.stop().await;
}

async fn test_the_range_of_a_node_can_run_out() {
    let lab = Lab::with(|config| config.nodes[0].pod_cidrs = vec!["10.244.7.0/29".parse().expect("a network")]).await;
    for number in 0..6 {
        let spec = json!({"containers": [{"name": "pause", "image": "minisvc/pause"}]});
        lab.pod(&format!("p{number}"), spec).await;
    }
    let mut ready = wait_for(&lab, |pods| pods.iter().filter(|p| condition(p, "Ready") == "True").count() == 5).await;
    ready.retain(|pod| condition(pod, "Ready") != "True");
    let [waiting] = ready.as_slice() else { panic!("one pod waits") };
    let name = waiting.metadata.name.clone().expect("a name");
    lab.event_saying(&name, "FailedCreatePodSandBox", "no address is left").await;
    let other = (0..6).map(|number| format!("p{number}")).find(|other| *other != name).expect("another pod");
    lab.delete(&other, 5).await;
    lab.ready(&name).await;
    lab.stop().await;
}

/// Lists until the list fits.
async fn wait_for(lab: &Lab, fits: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let pods = lab.pods().list(&ListParams::default()).await.expect("a list").items;
        if fits(&pods) {
            return pods;
        }
        if Instant::now() > deadline {
            let unready: Vec<_> = pods.iter().filter(|pod| condition(pod, "Ready") != "True").collect();
            panic!(
                "{} pods, {} not ready, the first: {:#?}",
                pods.len(),
                unready.len(),
                unready.first().map(|p| &p.status)
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
