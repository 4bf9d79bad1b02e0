use k8s_openapi::api::core::v1::EndpointSubset;

use super::*;
use crate::endpointslice::plan::plan;
use crate::fixtures::{meta, service};

fn subset(ready: &[&str], not_ready: &[&str], port: i32) -> EndpointSubset {
    let list = |ips: &[&str]| {
        let address = |ip: &&str| EndpointAddress { ip: (*ip).to_owned(), ..EndpointAddress::default() };
        Some(ips.iter().map(address).collect())
    };
    EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(not_ready),
        ports: Some(vec![EndpointPort { port, ..EndpointPort::default() }]),
    }
}

fn endpoints(subsets: Vec<EndpointSubset>) -> Endpoints {
    Endpoints { metadata: meta("web"), subsets: Some(subsets) }
}

fn content(endpoints: &Endpoints) -> Vec<(bool, Vec<(String, bool)>)> {
    let list = |group: &Group| {
        let entry =
            |endpoint: &Endpoint| (endpoint.addresses[0].clone(), endpoint.conditions.as_ref().unwrap().ready.unwrap());
        group.endpoints.iter().map(entry).collect()
    };
    desired(endpoints).0.groups.iter().map(|(key, group)| (key.ipv6, list(group))).collect()
}

#[test]
fn only_endpoints_of_services_without_a_selector_are_mirrored() {
    let mut selectorless = service("web");
    selectorless.spec.as_mut().unwrap().selector = None;
    let plain = endpoints(vec![]);
    let with = |change: fn(&mut Endpoints)| {
        let mut endpoints = endpoints(vec![]);
        change(&mut endpoints);
        endpoints
    };
    let pair = |key: &str, value: &str| Some(Labels::from([(key.to_owned(), value.to_owned())]));
    let mut skipped = plain.clone();
    skipped.metadata.labels = pair(SKIP, "true");
    let mut leader = plain.clone();
    leader.metadata.annotations = pair(LEADER, "");
    let going = with(|endpoints| endpoints.metadata.deletion_timestamp = Some(crate::fixtures::time(1)));
    for (statement, endpoints, service, expected) in [
        ("S-212", &plain, Some(&selectorless), true),
        ("S-213", &plain, Some(&service("web")), false),
        ("S-213", &plain, None, false),
        ("S-213", &skipped, Some(&selectorless), false),
        ("S-213", &leader, Some(&selectorless), false),
        ("S-216", &going, Some(&selectorless), false),
    ] {
        assert_eq!(is_mirrored(endpoints, service), expected, "{statement}");
    }
}

// S-214, S-215
#[test]
fn families_and_port_sets_make_groups_and_equal_ones_merge() {
    let object = endpoints(vec![
        subset(&["10.0.0.1", "fd00::1"], &["10.0.0.2"], 80),
        subset(&["10.0.0.1", "10.0.0.3"], &[], 80),
        subset(&["10.0.0.1"], &["nonsense"], 90),
    ]);
    let entry = |ip: &str, ready| (ip.to_owned(), ready);
    let expected = [
        (false, vec![entry("10.0.0.1", true), entry("10.0.0.2", false), entry("10.0.0.3", true)]),
        (false, vec![entry("10.0.0.1", true)]),
        (true, vec![entry("fd00::1", true)]),
    ];
    assert_eq!(content(&object), expected);
    let (all, left_out) = desired(&object);
    assert_eq!(left_out, LeftOut { invalid: 1, surplus: 0 });
    let conditions = all.groups.values().next().unwrap().endpoints[0].conditions.clone().unwrap();
    assert_eq!((conditions.serving, conditions.terminating), (None, None));
}

// S-214
#[test]
fn a_subset_is_cut_at_a_thousand() {
    let ips: Vec<String> = (0..1005).map(|index| format!("10.1.{}.{}", index / 250, index % 250 + 1)).collect();
    let object = endpoints(vec![subset(&ips.iter().map(String::as_str).collect::<Vec<_>>(), &[], 80)]);
    let (all, left_out) = desired(&object);
    assert_eq!(left_out.surplus, 5);
    let slices = plan(&parent(&object), &all, &[], None).create;
    assert_eq!(slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [1000]);
}

// S-212, S-216
#[test]
fn labels_and_annotations_are_copied_but_for_two() {
    let mut object = endpoints(vec![subset(&["10.0.0.1"], &[], 80)]);
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    object.metadata.labels = Some(pairs(&[("team", "a")]));
    object.metadata.annotations = Some(pairs(&[("note", "x"), (trigger::ANNOTATION, "t"), (LAST_APPLIED, "{}")]));
    let slices = plan(&parent(&object), &desired(&object).0, &[], None).create;
    let meta = &slices[0].metadata;
    assert_eq!(meta.labels, Some(pairs(&[("team", "a"), (SERVICE_NAME, "web"), (MANAGED_BY, MANAGER)])));
    assert_eq!(meta.annotations, Some(pairs(&[("note", "x")])));
    assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    // An edit of an annotation alone follows too.
    let held = vec![std::sync::Arc::new(slices[0].clone())];
    assert_eq!(plan(&parent(&object), &desired(&object).0, &held, None), Default::default());
    object.metadata.annotations = Some(pairs(&[("note", "y")]));
    assert_eq!(plan(&parent(&object), &desired(&object).0, &held, None).update.len(), 1);
}
