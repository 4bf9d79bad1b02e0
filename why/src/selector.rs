//! Which pods a Service selects, and what was meant when it selects none.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::findings::{Cause, Problem, Report};
use crate::near::{distance, nearest};
use crate::records::{Pod, Service};
use crate::{Context, count, list};

type Labels = BTreeMap<String, String>;

/// The pods that the selector matches and that are not all going.
pub(crate) fn members<'a>(
    context: Context<'a>,
    report: &mut Report,
    service: &Service,
) -> Result<Vec<&'a Pod>, Problem> {
    let all: Vec<&Pod> = context.facts.pods.iter().filter(|pod| service.selects(pod)).collect();
    let (going, staying): (Vec<&Pod>, Vec<&Pod>) = all.into_iter().partition(|pod| pod.metadata.leaves());
    if staying.is_empty() {
        return Err(if going.is_empty() {
            nothing(context, service)
        } else {
            all_going(context, service, going.len())
        });
    }
    let also = if going.is_empty() { String::new() } else { format!(", and {} that are going", going.len()) };
    report.fine("selector", format!("{} selects {}{also}", text(&service.spec.selector), count(staying.len(), "pod")));
    Ok(staying)
}

/// `app=web,tier=front`.
pub(crate) fn text(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn all_going(context: Context<'_>, service: &Service, number: usize) -> Problem {
    let path = service.metadata.path();
    let sentence = format!(
        "every pod of Service {path} is being deleted ({number}), and none takes their place: new connections go nowhere"
    );
    idle_maker(context, service).map_or_else(
        || Problem::new(Cause::AllTerminating, &sentence),
        |(kind, name)| scale(Problem::new(Cause::AllTerminating, &sentence), service, &kind, &name),
    )
}

/// What would make pods for this selector, but was told to make none.
fn idle_maker(context: Context<'_>, service: &Service) -> Option<(String, String)> {
    let fits = |workload: &&crate::Workload| {
        workload.metadata.namespace == service.metadata.namespace
            && workload.spec.replicas == Some(0)
            && workload.metadata.owner_references.is_empty()
            && service.selects_labels(&workload.spec.template.metadata.labels)
    };
    let found = context.facts.workloads.iter().find(fits)?;
    Some((found.kind.to_lowercase(), found.metadata.name.clone()))
}

fn scale(problem: Problem, service: &Service, kind: &str, name: &str) -> Problem {
    problem.kubectl(&service.metadata.namespace, &["scale", kind, name, "--replicas=1"])
}

fn nothing(context: Context<'_>, service: &Service) -> Problem {
    let facts = context.facts;
    let (path, selector) = (service.metadata.path(), text(&service.spec.selector));
    let namespace = service.metadata.namespace.as_str();
    if let Some((kind, name)) = idle_maker(context, service) {
        let sentence = format!("Service {path} has no pod, because {kind} {name} is scaled to 0");
        return scale(Problem::new(Cause::NoReplicas, sentence), service, &kind, &name);
    }
    if let Some(near) = misspelt(context, service) {
        return near;
    }
    let elsewhere: Vec<&Pod> = facts.pods.iter().filter(|pod| service.selects_labels(&pod.metadata.labels)).collect();
    if let Some(first) = elsewhere.first() {
        return other_namespace(service, first, elsewhere.len());
    }
    let here: Vec<&Pod> = facts.pods.iter().filter(|pod| pod.metadata.namespace == namespace).collect();
    let sentence = if here.is_empty() {
        format!("Service {path} selects {selector}, and namespace {namespace} has no pod at all")
    } else {
        let labels: Vec<String> = here.iter().map(|pod| text(&pod.metadata.labels)).collect();
        let mut distinct: Vec<&str> = Vec::new();
        for label in labels.iter().map(String::as_str).filter(|label| !label.is_empty()) {
            if !distinct.contains(&label) {
                distinct.push(label);
            }
        }
        distinct.truncate(5);
        format!("Service {path} selects {selector}, which no pod has; its namespace has pods with {}", list(&distinct))
    };
    Problem::new(Cause::NothingSelected, sentence).look(&[
        "minisvc",
        "kubectl",
        "get",
        "pods",
        "--show-labels",
        "-n",
        namespace,
    ])
}

/// The change of the selector that lets it match a pod of the namespace.
struct Correction {
    /// Less is nearer.
    cost: usize,
    /// What to merge into the selector.
    patch: Map<String, Value>,
    /// What is wrong, entry by entry.
    words: Vec<String>,
    /// What it selects afterwards.
    selector: Labels,
}

fn misspelt(context: Context<'_>, service: &Service) -> Option<Problem> {
    let (namespace, name) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let pods = context.facts.pods.iter().filter(|pod| pod.metadata.namespace == namespace && !pod.metadata.leaves());
    let best = pods
        .filter_map(|pod| correction(&service.spec.selector, &pod.metadata.labels))
        .min_by_key(|found| found.cost)?;
    let matched = context.facts.pods.iter().filter(|pod| {
        pod.metadata.namespace == namespace
            && best.selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
    });
    let sentence = format!(
        "Service {namespace}/{name} selects {}, which no pod has; the nearest: {} ({})",
        text(&service.spec.selector),
        list(&best.words),
        count(matched.count(), "pod")
    );
    let patch = json!({"spec": {"selector": best.patch}});
    Some(Problem::new(Cause::NothingSelected, sentence).merge("service", (namespace, name), &patch))
}

/// How `selector` has to change to match `labels`; `None` when that would be another selector altogether.
fn correction(selector: &Labels, labels: &Labels) -> Option<Correction> {
    let mut found = Correction { cost: 0, patch: Map::new(), words: Vec::new(), selector: Labels::new() };
    let right = selector.iter().filter(|(key, value)| labels.get(*key) == Some(value)).count();
    for (key, value) in selector {
        let mut take = |key: &str, value: &str| found.selector.insert(key.to_owned(), value.to_owned());
        match labels.get(key) {
            Some(other) if other == value => {
                take(key, value);
            }
            // Another value is meant if it is near, or if the rest of the selector says that this is the pod.
            Some(other) if right > 0 || nearest(value, [other.as_str()]).is_some() => {
                take(key, other);
                found.cost += distance(value, other);
                found.patch.insert(key.clone(), json!(other));
                found.words.push(format!("{key}={other} instead of {key}={value}"));
            }
            Some(_) => return None,
            None => {
                let same_value = labels.iter().filter(|(_, other)| *other == value).map(|(key, _)| key.as_str());
                let near_key =
                    nearest(key, labels.keys().map(String::as_str)).filter(|near| labels.get(*near) == Some(value));
                let near = near_key.or_else(|| same_value.min_by_key(|other| distance(key, other)))?;
                take(near, value);
                found.cost += distance(key, near);
                found.patch.insert(key.clone(), Value::Null);
                found.patch.insert(near.to_owned(), json!(value));
                found.words.push(format!("{near}={value} instead of {key}={value}"));
            }
        }
    }
    (!found.words.is_empty()).then_some(found)
}

fn other_namespace(service: &Service, pod: &Pod, number: usize) -> Problem {
    let (other, name) = (pod.metadata.namespace.as_str(), service.metadata.name.as_str());
    let sentence = format!(
        "Service {} selects {}, which only pods of namespace {other} have ({number}), and a Service selects pods of its own \
         namespace only: make it there, and ask for {name}.{other}",
        service.metadata.path(),
        text(&service.spec.selector),
    );
    let problem = Problem::new(Cause::OtherNamespace, sentence);
    let Some(port) = service.spec.ports.first() else { return problem };
    problem.kubectl(
        other,
        &[
            "expose",
            "pod",
            &pod.metadata.name,
            "--name",
            name,
            &format!("--selector={}", text(&service.spec.selector)),
            &format!("--port={}", port.port),
            &format!("--target-port={}", port.target()),
        ],
    )
}
