//! `apply` on both sides, `diff` and `--prune`.

use serde_json::json;

use crate::kubectl::Kubectl;

const WEB: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: web, labels: {app: web}}
data: {greeting: hello, other: same}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: minisvc/echo, ports: [{containerPort: 8080}], resources: {limits: {cpu: 250m, memory: 64Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]
";

const NAMES: [&str; 3] = ["configmap/web", "deployment.apps/web", "service/web"];

fn each(text: &str, verb: &str) {
    let expected = NAMES.map(|name| format!("{name} {verb}"));
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

pub(crate) fn run(kubectl: &Kubectl<'_>) {
    each(&kubectl.ok_with("apply --dry-run=server -f -", WEB), "created (server dry run)");
    each(&kubectl.ok_with("apply -f -", WEB), "created");
    each(&kubectl.ok_with("apply -f -", WEB), "unchanged");
    let changed = WEB.replace("greeting: hello", "farewell: bye").replace("port: 53,", "port: 54,");
    let told = kubectl.ok_with("apply -f -", &changed);
    let expected = ["configmap/web configured", "deployment.apps/web unchanged", "service/web configured"];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{}", kubectl.name());
    assert_eq!(kubectl.json("get configmap web")["data"], json!({"farewell": "bye", "other": "same"}));
    let ports = &kubectl.json("get service web")["spec"]["ports"];
    assert_eq!((&ports[1]["port"], ports.as_array().map(Vec::len)), (&json!(54), Some(2)), "{}", kubectl.name());
    let typo = kubectl.fails("apply -f -", &WEB.replace("targetPort", "targetPrt"));
    assert!(typo.contains("unknown field") && typo.contains("targetPrt"), "{}: {typo}", kubectl.name());
    on_the_server(kubectl, &changed);
}

fn on_the_server(kubectl: &Kubectl<'_>, applied: &str) {
    // What was applied by the client becomes the server's with the first time, and can be changed from then on.
    each(&kubectl.ok_with("apply --server-side -f -", applied), "serverside-applied");
    each(
        &kubectl.ok_with("apply --server-side -f -", &WEB.replace("replicas: 0", "replicas: 1")),
        "serverside-applied",
    );
    let conflict = kubectl.fails("apply --server-side --field-manager=other -f -", WEB);
    assert!(
        conflict.contains("conflict with \"kubectl\"") && conflict.contains(".spec.replicas"),
        "{}: {conflict}",
        kubectl.name()
    );
    assert_eq!(kubectl.json("get deployment web")["spec"]["replicas"], 1);
    kubectl.ok_with("apply --server-side --force-conflicts --field-manager=other -f -", WEB);
    let object: serde_json::Value = kubectl.json("get deployment web --show-managed-fields");
    assert_eq!(object["spec"]["replicas"], 0);
    let managers = object["metadata"]["managedFields"].as_array().expect("a list");
    assert!(managers.iter().any(|entry| entry["manager"] == "other" && entry["operation"] == "Apply"), "{managers:?}");
    // What nobody else owns goes with its manager's wish.
    let less = WEB.split("---").next().expect("one").replace(", other: same", "");
    kubectl.ok_with("create -f -", &less.replace("name: web", "name: alone"));
    kubectl.ok_with("apply --server-side --field-manager=a -f -", &less.replace("name: web", "name: applied"));
    let nothing = less.replace("name: web", "name: applied").replace("greeting: hello", "");
    kubectl.ok_with("apply --server-side --field-manager=a -f -", &nothing);
    assert_eq!(kubectl.json("get configmap applied").get("data"), None, "{}", kubectl.name());
}

pub(crate) fn prune_and_diff(kubectl: &Kubectl<'_>) {
    let missing = kubectl.line("diff -f -", WEB);
    assert_eq!(missing.status.code(), Some(1), "absent objects differ");
    assert_eq!(kubectl.ok("get configmap web --ignore-not-found"), "", "and are not made");
    kubectl.ok_with("apply -f -", WEB);
    assert_eq!(kubectl.line("diff -f -", WEB).status.code(), Some(0));
    let changed = WEB.replace("hello", "bye");
    for side in ["", "--server-side --force-conflicts"] {
        let differing = kubectl.line(&format!("diff {side} -f -"), &changed);
        let told = String::from_utf8_lossy(&differing.stdout).into_owned();
        assert_eq!(differing.status.code(), Some(1), "{told}");
        assert!(told.contains("-  greeting: hello") && told.contains("+  greeting: bye"), "{told}");
    }
    let one = WEB.split("---").next().expect("one");
    let listed = kubectl.ok_with("apply --prune -l app=web --prune-allowlist=apps/v1/Deployment -f -", one);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["configmap/web unchanged", "deployment.apps/web pruned"]);
    let all = kubectl.ok_with("apply --prune -l app=web -f -", one);
    assert_eq!(all.lines().collect::<Vec<_>>(), ["configmap/web unchanged", "service/web pruned"]);
    assert!(kubectl.ok("apply view-last-applied configmap/web").contains("greeting: hello"));
    kubectl.file("set.yaml", &one.replace("hello", "set"));
    let told = kubectl.ok("apply set-last-applied -f set.yaml");
    assert_eq!(told.trim(), "configmap/web configured");
    kubectl.file("base/kustomization.yaml", "resources: [map.yaml]\nnamePrefix: k-\n");
    kubectl.file("base/map.yaml", one);
    assert_eq!(kubectl.ok("apply -k base").trim(), "configmap/k-web created");
    assert!(kubectl.ok("kustomize base").contains("name: k-web"));
}
