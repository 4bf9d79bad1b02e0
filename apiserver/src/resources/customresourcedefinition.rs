//! CustomResourceDefinition: there is none.
//!
//! kubectl looks through the list to learn who checks an object of a kind that it does not find in the OpenAPI document, a
//! review above all, and gives up when there is no list.

use crate::registry::Resource;

pub(super) fn resource() -> Resource {
    Resource {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        namespaced: false,
        why_none: Some("minisvc does not serve custom resources: it has the kinds that kubectl api-resources lists"),
        ..Resource::BASE
    }
}
