//! Bytes to JSON values, noticing keys that are written twice. It does not know the schema.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A key that an object has more than once; the last value counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Where, from the top: `spec.containers[0].name`.
    pub path: String,
}

/// Why a body is not an object tree. The text is that of the parser.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or more than one value, or nested too deeply.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Not YAML, or more than one document, or too large once its aliases are followed.
    #[error("{0}")]
    Yaml(String),
}

/// Reads one JSON value. The last of several equal keys wins, and every repetition is reported with its path (A-063).
///
/// ```
/// let (value, duplicates) = minisvc_schema::decode_json(br#"{"data":{"k":"1","k":"2"}}"#)?;
/// assert_eq!(value["data"]["k"], "2");
/// assert_eq!(duplicates[0].path, "data.k");
/// # Ok::<(), minisvc_schema::DecodeError>(())
/// ```
///
/// # Errors
/// Text that is not exactly one JSON value, or one nested deeper than 128.
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    let node: Node = serde_json::from_slice(bytes)?;
    Ok((node.value, node.duplicates))
}

/// Reads one YAML document, of which JSON is a special case, under the same rules as [`decode_json`].
///
/// ```
/// let (value, _) = minisvc_schema::decode_yaml(b"spec:\n  replicas: 3\n")?;
/// assert_eq!(value["spec"]["replicas"], 3);
/// # Ok::<(), minisvc_schema::DecodeError>(())
/// ```
///
/// # Errors
/// Text that is not exactly one YAML document, or one that costs more than the parser's budget to read.
pub fn decode_yaml(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    // Most clients send JSON under the name of YAML, and its parser is many times as fast.
    if bytes.first() == Some(&b'{')
        && let Ok(decoded) = decode_json(bytes)
    {
        return Ok(decoded);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let node: Node =
        serde_saphyr::from_slice_with_options(bytes, options).map_err(|e| DecodeError::Yaml(e.to_string()))?;
    Ok((node.value, node.duplicates))
}

/// A value and the repetitions found in it, with paths relative to it.
struct Node {
    value: Value,
    duplicates: Vec<Duplicate>,
}

impl Node {
    fn plain(value: impl Into<Value>) -> Self {
        Self { value: value.into(), duplicates: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::plain(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::plain(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::plain(v))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Node, E> {
        Number::from_f64(v).map(Node::plain).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::plain(v))
    }

    fn visit_string<E>(self, v: String) -> Result<Node, E> {
        Ok(Node::plain(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        let mut duplicates = Vec::new();
        while let Some(node) = seq.next_element::<Node>()? {
            let index = items.len();
            duplicates.extend(below(&format!("[{index}]"), node.duplicates));
            items.push(node.value);
        }
        duplicates.truncate(MOST_DUPLICATES);
        Ok(Node { value: Value::Array(items), duplicates })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Map::new();
        let mut duplicates = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let node = entries.next_value::<Node>()?;
            duplicates.extend(below(&key, node.duplicates));
            if map.contains_key(&key) {
                duplicates.push(Duplicate { path: key.chars().take(LONGEST_STEP).collect() });
            }
            map.insert(key, node.value);
        }
        duplicates.truncate(MOST_DUPLICATES);
        Ok(Node { value: Value::Object(map), duplicates })
    }
}

/// No more repetitions than these are reported: a person reads them, and each path costs memory.
const MOST_DUPLICATES: usize = 100;

/// Longer keys are cut in paths, for the same reasons.
const LONGEST_STEP: usize = 300;

/// The duplicates of a part, with paths from the whole.
fn below(step: &str, duplicates: Vec<Duplicate>) -> impl Iterator<Item = Duplicate> {
    let step: String = step.chars().take(LONGEST_STEP).collect();
    duplicates.into_iter().map(move |d| Duplicate {
        path: if d.path.starts_with('[') { format!("{step}{}", d.path) } else { format!("{step}.{}", d.path) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_found_wherever_they_are() {
        let rows = [
            ("A-063", r#"{"a":1,"a":2}"#, json!({"a": 2}), vec!["a"]),
            (
                "A-063",
                r#"{"a":{"b":1,"b":1},"c":[{"d":1,"d":2}]}"#,
                json!({"a":{"b":1},"c":[{"d":2}]}),
                vec!["a.b", "c[0].d"],
            ),
            ("A-063", r#"{"a":[[{"x":1,"x":2}]],"a":3}"#, json!({"a": 3}), vec!["a[0][0].x", "a"]),
            ("A-063", r#"{"a":1,"A":1}"#, json!({"a": 1, "A": 1}), vec![]),
        ];
        for (statement, text, value, paths) in rows {
            // With a comment it is no JSON any more.
            let commented = format!("# YAML\n{text}");
            for (text, decode) in
                [(text, decode_json as fn(&[u8]) -> _), (text, decode_yaml), (&commented, decode_yaml)]
            {
                let (decoded, duplicates) = decode(text.as_bytes()).expect(statement);
                let found: Vec<_> = duplicates.iter().map(|d| d.path.as_str()).collect();
                assert_eq!((decoded, found), (value.clone(), paths.clone()), "{statement}: {text}");
            }
        }
    }

    // A-040, A-068
    #[test]
    fn yaml_gives_what_the_same_json_gives() {
        let yaml = "kind: Service\nmetadata:\n  name: \"1\"\n  labels: {a: \"true\", 1: b}\nspec:\n  ports:\n  - port: 80\n    targetPort: http\n  clusterIP: null\n  publishNotReadyAddresses: true\n";
        let (value, duplicates) = decode_yaml(yaml.as_bytes()).expect("YAML");
        assert!(duplicates.is_empty());
        assert_eq!(
            value,
            json!({"kind": "Service", "metadata": {"name": "1", "labels": {"a": "true", "1": "b"}},
                "spec": {"ports": [{"port": 80, "targetPort": "http"}], "clusterIP": null, "publishNotReadyAddresses": true}})
        );
    }

    // A-063
    #[test]
    fn a_flood_of_duplicates_costs_little() {
        let long = "k".repeat(1 << 16);
        let text = format!("{{\"{long}\":{{{}\"a\":1}}}}", "\"a\":1,".repeat(10_000));
        let (_, duplicates) = decode_json(text.as_bytes()).expect("JSON");
        assert_eq!(duplicates.len(), MOST_DUPLICATES);
        assert!(duplicates.iter().all(|d| d.path.len() < 2 * LONGEST_STEP));
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for text in ["", "{", "{} {}", "nul", "{\"a\":}", "\u{0}"] {
            assert!(decode_json(text.as_bytes()).is_err(), "{text:?}");
        }
        for text in ["a: b\n---\nc: d\n", "a: [", "{a: b: c}", "a: .inf"] {
            assert!(decode_yaml(text.as_bytes()).is_err(), "{text:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(decode_json(deep.as_bytes()).is_err());
        assert!(decode_yaml(deep.as_bytes()).is_err());
    }

    #[test]
    fn aliases_cannot_make_a_small_document_large() {
        let text = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 10_000].join(","));
        assert!(decode_yaml(text.as_bytes()).is_err());
        let laughs: Vec<String> = (1..30).map(|n| format!("a{n}: &a{n} [*a{0},*a{0},*a{0}]", n - 1)).collect();
        let text = format!("a0: &a0 [x]\n{}\n", laughs.join("\n"));
        assert!(decode_yaml(text.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_json(&bytes);
            let _ = decode_yaml(&bytes);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[-\\[\\]{}:,&*!|>'\"a-c0-9 \n#?.]{0,80}") {
            let _ = decode_json(text.as_bytes());
            let _ = decode_yaml(text.as_bytes());
        }
    }
}
