//! Gives decoders and patches bytes of a stranger's choosing, and checks what must hold whatever they are.
//!
//! Used by the fuzz targets, and by an ordinary test that replays the corpus.

use minisvc_schema::{
    Kind, Writer, apply, decode_json, decode_protobuf, decode_yaml, json_patch, merge, normalize, strategic,
    strict_errors, track_update, type_errors, unknown_fields,
};
use serde_json::Value;

/// Kinds with much in them: lists with keys, maps, quantities, raw values.
const KINDS: [(&str, &str, &str); 8] = [
    ("", "v1", "Service"),
    ("", "v1", "Pod"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ControllerRevision"),
    ("batch", "v1", "CronJob"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
];

/// Parts of the bytes of a patch.
const SEPARATOR: u8 = 0;

fn kind(byte: u8) -> Option<Kind> {
    let (group, version, name) = KINDS[usize::from(byte) % KINDS.len()];
    Kind::find(group, version, name)
}

/// Decodes a body: the first byte says in which form it is (0 JSON, 1 YAML, 2 protobuf), the second of which kind.
///
/// # Panics
/// When a decoder does what it must never do.
pub fn decode(data: &[u8]) {
    let Some(([form, which], body)) = data.split_first_chunk::<2>() else { return };
    let decoded = match form % 3 {
        0 => decode_json(body).ok(),
        1 => decode_yaml(body).ok(),
        _ => decode_protobuf(body).ok().map(|decoded| (decoded.value, Vec::new())),
    };
    let (Some((mut value, duplicates)), Some(kind)) = (decoded, kind(*which)) else { return };
    assert!(decode_json(value.to_string().as_bytes()).is_ok(), "what was decoded can be sent: {value}");
    let strict = strict_errors(kind, &value, &duplicates);
    assert!(strict.len() >= unknown_fields(kind, &value).len(), "strictness sees unknown fields");
    if type_errors(kind, &value).is_empty() {
        normalize(kind, &mut value);
        assert_eq!(type_errors(kind, &value), Vec::<String>::new(), "the usual form is of the kind");
        let once = value.clone();
        normalize(kind, &mut value);
        assert_eq!(value, once, "the usual form of the usual form is itself");
    }
}

/// Patches an object: a byte for the kind, then the object and the patch as JSON with a zero byte between.
///
/// # Panics
/// When a patch does what it must never do.
pub fn patch(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let Some(at) = rest.iter().position(|byte| *byte == SEPARATOR) else { return };
    let read = |bytes| decode_json(bytes).ok().map(|(value, _)| value);
    let (Some(kind), Some(live), Some(patch)) = (kind(*which), read(&rest[..at]), read(&rest[at + 1..])) else {
        return;
    };
    if let Ok(merged) = merge::apply(&live, &patch) {
        assert_eq!(merge::apply(&merged, &patch).ok(), Some(merged.clone()), "a merge patch does its work once");
    }
    let _ = json_patch::apply(&live, &patch);
    // The server lets only objects of the kind so far.
    let fits = |value: &Value| value.is_object() && type_errors(kind, value).is_empty();
    if !fits(&live) {
        return;
    }
    let _ = strategic::apply(kind, &live, &patch);
    let writer = |manager| Writer { manager, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
    let mut owned = live;
    if let Some(metadata) = owned.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let entries = track_update(kind, None, &owned, &writer("update"));
    if let Some(metadata) = owned.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
    if !fits(&patch) {
        return;
    }
    if let Ok(applied) = apply(kind, Some(&owned), &patch, &writer("apply"), true) {
        let again = apply(kind, Some(&applied), &patch, &writer("apply"), false);
        assert_eq!(again.ok(), Some(applied), "what was applied is as it was wanted");
    }
}
