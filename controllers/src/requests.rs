//! What a pod asks of its node: one number for each resource, by the rules of P-041. Pure.

use std::collections::BTreeMap;

use minisvc_schema::Amount;
use serde::Deserialize;

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const STORAGE: &str = "ephemeral-storage";

/// Amounts by the name of what they are of, as a manifest has them.
pub(crate) type Listed = BTreeMap<String, String>;

/// `resources` of a container or a pod, as sent.
#[derive(Default, Deserialize)]
pub(crate) struct Resources {
    requests: Option<Listed>,
    limits: Option<Listed>,
}

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// As long as the pod.
    Main,
    /// As long as the pod, and already while the init containers after it do.
    Sidecar,
    /// Before the others, alone but for the sidecars before it.
    Init,
}

/// What a pod requests of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Thousandths of a processor.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes on the node's disk.
    pub(crate) storage: i64,
    /// Huge pages and extended resources, which few pods want.
    pub(crate) others: Box<[(Box<str>, i64)]>,
}

impl Requests {
    /// All that is requested, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let usual = [(CPU, self.cpu), (MEMORY, self.memory), (STORAGE, self.storage)];
        let others = self.others.iter().map(|(name, amount)| (&**name, *amount));
        usual.into_iter().chain(others).filter(|(_, amount)| *amount > 0)
    }
}

/// How much a resource is in the unit that it is counted in: thousandths of a processor, bytes, or pieces.
pub(crate) fn counted(resource: &str, amount: Amount) -> i64 {
    if resource == CPU { amount.thousandths() } else { amount.ones() }
}

/// What a pod with these containers (init containers in their order) requests at the time when it needs most, with its own
/// `resources` and `overhead`.
///
/// The API server has made requests of the limits of containers that request nothing; a pod's own are done here.
pub(crate) fn effective<'a>(
    containers: impl IntoIterator<Item = (Role, Option<&'a Resources>)>,
    pod: Option<&Resources>,
    overhead: Option<&Listed>,
) -> Requests {
    let (mut lasting, mut sidecars, mut starting) = (Sums::default(), Sums::default(), Sums::default());
    for (role, resources) in containers {
        let Some(requests) = resources.and_then(|resources| resources.requests.as_ref()) else { continue };
        match role {
            Role::Main => lasting.add(requests),
            Role::Sidecar => {
                lasting.add(requests);
                sidecars.add(requests);
            }
            Role::Init => {
                let mut at_once = sidecars.clone();
                at_once.add(requests);
                starting.raise(at_once);
            }
        }
    }
    lasting.raise(starting);
    if let Some(pod) = pod {
        let names_it = |name: &&String| matches!(name.as_str(), CPU | MEMORY) || name.starts_with("hugepages-");
        for (name, limit) in pod.limits.iter().flatten().filter(|(name, _)| names_it(name)) {
            lasting.0.entry(name.clone()).or_insert_with(|| amount(limit));
        }
        for (name, request) in pod.requests.iter().flatten().filter(|(name, _)| names_it(name)) {
            lasting.0.insert(name.clone(), amount(request));
        }
    }
    if let Some(overhead) = overhead {
        lasting.add(overhead);
    }
    lasting.into_requests()
}

/// Exact amounts by name.
#[derive(Clone, Default)]
struct Sums(BTreeMap<String, Amount>);

impl Sums {
    fn add(&mut self, listed: &Listed) {
        for (name, text) in listed {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = *sum + amount(text);
        }
    }

    /// Makes each amount at least that of `other`.
    fn raise(&mut self, other: Self) {
        for (name, amount) in other.0 {
            let own = self.0.entry(name).or_default();
            *own = amount.max(*own);
        }
    }

    fn into_requests(mut self) -> Requests {
        let mut take = |name| self.0.remove(name).map_or(0, |amount| counted(name, amount));
        let (cpu, memory, storage) = (take(CPU), take(MEMORY), take(STORAGE));
        let others = self.0.into_iter().map(|(name, amount)| (counted(&name, amount), name));
        let others = others.filter(|(amount, _)| *amount > 0).map(|(amount, name)| (name.into(), amount)).collect();
        Requests { cpu, memory, storage, others }
    }
}

fn amount(text: &str) -> Amount {
    // The API server has refused what is no quantity.
    Amount::parse(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::pod::Pod;

    #[test]
    fn a_pod_requests_what_it_needs_when_it_needs_most() {
        let asks = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        let sidecar = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        let none = json!({"name": "n"});
        let with = |containers: Value, init: Value| json!({"containers": containers, "initContainers": init});
        for (label, spec, cpu, mebibytes) in [
            ("nothing", with(json!([none]), json!([])), 0, 0),
            ("a sum", with(json!([asks("250m"), asks("1"), none]), json!(null)), 1250, 2),
            ("rounded up once", with(json!([asks("300u"), asks("300u")]), json!([])), 1, 2),
            ("a small init container", with(json!([asks("1")]), json!([asks("500m"), none])), 1000, 1),
            ("a large one", with(json!([asks("1")]), json!([asks("2"), asks("1500m")])), 2000, 1),
            ("a sidecar stays", with(json!([asks("1")]), json!([sidecar("100m")])), 1100, 2),
            ("before an init container", with(json!([asks("1")]), json!([sidecar("100m"), asks("2")])), 2100, 2),
            ("and after it", with(json!([asks("1")]), json!([asks("2"), sidecar("100m")])), 2000, 2),
            (
                "two of them",
                with(json!([asks("1")]), json!([sidecar("100m"), asks("2"), sidecar("200m"), asks("2")])),
                2300,
                3,
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
            let requests = pod.spec.unwrap().requests;
            assert_eq!((requests.cpu, requests.memory), (cpu, mebibytes << 20), "P-041: {label}");
            assert_eq!((requests.storage, requests.others.len()), (0, 0), "P-041: {label}");
        }
    }

    // P-041
    #[test]
    fn a_pods_own_amounts_and_rare_resources_count() {
        let requests = |spec: Value| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
            let requests = pod.spec.unwrap().requests;
            requests.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        let container = |requests: Value| json!([{"name": "c", "resources": {"requests": requests}}]);
        let rare =
            json!({"example.com/foo": "2", "example.com/bar": "0", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1k"});
        assert_eq!(
            requests(json!({"containers": container(rare)})),
            "ephemeral-storage=1000 example.com/foo=2 hugepages-2Mi=4194304"
        );
        let small = || container(json!({"cpu": "100m", "ephemeral-storage": "5"}));
        for (label, spec, expected) in [
            (
                "its own requests are those of cpu and memory",
                json!({"containers": small(), "resources": {"requests": {"cpu": "2", "memory": "7", "ephemeral-storage": "9"}}}),
                "cpu=2000 memory=7 ephemeral-storage=5",
            ),
            (
                "its limits are what no container requests",
                json!({"containers": small(), "resources": {"limits": {"cpu": "2", "memory": "7"}}}),
                "cpu=100 memory=7 ephemeral-storage=5",
            ),
            (
                "what its runtime takes comes on top",
                json!({"containers": small(), "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "50m", "memory": "3"}}),
                "cpu=2050 memory=3 ephemeral-storage=5",
            ),
        ] {
            assert_eq!(requests(spec), expected, "{label}");
        }
    }
}
