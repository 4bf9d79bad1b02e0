//! OpenAPI documents: v3 as an index and one document per group and version, v2 as one for all (A-028 to A-035). It does not
//! serve them.

use crate::swagger;
use crate::table::{Definition, DefinitionId, Field, Kind, Ownership, Scalar, Type, unescape};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

pub(crate) const REFERENCE: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const GVK: &str = "x-kubernetes-group-version-kind";

/// A kind that the server serves under a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Served {
    /// API group, empty for the core one.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Kind, such as `Service`.
    pub kind: String,
    /// Path segment, such as `services`.
    pub plural: String,
    /// Whether objects lie in a namespace.
    pub namespaced: bool,
}

/// The documents for what a server serves, made when they are first asked for.
///
/// ```
/// use minisvc_schema::{OpenApi, Served};
/// let service = Served { group: "".into(), version: "v1".into(), kind: "Service".into(), plural: "services".into(), namespaced: true };
/// let api = OpenApi::new(vec![service], "v1.36.0");
/// assert!(api.index().contains("/openapi/v3/api/v1?hash="));
/// assert!(api.document("api/v1").expect("it is served").contains("io.k8s.api.core.v1.ServicePort"));
/// assert!(api.document("apis/apps/v1").is_none());
/// ```
#[derive(Debug)]
pub struct OpenApi {
    served: Vec<Served>,
    version: String,
    documents: OnceLock<Documents>,
    swagger: OnceLock<Swagger>,
}

/// The v2 document, as JSON and as the message that kubectl reads.
#[derive(Debug)]
pub struct Swagger {
    /// The document.
    pub json: String,
    /// The same as a `openapi.v2.Document` of protobuf.
    pub protobuf: Vec<u8>,
    /// What identifies its content, fit for an `ETag`.
    pub hash: String,
}

#[derive(Debug)]
struct Documents {
    index: String,
    /// Text and hash by path without the leading `/openapi/v3/`.
    by_path: BTreeMap<String, (String, String)>,
}

impl OpenApi {
    /// Prepares the documents; `version` is that of the server, such as `v1.36.0`.
    #[must_use]
    pub fn new(served: Vec<Served>, version: &str) -> Self {
        Self { served, version: version.to_owned(), documents: OnceLock::new(), swagger: OnceLock::new() }
    }

    /// The JSON answer to `GET /openapi/v3`.
    #[must_use]
    pub fn index(&self) -> &str {
        &self.documents().index
    }

    /// The JSON answer to `GET /openapi/v3/PATH`, where `path` is `api/v1` or `apis/GROUP/VERSION`; `None` if nothing
    /// is served there.
    #[must_use]
    pub fn document(&self, path: &str) -> Option<&str> {
        self.documents().by_path.get(path).map(|(text, _)| text.as_str())
    }

    /// What identifies the content of a document: it is in the index, and fit for an `ETag` (A-035).
    #[must_use]
    pub fn hash(&self, path: &str) -> Option<&str> {
        self.documents().by_path.get(path).map(|(_, hash)| hash.as_str())
    }

    /// The answer to `GET /openapi/v2` (A-031).
    #[must_use]
    pub fn swagger(&self) -> &Swagger {
        self.swagger.get_or_init(|| {
            let served: Vec<&Served> = self.served.iter().collect();
            let document = swagger::from_v3(&document(&served, &self.version));
            let json = document.to_string();
            Swagger { protobuf: swagger::encode(&document), hash: hash(&json), json }
        })
    }

    fn documents(&self) -> &Documents {
        self.documents.get_or_init(|| {
            let mut groups: BTreeMap<String, Vec<&Served>> = BTreeMap::new();
            for served in &self.served {
                groups.entry(served.root()).or_default().push(served);
            }
            let mut by_path = BTreeMap::new();
            let mut index = Map::new();
            for (path, served) in groups {
                let text = document(&served, &self.version).to_string();
                let hash = hash(&text);
                let url = format!("/openapi/v3/{path}?hash={hash}");
                index.insert(path.clone(), json!({ "serverRelativeURL": url }));
                by_path.insert(path, (text, hash));
            }
            Documents { index: json!({ "paths": index }).to_string(), by_path }
        })
    }
}

impl Served {
    /// The group and version as the beginning of a path.
    fn root(&self) -> String {
        match self.group.as_str() {
            "" => format!("api/{}", self.version),
            group => format!("apis/{group}/{}", self.version),
        }
    }

    /// Reviews are questions: they are posted and never stored.
    fn is_stored(&self) -> bool {
        !matches!(self.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
    }

    fn gvk(&self) -> Value {
        json!({ "group": self.group, "kind": self.kind, "version": self.version })
    }
}

/// Equal texts have equal hashes; it need not stay the same from one build of minisvc to the next.
fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

fn document(served: &[&Served], version: &str) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for meta in ["DeleteOptions", "Status"] {
        schemas.want_kind(Kind::find("", "v1", meta));
    }
    for served in served {
        let schema = schemas.want_kind(Kind::find(&served.group, &served.version, &served.kind));
        if let (Some(name), true) = (&schema, served.is_stored()) {
            schemas.list(name, served);
        }
        add_paths(&mut paths, served, schema.as_deref());
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": version },
        "paths": paths,
        "components": { "schemas": schemas.finish() },
    })
}

/// The component schemas of one document: what is asked for and all that it refers to.
#[derive(Default)]
struct Schemas {
    done: BTreeMap<String, Value>,
    open: Vec<&'static Definition>,
    scalars: BTreeSet<&'static str>,
}

impl Schemas {
    /// Asks for a kind's schema and returns its name.
    fn want_kind(&mut self, kind: Option<Kind>) -> Option<String> {
        let definition = kind?.definition();
        self.open.push(definition);
        Some(definition.name.to_owned())
    }

    fn want(&mut self, id: DefinitionId) -> &'static str {
        let definition = id.get();
        if !self.done.contains_key(definition.name) {
            self.open.push(definition);
        }
        definition.name
    }

    /// Adds the list type of a kind, which the table leaves out because all are alike.
    fn list(&mut self, name: &str, served: &Served) {
        let meta = format!("{META}.ListMeta");
        self.open.extend(crate::table::definitions().iter().find(|d| d.name == meta));
        let list = json!({
            "description": format!("{}List is a list of objects of kind {}.", served.kind, served.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": { "type": "string" },
                "items": { "type": "array", "items": reference(name) },
                "kind": { "type": "string" },
                "metadata": reference(&meta),
            },
            GVK: [{ "group": served.group, "kind": format!("{}List", served.kind), "version": served.version }],
        });
        self.done.insert(format!("{name}List"), list);
    }

    fn finish(mut self) -> BTreeMap<String, Value> {
        while let Some(definition) = self.open.pop() {
            if !self.done.contains_key(definition.name) {
                // First, so that a type that contains itself ends.
                self.done.insert(definition.name.to_owned(), Value::Null);
                let schema = self.definition(definition);
                self.done.insert(definition.name.to_owned(), schema);
            }
        }
        for name in self.scalars {
            self.done.insert(name.to_owned(), scalar_component(name));
        }
        self.done
    }

    fn definition(&mut self, definition: &'static Definition) -> Value {
        let mut properties = Map::new();
        for field in &definition.fields {
            properties.insert(field.name.to_owned(), self.property(field));
        }
        let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        let mut schema = json!({ "description": unescape(definition.description), "type": "object" });
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if definition.atomic {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some((group, version, kind)) = definition.gvk {
            schema[GVK] = json!([{ "group": group, "kind": kind, "version": version }]);
        }
        schema
    }

    fn property(&mut self, field: &'static Field) -> Value {
        let mut schema = self.ty(&field.ty);
        if let Some(target) = schema.get("$ref").cloned() {
            // Nothing may stand beside a reference.
            schema = json!({ "allOf": [{ "$ref": target }] });
        }
        schema["description"] = json!(unescape(field.description));
        if let Some(default) = &field.default {
            schema["default"] = default.clone();
        }
        match (&field.ty, &field.ownership) {
            (Type::List(_), Ownership::Atomic) => schema["x-kubernetes-list-type"] = json!("atomic"),
            (Type::List(_), Ownership::Set) => schema["x-kubernetes-list-type"] = json!("set"),
            (Type::List(_), Ownership::Keyed(keys)) => {
                schema["x-kubernetes-list-type"] = json!("map");
                schema["x-kubernetes-list-map-keys"] = json!(keys);
            }
            (Type::Map(_), Ownership::Atomic) => schema["x-kubernetes-map-type"] = json!("atomic"),
            _ => {}
        }
        if let Some(key) = field.strategy.key {
            schema["x-kubernetes-patch-merge-key"] = json!(key);
        }
        let strategies = [(field.strategy.merge, "merge"), (field.strategy.retain_keys, "retainKeys")];
        let strategies: Vec<&str> = strategies.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        if !strategies.is_empty() {
            schema["x-kubernetes-patch-strategy"] = json!(strategies.join(","));
        }
        schema
    }

    fn ty(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Object(id) => reference(self.want(*id)),
            Type::List(element) => json!({ "type": "array", "items": self.ty(element) }),
            Type::Map(value) => json!({ "type": "object", "additionalProperties": self.ty(value) }),
            Type::Scalar(scalar) => match scalar {
                Scalar::String => json!({ "type": "string" }),
                Scalar::Bool => json!({ "type": "boolean" }),
                Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
                Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
                Scalar::Double => json!({ "type": "number", "format": "double" }),
                Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
                Scalar::Time => self.component(TIME),
                Scalar::MicroTime => self.component(MICRO_TIME),
                Scalar::IntOrString => self.component(INT_OR_STRING),
                Scalar::Quantity => self.component(QUANTITY),
                Scalar::Raw => self.component(RAW),
                Scalar::Fields => self.component(FIELDS),
            },
        }
    }

    fn component(&mut self, name: &'static str) -> Value {
        self.scalars.insert(name);
        reference(name)
    }
}

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
pub(crate) const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
pub(crate) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";

/// The schema of a value with a wire form of its own.
fn scalar_component(name: &str) -> Value {
    match name {
        TIME => {
            json!({ "description": "A point in time: RFC 3339 in whole seconds.", "type": "string", "format": "date-time" })
        }
        MICRO_TIME => {
            json!({ "description": "A point in time: RFC 3339 with microseconds.", "type": "string", "format": "date-time" })
        }
        INT_OR_STRING => json!({
            "description": "A 32-bit number or a string.",
            "format": "int-or-string",
            "oneOf": [{ "type": "integer" }, { "type": "string" }],
        }),
        QUANTITY => json!({
            "description": "An amount with a decimal (m, k, M, G) or binary (Ki, Mi, Gi) suffix.",
            "oneOf": [{ "type": "string" }, { "type": "number" }],
        }),
        FIELDS => json!({ "description": "A set of fields in the notation of managedFields.", "type": "object" }),
        _ => json!({ "description": "Any object, kept as it is.", "type": "object" }),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{REFERENCE}{name}") })
}

/// The operations of a kind. Clients look for `patch` and its parameters (A-029); the rest is for readers.
fn add_paths(paths: &mut Map<String, Value>, served: &Served, schema: Option<&str>) {
    let scope = if served.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{}{scope}/{}", served.root(), served.plural);
    let operation = |action: &str, parameters: &[&str], body: Option<&str>| {
        let answer = match action {
            "list" => schema.map(|name| format!("{name}List")),
            "delete" => Some(format!("{META}.Status")),
            _ => schema.map(str::to_owned),
        };
        operation(served, action, parameters, body, answer.as_deref())
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let mut on_collection = json!({ "post": operation("post", &write, schema) });
    if served.is_stored() {
        on_collection["get"] = operation(
            "list",
            &["continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "watch"],
            None,
        );
        let mut patch = operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"], None);
        let body = json!({ "schema": { "type": "object" } });
        patch["requestBody"] = json!({ "required": true, "content": {
            "application/apply-patch+yaml": body,
            "application/json-patch+json": body,
            "application/merge-patch+json": body,
            "application/strategic-merge-patch+json": body,
        }});
        let options = format!("{META}.DeleteOptions");
        let mut on_object = json!({
            "get": operation("get", &["resourceVersion"], None),
            "put": operation("put", &write, schema),
            "patch": patch,
            "delete": operation("delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"], Some(&options)),
        });
        on_object["parameters"] = path_parameters(served, true);
        paths.insert(format!("{collection}/{{name}}"), on_object);
    }
    on_collection["parameters"] = path_parameters(served, false);
    paths.insert(collection, on_collection);
}

fn operation(served: &Served, action: &str, parameters: &[&str], body: Option<&str>, answer: Option<&str>) -> Value {
    let parameters: Vec<Value> = parameters.iter().map(|name| query_parameter(name)).collect();
    let content = |name: &str| json!({ "application/json": { "schema": reference(name) } });
    let mut operation = json!({
        "operationId": format!("{action}{}{}", served.kind, if action == "list" { "s" } else { "" }),
        "parameters": parameters,
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": action,
        GVK: served.gvk(),
    });
    if let Some(name) = body {
        operation["requestBody"] = json!({ "content": content(name) });
    }
    if let Some(name) = answer {
        operation["responses"]["200"]["content"] = content(name);
    }
    operation
}

fn query_parameter(name: &str) -> Value {
    let ty = match name {
        "force" | "watch" => "boolean",
        "gracePeriodSeconds" | "limit" => "integer",
        _ => "string",
    };
    json!({ "name": name, "in": "query", "schema": { "type": ty } })
}

fn path_parameters(served: &Served, named: bool) -> Value {
    let names = [(served.namespaced, "namespace"), (named, "name")];
    let wanted = names.into_iter().filter(|(wanted, _)| *wanted);
    wanted
        .map(|(_, name)| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect()
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
