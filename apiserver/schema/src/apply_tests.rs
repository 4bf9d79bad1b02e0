use super::*;
use crate::table::definitions;
use crate::testing::{json_value, object_of};
use proptest::prelude::*;
use serde_json::json;

fn kind(name: &str) -> Kind {
    let (api_version, kind) = name.rsplit_once(' ').expect("API version and kind");
    Kind::find_by_api_version(api_version, kind).expect("in the table")
}

/// A writer at `second` seconds after the epoch.
fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, subresource: "", now: jiff::Timestamp::from_second(second).expect("in range") }
}

/// The fields of one manager's entry.
fn owned_by(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("entries");
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn without_entries(mut object: Value) -> Value {
    object["metadata"].as_object_mut().expect("metadata").shift_remove("managedFields");
    object
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn apply_all(kind: Kind, steps: &[(&str, Value)]) -> Value {
    let mut live = None;
    for (second, (manager, config)) in steps.iter().enumerate() {
        let second = i64::try_from(second).expect("few steps");
        live = Some(apply(kind, live.as_ref(), config, &writer(manager, second), false).expect("no conflict"));
    }
    live.expect("a step")
}

// A-077, A-078
#[test]
fn the_first_apply_makes_the_object_and_owns_its_fields() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"a": "b"}, "creationTimestamp": null},
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}, "status": {"loadBalancer": {}}});
    let live = apply(kind("v1 Service"), None, &service, &writer("kubectl", 1_700_000_000), false).expect("applied");
    assert_eq!(
        live,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "labels": {"a": "b"}, "managedFields": [{
                "manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": "2023-11-14T22:13:20Z",
                "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a": {}}},
                    "f:spec": {
                        "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                        "f:selector": {},
                    },
                },
            }]},
            "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]},
        })
    );
}

/// Statement, what is shown, kind, who applies what in which order, the object in the end.
type Story = (&'static str, &'static str, Kind, Vec<(&'static str, Value)>, Value);

#[test]
fn what_a_manager_leaves_out_goes_unless_someone_else_owns_it() {
    let finalizers = |list: &[&str]| json!({"metadata": {"name": "c", "finalizers": list}});
    let container = |name: &str, more: Value| {
        let mut container = json!({"name": name});
        container.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        json!({"metadata": {"name": "c"}, "spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let rows: Vec<Story> = vec![
        (
            "A-079",
            "an omitted field goes",
            kind("v1 ConfigMap"),
            vec![("x", config_map(json!({"a": "1", "b": "2"}))), ("x", config_map(json!({"b": "2"})))],
            config_map(json!({"b": "2"})),
        ),
        (
            "A-079",
            "an omitted field that another one applied too stays",
            kind("v1 ConfigMap"),
            vec![
                ("x", config_map(json!({"a": "1", "b": "2"}))),
                ("y", config_map(json!({"a": "1"}))),
                ("x", config_map(json!({"b": "2"}))),
            ],
            config_map(json!({"a": "1", "b": "2"})),
        ),
        (
            "A-079",
            "a map that loses all its keys goes",
            kind("v1 ConfigMap"),
            vec![
                ("x", json!({"metadata": {"name": "c", "labels": {"a": "1"}}})),
                ("x", json!({"metadata": {"name": "c"}})),
            ],
            json!({"metadata": {"name": "c"}}),
        ),
        (
            "A-074",
            "finalizers are a set",
            kind("v1 ConfigMap"),
            vec![("x", finalizers(&["a", "b"])), ("y", finalizers(&["b", "c"])), ("x", finalizers(&["d"]))],
            finalizers(&["d", "b", "c"]),
        ),
        (
            "A-074",
            "list elements are told apart by all their keys",
            kind("v1 Service"),
            vec![
                (
                    "x",
                    json!({"metadata": {"name": "c"}, "spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "u"}]}}),
                ),
                ("y", json!({"metadata": {"name": "c"}, "spec": {"ports": [{"port": 53, "name": "t"}]}})),
            ],
            json!({"metadata": {"name": "c"}, "spec": {"ports": [{"port": 53, "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]}}),
        ),
        (
            "A-079",
            "managers of different fields of one list element share it",
            kind("apps/v1 Deployment"),
            vec![
                ("x", container("c", json!({"image": "i"}))),
                ("y", container("c", json!({"workingDir": "/w"}))),
                ("x", container("c", json!({}))),
            ],
            container("c", json!({"workingDir": "/w"})),
        ),
        (
            "A-079",
            "an omitted list element goes whole",
            kind("apps/v1 Deployment"),
            vec![
                (
                    "x",
                    json!({"metadata": {"name": "c"}, "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b"}]}}}}),
                ),
                (
                    "x",
                    json!({"metadata": {"name": "c"}, "spec": {"template": {"spec": {"containers": [{"name": "b"}]}}}}),
                ),
            ],
            json!({"metadata": {"name": "c"}, "spec": {"template": {"spec": {"containers": [{"name": "b"}]}}}}),
        ),
    ];
    for (statement, what, kind, steps, wanted) in rows {
        assert_eq!(without_entries(apply_all(kind, &steps)), wanted, "{statement}: {what}");
    }
}

#[test]
fn conflicts_name_the_manager_and_the_field() {
    let live = apply_all(kind("v1 ConfigMap"), &[("x", config_map(json!({"a": "1", "b": "1"})))]);
    let mut patched = live.clone();
    patched["data"]["c"] = json!("1");
    let status = Writer { subresource: "status", ..writer("kubelet", 1_700_000_000) };
    let entries = track_update(kind("v1 ConfigMap"), Some(&live), &patched, &status);
    patched["metadata"]["managedFields"] = Value::Array(entries);
    let rows = [
        ("A-080", json!({"a": "2"}), r#"Apply failed with 1 conflict: conflict with "x": .data.a"#),
        (
            "A-080",
            json!({"c": "2"}),
            r#"Apply failed with 1 conflict: conflict with "kubelet" with subresource "status" using v1 at 2023-11-14T22:13:20Z: .data.c"#,
        ),
        (
            "A-080",
            json!({"a": "2", "b": "2"}),
            "Apply failed with 2 conflicts: conflicts with \"x\":\n- .data.a\n- .data.b",
        ),
    ];
    for (statement, data, text) in rows {
        let error = apply(kind("v1 ConfigMap"), Some(&patched), &config_map(data), &writer("y", 5), false);
        assert_eq!(error.expect_err(statement).to_string(), text, "{statement}");
    }
    let error = apply(kind("v1 ConfigMap"), Some(&live), &config_map(json!({"a": "2"})), &writer("y", 5), false);
    let Err(ApplyError::Conflicts(conflicts)) = error else { panic!("a conflict: {error:?}") };
    assert_eq!((conflicts[0].message(), conflicts[0].field.as_str()), ("conflict with \"x\"".to_owned(), ".data.a"));
}

// A-079
#[test]
fn force_takes_ownership_and_equal_values_are_shared() {
    let configs = kind("v1 ConfigMap");
    let live =
        apply_all(configs, &[("x", config_map(json!({"a": "1", "b": "1"}))), ("y", config_map(json!({"a": "1"})))]);
    assert_eq!(owned_by(&live, "x"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    assert_eq!(owned_by(&live, "y"), json!({"f:data": {"f:a": {}}}));

    let forced = apply(configs, Some(&live), &config_map(json!({"a": "2"})), &writer("y", 9), true).expect("forced");
    assert_eq!(forced["data"], json!({"a": "2", "b": "1"}));
    assert_eq!(owned_by(&forced, "x"), json!({"f:data": {"f:b": {}}}));
    assert_eq!(owned_by(&forced, "y"), json!({"f:data": {"f:a": {}}}));
}

// A-079
#[test]
fn atomic_values_are_one_leaf() {
    let services = kind("v1 Service");
    let config = |selector: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
    let live = apply_all(services, &[("x", config(json!({"app": "a"})))]);
    let error = apply(services, Some(&live), &config(json!({"app": "a", "tier": "b"})), &writer("y", 5), false);
    assert_eq!(
        error.expect_err("owned").to_string(),
        r#"Apply failed with 1 conflict: conflict with "x": .spec.selector"#
    );
    let forced = apply(services, Some(&live), &config(json!({"tier": "b"})), &writer("y", 5), true).expect("forced");
    assert_eq!(forced["spec"]["selector"], json!({"tier": "b"}), "replaced, not merged");
}

// A-079
#[test]
fn ordinary_writes_take_what_they_change() {
    let deployments = kind("apps/v1 Deployment");
    let config = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "paused": true}});
    let live = apply_all(deployments, &[("x", config.clone())]);
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(3);
    scaled["spec"].as_object_mut().expect("an object").shift_remove("paused");
    let entries = track_update(deployments, Some(&live), &scaled, &writer("hpa", 7));
    scaled["metadata"]["managedFields"] = Value::Array(entries);
    assert_eq!(owned_by(&scaled, "x"), Value::Null, "one field was taken, the other is gone");
    assert_eq!(owned_by(&scaled, "hpa"), json!({"f:spec": {"f:replicas": {}}}));
    let error = apply(deployments, Some(&scaled), &config, &writer("x", 8), false).expect_err("owned");
    assert!(
        error.to_string().contains(r#"conflict with "hpa" using apps/v1 at 1970-01-01T00:00:07Z: .spec.replicas"#),
        "{error}"
    );
}

// A-079
#[test]
fn status_has_entries_of_its_own_and_does_not_conflict() {
    let services = kind("v1 Service");
    let config = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}, "status": {"conditions": []}});
    let live = apply_all(services, &[("x", config.clone())]);
    let mut with_status = live.clone();
    with_status["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.95.1.0"}]}});
    let lb = Writer { subresource: "status", ..writer("lb", 5) };
    with_status["metadata"]["managedFields"] = Value::Array(track_update(services, Some(&live), &with_status, &lb));
    let entry =
        with_status["metadata"]["managedFields"].as_array().and_then(|e| e.iter().find(|e| e["manager"] == "lb"));
    assert_eq!(entry.map(|e| &e["subresource"]), Some(&json!("status")));
    let again = apply(services, Some(&with_status), &config, &writer("x", 9), false).expect("no conflict");
    assert_eq!(again, with_status, "nothing changed, not even a time");
    // On the subresource it is the spec that does not count.
    let on_status = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort"},
        "status": {"conditions": [{"type": "A", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-11-21T00:00:00Z"}]}});
    let applied = apply(services, Some(&live), &on_status, &Writer { subresource: "status", ..writer("z", 9) }, false);
    let applied = applied.expect("no conflict");
    assert_eq!(applied["spec"]["type"], "ClusterIP");
    assert_eq!(applied["status"]["conditions"][0]["type"], "A");
}

// A-079
#[test]
fn an_object_that_was_never_tracked_is_owned_by_what_came_before() {
    let configs = kind("v1 ConfigMap");
    let live = config_map(json!({"a": "1", "b": "1"}));
    let error = apply(configs, Some(&live), &config_map(json!({"a": "2"})), &writer("x", 5), false);
    assert!(error.expect_err("owned").to_string().contains("before-first-apply"));
    let applied = apply(configs, Some(&live), &config_map(json!({"a": "1"})), &writer("x", 5), false).expect("shared");
    assert_eq!(owned_by(&applied, "before-first-apply"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
}

#[test]
fn wrong_configurations_are_refused() {
    let rows = [
        (
            "A-078",
            "v1 ConfigMap",
            json!({"metadata": {"name": "c", "managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
        ("A-079", "v1 Service", json!({"spec": {"foo": 1}}), ".spec.foo: field not declared in schema"),
        (
            "A-079",
            "v1 Service",
            json!({"spec": {"ports": [{"name": "a"}]}}),
            ".spec.ports: element 0 omits the key field \"port\"",
        ),
        (
            "A-079",
            "v1 Service",
            json!({"spec": {"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}}),
            ".spec.ports: element 1 has the same key as another one",
        ),
        (
            "A-079",
            "v1 Pod",
            json!({"metadata": {"finalizers": ["a", "a"]}}),
            ".metadata.finalizers: duplicate entry \"a\"",
        ),
        ("A-079", "v1 Pod", json!([]), "the applied configuration must be an object"),
    ];
    for (statement, name, config, text) in rows {
        let error = apply(kind(name), None, &config, &writer("x", 0), true).expect_err(statement);
        assert_eq!(error, ApplyError::Invalid(text.to_owned()), "{statement}");
    }
}

// A-082
#[test]
fn one_empty_entry_clears_and_an_empty_list_does_not() {
    let configs = kind("v1 ConfigMap");
    let live = apply_all(configs, &[("x", config_map(json!({"a": "1"})))]);
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(track_update(configs, Some(&live), &new, &writer("y", 5)), Vec::<Value>::new());
    new["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        Value::Array(track_update(configs, Some(&live), &new, &writer("y", 5))),
        live["metadata"]["managedFields"]
    );
    new["metadata"].as_object_mut().expect("an object").shift_remove("managedFields");
    assert_eq!(
        Value::Array(track_update(configs, Some(&live), &new, &writer("y", 5))),
        live["metadata"]["managedFields"]
    );
}

// A-081
#[test]
fn a_write_may_carry_entries_of_its_own() {
    let configs = kind("v1 ConfigMap");
    let live = apply_all(configs, &[("x", config_map(json!({"a": "1"})))]);
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    let entries = track_update(configs, Some(&live), &new, &writer("migrator", 5));
    assert_eq!(Value::Array(entries), new["metadata"]["managedFields"]);
}

// A-078
#[test]
fn entries_of_many_writers_are_joined() {
    let configs = kind("v1 ConfigMap");
    let mut live = config_map(json!({}));
    for n in 0..25 {
        let mut new = live.clone();
        new["data"][format!("k{n:02}")] = json!("1");
        let name = format!("writer-{n}");
        new["metadata"]["managedFields"] = Value::Array(track_update(configs, Some(&live), &new, &writer(&name, n)));
        live = new;
    }
    let entries = live["metadata"]["managedFields"].as_array().expect("entries");
    assert_eq!(entries.len(), MOST_UPDATE_ENTRIES);
    let ancient = owned_by(&live, ANCIENT);
    assert_eq!(ancient["f:data"].as_object().map(|data| data.contains_key("f:k00")), Some(true), "{ancient}");
    assert_eq!(owned_by(&live, "writer-24"), json!({"f:data": {"f:k24": {}}}));
}

/// All that the entries of an object own.
fn all_owned(object: &Value) -> FieldSet {
    let entries = managers::read(object).unwrap_or_default();
    entries.iter().fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
}

/// An object that can be applied: of a random kind, with lists whose elements can be told apart.
fn applicable(seed: u64) -> Option<(Kind, Value)> {
    let kinds: Vec<_> = definitions().iter().filter(|d| d.gvk.is_some()).collect();
    let definition = kinds[usize::try_from(seed).unwrap_or(0) % kinds.len()];
    let (group, version, name) = definition.gvk?;
    let kind = Kind::find(group, version, name)?;
    let mut object = object_of(definition, seed, |f| f.name != "managedFields" && f.name != "status");
    object["metadata"]["name"] = json!("o");
    check(Shape::of_kind(kind), &mut String::new(), &object).is_ok().then_some((kind, object))
}

proptest! {
    // A-079
    #[test]
    fn applying_twice_is_applying_once(seed in any::<u64>()) {
        let Some((kind, config)) = applicable(seed) else { return Ok(()) };
        let once = apply(kind, None, &config, &writer("x", 1), false).expect("applied");
        prop_assert_eq!(without_entries(once.clone()), config.clone());
        let twice = apply(kind, Some(&once), &config, &writer("x", 2), false).expect("applied");
        prop_assert_eq!(&twice, &once);
        // What one manager made, another one shares, and its leaving changes nothing.
        let shared = apply(kind, Some(&once), &config, &writer("y", 3), false).expect("no conflict");
        prop_assert_eq!(without_entries(shared.clone()), config.clone());
        let left = apply(kind, Some(&shared), &json!({"metadata": {"name": "o"}}), &writer("y", 4), false).expect("applied");
        prop_assert_eq!(left, once.clone());
        // And when its only manager leaves, so does everything.
        let gone = apply(kind, Some(&once), &json!({"metadata": {"name": "o"}}), &writer("x", 5), false).expect("applied");
        prop_assert!(unstripped(field_set(Shape::of_kind(kind), &gone)).is_empty(), "{}", gone);
    }

    // A-079
    #[test]
    fn ownership_covers_an_object_through_ordinary_writes(a in any::<u64>(), b in any::<u64>()) {
        let Some((kind, old)) = applicable(a) else { return Ok(()) };
        let mut created = old.clone();
        created["metadata"]["managedFields"] = Value::Array(track_update(kind, None, &old, &writer("x", 1)));
        let mut new = object_of(kind.definition(), b, |f| f.name != "managedFields");
        new["metadata"]["name"] = json!("o");
        let entries = track_update(kind, Some(&created), &new, &writer("y", 2));
        new["metadata"]["managedFields"] = Value::Array(entries);
        let has = unstripped(field_set(Shape::of_kind(kind), &without_entries(new.clone())));
        prop_assert!(has.difference(&all_owned(&new)).is_empty(), "{}", has.difference(&all_owned(&new)).to_json());
        let again = track_update(kind, Some(&new), &new, &writer("z", 3));
        prop_assert_eq!(&Value::Array(again), &new["metadata"]["managedFields"]);
    }

    #[test]
    fn arbitrary_values_never_panic(live in json_value(), config in json_value(), entries in json_value(), force in any::<bool>()) {
        let object = |value: &Value| json!({"metadata": {"finalizers": value, "ownerReferences": value, "labels": value},
            "spec": {"ports": value, "selector": value}});
        let mut live = object(&live);
        live["metadata"]["managedFields"] = json!([{"operation": "Apply", "manager": "x", "apiVersion": "v1", "fieldsV1": {"f:spec": entries}}]);
        for config in [object(&config), config] {
            let _ = apply(kind("v1 Service"), Some(&live), &config, &writer("x", 1), force);
            let _ = track_update(kind("v1 Service"), Some(&live), &config, &writer("x", 1));
            let _ = track_update(kind("v1 Service"), Some(&config), &live, &writer("x", 1));
        }
    }
}
