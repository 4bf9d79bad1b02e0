//! Commands that only look: discovery, explain, get in all its forms, describe, and kubectl's own configuration.

use serde_json::json;

use crate::kubectl::Kubectl;

/// What there is, and what its fields mean.
pub(crate) fn discovery(kubectl: &Kubectl<'_>) {
    let name = kubectl.name();
    assert_eq!(kubectl.json("version")["serverVersion"]["minor"], "36", "{name}");
    let versions = kubectl.ok("api-versions");
    for version in ["v1", "apps/v1", "discovery.k8s.io/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"] {
        assert!(versions.lines().any(|line| line == version), "{name}: {version} in {versions}");
    }
    let resources = kubectl.ok("api-resources -o name");
    for resource in
        ["pods", "services", "deployments.apps", "servicecidrs.networking.k8s.io", "leases.coordination.k8s.io"]
    {
        assert!(resources.lines().any(|line| line == resource), "{name}: {resource} in {resources}");
    }
    let wide = kubectl.ok("api-resources --namespaced=false -o wide");
    assert!(wide.contains("nodes") && !wide.contains("configmaps"), "{name}: {wide}");
    assert!(kubectl.ok("api-resources --api-group=apps").contains("deploy "), "{name}: short names");

    let field = kubectl.ok("explain service.spec.ports");
    for text in ["KIND:       Service", "targetPort", "appProtocol", "-required-"] {
        // The oldest two lay their text out otherwise.
        let same = field.split_whitespace().collect::<String>().contains(&text.replace(' ', ""));
        assert!(same, "{name}: {text} in {field}");
    }
    let all = kubectl.ok("explain pod --recursive");
    assert!(all.contains("livenessProbe") && all.contains("initContainers"), "{name}: {all}");
    assert!(kubectl.ok("explain deployments --api-version=apps/v1").contains("Deployment"), "{name}");
    let missing = kubectl.fails("explain service.spec.nothing", "");
    assert!(missing.contains("nothing"), "{name}: {missing}");
}

/// One object, many, and all the forms they are shown in.
pub(crate) fn gets(kubectl: &Kubectl<'_>) {
    kubectl.ok("create service clusterip web --tcp=80:8080");
    kubectl.ok("create configmap b --from-literal=n=2");
    kubectl.ok("create configmap a --from-literal=n=1");
    kubectl.ok("label configmap a tier=front");
    let table = kubectl.ok("get services web");
    let heading: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert!(kubectl.ok("get svc web -o wide").contains("SELECTOR"));
    assert!(kubectl.ok("get svc -A").starts_with("NAMESPACE"));
    assert!(kubectl.ok("get cm -L tier").contains("front"));
    assert!(kubectl.ok("get cm --show-labels").contains("tier=front"));
    assert_eq!(kubectl.ok("get cm -l 'tier in (front,back)' -o name").trim(), "configmap/a");
    assert_eq!(kubectl.ok("get cm --field-selector=metadata.name=b -o name").trim(), "configmap/b");
    let sorted = kubectl.ok("get cm a b --sort-by=.data.n -o name");
    assert_eq!(sorted, "configmap/a\nconfigmap/b\n");
    assert_eq!(kubectl.ok("get cm a -o go-template='{{.data.n}}'"), "1");
    assert_eq!(kubectl.ok("get cm a -o jsonpath='{.data.n}'"), "1");
    assert!(kubectl.ok("get cm a -o custom-columns=N:.data.n --no-headers").trim() == "1");
    assert!(kubectl.ok("get cm a -o yaml").contains("kind: ConfigMap"));
    assert_eq!(
        kubectl.json("get cm --chunk-size=1")["items"].as_array().map(Vec::len),
        Some(3),
        "with the root certificates"
    );
    assert!(
        kubectl.fails("get cm nobody", "").contains("Error from server (NotFound): configmaps \"nobody\" not found")
    );
    assert!(kubectl.fails("get nothings", "").contains("the server doesn't have a resource type \"nothings\""));
    assert!(kubectl.ok("get --raw /healthz?verbose").contains("ok"));
    assert_eq!(kubectl.ok("get --raw /readyz").trim(), "ok");
}

/// What kubectl keeps for itself.
pub(crate) fn configuration(kubectl: &Kubectl<'_>) {
    let own = kubectl.ok("config view --raw --flatten");
    let file = kubectl.file("own.kubeconfig", &own);
    let config = |line: &str| kubectl.ok(&format!("config --kubeconfig={file} {line}"));
    let current = config("current-context");
    assert!(config("get-contexts -o name").contains(current.trim()));
    config(&format!(
        "set-context other --cluster={0} --user={0} --namespace=kube-system",
        config("get-clusters").lines().nth(1).unwrap_or_default()
    ));
    config("use-context other");
    assert_eq!(config("current-context").trim(), "other");
    config("rename-context other another");
    config("set-credentials someone --token=x");
    assert!(config("get-users").contains("someone"));
    config("unset users.someone");
    config("delete-context another");
    assert!(!config("get-contexts -o name").contains("another"));
    let view = kubectl.json("config view");
    assert_eq!(view["kind"], json!("Config"));
    assert!(kubectl.ok("options").contains("--namespace"));
    assert!(kubectl.ok("completion bash").contains("kubectl"));
    let plugins = kubectl.line("plugin list", "");
    assert!(!plugins.stdout.is_empty() || !plugins.stderr.is_empty());
}

/// What stands about an object and around it.
pub(crate) fn describes(kubectl: &Kubectl<'_>) {
    kubectl.ok("run app --image=minisvc/echo --env=PORT=8080 --labels=app=app");
    kubectl.ok("create service clusterip app --tcp=80:8080");
    kubectl.ok("wait pod/app --for=condition=Ready --timeout=60s");
    let pod = kubectl.json("get pod app");
    let text = |at: &str| pod.pointer(at).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let (address, node) = (text("/status/podIP"), text("/spec/nodeName"));
    let described = kubectl.ok("describe pod app");
    for part in ["Running", &address, &node, "QoS Class:", "ContainersReady", "Started container"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let service = crate::common::eventually("an endpoint that is told", || {
        let described = kubectl.ok("describe service app");
        described.contains(&format!("{address}:8080")).then_some(described)
    });
    assert!(service.contains("TargetPort:") && service.contains("8080/TCP"), "{service}");
    let described = kubectl.ok(&format!("describe node {node}"));
    for part in ["Non-terminated Pods:", kubectl.namespace(), "PodCIDR:", "Lease:", "Ready"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    assert!(kubectl.ok(&format!("describe namespace {}", kubectl.namespace())).contains("Active"));
    // Both groups have events, and a name alone means the core one.
    assert!(kubectl.ok("get events -o name").starts_with("event/"));
    assert!(kubectl.ok("get events.events.k8s.io -o name").starts_with("event.events.k8s.io/"));
}
