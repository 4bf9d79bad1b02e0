//! Templates as they were: the ControllerRevisions of StatefulSets and DaemonSets, which `kubectl rollout history` and
//! `undo` read.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cache::{Cache, Key, Object};
use crate::deployment::template::{hash, same};
use crate::error::{Error, is_status};
use crate::owners;
use crate::pod_writer::reference;
use crate::pods;

/// The label on pods that tells their revision.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// Names tried before a template that collides with others is given up.
const COLLISIONS: i32 = 8;

/// What must be done so that the revision of the present template exists and is the newest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// It is so.
    Present(Arc<ControllerRevision>),
    /// The template is that of an older revision, which becomes the newest with this number: a roll back.
    Renumber(Arc<ControllerRevision>, i64),
    /// The template is new and gets this number.
    Create(i64),
}

/// Compares the present template with `revisions`, which are those of one owner.
pub(crate) fn wanted(template: &PodTemplateSpec, revisions: &[Arc<ControllerRevision>]) -> Wanted {
    let newest = revisions.iter().map(|revision| revision.revision).max();
    let next = newest.map_or(1, |newest| newest.saturating_add(1));
    let equal = revisions
        .iter()
        .filter(|revision| self::template(revision).is_some_and(|known| same(&known, template)))
        .max_by_key(|revision| revision.revision);
    match equal {
        Some(revision) if Some(revision.revision) == newest => Wanted::Present(revision.clone()),
        Some(revision) => Wanted::Renumber(revision.clone(), next),
        None => Wanted::Create(next),
    }
}

/// The template that a revision keeps.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let data = &revision.data.as_ref()?.0;
    serde_json::from_value(data.pointer("/spec/template")?.clone()).ok()
}

/// A patch that brings its owner back to `template`: the form that kubectl applies.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The revisions that history no longer needs, oldest first: those beyond `limit` that are not `live`.
pub(crate) fn expendable(
    revisions: &[Arc<ControllerRevision>],
    live: &BTreeSet<String>,
    limit: usize,
) -> Vec<Arc<ControllerRevision>> {
    let mut unused: Vec<_> = revisions
        .iter()
        .filter(|revision| revision.metadata.name.as_ref().is_none_or(|name| !live.contains(name)))
        .cloned()
        .collect();
    unused.sort_by_key(|revision| revision.revision);
    unused.truncate(unused.len().saturating_sub(limit));
    unused
}

/// The part of a revision's name after its owner's.
pub(crate) fn short(revision: &ControllerRevision) -> String {
    let label = revision.metadata.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL)).cloned();
    label.unwrap_or_else(|| revision.metadata.name.clone().unwrap_or_default())
}

/// Reads and writes revisions.
pub(crate) struct Revisions {
    pub(crate) client: Client,
    pub(crate) cache: Arc<Cache<ControllerRevision>>,
}

impl Revisions {
    /// Those that `owner` controls.
    pub(crate) fn of<K: Object>(&self, owner: &K) -> Vec<Arc<ControllerRevision>> {
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        let mut all = self.cache.in_namespace(owner.meta().namespace.as_deref().unwrap_or_default());
        all.retain(|revision| pods::is_controlled_by(&revision.metadata, uid));
        all
    }

    fn api<K: Object>(&self, owner: &K) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), owner.meta().namespace.as_deref().unwrap_or_default())
    }

    /// The revision of the present template, made or renumbered where necessary.
    pub(crate) async fn ensure<K: Object>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
    ) -> Result<Arc<ControllerRevision>, Error> {
        match wanted(template, &self.of(owner)) {
            Wanted::Present(revision) => Ok(revision),
            Wanted::Renumber(revision, number) => self.renumber(owner, &revision, number).await,
            Wanted::Create(number) => self.create(owner, template, number).await,
        }
    }

    async fn renumber<K: Object>(
        &self,
        owner: &K,
        revision: &ControllerRevision,
        number: i64,
    ) -> Result<Arc<ControllerRevision>, Error> {
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"revision": number});
        let written = self.api(owner).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.known(written.map_err(Error::api("renumbering a ControllerRevision"))?)
    }

    async fn create<K: Object>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
        number: i64,
    ) -> Result<Arc<ControllerRevision>, Error> {
        let api = self.api(owner);
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        for collisions in 0..COLLISIONS {
            let new = new_revision(owner, template, number, collisions);
            let source = match api.create(&PostParams::default(), &new).await {
                Ok(created) => return self.known(created),
                Err(source) => source,
            };
            if !is_status(&source, 409) {
                return Err(Error::api("creating a ControllerRevision")(source));
            }
            // Made by us before the watch told, left behind by a deletion that orphaned it, or of another template.
            let name = new.metadata.name.as_deref().unwrap_or_default();
            let holder = api.get(name).await.map_err(Error::api("reading a ControllerRevision"))?;
            if !self::template(&holder).is_some_and(|known| same(&known, template)) {
                continue;
            }
            match pods::controller(&holder.metadata) {
                Some(controller) if controller.uid == uid => return self.known(holder),
                Some(_) => {}
                None => {
                    let patch = owners::adoption(&holder.metadata, &reference(owner));
                    let adopted = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
                    return self.known(adopted.map_err(Error::api("adopting a ControllerRevision"))?);
                }
            }
        }
        Err(Error::Missing("a free name for the ControllerRevision".to_owned()))
    }

    fn known(&self, written: ControllerRevision) -> Result<Arc<ControllerRevision>, Error> {
        self.cache.wrote(written.clone());
        Ok(Arc::new(written))
    }

    /// Deletes what history no longer needs.
    pub(crate) async fn prune<K: Object>(&self, owner: &K, live: &BTreeSet<String>, limit: i32) -> Result<(), Error> {
        let api = self.api(owner);
        for revision in expendable(&self.of(owner), live, usize::try_from(limit).unwrap_or(0)) {
            let key = Key::of(&revision.metadata);
            match api.delete(&key.name, &DeleteParams::background()).await {
                Ok(_) => self.cache.gone(&key),
                Err(source) if is_status(&source, 404) => self.cache.gone(&key),
                Err(source) => return Err(Error::api("deleting an old ControllerRevision")(source)),
            }
        }
        Ok(())
    }
}

fn new_revision<K: Object>(owner: &K, template: &PodTemplateSpec, number: i64, collisions: i32) -> ControllerRevision {
    let hash = hash(template, collisions);
    let mut labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.meta().name.as_deref().unwrap_or_default())),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            // `kubectl rollout history` shows the change-cause.
            annotations: owner.meta().annotations.clone().map(|mut annotations| {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
                annotations
            }),
            owner_references: Some(vec![reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data(template))),
        revision: number,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;

    use super::*;
    use crate::fixtures::{self, meta};

    fn made(image: &str, number: i64) -> Arc<ControllerRevision> {
        let owner = StatefulSet { metadata: meta("db"), ..StatefulSet::default() };
        Arc::new(new_revision(&owner, &fixtures::template(image), number, 0))
    }

    // P-107, A-158
    #[test]
    fn a_template_is_new_present_or_rolled_back_to() {
        let (one, two) = (made("web:1", 1), made("web:2", 2));
        let known = [one.clone(), two.clone()];
        assert_eq!(wanted(&fixtures::template("web:1"), &[]), Wanted::Create(1));
        assert_eq!(wanted(&fixtures::template("web:2"), &known), Wanted::Present(two));
        assert_eq!(wanted(&fixtures::template("web:3"), &known), Wanted::Create(3));
        assert_eq!(wanted(&fixtures::template("web:1"), &known), Wanted::Renumber(one, 3));
    }

    // P-107
    #[test]
    fn a_revision_is_a_patch_back_to_its_template() {
        let revision = made("web:1", 1);
        assert_eq!(template(&revision), Some(fixtures::template("web:1")));
        assert_eq!(revision.data.as_ref().unwrap().0["spec"]["template"]["$patch"], "replace");
        assert_eq!(revision.metadata.labels.as_ref().unwrap()["app"], "web");
        assert_eq!(revision.metadata.name.clone().unwrap(), format!("db-{}", short(&revision)));
    }

    // P-107
    #[test]
    fn history_keeps_what_is_in_use_and_the_latest_of_the_rest() {
        let known: Vec<_> = (1..=5).map(|number| made(&format!("web:{number}"), number)).collect();
        let name = |index: usize| known[index].metadata.name.clone().unwrap();
        let live = BTreeSet::from([name(0), name(4)]);
        assert_eq!(expendable(&known, &live, 2), [known[1].clone()]);
        assert_eq!(expendable(&known, &live, 0).len(), 3);
        assert_eq!(expendable(&known, &live, 10), []);
    }
}
