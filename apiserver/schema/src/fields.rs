//! Sets of fields as a tree, and their notation in `managedFields` (A-078). It does not know the schema.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A set of fields of one object.
///
/// A child's name is written as in the notation: `f:` and a field name, `k:` and the key fields of a list element as
/// JSON, `v:` and a list element as JSON, `i:` and a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The field itself is in the set, apart from what lies below it.
    owned: bool,
    children: BTreeMap<String, Self>,
}

impl FieldSet {
    /// A set that holds just the value it describes.
    pub(crate) fn leaf() -> Self {
        Self { owned: true, children: BTreeMap::new() }
    }

    pub(crate) fn own(&mut self) {
        self.owned = true;
    }

    /// Adds a part, unless it is empty.
    pub(crate) fn insert(&mut self, element: String, part: Self) {
        if !part.is_empty() {
            self.children.insert(element, part);
        }
    }

    pub(crate) fn child(&self, element: &str) -> Option<&Self> {
        self.children.get(element)
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.owned
    }

    /// Whether it holds no field at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }

    /// What is in either set.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.owned |= other.owned;
        for (element, theirs) in &other.children {
            let both = result.children.get(element).map_or_else(|| theirs.clone(), |ours| ours.union(theirs));
            result.children.insert(element.clone(), both);
        }
        result
    }

    /// What is in either set, when neither is needed any more.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.owned |= other.owned;
        for (element, theirs) in other.children {
            let both = match self.children.remove(&element) {
                Some(ours) => ours.join(theirs),
                None => theirs,
            };
            self.children.insert(element, both);
        }
        self
    }

    /// Takes out what is in the other set, and what is below a field of it.
    pub(crate) fn cut(&mut self, other: &Self) {
        if other.owned {
            *self = Self::default();
            return;
        }
        self.children.retain(|element, ours| {
            let Some(theirs) = other.children.get(element) else { return true };
            ours.cut(theirs);
            !ours.is_empty()
        });
    }

    /// Leaves of this set what [`Self::difference`] would answer.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.owned &= !other.owned;
        self.children.retain(|element, ours| {
            let Some(theirs) = other.children.get(element) else { return true };
            ours.subtract(theirs);
            !ours.is_empty()
        });
    }

    /// What is in both sets.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut result = Self { owned: self.owned && other.owned, children: BTreeMap::new() };
        for (element, ours) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                result.insert(element.clone(), ours.intersection(theirs));
            }
        }
        result
    }

    /// What is in this set and not in the other; what lies below a field of the other stays.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut result = Self { owned: self.owned && !other.owned, children: BTreeMap::new() };
        for (element, ours) in &self.children {
            let left = other.children.get(element).map_or_else(|| ours.clone(), |theirs| ours.difference(theirs));
            result.insert(element.clone(), left);
        }
        result
    }

    /// The fields as paths for people, such as `.spec.ports[port=80,protocol="TCP"].nodePort`.
    ///
    /// ```
    /// let set = minisvc_schema::FieldSet::from_json(&serde_json::json!({"f:spec": {"f:replicas": {}}})).expect("a set");
    /// assert_eq!(set.paths(), [".spec.replicas"]);
    /// ```
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(path.clone());
        }
        for (element, part) in &self.children {
            let length = path.len();
            path.push_str(&element_for_people(element));
            part.collect_paths(path, paths);
            path.truncate(length);
        }
    }

    /// Reads the notation; `None` if it is not that.
    ///
    /// ```
    /// let json = serde_json::json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}}}}});
    /// let set = minisvc_schema::FieldSet::from_json(&json).expect("a set");
    /// assert_eq!(set.to_json(), json);
    /// ```
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        let members = json.as_object()?;
        let mut set = Self::default();
        for (element, part) in members {
            if element == "." {
                set.owned = true;
                continue;
            }
            let part = match part.as_object()? {
                part if part.is_empty() => Self::leaf(),
                _ => Self::from_json(part)?,
            };
            set.insert(canonical(element)?, part);
        }
        Some(set)
    }

    /// Writes the notation.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.clone().into_json()
    }

    /// The same of a set that is not needed any more.
    #[must_use]
    pub(crate) fn into_json(self) -> Value {
        let is_also_owned = self.owned && !self.children.is_empty();
        let mut members = Map::with_capacity(self.children.len() + usize::from(is_also_owned));
        if is_also_owned {
            members.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, part) in self.children {
            members.insert(element, part.into_json());
        }
        Value::Object(members)
    }
}

/// The one spelling of an element that several may stand for: compact JSON with sorted keys.
fn canonical(element: &str) -> Option<String> {
    match element.get(..2)? {
        "f:" => Some(element.to_owned()),
        "i:" => element[2..].parse::<u64>().is_ok().then(|| element.to_owned()),
        "v:" => Some(value_element(&serde_json::from_str(&element[2..]).ok()?)),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(&element[2..]).ok()?;
            Some(key_element(keys.into_iter().collect()))
        }
        _ => None,
    }
}

/// The name of an element of a set list.
pub(crate) fn value_element(value: &Value) -> String {
    format!("v:{value}")
}

/// The name of an element of a list whose elements are told apart by key fields.
pub(crate) fn key_element(keys: BTreeMap<String, Value>) -> String {
    let keys: Map<String, Value> = keys.into_iter().collect();
    format!("k:{}", Value::Object(keys))
}

fn element_for_people(element: &str) -> String {
    let Some((kind, rest)) = element.split_once(':') else { return element.to_owned() };
    match kind {
        "f" => format!(".{rest}"),
        "v" => format!("[={rest}]"),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(json: Value) -> FieldSet {
        FieldSet::from_json(&json).expect("a set")
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let leaf = Just(FieldSet::leaf());
        let node = leaf.prop_recursive(3, 20, 3, |inner| {
            (any::<bool>(), proptest::collection::btree_map("f:[a-c]|v:[0-2]|k:\\{\"p\":[0-2]\\}", inner, 0..3))
                .prop_map(|(owned, children)| FieldSet { owned: owned || children.is_empty(), children })
        });
        // At the top of an object nothing stands for the object itself.
        node.prop_map(|node| FieldSet { owned: false, children: node.children })
    }

    #[test]
    fn the_notation_is_read_and_written() {
        let rows = [
            ("A-078", json!({"f:spec": {"f:replicas": {}}}), vec![".spec.replicas"]),
            (
                "A-078",
                json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}}}),
                vec![".metadata.finalizers[=\"x/y\"]", ".metadata.labels", ".metadata.labels.a"],
            ),
            (
                "A-078",
                json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:nodePort": {}}}}}),
                vec![".spec.ports[port=80,protocol=\"TCP\"]", ".spec.ports[port=80,protocol=\"TCP\"].nodePort"],
            ),
            ("A-078", json!({"f:a": {"i:0": {}}}), vec![".a[0]"]),
        ];
        for (statement, json, paths) in rows {
            let set = set(json.clone());
            assert_eq!(
                (set.to_json(), set.paths()),
                (json, paths.iter().map(ToString::to_string).collect()),
                "{statement}"
            );
        }
        // Another spelling of the same key is the same element.
        let odd = set(json!({"f:p": {"k:{\"b\": 1, \"a\":2}": {}}}));
        assert_eq!(odd.to_json(), json!({"f:p": {"k:{\"a\":2,\"b\":1}": {}}}));
        for bad in
            [json!([]), json!({"x:a": {}}), json!({"f:a": 1}), json!({"k:{": {}}), json!({"": {}}), json!({"é": {}})]
        {
            assert_eq!(FieldSet::from_json(&bad), None, "{bad}");
        }
    }

    // A-078
    #[test]
    fn cut_takes_what_lies_below_and_difference_does_not() {
        let owned = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let gone = set(json!({"f:a": {}}));
        let mut left = owned.clone();
        left.cut(&gone);
        assert_eq!(left, set(json!({"f:c": {}})));
        assert_eq!(owned.difference(&gone), set(json!({"f:a": {"f:b": {}}, "f:c": {}})));
    }

    proptest! {
        // A-078
        #[test]
        fn every_set_survives_its_notation(set in any_set()) {
            prop_assert_eq!(FieldSet::from_json(&set.to_json()), Some(set));
        }

        #[test]
        fn sets_follow_the_laws(a in any_set(), b in any_set()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&a).is_empty());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&b).difference(&b), a.difference(&b));
            prop_assert_eq!(a.clone().join(b.clone()), a.union(&b));
            let (mut cut, mut left) = (a.clone(), a.clone());
            left.subtract(&b);
            prop_assert_eq!(left, a.difference(&b));
            cut.cut(&b);
            let (kept, gone) = (cut.paths(), b.paths());
            let below = |path: &String| gone.iter().any(|gone| *path == *gone || path.strip_prefix(gone.as_str()).is_some_and(|rest| rest.starts_with(['.', '['])));
            let expected: Vec<String> = a.paths().into_iter().filter(|path| !below(path)).collect();
            prop_assert_eq!(kept, expected);
        }
    }
}
