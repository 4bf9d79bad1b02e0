//! The volume by which a pod's processes find the API and prove who they are (P-076).

use serde_json::{Value, json};

use super::super::json::{list, list_mut, set_default, text};
use crate::meta;

/// Where clients inside pods look.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What follows is random, so that a template can never name it by accident.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and some seconds: the odd number marks tokens nobody asked a lifetime for.
const LIFETIME_SECONDS: i64 = 3607;

/// Adds the volume and mounts it in every container that mounts nothing there.
pub(super) fn inject(spec: &mut Value) {
    let name = match existing(spec) {
        Some(name) => name,
        None => format!("{VOLUME_PREFIX}{}", meta::suffix(|bound| rand::random_range(0..bound))),
    };
    let mut mounted = false;
    for containers in ["/initContainers", "/containers"] {
        for container in list_mut(spec, containers) {
            if list(container, "/volumeMounts").iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            set_default(container, "volumeMounts", json!([]));
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if mounted && existing(spec).is_none() {
        set_default(spec, "volumes", json!([]));
        if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
            volumes.push(volume(&name));
        }
    }
}

/// The volume a copied pod brings along.
fn existing(spec: &Value) -> Option<String> {
    let names = list(spec, "/volumes").iter().map(|volume| text(volume, "/name"));
    names.into_iter().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned)
}

fn volume(name: &str) -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": LIFETIME_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
            "defaultMode": 0o644,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // P-076
    #[test]
    fn token_ca_and_namespace_are_mounted_in_every_container() {
        let mut spec = json!({
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c"}, {"name": "d", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}],
        });
        inject(&mut spec);
        let volume = &spec["volumes"][0];
        let name = volume["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == VOLUME_PREFIX.len() + 5, "{name}");
        let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}]);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"], json!([{"name": "x", "mountPath": MOUNT_PATH}]));
        let paths: Vec<&str> =
            ["/0/serviceAccountToken/path", "/1/configMap/items/0/path", "/2/downwardAPI/items/0/path"]
                .into_iter()
                .map(|path| text(&volume["projected"]["sources"], path))
                .collect();
        assert_eq!(paths, ["token", "ca.crt", "namespace"]);
        let once = spec.clone();
        inject(&mut spec);
        assert_eq!(spec, once);
    }
}
