//! What workloads share: a selector, a pod template, and the rules that tie them together (A-067, P-083).

use serde_json::Value;

use super::check::Errors;
use super::json::{at, has, integer, text};
use super::{meta, podspec};

/// What the pods of a workload may do when their processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// They are there to stay.
    Always,
    /// They are there to finish (P-113).
    UntilFinished,
    /// Whose pods they will be is not known.
    AsWished,
}

/// Fills in the template of a workload.
pub(super) fn default(object: &mut Value) {
    if let Some(template) = object.pointer_mut("/spec/template") {
        default_template(template);
    }
}

/// Fills in a template.
pub(super) fn default_template(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec").filter(|spec| spec.is_object()) {
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
    let template = at(new, "/spec/template");
    if !selector.is_null() {
        matches(errors, selector, template);
    }
    validate_template(errors, "spec.template", template, Restart::Always);
}

/// Checks that a `LabelSelector` selects what its template makes.
pub(super) fn matches(errors: &mut Errors, selector: &Value, template: &Value) {
    let labels = at(template, "/metadata/labels");
    if !meta::selector_matches(selector, labels) {
        errors.invalid("spec.template.metadata.labels", labels.clone(), "`selector` does not match template `labels`");
    }
}

/// Checks a template whose path is `field`.
pub(super) fn validate_template(errors: &mut Errors, field: &str, template: &Value, restart: Restart) {
    meta::labels(errors, &format!("{field}.metadata.labels"), at(template, "/metadata/labels"));
    let spec = at(template, "/spec");
    podspec::validate(errors, &format!("{field}.spec"), spec);
    let policy = text(spec, "/restartPolicy");
    let policy_field = format!("{field}.spec.restartPolicy");
    match restart {
        Restart::Always if ["OnFailure", "Never"].contains(&policy) => {
            errors.unsupported(policy_field, policy, &["Always"]);
        }
        // It is the default, so whoever gets here has probably said nothing.
        Restart::UntilFinished if policy == "Always" => {
            errors.required(policy_field, "valid values: \"OnFailure\", \"Never\"");
        }
        Restart::Always | Restart::UntilFinished | Restart::AsWished => {}
    }
    if restart == Restart::Always && has(spec, "/activeDeadlineSeconds") {
        errors.forbidden(
            format!("{field}.spec.activeDeadlineSeconds"),
            "activeDeadlineSeconds in a workload is not supported",
        );
    }
}
