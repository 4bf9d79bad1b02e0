//! Cells of tables that several kinds share (api.md section 21).

use serde_json::Value;

use super::json::{entries, integer, list, text, texts};

/// What an empty cell says.
pub(super) const NONE: &str = "<none>";

/// The text, or `<none>`.
pub(super) fn or_none(text: impl Into<String>) -> Value {
    let text = text.into();
    Value::from(if text.is_empty() { NONE.to_owned() } else { text })
}

/// The text, or `<unset>`.
pub(super) fn or_unset(text: &str) -> Value {
    Value::from(if text.is_empty() { "<unset>" } else { text })
}

/// The text, or `<unknown>`.
pub(super) fn or_unknown(text: &str) -> Value {
    Value::from(if text.is_empty() { "<unknown>" } else { text })
}

/// A map of labels as `a=b,c=d`, sorted; empty for an empty map.
pub(super) fn label_map(map: &Value) -> String {
    let mut pairs: Vec<String> =
        entries(map, "").map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// A `LabelSelector` in the syntax of `kubectl -l`; `<none>` when it demands nothing.
pub(super) fn label_selector(selector: &Value) -> Value {
    let mut parts: Vec<String> = match label_map(&selector["matchLabels"]) {
        labels if labels.is_empty() => Vec::new(),
        labels => vec![labels],
    };
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values = texts(expression, "/values");
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or_none(parts.join(","))
}

/// Ready pods of those wished for, as `1/3`.
pub(super) fn ready(object: &Value) -> Value {
    let count = |pointer: &str| integer(object, pointer).unwrap_or_default();
    format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into()
}

/// The first three of a list joined by commas, and how many more there are.
pub(super) fn first_three(parts: &[String]) -> String {
    match parts.get(3..) {
        Some(more) if !more.is_empty() => format!("{} + {} more...", parts[..3].join(","), more.len()),
        _ => parts.join(","),
    }
}

/// Names and images of the containers of a pod template, each joined by commas.
pub(super) fn containers_and_images(template_spec: &Value) -> [Value; 2] {
    let join = |field: &str| {
        let all: Vec<&str> = list(template_spec, "/containers").iter().map(|c| text(c, field)).collect();
        Value::from(all.join(","))
    };
    [join("/name"), join("/image")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_print_as_they_are_typed() {
        let selector = json!({
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["y", "x"]},
                {"key": "d", "operator": "NotIn", "values": ["z"]},
                {"key": "e", "operator": "Exists"},
                {"key": "f", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(label_selector(&selector), json!("a=1,b=2,c in (x,y),d notin (z),e,!f"));
        assert_eq!(label_selector(&json!({})), json!("<none>"));
    }

    #[test]
    fn long_lists_are_cut_after_three() {
        let parts = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(first_three(&parts(0)), "");
        assert_eq!(first_three(&parts(3)), "0,1,2");
        assert_eq!(first_three(&parts(5)), "0,1,2 + 2 more...");
    }
}
