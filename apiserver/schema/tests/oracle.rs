//! Holds the table against types that were generated from the same API definitions on another way.

use k8s_openapi::Resource;
use minisvc_schema::{Kind, normalize, type_errors, unknown_fields};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Everything in `part` is in `whole` too.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| is_within(value, other)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| is_within(a, b))
        }
        (part, whole) => part == whole,
    }
}

/// What a typed server makes of an object, we make of it too.
fn agree<T: Resource + Serialize + DeserializeOwned>(mut object: Value) {
    let kind = Kind::find(T::GROUP, T::VERSION, T::KIND).expect("in the table");
    object["apiVersion"] = json!(T::API_VERSION);
    object["kind"] = json!(T::KIND);
    assert_eq!(type_errors(kind, &object), Vec::<String>::new());
    assert_eq!(unknown_fields(kind, &object), Vec::<String>::new());
    normalize(kind, &mut object);
    let typed: T = serde_json::from_value(object.clone()).expect("the typed form reads it");
    let again = serde_json::to_value(&typed).expect("and writes it");
    assert!(is_within(&object, &again), "{object}\nis not within\n{again}");
    assert_eq!(unknown_fields(kind, &again), Vec::<String>::new(), "what it writes, the table knows");
    assert_eq!(type_errors(kind, &again), Vec::<String>::new());
}

// A-063, A-064
#[test]
fn the_table_agrees_with_typed_objects() {
    use k8s_openapi::api;
    let pod_spec = json!({
        "terminationGracePeriodSeconds": 0,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "containers": [{
            "name": "c", "image": "i", "command": ["x"], "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "ports": [{"containerPort": 80, "protocol": "UDP"}],
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
            "readinessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
            "lifecycle": {"preStop": {"exec": {"command": ["y"]}}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
        }],
        "volumes": [
            {"name": "v", "emptyDir": {}},
            {"name": "w", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
            {"name": "x", "secret": {"secretName": "s", "defaultMode": 256, "optional": false}},
        ],
    });
    agree::<api::core::v1::Pod>(json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-11-21T00:00:00Z", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": false}]},
        "spec": pod_spec,
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.2"}], "containerStatuses": [
            {"name": "c", "ready": false, "restartCount": 0, "image": "", "imageID": "", "started": false,
             "state": {"running": {"startedAt": "2026-11-21T00:00:01Z"}}}]},
    }));
    agree::<api::core::v1::Service>(json!({
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}, {"name": "b", "port": 81, "targetPort": "http"}],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}, "clusterIPs": ["None"], "allocateLoadBalancerNodePorts": false},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.95.1.0", "ipMode": "VIP"}]}},
    }));
    agree::<api::apps::v1::Deployment>(json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": pod_spec},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}}},
    }));
    agree::<api::discovery::v1::EndpointSlice>(json!({
        "metadata": {"name": "e"}, "addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": false, "serving": true}}],
    }));
    agree::<api::coordination::v1::Lease>(json!({
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "", "leaseTransitions": 0, "renewTime": "2026-11-21T00:00:00.000001Z"},
    }));
    agree::<api::networking::v1::Ingress>(json!({
        "metadata": {"name": "i"},
        "spec": {"rules": [{"host": "h", "http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]},
    }));
    agree::<api::policy::v1::PodDisruptionBudget>(json!({
        "metadata": {"name": "p"}, "spec": {"minAvailable": 0},
        "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    }));
    agree::<api::core::v1::Secret>(json!({"metadata": {"name": "s"}, "data": {"a": "AP8="}, "immutable": false}));
    agree::<api::core::v1::Node>(json!({
        "metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {"capacity": {"cpu": 2, "memory": "1Gi"}, "addresses": [{"type": "InternalIP", "address": "10.95.0.11"}]},
    }));
    agree::<api::apps::v1::ControllerRevision>(
        json!({"metadata": {"name": "r"}, "revision": 0, "data": {"spec": {"$patch": "replace"}}}),
    );
}
