//! Workloads, and the kinds that are only stored, as a client of the API sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Answer, ask, server};
use http::StatusCode;
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const MERGE: &str = "application/merge-patch+json";

async fn post(server: &ApiServer, path: &str, object: &Value) -> Answer {
    ask("POST", path).json(object).of(server).await
}

async fn patch(server: &ApiServer, path: &str, change: Value) -> Answer {
    ask("PATCH", path).patch(MERGE, &change).of(server).await
}

fn causes(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
    let status = answer.json();
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap().to_owned();
    let causes = status["details"]["causes"].as_array().unwrap();
    causes.iter().map(|cause| (text(cause, "field"), text(cause, "message"))).collect()
}

fn template(restart: &str) -> Value {
    let containers = json!([{"name": "c", "image": "i"}]);
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": restart, "containers": containers}})
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "x"}})
}

fn named(extra: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a"}});
    for (key, value) in extra.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

/// Every kind that is only stored: where it is, an object of it, and its columns.
fn stored() -> Vec<(&'static str, Value, &'static str)> {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    vec![
        ("/api/v1/namespaces/default/limitranges", json!({"spec": {"limits": []}}), "Name Created At"),
        (
            "/api/v1/namespaces/default/resourcequotas",
            json!({"spec": {"hard": {"pods": "1"}}}),
            "Name Request Limit Age",
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            json!({"spec": claim}),
            "Name Status Volume Capacity Access Modes StorageClass VolumeAttributesClass Age [VolumeMode]",
        ),
        (
            "/api/v1/persistentvolumes",
            json!({"spec": volume}),
            "Name Capacity Access Modes Reclaim Policy Status Claim StorageClass VolumeAttributesClass Reason Age [VolumeMode]",
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            json!({"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
            "Name Class Hosts Address Ports Age",
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses",
            json!({"spec": {"controller": "example.com/x"}}),
            "Name Controller Parameters Age",
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"spec": {"podSelector": {}}}),
            "Name Pod-Selector Age",
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"provisioner": "example.com/x"}),
            "Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            json!({"spec": {"attacher": "x", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            "Name Attacher PV Node Attached Age",
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            json!({"spec": {}}),
            "Name AttachRequired PodInfoOnMount StorageCapacity TokenRequests RequiresRepublish Modes Age",
        ),
        ("/apis/storage.k8s.io/v1/csinodes", json!({"spec": {"drivers": []}}), "Name Drivers Age"),
        (
            "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            json!({"storageClassName": "x"}),
            "Name StorageClassName Capacity",
        ),
        ("/apis/storage.k8s.io/v1/volumeattributesclasses", json!({"driverName": "x"}), "Name DriverName Age"),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"value": 7}),
            "Name Value Global-Default Age PreemptionPolicy",
        ),
        ("/apis/node.k8s.io/v1/runtimeclasses", json!({"handler": "x"}), "Name Handler Age"),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}}),
            "Name Reference Targets MinPods MaxPods Replicas Age",
        ),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", json!({"rules": []}), "Name Created At"),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({"rules": []}), "Name Created At"),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            json!({"roleRef": role}),
            "Name Role Age [Users] [Groups] [ServiceAccounts]",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            json!({"roleRef": role}),
            "Name Role Age [Users] [Groups] [ServiceAccounts]",
        ),
    ]
}

/// Every workload kind: where it is, an object of it, and its columns.
fn workloads() -> Vec<(&'static str, Value, &'static str)> {
    let spec = json!({"selector": selector(), "template": template("Always")});
    vec![
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            json!({"spec": spec}),
            "Name Ready Age [Containers] [Images]",
        ),
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            json!({"spec": spec}),
            "Name Desired Current Ready Up-to-date Available Node Selector Age [Containers] [Images] [Selector]",
        ),
        (
            "/apis/apps/v1/namespaces/default/controllerrevisions",
            json!({"data": {}, "revision": 1}),
            "Name Controller Revision Age",
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"spec": {"template": template("Never")}}),
            "Name Status Completions Duration Age [Containers] [Images] [Selector]",
        ),
        (
            "/apis/batch/v1/namespaces/default/cronjobs",
            json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template("Never")}}}}),
            "Name Schedule Timezone Suspend Active Last Schedule Age [Containers] [Images] [Selector]",
        ),
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            json!({"spec": {"template": template("Always")}}),
            "Name Desired Current Ready Age [Containers] [Images] [Selector]",
        ),
        (
            "/api/v1/namespaces/default/podtemplates",
            json!({"template": template("Never")}),
            "Name Containers Images Pod Labels",
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1, "selector": selector()}}),
            "Name Min Available Max Unavailable Allowed Disruptions Age",
        ),
    ]
}

async fn live_through(server: &ApiServer, path: &str, object: Value, columns: &str) -> Answer {
    let created = post(server, path, &named(object)).await;
    assert_eq!(created.code, StatusCode::CREATED, "{path}: {}", created.text);
    let one = format!("{path}/a");
    let strict = ask("PUT", &format!("{one}?fieldValidation=Strict")).json(&created.json()).of(server).await;
    assert_eq!(strict.code, StatusCode::OK, "{path}: {}", strict.text);
    let version = |answer: &Answer| answer.json()["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&strict), version(&created), "{path}: writing back what was read changes nothing");
    let labelled = patch(server, &one, json!({"metadata": {"labels": {"l": "1"}}})).await;
    assert_eq!(labelled.code, StatusCode::OK, "{path}: {}", labelled.text);
    let table = ask("GET", &format!("{path}?labelSelector=l=1")).accept(KUBECTL).of(server).await.json();
    let name = |column: &Value| match column["priority"].as_i64() {
        Some(0) => column["name"].as_str().unwrap().to_owned(),
        _ => format!("[{}]", column["name"].as_str().unwrap()),
    };
    let found: Vec<String> = table["columnDefinitions"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(found.join(" "), columns, "{path}");
    assert_eq!(table["rows"][0]["cells"][0], "a", "{path}");
    let deleted = ask("DELETE", &format!("{one}?propagationPolicy=Background")).of(server).await;
    assert_eq!(deleted.code, StatusCode::OK, "{path}: {}", deleted.text);
    assert_eq!(ask("GET", &one).of(server).await.code, StatusCode::NOT_FOUND, "{path}");
    created
}

//
#[tokio::test]
async fn every_workload_can_be_written_and_read() {
    let server = server().await;
    for (path, object, columns) in workloads() {
        let created = live_through(&server, path, object, columns).await;
        assert_eq!(created.header("warning"), "", "{path}");
    }
}

//
#[tokio::test]
async fn what_is_only_stored_says_so() {
    let server = server().await;
    for (path, object, columns) in stored() {
        let created = live_through(&server, path, object, columns).await;
        let warning = created.header("warning");
        // Roles and bindings are acted on.
        let inert = !path.contains("rbac.authorization.k8s.io");
        assert_eq!(warning.contains("does not act on them"), inert, "{path}: {warning}");
    }
}

//
#[tokio::test]
async fn short_names_and_categories_are_those_people_type() {
    let server = server().await;
    let rows = [
        ("/apis/apps/v1", "statefulsets", "sts", true),
        ("/apis/apps/v1", "daemonsets", "ds", true),
        ("/apis/batch/v1", "jobs", "", true),
        ("/apis/batch/v1", "cronjobs", "cj", true),
        ("/api/v1", "replicationcontrollers", "rc", true),
        ("/api/v1", "persistentvolumeclaims", "pvc", false),
        ("/api/v1", "persistentvolumes", "pv", false),
        ("/apis/networking.k8s.io/v1", "ingresses", "ing", false),
        ("/apis/policy/v1", "poddisruptionbudgets", "pdb", false),
    ];
    for (group, plural, short, in_all) in rows {
        let list = ask("GET", group).of(&server).await.json();
        let entry = list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == plural).unwrap();
        assert_eq!(entry["shortNames"][0].as_str().unwrap_or_default(), short, "{plural}");
        assert_eq!(entry["categories"] == json!(["all"]), in_all, "{plural}");
    }
}

// P-113, A-062, A-067
#[tokio::test]
async fn a_job_gets_its_selector_from_its_uid() {
    let server = server().await;
    let path = "/apis/batch/v1/namespaces/default/jobs";
    let job = post(&server, path, &named(json!({"spec": {"template": template("Never")}}))).await.json();
    let uid = &job["metadata"]["uid"];
    assert_eq!(job["spec"]["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": uid}));
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["batch.kubernetes.io/job-name"], &labels["controller-uid"]), (&json!("a"), uid));
    assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    let other =
        patch(&server, &format!("{path}/a"), json!({"spec": {"selector": {"matchLabels": {"app": "x"}}}})).await;
    let expected = ("spec.selector".to_owned(), "field is immutable".to_owned());
    assert!(
        causes(&other).iter().any(|(field, why)| *field == expected.0 && why.ends_with(&expected.1)),
        "{}",
        other.text
    );
    let always =
        post(&server, path, &json!({"metadata": {"name": "b"}, "spec": {"template": template("Always")}})).await;
    assert_eq!(causes(&always)[0].0, "spec.template.spec.restartPolicy");
    let mut done = ask("GET", &format!("{path}/a")).of(&server).await.json();
    done["status"] = json!({"succeeded": 1});
    let written = ask("PUT", &format!("{path}/a/status")).json(&done).of(&server).await;
    assert_eq!(written.code, StatusCode::OK, "{}", written.text);
    let found = ask("GET", &format!("{path}?fieldSelector=status.successful=1")).of(&server).await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "A-094");
}

//
#[tokio::test]
async fn a_stateful_set_changes_only_where_it_may() {
    let server = server().await;
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    let spec = json!({"serviceName": "x", "selector": selector(), "template": template("Always")});
    post(&server, path, &named(json!({"spec": spec}))).await;
    let one = format!("{path}/a");
    assert_eq!(causes(&patch(&server, &one, json!({"spec": {"serviceName": "y"}})).await)[0].0, "spec");
    let scaled = patch(&server, &one, json!({"spec": {"replicas": 3}})).await;
    assert_eq!((scaled.code, &scaled.json()["metadata"]["generation"]), (StatusCode::OK, &json!(2)), "A-053");
}

// A-131, P-094, P-095
#[tokio::test]
async fn workloads_are_scaled() {
    let server = server().await;
    for (path, object, _) in [workloads().remove(0), workloads().remove(5)] {
        post(&server, path, &named(object)).await;
        let scaled = patch(&server, &format!("{path}/a/scale"), json!({"spec": {"replicas": 4}})).await;
        assert_eq!(scaled.json()["spec"]["replicas"], 4, "{path}: {}", scaled.text);
        assert_eq!(scaled.json()["status"]["selector"], "app=x", "{path}");
        assert_eq!(ask("GET", &format!("{path}/a")).of(&server).await.json()["spec"]["replicas"], 4);
    }
}

// P-086
#[tokio::test]
async fn pods_of_jobs_are_left_unless_the_client_says_otherwise() {
    let server = server().await;
    let rows = [(workloads().remove(3), true), (workloads().remove(5), true), (workloads().remove(0), false)];
    for ((path, object, _), orphans) in rows {
        post(&server, path, &named(object)).await;
        let answer = ask("DELETE", &format!("{path}/a")).of(&server).await;
        assert_eq!(answer.code, StatusCode::OK, "{path}: {}", answer.text);
        let finalizers = answer.json()["metadata"]["finalizers"].clone();
        assert_eq!(finalizers == json!(["orphan"]), orphans, "{path}: {finalizers}");
    }
}
