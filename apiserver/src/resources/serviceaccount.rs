//! ServiceAccount: who the processes of a pod are to the API.

use crate::registry::{Column, Resource, Subresource};
use crate::table;

use super::json::list;

const COLUMNS: &[Column] = &[Column::NAME, Column::integer("Secrets", "How many secrets are listed."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[Subresource::Token],
        returns_deleted_object: true,
        columns: COLUMNS,
        row: |object, now| {
            let secrets = list(object, "/secrets").len();
            vec![table::name(object).into(), secrets.into(), table::age(object, now).into()]
        },
        ..Resource::BASE
    }
}
