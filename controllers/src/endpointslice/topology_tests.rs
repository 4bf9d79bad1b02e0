use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::desired::{Group, GroupKey};
use super::*;
use crate::fixtures::service;

fn node(name: &str, zone: &str, cpu: &str) -> Node {
    let labels = if zone.is_empty() { json!({}) } else { json!({ZONE: zone}) };
    let allocatable = if cpu.is_empty() { json!({}) } else { json!({"cpu": cpu}) };
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn endpoint(zone: &str, ready: bool) -> Endpoint {
    let value: Value = json!({"addresses": ["10.244.0.2"], "conditions": {"ready": ready}, "zone": zone});
    serde_json::from_value(value).unwrap()
}

/// The zone that each endpoint is to serve; `-` for none.
fn hinted(zones: &[(&str, bool)], shares: &[(&str, f64)]) -> Result<Vec<String>, NoHints> {
    let endpoints = zones.iter().map(|(zone, ready)| endpoint(zone, *ready)).collect();
    let mut desired = Desired { families: vec![false], ..Desired::default() };
    desired.groups.insert(GroupKey::new(false, vec![]), Group { ports: vec![], endpoints });
    let shares = shares.iter().map(|(zone, share)| ((*zone).to_owned(), *share)).collect();
    let result = assign(&mut desired, false, Ok(&shares));
    let hint = |endpoint: &Endpoint| match endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref()) {
        Some(zones) => zones[0].name.clone(),
        None => "-".to_owned(),
    };
    let hints: Vec<String> = desired.groups.values().flat_map(|group| group.endpoints.iter().map(hint)).collect();
    match result {
        Ok(()) => Ok(hints),
        Err(why) => {
            assert!(hints.iter().all(|hint| hint == "-"), "all hints are gone: {hints:?}");
            Err(why)
        }
    }
}

// S-210
#[test]
fn endpoints_serve_their_own_zone_or_one_that_has_too_few() {
    let half = [("a", 0.5), ("b", 0.5)];
    let ready = |zones: &[&'static str]| zones.iter().map(|zone| (*zone, true)).collect::<Vec<_>>();
    for (endpoints, shares, expected) in [
        (ready(&["a", "b"]), &half[..], Ok(vec!["a", "b"])),
        (ready(&["a", "a", "a", "b"]), &half, Ok(vec!["a", "a", "b", "b"])),
        (ready(&["a", "a", "a", "a"]), &half, Ok(vec!["a", "a", "b", "b"])),
        (ready(&["a", "b", "b", "b"]), &[("a", 0.75), ("b", 0.25)], Ok(vec!["a", "b", "a", "a"])),
        // A zone without nodes serves others only.
        (ready(&["a", "b", "c", "c"]), &half, Ok(vec!["a", "b", "a", "b"])),
        (ready(&["a"]), &half, Err(NoHints::FewEndpoints)),
        (ready(&["a", "", "b", "b"]), &half, Err(NoHints::EndpointWithoutZone)),
        // 1.5 of 3 each: with 1 it would bear half as much again.
        (ready(&["a", "a", "b"]), &half, Err(NoHints::Overload)),
    ] {
        let found = hinted(&endpoints, shares);
        assert_eq!(found, expected.map(|zones| zones.into_iter().map(str::to_owned).collect()), "{endpoints:?}");
    }
    let some = hinted(&[("a", true), ("b", true), ("a", false)], &half);
    assert_eq!(some, Ok(vec!["a".into(), "b".into(), "-".into()]), "those that are not ready have none");
}

// S-210
#[test]
fn shares_are_those_of_the_processors_of_nodes_that_serve() {
    let mut control_plane = node("cp", "", "64");
    control_plane.metadata.labels = Some([(CONTROL_PLANE[0].to_owned(), String::new())].into());
    let mut lost = node("lost", "", "64");
    lost.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "Unknown".into();
    let nodes = [node("1", "a", "2"), node("2", "a", "1"), node("3", "b", "1000m"), control_plane, lost];
    assert_eq!(shares(&nodes), Ok([("a".to_owned(), 0.75), ("b".to_owned(), 0.25)].into()));
    for (nodes, why) in [
        (vec![node("1", "a", "2"), node("2", "", "2")], NoHints::NodeWithoutZone),
        (vec![node("1", "a", "2"), node("2", "b", "")], NoHints::NodeWithoutCpu),
        (vec![node("1", "a", "2"), node("2", "b", "0")], NoHints::NodeWithoutCpu),
        (vec![node("1", "a", "2"), node("2", "a", "2")], NoHints::FewZones),
        (vec![], NoHints::FewZones),
    ] {
        assert_eq!(shares(&nodes), Err(why));
    }
}

// S-210
#[test]
fn the_older_annotation_is_read_first() {
    let asks = |pairs: &[(&str, &str)]| {
        let mut service = service("web");
        service.metadata.annotations =
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        is_wanted(&service)
    };
    assert!(asks(&[(MODE, "Auto")]) && asks(&[(MODE, "auto")]) && asks(&[(HINTS, "Auto")]));
    assert!(!asks(&[]) && !asks(&[(MODE, "Disabled")]) && !asks(&[(HINTS, "Disabled"), (MODE, "Auto")]));
}

proptest! {
    /// All endpoints are shared out, and no zone has to bear more than a fifth above its share.
    #[test]
    fn no_zone_is_overloaded(weights in prop::collection::vec(1_u32..100, 2..6), endpoints in 2_usize..300) {
        let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let shares: BTreeMap<String, f64> =
            weights.iter().enumerate().map(|(index, weight)| (format!("z{index}"), f64::from(*weight) / all)).collect();
        if let Ok(targets) = targets(&shares, endpoints) {
            prop_assert_eq!(targets.values().sum::<usize>(), endpoints);
            for (zone, share) in &shares {
                let exact = share * f64::from(u32::try_from(endpoints).unwrap());
                let own = f64::from(u32::try_from(targets[zone]).unwrap());
                prop_assert!(exact <= own * (1.0 + OVERLOAD) + 1e-9, "{} of {} for {}", own, exact, zone);
            }
        }
    }
}
