//! What workloads share: a selector, a pod template, and the rules that tie them together (A-067, P-083).

use serde_json::Value;

use super::check::Errors;
use super::json::{at, has, integer, text};
use super::{meta, podspec};

/// Fills in the template of a workload.
pub(super) fn default(object: &mut Value) {
    if let Some(spec) = object.pointer_mut("/spec/template/spec").filter(|spec| spec.is_object()) {
        podspec::default(spec, podspec::Owner::Template);
    }
}

/// Checks selector and template; the selector never changes and always matches its own template.
pub(super) fn validate(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let selector = at(new, "/spec/selector");
    errors.not_negative("spec.replicas", integer(new, "/spec/replicas"));
    errors.not_negative("spec.minReadySeconds", integer(new, "/spec/minReadySeconds"));
    if selector.is_null() {
        errors.required("spec.selector", "");
    } else {
        meta::selector(errors, "spec.selector", selector);
        if meta::selects_everything(selector) {
            errors.invalid("spec.selector", selector.clone(), "empty selector is invalid");
        }
    }
    if let Some(old) = old {
        errors.immutable("spec.selector", selector, at(old, "/spec/selector"));
    }
    if !has(new, "/spec/template") {
        errors.required("spec.template", "");
        return;
    }
    let labels = at(new, "/spec/template/metadata/labels");
    if !selector.is_null() && !meta::selector_matches(selector, labels) {
        errors.invalid("spec.template.metadata.labels", labels.clone(), "`selector` does not match template `labels`");
    }
    meta::labels(errors, "spec.template.metadata.labels", labels);
    let spec = at(new, "/spec/template/spec");
    podspec::validate(errors, "spec.template.spec", spec);
    let policy = text(spec, "/restartPolicy");
    if ["OnFailure", "Never"].contains(&policy) {
        errors.unsupported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
    if has(spec, "/activeDeadlineSeconds") {
        errors.forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in a workload is not supported",
        );
    }
}
