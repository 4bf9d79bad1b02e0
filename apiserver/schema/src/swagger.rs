//! OpenAPI v2: the v3 document told in its older form, and that form as the protobuf message that kubectl asks for.
//!
//! Message and field numbers are those of gnostic's `openapi.v2`; only what our documents hold is written.

use serde_json::{Map, Value, json};

use crate::openapi::{INT_OR_STRING, QUANTITY, REFERENCE};

const DEFINITIONS: &str = "#/definitions/";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// The document of all groups in its v2 form.
pub(crate) fn from_v3(document: &Value) -> Value {
    let mut paths = Map::new();
    for (path, item) in entries(&document["paths"]) {
        let mut old = Map::new();
        for (key, value) in entries(item) {
            let converted = if key == "parameters" { parameters(value) } else { operation(value) };
            old.insert(key.clone(), converted);
        }
        paths.insert(path.clone(), Value::Object(old));
    }
    let mut definitions = Map::new();
    for (name, found) in entries(&document["components"]["schemas"]) {
        definitions.insert(name.clone(), definition(name, found));
    }
    json!({ "swagger": "2.0", "info": document["info"], "paths": paths, "definitions": definitions })
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// What may be two things has no type in v3; in v2 clients know it by its format.
fn definition(name: &str, found: &Value) -> Value {
    match name {
        INT_OR_STRING => {
            json!({ "description": found["description"], "type": "string", "format": "int-or-string" })
        }
        QUANTITY => json!({ "description": found["description"], "type": "string" }),
        _ => schema(found),
    }
}

/// References are called otherwise, and stand beside other keys instead of in a list of one.
fn schema(found: &Value) -> Value {
    match found {
        Value::Object(fields) => {
            let mut old = Map::new();
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("allOf", _) => old.extend(schema(&value[0]).as_object().cloned().unwrap_or_default()),
                    ("$ref", Some(target)) => {
                        old.insert(key.clone(), json!(target.replacen(REFERENCE, DEFINITIONS, 1)));
                    }
                    ("default", _) => {
                        old.insert(key.clone(), value.clone());
                    }
                    // Its keys are names of the kind's own, which may be any of these words.
                    ("properties", _) => {
                        old.insert(
                            key.clone(),
                            entries(value).map(|(name, one)| (name.clone(), schema(one))).collect(),
                        );
                    }
                    _ => {
                        old.insert(key.clone(), schema(value));
                    }
                }
            }
            Value::Object(old)
        }
        Value::Array(items) => items.iter().map(schema).collect(),
        other => other.clone(),
    }
}

fn parameters(list: &Value) -> Value {
    let old = |parameter: &Value| {
        let mut old = json!({ "name": parameter["name"], "in": parameter["in"], "type": parameter["schema"]["type"] });
        if parameter["required"] == true {
            old["required"] = json!(true);
        }
        old
    };
    list.as_array().into_iter().flatten().map(old).collect()
}

/// Bodies are parameters, and the media types stand beside them.
fn operation(found: &Value) -> Value {
    let mut old = json!({ "operationId": found["operationId"], "produces": ["application/json", "application/yaml"] });
    let mut list = parameters(&found["parameters"]);
    let contents: Vec<_> = entries(&found["requestBody"]["content"]).collect();
    if let (Some((_, first)), Value::Array(list)) = (contents.first(), &mut list) {
        list.push(json!({ "name": "body", "in": "body", "required": found["requestBody"]["required"] == true,
            "schema": schema(&first["schema"]) }));
        old["consumes"] = contents.iter().map(|(kind, _)| json!(kind)).collect();
    }
    old["parameters"] = list;
    let mut responses = Map::new();
    for (code, response) in entries(&found["responses"]) {
        let mut answer = json!({ "description": response["description"] });
        if let Some((_, content)) = entries(&response["content"]).next() {
            answer["schema"] = schema(&content["schema"]);
        }
        responses.insert(code.clone(), answer);
    }
    old["responses"] = Value::Object(responses);
    for (key, value) in entries(found).filter(|(key, _)| key.starts_with("x-")) {
        old[key] = value.clone();
    }
    old
}

/// A v2 document as an `openapi.v2.Document`.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, schema) in entries(&document["definitions"]) {
        definitions.named(1, name, &schema_message(schema));
    }
    out.message(9, &definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, number) in METHODS.into_iter().zip([2, 3, 4, 5, 8]) {
        if item[method].is_object() {
            out.message(number, &operation_message(&item[method]));
        }
    }
    parameter_items(&mut out, 9, &item["parameters"]);
    out
}

fn operation_message(operation: &Value) -> Message {
    let mut out = Message::default();
    out.text(5, &operation["operationId"]);
    for (number, key) in [(6, "produces"), (7, "consumes")] {
        for kind in operation[key].as_array().into_iter().flatten() {
            out.text(number, kind);
        }
    }
    parameter_items(&mut out, 8, &operation["parameters"]);
    let mut responses = Message::default();
    for (code, response) in entries(&operation["responses"]) {
        let mut answer = Message::default();
        answer.text(1, &response["description"]);
        if response["schema"].is_object() {
            answer.message(2, &Message::around(1, &schema_message(&response["schema"])));
        }
        responses.named(1, code, &Message::around(1, &answer));
    }
    out.message(9, &responses);
    out.extensions(13, operation);
    out
}

fn parameter_items(out: &mut Message, number: u32, list: &Value) {
    for parameter in list.as_array().into_iter().flatten() {
        let mut one = Message::default();
        let wrapped = match parameter["in"].as_str() {
            Some("body") => {
                one.text(2, &parameter["name"]);
                one.text(3, &parameter["in"]);
                one.flag(4, &parameter["required"]);
                one.message(5, &schema_message(&parameter["schema"]));
                Message::around(1, &one)
            }
            place => {
                one.flag(1, &parameter["required"]);
                one.text(2, &parameter["in"]);
                one.text(4, &parameter["name"]);
                let (which, ty) = if place == Some("path") { (4, 5) } else { (3, 6) };
                one.text(ty, &parameter["type"]);
                Message::around(2, &Message::around(which, &one))
            }
        };
        out.message(number, &Message::around(1, &wrapped));
    }
}

fn schema_message(schema: &Value) -> Message {
    let mut out = Message::default();
    for (number, key) in [(1, "$ref"), (2, "format"), (4, "description")] {
        out.text(number, &schema[key]);
    }
    if let Some(default) = schema.get("default") {
        out.message(5, &any(default));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        out.text(19, required);
    }
    if schema["additionalProperties"].is_object() {
        out.message(21, &Message::around(1, &schema_message(&schema["additionalProperties"])));
    }
    if schema["type"].is_string() {
        let mut ty = Message::default();
        ty.text(1, &schema["type"]);
        out.message(22, &ty);
    }
    if schema["items"].is_object() {
        out.message(23, &Message::around(1, &schema_message(&schema["items"])));
    }
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in entries(&schema["properties"]) {
            properties.named(1, name, &schema_message(property));
        }
        out.message(25, &properties);
    }
    out.extensions(31, schema);
    out
}

/// Any value is written as YAML, and JSON is that.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &Value::from(value.to_string()));
    out
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A message with nothing but another one.
    fn around(number: u32, inner: &Self) -> Self {
        let mut out = Self::default();
        out.message(number, inner);
        out
    }

    fn message(&mut self, number: u32, inner: &Self) {
        self.bytes(number, &inner.0);
    }

    /// An entry of what stands for a map: its key is 1, its value 2.
    fn named(&mut self, number: u32, name: &str, value: &Self) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(number, &entry);
    }

    /// A text; what is none, or empty, is left out.
    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(number << 3));
            self.varint(1);
        }
    }

    /// The keys of an object that begin with `x-`.
    fn extensions(&mut self, number: u32, object: &Value) {
        for (key, value) in entries(object).filter(|(key, _)| key.starts_with("x-")) {
            self.named(number, key, &any(value));
        }
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpenApi, Served};

    fn api() -> OpenApi {
        let kind = |group: &str, kind: &str, plural: &str| Served {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
        };
        let limits = kind("", "LimitRange", "limitranges");
        OpenApi::new(
            vec![kind("", "Service", "services"), limits, kind("apps", "Deployment", "deployments")],
            "v1.36.0",
        )
    }

    //
    #[test]
    fn one_document_tells_of_all_groups_in_the_older_form() {
        let api = api();
        let document: Value = serde_json::from_str(&api.swagger().json).expect("JSON");
        assert_eq!(document["swagger"], "2.0");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let parameters = patch["parameters"].as_array().expect("parameters");
        assert!(
            parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query" && p["type"] == "string")
        );
        assert!(parameters.iter().any(|p| p["in"] == "body" && p["schema"]["type"] == "object"));
        let definitions = document["definitions"].as_object().expect("definitions");
        let spec = &definitions["io.k8s.api.core.v1.Service"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.ServiceSpec");
        assert!(spec["description"].is_string(), "beside the reference");
        assert_eq!(definitions[INT_OR_STRING]["format"], "int-or-string");
        let limits = &definitions["io.k8s.api.core.v1.LimitRangeItem"]["properties"]["default"];
        assert_eq!(
            limits["additionalProperties"]["$ref"],
            format!("{DEFINITIONS}{QUANTITY}"),
            "a field with that name"
        );
        let text = document.to_string();
        assert!(!text.contains("allOf") && !text.contains("oneOf") && !text.contains(REFERENCE));
        for part in text.split("\"$ref\":\"").skip(1) {
            let target = part.split('"').next().and_then(|t| t.strip_prefix(DEFINITIONS)).expect("a reference");
            assert!(definitions.contains_key(target), "{target}");
        }
    }

    // a message is told by the numbers of its fields.
    #[test]
    fn the_message_is_written_as_gnostic_reads_it() {
        let document = json!({
            "swagger": "2.0",
            "info": {"title": "K", "version": "v"},
            "paths": {"/p": {"patch": {
                "operationId": "o",
                "parameters": [{"name": "f", "in": "query", "type": "string"}],
                "responses": {"200": {"description": "OK"}},
                "x-a": [1],
            }}},
            "definitions": {"D": {"type": "object", "properties": {"n": {"$ref": "#/definitions/D"}}}},
        });
        let parameter = field(3, &[field(2, &[text("query")]), field(4, &[text("f")]), field(6, &[text("string")])]);
        let response = field(1, &[text("200")]);
        let ok = field(2, &[field(1, &[field(1, &[text("OK")])])]);
        let extension = field(13, &[field(1, &[text("x-a")]), field(2, &[field(2, &[text("[1]")])])]);
        let operation = [
            field(5, &[text("o")]),
            // A parameter, that is not in the body, but in the query.
            field(8, &[field(1, &[field(2, &[parameter])])]),
            field(9, &[field(1, &[response, ok])]),
            extension,
        ];
        let property = [field(1, &[text("n")]), field(2, &[field(1, &[text("#/definitions/D")])])];
        let schema = [field(22, &[field(1, &[text("object")])]), field(25, &[field(1, &property)])];
        let expected = [
            field(1, &[text("2.0")]),
            field(2, &[field(1, &[text("K")]), field(2, &[text("v")])]),
            field(8, &[field(2, &[field(1, &[text("/p")]), field(2, &[field(8, &operation)])])]),
            field(9, &[field(1, &[field(1, &[text("D")]), field(2, &schema)])]),
        ];
        let encoded = encode(&document);
        assert_eq!(encoded, expected.concat(), "{encoded:02x?}");
    }

    fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    /// A field of fewer than 128 bytes.
    fn field(number: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        let tag = u16::from(number) << 3 | 2;
        let [low, _] = tag.to_le_bytes();
        let mut out = if tag < 0x80 { vec![low] } else { vec![low | 0x80, number >> 4] };
        let parts = parts.concat();
        out.push(u8::try_from(parts.len()).expect("short"));
        out.extend(parts);
        out
    }
}
