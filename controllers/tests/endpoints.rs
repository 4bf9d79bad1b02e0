//! Services, their EndpointSlices and their Endpoints, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::time::{Duration, Instant};

use common::{
    Lab, becomes, endpoints_of, is_ready, make_service, pod, ready_endpoints, set_pod_ready, settles, slices_of,
};
use k8s_openapi::api::core::v1::{Endpoints, Event, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

// S-187, S-190, S-191, S-192, S-196
#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_a_slice_and_its_pods_become_endpoints() {
    let lab = Lab::start(1).await;
    let service = make_service(&lab, "web").await;
    let slices =
        settles(lab.api(), "an empty slice", |slices: &[EndpointSlice]| slices_of(slices, "web").len() == 1).await;
    let slice = slices_of(&slices, "web")[0];
    let suffix = slice.metadata.name.as_deref().unwrap().strip_prefix("web-").unwrap();
    assert_eq!(suffix.len(), 5);
    assert!(suffix.chars().all(|letter| "bcdfghjklmnpqrstvwxz2456789".contains(letter)));
    assert!(slice.endpoints.as_deref().unwrap_or_default().is_empty());
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Service", service.metadata.uid.as_ref()));

    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let slices = ready_endpoints(&lab, "web", 1).await;
    let filled = slices_of(&slices, "web");
    assert_eq!(filled.len(), 1, "the placeholder is used");
    assert_eq!(filled[0].metadata.name, slice.metadata.name);
    let endpoint = &filled[0].endpoints.as_ref().unwrap()[0];
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("n1"), Some("z1")));
    assert_eq!(endpoint.target_ref.as_ref().unwrap().name.as_deref(), Some("a"));
    assert_eq!(filled[0].ports.as_ref().unwrap()[0].port, Some(8080));
    lab.stop().await;
}

// S-174, S-176, S-180, S-194
#[tokio::test(flavor = "multi_thread")]
async fn readiness_moves_an_address_between_the_lists() {
    let lab = Lab::start(1).await;
    make_service(&lab, "web").await;
    becomes(lab.api(), "web", "empty Endpoints", |endpoints: &Endpoints| endpoints.subsets.is_none()).await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let ready = |endpoints: &Endpoints| {
        endpoints.subsets.iter().flatten().flat_map(|subset| subset.addresses.iter().flatten()).count()
    };
    let waiting = |endpoints: &Endpoints| {
        endpoints.subsets.iter().flatten().flat_map(|subset| subset.not_ready_addresses.iter().flatten()).count()
    };
    becomes(lab.api(), "web", "a ready address", |endpoints| (ready(endpoints), waiting(endpoints)) == (1, 0)).await;
    ready_endpoints(&lab, "web", 1).await;
    set_pod_ready(&lab.api(), "a", "False").await;
    becomes(lab.api(), "web", "a waiting address", |endpoints| (ready(endpoints), waiting(endpoints)) == (0, 1)).await;
    let slices = ready_endpoints(&lab, "web", 0).await;
    assert_eq!(endpoints_of(&slices, "web").len(), 1, "it stays listed");
    lab.stop().await;
}

// P-081, P-082
#[tokio::test(flavor = "multi_thread")]
async fn labels_and_selectors_move_pods_between_services() {
    let lab = Lab::start(1).await;
    make_service(&lab, "blue").await;
    make_service(&lab, "green").await;
    lab.create::<Pod>(pod("a", json!({"app": "blue"}))).await;
    ready_endpoints(&lab, "blue", 1).await;
    let relabel = Patch::Merge(json!({"metadata": {"labels": {"app": "green"}}}));
    lab.api::<Pod>().patch("a", &PatchParams::default(), &relabel).await.unwrap();
    ready_endpoints(&lab, "blue", 0).await;
    ready_endpoints(&lab, "green", 1).await;
    let reselect = Patch::Merge(json!({"spec": {"selector": {"app": "green"}}}));
    lab.api::<Service>().patch("blue", &PatchParams::default(), &reselect).await.unwrap();
    ready_endpoints(&lab, "blue", 1).await;
    lab.stop().await;
}

// S-199
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_deleted_or_edited_by_hand_is_restored() {
    let lab = Lab::start(1).await;
    make_service(&lab, "web").await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let slices = ready_endpoints(&lab, "web", 1).await;
    let name = slices_of(&slices, "web")[0].metadata.name.clone().unwrap();
    let api: Api<EndpointSlice> = lab.api();
    let cleared = api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"endpoints": []}))).await.unwrap();
    let restored = |slice: &EndpointSlice| {
        slice.metadata.resource_version != cleared.metadata.resource_version
            && slice.endpoints.as_ref().is_some_and(|endpoints| endpoints.len() == 1)
    };
    becomes(lab.api(), &name, "the endpoint is back", restored).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "another slice", |slices: &[EndpointSlice]| {
        let ours = slices_of(slices, "web");
        ours.len() == 1
            && ours[0].metadata.name.as_ref() != Some(&name)
            && ours[0].endpoints.as_ref().unwrap().len() == 1
    })
    .await;
    lab.stop().await;
}

// S-205, S-207
#[tokio::test(flavor = "multi_thread")]
async fn slices_of_others_are_left_alone() {
    let lab = Lab::start(1).await;
    let foreign = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "mine", "labels": {
            "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "staff",
        }},
        "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 9376}],
    });
    let mine: EndpointSlice = lab.create(foreign).await;
    make_service(&lab, "web").await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let slices = ready_endpoints(&lab, "web", 2).await;
    let now = slices.iter().find(|slice| slice.metadata.name.as_deref() == Some("mine")).unwrap();
    assert_eq!(now.metadata.resource_version, mine.metadata.resource_version);
    lab.stop().await;
}

// S-175, S-192, S-233, P-087
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_service_takes_its_slices_and_endpoints_with_it() {
    let lab = Lab::start(1).await;
    make_service(&lab, "web").await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    ready_endpoints(&lab, "web", 1).await;
    becomes(lab.api(), "web", "Endpoints", |_: &Endpoints| true).await;
    lab.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    settles(lab.api(), "no slice", |slices: &[EndpointSlice]| slices_of(slices, "web").is_empty()).await;
    settles(lab.api(), "no Endpoints", |all: &[Endpoints]| {
        !all.iter().any(|endpoints| endpoints.metadata.name.as_deref() == Some("web"))
    })
    .await;
    lab.stop().await;
}

// S-188, S-200
#[tokio::test(flavor = "multi_thread")]
async fn many_pods_fill_slices_of_a_hundred() {
    let lab = Lab::start(2).await;
    make_service(&lab, "web").await;
    for index in 0..230 {
        lab.create::<Pod>(pod(&format!("p{index}"), json!({"app": "web"}))).await;
    }
    let slices = ready_endpoints(&lab, "web", 230).await;
    let ours = slices_of(&slices, "web");
    assert!(ours.iter().all(|slice| slice.endpoints.as_ref().unwrap().len() <= 100));
    assert!(ours.len() <= 4, "{} slices", ours.len());
    let mut names: Vec<_> = endpoints_of(&slices, "web")
        .iter()
        .map(|endpoint| endpoint.target_ref.as_ref().unwrap().name.clone())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 230, "each pod once");
    lab.stop().await;
}

// S-212, S-215, S-216
#[tokio::test(flavor = "multi_thread")]
async fn hand_written_endpoints_are_mirrored_until_the_service_selects() {
    let lab = Lab::start(1).await;
    let mut bare = common::service("db");
    bare["spec"].as_object_mut().unwrap().remove("selector");
    lab.create::<Service>(bare).await;
    let by_hand = |ip: &str| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 5432}]}],
        })
    };
    lab.create::<Endpoints>(by_hand("10.1.2.3")).await;
    let has = |slices: &[EndpointSlice], ip: &str| {
        endpoints_of(slices, "db").iter().any(|endpoint| endpoint.addresses == [ip] && is_ready(endpoint))
    };
    settles(lab.api(), "a mirrored slice", |slices: &[EndpointSlice]| has(slices, "10.1.2.3")).await;
    let edit = Patch::Merge(by_hand("10.1.2.4"));
    lab.api::<Endpoints>().patch("db", &PatchParams::default(), &edit).await.unwrap();
    settles(lab.api(), "the edit", |slices: &[EndpointSlice]| has(slices, "10.1.2.4") && !has(slices, "10.1.2.3"))
        .await;
    let select = Patch::Merge(json!({"spec": {"selector": {"app": "db"}}}));
    lab.api::<Service>().patch("db", &PatchParams::default(), &select).await.unwrap();
    settles(lab.api(), "no mirrored slice", |slices: &[EndpointSlice]| !has(slices, "10.1.2.4")).await;
    lab.stop().await;
}

// S-238
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_readiness_is_in_the_slice_within_a_second() {
    let lab = Lab::start(1).await;
    make_service(&lab, "web").await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    ready_endpoints(&lab, "web", 1).await;
    let mut times = Vec::new();
    for round in 0..20 {
        let wanted = round % 2;
        let start = Instant::now();
        let seen = tokio::spawn({
            let api: Api<EndpointSlice> = lab.api();
            async move {
                settles(api, "the change", |slices: &[EndpointSlice]| {
                    endpoints_of(slices, "web").iter().filter(|endpoint| is_ready(endpoint)).count() == wanted
                })
                .await;
                Instant::now()
            }
        });
        set_pod_ready(&lab.api(), "a", if wanted == 1 { "True" } else { "False" }).await;
        times.push(seen.await.unwrap() - start);
    }
    times.sort();
    let median = times[times.len() / 2];
    println!("readiness to slice: median {median:?}, slowest {:?}", times[times.len() - 1]);
    assert!(median < Duration::from_secs(1), "{times:?}");
    lab.stop().await;
}

fn names_of(endpoints: &[Endpoints]) -> Vec<&str> {
    endpoints.iter().filter_map(|endpoints| endpoints.metadata.name.as_deref()).collect()
}

// S-143, S-149
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_for_a_service_without_a_selector_or_for_an_external_name() {
    let lab = Lab::start(1).await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let external = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "external"},
        "spec": {"type": "ExternalName", "externalName": "web.example.com", "selector": {"app": "web"}},
    });
    let made: Service = lab.create(external).await;
    assert_eq!(made.spec.unwrap().cluster_ip.unwrap_or_default(), "", "it has no address");
    let bare = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]},
        })
    };
    lab.create::<Service>(bare("bare")).await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "bare"}},
        "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 9376}],
    });
    let by_hand: EndpointSlice = lab.create(slice).await;
    // When a Service that came later has its endpoints, the others were looked at.
    make_service(&lab, "web").await;
    let slices = ready_endpoints(&lab, "web", 1).await;
    assert!(slices_of(&slices, "external").is_empty(), "{slices:?}");
    let of_bare = slices_of(&slices, "bare");
    assert_eq!(of_bare.len(), 1);
    assert_eq!(of_bare[0].metadata.resource_version, by_hand.metadata.resource_version, "it is its maker's");
    let endpoints =
        settles(lab.api(), "Endpoints", |endpoints: &[Endpoints]| names_of(endpoints).contains(&"web")).await;
    assert!(!names_of(&endpoints).iter().any(|name| ["external", "bare"].contains(name)), "{endpoints:?}");
    lab.stop().await;
}

// S-239
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_selects_no_more_keeps_what_it_has() {
    let lab = Lab::start(1).await;
    lab.create::<Pod>(pod("a", json!({"app": "web"}))).await;
    let selecting = |name: &str| {
        let mut service = common::service(name);
        service["spec"]["selector"] = json!({"app": "web"});
        service
    };
    for name in ["left", "renamed", "still"] {
        lab.create::<Service>(selecting(name)).await;
        ready_endpoints(&lab, name, 1).await;
        becomes(lab.api(), name, "an address", |endpoints: &Endpoints| endpoints.subsets.is_some()).await;
    }
    let change = async |name: &str, spec: serde_json::Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        lab.api::<Service>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    change("left", json!({"selector": null})).await;
    change("renamed", json!({"type": "ExternalName", "externalName": "web.example.com"})).await;
    set_pod_ready(&lab.api(), "a", "False").await;
    ready_endpoints(&lab, "still", 0).await;
    // Those that are not synced any more say what was true then; what is left of `left` is mirrored besides.
    let slices = settles(lab.api(), "a mirror", |slices: &[EndpointSlice]| slices_of(slices, "left").len() == 2).await;
    for name in ["left", "renamed"] {
        let endpoints = endpoints_of(&slices, name);
        assert!(!endpoints.is_empty() && endpoints.iter().all(|endpoint| is_ready(endpoint)), "{name}: {endpoints:?}");
    }
    assert_eq!(slices_of(&slices, "renamed").len(), 1, "an ExternalName is not mirrored");
    let kept = lab.api::<Endpoints>().get("left").await.unwrap();
    assert!(kept.subsets.unwrap()[0].addresses.as_ref().is_some_and(|addresses| addresses.len() == 1));
    lab.stop().await;
}

// S-210
#[tokio::test(flavor = "multi_thread")]
async fn hints_by_the_zones_processors_come_and_go_with_an_event() {
    let lab = Lab::start(2).await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    for (node, cpu) in [("n1", "2"), ("n2", "2000m")] {
        let capacity = Patch::Merge(json!({"status": {"capacity": {"cpu": cpu}, "allocatable": {"cpu": cpu}}}));
        nodes.patch_status(node, &PatchParams::default(), &capacity).await.unwrap();
    }
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        let mut pod = pod(name, json!({"app": "web"}));
        pod["spec"]["nodeName"] = json!(node);
        lab.create::<Pod>(pod).await;
    }
    let mut service = common::service("web");
    service["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto"});
    // It takes precedence over this.
    service["spec"]["trafficDistribution"] = json!("PreferSameNode");
    lab.create::<Service>(service).await;
    let hints = |slices: &[EndpointSlice]| {
        let of = |endpoint: &Endpoint| {
            let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
            zones.map_or_else(
                || "-".to_owned(),
                |zones| format!("{} for {}", endpoint.zone.clone().unwrap(), zones[0].name),
            )
        };
        let mut all: Vec<String> = endpoints_of(slices, "web").into_iter().map(of).collect();
        all.sort();
        all
    };
    settles(lab.api(), "a zone each", |slices: &[EndpointSlice]| hints(slices) == ["z1 for z1", "z2 for z2"]).await;
    let told = async |reason: &str| {
        let is_it = |event: &Event| event.reason.as_deref() == Some(reason);
        settles(lab.api(), reason, |events: &[Event]| events.iter().any(is_it)).await;
    };
    told("TopologyAwareHintsEnabled").await;
    set_pod_ready(&lab.api(), "b", "False").await;
    settles(lab.api(), "no hints", |slices: &[EndpointSlice]| hints(slices) == ["-", "-"]).await;
    told("TopologyAwareHintsDisabled").await;
    set_pod_ready(&lab.api(), "b", "True").await;
    settles(lab.api(), "hints again", |slices: &[EndpointSlice]| !hints(slices).contains(&"-".to_owned())).await;
    // A change of the nodes is seen without one of the pods.
    let gone = Patch::Merge(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}}));
    nodes.patch("n2", &PatchParams::default(), &gone).await.unwrap();
    settles(lab.api(), "one zone only", |slices: &[EndpointSlice]| hints(slices) == ["-", "-"]).await;
    lab.stop().await;
}
