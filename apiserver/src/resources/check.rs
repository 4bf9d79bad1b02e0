//! Collecting what is wrong with an object, in the words clients expect.
//!
//! The causes and their words are [`FieldError`]'s; which field is wrong and why is decided by the kinds.

use serde_json::Value;

use crate::registry::FieldError;

/// What was found wrong so far, in the order it was found.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub(super) fn required(&mut self, field: impl Into<String>, hint: &str) {
        self.0.push(FieldError::required(field, hint));
    }

    pub(super) fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, why: impl AsRef<str>) {
        self.0.push(FieldError::invalid(field, &value.into(), why));
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>, value: &str, allowed: &[&str]) {
        self.0.push(FieldError::not_supported(field, &Value::from(value), allowed));
    }

    pub(super) fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.0.push(FieldError::forbidden(field, why));
    }

    pub(super) fn duplicate(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.0.push(FieldError::duplicate(field, &value.into()));
    }

    pub(super) fn not_found(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.0.push(FieldError::not_found(field, &value.into()));
    }

    pub(super) fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        self.0.push(FieldError::too_long(field, limit));
    }

    pub(super) fn too_many(&mut self, field: impl Into<String>, count: usize, limit: usize) {
        self.0.push(FieldError::too_many(field, count, limit));
    }

    /// Records `Invalid` unless the rule holds.
    pub(super) fn rule(&mut self, field: impl Into<String>, value: impl Into<Value>, result: Result<(), String>) {
        if let Err(why) = result {
            self.invalid(field, value, why);
        }
    }

    /// Records `NotSupported` unless the value is one of those allowed.
    pub(super) fn one_of(&mut self, field: impl Into<String>, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            self.unsupported(field, value, allowed);
        }
    }

    /// Records `Invalid` if the number is there and outside the bounds.
    pub(super) fn between(&mut self, field: impl Into<String>, value: Option<i64>, low: i64, high: i64) {
        if let Some(value) = value
            && !(low..=high).contains(&value)
        {
            self.invalid(field, value, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// Records `Invalid` if the number is there and negative.
    pub(super) fn not_negative(&mut self, field: impl Into<String>, value: Option<i64>) {
        if let Some(value) = value
            && value < 0
        {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// Records `Invalid` with the text every unchangeable field shares if the two differ.
    pub(super) fn immutable(&mut self, field: impl Into<String>, new: &Value, old: &Value) {
        if new != old {
            self.invalid(field, new.clone(), "field is immutable");
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<FieldError> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_numbers_are_in_bounds() {
        let mut errors = Errors::default();
        errors.between("a", None, 1, 2);
        errors.not_negative("a", None);
        errors.immutable("a", &json!(1), &json!(1));
        assert!(errors.is_empty());
    }
}
