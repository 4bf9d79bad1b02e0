//! Telling pod templates apart: the hash in names and labels (P-096), and equality.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label on ReplicaSets and pods of a Deployment.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// Letters and digits that spell no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for `template`; `collisions` gives another one when the name is taken by a different template.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if collisions > 0 {
        bytes.extend(collisions.to_be_bytes());
    }
    // FNV-1a, 64 bits: stable over versions of this program, unlike the standard library's hashers.
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut name = String::new();
    for _ in 0..10 {
        // The remainder is below 27.
        let digit = usize::try_from(state % 27).unwrap_or(0);
        name.push(char::from(ALPHABET[digit]));
        state /= 27;
    }
    name
}

/// Whether two templates are the same revision: the hash label does not count.
pub(crate) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let without_hash = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let mut metadata = template.metadata.take().unwrap_or_default();
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(HASH_LABEL);
        }
        metadata.labels = metadata.labels.filter(|labels| !labels.is_empty());
        metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
        (metadata, template.spec)
    };
    without_hash(a) == without_hash(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::template;

    // P-096
    #[test]
    fn the_hash_follows_the_template_and_the_collision_count() {
        let one = hash(&template("web:1"), 0);
        assert_eq!(one, hash(&template("web:1"), 0));
        assert_ne!(one, hash(&template("web:2"), 0));
        assert_ne!(one, hash(&template("web:1"), 1));
        assert!(one.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    //
    #[test]
    fn the_hash_label_does_not_make_templates_differ() {
        let plain = template("web:1");
        let mut labelled = plain.clone();
        let labels = labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "x".into());
        assert!(same(&plain, &labelled));
        assert!(!same(&plain, &template("web:2")));
    }
}
