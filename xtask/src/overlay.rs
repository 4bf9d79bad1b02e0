//! Lays the reviewed facts of `merge.toml` over the generated table, refusing any that name nothing.

use crate::table::{Definition, Table};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `merge.toml`: what no machine-readable source of ours says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reviewed {
    /// Types that server-side apply owns as a whole.
    atomic: Vec<String>,
    /// Optional scalars for which zero and absent mean different things.
    explicit: BTreeMap<String, Vec<String>>,
    /// Merge behaviour and defaults by type and field.
    fields: BTreeMap<String, BTreeMap<String, Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Strategic merge: `merge`, `retainKeys` or both separated by a comma.
    strategy: Option<String>,
    /// Strategic merge: the field that identifies an element.
    key: Option<String>,
    /// Server-side apply: `map`, `set` or `atomic`.
    list: Option<String>,
    /// Server-side apply: the fields that identify an element of a `map` list.
    keys: Option<Vec<String>>,
    /// Server-side apply: `atomic` or `granular`, against what the type says.
    map: Option<String>,
    default: Option<toml::Value>,
}

/// Applies the reviewed file.
///
/// # Errors
/// A line about a type or field that the table does not have, or a key that the element type lacks.
pub fn apply(table: &mut Table, text: &str) -> Result<()> {
    let reviewed: Reviewed = toml::from_str(text).context("parsing merge.toml")?;
    for name in &reviewed.atomic {
        find(table, name)?.atomic = true;
    }
    for (name, fields) in &reviewed.explicit {
        for field in fields {
            attribute(table, name, field, "explicit".into())?;
        }
    }
    for (name, rules) in &reviewed.fields {
        for (field, rule) in rules {
            lay(table, name, field, rule).with_context(|| format!("{name}.{field}"))?;
        }
    }
    Ok(())
}

fn lay(table: &mut Table, name: &str, field: &str, rule: &Rule) -> Result<()> {
    let keys = rule.keys.iter().flatten().chain(&rule.key);
    for key in keys {
        let element =
            find(table, name)?.fields.get(field).context("no such field")?.ty.trim_start_matches("[]").to_owned();
        let element = table.definitions.get(&element).with_context(|| format!("{element} has no keys"))?;
        if !element.fields.contains_key(key) {
            bail!("the elements have no field {key}");
        }
    }
    let words = [
        rule.strategy.as_ref().map(|s| format!("strategy={s}")),
        rule.key.as_ref().map(|k| format!("key={k}")),
        rule.list.as_ref().map(|l| format!("list={l}")),
        rule.keys.as_ref().map(|k| format!("keys={}", k.join(","))),
        rule.map.as_ref().map(|m| format!("map={m}")),
        rule.default.as_ref().map(serde_json::to_string).transpose()?.map(|d| format!("default={d}")),
    ];
    for word in words.into_iter().flatten() {
        if word.contains([' ', '\t']) {
            bail!("attributes are separated by spaces: {word:?}");
        }
        attribute(table, name, field, word)?;
    }
    Ok(())
}

fn attribute(table: &mut Table, name: &str, field: &str, word: String) -> Result<()> {
    let definition = find(table, name)?;
    definition.fields.get_mut(field).with_context(|| format!("{name} has no field {field}"))?.attributes.push(word);
    Ok(())
}

/// Finds a type by its full name without the common prefixes.
fn find<'t>(table: &'t mut Table, name: &str) -> Result<&'t mut Definition> {
    let full = match name.strip_prefix("meta.") {
        Some(rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        None => format!("io.k8s.api.{name}"),
    };
    table.definitions.get_mut(&full).with_context(|| format!("no type {full}"))
}
