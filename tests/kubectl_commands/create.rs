//! `create`, with every generator. From 1.32 on they send protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;

/// Generators and what they say; `%` stands for what tells the namespaces apart.
const MADE: [(&str, &str); 22] = [
    ("namespace other-%", "namespace/other-% created"),
    ("configmap c --from-literal=k=v --from-file=greeting.txt", "configmap/c created"),
    ("secret generic s --from-literal=k=v", "secret/s created"),
    ("secret tls t --cert=tls.crt --key=tls.key", "secret/t created"),
    ("secret docker-registry r --docker-username=u --docker-password=p", "secret/r created"),
    ("serviceaccount robot", "serviceaccount/robot created"),
    ("service clusterip v --tcp=80:8080", "service/v created"),
    ("service nodeport n --tcp=80:8080", "service/n created"),
    ("service loadbalancer l --tcp=80:8080", "service/l created"),
    ("service externalname e --external-name=example.com", "service/e created"),
    ("deployment d --image=minisvc/pause --replicas=0 --port=80", "deployment.apps/d created"),
    ("job j --image=minisvc/pause -- sleep 1000", "job.batch/j created"),
    ("cronjob cj --image=minisvc/pause --schedule='0 0 1 1 *' -- true", "cronjob.batch/cj created"),
    ("job from-cj --from=cronjob/cj", "job.batch/from-cj created"),
    ("role reader --verb=get,list --resource=pods,deployments.apps", "role.rbac.authorization.k8s.io/reader created"),
    ("rolebinding rb --role=reader --serviceaccount=default:x", "rolebinding.rbac.authorization.k8s.io/rb created"),
    ("clusterrole cr-% --verb=get --resource=nodes", "clusterrole.rbac.authorization.k8s.io/cr-% created"),
    (
        "clusterrolebinding crb-% --clusterrole=cr-% --user=jane",
        "clusterrolebinding.rbac.authorization.k8s.io/crb-% created",
    ),
    ("quota q --hard=pods=10,services=5", "resourcequota/q created"),
    ("poddisruptionbudget b --selector=app=d --min-available=1", "poddisruptionbudget.policy/b created"),
    ("priorityclass pc-% --value=1000", "priorityclass.scheduling.k8s.io/pc-% created"),
    ("ingress i --rule=example.com/x=v:80", "ingress.networking.k8s.io/i created"),
];

/// Everything that has a generator of its own.
pub(crate) fn run(kubectl: &Kubectl<'_>) {
    tls_files(kubectl);
    kubectl.file("greeting.txt", "hello\n");
    let suffix = kubectl.namespace();
    for (line, expected) in MADE {
        let line = format!("create {}", line.replace('%', suffix));
        assert_eq!(kubectl.ok(&line).trim(), expected.replace('%', suffix), "{}: {line}", kubectl.name());
    }
    let again = kubectl.fails("create configmap c", "");
    assert!(again.contains("configmaps \"c\" already exists"), "{again}");
    let bytes = |text: &str| json!(STANDARD.encode(text));
    let checks: [(&str, &str, Value); 12] = [
        ("configmap c", "/data", json!({"greeting.txt": "hello\n", "k": "v"})),
        ("secret s", "/data/k", bytes("v")),
        ("secret t", "/type", json!("kubernetes.io/tls")),
        ("secret r", "/type", json!("kubernetes.io/dockerconfigjson")),
        ("service n", "/spec/type", json!("NodePort")),
        ("service e", "/spec/externalName", json!("example.com")),
        ("deployment d", "/spec/replicas", json!(0)),
        ("cronjob cj", "/spec/schedule", json!("0 0 1 1 *")),
        ("job from-cj", "/spec/template/spec/containers/0/command", json!(["true"])),
        ("role reader", "/rules/1/apiGroups", json!(["apps"])),
        ("poddisruptionbudget b", "/spec/minAvailable", json!(1)),
        ("ingress i", "/spec/rules/0/http/paths/0/backend/service/port/number", json!(80)),
    ];
    let kinds = checks.iter().map(|(what, ..)| what.replace(' ', "/")).collect::<Vec<_>>().join(" ");
    let objects = kubectl.json(&format!("get {kinds}"));
    for ((what, at, expected), object) in checks.iter().zip(objects["items"].as_array().expect("a list")) {
        assert_eq!(object.pointer(at), Some(expected), "{}: {what}", kubectl.name());
    }
    assert_eq!(kubectl.ok("create token robot").trim().split('.').count(), 3);
    files(kubectl);
    kubectl.ok("delete job,cronjob,deployment --all --wait=false");
    kubectl.ok(&format!("delete namespace other-{suffix} --wait=false"));
}

/// The same without anything being made.
pub(crate) fn dry_runs(kubectl: &Kubectl<'_>) {
    tls_files(kubectl);
    kubectl.file("greeting.txt", "hello\n");
    // One is made from another, and would have to be there.
    for (line, _) in MADE.into_iter().filter(|(line, _)| !line.contains("--from=")) {
        let line = format!("create --dry-run=server {}", line.replace('%', kubectl.namespace()));
        let told = kubectl.ok(&line);
        assert!(told.contains("(server dry run)"), "{line}: {told}");
    }
    let kinds = "service,deployment,job,cronjob,role,rolebinding,resourcequota,pdb,ingress,secret";
    assert_eq!(kubectl.ok(&format!("get {kinds} -o name")), "");
}

/// Objects from files, and what is wrong with them.
fn files(kubectl: &Kubectl<'_>) {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filed}\ndata: {a: b}\n";
    assert_eq!(kubectl.ok_with("create -f -", manifest).trim(), "configmap/filed created");
    let typo = manifest.replace("filed", "typo").replace("\ndata:", "\ndta:");
    let refused = kubectl.fails("create -f -", &typo);
    assert!(refused.contains("unknown field \"dta\""), "{}: {refused}", kubectl.name());
    let warned = kubectl.line("create --validate=warn -f -", &typo);
    let warning = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && warning.contains("unknown field \"dta\""), "{}: {warning}", kubectl.name());
    let invalid = kubectl.fails("create -f -", &manifest.replace("filed", "Filed"));
    assert!(invalid.contains("is invalid: metadata.name: Invalid value: \"Filed\""), "{}: {invalid}", kubectl.name());
    let review = "apiVersion: authorization.k8s.io/v1\nkind: SelfSubjectAccessReview\n\
                  spec: {resourceAttributes: {verb: get, resource: pods}}\n";
    let review = kubectl.ok_with("create -f - -o jsonpath='{.status.allowed}'", review);
    assert_eq!(review, "true", "{}", kubectl.name());
    let custom = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
                  metadata: {name: stones.rock.example}\nspec: {group: rock.example}\n";
    let refused = kubectl.fails("create --validate=false -f -", custom);
    assert!(refused.contains("does not serve custom resources"), "{}: {refused}", kubectl.name());
    assert_eq!(kubectl.ok("get crd -o name"), "");
}

/// A certificate and its key: those that kubectl itself proves who it is with.
fn tls_files(kubectl: &Kubectl<'_>) {
    let user = kubectl.ok("config view --raw -o jsonpath='{.users[0].user}'");
    let user: Value = serde_json::from_str(&user).expect("JSON");
    for (name, key) in [("tls.crt", "client-certificate-data"), ("tls.key", "client-key-data")] {
        let text = STANDARD.decode(user[key].as_str().expect("a text")).expect("base64");
        kubectl.file(name, &String::from_utf8(text).expect("PEM"));
    }
}
