//! Writing pods for an owner: making, deleting, adopting and releasing them, with the Events that tell the user.
//!
//! What to write is decided elsewhere.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{self as core, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::Value;

use crate::cache::{Cache, Key, Object};
use crate::error::{Error, is_status, sentence};
use crate::events::Recorder;
use crate::owners;
use crate::pod::{self, Pod};
use crate::pods;
use crate::selector::selects;

/// See the module.
#[derive(Clone)]
pub(crate) struct PodWriter {
    pub(crate) client: Client,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) recorder: Recorder,
}

/// The pods of a namespace as one owner sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claim {
    /// Controlled by the owner already and still selected.
    pub(crate) ours: Vec<Arc<Pod>>,
    /// Orphans to become ours (P-088).
    pub(crate) adopt: Vec<Arc<Pod>>,
    /// No longer selected (P-088).
    pub(crate) release: Vec<Arc<Pod>>,
}

/// Sorts `pods` for the owner with this uid; `accept` may refuse orphans for a reason besides the selector.
pub(crate) fn claim(uid: &str, selector: &LabelSelector, pods: &[Arc<Pod>], accept: impl Fn(&Pod) -> bool) -> Claim {
    let mut claim = Claim::default();
    for pod in pods {
        let matches = selects(selector, &pod.labels);
        match pods::controller(&pod.metadata) {
            Some(owner) if owner.uid == uid && matches => claim.ours.push(pod.clone()),
            Some(owner) if owner.uid == uid => claim.release.push(pod.clone()),
            None if matches && pods::is_active(pod) && accept(pod) => claim.adopt.push(pod.clone()),
            _ => {}
        }
    }
    claim
}

impl PodWriter {
    fn api(&self, namespace: Option<&str>) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }

    /// Makes a pod; its owner is told of success and failure.
    pub(crate) async fn create<K: Object>(&self, owner: &K, new: &core::Pod) -> Result<(), Error> {
        match pod::create(&self.client, new).await {
            Ok(created) => {
                let name = created.metadata.name.clone().unwrap_or_default();
                self.pods.wrote(created);
                self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(())
            }
            Err(source) => {
                let message = sentence(&source);
                let error = Error::api("creating a pod")(source);
                if !owners::is_namespace_terminating(&error) {
                    self.recorder.warning(owner, "FailedCreate", format!("Error creating: {message}"));
                }
                Err(error)
            }
        }
    }

    /// Makes several pods by slow start (P-091): what fails for one usually fails for all, so the first is tried alone.
    pub(crate) async fn create_all<K: Object>(&self, owner: &K, pods: Vec<core::Pod>) -> Result<(), Error> {
        let (mut remaining, mut batch) = (pods.as_slice(), 1);
        while !remaining.is_empty() {
            let (now, later) = remaining.split_at(batch.min(remaining.len()));
            for result in join_all(now.iter().map(|pod| self.create(owner, pod))).await {
                result?;
            }
            (remaining, batch) = (later, batch * 2);
        }
        Ok(())
    }

    /// Deletes this very pod, not a namesake; its owner is told.
    pub(crate) async fn delete<K: Object>(&self, owner: &K, pod: &Pod) -> Result<(), Error> {
        let key = Key::of(&pod.metadata);
        match delete_exactly(&self.api(Some(&key.namespace)), pod).await {
            Ok(Some(going)) => self.pods.wrote(going),
            Ok(None) => self.pods.gone(&key),
            Err(source) => {
                self.recorder.warning(owner, "FailedDelete", format!("Error deleting: {}", sentence(&source)));
                return Err(Error::api("deleting a pod")(source));
            }
        }
        self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {}", key.name));
        Ok(())
    }

    /// Writes a merge patch to a pod that may be gone meanwhile.
    pub(crate) async fn patch(&self, pod: &Pod, patch: &Value) -> Result<(), Error> {
        let key = Key::of(&pod.metadata);
        match self.api(Some(&key.namespace)).patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(patched) if is_gone(&patched.metadata) => self.pods.gone(&key),
            Ok(patched) => self.pods.wrote(patched),
            Err(source) if is_status(&source, 404) => self.pods.gone(&key),
            Err(source) => return Err(Error::api("changing a pod")(source)),
        }
        Ok(())
    }

    /// Carries out the adoptions and releases of a claim.
    pub(crate) async fn settle<K: Object>(&self, owner: &K, claim: &Claim) -> Result<(), Error> {
        let reference = reference(owner);
        for pod in &claim.adopt {
            self.patch(pod, &owners::adoption(&pod.metadata, &reference)).await?;
        }
        for pod in &claim.release {
            self.patch(pod, &owners::release(&pod.metadata, &reference.uid)).await?;
        }
        Ok(())
    }
}

/// Whether a write that took the last finalizer of a terminating object has ended it.
fn is_gone(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && meta.finalizers.iter().flatten().next().is_none()
}

/// Deletes this very pod, not a namesake. Answers its last state when it is still shutting down.
pub(crate) async fn delete_exactly(api: &Api<Pod>, pod: &Pod) -> kube::Result<Option<Pod>> {
    let only_it = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams::background().preconditions(only_it);
    match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await {
        // The server answers the pod also when it is gone at once: only one with grace left is still there.
        Ok(either) => Ok(either.left().filter(|pod| {
            pod.metadata.deletion_grace_period_seconds.unwrap_or(0) > 0
                || pod.metadata.finalizers.iter().flatten().next().is_some()
        })),
        Err(error) if is_status(&error, 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The reference by which `object` controls what it makes.
pub(crate) fn reference<K: Object>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.meta().name.clone().unwrap_or_default(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A pod of `template` for `owner`, named by the server after it.
pub(crate) fn pod_from<K: Object>(template: &PodTemplateSpec, owner: &K) -> core::Pod {
    let from = template.metadata.clone().unwrap_or_default();
    core::Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.meta().name.as_deref().unwrap_or_default())),
            namespace: owner.meta().namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Keys of the owners of kind `K` that a pod concerns: its controller or, for an orphan, whoever would adopt it.
pub(crate) fn concerned<K: Object>(
    known: &Cache<K>,
    pod: &Pod,
    selector: impl Fn(&K) -> Option<&LabelSelector>,
) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(owner) = pods::controller(&pod.metadata) {
        let ours = owner.kind == K::kind(&()) && owner.api_version == K::api_version(&());
        return if ours { vec![Key::new(namespace, owner.name.clone())] } else { Vec::new() };
    }
    let matching = known.in_namespace(namespace).into_iter();
    matching
        .filter(|object| selector(object).is_some_and(|selector| selects(selector, &pod.labels)))
        .map(|object| Key::of(object.meta()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    // P-088
    #[test]
    fn an_owner_claims_by_uid_and_selector() {
        let selector = LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..LabelSelector::default()
        };
        let pods = [
            pod("mine").label("app", "web").owned_by("DaemonSet", "u"),
            pod("lost").label("app", "api").owned_by("DaemonSet", "u"),
            pod("other").label("app", "web").owned_by("DaemonSet", "v"),
            pod("orphan").label("app", "web"),
            pod("refused").label("app", "web"),
            pod("dying").label("app", "web").deleted(),
        ];
        let pods: Vec<_> = pods.into_iter().map(|fixture| Arc::new(fixture.pod)).collect();
        let claim = claim("u", &selector, &pods, |pod| pod.metadata.name.as_deref() != Some("refused"));
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(&claim.ours), ["mine"]);
        assert_eq!(names(&claim.adopt), ["orphan"]);
        assert_eq!(names(&claim.release), ["lost"]);
    }
}
