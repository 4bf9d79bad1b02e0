//! What is served below an object: status, scale, binding, eviction, logs, tokens; and how pods end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use common::{Answer, ask, server};
use futures::StreamExt as _;
use http::StatusCode;
use minisvc_apiserver::{ApiError, ApiServer, LogRequest, LogStream, NodeService, StreamRequest, StreamSession};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MERGE: &str = "application/merge-patch+json";

async fn post(server: &ApiServer, path: &str, body: &Value) -> Value {
    let answer = ask("POST", path).json(body).of(server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

async fn get(server: &ApiServer, path: &str) -> Value {
    ask("GET", path).of(server).await.json()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "minisvc/pause"}]}})
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "minisvc/pause"}]},
            },
        },
    })
}

async fn bind(server: &ApiServer, name: &str, node: &str) -> Answer {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    ask("POST", &format!("{PODS}/{name}/binding")).json(&binding).of(server).await
}

async fn set_status(server: &ApiServer, name: &str, status: Value) -> Answer {
    ask("PATCH", &format!("{PODS}/{name}/status")).patch(MERGE, &json!({"status": status})).of(server).await
}

//
#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let server = server().await;
    let mut body = deployment("web");
    body["status"] = json!({"replicas": 7});
    let created = post(&server, DEPLOYMENTS, &body).await;
    assert_eq!(created["metadata"]["generation"], 1);
    assert_ne!(created["status"]["replicas"], 7, "status is not the creator's");
    let path = format!("{DEPLOYMENTS}/web");
    let patch = |path: String, body: Value| {
        let server = server.clone();
        async move { ask("PATCH", &path).patch(MERGE, &body).of(&server).await.json() }
    };
    let labelled = patch(path.clone(), json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let both = json!({"spec": {"replicas": 3}, "status": {"replicas": 9}});
    let changed = patch(path.clone(), both.clone()).await;
    assert_eq!((&changed["metadata"]["generation"], &changed["spec"]["replicas"]), (&json!(2), &json!(3)));
    assert_ne!(changed["status"]["replicas"], 9);
    let other = json!({"spec": {"replicas": 5}, "status": {"replicas": 3, "observedGeneration": 2}});
    let status = patch(format!("{path}/status"), other).await;
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["metadata"]["generation"], 2);
    assert_eq!(get(&server, &format!("{path}/status")).await, status);
}

//
#[tokio::test]
async fn a_scale_is_read_and_written() {
    let server = server().await;
    post(&server, DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = get(&server, &path).await;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("app=web")));
    let patched = ask("PATCH", &path).patch(MERGE, &json!({"spec": {"replicas": 4}})).of(&server).await;
    assert_eq!((patched.code, &patched.json()["spec"]["replicas"]), (StatusCode::OK, &json!(4)));
    let mut stale = scale;
    stale["spec"]["replicas"] = json!(1);
    assert_eq!(ask("PUT", &path).json(&stale).of(&server).await.code, StatusCode::CONFLICT);
    let negative = ask("PATCH", &path).patch(MERGE, &json!({"spec": {"replicas": -1}})).of(&server).await;
    assert_eq!(negative.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(get(&server, &format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"], 4);
}

//
#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await;
    let bound = bind(&server, "a", "node-1").await;
    assert_eq!((bound.code, &bound.json()["status"]), (StatusCode::CREATED, &json!("Success")));
    let object = get(&server, &format!("{PODS}/a")).await;
    assert_eq!(object["spec"]["nodeName"], "node-1");
    let scheduled = object["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PodScheduled");
    assert_eq!(scheduled.unwrap()["status"], "True");
    let again = bind(&server, "a", "node-2").await;
    assert_eq!((again.code, &again.json()["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let list = get(&server, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(bind(&server, "none", "node-1").await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn pods_on_a_node_end_gracefully_and_others_at_once() {
    let server = server().await;
    for name in ["placed", "waiting"] {
        post(&server, PODS, &pod(name)).await;
    }
    bind(&server, "placed", "node-1").await;
    let gone = ask("DELETE", &format!("{PODS}/waiting")).of(&server).await;
    assert_eq!((gone.code, &gone.json()["kind"]), (StatusCode::OK, &json!("Pod")));
    assert_eq!(ask("GET", &format!("{PODS}/waiting")).of(&server).await.code, StatusCode::NOT_FOUND);

    let path = format!("{PODS}/placed");
    let before = get(&server, &path).await;
    let ending = ask("DELETE", &path).of(&server).await.json();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&ending), generation(&before) + 1);
    let longer = ask("DELETE", &path).json(&json!({"gracePeriodSeconds": 60})).of(&server).await.json();
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = ask("DELETE", &path).json(&json!({"gracePeriodSeconds": 5})).of(&server).await.json();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < ending["metadata"]["deletionTimestamp"].as_str());
    // The node's agent confirms that nothing runs any more.
    ask("DELETE", &path).json(&json!({"gracePeriodSeconds": 0})).of(&server).await;
    assert_eq!(ask("GET", &path).of(&server).await.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn an_eviction_deletes() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await;
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a", "creationTimestamp": null}});
    let path = format!("{PODS}/a/eviction");
    let dry = ask("POST", &format!("{path}?dryRun=All")).json(&eviction).of(&server).await;
    assert_eq!(dry.code, StatusCode::CREATED, "{}", dry.text);
    assert_eq!(ask("GET", &format!("{PODS}/a")).of(&server).await.code, StatusCode::OK);
    let evicted = ask("POST", &path).json(&eviction).of(&server).await;
    assert_eq!((evicted.code, &evicted.json()["status"]), (StatusCode::CREATED, &json!("Success")));
    assert_eq!(ask("GET", &format!("{PODS}/a")).of(&server).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pod_says_that_it_was_evicted() {
    let server = server().await;
    let mut pod = pod("a");
    pod["metadata"]["finalizers"] = json!(["example.com/looks-first"]);
    let made = post(&server, PODS, &pod).await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let evict = async |version: &str| {
        let options = json!({"preconditions": {"resourceVersion": version}});
        ask("POST", &format!("{PODS}/a/eviction")).json(&json!({"deleteOptions": options})).of(&server).await
    };
    let stale = evict("1").await;
    assert_eq!(stale.code, StatusCode::CONFLICT, "{}", stale.text);
    let kept = ask("GET", &format!("{PODS}/a")).of(&server).await.json();
    assert_eq!(version(&kept), version(&made), "a refused eviction writes nothing");
    let evicted = evict(&version(&made)).await;
    assert_eq!(evicted.code, StatusCode::CREATED, "{}", evicted.text);
    let going = ask("GET", &format!("{PODS}/a")).of(&server).await.json();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|known| known["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

/// An agent that says what it was asked.
#[derive(Default)]
struct Agent {
    asked: Mutex<Vec<LogRequest>>,
}

#[async_trait]
impl NodeService for Agent {
    async fn logs(&self, request: LogRequest) -> Result<LogStream, ApiError> {
        self.asked.lock().unwrap().push(request);
        let lines = [Ok(Bytes::from_static(b"one\n")), Ok(Bytes::from_static(b"two\n"))];
        Ok(futures::stream::iter(lines).boxed())
    }

    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn StreamSession>, ApiError> {
        Err(ApiError::BadRequest(format!("asked for {:?}", request.kind)))
    }
}

//
#[tokio::test]
async fn what_stands_against_a_stream_is_said_before_the_upgrade() {
    let server = server().await;
    server.set_node_service(Arc::new(Agent::default()));
    post(&server, PODS, &pod("a")).await;
    let refused = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = ask(method, path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.of(&server).await;
        assert_eq!(answer.json()["kind"], "Status", "{path}");
        (answer.code.as_u16(), answer.json()["message"].as_str().unwrap().to_owned())
    };
    let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4.channel.k8s.io")];
    let old = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v2.channel.k8s.io")];
    for (method, path, headers, code, expected) in [
        ("POST", "a/exec?command=ls&stdout=true", &[][..], 400, "Upgrade request required"),
        ("GET", "a/portforward?ports=80", &[], 400, "Upgrade request required"),
        ("POST", "b/exec?command=ls&stdout=true", &spdy, 404, "pods \"b\" not found"),
        ("POST", "a/exec?stdout=true", &spdy, 400, "at least one command"),
        ("POST", "a/exec?command=ls", &spdy, 400, "at least 1 of stdin, stdout, stderr"),
        ("POST", "a/exec?command=ls&stdout=true&container=x", &spdy, 400, "container x is not valid for pod a"),
        (
            "POST",
            "a/exec?command=ls&stdout=true",
            &old,
            400,
            "the server speaks [v5.channel.k8s.io, v4.channel.k8s.io]",
        ),
        ("POST", "a/portforward", &spdy, 400, "the server speaks [portforward.k8s.io]"),
        // As an HTTP/2 stream, a client in memory has no connection of its own.
        ("POST", "a/exec?command=ls&stdout=true", &spdy, 400, "cannot be upgraded"),
        ("DELETE", "a/exec", &spdy, 405, "not supported"),
    ] {
        let (got, message) = refused(method, &format!("{PODS}/{path}"), headers).await;
        assert!(got == code && message.contains(expected), "{path}: {got} {message}");
    }
}

//
#[tokio::test]
async fn logs_come_from_the_agent_as_text() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await;
    bind(&server, "a", "node-1").await;
    let path = format!("{PODS}/a/log?container=main&tailLines=5&follow=true");
    let early = ask("GET", &path).of(&server).await;
    assert_eq!(early.code, StatusCode::BAD_REQUEST);
    assert!(early.json()["message"].as_str().unwrap().contains("is waiting to start"), "{}", early.text);
    let container = json!({
        "name": "main", "image": "minisvc/pause", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    });
    let status = set_status(&server, "a", json!({"phase": "Running", "containerStatuses": [container]})).await;
    assert_eq!(status.code, StatusCode::OK, "{}", status.text);
    let nobody = ask("GET", &path).of(&server).await;
    assert_eq!(nobody.code, StatusCode::SERVICE_UNAVAILABLE);
    let agent = Arc::new(Agent::default());
    server.set_node_service(agent.clone());
    let answer = ask("GET", &path).accept("application/json").of(&server).await;
    assert_eq!((answer.code, answer.text.as_str()), (StatusCode::OK, "one\ntwo\n"));
    assert!(answer.header("content-type").starts_with("text/plain"));
    let asked = agent.asked.lock().unwrap().pop().unwrap();
    assert_eq!((asked.pod.as_str(), asked.container.as_str()), ("a", "main"));
    assert_eq!((asked.tail_lines, asked.follow), (Some(5), true));
}

//
#[tokio::test]
async fn tokens_are_issued_for_accounts_that_exist() {
    let server = server().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    post(&server, accounts, &json!({"metadata": {"name": "robot"}})).await;
    let request = json!({"spec": {"expirationSeconds": 600, "audiences": []}});
    let answer = ask("POST", &format!("{accounts}/robot/token")).json(&request).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    let status = &answer.json()["status"];
    assert_eq!(status["token"].as_str().unwrap().split('.').count(), 3);
    assert!(status["expirationTimestamp"].is_string());
    let short = json!({"spec": {"expirationSeconds": 1, "audiences": []}});
    let refused = ask("POST", &format!("{accounts}/robot/token")).json(&short).of(&server).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    let nobody = ask("POST", &format!("{accounts}/nobody/token")).json(&request).of(&server).await;
    assert_eq!(nobody.code, StatusCode::NOT_FOUND);
}

//
#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let server = server().await;
    let old = json!({
        "metadata": {"name": "e1"}, "reason": "Started", "type": "Normal", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
    });
    post(&server, "/api/v1/namespaces/default/events", &old).await;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = get(&server, &format!("{path}/e1")).await;
    assert_eq!((&event["apiVersion"], &event["regarding"]["name"]), (&json!("events.k8s.io/v1"), &json!("a")));
    assert_eq!(event["note"], "m");
    let found = get(&server, &format!("{path}?fieldSelector=regarding.name%3Da")).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert!(found["items"][0].get("kind").is_none());
    let other = get(&server, &format!("{path}?fieldSelector=regarding.name%3Db")).await;
    assert_eq!(other["items"].as_array().unwrap().len(), 0);
    let described = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da,involvedObject.kind%3DPod";
    assert_eq!(get(&server, described).await["items"].as_array().unwrap().len(), 1);
}

//
#[tokio::test]
async fn a_lease_is_taken_over_only_knowingly() {
    let server = server().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = post(&server, leases, &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).await;
    let blind = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "b"}});
    let refused = ask("PUT", &format!("{leases}/l")).json(&blind).of(&server).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text.contains("must be specified for an update"), "{}", refused.text);
    let mut knowing = lease.clone();
    knowing["spec"]["holderIdentity"] = json!("b");
    assert_eq!(ask("PUT", &format!("{leases}/l")).json(&knowing).of(&server).await.code, StatusCode::OK);
    let late = ask("PUT", &format!("{leases}/l")).json(&lease).of(&server).await;
    assert_eq!((late.code, &late.json()["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
}

//
#[tokio::test]
async fn what_is_not_allowed_is_said_in_full() {
    let server = server().await;
    let account = minisvc_apiserver::Identity::new("system:serviceaccount:default:robot", &["system:serviceaccounts"]);
    let refused = ask("GET", &format!("{PODS}/a")).identity(account.clone()).of(&server).await;
    assert_eq!((refused.code, &refused.json()["reason"]), (StatusCode::FORBIDDEN, &json!("Forbidden")));
    assert_eq!(
        refused.json()["message"],
        "pods \"a\" is forbidden: User \"system:serviceaccount:default:robot\" cannot get resource \"pods\" in API group \
         \"\" in the namespace \"default\""
    );
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let answer = ask("POST", review).identity(account).json(&question).of(&server).await;
    assert_eq!(answer.json()["status"]["allowed"], false);
}

//
#[tokio::test]
async fn whoever_may_ask_learns_what_others_may_do() {
    let server = server().await;
    let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let question = |who: Value| {
        let mut spec = json!({"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}});
        spec.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let mut ids = Vec::new();
    for (who, allowed) in [
        (json!({"user": "jane", "groups": ["system:masters"]}), true),
        (json!({"user": "jane"}), false),
        (json!({"groups": ["system:authenticated"]}), false),
    ] {
        let answer = ask("POST", review).json(&question(who.clone())).of(&server).await;
        assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (StatusCode::CREATED, &json!(allowed)), "{who}");
        ids.push(answer.header("audit-id").to_owned());
    }
    assert!(ids.iter().all(|id| id.len() == 36) && ids[0] != ids[1], "every answer has its own name");
    let nobody = ask("POST", review).json(&question(json!({}))).of(&server).await;
    assert_eq!(nobody.code, StatusCode::UNPROCESSABLE_ENTITY);
    let account = minisvc_apiserver::Identity::new("system:serviceaccount:default:robot", &["system:serviceaccounts"]);
    let refused = ask("POST", review).identity(account).json(&question(json!({"user": "jane"}))).of(&server).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
}

//
#[tokio::test]
async fn pods_take_no_further_containers_and_say_why() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await;
    let path = format!("{PODS}/a/ephemeralcontainers");
    let answer = ask("PATCH", &path).patch("application/strategic-merge-patch+json", &json!({})).of(&server).await;
    let status = answer.json();
    assert_eq!((answer.code, &status["reason"]), (StatusCode::NOT_FOUND, &json!("NotFound")));
    // kubectl looks whether they name something, and needs them for that.
    assert_eq!(status["details"], json!({"kind": "pods"}));
    assert!(status["message"].as_str().unwrap().contains("kubectl exec"), "{}", answer.text);
    assert_eq!(ask("GET", &format!("{PODS}/a/resize")).of(&server).await.text, "404 page not found\n");
}
