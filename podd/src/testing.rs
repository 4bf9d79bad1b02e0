//! Small makers for tests.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A pod with the given spec; containers need not name an image.
pub(crate) fn pod(spec: Value) -> Pod {
    let mut full = json!({"containers": []});
    if let (Some(full), Value::Object(spec)) = (full.as_object_mut(), spec) {
        full.extend(spec);
    }
    let metadata = json!({"name": "web-0", "namespace": "default", "uid": "u-1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": full})).expect("a pod")
}
