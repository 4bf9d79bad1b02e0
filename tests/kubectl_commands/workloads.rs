//! Commands about workloads: run, expose, scale, set, rollout, autoscale, and what waits for pods.

use serde_json::json;

use crate::kubectl::Kubectl;

pub(crate) fn run(kubectl: &Kubectl<'_>) {
    sets(kubectl);
    rollouts(kubectl);
    runs(kubectl);
}

fn sets(kubectl: &Kubectl<'_>) {
    let told = kubectl.ok("create deployment web --image=minisvc/echo --replicas=1 --port=8080");
    assert_eq!(told.trim(), "deployment.apps/web created");
    assert!(kubectl.ok("rollout status deployment/web --timeout=60s").contains("successfully rolled out"));
    kubectl.ok("wait pod -l app=web --for=condition=Ready --timeout=60s");
    assert_eq!(kubectl.ok("expose deployment web --port=80 --target-port=8080").trim(), "service/web exposed");
    assert_eq!(kubectl.json("get service web")["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(kubectl.ok("scale deployment web --replicas=2").trim(), "deployment.apps/web scaled");
    assert!(kubectl.fails("scale deployment web --current-replicas=7 --replicas=3", "").contains("Expected replicas"));
    kubectl.ok("scale deployment web --current-replicas=2 --replicas=1");
    assert!(kubectl.ok("rollout pause deployment/web").contains("deployment.apps/web paused"));
    for line in [
        "set image deployment/web echo=minisvc/pause",
        "set env deployment/web A=b",
        "set resources deployment web --limits=cpu=200m,memory=64Mi",
        "set serviceaccount deployment web default",
    ] {
        assert!(kubectl.ok(line).contains("updated"), "{line}");
    }
    assert!(kubectl.ok("set env deployment/web --list").contains("A=b"));
    kubectl.ok("set selector service web app=web,tier=x");
    let spec = &kubectl.json("get deployment web")["spec"];
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"], &container["resources"]["limits"]["cpu"], &spec["paused"]),
        (&json!("minisvc/pause"), &json!([{"name": "A", "value": "b"}]), &json!("200m"), &json!(true))
    );
    assert!(kubectl.ok("autoscale deployment web --min=1 --max=3").contains("autoscaled"));
    assert_eq!(kubectl.json("get hpa web")["spec"]["maxReplicas"], 3);
    assert!(kubectl.ok("rollout resume deployment/web").contains("resumed"));
    kubectl.ok("rollout status deployment/web --timeout=60s");
}

fn rollouts(kubectl: &Kubectl<'_>) {
    let history = kubectl.ok("rollout history deployment/web");
    assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2'])).count(), 2, "{history}");
    assert!(kubectl.ok("rollout history deployment/web --revision=1").contains("minisvc/echo"));
    assert!(kubectl.ok("rollout undo deployment/web").contains("rolled back"));
    assert!(kubectl.ok("rollout status deployment/web --timeout=60s").contains("successfully rolled out"));
    let spec = &kubectl.json("get deployment web")["spec"]["template"];
    assert_eq!(spec["spec"]["containers"][0]["image"], "minisvc/echo");
    assert!(kubectl.ok("rollout restart deployment/web").contains("restarted"));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("wait deployment/web --for=condition=Available --timeout=60s");
    assert!(kubectl.ok("describe deployment web").contains("NewReplicaSet:"));
    assert!(kubectl.ok("get all").contains("deployment.apps/web"));
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\n\
               spec:\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    \
               spec: {terminationGracePeriodSeconds: 1, containers: [{name: db, image: minisvc/pause}]}\n";
    kubectl.ok_with("create -f -", set);
    assert!(kubectl.ok("rollout status statefulset/db --timeout=60s").contains("complete"));
    kubectl.ok("rollout restart statefulset/db");
    kubectl.ok("rollout status statefulset/db --timeout=60s");
    assert!(kubectl.ok("rollout history statefulset/db").contains('2'));
    kubectl.ok("rollout undo statefulset/db");
    kubectl.ok("rollout status statefulset/db --timeout=60s");
}

fn runs(kubectl: &Kubectl<'_>) {
    assert_eq!(kubectl.ok("run p --image=minisvc/pause --labels=app=p").trim(), "pod/p created");
    kubectl.ok("wait pod/p --for=condition=Ready --timeout=60s");
    let told =
        kubectl.ok("run once --image=any/shell --restart=Never --rm -i --quiet --command -- sh -c 'echo said; exit 0'");
    assert!(told.starts_with("said\n"), "{told}");
    assert_eq!(kubectl.ok("get pod once --ignore-not-found"), "");
    let events = kubectl.ok("events --for pod/p");
    assert!(events.contains("Started") && events.contains("Pod/p"), "{events}");
    assert!(kubectl.ok("events --types=Normal").contains("Scheduled"));
    assert!(kubectl.ok("get events --sort-by=.lastTimestamp").contains("pod/p"));
    let described = kubectl.ok("describe pod p");
    assert!(
        described.contains("Status:") && described.contains("Running") && described.contains("Scheduled"),
        "{described}"
    );
    // It is not served, and kubectl says which feature is missing instead of failing later.
    let debug = kubectl.fails("debug pod/p --image=minisvc/pause", "");
    assert!(debug.contains("ephemeral containers are disabled"), "{debug}");
    kubectl.ok("delete pod p --now");
    kubectl.ok("run p --image=minisvc/pause");
    let warned = kubectl.line("delete pod p --force --grace-period=0", "");
    assert!(warned.status.success(), "{}", String::from_utf8_lossy(&warned.stderr));
}
