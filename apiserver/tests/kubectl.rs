//! kubectl against the server over TLS, with nothing else running: no controllers, no pods.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::process::{Output, Stdio};

use common::DEADLINE;
use minisvc_apiserver::{ApiServer, Extension, ExtensionResource, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const WEB: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {greeting: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: minisvc/echo, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

/// A server with a socket, and kubectl set up for it. The directory goes, and the socket with it, when this is dropped.
struct Lab {
    directory: TempDir,
    shutdown: CancellationToken,
    server: ApiServer,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// None where there is no kubectl; in CI that is a failure.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was left out")]
async fn lab() -> Option<Lab> {
    if Command::new("kubectl").args(["version", "--client"]).output().await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "kubectl is missing");
        eprintln!("skipped, because there is no kubectl");
        return None;
    }
    let server = ApiServer::open(Options::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), server.ca().kubeconfig(&url, "lab")).unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve_tls(listener, shutdown).await.unwrap() }
    });
    Some(Lab { directory, shutdown, server })
}

impl Lab {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.path("config"))
            .env("EDITOR", "sed -i s/hello/edited/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str, input: &str) -> Output {
        let mut child = self.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may be gone before this is written.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(2 * DEADLINE, child.wait_with_output()).await;
        output.unwrap_or_else(|_| panic!("kubectl {line} does not end")).unwrap()
    }

    /// What a command prints that must succeed.
    async fn ok(&self, line: &str) -> String {
        self.ok_with(line, "").await
    }

    async fn ok_with(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {line}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command complains of that must fail.
    async fn fails(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input).await;
        assert!(!output.status.success(), "kubectl {line} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json")).await).unwrap()
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

// A-016, A-018, A-020, A-021, A-155
#[tokio::test]
async fn kubectl_finds_out_what_there_is() {
    let Some(lab) = lab().await else { return };
    assert!(lab.ok("version").await.contains("Server Version: v1.36.0"));
    let resources = lab.ok("api-resources").await;
    for name in ["configmaps", "services", "deployments", "endpointslices", "leases"] {
        assert!(resources.contains(name), "{name} in {resources}");
    }
    assert!(lab.ok("get all").await.contains("service/kubernetes"));
    assert_eq!(lab.ok("auth can-i create pods").await.trim(), "yes");
    assert!(lab.ok("auth whoami").await.contains("kubernetes-admin"));
    assert!(lab.ok("explain service.spec.clusterIP").await.contains("clusterIP"));
    assert!(lab.ok("cluster-info").await.contains("is running at"));
}

// A-029, A-063, A-056
#[tokio::test]
async fn kubectl_applies() {
    let Some(lab) = lab().await else { return };
    let created = lab.ok_with("apply -f -", WEB).await;
    assert_eq!(lines(&created), ["configmap/web created", "deployment.apps/web created", "service/web created"]);
    let same = lab.ok_with("apply -f -", WEB).await;
    assert_eq!(lines(&same), ["configmap/web unchanged", "deployment.apps/web unchanged", "service/web unchanged"]);
    let changed = WEB.replace("replicas: 3", "replicas: 5").replace("greeting: hello", "farewell: bye");
    let configured = lab.ok_with("apply -f -", &changed).await;
    assert_eq!(
        lines(&configured),
        ["configmap/web configured", "deployment.apps/web configured", "service/web unchanged"]
    );
    assert_eq!(lab.json("get configmap web").await["data"], json!({"farewell": "bye"}));
    assert_eq!(lab.json("get deployment web").await["spec"]["replicas"], 5);
    let dry = lab.ok_with("apply --dry-run=server -f -", WEB).await;
    assert!(dry.contains("deployment.apps/web configured (server dry run)"), "{dry}");
    assert_eq!(lab.json("get deployment web").await["spec"]["replicas"], 5);
    let typo = lab.fails("apply -f -", &WEB.replace("targetPort", "targetPrt")).await;
    assert!(typo.contains("unknown field \"spec.ports[0].targetPrt\""), "{typo}");
}

// A-024, A-139
#[tokio::test]
async fn kubectl_finds_the_preferred_kind_and_passes_raw_requests() {
    let Some(lab) = lab().await else { return };
    let event = "{\"involvedObject\":{\"kind\":\"Pod\",\"name\":\"p\",\"namespace\":\"default\"},\"metadata\":{\"name\":\"e\"},\"reason\":\"R\"}";
    let path = "/api/v1/namespaces/default";
    let made: Value =
        serde_json::from_str(&lab.ok_with(&format!("create --raw {path}/events -f -"), event).await).unwrap();
    assert_eq!((&made["kind"], &made["reason"]), (&json!("Event"), &json!("R")));
    assert_eq!(lab.json("get events e").await["apiVersion"], "v1");
    assert_eq!(lab.json("get events.events.k8s.io e").await["apiVersion"], "events.k8s.io/v1");
    let raw: Value = serde_json::from_str(&lab.ok(&format!("get --raw {path}/events/e")).await).unwrap();
    assert_eq!(raw["metadata"]["uid"], made["metadata"]["uid"]);
    lab.ok(&format!("delete --raw {path}/events/e")).await;
    assert!(lab.fails(&format!("get --raw {path}/events/e"), "").await.contains("NotFound"));
    // The proxy passes requests on, with the credentials of its kubeconfig.
    let mut proxy = lab.command("proxy --port=0").spawn().unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!("GET {path}/services/kubernetes HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"kind\":\"Service\""), "{answer}");
    proxy.kill().await.unwrap();
}

// A-027, A-125
#[tokio::test]
async fn kubectl_finds_a_kind_that_came_after_its_cache() {
    let Some(lab) = lab().await else { return };
    // The cache is filled by this.
    lab.ok("get services").await;
    let missing = lab.fails("get stones", "").await;
    assert!(missing.contains("doesn't have a resource type \"stones\""), "{missing}");
    let list = r#"{"kind":"StoneList","apiVersion":"rock.example/v1","metadata":{},"items":[{"kind":"Stone","apiVersion":"rock.example/v1","metadata":{"name":"pebble","creationTimestamp":"2026-01-01T00:00:00Z"}}]}"#;
    let answer = move || async move { ([(http::header::CONTENT_TYPE, "application/json")], list) };
    let stones = ExtensionResource {
        plural: "stones",
        singular: "stone",
        kind: "Stone",
        short_names: &[],
        namespaced: false,
        verbs: &["get", "list"],
    };
    let router = axum::Router::new().route("/apis/rock.example/v1/stones", axum::routing::get(answer));
    lab.server.set_extension(Extension { group: "rock.example", version: "v1", resources: vec![stones], router });
    // A list that is no Table is shown with name and age alone, wide or not.
    for line in ["get stones", "get stones -o wide"] {
        let table = lab.ok(line).await;
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((words[0].as_slice(), words[1][0], words[1].len()), (&["NAME", "AGE"][..], "pebble", 2), "{table}");
    }
}

// A-159, S-016
#[tokio::test]
async fn kubectl_describes() {
    let Some(lab) = lab().await else { return };
    let objects = r#"
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {kubernetes.io/hostname: node-a}}
spec: {podCIDR: 10.244.0.0/24}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.7], conditions: {ready: true}}]
ports: [{name: "", port: 8080, protocol: TCP}]
---
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec: {limits: [{type: Pod, max: {cpu: "2"}}]}
"#;
    lab.ok_with("create -f -", objects).await;
    let status = r#"{"status":{"phase":"Running","podIP":"10.244.0.7","podIPs":[{"ip":"10.244.0.7"}],"hostIP":"10.95.0.11","startTime":"2026-01-01T00:00:00Z","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","image":"i","imageID":"","ready":true,"restartCount":3,"state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}}"#;
    std::fs::write(lab.path("status"), status).unwrap();
    lab.ok(&format!("patch pod p --subresource=status --type=merge --patch-file={}", lab.path("status"))).await;
    // Events are of one object, not of all that were ever called like it.
    for (kind, name, message) in [("Pod", "p", "seen by describe"), ("Service", "s", "of the service")] {
        let object = lab.json(&format!("get {kind} {name}")).await;
        let involved = json!({"kind": kind, "name": name, "namespace": "default", "uid": object["metadata"]["uid"]});
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
            "involvedObject": involved, "reason": "Noticed", "message": message,
        });
        lab.ok_with("create -f -", &event.to_string()).await;
    }
    let has = |text: &str, wanted: &[&str]| {
        for word in wanted {
            assert!(text.contains(word), "{word} in {text}");
        }
    };
    let pod = lab.ok("describe pod p").await;
    has(
        &pod,
        &[
            "Status:           Running",
            "10.244.0.7",
            "node-a/10.95.0.11",
            "Restart Count:  3",
            "BestEffort",
            "seen by describe",
        ],
    );
    let node = lab.ok("describe node node-a").await;
    has(&node, &["Non-terminated Pods:", "default                     p", "PodCIDR:", "Lease:"]);
    has(&lab.ok("describe namespace default").await, &["Status:       Active", "Pod"]);
    let service = lab.ok("describe service s").await;
    has(&service, &["TargetPort:", "10.244.0.7:8080", "of the service"]);
    assert_eq!(lab.ok("expose pod p --port=80 --name=x").await.trim(), "service/x exposed");
}

// A-006, A-155
#[tokio::test]
async fn kubectl_asks_and_writes_who_may_what() {
    let Some(lab) = lab().await else { return };
    let roles = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules:
- {apiGroups: [\"\"], resources: [pods, pods/log], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}
";
    let reconciled = lab.ok_with("auth reconcile -f -", roles).await;
    assert!(reconciled.contains("role.rbac.authorization.k8s.io/reader reconciled"), "{reconciled}");
    let more = roles.replace("[get, list]", "[get, list, watch]").replace("name: jane}", "name: joan}");
    lab.ok_with("auth reconcile -f -", &more).await;
    let subjects = lab.json("get rolebinding reader").await["subjects"].clone();
    assert_eq!(subjects.as_array().map(Vec::len), Some(2), "{subjects}");
    for name in ["jane", "joan"] {
        assert_eq!(lab.ok(&format!("auth can-i watch pods --as={name}")).await.trim(), "yes");
    }
    let no = lab.run("auth can-i delete pods --as=jane", "").await;
    assert_eq!((no.status.code(), String::from_utf8(no.stdout).unwrap().trim()), (Some(1), "no"));
    let list = lab.ok("auth can-i --list --as=jane").await;
    assert!(list.contains("pods/log") && list.contains("[get list watch]") && list.contains("/api/*"), "{list}");
    assert!(lab.ok("auth can-i --list").await.contains("*.*"));
    let who = lab.ok("auth whoami --as=jane --as-group=dev --as-uid=7").await;
    assert!(who.contains("jane") && who.contains("[dev system:authenticated]") && who.contains('7'), "{who}");
    let refused = lab.fails("get secrets --as=jane", "").await;
    let why = "User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(why), "{refused}");
    assert!(lab.ok("get pods --as=jane").await.is_empty());
    let made = lab.ok("create role r --verb=get --resource=pods --resource-name=a").await;
    assert!(made.contains("created"), "{made}");
    lab.ok("create rolebinding b --role=r --serviceaccount=default:robot").await;
    lab.ok("create clusterrole c --verb=get --non-resource-url=/metrics").await;
    lab.ok("create clusterrolebinding d --clusterrole=c --user=jane").await;
    assert!(lab.ok("get --raw /metrics --as=jane").await.contains("apiserver_request_total"));
}

// A-077, A-079, A-080, A-081
#[tokio::test]
async fn kubectl_applies_on_the_server() {
    let Some(lab) = lab().await else { return };
    lab.ok_with("apply -f -", WEB).await;
    let applied = lab.ok_with("apply --server-side -f -", WEB).await;
    let names = ["configmap/web", "deployment.apps/web", "service/web"];
    assert_eq!(lines(&applied), names.map(|name| format!("{name} serverside-applied")));
    lab.ok("scale deployment web --replicas=7").await;
    let conflict = lab.fails("apply --server-side -f -", WEB).await;
    assert!(conflict.contains(".spec.replicas"), "{conflict}");
    lab.ok_with("apply --server-side --force-conflicts -f -", WEB).await;
    assert_eq!(lab.json("get deployment web").await["spec"]["replicas"], 3);
}

// A-038, A-065, A-134: from 1.32 on these send protobuf
#[tokio::test]
async fn kubectl_creates_by_kind() {
    let Some(lab) = lab().await else { return };
    let created = [
        ("create namespace blue", "namespace/blue created"),
        ("create configmap c --from-literal=k=v", "configmap/c created"),
        ("create secret generic s --from-literal=k=v", "secret/s created"),
        ("create serviceaccount robot", "serviceaccount/robot created"),
        ("create deployment d --image=minisvc/echo --replicas=2", "deployment.apps/d created"),
        ("create service clusterip v --tcp=80:8080", "service/v created"),
        ("create service nodeport n --tcp=80:8080", "service/n created"),
        ("run p --image=minisvc/pause", "pod/p created"),
        ("expose deployment d --port=80 --target-port=8080 --name=e", "service/e exposed"),
    ];
    for (line, expected) in created {
        assert_eq!(lab.ok(line).await.trim(), expected, "{line}");
    }
    assert_eq!(lab.json("get secret s").await["data"]["k"], "dg==");
    assert_eq!(lab.ok("create token robot").await.trim().split('.').count(), 3);
    let again = lab.fails("create configmap c", "").await;
    assert!(again.contains("configmaps \"c\" already exists"), "{again}");
    let big = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Big}\n";
    let invalid = lab.fails("create -f -", big).await;
    assert!(invalid.contains("The ConfigMap \"Big\" is invalid: metadata.name: Invalid value: \"Big\""), "{invalid}");
    let created = lab.ok_with("create -f -", &WEB.replace("name: web", "name: other")).await;
    assert_eq!(lines(&created).len(), 3);
}

// A-068, A-069, A-131
#[tokio::test]
async fn kubectl_changes() {
    let Some(lab) = lab().await else { return };
    lab.ok_with("apply -f -", WEB).await;
    lab.ok("label configmap web tier=front").await;
    lab.ok("annotate configmap web note=x").await;
    lab.ok("patch configmap web --type=merge -p {\"data\":{\"m\":\"1\"}}").await;
    lab.ok("patch configmap web --type=json -p [{\"op\":\"add\",\"path\":\"/data/j\",\"value\":\"2\"}]").await;
    lab.ok("patch configmap web -p {\"data\":{\"s\":\"3\"}}").await;
    assert!(lab.ok("edit configmap web").await.contains("configmap/web edited"));
    let object = lab.json("get configmap web").await;
    assert_eq!(object["data"], json!({"greeting": "edited", "m": "1", "j": "2", "s": "3"}));
    assert_eq!(object["metadata"]["labels"], json!({"tier": "front"}));
    lab.ok("scale deployment web --current-replicas=3 --replicas=4").await;
    lab.ok("set image deployment/web web=minisvc/other").await;
    lab.ok("set env deployment/web A=b").await;
    lab.ok("rollout restart deployment/web").await;
    let spec = &lab.json("get deployment web").await["spec"];
    assert_eq!(spec["replicas"], 4);
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"]),
        (&json!("minisvc/other"), &json!([{"name": "A", "value": "b"}]))
    );
    let replacement = lab.ok("get configmap web -o yaml").await.replace("edited", "replaced");
    assert!(lab.ok_with("replace -f -", &replacement).await.contains("configmap/web replaced"));
    lab.ok("label namespace default x=y").await;
}

// A-123, A-124, A-126, A-084, A-085
#[tokio::test]
async fn kubectl_shows_and_deletes() {
    let Some(lab) = lab().await else { return };
    lab.ok_with("apply -f -", WEB).await;
    let table = lab.ok("get services web").await;
    let heading: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert!(lab.ok("get svc web -o wide").await.contains("SELECTOR"));
    assert!(lab.ok("get svc -A").await.starts_with("NAMESPACE"));
    assert!(lab.ok("get svc --show-labels").await.contains("component=apiserver"));
    assert_eq!(lab.ok("get svc web -o name").await.trim(), "service/web");
    assert!(lab.ok("get svc --sort-by=.metadata.name").await.contains("web"));
    assert_eq!(lab.ok("get cm web -o jsonpath={.data.greeting}").await, "hello");
    assert!(lab.ok("describe service web").await.contains("TargetPort:"));
    assert!(lab.ok("describe deployment web").await.contains("Replicas:"));
    assert!(lab.ok("describe namespace default").await.contains("Active"));
    lab.ok("events").await;
    let deleted = lab.ok("delete configmap/web service/web").await;
    assert!(deleted.contains("configmap \"web\" deleted") && deleted.contains("service \"web\" deleted"), "{deleted}");
    assert!(lab.fails("get configmap web", "").await.contains("configmaps \"web\" not found"));
    lab.ok("delete configmap web --ignore-not-found").await;
    lab.ok("create configmap a").await;
    lab.ok("delete configmap a --dry-run=server").await;
    lab.ok("get configmap a").await;
    lab.ok("delete deployments --all").await;
    assert_eq!(lab.ok("get deployments -o name").await, "");
    lab.ok("run p --image=minisvc/pause").await;
    lab.ok("delete pod p --now").await;
}

// A-105, A-106, A-113, A-160, A-087
#[tokio::test]
async fn kubectl_watches_and_waits() {
    let Some(lab) = lab().await else { return };
    lab.ok("create configmap a").await;
    let mut child = lab.command("get configmaps -w --output-watch-events").spawn().unwrap();
    let mut rows = BufReader::new(child.stdout.take().unwrap()).lines();
    let row = tokio::time::timeout(DEADLINE, rows.next_line()).await.unwrap().unwrap().unwrap();
    assert!(row.starts_with("EVENT"), "{row}");
    lab.ok("create configmap b").await;
    lab.ok("delete configmap b").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let row = tokio::time::timeout(DEADLINE, rows.next_line()).await.expect("a row in time").unwrap().unwrap();
        seen.push(row.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(seen, ["ADDED a", "ADDED b", "DELETED b"]);
    child.kill().await.unwrap();
    lab.ok("patch configmap a -p {\"metadata\":{\"finalizers\":[\"x.example/hold\"]}}").await;
    let waiting = lab.run("delete configmap a", "");
    let releasing = async {
        lab.ok("wait configmap/a --for=jsonpath={.metadata.deletionTimestamp} --timeout=30s").await;
        lab.ok("patch configmap a --type=merge -p {\"metadata\":{\"finalizers\":null}}").await;
    };
    let (deleted, ()) = tokio::join!(waiting, releasing);
    assert!(deleted.status.success());
}
