//! Pod: processes with an address of their own.

mod cells;
mod qos;
mod token;
mod update;

use std::collections::HashSet;

use serde_json::{Value, json};

use super::check::Errors;
use super::json::{child, integer, is_true, list, set, set_default_text, text};
use super::podspec;
use crate::registry::{Column, FieldError, Find, Resource, Subresource};

/// The account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready containers of all containers."),
    Column::text("Status", "The phase, or what keeps the pod from running."),
    Column::text("Restarts", "How often containers were started again, and when last."),
    Column::AGE,
    Column::text("IP", "Address of the pod.").wide(),
    Column::text("Node", "Where the pod runs.").wide(),
    Column::text("Nominated Node", "Where the pod may run once others have gone.").wide(),
    Column::text("Readiness Gates", "Conditions that hold of those demanded.").wide(),
];

const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        subresources: &[
            Subresource::Status,
            Subresource::Log,
            Subresource::Binding,
            Subresource::Eviction,
            Subresource::Exec,
            Subresource::Attach,
            Subresource::PortForward,
            Subresource::Proxy,
        ],
        returns_deleted_object: true,
        graceful: Some(grace),
        selectable,
        selectable_names: SELECTABLE,
        columns: COLUMNS,
        row: cells::row,
        row_conditions: cells::row_conditions,
        default,
        prepare,
        complete,
        validate,
        warnings,
        ..Resource::BASE
    }
}

fn default(pod: &mut Value) {
    if let Some(spec) = child(pod, "spec") {
        podspec::default(spec, podspec::Owner::Pod);
    }
    // The single address and the list say the same, whichever was written (P-004).
    let single = text(pod, "/status/podIP").to_owned();
    let first = list(pod, "/status/podIPs").first().map(|entry| text(entry, "/ip").to_owned());
    let Some(status) = pod.get_mut("status").filter(|status| status.is_object()) else { return };
    match first {
        Some(first) => set(status, "podIP", first),
        None if !single.is_empty() => set(status, "podIPs", json!([{"ip": single}])),
        None => {}
    }
}

/// The grace period a deletion gets, in seconds: none for a pod that does not run, else the request's or the pod's own
/// (P-046).
fn grace(pod: &Value, requested: Option<i64>) -> i64 {
    let finished = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
    if finished || text(pod, "/spec/nodeName").is_empty() {
        return 0;
    }
    let wanted = requested.or_else(|| integer(pod, "/spec/terminationGracePeriodSeconds")).unwrap_or(30);
    // A negative period means "as fast as can be, but gracefully".
    if wanted < 0 { 1 } else { wanted }
}

fn selectable(pod: &Value) -> Vec<(&'static str, String)> {
    let addresses: Vec<&str> = list(pod, "/status/podIPs").iter().map(|entry| text(entry, "/ip")).collect();
    let value = |name: &str| match name {
        "spec.host" => text(pod, "/spec/nodeName").to_owned(),
        "spec.hostNetwork" => is_true(pod, "/spec/hostNetwork").to_string(),
        "status.podIPs" => addresses.join(","),
        path => path.split('.').fold(pod, |value, step| &value[step]).as_str().unwrap_or_default().to_owned(),
    };
    SELECTABLE.iter().map(|name| (*name, value(name))).collect()
}

fn prepare(new: &mut Value, old: Option<&Value>) {
    let Some(spec) = child(new, "spec") else { return };
    if let Some(old) = old {
        // A client that never saw what was injected may send its own manifest again.
        keep_account(spec, &old["spec"]);
        return;
    }
    set_default_text(spec, "serviceAccountName", DEFAULT_ACCOUNT);
    let account = text(spec, "/serviceAccountName").to_owned();
    set(spec, "serviceAccount", account);
    let class = qos::class(spec);
    set(new, "status", json!({"phase": "Pending", "qosClass": class}));
}

/// Mounts a token, unless the pod declines or, where it says nothing, its account (P-076).
fn complete(pod: &mut Value, find: &Find<'_>) {
    let account = || find("serviceaccounts", text(pod, "/spec/serviceAccountName"));
    let wanted = match pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool) {
        Some(wanted) => wanted,
        None => account().is_none_or(|account| account["automountServiceAccountToken"] != Value::Bool(false)),
    };
    if let (true, Some(spec)) = (wanted, child(pod, "spec")) {
        token::inject(spec);
    }
}

fn keep_account(spec: &mut Value, stored: &Value) {
    for field in ["serviceAccountName", "serviceAccount"] {
        let account = text(stored, &format!("/{field}"));
        if !account.is_empty() {
            set_default_text(spec, field, account);
        }
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    podspec::validate(&mut errors, "spec", &new["spec"]);
    match old {
        Some(old) => update::validate(&mut errors, &new["spec"], &old["spec"]),
        None if !list(new, "/spec/ephemeralContainers").is_empty() => {
            errors.forbidden("spec.ephemeralContainers", "cannot be set on create");
        }
        None if !text(new, "/spec/nodeName").is_empty() && !list(new, "/spec/schedulingGates").is_empty() => {
            errors.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared");
        }
        None => {}
    }
    errors.into_list()
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_some() {
        return warnings;
    }
    let spec = &new["spec"];
    for (which, container) in ["initContainers", "containers"]
        .into_iter()
        .flat_map(|which| list(spec, &format!("/{which}")).iter().enumerate().map(move |entry| (which, entry)))
        .map(|(which, (index, container))| (format!("spec.{which}[{index}]"), container))
    {
        let mut names = HashSet::new();
        for (index, name) in list(container, "/env").iter().map(|variable| text(variable, "/name")).enumerate() {
            if !names.insert(name) {
                warnings.push(format!("{which}.env[{index}]: hides previous definition of {name:?}"));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(mut pod: Value) -> Value {
        let kind = resource();
        (kind.default)(&mut pod);
        (kind.prepare)(&mut pod, None);
        pod
    }

    fn minimal() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    }

    // A-062, P-022
    #[test]
    fn a_new_pod_is_pending_and_has_an_account() {
        let pod = created(minimal());
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["serviceAccount"], "default");
        assert!(validate(&pod, None).is_empty(), "{:?}", validate(&pod, None));
    }

    // P-046
    #[test]
    fn grace_depends_on_whether_the_pod_runs() {
        let pod = |node: &str, phase: &str, seconds: i64| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": seconds}, "status": {"phase": phase}});
        let rows = [
            ("own", pod("n", "Running", 7), None, 7),
            ("asked", pod("n", "Running", 7), Some(3), 3),
            ("forced", pod("n", "Running", 7), Some(0), 0),
            ("unscheduled", pod("", "Pending", 7), Some(3), 0),
            ("finished", pod("n", "Succeeded", 7), None, 0),
            ("failed", pod("n", "Failed", 7), Some(9), 0),
            ("negative", pod("n", "Running", -1), None, 1),
        ];
        for (label, pod, requested, expected) in rows {
            assert_eq!(grace(&pod, requested), expected, "{label}");
        }
    }

    // P-076
    #[test]
    fn a_token_is_mounted_unless_pod_or_account_declines() {
        let account = |automount: Value| {
            move |storage: &str, name: &str| {
                ((storage, name) == ("serviceaccounts", "robot"))
                    .then(|| json!({"automountServiceAccountToken": automount.clone()}))
            }
        };
        for (of_pod, of_account, name, mounted) in [
            (Value::Null, Value::Null, "robot", true),
            (Value::Null, json!(false), "robot", false),
            (json!(true), json!(false), "robot", true),
            (json!(false), json!(true), "robot", false),
            (Value::Null, json!(true), "robot", true),
            // An account that is not there declines nothing.
            (Value::Null, json!(false), "other", true),
        ] {
            let mut pod = minimal();
            pod["spec"]["serviceAccountName"] = json!(name);
            pod["spec"]["automountServiceAccountToken"] = of_pod.clone();
            complete(&mut pod, &account(of_account.clone()));
            let mounts = list(&pod, "/spec/containers/0/volumeMounts").len();
            assert_eq!(
                (mounts, list(&pod, "/spec/volumes").len()),
                if mounted { (1, 1) } else { (0, 0) },
                "{of_pod} {of_account}"
            );
        }
    }

    // A-094, P-121
    #[test]
    fn fields_that_can_be_selected() {
        let pod = json!({
            "spec": {"nodeName": "n", "restartPolicy": "Always", "hostNetwork": true},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        let found = selectable(&pod);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, SELECTABLE);
        for expected in [
            ("spec.host", "n"),
            ("spec.hostNetwork", "true"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.nominatedNodeName", ""),
        ] {
            assert!(found.contains(&(expected.0, expected.1.to_owned())), "{expected:?}");
        }
    }

    // P-004
    #[test]
    fn the_first_address_is_the_single_one() {
        let filled = |status: Value| {
            let mut pod = json!({"spec": {}, "status": status});
            default(&mut pod);
            pod["status"].take()
        };
        let both = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]});
        assert_eq!(filled(json!({"podIP": "10.0.0.1"})), both);
        assert_eq!(filled(json!({"podIPs": [{"ip": "10.0.0.1"}]})), both);
        assert_eq!(filled(json!({})), json!({}));
    }

    #[test]
    fn a_variable_defined_twice_is_warned_about() {
        let mut pod = minimal();
        pod["spec"]["containers"][0]["env"] = json!([{"name": "A"}, {"name": "B"}, {"name": "A"}]);
        assert_eq!(warnings(&pod, None).len(), 1);
    }
}
