//! Which address families a Service has (S-094 to S-102), decided from what the client said, what is stored and what
//! the cluster offers.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::address::lenient_ip;
use super::super::check::Errors;
use super::super::json::{at, child, has, set, text, texts};
use super::{EXTERNAL_NAME, HEADLESS, addresses, has_selector, is_headless, kind};
use crate::registry::FieldError;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const NAMES: [&str; 2] = ["IPv4", "IPv6"];

    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.name() == name)
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and trims `clusterIPs` where a family is given up.
///
/// `cluster` are the families of the cluster, its default first. An ExternalName has none and is only checked.
pub(super) fn fill(new: &mut Value, old: Option<&Value>, cluster: &[Family]) -> Result<(), Vec<FieldError>> {
    let mut errors = Errors::default();
    let stored = old.filter(|old| kind(old) != EXTERNAL_NAME);
    if kind(new) != EXTERNAL_NAME
        && let Some(stored) = stored
    {
        inherit(new, stored);
        if is_settled(new, stored) {
            return Ok(());
        }
        trim(new, stored);
    }
    addresses::validate(&mut errors, new, old);
    if !errors.is_empty() {
        return Err(errors.into_list());
    }
    if kind(new) == EXTERNAL_NAME {
        return Ok(());
    }
    single_means_one(&mut errors, new);
    let mut families = known_families(&mut errors, new, cluster);
    if !errors.is_empty() {
        return Err(errors.into_list());
    }
    let default = cluster.first().copied().unwrap_or(Family::V4);
    if is_headless(new) && !has_selector(new) {
        without_endpoints_of_ours(new, families, default);
        return Ok(());
    }
    if !has(new, "/spec/ipFamilyPolicy") {
        set_spec(new, "ipFamilyPolicy", json!(SINGLE));
        single_means_one(&mut errors, new);
    }
    let policy = text(new, "/spec/ipFamilyPolicy").to_owned();
    if policy == REQUIRE && cluster.len() < 2 {
        errors.invalid(
            "spec.ipFamilyPolicy",
            policy.as_str(),
            "this cluster is not configured for dual-stack services",
        );
    }
    for (index, family) in families.iter().enumerate() {
        if !cluster.contains(family) {
            errors.invalid(format!("spec.ipFamilies[{index}]"), family.name(), "not configured on this cluster");
        }
    }
    if !errors.is_empty() {
        return Err(errors.into_list());
    }
    if families.is_empty() {
        families.push(default);
    }
    if policy != SINGLE && families.len() == 1 && cluster.contains(&families[0].other()) {
        families.push(families[0].other());
    }
    set_families(new, &families);
    Ok(())
}

/// What the client leaves out stays as it is stored (S-094).
fn inherit(new: &mut Value, stored: &Value) {
    for field in ["ipFamilyPolicy", "ipFamilies"] {
        let pointer = format!("/spec/{field}");
        let missing = at(new, &pointer).is_null() || at(new, &pointer) == &json!([]);
        if missing && has(stored, &pointer) {
            set_spec(new, field, at(stored, &pointer).clone());
        }
    }
}

/// An unrelated update does not follow the cluster from one family to two or back (S-100).
fn is_settled(new: &Value, stored: &Value) -> bool {
    text(new, "/spec/ipFamilyPolicy") == PREFER
        && ["/spec/ipFamilyPolicy", "/spec/ipFamilies", "/spec/clusterIP", "/spec/clusterIPs"]
            .iter()
            .all(|pointer| at(new, pointer) == at(stored, pointer))
}

/// Going back to one family gives up the second address, if the client left the lists as they were (S-099).
fn trim(new: &mut Value, stored: &Value) {
    if text(new, "/spec/ipFamilyPolicy") != SINGLE {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        let pointer = format!("/spec/{field}");
        let entries = texts(stored, &pointer);
        if entries.len() == 2 && texts(new, &pointer) == entries {
            set_spec(new, field, json!([entries[0]]));
        }
    }
}

/// S-098
fn single_means_one(errors: &mut Errors, new: &Value) {
    if text(new, "/spec/ipFamilyPolicy") != SINGLE {
        return;
    }
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if texts(new, &format!("/spec/{field}")).len() == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.invalid("spec.ipFamilyPolicy", SINGLE, why);
        }
    }
}

/// The families given, and those that follow from given addresses (S-095, S-097).
fn known_families(errors: &mut Errors, new: &Value, cluster: &[Family]) -> Vec<Family> {
    let mut families: Vec<Family> = texts(new, "/spec/ipFamilies").into_iter().filter_map(Family::parse).collect();
    for (index, entry) in texts(new, "/spec/clusterIPs").into_iter().enumerate() {
        let Some(family) = lenient_ip(entry).map(Family::of) else { break };
        if index < families.len() {
            continue;
        }
        if cluster.contains(&family) {
            families.push(family);
        } else {
            let why = format!("{} is not configured on this cluster", family.name());
            errors.invalid(format!("spec.clusterIPs[{index}]"), at(new, "/spec/clusterIPs").clone(), why);
        }
    }
    families
}

/// A headless Service without selector lists whatever endpoints its owner writes, of any family (S-094, S-096).
fn without_endpoints_of_ours(new: &mut Value, mut families: Vec<Family>, default: Family) {
    if families.is_empty() {
        families.push(default);
    }
    if families.len() == 1 && text(new, "/spec/ipFamilyPolicy") != SINGLE {
        families.push(families[0].other());
    }
    if !has(new, "/spec/ipFamilyPolicy") {
        set_spec(new, "ipFamilyPolicy", json!(if families.len() == 1 { SINGLE } else { REQUIRE }));
    }
    set_families(new, &families);
}

fn set_families(new: &mut Value, families: &[Family]) {
    let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
    set_spec(new, "ipFamilies", json!(names));
    // Whatever the number of families, there is one `None` (S-101).
    if is_headless(new) {
        set_spec(new, "clusterIP", json!(HEADLESS));
        set_spec(new, "clusterIPs", json!([HEADLESS]));
    }
}

fn set_spec(service: &mut Value, field: &str, value: Value) {
    if let Some(spec) = child(service, "spec") {
        set(spec, field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[Family] = &[Family::V4];
    const BOTH: &[Family] = &[Family::V4, Family::V6];

    struct Row {
        statement: &'static str,
        cluster: &'static [Family],
        old: Value,
        new: Value,
        /// Policy and families, or the field complained of.
        expected: Result<(&'static str, &'static [&'static str]), &'static str>,
    }

    fn row(
        statement: &'static str,
        cluster: &'static [Family],
        old: Value,
        new: Value,
        expected: Result<(&'static str, &'static [&'static str]), &'static str>,
    ) -> Row {
        Row { statement, cluster, old, new, expected }
    }

    fn run(row: Row) {
        let Row { statement, cluster, old, new, expected } = row;
        let typed = |mut spec: Value| {
            if spec.get("type").is_none() {
                spec["type"] = json!("ClusterIP");
            }
            json!({"spec": spec})
        };
        let old = (!old.is_null()).then(|| typed(old));
        let mut service = typed(new.clone());
        let found = fill(&mut service, old.as_ref(), cluster);
        let found = match &found {
            Ok(()) => Ok((text(&service, "/spec/ipFamilyPolicy"), texts(&service, "/spec/ipFamilies"))),
            Err(errors) => Err(errors[0].field.as_str()),
        };
        assert_eq!(found, expected.map(|(policy, families)| (policy, families.to_vec())), "{statement}: {new}");
    }

    #[test]
    fn on_create() {
        let none = || Value::Null;
        let headless = || json!({"clusterIP": "None", "clusterIPs": ["None"]});
        let selecting = || json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}});
        let policy = |policy: &str| json!({"ipFamilyPolicy": policy});
        let with = |mut base: Value, policy: &str| {
            base["ipFamilyPolicy"] = json!(policy);
            base
        };
        let rows = [
            row("S-094", ONE, none(), json!({}), Ok((SINGLE, &["IPv4"]))),
            row("S-094", BOTH, none(), json!({}), Ok((SINGLE, &["IPv4"]))),
            row("S-094", ONE, none(), headless(), Ok((REQUIRE, &["IPv4", "IPv6"]))),
            row("S-094", ONE, none(), selecting(), Ok((SINGLE, &["IPv4"]))),
            row("S-095", BOTH, none(), policy(PREFER), Ok((PREFER, &["IPv4", "IPv6"]))),
            row(
                "S-095",
                BOTH,
                none(),
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
                Ok((REQUIRE, &["IPv6", "IPv4"])),
            ),
            row(
                "S-095",
                BOTH,
                none(),
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                Ok((SINGLE, &["IPv6"])),
            ),
            row("S-096", ONE, none(), policy(PREFER), Ok((PREFER, &["IPv4"]))),
            row("S-096", ONE, none(), policy(REQUIRE), Err("spec.ipFamilyPolicy")),
            row("S-096", ONE, none(), with(selecting(), REQUIRE), Err("spec.ipFamilyPolicy")),
            row("S-096", ONE, none(), with(headless(), REQUIRE), Ok((REQUIRE, &["IPv4", "IPv6"]))),
            row("S-096", ONE, none(), with(headless(), PREFER), Ok((PREFER, &["IPv4", "IPv6"]))),
            row("S-096", ONE, none(), with(headless(), SINGLE), Ok((SINGLE, &["IPv4"]))),
            row("S-097", ONE, none(), json!({"ipFamilies": ["IPv6"]}), Err("spec.ipFamilies[0]")),
            row(
                "S-097",
                ONE,
                none(),
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                Err("spec.clusterIPs[0]"),
            ),
            row("S-098", BOTH, none(), json!({"ipFamilies": ["IPv4", "IPv6"]}), Err("spec.ipFamilyPolicy")),
            row(
                "S-098",
                BOTH,
                none(),
                json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": SINGLE}),
                Err("spec.ipFamilyPolicy"),
            ),
            row(
                "S-098",
                BOTH,
                none(),
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                Err("spec.ipFamilyPolicy"),
            ),
        ];
        rows.into_iter().for_each(run);
    }

    #[test]
    fn on_update() {
        let single = || json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": SINGLE});
        let dual = |policy: &str| json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy});
        let with = |mut base: Value, policy: &str| {
            base["ipFamilyPolicy"] = json!(policy);
            base
        };
        let external = || json!({"type": "ExternalName"});
        let rows = [
            row(
                "S-094",
                BOTH,
                dual(REQUIRE),
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                Ok((REQUIRE, &["IPv4", "IPv6"])),
            ),
            row("S-094", BOTH, external(), json!({}), Ok((SINGLE, &["IPv4"]))),
            row("S-099", BOTH, dual(REQUIRE), with(dual(REQUIRE), SINGLE), Ok((SINGLE, &["IPv4"]))),
            row("S-099", BOTH, single(), with(single(), PREFER), Ok((PREFER, &["IPv4", "IPv6"]))),
            row("S-099", BOTH, single(), with(single(), REQUIRE), Ok((REQUIRE, &["IPv4", "IPv6"]))),
            row("S-100", BOTH, with(single(), PREFER), with(single(), PREFER), Ok((PREFER, &["IPv4"]))),
            row("S-100", ONE, dual(PREFER), dual(PREFER), Ok((PREFER, &["IPv4", "IPv6"]))),
        ];
        rows.into_iter().for_each(run);
    }

    // S-099
    #[test]
    fn going_back_to_one_family_gives_up_the_second_address() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": REQUIRE}});
        let mut new = old.clone();
        new["spec"]["ipFamilyPolicy"] = json!(SINGLE);
        fill(&mut new, Some(&old), BOTH).unwrap();
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    }

    // S-101
    #[test]
    fn a_headless_service_has_one_none() {
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}});
        fill(&mut new, None, BOTH).unwrap();
        assert_eq!(new["spec"]["clusterIPs"], json!(["None"]));
        assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    }
}
