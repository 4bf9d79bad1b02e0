use super::*;
use crate::testing::json_value;
use proptest::prelude::*;
use serde_json::json;

fn kind(name: &str) -> Kind {
    let (api_version, kind) = name.rsplit_once(' ').expect("API version and kind");
    Kind::find_by_api_version(api_version, kind).expect("in the table")
}

/// Statement, what is shown, kind, object, patch, result.
type Row = (&'static str, &'static str, &'static str, Value, Value, Value);

fn check(rows: Vec<Row>) {
    for (statement, what, name, live, patch, wanted) in rows {
        let patched = apply(kind(name), &live, &patch).expect(what);
        assert_eq!(patched, wanted, "{statement}: {what}");
    }
}

#[test]
fn maps_merge_and_null_removes() {
    check(vec![
        (
            "A-073",
            "labels merge, null removes",
            "v1 Pod",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        ),
        (
            "A-073",
            "null in what is new is not stored",
            "v1 Pod",
            json!({}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}, "annotations": null}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            "A-074",
            "a Service's selector merges as a map",
            "v1 Service",
            json!({"spec": {"selector": {"app": "a"}}}),
            json!({"spec": {"selector": {"tier": "b"}}}),
            json!({"spec": {"selector": {"app": "a", "tier": "b"}}}),
        ),
        (
            "A-073",
            "$patch: replace in a map",
            "v1 Service",
            json!({"spec": {"selector": {"app": "a"}}}),
            json!({"spec": {"selector": {"$patch": "replace", "tier": "b"}}}),
            json!({"spec": {"selector": {"tier": "b"}}}),
        ),
        (
            "A-073",
            "$patch: delete in a map empties it",
            "v1 Service",
            json!({"spec": {"selector": {"app": "a"}, "type": "ClusterIP"}}),
            json!({"spec": {"selector": {"$patch": "delete"}}}),
            json!({"spec": {"selector": {}, "type": "ClusterIP"}}),
        ),
        (
            "A-073",
            "$patch: merge is the ordinary merge",
            "v1 Service",
            json!({"spec": {"selector": {"app": "a"}}}),
            json!({"spec": {"$patch": "merge", "selector": {"tier": "b"}}}),
            json!({"spec": {"selector": {"app": "a", "tier": "b"}}}),
        ),
        (
            "A-073",
            "$retainKeys drops what it does not name",
            "apps/v1 Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
    ]);
}

#[test]
fn lists_are_replaced_or_merged_by_their_key() {
    check(vec![
        (
            "A-074",
            "args are replaced, env merges by name",
            "v1 Pod",
            json!({"spec": {"containers": [{"name": "c", "args": ["a", "b"], "env": [{"name": "X", "value": "1"}]}]}}),
            json!({"spec": {"containers": [{"name": "c", "args": ["z"], "env": [{"name": "Y", "value": "2"}]}]}}),
            json!({"spec": {"containers": [{"name": "c", "args": ["z"],
                "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]}}),
        ),
        (
            "A-074",
            "tolerations are replaced",
            "v1 Pod",
            json!({"spec": {"tolerations": [{"key": "a"}, {"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "c"}]}}),
            json!({"spec": {"tolerations": [{"key": "c"}]}}),
        ),
        (
            "A-073",
            "finalizers join",
            "v1 Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        ),
        (
            "A-073",
            "$deleteFromPrimitiveList takes out, and what is new comes first",
            "v1 Pod",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"], "finalizers": ["d"]}}),
            json!({"metadata": {"finalizers": ["d", "a", "c"]}}),
        ),
        (
            "A-073",
            "$patch: delete takes an element out",
            "v1 Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "zz", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            "A-073",
            "$patch: replace as an element replaces the list",
            "v1 Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "a"}]}}),
        ),
        (
            "A-073",
            "$patch: replace in an element replaces that element",
            "v1 Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"$patch": "replace", "name": "a", "tty": true}]}}),
            json!({"spec": {"containers": [{"name": "a", "tty": true}, {"name": "b"}]}}),
        ),
        (
            "A-074",
            "volumes retain only the keys named",
            "v1 Pod",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "m"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "m"}}]}}),
        ),
        (
            "A-074",
            "conditions merge by type",
            "v1 Pod",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}),
        ),
        (
            "A-074",
            "owner references merge by uid",
            "v1 Pod",
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "controller": true}, {"uid": "2", "name": "b"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": true}, {"uid": "2", "name": "b"}]}}),
        ),
    ]);
}

#[test]
fn element_order_is_that_of_the_directive() {
    let names = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
    let pod = |list: &[&str]| json!({"spec": {"containers": names(list)}});
    check(vec![
        (
            "A-073",
            "an order alone sorts and is not stored",
            "v1 Pod",
            pod(&["a", "b", "c"]),
            json!({"spec": {"$setElementOrder/containers": names(&["c", "a", "b"])}}),
            pod(&["c", "a", "b"]),
        ),
        (
            "A-073",
            "as `kubectl set image` sends it",
            "v1 Pod",
            pod(&["a", "b"]),
            json!({"spec": {"$setElementOrder/containers": names(&["a", "b"]), "containers": [{"name": "b", "image": "i"}]}}),
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "i"}]}}),
        ),
        (
            "A-073",
            "what the directive does not name keeps its neighbours",
            "v1 Pod",
            pod(&["server1", "a", "server2", "b"]),
            json!({"spec": {"$setElementOrder/containers": names(&["a", "new", "b"]), "containers": names(&["new"])}}),
            pod(&["server1", "a", "new", "server2", "b"]),
        ),
        (
            "A-073",
            "without a directive the patch's order counts among its elements",
            "v1 Pod",
            pod(&["a", "b", "c"]),
            json!({"spec": {"containers": names(&["c", "a"])}}),
            pod(&["b", "c", "a"]),
        ),
        (
            "A-073",
            "primitives",
            "v1 Pod",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "d", "a"], "finalizers": ["d"]}}),
            json!({"metadata": {"finalizers": ["b", "c", "d", "a"]}}),
        ),
        (
            "A-073",
            "deletion and order together",
            "v1 Pod",
            pod(&["a", "b", "c"]),
            json!({"spec": {"$setElementOrder/containers": names(&["c", "a"]), "containers": [{"name": "b", "$patch": "delete"}]}}),
            pod(&["c", "a"]),
        ),
    ]);
}

// S-010
#[test]
fn of_a_service_only_ports_conditions_finalizers_and_owners_merge() {
    let live = json!({
        "metadata": {"finalizers": ["a/b"], "ownerReferences": [{"uid": "1", "name": "x"}]},
        "spec": {"ports": [{"port": 80, "name": "web"}, {"port": 81}], "externalIPs": ["1.1.1.1"], "loadBalancerSourceRanges": ["1.0.0.0/8"]},
        "status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}], "loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}},
    });
    let patch = json!({
        "metadata": {"finalizers": ["c/d"], "ownerReferences": [{"uid": "1", "kind": "K"}, {"uid": "2"}]},
        "spec": {"ports": [{"port": 80, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}], "externalIPs": ["2.2.2.2"], "loadBalancerSourceRanges": ["2.0.0.0/8"]},
        "status": {"conditions": [{"type": "B", "status": "False"}], "loadBalancer": {"ingress": [{"ip": "2.2.2.2"}]}},
    });
    let patched = apply(kind("v1 Service"), &live, &patch).expect("a patch");
    let expected = json!({
        "metadata": {"finalizers": ["c/d", "a/b"], "ownerReferences": [{"uid": "1", "name": "x", "kind": "K"}, {"uid": "2"}]},
        "spec": {"ports": [{"port": 80, "name": "web", "protocol": "TCP"}, {"port": 81}], "externalIPs": ["2.2.2.2"], "loadBalancerSourceRanges": ["2.0.0.0/8"]},
        "status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}], "loadBalancer": {"ingress": [{"ip": "2.2.2.2"}]}},
    });
    assert_eq!(patched, expected);
}

//
#[test]
fn service_ports_of_one_number_collapse_as_upstream() {
    let live = json!({"spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}});
    let patch = json!({"spec": {"ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}});
    let patched = apply(kind("v1 Service"), &live, &patch).expect("a patch");
    assert_eq!(patched, json!({"spec": {"ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}}));
}

#[test]
fn ill_formed_patches_are_refused() {
    let live = json!({"spec": {"containers": [{"name": "a"}]}, "metadata": {"finalizers": ["a"]}});
    let rows = [
        ("A-073", json!({"spec": {"containers": [{"image": "x"}]}}), true),
        ("A-073", json!({"spec": {"$patch": "remove"}}), false),
        ("A-073", json!({"spec": {"containers": ["a"]}}), false),
        ("A-073", json!({"spec": {"$setElementOrder/containers": "a"}}), false),
        ("A-073", json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}), false),
        ("A-073", json!({"spec": {"$retainKeys": ["containers"], "nodeName": "n"}}), false),
        (
            "A-073",
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}),
            false,
        ),
        ("A-073", json!([]), false),
    ];
    for (statement, patch, unprocessable) in rows {
        let error = apply(kind("v1 Pod"), &live, &patch).expect_err(statement);
        assert_eq!(matches!(error, PatchError::Failed(_)), unprocessable, "{statement}: {patch}: {error}");
    }
}

proptest! {
    #[test]
    fn arbitrary_patches_never_panic(
        live in json_value(),
        patch in json_value(),
        directive in "\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers",
    ) {
        let live = json!({"spec": {"containers": live.clone()}, "metadata": {"finalizers": live}});
        let patch = json!({"spec": {"containers": [patch.clone(), {"name": patch.clone(), directive.clone(): patch.clone()}], directive.clone(): patch.clone()},
            "metadata": {"finalizers": patch.clone(), directive: patch}});
        let _ = apply(kind("v1 Pod"), &live, &patch);
    }

    //
    #[test]
    fn nothing_of_the_directives_is_left(order in Just(vec!["a", "b", "c"]).prop_shuffle(), gone in "[a-c]") {
        let names: Vec<Value> = order.iter().map(|n| json!({"name": n})).collect();
        let live = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
        let patch = json!({"spec": {"$setElementOrder/containers": names,
            "containers": [{"name": gone, "$patch": "delete"}]}});
        let patched = apply(kind("v1 Pod"), &live, &patch).expect("a patch");
        let left: Vec<Value> = order.iter().filter(|n| **n != gone).map(|n| json!({"name": n})).collect();
        prop_assert_eq!(patched, json!({"spec": {"containers": left}}));
    }
}
