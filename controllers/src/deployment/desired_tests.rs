use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;
use crate::fixtures::{meta, template, time};

fn deployment(replicas: i32, image: &str) -> Deployment {
    Deployment {
        metadata: ObjectMeta { uid: Some("uid-web".into()), ..meta("web") },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(BTreeMap::from([("app".into(), "web".into())])),
                ..LabelSelector::default()
            },
            template: template(image),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn strategy(type_: &str, surge: IntOrString, unavailable: IntOrString) -> DeploymentStrategy {
    let rolling_update = Some(RollingUpdateDeployment { max_surge: Some(surge), max_unavailable: Some(unavailable) });
    DeploymentStrategy { type_: Some(type_.into()), rolling_update }
}

/// The set that `deployment` would make, `second` seconds old, with all its pods available.
fn made(deployment: &Deployment, second: i64) -> ReplicaSet {
    let mut set = desired(deployment, &[], false).create.unwrap();
    set.metadata.creation_timestamp = Some(time(second));
    set.metadata.uid = set.metadata.name.clone();
    with(set, None)
}

fn with(mut set: ReplicaSet, replicas: Option<i32>) -> ReplicaSet {
    let spec = set.spec.as_mut().unwrap();
    spec.replicas = replicas.or(spec.replicas);
    let pods = spec.replicas.unwrap();
    set.status = Some(ReplicaSetStatus { replicas: pods, available_replicas: Some(pods), ..Default::default() });
    set
}

fn run(deployment: &Deployment, sets: &[ReplicaSet], old_pods: bool) -> Changes {
    let sets: Vec<_> = sets.iter().cloned().map(Arc::new).collect();
    desired(deployment, &sets, old_pods)
}

fn sizes(changes: &Changes) -> Vec<(&str, i32)> {
    changes.update.iter().map(|set| (set.metadata.name.as_deref().unwrap(), size(set))).collect()
}

// P-096, A-157
#[test]
fn a_new_deployment_makes_a_set_with_the_hash_in_name_labels_and_selector() {
    let mut deployment = deployment(3, "web:1");
    let annotations =
        [("kubernetes.io/change-cause", "why"), ("kubectl.kubernetes.io/last-applied-configuration", "{}")];
    deployment.metadata.annotations = Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let changes = run(&deployment, &[], false);
    let set = changes.create.unwrap();
    let spec = set.spec.as_ref().unwrap();
    let hash = hash(&deployment.spec.as_ref().unwrap().template, 0);
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    for labels in [
        set.metadata.labels.as_ref(),
        spec.selector.match_labels.as_ref(),
        spec.template.as_ref().unwrap().metadata.as_ref().unwrap().labels.as_ref(),
    ] {
        assert_eq!(labels.unwrap().get(HASH_LABEL), Some(&hash));
        assert_eq!(labels.unwrap()["app"], "web");
    }
    let copied = set.metadata.annotations.unwrap();
    assert_eq!((copied[REVISION].as_str(), copied["kubernetes.io/change-cause"].as_str()), ("1", "why"));
    assert!(!copied.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    assert_eq!(spec.replicas, Some(3));
    assert_eq!(changes.revision.as_deref(), Some("1"));
}

// P-097
#[test]
fn limits_are_rounded_apart_and_never_both_zero() {
    let percent = |text: &str| IntOrString::String(text.into());
    for (replicas, surge, unavailable, expected) in [
        (10, percent("25%"), percent("25%"), (3, 2)),
        (1, percent("25%"), percent("25%"), (1, 0)),
        (4, percent("0%"), percent("10%"), (0, 1)),
        (4, IntOrString::Int(2), IntOrString::Int(0), (2, 0)),
        (4, IntOrString::Int(0), IntOrString::Int(9), (0, 4)),
    ] {
        let mut deployment = deployment(replicas, "web:1");
        deployment.spec.as_mut().unwrap().strategy = Some(strategy("RollingUpdate", surge, unavailable));
        let limits = limits(&deployment);
        assert_eq!((limits.max_surge, limits.max_unavailable), expected);
    }
    let defaults = limits(&deployment(10, "web:1"));
    assert_eq!((defaults.max_surge, defaults.max_unavailable), (3, 2));
}

// P-096, P-099
#[test]
fn nothing_is_written_when_the_rollout_is_over() {
    let mut deployment = deployment(3, "web:1");
    let set = made(&deployment, 1);
    deployment.metadata.annotations = Some(BTreeMap::from([(REVISION.into(), "1".into())]));
    assert_eq!(run(&deployment, &[set], false), Changes::default());
}

// P-097
#[test]
fn recreate_waits_for_the_last_old_pod() {
    let old = made(&deployment(2, "web:1"), 1);
    let mut changed = deployment(2, "web:2");
    changed.spec.as_mut().unwrap().strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    let first = run(&changed, std::slice::from_ref(&old), true);
    assert!(first.create.is_none());
    assert_eq!(first.update.iter().map(size).collect::<Vec<_>>(), [0]);
    let emptied = with(old, Some(0));
    assert!(run(&changed, std::slice::from_ref(&emptied), true).create.is_none(), "a terminating pod is left");
    assert_eq!(size(&run(&changed, &[emptied], false).create.unwrap()), 2);
}

// P-098, P-101
#[test]
fn a_third_template_gives_up_the_second_rollout() {
    let one = made(&deployment(4, "web:1"), 1);
    let two = with(made(&deployment(4, "web:2"), 2), Some(1));
    let one = with(one, Some(4));
    let changes = run(&deployment(4, "web:3"), &[one.clone(), two.clone()], false);
    assert_eq!(size(&changes.create.unwrap()), 0, "4 + surge 1 are there already");
}

// P-099, A-157
#[test]
fn going_back_makes_the_old_set_the_latest_revision() {
    let first = deployment(1, "web:1");
    let one = with(made(&first, 1), Some(0));
    let mut two = made(&deployment(1, "web:2"), 2);
    two.metadata.annotations.as_mut().unwrap().insert(REVISION.into(), "2".into());
    let changes = run(&first, &[one.clone(), two], false);
    let updated = changes.update.iter().find(|set| set.metadata.name == one.metadata.name).unwrap();
    let annotations = updated.metadata.annotations.as_ref().unwrap();
    assert_eq!((annotations[REVISION].as_str(), annotations[REVISION_HISTORY].as_str()), ("3", "1"));
    assert_eq!(changes.revision.as_deref(), Some("3"));
    assert!(changes.create.is_none());
}

// P-101
#[test]
fn a_new_size_in_the_middle_of_a_rollout_is_shared() {
    let mut changed = deployment(10, "web:2");
    changed.spec.as_mut().unwrap().strategy = Some(strategy("RollingUpdate", IntOrString::Int(3), IntOrString::Int(2)));
    let old = with(made(&Deployment { spec: deployment(10, "web:1").spec, ..changed.clone() }, 1), Some(8));
    let new = with(made(&changed, 2), Some(5));
    let (mut old, mut new) = (old, new);
    for set in [&mut old, &mut new] {
        scale_annotations(limits(&changed), set.metadata.annotations.as_mut().unwrap());
    }
    changed.spec.as_mut().unwrap().replicas = Some(15);
    let changes = run(&changed, &[old.clone(), new.clone()], false);
    let mut sizes = sizes(&changes);
    sizes.sort_by_key(|(_, size)| *size);
    let name = |set: &ReplicaSet| set.metadata.name.clone().unwrap();
    assert_eq!(sizes, [(name(&new).as_str(), 7), (name(&old).as_str(), 11)]);
}

// P-099
#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let old = made(&deployment(2, "web:1"), 1);
    let mut paused = deployment(5, "web:2");
    paused.spec.as_mut().unwrap().paused = Some(true);
    let changes = run(&paused, &[old], false);
    assert!(changes.create.is_none());
    assert_eq!(changes.update.iter().map(size).collect::<Vec<_>>(), [5]);
}

// P-099
#[test]
fn history_keeps_the_latest_old_sets() {
    let mut deployment = deployment(1, "web:9");
    deployment.spec.as_mut().unwrap().revision_history_limit = Some(2);
    let mut sets: Vec<ReplicaSet> = (1..=4)
        .map(|revision| {
            let mut set = with(made(&self::deployment(1, &format!("web:{revision}")), revision), Some(0));
            set.metadata.annotations.as_mut().unwrap().insert(REVISION.into(), revision.to_string());
            set
        })
        .collect();
    sets.push(made(&deployment, 9));
    let mut gone = run(&deployment, &sets, false).delete;
    gone.sort();
    let mut expected = vec![sets[0].metadata.name.clone().unwrap(), sets[1].metadata.name.clone().unwrap()];
    expected.sort();
    assert_eq!(gone, expected);
}
