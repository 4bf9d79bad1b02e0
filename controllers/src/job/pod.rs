//! The pods of a Job (P-113, P-114). Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{self as core, Container, EnvVar, EnvVarSource, ObjectFieldSelector};

use crate::pod::Pod;
use crate::pod_writer::pod_from;

/// Keeps an ended pod until it is counted.
pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How many pods failed before this one at its index, where each index has its own limit.
pub(crate) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same, of those whose failure does not count.
pub(crate) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A pod to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct New {
    /// Which one it is, of an Indexed Job.
    pub(crate) index: Option<i32>,
    /// How often its index has failed, where each index has its own limit.
    pub(crate) failures: Option<Failures>,
}

/// Failures of one index, which its pods hand on to those that replace them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) counted: i32,
    pub(crate) ignored: i32,
}

impl Failures {
    pub(crate) fn total(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }
}

/// A pod of the Job.
pub(crate) fn pod(job: &Job, new: New) -> core::Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_from(&template, job);
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    let Some(index) = new.index else { return pod };
    let name = format!("{}-{index}", job.metadata.name.as_deref().unwrap_or_default());
    pod.metadata.generate_name = Some(format!("{name}-"));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = new.failures {
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        tell_index(container);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field_ref = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: format!("metadata.annotations['{INDEX}']"),
    };
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() }),
    });
}

/// The completion index of a pod.
pub(crate) fn index(pod: &Pod) -> Option<i32> {
    number(pod, INDEX)
}

/// The failures of its index before this pod. Users may write annotations: what is no count is none.
pub(crate) fn failures(pod: &Pod) -> Failures {
    let count = |name| number(pod, name).unwrap_or(0).max(0);
    Failures { counted: count(FAILURES), ignored: count(IGNORED_FAILURES) }
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// Whether the pod still waits to be counted.
pub(crate) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::JobSpec;

    use super::*;
    use crate::fixtures::{meta, template};

    // P-114
    #[test]
    fn an_index_is_in_name_hostname_and_environment() {
        let spec = JobSpec { template: template("work:1"), ..JobSpec::default() };
        let job = Job { metadata: meta("sum"), spec: Some(spec), status: None };
        let indexed = pod(&job, New { index: Some(3), failures: None });
        assert_eq!(indexed.metadata.generate_name.as_deref(), Some("sum-3-"));
        assert_eq!(index(&Pod::of(&indexed)), Some(3));
        assert_eq!(indexed.metadata.labels.as_ref().unwrap()[INDEX], "3");
        let spec = indexed.spec.clone().unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("sum-3"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
        let plain = pod(&job, New::default());
        assert_eq!(plain.metadata.generate_name.as_deref(), Some("sum-"));
        let plain = Pod::of(&plain);
        assert_eq!((index(&plain), is_tracked(&plain)), (None, true));
    }
    #[test]
    fn failures_of_an_index_are_handed_on() {
        let job = Job { metadata: meta("sum"), ..Job::default() };
        for (failures_so_far, written) in [((0, 0), ("0", None)), ((2, 1), ("2", Some("1")))] {
            let known = Failures { counted: failures_so_far.0, ignored: failures_so_far.1 };
            let pod = pod(&job, New { index: Some(0), failures: Some(known) });
            let annotations = pod.metadata.annotations.clone().unwrap();
            let ignored = annotations.get(IGNORED_FAILURES).map(String::as_str);
            assert_eq!((annotations[FAILURES].as_str(), ignored), written);
            assert_eq!(failures(&Pod::of(&pod)), known);
        }
    }
}
