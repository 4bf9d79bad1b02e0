//! What tells the pods of a StatefulSet apart: their ordinals (P-103 to P-105). Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{self as core, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};

use crate::pod::Pod;
use crate::pod_writer::pod_from;
use crate::revisions::HASH_LABEL;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of a pod of this name, if it is one of the set's.
pub(crate) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: i32 = digits.parse().ok()?;
    // `web-01` and `web-+1` are not ours.
    (number >= 0 && number.to_string() == digits).then_some(number)
}

/// The pod of an ordinal, made of the template of the revision of this name.
pub(crate) fn pod(set: &StatefulSet, ordinal: i32, template: &PodTemplateSpec, revision: &str) -> core::Pod {
    let mut pod = pod_from(template, set);
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let name = format!("{set_name}-{ordinal}");
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    if let Some(service) = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty())
    {
        spec.subdomain = Some(service);
    }
    let claims = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
    for claim in claims {
        let volume_name = claim.metadata.name.clone().unwrap_or_default();
        let volumes = spec.volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != volume_name);
        volumes.push(Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: format!("{volume_name}-{name}"),
                read_only: None,
            }),
            name: volume_name,
            ..Volume::default()
        });
    }
    pod
}

/// The revision a pod was made of.
pub(crate) fn revision(pod: &Pod) -> &str {
    pod.labels.get(HASH_LABEL).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSetSpec;

    use super::*;
    use crate::fixtures::{meta, template};

    // P-103
    #[test]
    fn a_name_is_the_sets_name_and_an_ordinal() {
        for (name, expected) in [
            ("db-0", Some(0)),
            ("db-12", Some(12)),
            ("db-01", None),
            ("db-+1", None),
            ("db--1", None),
            ("db-", None),
            ("db", None),
            ("dbx-1", None),
            ("db-a-1", None),
        ] {
            assert_eq!(ordinal("db", name), expected, "{name}");
        }
    }

    // P-103, P-104, P-105
    #[test]
    fn a_pod_knows_its_name_its_index_and_its_service() {
        let spec = StatefulSetSpec { service_name: Some("peers".into()), ..StatefulSetSpec::default() };
        let set = StatefulSet { metadata: meta("db"), spec: Some(spec), ..StatefulSet::default() };
        let pod = pod(&set, 2, &template("web:1"), "db-abc");
        assert_eq!(pod.metadata.name.as_deref(), Some("db-2"));
        let labels = pod.metadata.labels.as_ref().unwrap();
        assert_eq!(labels[NAME_LABEL], "db-2");
        assert_eq!(labels[INDEX_LABEL], "2");
        assert_eq!(labels["controller-revision-hash"], "db-abc");
        assert_eq!(labels["app"], "web");
        assert_eq!(revision(&Pod::of(&pod)), "db-abc");
        let spec = pod.spec.unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("peers")));
    }
}
