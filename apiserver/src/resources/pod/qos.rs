//! The quality-of-service class of a pod (P-022), which follows from what its containers request.

use serde_json::Value;

use super::super::json::{list, text};

/// `Guaranteed` when every container limits CPU and memory and requests just that, `BestEffort` when none says
/// anything, else `Burstable`.
pub(super) fn class(spec: &Value) -> &'static str {
    let containers = || list(spec, "/initContainers").iter().chain(list(spec, "/containers"));
    let amount =
        |container: &Value, which: &str, name: &str| text(container, &format!("/resources/{which}/{name}")).to_owned();
    let both = ["cpu", "memory"];
    let silent = containers().all(|c| {
        both.iter().all(|name| amount(c, "limits", name).is_empty() && amount(c, "requests", name).is_empty())
    });
    let exact = containers().all(|c| {
        both.iter().all(|name| {
            let (limit, request) = (amount(c, "limits", name), amount(c, "requests", name));
            !limit.is_empty() && (request.is_empty() || super::super::podspec::same_quantity(&limit, &request))
        })
    });
    match () {
        () if silent => "BestEffort",
        () if exact => "Guaranteed",
        () => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // P-022
    #[test]
    fn classes_follow_requests() {
        let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
        let rows = [
            (json!({}), "BestEffort"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
                "Burstable",
            ),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
        ];
        for (resources, expected) in rows {
            assert_eq!(class(&spec(resources.clone())), expected, "{resources}");
        }
    }
}
