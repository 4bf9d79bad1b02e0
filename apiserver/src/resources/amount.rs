//! Numbers of pods, written as a number or as a share such as `25%`.

use serde_json::Value;

use super::check::Errors;

/// The number that is written, be it of pods or of percent; what is neither, or negative, is recorded.
pub(super) fn amount(errors: &mut Errors, field: &str, value: &Value) -> Option<i64> {
    let number = match value {
        Value::String(share) => share.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()),
        other => other.as_i64(),
    };
    match number {
        Some(number) if number >= 0 => return Some(number),
        Some(_) => errors.invalid(field, value.clone(), "must be greater than or equal to 0"),
        None => errors.invalid(field, value.clone(), "must be a number or a percentage such as '25%'"),
    }
    None
}

/// As [`amount`], and a share of more than everything is recorded too.
pub(super) fn at_most_all(errors: &mut Errors, field: &str, value: &Value) -> Option<i64> {
    let number = amount(errors, field, value)?;
    if value.is_string() && number > 100 {
        errors.invalid(field, value.clone(), "must not be greater than 100%");
    }
    Some(number)
}

/// The amount as a table shows it; `N/A` where there is none.
pub(super) fn cell(value: &Value) -> Value {
    match value {
        Value::String(share) => share.as_str().into(),
        Value::Number(number) => number.to_string().into(),
        _ => "N/A".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // P-097
    #[test]
    fn amounts_are_numbers_or_shares() {
        let rows = [
            (json!(0), Some(0), 0),
            (json!("25%"), Some(25), 0),
            (json!("101%"), Some(101), 1),
            (json!(-1), None, 1),
            (json!("25"), None, 1),
            (json!("x%"), None, 1),
            (json!(null), None, 1),
        ];
        for (value, expected, complaints) in rows {
            let mut errors = Errors::default();
            assert_eq!(at_most_all(&mut errors, "f", &value), expected, "{value}");
            assert_eq!(errors.into_list().len(), complaints, "{value}");
        }
        assert_eq!([cell(&json!(2)), cell(&json!("2%")), cell(&Value::Null)], ["2", "2%", "N/A"]);
    }
}
