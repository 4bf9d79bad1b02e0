//! The schema table in memory. It knows the text form and nothing about requests.
//!
//! `schema.txt` has a line per definition, `NAME ⇥ GROUP/VERSION/KIND ⇥ FLAGS ⇥ DESCRIPTION`, followed by a line per
//! field, `⇥ NAME ⇥ TYPE ⇥ NUMBERS ⇥ ATTRIBUTES ⇥ DESCRIPTION`. A type is a scalar's or definition's name behind any
//! number of `[]` (list of) and `{}` (map from string to). Numbers are the protobuf path, more than one number where
//! JSON inlines a message. Attributes are explained in `merge.toml`. Lines beginning with `#` are comments; in a
//! description `\n`, `\t` and `\\` stand for what they say.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

static TEXT: &str = include_str!("../schema.txt");

/// An API kind that the table describes; copying it costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(DefinitionId);

impl Kind {
    /// Finds a kind, or `None` for one that the table does not describe.
    ///
    /// `DeleteOptions` exists in every group, as clients send it in the group of what they delete.
    ///
    /// ```
    /// assert!(minisvc_schema::Kind::find("apps", "v1", "Deployment").is_some());
    /// assert!(minisvc_schema::Kind::find("example.com", "v1", "Widget").is_none());
    /// ```
    #[must_use]
    pub fn find(group: &str, version: &str, kind: &str) -> Option<Self> {
        let table = table();
        let (group, version) = if kind == "DeleteOptions" { ("", "v1") } else { (group, version) };
        table.kinds.get(&(group, version, kind)).copied().map(Self)
    }

    /// Finds a kind by its `apiVersion`, such as `v1` or `apps/v1`.
    #[must_use]
    pub fn find_by_api_version(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Self::find(group, version, kind)
    }

    /// The kind's `apiVersion`, such as `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(self) -> String {
        match self.definition().gvk {
            Some(("", version, _)) => version.to_owned(),
            Some((group, version, _)) => format!("{group}/{version}"),
            // Only kinds are handed out.
            None => String::new(),
        }
    }

    pub(crate) fn definition(self) -> &'static Definition {
        self.0.get()
    }
}

/// Where a definition lies in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DefinitionId(usize);

impl DefinitionId {
    pub(crate) fn get(self) -> &'static Definition {
        // Ids are made by the parser of this table alone, for definitions that it has.
        &table().definitions[self.0]
    }
}

/// One object type.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// Group, version and kind, if it is an API kind.
    pub(crate) gvk: Option<(&'static str, &'static str, &'static str)>,
    /// Its values belong to one manager as a whole.
    pub(crate) atomic: bool,
    /// Escaped: see [`unescape`].
    pub(crate) description: &'static str,
    /// In alphabetical order.
    pub(crate) fields: Vec<Field>,
}

impl Definition {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &self.fields[at])
    }
}

/// One field of an object type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) ty: Type,
    /// Protobuf field numbers from the message of the definition down to the field; empty if it has none.
    pub(crate) numbers: Vec<u32>,
    pub(crate) required: bool,
    /// A zero in a protobuf body means zero and not absent.
    pub(crate) explicit: bool,
    pub(crate) strategy: MergeStrategy,
    pub(crate) ownership: Ownership,
    /// What an absent field stands for.
    pub(crate) default: Option<Value>,
    /// Escaped: see [`unescape`].
    pub(crate) description: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar(Scalar),
    Object(DefinitionId),
    List(Box<Self>),
    /// Keys are strings.
    Map(Box<Self>),
}

/// Values without parts that the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 text in JSON.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, six fractional digits.
    MicroTime,
    /// A 32-bit number or a string.
    IntOrString,
    /// A number with a suffix, written as text or number.
    Quantity,
    /// Any JSON.
    Raw,
    /// The field sets in `managedFields`.
    Fields,
}

/// How strategic merge patch treats a list or object field (A-073).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MergeStrategy {
    /// List elements are merged instead of the list being replaced.
    pub(crate) merge: bool,
    /// `$retainKeys` is to be expected.
    pub(crate) retain_keys: bool,
    /// The field by which elements are matched; none for lists of primitives.
    pub(crate) key: Option<&'static str>,
}

/// How server-side apply divides a list, map or object among its managers (A-079).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// One unit. Lists are that unless said otherwise, and scalars are by nature.
    Atomic,
    /// Field by field, key by key.
    Granular,
    /// A list of distinct scalars, each with an owner.
    Set,
    /// A list of objects told apart by these fields, each with an owner.
    Keyed(Vec<&'static str>),
}

#[derive(Debug)]
struct Table {
    definitions: Vec<Definition>,
    kinds: HashMap<(&'static str, &'static str, &'static str), DefinitionId>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(TEXT))
}

/// Every definition.
pub(crate) fn definitions() -> &'static [Definition] {
    &table().definitions
}

/// Text of a description as it was before the table escaped it.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

/// Definitions whose values belong to one manager, and where the definitions are.
struct Names {
    ids: HashMap<&'static str, DefinitionId>,
    atomic: Vec<bool>,
}

/// Reads the table. What does not follow the format is skipped: the text is part of the program and a test reads
/// every line of it strictly.
fn parse(text: &'static str) -> Table {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let mut names = Names { ids: HashMap::new(), atomic: Vec::new() };
    for line in lines().filter(|line| !line.starts_with('\t')) {
        let mut columns = line.split('\t');
        if let Some(name) = columns.next() {
            names.ids.insert(name, DefinitionId(names.atomic.len()));
            names.atomic.push(columns.nth(1) == Some("atomic"));
        }
    }
    let mut table = Table { definitions: Vec::with_capacity(names.atomic.len()), kinds: HashMap::new() };
    for line in lines() {
        let mut columns = line.split('\t');
        let mut column = || columns.next().unwrap_or_default();
        let name = column();
        if !name.is_empty() {
            let gvk = parse_gvk(column());
            if let (Some(gvk), Some(id)) = (gvk, names.ids.get(name)) {
                table.kinds.insert(gvk, *id);
            }
            let atomic = column() == "atomic";
            let description = column();
            table.definitions.push(Definition { name, gvk, atomic, description, fields: Vec::new() });
        } else if let (Some(field), Some(definition)) = (parse_field(line, &names), table.definitions.last_mut()) {
            definition.fields.push(field);
        }
    }
    table
}

fn parse_gvk(text: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let mut parts = text.split('/');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

fn parse_field(line: &'static str, names: &Names) -> Option<Field> {
    let mut columns = line.split('\t').skip(1);
    let name = columns.next()?;
    let ty = parse_type(columns.next()?, names)?;
    let numbers = columns.next()?.split('.').filter_map(|n| n.parse().ok()).collect();
    let attributes: Vec<&'static str> = columns.next()?.split(' ').collect();
    let description = columns.next()?;
    let valued = |key: &str| attributes.iter().find_map(|a| a.strip_prefix(key)?.strip_prefix('='));
    let strategies = valued("strategy").unwrap_or_default();
    let strategy = MergeStrategy {
        merge: strategies.split(',').any(|s| s == "merge"),
        retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
        key: valued("key"),
    };
    let ownership = match (valued("list"), valued("map")) {
        (Some("set"), _) => Ownership::Set,
        (Some("map"), _) => Ownership::Keyed(valued("keys").unwrap_or_default().split(',').collect()),
        (_, Some("atomic")) => Ownership::Atomic,
        (_, Some("granular")) => Ownership::Granular,
        _ => natural_ownership(&ty, names),
    };
    Some(Field {
        name,
        ty,
        numbers,
        required: attributes.contains(&"required"),
        explicit: attributes.contains(&"explicit"),
        strategy,
        ownership,
        default: valued("default").and_then(|text| serde_json::from_str(text).ok()),
        description,
    })
}

/// How a value is divided when its field says nothing.
fn natural_ownership(ty: &Type, names: &Names) -> Ownership {
    match ty {
        Type::Object(id) if names.atomic[id.0] => Ownership::Atomic,
        Type::Object(_) | Type::Map(_) => Ownership::Granular,
        Type::List(_) | Type::Scalar(_) => Ownership::Atomic,
    }
}

fn parse_type(text: &str, names: &Names) -> Option<Type> {
    if let Some(element) = text.strip_prefix("[]") {
        return Some(Type::List(Box::new(parse_type(element, names)?)));
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Some(Type::Map(Box::new(parse_type(value, names)?)));
    }
    let scalar = match text {
        "string" => Scalar::String,
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "double" => Scalar::Double,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "intstr" => Scalar::IntOrString,
        "quantity" => Scalar::Quantity,
        "raw" => Scalar::Raw,
        "fields" => Scalar::Fields,
        name => return names.ids.get(name).copied().map(Type::Object),
    };
    Some(Type::Scalar(scalar))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line of the committed text must be understood: the parser itself skips what it cannot read.
    #[test]
    fn every_line_of_the_table_is_read() {
        let definitions = TEXT.lines().filter(|l| !l.starts_with(['#', '\t'])).count();
        let fields = TEXT.lines().filter(|l| l.starts_with('\t')).count();
        assert!(definitions > 300, "{definitions} definitions");
        assert_eq!(table().definitions.len(), definitions);
        assert_eq!(table().definitions.iter().map(|d| d.fields.len()).sum::<usize>(), fields);
        for definition in &table().definitions {
            assert!(definition.fields.is_sorted_by_key(|f| f.name), "{} can be searched", definition.name);
        }
    }

    #[test]
    fn merge_facts_reach_the_table() {
        // The first column is the statement that the row takes its keys from.
        let rows: &[(&str, &str, &str, Option<&str>, Ownership)] = &[
            ("A-074", "io.k8s.api.core.v1.PodSpec", "containers", Some("name"), Ownership::Keyed(vec!["name"])),
            ("A-074", "io.k8s.api.core.v1.PodSpec", "tolerations", None, Ownership::Atomic),
            ("A-074", "io.k8s.api.core.v1.PodSpec", "hostAliases", Some("ip"), Ownership::Keyed(vec!["ip"])),
            (
                "A-074",
                "io.k8s.api.core.v1.PodSpec",
                "topologySpreadConstraints",
                Some("topologyKey"),
                Ownership::Keyed(vec!["topologyKey", "whenUnsatisfiable"]),
            ),
            (
                "A-074",
                "io.k8s.api.core.v1.Container",
                "ports",
                Some("containerPort"),
                Ownership::Keyed(vec!["containerPort", "protocol"]),
            ),
            (
                "A-074",
                "io.k8s.api.core.v1.Container",
                "volumeMounts",
                Some("mountPath"),
                Ownership::Keyed(vec!["mountPath"]),
            ),
            ("A-074", "io.k8s.api.core.v1.Container", "envFrom", None, Ownership::Atomic),
            ("A-074", "io.k8s.api.core.v1.ResourceRequirements", "claims", None, Ownership::Keyed(vec!["name"])),
            (
                "A-074",
                "io.k8s.api.core.v1.ServiceSpec",
                "ports",
                Some("port"),
                Ownership::Keyed(vec!["port", "protocol"]),
            ),
            ("A-074", "io.k8s.api.core.v1.ServiceSpec", "selector", None, Ownership::Atomic),
            ("A-074", "io.k8s.api.batch.v1.JobStatus", "conditions", Some("type"), Ownership::Atomic),
            ("A-074", "io.k8s.api.core.v1.PodStatus", "hostIPs", Some("ip"), Ownership::Atomic),
            ("A-074", "io.k8s.api.core.v1.NodeSpec", "podCIDRs", None, Ownership::Set),
            ("A-074", "io.k8s.api.apps.v1.DeploymentSpec", "selector", None, Ownership::Atomic),
            ("A-074", "io.k8s.api.core.v1.ServiceAccount", "imagePullSecrets", None, Ownership::Atomic),
        ];
        for (statement, definition, field, key, ownership) in rows {
            let definition = table().definitions.iter().find(|d| d.name == *definition).expect("a known type");
            let field = definition.field(field).expect("a known field");
            assert_eq!((field.strategy.key, &field.ownership), (*key, ownership), "{statement}: {}", field.name);
        }
    }
}
