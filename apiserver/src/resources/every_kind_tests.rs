//! What holds for every kind, whatever a client sends: nothing panics, defaults settle, tables are rectangular.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::all;
use crate::registry::{PoolConfig, Pools};

/// Field names that the kinds look at, so that random objects reach deep into them.
const WORDS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "deletionTimestamp",
    "spec",
    "status",
    "type",
    "ports",
    "port",
    "protocol",
    "targetPort",
    "nodePort",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "externalIPs",
    "selector",
    "matchLabels",
    "matchExpressions",
    "operator",
    "key",
    "values",
    "sessionAffinity",
    "sessionAffinityConfig",
    "clientIP",
    "timeoutSeconds",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "loadBalancer",
    "ingress",
    "ip",
    "ipMode",
    "hostname",
    "loadBalancerSourceRanges",
    "containers",
    "initContainers",
    "image",
    "env",
    "valueFrom",
    "volumeMounts",
    "mountPath",
    "volumes",
    "projected",
    "sources",
    "readinessProbe",
    "livenessProbe",
    "httpGet",
    "exec",
    "lifecycle",
    "preStop",
    "resources",
    "limits",
    "requests",
    "template",
    "strategy",
    "rollingUpdate",
    "maxSurge",
    "maxUnavailable",
    "replicas",
    "subsets",
    "addresses",
    "endpoints",
    "addressType",
    "hints",
    "forZones",
    "involvedObject",
    "source",
    "series",
    "count",
    "data",
    "binaryData",
    "stringData",
    "immutable",
    "taints",
    "podCIDR",
    "podCIDRs",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
    "state",
    "terminated",
    "waiting",
    "restartCount",
    "tolerations",
    "hostAliases",
    "activeDeadlineSeconds",
    "schedulingGates",
    "eventTime",
    "firstTimestamp",
    "phase",
    "nodeName",
    "holderIdentity",
    "serviceAccountName",
    "updateStrategy",
    "partition",
    "ordinals",
    "volumeClaimTemplates",
    "jobTemplate",
    "schedule",
    "timeZone",
    "completions",
    "parallelism",
    "completionMode",
    "podFailurePolicy",
    "rules",
    "onExitCodes",
    "onPodConditions",
    "suspend",
    "minAvailable",
    "roleRef",
    "subjects",
    "kind",
    "metrics",
    "resource",
    "target",
    "hard",
    "used",
    "max",
    "tls",
    "host",
    "accessModes",
    "cidrs",
    "parentRef",
];
/// Values that some rule or other treats specially.
const TEXTS: &[&str] = &[
    "",
    "None",
    "ClusterIP",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "10.96.0.5",
    "010.0.0.1",
    "fd00::1",
    "x",
    "IPv4",
    "IPv6",
    "SingleStack",
    "PreferDualStack",
    "RequireDualStack",
    "Local",
    "ClientIP",
    "TCP",
    "UDP",
    "RollingUpdate",
    "25%",
    "100m",
    "In",
    "1970-01-01T00:00:00Z",
    "Running",
    "Succeeded",
    "10.0.0.0/8",
    "a/b",
    "é",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0), Just(1), Just(80), Just(30080), Just(-1), any::<i64>()].prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 96, 6, |inner| {
        let field = (prop::sample::select(WORDS).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            3 => prop::collection::vec(field, 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// An object whose spec and status are arbitrary, as a patch may leave it.
fn object() -> impl Strategy<Value = Value> {
    (tree(), tree(), tree()).prop_map(|(whole, spec, status)| {
        let mut object = if whole.is_object() { whole } else { json!({}) };
        object["spec"] = spec;
        object["status"] = status;
        object
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_sent_no_kind_panics(sent in object(), stored in object()) {
        let service_cidrs = vec!["10.96.0.0/28".parse().unwrap(), "fd00::/124".parse().unwrap()];
        let config = PoolConfig { service_cidrs, node_ports: 30000..=30020 };
        let pools = Pools::new(&config, &|_| false, &|_| 0);
        for kind in all() {
            let (mut new, mut old) = (sent.clone(), stored.clone());
            (kind.default)(&mut new);
            (kind.default)(&mut old);
            let settled = new.clone();
            (kind.default)(&mut new);
            prop_assert_eq!(&new, &settled, "the defaults of {} settle at once", kind.kind);
            for old in [None, Some(&old)] {
                let mut new = settled.clone();
                (kind.prepare)(&mut new, old);
                if let Some(allocate) = kind.allocate {
                    let _ = allocate.plan(Some(&mut new), old, &pools, false);
                }
                (kind.validate)(&new, old);
                (kind.warnings)(&new, old);
                super::meta::validate(&new, old, kind.name_rule);
            }
            (kind.validate_status)(&new, &old);
            (kind.held)(&new);
            if let Some(grace) = kind.graceful {
                prop_assert!(grace(&new, None) >= 0);
            }
            if let Some(begin_delete) = kind.begin_delete {
                begin_delete(&mut new.clone());
            }
            if let Some(other) = kind.stored_as {
                (other.to_stored)(&mut new.clone());
                (other.from_stored)(&mut new.clone());
            }
            let cells = (kind.row)(&new, jiff::Timestamp::UNIX_EPOCH);
            prop_assert_eq!(cells.len(), kind.columns.len(), "the row of {}", kind.kind);
            let fields: Vec<&str> = (kind.selectable)(&new).into_iter().map(|(name, _)| name).collect();
            prop_assert_eq!(fields, kind.selectable_names, "the fields of {}", kind.kind);
        }
    }
}

#[test]
fn groups_and_names_are_unique() {
    let mut paths: Vec<(&str, &str)> = all().iter().map(|kind| (kind.group, kind.plural)).collect();
    paths.sort_unstable();
    let count = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), count);
}
