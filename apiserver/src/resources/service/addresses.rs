//! The rules of `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` that need no knowledge of the cluster
//! (S-051, S-052, S-062 to S-064, S-076 to S-079).

use std::net::IpAddr;

use serde_json::Value;

use super::super::address::{lenient_ip, strict_ip};
use super::super::check::Errors;
use super::super::json::{at, has, text, texts};
use super::families::Family;
use super::{EXTERNAL_NAME, HEADLESS, is_headless, kind, may_have_node_ports};

const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// Checks the four fields, which belong together.
pub(super) fn validate(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    if kind(new) == EXTERNAL_NAME {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let value = at(new, &format!("/spec/{field}"));
            if !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) {
                errors.forbidden(format!("spec.{field}"), "may not be set for ExternalName services");
            }
        }
        return;
    }
    families(errors, new);
    if has(new, "/spec/ipFamilyPolicy") {
        errors.one_of("spec.ipFamilyPolicy", text(new, "/spec/ipFamilyPolicy"), &POLICIES);
    }
    cluster_ips(errors, new, old);
    if let Some(old) = old.filter(|old| kind(old) != EXTERNAL_NAME) {
        unchanged(errors, new, old);
    }
}

/// S-064
fn families(errors: &mut Errors, new: &Value) {
    let families = texts(new, "/spec/ipFamilies");
    if families.len() > 2 {
        errors.invalid("spec.ipFamilies", families.clone(), "may only hold up to 2 values");
    }
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        errors.one_of(field.as_str(), family, &Family::NAMES);
        if families[..index].contains(family) {
            errors.duplicate(field, *family);
        }
    }
}

/// S-051, S-062, S-063
fn cluster_ips(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let single = text(new, "/spec/clusterIP");
    let all = texts(new, "/spec/clusterIPs");
    if single.is_empty() && !all.is_empty() {
        errors.invalid("spec.clusterIPs", all.clone(), "must be empty when `clusterIP` is not specified");
    } else if all.first().is_some_and(|first| *first != single) {
        errors.invalid("spec.clusterIPs", all.clone(), "first value must match `clusterIP`");
    }
    if all.len() > 2 {
        errors.invalid("spec.clusterIPs", all.clone(), "may only hold up to 2 values");
    }
    let stored = old.map(|old| texts(old, "/spec/clusterIPs")).unwrap_or_default();
    let mut found = Vec::new();
    for (index, entry) in all.iter().enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        match *entry {
            HEADLESS if may_have_node_ports(new) => {
                errors.invalid(field, HEADLESS, format!("may not be set to 'None' for {} services", kind(new)));
            }
            HEADLESS if all.len() == 1 => {}
            HEADLESS => errors.invalid(field, HEADLESS, "'None' must be the only value"),
            "" => errors.invalid(field, "", "must be empty or a valid IP address"),
            entry => {
                let ip = match lenient_ip(entry).filter(|_| stored.contains(&entry)) {
                    Some(ip) => Ok(ip),
                    None => strict_ip(entry),
                };
                match ip {
                    Ok(ip) => {
                        fits_family(errors, &field, entry, ip, new, index);
                        found.push(Family::of(ip));
                    }
                    Err(why) => errors.invalid(field, entry, why),
                }
            }
        }
    }
    if matches!(found.as_slice(), [one, other] if one == other) {
        errors.invalid("spec.clusterIPs", all, "may specify no more than one IP for each IP family");
    }
}

fn fits_family(errors: &mut Errors, field: &str, entry: &str, ip: IpAddr, new: &Value, index: usize) {
    if let Some(family) = texts(new, "/spec/ipFamilies").get(index)
        && Family::NAMES.contains(family)
        && Family::of(ip).name() != *family
    {
        errors.invalid(field, entry, format!("expected an {family} value as indicated by `ipFamilies[{index}]`"));
    }
}

/// S-076, S-078, S-079
fn unchanged(errors: &mut Errors, new: &Value, old: &Value) {
    let single_stack = text(new, "/spec/ipFamilyPolicy") == "SingleStack";
    for (field, secondary) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        // Who has no address may choose the families anew.
        if field == "ipFamilies" && is_headless(old) {
            continue;
        }
        let pointer = format!("/spec/{field}");
        let (is, was) = (texts(new, &pointer), texts(old, &pointer));
        for (index, (is, was)) in is.iter().zip(&was).enumerate() {
            if is != was {
                errors.invalid(format!("spec.{field}[{index}]"), at(new, &pointer).clone(), "may not change once set");
            }
        }
        if was.len() == 2 && is.len() == 1 && !single_stack {
            errors.invalid(
                "spec.ipFamilyPolicy",
                at(new, "/spec/ipFamilyPolicy").clone(),
                format!("must be 'SingleStack' to release the secondary {secondary}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(new: &Value, old: Option<&Value>) -> Vec<(String, String)> {
        let mut errors = Errors::default();
        validate(&mut errors, &json!({"spec": new}), old.map(|old| json!({"spec": old})).as_ref());
        errors.into_list().into_iter().map(|error| (error.field, error.detail)).collect()
    }

    fn check(statement: &str, found: &[(String, String)], expected: &[(&str, &str)]) {
        assert_eq!(found.len(), expected.len(), "{statement}: {found:?}");
        for ((field, detail), (expected_field, part)) in found.iter().zip(expected) {
            assert_eq!(field, expected_field, "{statement}");
            assert!(detail.contains(part), "{statement}: {detail} lacks {part}");
        }
    }

    #[test]
    fn on_create() {
        let rows = [
            (
                "S-051",
                json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"]}),
                vec![("spec.clusterIPs[0]", "may not be set to 'None' for NodePort services")],
            ),
            (
                "S-051",
                json!({"type": "LoadBalancer", "clusterIP": "None", "clusterIPs": ["None"]}),
                vec![("spec.clusterIPs[0]", "may not be set to 'None' for LoadBalancer services")],
            ),
            (
                "S-052",
                json!({"type": "ExternalName", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
                vec![
                    ("spec.clusterIPs", "Forbidden: may not be set for ExternalName services"),
                    ("spec.ipFamilies", "Forbidden"),
                    ("spec.ipFamilyPolicy", "Forbidden"),
                ],
            ),
            (
                "S-062",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
                vec![("spec.clusterIPs", "first value must match `clusterIP`")],
            ),
            (
                "S-062",
                json!({"clusterIPs": ["10.0.0.2"]}),
                vec![("spec.clusterIPs", "must be empty when `clusterIP` is not specified")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                vec![("spec.clusterIPs", "no more than one IP for each")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "None"]}),
                vec![("spec.clusterIPs[1]", "'None'")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", ""]}),
                vec![("spec.clusterIPs[1]", "Invalid value: \"\"")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1", "10.0.0.2"]}),
                vec![("spec.clusterIPs", "up to 2 values")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
                vec![("spec.clusterIPs[0]", "expected an IPv6 value as indicated by `ipFamilies[0]`")],
            ),
            (
                "S-063",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}),
                vec![],
            ),
            (
                "S-059",
                json!({"clusterIP": "010.0.0.1", "clusterIPs": ["010.0.0.1"]}),
                vec![("spec.clusterIPs[0]", "leading 0s")],
            ),
            (
                "S-064",
                json!({"ipFamilies": ["IPv5"]}),
                vec![("spec.ipFamilies[0]", "Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"")],
            ),
            (
                "S-064",
                json!({"ipFamilies": ["IPv4", "IPv4"]}),
                vec![("spec.ipFamilies[1]", "Duplicate value: \"IPv4\"")],
            ),
            (
                "S-064",
                json!({"ipFamilyPolicy": "Dual"}),
                vec![(
                    "spec.ipFamilyPolicy",
                    "supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
                )],
            ),
        ];
        for (statement, new, expected) in rows {
            check(statement, &found(&new, None), &expected);
        }
    }

    #[test]
    fn on_update() {
        let one = |ip: &str| json!({"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let two = |policy: &str, ips: [&str; 2]| json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy});
        let dual = two("RequireDualStack", ["10.0.0.1", "fd00::1"]);
        let mut released = one("10.0.0.1");
        released["ipFamilyPolicy"] = json!("RequireDualStack");
        let headless = |family: &str| json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": [family]});
        let mut six = one("fd00::1");
        six["ipFamilies"] = json!(["IPv6"]);
        let rows = [
            ("S-076", one("10.0.0.1"), one("10.0.0.2"), vec![("spec.clusterIPs[0]", "may not change once set")]),
            ("S-076", one("10.0.0.1"), headless("IPv4"), vec![("spec.clusterIPs[0]", "may not change once set")]),
            ("S-076", headless("IPv4"), one("10.0.0.1"), vec![("spec.clusterIPs[0]", "may not change once set")]),
            ("S-077", json!({"type": "ExternalName"}), one("10.0.0.1"), vec![]),
            ("S-077", one("10.0.0.1"), json!({"type": "ExternalName"}), vec![]),
            (
                "S-078",
                dual.clone(),
                two("RequireDualStack", ["10.0.0.1", "fd00::2"]),
                vec![("spec.clusterIPs[1]", "may not change once set")],
            ),
            (
                "S-078",
                dual.clone(),
                released,
                vec![
                    ("spec.ipFamilyPolicy", "must be 'SingleStack' to release the secondary cluster IP"),
                    ("spec.ipFamilyPolicy", "must be 'SingleStack' to release the secondary IP family"),
                ],
            ),
            ("S-078", dual.clone(), one("10.0.0.1"), vec![]),
            ("S-078", one("10.0.0.1"), dual, vec![]),
            (
                "S-079",
                one("10.0.0.1"),
                six,
                vec![("spec.clusterIPs[0]", "may not change"), ("spec.ipFamilies[0]", "may not change once set")],
            ),
            ("S-079", headless("IPv4"), headless("IPv6"), vec![]),
            ("S-083", one("010.0.0.1"), one("010.0.0.1"), vec![]),
        ];
        for (statement, old, new, expected) in rows {
            check(statement, &found(&new, Some(&old)), &expected);
        }
    }
}
