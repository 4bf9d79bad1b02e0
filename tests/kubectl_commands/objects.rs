//! Commands that change objects, whatever their kind, and those that wait and watch.

use serde_json::json;

use crate::common::Beside;
use crate::kubectl::Kubectl;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {app: m}}\ndata: {greeting: hello}\n";

pub(crate) fn run(kubectl: &Kubectl<'_>) {
    kubectl.ok_with("create -f - --save-config", MAP);
    labels(kubectl);
    patches(kubectl);
    edits(kubectl);
    watches(kubectl);
    deletes(kubectl);
    access(kubectl);
}

fn labels(kubectl: &Kubectl<'_>) {
    assert_eq!(kubectl.ok("label configmap m tier=front").trim(), "configmap/m labeled");
    let refused = kubectl.fails("label configmap m tier=back", "");
    assert!(refused.contains("already has a value (front)"), "{refused}");
    let before = kubectl.json("get configmap m")["metadata"]["resourceVersion"].clone();
    assert!(kubectl.ok("label configmap m tier=front").contains("not labeled"));
    assert_eq!(kubectl.json("get configmap m")["metadata"]["resourceVersion"], before, "nothing was written");
    kubectl.ok("label --overwrite configmap m tier=back app-");
    assert_eq!(kubectl.json("get configmap m")["metadata"]["labels"], json!({"tier": "back"}));
    kubectl.ok("annotate configmap -l tier=back note='a b'");
    assert_eq!(kubectl.ok("get configmap m -o jsonpath='{.metadata.annotations.note}'"), "a b");
    kubectl.ok("annotate configmap --all note-");
}

fn patches(kubectl: &Kubectl<'_>) {
    for (kind, patch) in [
        ("strategic", r#"{"data":{"s":"1"}}"#),
        ("merge", r#"{"data":{"m":"2"}}"#),
        ("json", r#"[{"op":"test","path":"/data/s","value":"1"},{"op":"add","path":"/data/j","value":"3"}]"#),
    ] {
        let told = kubectl.ok(&format!("patch configmap m --type={kind} -p '{patch}'"));
        assert_eq!(told.trim(), "configmap/m patched");
    }
    assert_eq!(kubectl.json("get configmap m")["data"], json!({"greeting": "hello", "s": "1", "m": "2", "j": "3"}));
    assert!(kubectl.ok(r#"patch configmap m -p '{"data":{"s":"1"}}'"#).contains("patched (no change)"));
    let failed =
        kubectl.fails(r#"patch configmap m --type=json -p '[{"op":"test","path":"/data/s","value":"0"}]'"#, "");
    assert!(failed.contains("m"), "{failed}");
    kubectl.ok("create deployment idle --image=minisvc/pause --replicas=0");
    kubectl.ok(r#"patch deployment idle --subresource=status --type=merge -p '{"status":{"collisionCount":7}}'"#);
    assert_eq!(kubectl.json("get deployment idle --subresource=status")["status"]["collisionCount"], 7);
    assert_eq!(kubectl.json("get deployment idle --subresource=scale")["kind"], "Scale");
    kubectl.ok("delete deployment idle");
}

fn edits(kubectl: &Kubectl<'_>) {
    let edit = |line: &str, script: &str| {
        let words = shlex::split(line).expect("words");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = kubectl.command(&words).env("EDITOR", script).output().expect("started");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(edit("edit configmap m", "sed -i s/hello/edited/").trim(), "configmap/m edited");
    assert_eq!(kubectl.ok("get configmap m -o jsonpath='{.data.greeting}'"), "edited");
    assert!(edit("edit configmap m", "true").is_empty(), "nothing was changed");
    assert!(edit("edit configmap m -o json", "sed -i s/edited/again/").contains("\"greeting\": \"again\""));
    assert!(edit("apply edit-last-applied configmap/m", "sed -i s/again/applied/").contains("configmap/m edited"));
    let text = kubectl.ok("get configmap m -o yaml");
    assert_eq!(kubectl.ok_with("replace -f -", &text.replace("again", "replaced")).trim(), "configmap/m replaced");
    let stale = kubectl.fails("replace -f -", &text);
    assert!(stale.contains("the object has been modified"), "{stale}");
    let uid = kubectl.json("get configmap m")["metadata"]["uid"].clone();
    assert!(kubectl.ok_with("replace --force -f -", MAP).contains("configmap/m replaced"));
    let object = kubectl.json("get configmap m");
    assert!(object["metadata"]["uid"] != uid && object["data"] == json!({"greeting": "hello"}), "{object}");
}

fn watches(kubectl: &Kubectl<'_>) {
    let mut all = Beside::start(kubectl.command(&["get", "configmaps", "-w", "--output-watch-events"]));
    all.line("what is there", |line| line.starts_with("ADDED") && line.contains(" m "));
    let mut one = Beside::start(kubectl.command(&["get", "configmap", "m", "-w", "-o", "name"]));
    one.line("the object", |line| line == "configmap/m");
    let wait = kubectl.command(&["wait", "configmap/m", "--for=jsonpath={.data.greeting}=bye", "--timeout=60s"]);
    let mut wait = Beside::start(wait);
    kubectl.ok(r#"patch configmap m -p '{"data":{"greeting":"bye"}}'"#);
    all.line("the change", |line| line.starts_with("MODIFIED") && line.contains(" m "));
    one.line("the change", |line| line == "configmap/m");
    wait.line("the end of waiting", |line| line == "configmap/m condition met");
    // Told of nothing that was there before, it may begin to watch after any one change.
    let mut only = Beside::start(kubectl.command(&["get", "configmap", "--watch-only", "-l", "app=m", "-o", "name"]));
    std::thread::scope(|scope| {
        let (done_tx, done_rx) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while let Err(std::sync::mpsc::TryRecvError::Empty) = done_rx.try_recv() {
                kubectl.ok("label --overwrite configmap m seen-");
                kubectl.ok("label --overwrite configmap m seen=1");
            }
        });
        only.line("a change", |line| line == "configmap/m");
        drop(done_tx);
    });
    let late = kubectl.fails("wait configmap/m --for=jsonpath='{.data.greeting}'=never --timeout=1s", "");
    assert!(late.contains("timed out waiting"), "{late}");
    kubectl.ok(r#"patch configmap m -p '{"metadata":{"finalizers":["x.example/hold"]}}'"#);
    let mut gone = Beside::start(kubectl.command(&["wait", "configmap/m", "--for=delete", "--timeout=60s"]));
    let mut deleting = Beside::start(kubectl.command(&["delete", "configmap", "m"]));
    kubectl.ok("wait configmap/m --for=jsonpath='{.metadata.deletionTimestamp}' --timeout=60s");
    kubectl.ok(r#"patch configmap m --type=merge -p '{"metadata":{"finalizers":null}}'"#);
    all.line("the end", |line| line.starts_with("DELETED") && line.contains(" m "));
    gone.line("the end", |line| line.contains("condition met"));
    assert!(deleting.end().success() && gone.end().success());
}

fn deletes(kubectl: &Kubectl<'_>) {
    for name in ["a", "b", "c", "d", "e"] {
        kubectl.ok(&format!("create configmap {name}"));
    }
    kubectl.ok("label configmap b c group=x");
    let dry = kubectl.ok("delete configmap a --dry-run=server");
    assert!(dry.contains("\"a\" deleted") && dry.contains("(server dry run)"), "{dry}");
    kubectl.ok("delete configmap a --dry-run=client");
    kubectl.ok("get configmap a");
    assert!(kubectl.ok("delete configmap a").contains("configmap \"a\" deleted"));
    let absent = kubectl.fails("delete configmap a", "");
    assert!(absent.contains("configmaps \"a\" not found"), "{absent}");
    assert_eq!(kubectl.ok("delete configmap a --ignore-not-found"), "");
    assert_eq!(kubectl.ok("delete configmap -l group=x").lines().count(), 2);
    assert_eq!(kubectl.ok("get configmap -o name -l group=x"), "");
    kubectl.ok("delete configmap --field-selector metadata.name=d");
    kubectl.ok("delete configmap e --cascade=foreground --now");
    kubectl.ok("create deployment owner --image=minisvc/pause --replicas=0");
    kubectl.ok("wait deployment/owner --for=condition=Available --timeout=60s");
    kubectl.ok("delete deployment owner --cascade=orphan");
    assert!(kubectl.ok("get replicaset -o name").contains("replicaset.apps/owner-"), "an orphan stays");
    kubectl.ok("delete replicaset --all");
    kubectl.ok_with("create -f -", MAP);
    kubectl.ok_with("delete -f -", MAP);
    assert!(kubectl.ok("delete configmaps,secrets --all").contains("configmap"));
}

fn access(kubectl: &Kubectl<'_>) {
    assert_eq!(kubectl.ok("auth can-i create pods").trim(), "yes");
    assert_eq!(kubectl.ok("auth can-i get /metrics").trim(), "yes");
    assert!(kubectl.ok("auth can-i --list").contains("*.*"));
    assert!(kubectl.ok("auth whoami").contains("system:masters"));
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: objects}\n\
                rules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]\n";
    kubectl.file("role.yaml", role);
    let told = kubectl.ok("auth reconcile -f role.yaml");
    assert!(told.contains("reconciled"), "{told}");
    kubectl.ok("create rolebinding rb --role=r --user=jane");
    kubectl.ok("set subject rolebinding rb --user=joe");
    assert_eq!(kubectl.json("get rolebinding rb")["subjects"][1]["name"], "joe");
    let unknown = kubectl.fails("certificate approve x", "");
    assert!(unknown.contains("certificatesigningrequests") || unknown.contains("doesn't have a resource"), "{unknown}");
}
