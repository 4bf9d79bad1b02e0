//! Tables: the form in which kubectl asks for lists, rendered by the server.
//!
//! Columns and cells of a kind are in `resources/`; this is the frame around them and the way ages are written.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::Column;

/// Columns of kinds that declare none.
pub const NAME_AND_CREATED: &[Column] = &[
    Column::NAME,
    Column { name: "Created At", kind: "date", format: "", description: "When the object was created.", priority: 0 },
];

/// Cells of kinds that declare no columns.
pub fn name_and_created(object: &Value, _now: Timestamp) -> Vec<Value> {
    let created = object.pointer("/metadata/creationTimestamp").cloned().unwrap_or(Value::Null);
    vec![Value::from(name(object)), created]
}

/// `metadata.name`, or the empty string.
pub fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The cell of [`Column::AGE`].
pub fn age(object: &Value, now: Timestamp) -> String {
    since(object.pointer("/metadata/creationTimestamp"), now)
}

/// The time from an RFC 3339 text to `now` in short form; `<unknown>` when there is none.
pub fn since(time: Option<&Value>, now: Timestamp) -> String {
    match time.and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration in seconds the way tables print it: the older, the coarser.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        // One second of clock skew is forgiven.
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// `columnDefinitions`.
pub(crate) fn column_definitions(columns: &[Column]) -> Value {
    let one = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    Value::Array(columns.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn ages_get_coarser() {
        let rows = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600 + 60, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86400, "8d"),
            (729 * 86400, "729d"),
            (730 * 86400, "2y"),
            (731 * 86400, "2y1d"),
            (8 * 365 * 86400 + 86400, "8y"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(human_duration(seconds), expected, "{seconds} s");
        }
    }

    //
    #[test]
    fn a_missing_timestamp_is_unknown() {
        assert_eq!(age(&json!({"metadata": {}}), Timestamp::UNIX_EPOCH), "<unknown>");
        let created = json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}});
        assert_eq!(age(&created, Timestamp::from_second(5).unwrap()), "5s");
    }
}
