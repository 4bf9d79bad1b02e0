//! Objects that are not there, have no effect, or select nothing.

mod common;

use common::rows::{Row, WEB, check};
use common::{World, ask};
use minisvc_why::{Cause, Outcome};
use serde_json::json;

#[test]
fn what_works_is_said_to_work() {
    for (target, client) in [
        ("svc/web", None),
        ("svc/web:80", None),
        ("svc/web", Some("shop/client")),
        ("pod/web-1", None),
        ("10.96.0.9:80", None),
        ("10.244.0.2:8080", None),
        ("web", None),
        ("http://web.default/x", Some("shop/client")),
    ] {
        let findings = ask(World::working(), target, client);
        assert_eq!((findings.outcome, findings.cause), (Outcome::Fine, Cause::Fine), "{target}: {findings:#?}");
        assert!(findings.sentence.contains("answers"), "{}", findings.sentence);
    }
}

#[test]
fn objects_that_are_not_there_or_have_no_effect() {
    check(&[
        Row {
            label: "a namespace with a typo",
            breaks: |_| {},
            asks: ("svc/web -n shpo", None),
            cause: Cause::NamespaceMissing,
            says: &["no namespace shpo", "did you mean shop"],
            mends: "minisvc why svc/web -n shop",
        },
        Row {
            label: "a namespace that nobody made",
            breaks: |_| {},
            asks: ("svc/web -n production", None),
            cause: Cause::NamespaceMissing,
            says: &["no namespace production", "shop"],
            mends: "create namespace production",
        },
        Row {
            label: "a Service with a typo",
            breaks: |_| {},
            asks: ("svc/wbe", None),
            cause: Cause::ServiceMissing,
            says: &["no Service wbe", "did you mean web"],
            mends: "svc/web",
        },
        Row {
            label: "a Service of another namespace",
            breaks: |_| {},
            asks: ("svc/web -n shop", None),
            cause: Cause::ServiceMissing,
            says: &["no Service web in namespace shop", "one in default"],
            mends: "-n default",
        },
        Row {
            label: "a Service that never was",
            breaks: |_| {},
            asks: ("svc/queue", None),
            cause: Cause::ServiceMissing,
            says: &["it has web"],
            mends: "",
        },
        Row {
            label: "a pod that has a new name",
            breaks: |_| {},
            asks: ("pod/web-9", None),
            cause: Cause::PodMissing,
            says: &["did you mean web-1"],
            mends: "pod/web-1",
        },
        Row {
            label: "a client that is not there",
            breaks: |_| {},
            asks: ("svc/web", Some("shop/clinet")),
            cause: Cause::PodMissing,
            says: &["did you mean client"],
            mends: "pod/client",
        },
        Row {
            label: "a finalizer that nobody removes",
            breaks: |world| {
                world.web()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                world.web()["metadata"]["finalizers"] = json!(["example.com/hold"]);
            },
            asks: WEB,
            cause: Cause::DeletionStuck,
            says: &["being deleted", "example.com/hold"],
            mends: r#"{"finalizers":null}"#,
        },
        Row {
            label: "another proxy",
            breaks: |world| {
                world.web()["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"})
            },
            asks: WEB,
            cause: Cause::OtherProxy,
            says: &["service-proxy-name=mesh"],
            mends: "service.kubernetes.io/service-proxy-name-",
        },
    ]);
}

#[test]
fn selectors_that_select_nothing() {
    check(&[
        Row {
            label: "a typo in the value",
            breaks: |world| world.web()["spec"]["selector"] = json!({"app": "wbe"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["selects app=wbe", "app=web instead of app=wbe", "2 pods"],
            mends: r#"{"selector":{"app":"web"}}"#,
        },
        Row {
            label: "a typo in the key",
            breaks: |world| world.web()["spec"]["selector"] = json!({"ap": "web"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["app=web instead of ap=web"],
            mends: r#"{"ap":null,"app":"web"}"#,
        },
        Row {
            label: "one of two labels",
            breaks: |world| {
                world.both(|pod| pod["metadata"]["labels"]["version"] = json!("v1"));
                world.web()["spec"]["selector"] = json!({"app": "web", "version": "green"});
            },
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["version=v1 instead of version=green"],
            mends: r#"{"version":"v1"}"#,
        },
        Row {
            label: "nothing near",
            breaks: |world| world.web()["spec"]["selector"] = json!({"tier": "backend"}),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["tier=backend, which no pod has", "pods with app=web"],
            mends: "",
        },
        Row {
            label: "no pod at all",
            breaks: |world| world.pods.clear(),
            asks: WEB,
            cause: Cause::NothingSelected,
            says: &["namespace default has no pod at all"],
            mends: "",
        },
        Row {
            label: "pods of another namespace",
            breaks: |world| world.both(|pod| pod["metadata"]["namespace"] = json!("shop")),
            asks: WEB,
            cause: Cause::OtherNamespace,
            says: &["only pods of namespace shop have (2)", "ask for web.shop"],
            mends: "expose pod web-1 --name web --selector",
        },
        Row {
            label: "scaled to nothing",
            breaks: |world| {
                world.deployed(0);
                world.pods.truncate(0);
            },
            asks: WEB,
            cause: Cause::NoReplicas,
            says: &["deployment web is scaled to 0"],
            mends: "scale deployment web --replicas=1",
        },
        Row {
            label: "all of them going",
            breaks: |world| world.both(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            asks: WEB,
            cause: Cause::AllTerminating,
            says: &["every pod of Service default/web is being deleted (2)"],
            mends: "",
        },
        Row {
            label: "no selector, no slice",
            breaks: |world| {
                world.web()["spec"]["selector"] = json!({});
                world.slices.clear();
            },
            asks: WEB,
            cause: Cause::NoSelector,
            says: &["has no selector", "pods with app=web"],
            mends: r#"{"selector":{"app":"web"}}"#,
        },
    ]);
}
