//! Kinds, fields, types and descriptions out of `k8s-openapi`'s schemas.

use crate::table::{Definition, Field, Table};
use anyhow::{Context, Result, bail};
use k8s_openapi::Resource;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

const REF_PREFIX: &str = "#/components/schemas/";

/// Definitions with a wire form of their own, which the table treats as scalars.
const SCALARS: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "fields"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "raw"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intstr"),
];

/// Every kind that is served or accepted, with everything reachable from it.
pub fn collect() -> Result<Table> {
    use k8s_openapi::api;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

    let mut roots = Roots { generator: SchemaSettings::openapi3().into_generator(), kinds: Vec::new() };
    macro_rules! kinds {
        ($($module:path: $($kind:ident)+;)+) => { $({ use $module as m; $(roots.add::<m::$kind>();)+ })+ };
    }
    kinds! {
        api::core::v1: Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim
            Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        api::apps::v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        api::authentication::v1: SelfSubjectReview TokenRequest TokenReview;
        api::authorization::v1: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
        api::autoscaling::v1: HorizontalPodAutoscaler Scale;
        api::autoscaling::v2: HorizontalPodAutoscaler;
        api::batch::v1: CronJob Job;
        api::coordination::v1: Lease;
        api::discovery::v1: EndpointSlice;
        api::events::v1: Event;
        api::networking::v1: IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        api::node::v1: RuntimeClass;
        api::policy::v1: Eviction PodDisruptionBudget;
        api::rbac::v1: ClusterRole ClusterRoleBinding Role RoleBinding;
        api::scheduling::v1: PriorityClass;
        api::storage::v1: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
    }
    roots.add::<meta::Status>();
    roots.generator.subschema_for::<meta::DeleteOptions>();
    roots.generator.subschema_for::<meta::ListMeta>();
    roots.kinds.push((meta::DeleteOptions::schema_name().into_owned(), "/v1/DeleteOptions".into()));

    let mut table = Table::default();
    for (name, schema) in roots.generator.take_definitions(true) {
        if SCALARS.iter().any(|(scalar, _)| *scalar == name) {
            continue;
        }
        let definition = definition(&schema).with_context(|| name.clone())?;
        table.definitions.insert(name, definition);
    }
    for (name, gvk) in roots.kinds {
        let kind = table.definitions.get_mut(&name).with_context(|| format!("{name} was not generated"))?;
        kind.gvk = Some(gvk);
        // Always there in an answer, but no manifest has to have it: the crate tells both by the same word.
        for attribute in kind.fields.get_mut("metadata").into_iter().flat_map(|field| &mut field.attributes) {
            if attribute == "required" {
                "explicit".clone_into(attribute);
            }
        }
    }
    Ok(table)
}

struct Roots {
    generator: SchemaGenerator,
    kinds: Vec<(String, String)>,
}

impl Roots {
    fn add<T: JsonSchema + Resource>(&mut self) {
        self.generator.subschema_for::<T>();
        self.kinds.push((T::schema_name().into_owned(), format!("{}/{}/{}", T::GROUP, T::VERSION, T::KIND)));
    }
}

fn definition(schema: &Value) -> Result<Definition> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut definition = Definition { description: text(schema, "description"), ..Definition::default() };
    let empty = Map::new();
    for (name, property) in schema.get("properties").and_then(Value::as_object).unwrap_or(&empty) {
        let mut field = Field {
            ty: type_expression(property).with_context(|| name.clone())?,
            description: text(property, "description"),
            ..Field::default()
        };
        if required.contains(&name.as_str()) {
            field.attributes.push("required".into());
        }
        definition.fields.insert(name.clone(), field);
    }
    Ok(definition)
}

fn text(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn type_expression(schema: &Value) -> Result<String> {
    // A reference with a description of its own comes wrapped in `allOf`.
    if let Some([inner]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        return type_expression(inner);
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix(REF_PREFIX).with_context(|| format!("odd reference {reference}"))?;
        let scalar = SCALARS.iter().find(|(scalar, _)| *scalar == name);
        return Ok(scalar.map_or(name, |(_, short)| short).to_owned());
    }
    let format = text(schema, "format");
    Ok(match (text(schema, "type").as_str(), format.as_str()) {
        ("string", "") => "string".into(),
        ("string", "byte") => "bytes".into(),
        ("boolean", _) => "bool".into(),
        ("integer", "int32") => "int32".into(),
        ("integer", _) => "int64".into(),
        ("number", _) => "double".into(),
        ("array", _) => format!("[]{}", type_expression(schema.get("items").context("an array without items")?)?),
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) => format!("{{}}{}", type_expression(values)?),
            None => "raw".into(),
        },
        (other, format) => bail!("no type expression for type {other:?}, format {format:?}: {schema}"),
    })
}
