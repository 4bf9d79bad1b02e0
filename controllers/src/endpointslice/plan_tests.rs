use k8s_openapi::api::core::v1::Service;

use super::super::desired::{NodeInfo, desired};
use super::super::parent::{MANAGER, parent};
use super::*;
use crate::endpoint_facts::HEADLESS;
use crate::fixtures::{pod, service};
use crate::pod::Pod;

fn pods(count: usize) -> Vec<Pod> {
    let address = |index: usize| format!("10.244.{}.{}", index / 200, index % 200 + 2);
    (0..count).map(|index| pod(&format!("p{index:04}")).ip(&address(index)).node("n1").ready().pod).collect()
}

fn run(service: &Service, pods: &[Pod], slices: &[EndpointSlice]) -> Changes {
    let slices: Vec<_> = slices.iter().cloned().map(Arc::new).collect();
    plan(&parent(service), &desired(service, pods, |_| Some(NodeInfo::default())), &slices, None)
}

/// What the server would hold after `changes`.
fn stored(mut changes: Changes) -> Vec<EndpointSlice> {
    for (index, slice) in changes.create.iter_mut().enumerate() {
        slice.metadata.name = Some(format!("made-{index}"));
    }
    changes.create
}

// S-190, S-191, S-192
#[test]
fn a_new_slice_is_named_labelled_and_owned() {
    let mut service = service("web");
    service.metadata.labels = Some(
        [("team", "a"), (SERVICE_NAME, "x"), (MANAGED_BY, "x"), (HEADLESS, "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    let created = run(&service, &pods(1), &[]).create;
    let meta = &created[0].metadata;
    assert_eq!(meta.generate_name.as_deref(), Some("web-"));
    let labels: Vec<_> = meta.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [(MANAGED_BY, MANAGER), (SERVICE_NAME, "web"), ("team", "a")]);
    let owner = &meta.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.api_version.as_str(), owner.kind.as_str(), owner.uid.as_str()), ("v1", "Service", "uid-web"));
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    assert_eq!(created[0].address_type, "IPv4");
}

// S-148, S-150
#[test]
fn headless_services_are_marked_and_may_have_no_ports() {
    let mut service = service("web");
    let spec = service.spec.as_mut().unwrap();
    spec.cluster_ip = Some("None".into());
    spec.ports = None;
    let created = run(&service, &pods(2), &[]).create;
    assert_eq!(created[0].metadata.labels.as_ref().unwrap().get(HEADLESS).map(String::as_str), Some(""));
    assert_eq!(created[0].ports.as_deref(), Some(&[][..]));
    assert_eq!(created[0].endpoints.as_ref().unwrap().len(), 2);
}

// S-187
#[test]
fn without_pods_there_is_one_empty_slice_per_family_and_it_is_reused() {
    let mut service = service("web");
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
    let empty = stored(run(&service, &[], &[]));
    let types: Vec<_> = empty.iter().map(|slice| slice.address_type.as_str()).collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
    assert!(empty.iter().all(|slice| slice.endpoints.as_deref() == Some(&[]) && slice.ports.as_deref() == Some(&[])));
    assert_eq!(run(&service, &[], &empty), Changes::default());
    let filled = run(&service, &pods(1), &empty);
    assert_eq!((filled.create.len(), filled.update.len(), filled.delete.len()), (0, 1, 0));
    assert_eq!(filled.update[0].metadata.name, empty[0].metadata.name);
    assert_eq!(filled.update[0].ports.as_ref().unwrap()[0].port, Some(8080));
}

// S-187, S-200
#[test]
fn the_last_pods_slice_becomes_the_placeholder() {
    let service = service("web");
    let slices = stored(run(&service, &pods(150), &[]));
    assert_eq!(slices.len(), 2);
    let changes = run(&service, &[], &slices);
    assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 1));
    assert!(changes.update[0].endpoints.as_ref().unwrap().is_empty());
}

// S-188, S-200
#[test]
fn two_hundred_and_fifty_pods_make_three_slices_and_one_more_edits_one() {
    let service = service("web");
    let slices = stored(run(&service, &pods(250), &[]));
    let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let changes = run(&service, &pods(251), &slices);
    assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 0));
}

// S-199
#[test]
fn tampering_is_undone_with_one_write() {
    let service = service("web");
    let original = stored(run(&service, &pods(3), &[]));
    type Tamper = (&'static str, fn(&mut EndpointSlice));
    let tamper: [Tamper; 5] = [
        ("label removed", |slice| slice.metadata.labels.as_mut().unwrap().clear()),
        ("label added", |slice| drop(slice.metadata.labels.as_mut().unwrap().insert("x".into(), "y".into()))),
        ("owner removed", |slice| slice.metadata.owner_references = None),
        ("endpoint removed", |slice| drop(slice.endpoints.as_mut().unwrap().pop())),
        ("address changed", |slice| slice.endpoints.as_mut().unwrap()[0].addresses = vec!["1.2.3.4".into()]),
    ];
    for (label, tamper) in tamper {
        let mut slices = original.clone();
        tamper(&mut slices[0]);
        let changes = run(&service, &pods(3), &slices);
        assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 0), "{label}");
        let mut restored = changes.update[0].clone();
        let by_address = |endpoint: &Endpoint| endpoint.addresses.clone();
        restored.endpoints.as_mut().unwrap().sort_by_key(by_address);
        assert_eq!(restored, original[0], "{label}");
    }
    assert_eq!(run(&service, &pods(3), &original), Changes::default());
}

// S-202
#[test]
fn the_trigger_time_is_written_with_a_change_and_never_alone() {
    let service = service("web");
    let when = Some(Timestamp::new(1_700_000_000, 5_000).unwrap());
    let all = desired(&service, &pods(1), |_| Some(NodeInfo::default()));
    let slices = stored(plan(&parent(&service), &all, &[], when));
    let annotation =
        |slice: &EndpointSlice| slice.metadata.annotations.as_ref().unwrap().get(trigger::ANNOTATION).cloned();
    assert_eq!(annotation(&slices[0]).as_deref(), Some("2023-11-14T22:13:20.000005Z"));
    let later = Some(Timestamp::new(1_700_000_009, 0).unwrap());
    let held: Vec<_> = slices.iter().cloned().map(Arc::new).collect();
    assert_eq!(plan(&parent(&service), &all, &held, later), Changes::default());
    let more = desired(&service, &pods(2), |_| Some(NodeInfo::default()));
    assert_eq!(annotation(&plan(&parent(&service), &more, &held, None).update[0]), None);
}

// S-203
#[test]
fn a_service_that_is_being_deleted_gets_no_new_slices() {
    let mut service = service("web");
    service.metadata.deletion_timestamp = Some(crate::fixtures::time(1));
    assert!(run(&service, &pods(1), &[]).create.is_empty());
}

// S-187
#[test]
fn slices_of_a_family_the_service_has_lost_are_deleted() {
    let mut service = service("web");
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
    let slices = stored(run(&service, &[], &[]));
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into()]);
    assert_eq!(run(&service, &[], &slices).delete, ["made-1"]);
}
