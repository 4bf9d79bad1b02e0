//! Objections of validation: one field, one reason, one text (S-034, S-035).

use std::fmt::Write as _;

use serde_json::Value;

/// The kind of objection to one field; the names clients see start with `FieldValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The field must be set.
    Required,
    /// The value is malformed.
    Invalid,
    /// The value is none of the permitted ones.
    NotSupported,
    /// The field may not be set, or not like this.
    Forbidden,
    /// The value occurs twice.
    Duplicate,
    /// The value refers to something absent.
    NotFound,
    /// The value is longer than allowed.
    TooLong,
    /// The list has more items than allowed.
    TooMany,
}

impl Cause {
    /// The `reason` of an entry of `details.causes`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

/// One objection of validation, addressed to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The kind of objection.
    pub reason: Cause,
    /// Dotted path with list indices, such as `spec.ports[0].port`.
    pub field: String,
    /// The whole text after the path, prefix included (S-035).
    pub detail: String,
}

impl FieldError {
    /// `Required value` or `Required value: MESSAGE`.
    pub fn required(field: impl Into<String>, message: &str) -> Self {
        Self::new(Cause::Required, field, with_message("Required value", message))
    }

    /// `Invalid value: VALUE: MESSAGE`.
    pub fn invalid(field: impl Into<String>, value: &Value, message: impl AsRef<str>) -> Self {
        Self::new(Cause::Invalid, field, with_message(&format!("Invalid value: {}", printed(value)), message.as_ref()))
    }

    /// `Forbidden: MESSAGE`.
    pub fn forbidden(field: impl Into<String>, message: &str) -> Self {
        Self::new(Cause::Forbidden, field, with_message("Forbidden", message))
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(Cause::Duplicate, field, format!("Duplicate value: {}", printed(value)))
    }

    /// `Not found: VALUE`.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new(Cause::NotFound, field, format!("Not found: {}", printed(value)))
    }

    /// `Unsupported value: VALUE: supported values: "a", "b"`.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let mut detail = format!("Unsupported value: {}", printed(value));
        for (index, permitted) in supported.iter().enumerate() {
            let lead = if index == 0 { ": supported values: " } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(detail, "{lead}{permitted:?}");
        }
        Self::new(Cause::NotSupported, field, detail)
    }

    /// `Too long: may not be more than MAX bytes`.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self::new(Cause::TooLong, field, format!("Too long: may not be more than {max} bytes"))
    }

    /// `Too many: ACTUAL: must have at most MAX items`.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        Self::new(Cause::TooMany, field, format!("Too many: {actual}: must have at most {max} items"))
    }

    /// An objection whose text the caller has composed.
    pub fn new(reason: Cause, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason, field: field.into(), detail: detail.into() }
    }
}

fn with_message(prefix: &str, message: &str) -> String {
    if message.is_empty() { prefix.to_owned() } else { format!("{prefix}: {message}") }
}

/// Strings quoted, the rest as JSON, which prints numbers bare.
fn printed(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // S-035
    #[test]
    fn detail_prefixes() {
        let rows = [
            (FieldError::required("f", "why"), "Required value: why"),
            (FieldError::invalid("f", &json!("x"), "why"), "Invalid value: \"x\": why"),
            (FieldError::forbidden("f", "why"), "Forbidden: why"),
            (FieldError::duplicate("f", &json!("x")), "Duplicate value: \"x\""),
            (
                FieldError::not_supported("f", &json!("x"), &["a", "b"]),
                "Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
        ];
        for (error, expected) in rows {
            assert_eq!(error.detail, expected);
        }
    }
}
