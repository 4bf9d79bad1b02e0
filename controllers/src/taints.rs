//! Which toleration accepts which taint. Pure.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration accepts a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = set(&toleration.key);
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_none_or(|key| key == taint.key),
        _ => key.is_some_and(|key| key == taint.key) && set(&toleration.value) == set(&taint.value),
    }
}
