//! ServiceCIDR: ranges from which Services get their addresses (S-217 to S-223, S-227).

use ipnet::IpNet;
use serde_json::Value;

use super::address::{is_canonical_cidr, lenient_cidr, strict_cidr};
use super::check::Errors;
use super::json::{at, has, list, texts};
use crate::registry::{Column, FieldError, Resource, Subresource};
use crate::table;

/// Under which resource the store keeps them.
pub(crate) const STORAGE: &str = "servicecidrs.networking.k8s.io";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("CIDRs", "The ranges."), Column::AGE];

pub(super) fn resource() -> Resource {
    Resource {
        group: "networking.k8s.io",
        kind: "ServiceCIDR",
        plural: "servicecidrs",
        singular: "servicecidr",
        namespaced: false,
        has_status: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            let ranges = texts(object, "/spec/cidrs").join(",");
            vec![table::name(object).into(), ranges.into(), table::age(object, now).into()]
        },
        validate,
        ..Resource::BASE
    }
}

/// The ranges of those that addresses may be taken from: neither terminating nor said not to be ready (S-220, S-222).
pub(crate) fn ready_ranges<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Vec<IpNet> {
    let ready = |object: &&Value| {
        let mut conditions = list(object, "/status/conditions").iter();
        !has(object, "/metadata/deletionTimestamp")
            && conditions.find(|c| c["type"] == "Ready").is_none_or(|c| c["status"] == "True")
    };
    let ranges = |object: &'a Value| texts(object, "/spec/cidrs").into_iter().filter_map(lenient_cidr);
    objects.into_iter().filter(ready).flat_map(ranges).map(|range| range.trunc()).collect()
}

/// S-219
fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let ranges = texts(new, "/spec/cidrs");
    if let Some(old) = old {
        let stored = texts(old, "/spec/cidrs");
        if ranges.len() < stored.len() || ranges.len() > stored.len() && stored.len() != 1 {
            errors.invalid("spec.cidrs", at(new, "/spec/cidrs").clone(), "field is immutable");
            return errors.into_list();
        }
        for (index, (is, was)) in ranges.iter().zip(&stored).enumerate() {
            if is != was {
                errors.invalid(format!("spec.cidrs[{index}]"), *is, "field is immutable");
            }
        }
        if ranges.len() == stored.len() {
            return errors.into_list();
        }
    }
    if ranges.is_empty() {
        errors.required("spec.cidrs", "at least one CIDR required");
    }
    if ranges.len() > 2 {
        errors.invalid("spec.cidrs", at(new, "/spec/cidrs").clone(), "may only hold up to 2 values");
    }
    for (index, range) in ranges.iter().enumerate() {
        let field = format!("spec.cidrs[{index}]");
        match strict_cidr(range) {
            Err(why) => errors.invalid(field, *range, why),
            Ok(canonical) if !is_canonical_cidr(range) => {
                errors.invalid(field, *range, format!("must be in canonical form ({canonical})"));
            }
            Ok(_) => {}
        }
    }
    let families: Vec<bool> =
        ranges.iter().filter_map(|range| lenient_cidr(range)).map(|r| r.addr().is_ipv4()).collect();
    if matches!(families[..], [one, other] if one == other) {
        let why = "may specify no more than one IP for each IP family, such as 192.168.0.0/24 and 2001:db8::/96";
        errors.invalid("spec.cidrs", at(new, "/spec/cidrs").clone(), why);
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(statement: &str, old: Option<Value>, new: Value, expected: &[(&str, &str)]) {
        let object = |ranges: Value| json!({"spec": {"cidrs": ranges}});
        let found = validate(&object(new.clone()), old.map(object).as_ref());
        assert_eq!(found.len(), expected.len(), "{statement} {new}: {found:?}");
        for (error, (field, part)) in found.iter().zip(expected) {
            assert_eq!(error.field, *field, "{statement} {new}");
            assert!(error.detail.contains(part), "{statement} {new}: {}", error.detail);
        }
    }

    #[test]
    fn on_create() {
        let rows: [(Value, &[(&str, &str)]); 9] = [
            (json!(["10.0.0.0/24"]), &[]),
            (json!(["10.0.0.0/24", "fd00::/112"]), &[]),
            (json!(["fd00::/64", "10.0.0.0/24"]), &[]),
            (json!([]), &[("spec.cidrs", "Required value: at least one CIDR required")]),
            (json!(["10.0.0.0/24", "10.1.0.0/24"]), &[("spec.cidrs", "no more than one IP for each IP family")]),
            (json!(["10.0.0.0/24", "fd00::/64", "fd01::/64"]), &[("spec.cidrs", "may only hold up to 2 values")]),
            (json!(["10.0.0.1/24"]), &[("spec.cidrs[0]", "Invalid value")]),
            (json!(["FD00::/64"]), &[("spec.cidrs[0]", "canonical")]),
            (json!(["x"]), &[("spec.cidrs[0]", "must be a valid CIDR value")]),
        ];
        for (new, expected) in rows {
            check("S-219", None, new, expected);
        }
    }

    #[test]
    fn on_update() {
        let (one, two) = (json!(["10.0.0.0/24"]), json!(["10.0.0.0/24", "fd00::/64"]));
        type Row<'a> = (&'a Value, Value, &'a [(&'a str, &'a str)]);
        let rows: [Row<'_>; 7] = [
            (&one, one.clone(), &[]),
            (&one, two.clone(), &[]),
            (&one, json!(["10.1.0.0/24"]), &[("spec.cidrs[0]", "field is immutable")]),
            (&one, json!([]), &[("spec.cidrs", "field is immutable")]),
            (&one, json!(["10.0.0.0/24", "10.1.0.0/24"]), &[("spec.cidrs", "each IP family")]),
            (&two, one.clone(), &[("spec.cidrs", "field is immutable")]),
            (
                &two,
                json!(["fd00::/64", "10.0.0.0/24"]),
                &[("spec.cidrs[0]", "field is immutable"), ("spec.cidrs[1]", "field is immutable")],
            ),
        ];
        for (old, new, expected) in rows {
            check("S-219", Some(old.clone()), new, expected);
        }
    }

    // S-220, S-222, S-226
    #[test]
    fn what_terminates_or_is_not_ready_is_not_drawn_from() {
        let object = |name: &str, status: &str| {
            json!({
                "metadata": {"name": name}, "spec": {"cidrs": [format!("10.{name}.0.0/24"), "fd00::/112"]},
                "status": {"conditions": [{"type": "Ready", "status": status}]},
            })
        };
        let mut going = object("3", "True");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let mut silent = object("4", "True");
        silent["status"] = Value::Null;
        let objects = [object("1", "True"), object("2", "False"), going, silent];
        let found: Vec<String> = ready_ranges(&objects).iter().map(IpNet::to_string).collect();
        assert_eq!(found, ["10.1.0.0/24", "fd00::/112", "10.4.0.0/24", "fd00::/112"]);
        let cells = (resource().row)(&objects[0], jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(cells), json!(["1", "10.1.0.0/24,fd00::/112", "<unknown>"]));
    }
}
