//! PodTemplate: a template by itself.

use super::check::Errors;
use super::json::{at, has};
use super::printing::{containers_and_images, label_map, or_none};
use super::template::{self, Restart};
use crate::registry::{Column, Resource};
use crate::table;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Containers", "Names of the template's containers."),
    Column::text("Images", "Images of the template's containers."),
    Column::text("Pod Labels", "Labels of the template's pods."),
];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "PodTemplate",
        plural: "podtemplates",
        singular: "podtemplate",
        has_generation: true,
        columns: COLUMNS,
        row: |object, _| {
            let [containers, images] = containers_and_images(at(object, "/template/spec"));
            let labels = or_none(label_map(at(object, "/template/metadata/labels")));
            vec![table::name(object).into(), containers, images, labels]
        },
        default: |object| {
            if let Some(template) = object.get_mut("template") {
                template::default_template(template);
            }
        },
        validate: |new, _| {
            let mut errors = Errors::default();
            let template = at(new, "/template");
            if has(template, "/spec") {
                template::validate_template(&mut errors, "template", template, Restart::AsWished);
            }
            errors.into_list()
        },
        ..Resource::BASE
    }
}
