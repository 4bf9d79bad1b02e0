//! The defaults of a pod spec (A-062, P-006, P-011, P-024).

use serde_json::{Value, json};

use crate::resources::json::{
    child, has, integer, is_true, list_mut, remove_empty, set, set_default, set_default_number, set_default_text, text,
};

/// Whose spec it is: a few defaults apply to Pods and not to templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resources) enum Owner {
    Pod,
    Template,
}

/// Read by everyone, written by the owner: what mounted files get unless the manifest says otherwise.
const FILE_MODE: i64 = 0o644;
const CONTAINER_LISTS: [&str; 3] = ["/initContainers", "/containers", "/ephemeralContainers"];
/// The fields of a volume that are not its source.
const VOLUME_NAME: &str = "name";

/// Fills in a pod spec; doing it twice changes nothing.
pub(in crate::resources) fn default(spec: &mut Value, owner: Owner) {
    set_default_text(spec, "restartPolicy", "Always");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default_text(spec, "dnsPolicy", "ClusterFirst");
    remove_empty(spec, "nodeName");
    account_names(spec);
    set_default(spec, "securityContext", json!({}));
    set_default_text(spec, "schedulerName", "default-scheduler");
    if owner == Owner::Pod {
        set_default(spec, "enableServiceLinks", true);
    }
    let host_network = is_true(spec, "/hostNetwork");
    for containers in CONTAINER_LISTS {
        for container in list_mut(spec, containers) {
            default_container(container);
            if owner == Owner::Pod {
                requests_from_limits(container);
                if host_network {
                    host_ports(container);
                }
            }
        }
    }
    list_mut(spec, "/volumes").for_each(default_volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
fn account_names(spec: &mut Value) {
    let old = text(spec, "/serviceAccount").to_owned();
    if !old.is_empty() {
        set_default_text(spec, "serviceAccountName", &old);
    }
    let name = text(spec, "/serviceAccountName").to_owned();
    if !name.is_empty() {
        set(spec, "serviceAccount", name);
    }
}

fn default_container(container: &mut Value) {
    for port in list_mut(container, "/ports") {
        set_default_text(port, "protocol", "TCP");
        remove_empty(port, "hostPort");
    }
    for variable in list_mut(container, "/env") {
        default_field_ref(variable.pointer_mut("/valueFrom/fieldRef"));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"] {
        default_http_get(container.pointer_mut(hook));
    }
    set_default(container, "resources", json!({}));
    set_default_text(container, "terminationMessagePath", "/dev/termination-log");
    set_default_text(container, "terminationMessagePolicy", "File");
    let pull = if is_latest(text(container, "/image")) { "Always" } else { "IfNotPresent" };
    set_default_text(container, "imagePullPolicy", pull);
}

/// An image without a tag means `latest`, unless a digest pins it.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_probe(probe: &mut Value) {
    default_http_get(probe.get_mut("httpGet"));
    if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object()) {
        set_default(grpc, "service", "");
    }
    set_default_number(probe, "timeoutSeconds", 1);
    set_default_number(probe, "periodSeconds", 10);
    set_default_number(probe, "successThreshold", 1);
    set_default_number(probe, "failureThreshold", 3);
}

fn default_http_get(action: Option<&mut Value>) {
    if let Some(action) = action.filter(|action| action.is_object()) {
        set_default_text(action, "path", "/");
        set_default_text(action, "scheme", "HTTP");
    }
}

fn default_field_ref(reference: Option<&mut Value>) {
    if let Some(reference) = reference.filter(|reference| reference.is_object()) {
        set_default_text(reference, "apiVersion", "v1");
    }
}

/// What is limited but not requested is requested up to its limit.
fn requests_from_limits(container: &mut Value) {
    let limits = container.pointer("/resources/limits").and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = child(container, "resources").and_then(|resources| child(resources, "requests")) {
        for (name, limit) in limits {
            set_default(requests, &name, limit);
        }
    }
}

/// A pod on the node's network has its ports on the node (P-006).
fn host_ports(container: &mut Value) {
    for port in list_mut(container, "/ports") {
        if let Some(number) = integer(port, "/containerPort") {
            set_default_number(port, "hostPort", number);
        }
    }
}

fn default_volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|fields| fields.iter().any(|(field, source)| field != VOLUME_NAME && !source.is_null()));
    if !has_source {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).filter(|source| source.is_object()) {
            set_default(source, "defaultMode", FILE_MODE);
        }
    }
    for item in list_mut(volume, "/downwardAPI/items") {
        default_field_ref(item.get_mut("fieldRef"));
    }
    for source in list_mut(volume, "/projected/sources") {
        for item in list_mut(source, "/downwardAPI/items") {
            default_field_ref(item.get_mut("fieldRef"));
        }
        if has(source, "/serviceAccountToken")
            && let Some(token) = source.get_mut("serviceAccountToken")
        {
            set_default(token, "expirationSeconds", 3600);
        }
    }
    if let Some(host_path) = volume.get_mut("hostPath").filter(|source| source.is_object()) {
        set_default(host_path, "type", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_minimal_spec_is_filled_in() {
        let mut spec = json!({"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]});
        default(&mut spec, Owner::Pod);
        let expected = json!({
            "containers": [{
                "name": "c", "image": "nginx", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true,
        });
        assert_eq!(spec, expected);
        let once = spec.clone();
        default(&mut spec, Owner::Pod);
        assert_eq!(spec, once);
    }

    //
    #[test]
    fn the_tag_decides_when_to_pull() {
        let rows = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
        ];
        for (image, expected) in rows {
            let mut container = json!({"image": image});
            default_container(&mut container);
            assert_eq!(container["imagePullPolicy"], expected, "{image}");
        }
    }

    // P-024
    #[test]
    fn probes_have_defaults() {
        let mut container = json!({"readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"grpc": {"port": 1}, "periodSeconds": 2}});
        default_container(&mut container);
        let times = json!({
            "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        });
        assert_eq!(container["readinessProbe"], times);
        assert_eq!(container["livenessProbe"]["periodSeconds"], 2);
        assert_eq!(container["livenessProbe"]["grpc"]["service"], "");
    }

    // P-006
    #[test]
    fn host_ports_are_filled_in_pods_only() {
        let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]});
        for (owner, expected) in [(Owner::Pod, json!(80)), (Owner::Template, Value::Null)] {
            let mut spec = spec.clone();
            default(&mut spec, owner);
            assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], expected);
        }
    }

    #[test]
    fn volumes_have_a_source_and_a_mode() {
        let mut spec = json!({"volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "c"}}, {"name": "c", "hostPath": {"path": "/x"}}]});
        default(&mut spec, Owner::Template);
        let expected = json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
            {"name": "c", "hostPath": {"path": "/x", "type": ""}},
        ]);
        assert_eq!(spec["volumes"], expected);
        assert!(spec.get("enableServiceLinks").is_none());
    }

    #[test]
    fn limits_are_requested() {
        let mut spec = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]});
        default(&mut spec, Owner::Pod);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    }
}
